"""Trajectory scorers on tensors: the device path, run on the CPU's tensors, against the compiled loops."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from tracesift.catalog.schema import SIGNALS, BadInput
from tracesift.scorers import contract, device_blocks
from tracesift.scorers.arrays import normalise
from tracesift.scorers.blocks import Asked, evaluate_once, over_samples, score_block
from tracesift.scorers.contract import compute, find, names
from tracesift.scorers.gather import gather, views_of
from tracesift.scorers.twins import twinned

CPU = torch.device("cpu")
TRAJECTORY = [
    name
    for name in names()
    if find(name).per_sample
    and any({"T", "N"} <= set(SIGNALS[signal].axes) for signal in (*find(name).inputs, *find(name).optional))
]
COUNTS = {
    "cartography_correctness", "first_learned", "fkl", "forgetting_events", "last_loss", "learned_for_good",
}  # fmt: skip
"""Whole numbers, or numbers as recorded: the twin gives the same bytes."""

GRID = {
    "cartography_confidence": [{"burn_out": 4}],
    "cartography_correctness": [{"burn_out": 4}],
    "cartography_variability": [{"burn_out": 4}, {"include_ci": True}, {"burn_out": 1, "include_ci": True}],
    "dual": [{"window": 2}, {"window": 3, "epochs": 7}],
    "dyn_unc": [{"window": 2}, {"window": 3, "epochs": 7}],
    "el2n": [{"checkpoint": n, "aggregate": how} for n in (None, 5) for how in ("at", "mean", "sum")],
    "fkl": [{"k": 1}, {"k": 2}, {"k": 5}, {"k": 99}],
    "forgetting_events": [
        {"never_learned": "inf"}, {"never_learned": "zero"}, {"never_learned": "const", "const": 123456789.5},
        {"epochs": 5},
    ],
    "tdds": [{"window": 3}, {"window": 4, "decay": 1.0, "epochs": 9}],
    "label_agreement": [
        {"agreement": agreement, "aggregation": aggregation, "information": information}
        for agreement in ("prob", "logit_margin", "prob_margin", "cross_entropy", "correct")
        for aggregation in ("mean", "last", "vote", "average_probability")
        for information in ("in_sample", "out_of_sample")
    ],
}  # fmt: skip
"""Settings to try beside the defaults."""

CASES = [(name, settings) for name in TRAJECTORY for settings in ({}, *GRID.get(name, []))]


def made_up(*, epochs=13, samples=300, missing=0.15, dtype=np.float32, seed=0):
    """Random trajectories: presentations missing at random, samples never seen, never right, and with flat losses."""
    rng = np.random.default_rng(seed)
    seen = rng.random((epochs, samples)) >= missing
    seen[:, 1::50] = missing == 0
    seen[0, 2::50] = True
    values = {
        "loss": rng.exponential(size=(epochs, samples)), "margin": rng.normal(size=(epochs, samples)),
        "prob_label": rng.random((epochs, samples)), "prob_margin": rng.random((epochs, samples)) - 0.5,
        "error_norm": rng.random((epochs, samples)), "kl_step": rng.random((epochs, samples)),
    }  # fmt: skip
    values["loss"][-1, 3::50] = np.inf
    values["loss"][:, 4::50] = 0.25
    values["kl_step"][0] = np.nan
    signals = {name: np.where(seen, array, np.nan).astype(dtype) for name, array in values.items()}
    probs = rng.dirichlet(np.ones(4), (epochs, samples))
    correct = rng.random((epochs, samples)) < 0.6
    correct[:, 5::50] = False
    return signals | {
        "seen": seen, "correct": correct, "labels": rng.integers(0, 4, samples),
        "probs": np.where(seen[..., None], probs, np.nan).astype(dtype), "probs_oos": probs[0].astype(dtype),
        "val_loss": rng.exponential(size=(epochs, 40)).astype(dtype), "val_labels": rng.integers(0, 3, 40),
    }  # fmt: skip


def on_device(asked, signals, settings=None, device=CPU):
    """Run scorers on tensors of this device, as `compute` does where a GPU is named."""
    known = [find(name) for name in asked]
    columns = contract._compute_together(known, views_of(signals), settings or {}, None, device)
    return {name: column.to_numpy() for name, column in columns.items()}


def either(work):
    """Return what it returns, or the message of what it raises."""
    try:
        return work()
    except BadInput as error:
        return str(error)


def assert_alike(name, found, expected):
    if isinstance(expected, str) or name in COUNTS:
        np.testing.assert_array_equal(found, expected, err_msg=name)
    else:
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12, err_msg=name)


def tensors_of(signals):
    return {name: torch.from_numpy(array) for name, array in signals.items()}


@pytest.mark.parametrize("name", TRAJECTORY)
def test_every_trajectory_scorer_takes_tensors(name):
    assert find(name).tensors, (
        f"{name} goes over epochs sample by sample and has no twin for tensors: write one beside its loop "
        "(docs/adding-a-scorer.md, Over trajectories), state tensors=True, and add its settings to GRID here"
    )
    untried = set(find(name).defaults) - {key for settings in GRID.get(name, []) for key in settings}
    assert not untried, f"{name}: GRID tries no other value of {untried}"


@pytest.mark.parametrize("missing", [0.0, 0.4])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("name", "settings"), CASES, ids=str)
def test_tensors_score_as_the_loops_do(name, settings, dtype, missing):
    signals = made_up(dtype=dtype, missing=missing)
    expected = either(lambda: compute([name], signals, params={name: settings})[name].to_numpy())
    found = either(lambda: on_device([name], tensors_of(signals), {name: settings})[name])
    assert_alike(name, found, expected)


@pytest.mark.parametrize("shape", [(1, 5), (2, 5), (3, 5), (13, 1), (13, 0), (200, 3)], ids=str)
@pytest.mark.parametrize("name", TRAJECTORY)
def test_short_and_small_recordings(name, shape):
    signals = made_up(epochs=shape[0], samples=shape[1])
    expected = either(lambda: compute([name], signals)[name].to_numpy())
    assert_alike(name, either(lambda: on_device([name], signals)[name]), expected)


@pytest.mark.parametrize("optional", ["seen", "loss"])
@pytest.mark.parametrize("name", TRAJECTORY)
def test_optional_signals_may_be_absent(name, optional):
    if optional in find(name).inputs:
        pytest.skip("needs it")
    signals = {key: array for key, array in made_up().items() if key != optional}
    expected = either(lambda: compute([name], signals)[name].to_numpy())
    assert_alike(name, either(lambda: on_device([name], signals)[name]), expected)


SETTLED = {"label_agreement": {"aggregation": "vote"}}


def test_together_in_blocks_with_inputs_untouched(monkeypatch):
    signals = made_up(samples=1000)
    before = {name: array.copy() for name, array in signals.items()}
    expected = compute(TRAJECTORY, signals, params=SETTLED)
    for values in (1, 10_000, 1 << 30):
        monkeypatch.setattr(device_blocks, "BLOCK_VALUES", values)
        for given in (signals, tensors_of(signals)):
            found = on_device(TRAJECTORY, given, SETTLED)
            for name in TRAJECTORY:
                assert_alike(name, found[name], expected[name].to_numpy())
    for name, array in before.items():
        np.testing.assert_array_equal(signals[name], array)


def test_each_signal_is_copied_once(monkeypatch):
    copied = []
    part = device_blocks._part
    monkeypatch.setattr(device_blocks, "_part", lambda name, *rest: copied.append(name) or part(name, *rest))
    on_device(["aum", "misclassification_margin", "mean_loss", "last_loss", "cld"], made_up())
    assert sorted(copied) == ["labels", "loss", "margin", "seen"]


def test_a_recording_in_slabs():
    whole = made_up(samples=500)
    del whole["seen"]

    class Part(dict):
        slabs = (slice(0, 200), slice(200, 500))

        def rows(self, slab):
            return {
                name: np.take(array, range(500)[slab], axis=SIGNALS[name].axes.index("N"))
                if "N" in SIGNALS[name].axes
                else array
                for name, array in self.items()
            }

    found = on_device(["aum", "cld", "tdds"], Part(whole))
    for name, values in found.items():
        assert_alike(name, values, compute([name], whole)[name].to_numpy())


@pytest.mark.parametrize(("name", "settings"), CASES, ids=str)
def test_nothing_leaves_the_device(name, settings):
    """Tensors on the device `meta` have no values and mix with no others: a copy to the CPU or from it is an error."""
    known, signals = find(name), made_up()
    try:
        compute([name], signals, params={name: settings})
    except BadInput:
        pytest.skip("settings that do not go together")
    given, seen = gather(known, tensors_of(signals), tensors=True)
    asked = Asked(known=known, given=given, seen=seen, settings={**known.defaults, **settings})
    arrays, once = over_samples([asked])[0], {}
    evaluate_once([asked], once)
    block = {key: array.to("meta") for key, (_, array) in arrays.items()}
    shared = {key: device_blocks._moved(value, torch.device("meta")) for key, value in once.items()}
    (values,) = score_block([asked], block, shared)
    assert (values.device.type, values.shape) == ("meta", (300,))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("correct", np.array([[1, 0], [1, 1]])), ("correct", np.array([[1.0, 0.5]])), ("correct", np.ones(3, bool)),
        ("correct", np.array([[1.0, 0.0]])), ("labels", np.array([1, -2])), ("labels", np.array([1.0, 2.0])),
        ("labels", np.array([1, 2], dtype=np.int32)), ("loss", np.ones((2, 2), np.float16)),
        ("loss", np.ones((2, 2), int)), ("loss", np.ones((2, 2), complex)), ("loss", np.ones((2, 2, 2))),
        ("probs_oos", np.array([[0.5, 0.5], [0.9, 0.4]])), ("probs_oos", np.array([[0.5, 0.5], [np.nan] * 2])),
        ("probs", np.array([[[1.5, -0.5]]])), ("images", np.ones((2, 2, 2, 3), np.uint8)), ("loss", np.ones((0, 0))),
    ],
    ids=lambda value: f"{value.dtype}{value.shape}" if isinstance(value, np.ndarray) else value,
)  # fmt: skip
def test_tensors_are_held_to_what_arrays_are(name, value):
    expected = either(lambda: normalise(name, value))
    found = either(lambda: normalise(name, torch.from_numpy(value), tensors=True))
    if isinstance(expected, str):
        assert found.replace("torch.", "") == expected
    else:
        assert isinstance(found, torch.Tensor)
        assert found.numpy().dtype == expected.dtype
        np.testing.assert_array_equal(found.numpy(), expected)


def test_half_precision_is_widened_where_it_lies():
    found = normalise("loss", torch.ones(2, 2, dtype=torch.bfloat16), tensors=True)
    assert found.dtype == torch.float32


def test_labels_beyond_the_classes_are_named_on_tensors():
    signals = tensors_of(made_up())
    signals["labels"][0] = 9
    with pytest.raises(BadInput, match="'labels' holds class 9 but 'probs' has 4 classes"):
        on_device(["label_agreement"], signals)


def test_what_follows_from_probs_is_scored_too():
    signals = made_up()
    given = {name: signals[name] for name in ("probs", "labels", "seen")}
    expected = compute(["aum_prob_sum"], given)["aum_prob_sum"].to_numpy()
    assert_alike("aum_prob_sum", on_device(["aum_prob_sum"], tensors_of(given))["aum_prob_sum"], expected)


def test_a_named_gpu_is_a_promise():
    signals = made_up()
    for name in ("eva", "loss_gmm"):
        with pytest.raises(BadInput, match=f"'{name}' runs on the CPU alone, and device 'cuda'"):
            compute(["aum", name], signals, device="cuda")
    with pytest.raises(BadInput, match="'aum' runs on the CPU alone"):
        contract._place("cuda:0", signals, [replace(find("aum"), tensors=False)])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_named():
    with pytest.raises(BadInput, match="torch sees no GPU"):
        compute(["aum"], made_up(), device="cuda")


@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_tensors_of_the_cpu_take_the_loops(device, monkeypatch):
    monkeypatch.setattr(device_blocks, "score_on_device", None)
    assert len(compute(["aum"], tensors_of(made_up()), device=device)) == 300


def test_a_loop_without_a_twin_says_so():
    @twinned
    def lonely(values):
        return values

    assert lonely(np.ones(2)).tolist() == [1.0, 1.0]
    with pytest.raises(TypeError, match=r"write one under @lonely\.on_tensors"):
        lonely(torch.ones(2))


def test_the_loops_do_without_torch():
    code = (
        "import sys; import numpy as np; from tracesift.scorers.contract import compute\n"
        "ones = np.ones((12, 5))\n"
        "signals = {'loss': ones, 'margin': ones, 'prob_label': ones, 'kl_step': ones, 'correct': ones, 'seen': ones,\n"
        "           'labels': np.zeros(5, int), 'val_loss': ones, 'val_labels': np.zeros(5, int)}\n"
        "compute(['aum', 'cld', 'forgetting_events', 'dual', 'tdds', 'fkl', 'last_loss'], signals)\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize(("name", "settings"), CASES, ids=str)
def test_the_gpu_scores_as_the_loops_do(name, settings):
    signals = made_up(samples=5000)
    expected = either(lambda: compute([name], signals, params={name: settings})[name].to_numpy())
    lying_there = {key: tensor.cuda() for key, tensor in tensors_of(signals).items()}
    for given, device in ((signals, "cuda"), (lying_there, "cuda"), (lying_there, "auto")):
        found = either(
            lambda given=given, device=device: compute([name], given, device=device, params={name: settings})[
                name
            ].to_numpy()
        )
        assert_alike(name, found, expected)
