"""What is measured on one model: by hand where a hand can work it out, and absent where it cannot be measured."""

import numpy as np
import pytest
import torch

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.encoding.encode import Rows
from tracesift.pipelines.models.contract import find
from tracesift.pipelines.unlearners.contract import Trained
from tracesift.pipelines.unlearning_outcome import Sets, measure
from tracesift.pipelines.unlearning_trial import Trial


def stage(values, labels):
    """The inputs are the logits: a model that gives them back."""
    return Trained(
        module=torch.nn.Identity(), model=find("linear", "tabular"), inputs=Rows(torch.tensor(values, dtype=torch.float32)),
        labels=torch.tensor(labels), num_classes=2, device=torch.device("cpu"),
    )  # fmt: skip


class Given(torch.nn.Module):
    """Logits as given, with a parameter that an optimiser can be made for."""

    def __init__(self, factor=1.0):
        super().__init__()
        self.factor = torch.nn.Parameter(torch.tensor(factor))

    def forward(self, x):
        return x * self.factor


@pytest.fixture
def given():
    """60 rows: 10 forgotten (3 wrong), 20 retained (2 of 5 neighbours wrong), 30 to test in groups of 18, 10 and 2."""
    labels = np.arange(60) % 2
    logits = np.zeros((60, 2))
    logits[np.arange(60), labels] = 3.0
    wrong = [0, 1, 2, 10, 11, 30, 31, 32, 50, 58]
    logits[wrong] *= -1
    groups = np.array(["a"] * 18 + ["b"] * 10 + ["c"] * 2, dtype=object)
    rows = np.arange(60)
    sets = Sets(
        forget=rows[:10],
        retain=rows[10:30],
        neighbor=rows[10:15],
        test=rows[30:],
        holdout=rows[34:48],
        groups=groups,
    )
    return logits, labels, sets


def test_shares_by_hand(given):
    logits, labels, sets = given
    outcome = measure(stage(logits, labels), Given(), sets, seed=0)
    found = outcome.metrics
    assert found["ua"] == pytest.approx(0.3)
    assert found["ra"] == pytest.approx(0.9)
    assert found["ta"] == pytest.approx(25 / 30)
    assert found["neighbor"] == pytest.approx(0.6)
    assert found["worst_group"] == pytest.approx(
        15 / 18
    )  # b has 9 of 10; the two of c, one wrong, are too few
    # Forgotten: 7 with the loss of every held out one, which tie, and 3 with a larger one.
    assert found["auc"] == pytest.approx(0.35)
    assert {"mia", "mia_correctness", "mia_entropy", "mia_modified_entropy", "mia_probability"} <= set(found)
    assert outcome.margins.shape == (60,)
    assert outcome.margins[[0, 9, 29, 30]] == pytest.approx([-3, 3, 3, -3])


def test_a_larger_loss_around_a_sample_is_seen(given):
    logits, labels, sets = given
    flat, steep = (
        measure(stage(logits, labels), Given(factor), sets, seed=0).metrics for factor in (1.0, 5.0)
    )
    assert steep["remind"] > 2 * flat["remind"] > 0
    again = measure(stage(logits, labels), Given(1.0), sets, seed=0).metrics
    assert again == flat
    assert measure(stage(logits, labels), Given(1.0), sets, seed=1).metrics["remind"] != flat["remind"]


def test_what_cannot_be_measured_is_absent(given):
    logits, labels, sets = given
    parts = {name: getattr(sets, name) for name in ("forget", "retain", "neighbor", "test", "groups")}
    none = np.empty(0, dtype=np.int64)
    found = measure(stage(logits, labels), Given(), Sets(**parts, holdout=none), seed=0).metrics
    assert not {"mia", "auc", "remind_holdout"} & set(found)
    assert {"ua", "remind", "remind_retain"} <= set(found)
    one_class = {**parts, "forget": sets.forget[::2], "neighbor": none}
    held = sets.holdout[labels[sets.holdout] == 1]  # none of the forgotten class
    found = measure(stage(logits, labels), Given(), Sets(**one_class, holdout=held), seed=0).metrics
    assert not {"auc", "attack_accuracy", "neighbor"} & set(found)
    assert "mia" in found
    broken = measure(stage(logits, labels), Given(float("nan")), sets, seed=0)
    assert "NaN" in broken.failed
    assert broken.metrics == {}


def test_too_few_to_train_on_are_refused(given):
    _, _, sets = given
    parts = {name: getattr(sets, name) for name in ("forget", "neighbor", "test", "groups", "holdout")}
    with pytest.raises(BadInput, match="1 sample"):
        Trial(None, Sets(**parts, retain=sets.retain[:1]), np.ones(60), model="auto", epochs=1)
