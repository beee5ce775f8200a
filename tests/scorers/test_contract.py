"""Finding scorers, the border that arrays pass, modes, settings, and combining runs."""

import subprocess
import sys

import numpy as np
import polars as pl
import pytest
import torch

from tracesift.catalog.schema import BadInput, MissingSignal, UnknownName
from tracesift.scorers import discovery
from tracesift.scorers.contract import combine, compute, effective_params, find, names, scorer


class Recording:
    """Signals by mode, as a recorded run offers them; counts how often a mode is opened."""

    def __init__(self, **by_mode):
        self.modes = tuple(by_mode)
        self.by_mode = by_mode
        self.opened = []

    def in_mode(self, mode):
        self.opened.append(mode)
        return self.by_mode[mode]


LOSS = np.array([[0.5, 2.0], [0.25, 3.0], [0.75, 1.0]])


def test_listing_and_finding_imports_nothing_heavy():
    code = (
        "import sys; from tracesift.scorers.contract import names, find; names(); find('aum');"
        "assert not {'torch', 'sklearn', 'scipy', 'duckdb', 'tracesift.scorers.noise.loss_gmm'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_record_says_what_the_signature_says():
    known = find("forgetting_events")
    assert (known.inputs, known.optional) == (("correct",), ("seen", "loss"))
    assert known.defaults == {"never_learned": "epochs", "const": 1000.0, "epochs": None}
    assert (known.mode, known.direction, known.combine, known.version) == ("in_training", "hard", "sum", 1)
    assert known.summary.startswith("Count how often")
    with pytest.raises(AttributeError):
        known.version = 2


def test_unknown_scorer_names_the_nearest():
    with pytest.raises(UnknownName, match=r"'aun'.*'aum'"):
        find("aun")
    with pytest.raises(UnknownName, match="'presentations'"):
        find("presentations")


def test_the_decorator_returns_the_function_and_refuses_what_is_no_signal():
    def plain(loss):
        """Say nothing."""
        return loss[0]

    facts = {"mode": None, "direction": "hard", "reference": "none"}
    assert scorer(**facts)(plain) is plain

    def unknown(losses):
        """Say nothing."""

    def without_default(loss, *, k):
        """Say nothing."""

    with pytest.raises(TypeError, match="'losses'"):
        scorer(**facts)(unknown)
    with pytest.raises(TypeError, match="'k'"):
        scorer(**facts)(without_default)
    with pytest.raises(TypeError, match="direction"):
        scorer(mode=None, direction="up", reference="none")
    with pytest.raises(TypeError, match="mode"):
        scorer(mode="training", direction="hard", reference="none")(plain)


def test_a_new_file_is_found_and_a_name_is_given_once(tmp_path, monkeypatch):
    body = "@scorer(mode=None)\ndef {}(loss): ...\n"
    (tmp_path / "one.py").write_text(body.format("one"))
    (tmp_path / "helping.py").write_text(body.format("another"))
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "two.py").write_text(body.format("two"))
    monkeypatch.setattr(discovery, "FOLDER", tmp_path)
    assert names() == ("one", "two")
    (tmp_path / "sub" / "one.py").write_text(body.format("one"))
    discovery._defining.cache_clear()  # as in the next process
    with pytest.raises(TypeError, match="one"):
        names()


def test_columns_come_in_the_order_asked_for():
    frame = compute(["mean_loss", "last_loss"], {"loss": LOSS})
    assert frame.equals(pl.DataFrame({"mean_loss": [0.5, 2.0], "last_loss": [0.75, 1.0]}))
    assert compute("last_loss", {"loss": LOSS}).columns == ["last_loss"]


def test_lists_tensors_and_narrow_floats_are_taken():
    expected = [0.5, 2.0]
    for loss in (
        LOSS.tolist(),
        torch.tensor(LOSS),
        torch.tensor(LOSS, dtype=torch.bfloat16, requires_grad=True),
        LOSS.astype(np.float16),
    ):
        assert compute(["mean_loss"], {"loss": loss})["mean_loss"].to_list() == expected


def test_settings_are_checked_and_passed():
    correct = [[1, 1], [0, 1], [1, 1]]
    assert compute(["fkl"], {"correct": correct}, params={"fkl": {"k": 2}})["fkl"].to_list() == [4.0, 2.0]
    with pytest.raises(BadInput, match=r"'never_lerned'.*'never_learned'"):
        compute(
            ["forgetting_events"], {"correct": correct}, params={"forgetting_events": {"never_lerned": "inf"}}
        )
    with pytest.raises(BadInput, match="has none"):
        compute(["aum"], {"margin": LOSS}, params={"aum": {"x": 1}})
    with pytest.raises(BadInput, match="not among"):
        compute(["aum"], {"margin": LOSS}, params={"fkl": {"k": 2}})
    with pytest.raises(UnknownName):
        compute(["aum"], {"margin": LOSS}, params={"fkkl": {"k": 2}})
    with pytest.raises(BadInput, match="once"):
        compute(["aum", "aum"], {"margin": LOSS})


def test_an_absent_signal_is_named_with_the_way_to_record_it():
    with pytest.raises(MissingSignal, match=r"'aum' needs the signal 'margin'.*Recorder"):
        compute(["aum"], {"loss": LOSS})


def test_a_recording_is_read_in_the_mode_the_scorer_means():
    recording = Recording(in_training={"loss": LOSS}, epoch_end={"loss": LOSS + 1})
    frame = compute(["mean_loss", "last_loss", "loss_gmm"], recording)
    assert frame["mean_loss"].to_list() == [0.5, 2.0]
    assert recording.opened == ["in_training", "epoch_end"]
    assert compute(["mean_loss"], recording, mode="epoch_end")["mean_loss"].to_list() == [1.5, 3.0]


def test_the_other_mode_is_refused_unless_asked_for():
    recording = Recording(epoch_end={"loss": LOSS, "probs_oos": [[0.75, 0.25], [0.5, 0.5]], "labels": [0, 1]})
    with pytest.raises(MissingSignal, match=r"'in_training'.*epoch_end.*mode="):
        compute(["mean_loss"], recording)
    assert compute(["mean_loss"], recording, mode="epoch_end")["mean_loss"].to_list() == [0.5, 2.0]
    assert compute(["confident_learning"], recording)["confident_learning"].to_list() == [0.75, 0.5]
    with pytest.raises(BadInput, match="'training'"):
        compute(["mean_loss"], recording, mode="training")
    with pytest.raises(BadInput, match="mapping"):
        compute(["mean_loss"], LOSS)


def test_effective_params_hold_defaults_and_an_overriding_mode():
    assert effective_params("fkl") == {"k": 3}
    assert effective_params("fkl", mode="epoch_end") == {"k": 3}
    assert effective_params("fkl", {"k": 1}, mode="in_training") == {"k": 1, "mode": "in_training"}
    assert "mode" not in effective_params("confident_learning", mode="in_training")
    with pytest.raises(BadInput, match="'kk'"):
        effective_params("fkl", {"kk": 1})


@pytest.mark.parametrize(
    ("signals", "said"),
    [
        ({"loss": [1.0, 2.0]}, r"\(epochs, samples\)"),
        ({"loss": [[1.0], [1.0, 2.0]]}, "differ in length"),
        ({"loss": [["a"]]}, "holds numbers"),
    ],
)
def test_arrays_that_cannot_be_meant(signals, said):
    with pytest.raises(BadInput, match=said):
        compute(["mean_loss"], signals)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"labels": [0, 1, 1]}, "2 samples but 'labels' has 3"),
        ({"labels": [0, 2]}, "class 2"),
        ({"labels": [0, -1]}, "start at 0"),
        ({"labels": [0.0, float("nan")]}, "whole numbers"),
        ({"labels": ["a", "b"]}, "class indices"),
        ({"probs_oos": [[3.0, -1.0], [0.5, 0.5]]}, "softmax"),
        ({"probs_oos": [[0.5, 0.1], [0.5, 0.5]]}, "softmax"),
    ],
)
def test_labels_and_probabilities_are_checked(changed, said):
    signals = {"probs_oos": [[0.75, 0.25], [0.5, 0.5]], "labels": [0, 1]} | changed
    with pytest.raises(BadInput, match=said):
        compute(["confident_learning"], signals)


def test_numbers_where_nothing_was_presented_do_not_count():
    signals = {"loss": [[1.0, 4.0], [3.0, 99.0]], "seen": [[True, True], [True, False]]}
    assert compute(["mean_loss"], signals)["mean_loss"].to_list() == [2.0, 4.0]
    with pytest.raises(BadInput, match="'seen'"):
        compute(["fkl"], {"correct": [[1.0, float("nan")]]})


def test_scalars_follow_from_probabilities():
    probs = np.array([[[0.7, 0.2, 0.1], [0.25, 0.5, 0.25]], [[0.1, 0.8, 0.1], [np.nan] * 3]])
    signals = {"probs": probs, "labels": [0, 2]}
    asked = ["cartography_confidence", "aum_prob_sum", "el2n", "cartography_correctness", "first_learned"]
    frame = compute(asked, signals)
    np.testing.assert_allclose(frame["cartography_confidence"], [0.4, 0.25])
    np.testing.assert_allclose(frame["aum_prob_sum"], [0.5 - 0.7, -0.25])
    np.testing.assert_allclose(
        frame["el2n"], [np.sqrt(0.3**2 + 0.2**2 + 0.1**2), np.sqrt(0.25**2 + 0.5**2 + 0.75**2)]
    )
    assert frame["cartography_correctness"].to_list() == [1.0, 0.0]
    assert frame["first_learned"][0] == 0
    with pytest.raises(MissingSignal, match="'margin'"):
        compute(["aum"], signals)


def test_combining_runs():
    value, spread = combine([[1.0, 0.0], [2.0, 0.0], [6.0, np.nan]], "mean")
    np.testing.assert_allclose(value, [3.0, 0.0])
    np.testing.assert_allclose(spread, [np.sqrt(7.0), 0.0])
    value, spread = combine([np.array([1.0, np.nan])], "sum")
    np.testing.assert_array_equal(value, [1.0, np.nan])
    assert np.isnan(spread).all()
    value, _ = combine([pl.Series([2.0]), pl.Series([np.inf])], "mean")
    assert value[0] == np.inf
    np.testing.assert_array_equal(combine([[1.0, 4.0], [3.0, np.nan]], "sum")[0], [4.0, 8.0])
    with pytest.raises(BadInput):
        combine([[1.0], [1.0, 2.0]], "sum")
    with pytest.raises(BadInput):
        combine([[1.0]], "median")


def test_standard_errors_of_several_runs_become_that_of_the_mean():
    value, _ = combine([[0.3, 0.2, np.nan], [0.4, np.nan, np.nan]], "error")
    np.testing.assert_allclose(value, [0.25, 0.2, np.nan])
    rng = np.random.default_rng(0)
    means = rng.normal(0, [[0.3], [0.4]], (2, 20_000)).mean(axis=0)  # estimates with these errors
    assert means.std() == pytest.approx(value[0], rel=0.02)


def test_the_order_of_runs_leaves_no_trace():
    runs = [np.random.default_rng(seed).normal(size=50) for seed in range(5)]
    for one, other in zip(combine(runs, "sum"), combine(runs[::-1], "sum"), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(("name", "setting"), [("simifeat_rank", "k"), ("dup_similarity", "clusters")])
def test_a_refusal_from_deeper_down_says_which_scorer_it_is_of(name, setting):
    given = {"embedding": np.eye(6, dtype=np.float32), "labels": np.arange(6) % 2}
    with pytest.raises(BadInput, match=f"^{name}: .* 0"):
        compute([name], given, params={name: {setting: 0}})


def test_a_missing_target_says_that_a_recorder_keeps_it_where_fields_names_it():
    with pytest.raises(MissingSignal, match=r'fields=\(\*SCALAR_FIELDS, "elr_target"\)'):
        compute(["elr_target_disagreement"], {"labels": np.arange(4) % 2})
