"""What must hold for every scorer and diagnostic that is found, whoever wrote it."""

import doctest
import importlib
import inspect
import json
from functools import cache
from pathlib import Path
from typing import get_type_hints

import numpy as np
import polars as pl
import pytest
import torch

from tracesift.catalog.files import canonical_json
from tracesift.catalog.schema import DIRECTIONS, MODES, SIGNALS, BadInput, MissingSignal
from tracesift.flows.reporting.tables import evidence, with_class_names
from tracesift.scorers.contract import compute, diagnose, diagnostics, find, find_diagnostic, names
from tracesift.scorers.discovery import FOLDER
from tracesift.scorers.influence.edges import contract as edges

torch.set_num_threads(1)

RELATIVE = {
    "eva", "knn_label_disagreement", "loss_gmm", "preferred_label_posterior", "simifeat_rank", "simifeat_vote",
    "threshold_aum", "vog", "wrong_label_posterior",
}  # fmt: skip
"""Scorers of dynamics/ and noise/ that by definition compare a sample with the others."""

FORBIDDEN = {"threshold", "fraction", "budget"}


@pytest.fixture(scope="module")
def signals(random_signals):
    """As a recorder keeps them: float32, so that a copy in float64 holds the same numbers."""
    made = random_signals()
    return {
        name: array.astype(np.float32) if array.dtype == np.float64 else array for name, array in made.items()
    }


def take_samples(signals, rows):
    return {
        name: np.take(array, rows, axis=SIGNALS[name].axes.index("N")) if "N" in SIGNALS[name].axes else array
        for name, array in signals.items()
    }


def values(name, signals, **options):
    return compute([name], signals, device="cpu", **options)[name].to_numpy()


@cache
def too_short(epochs, random_signals):
    """Names of the scorers that refuse a recording of so few epochs, in words that say so."""
    refused = set()
    for name in names():
        try:
            values(name, random_signals(epochs=epochs))
        except BadInput as error:
            if "epochs" in str(error):
                refused.add(name)
    return refused


@pytest.fixture(scope="module")
def scored(signals):
    """Each scorer's values on `signals`, computed once for all tests."""
    return cache(lambda name: values(name, signals))


def test_the_expected_scorers_are_found():
    assert {
        "aum", "aum_prob_sum", "cartography_confidence", "cartography_correctness", "cartography_variability", "cld",
        "confident_learning", "el2n", "elr_target_disagreement", "first_learned", "fkl", "forgetting_events",
        "last_loss", "learned_for_good", "loss_gmm", "mean_loss",
    } <= set(names())  # fmt: skip
    assert not set(names()) & set(diagnostics())


@pytest.mark.parametrize("name", [*names(), *diagnostics()])
def test_facts_and_docstring(name):
    known = find(name) if name in names() else find_diagnostic(name)
    assert known.name == name
    assert set(known.inputs) | set(known.optional) <= set(SIGNALS)
    assert known.inputs
    assert known.mode in (*MODES, None)
    assert (known.direction in DIRECTIONS) == (name in names())
    assert known.version >= 1
    assert known.reference
    assert not FORBIDDEN & set(known.defaults)
    for section in ("Parameters", "Returns", "Examples"):
        assert f"    {section}\n    ---" in known.function.__doc__, section


@pytest.mark.parametrize("name", [*names(), *diagnostics(), *edges.names()])
def test_settings_of_another_type_are_refused(name, wrong_for):
    if name in edges.names():
        known, run = edges.find(name), edges.compute_edges
    elif name in diagnostics():
        known, run = (
            find_diagnostic(name),
            lambda name, signals, params: diagnose(name, signals, params=params),
        )
    else:
        known, run = find(name), lambda name, signals, params: compute(name, signals, params={name: params})
    hints = get_type_hints(known.function)
    for key in known.defaults:
        for value in wrong_for(hints[key]):
            with pytest.raises(BadInput, match=f"^{name}: {key}=.* must be "):
                run(name, {}, {key: value})


@pytest.mark.parametrize("path", sorted(FOLDER.rglob("*.py")), ids=lambda path: path.stem)
def test_examples_run(path):
    module = importlib.import_module(
        ".".join(("tracesift.scorers", *path.relative_to(FOLDER).with_suffix("").parts))
    )
    assert doctest.testmod(module).failed == 0


def test_no_scorer_reads_a_file():
    for name in names():
        text = Path(inspect.getfile(find(name).function)).read_text()
        assert "open(" not in text
        assert "read_" not in text


@pytest.mark.parametrize("name", names())
def test_shape_type_repetition_and_untouched_inputs(name, signals, scored):
    before = {key: array.copy() for key, array in signals.items()}
    frame = compute([name], signals, device="cpu")
    assert frame.schema == {name: pl.Float64()}
    assert frame.height == 80
    assert np.isfinite(frame[name].to_numpy()).any()
    np.testing.assert_array_equal(frame[name].to_numpy(), scored(name))
    for key, array in before.items():
        np.testing.assert_array_equal(signals[key], array)


@pytest.mark.parametrize("name", names())
def test_a_permutation_carries_over(name, signals, scored):
    order = np.random.default_rng(1).permutation(80)
    permuted = values(name, take_samples(signals, order))
    np.testing.assert_allclose(permuted, scored(name)[order], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", names())
def test_tensors_are_taken_and_their_layout_leaves_no_trace(name, signals, scored):
    tensors = {
        key: array if array.dtype == object else torch.from_numpy(np.asfortranarray(array))
        for key, array in signals.items()
    }
    np.testing.assert_array_equal(values(name, tensors), scored(name))


@pytest.mark.parametrize("name", names())
def test_samples_scored_apart_score_the_same(name, signals, scored):
    family = Path(inspect.getfile(find(name).function)).parent.name
    alone = find(name).per_sample or family in ("dynamics", "noise")
    if name in RELATIVE or not alone:
        pytest.skip("compares samples with one another")
    parts = [
        values(name, take_samples(signals, rows))
        for rows in (np.arange(1), np.arange(1, 50), np.arange(50, 80))
    ]
    np.testing.assert_array_equal(np.concatenate(parts), scored(name))


@pytest.mark.parametrize("name", names())
def test_single_and_double_precision_agree(name, signals, scored):
    double = {
        key: array.astype(np.float64) if array.dtype == np.float32 else array
        for key, array in signals.items()
    }
    np.testing.assert_allclose(values(name, double), scored(name), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", names())
def test_a_sample_never_seen_is_nan(name, signals, scored):
    known = find(name)
    blank = {key: array.copy() for key, array in signals.items()}
    touched = False
    for key in known.inputs:
        if SIGNALS[key].axes in ("TN", "TNK", "NK"):
            touched = True
            rows = (slice(None), 5) if SIGNALS[key].axes[0] == "T" else 5
            blank[key][rows] = np.nan if blank[key].dtype.kind == "f" else 0
    blank["elr_target"][5] = 0
    blank["seen"][:, 5] = False
    if not touched:
        pytest.skip("reads nothing that is recorded in training")
    result = values(name, blank)
    assert np.isnan(result[5])
    assert np.isfinite(np.delete(result, 5)).sum() >= np.isfinite(np.delete(scored(name), 5)).sum() - 1


@pytest.mark.parametrize("shape", [{"classes": 1}, {"samples": 1}, {"samples": 0}, {"epochs": 3}], ids=str)
@pytest.mark.parametrize("name", names())
def test_degenerate_shapes_give_values(name, shape, random_signals):
    if not {"dynamics", "geometry", "noise"} & set(Path(inspect.getfile(find(name).function)).parts):
        pytest.skip("needs more samples than one")
    if shape == {"epochs": 3} and name in too_short(3, random_signals):
        pytest.skip("needs more epochs, and says so")
    assert len(values(name, random_signals(**shape))) == shape.get("samples", 80)


@pytest.mark.parametrize("name", names())
def test_an_absent_signal_is_named(name, signals):
    for key in find(name).inputs:
        rest = {other: array for other, array in signals.items() if other not in (key, "probs")}
        with pytest.raises(MissingSignal, match=f"'{key}'"):  # from probs, several others would follow
            compute([name], rest)


@pytest.mark.parametrize("name", diagnostics())
def test_diagnostics_return_plain_values_that_the_report_can_show(name, signals):
    found = json.loads(canonical_json(diagnose(name, signals, device="cpu")))
    shown = evidence(with_class_names(found, [f"class {number}" for number in range(1000)]))
    assert shown["single"] or shown["tables"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("name", names())
def test_gpu_agrees_with_cpu(name, signals, scored):
    on_gpu = compute(
        [name],
        {
            key: array if array.dtype == object else torch.from_numpy(array).cuda()
            for key, array in signals.items()
        },
        device="cuda" if find(name).tensors or find(name).takes_device else "auto",
    )
    np.testing.assert_allclose(on_gpu[name].to_numpy(), scored(name), rtol=1e-3, atol=1e-4)
