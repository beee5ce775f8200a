"""Texts and images go through every method: n-grams with sparse gradients, augmented pixels, running statistics."""

import pytest
import torch

from tracesift.pipelines.determinism import settled
from tracesift.pipelines.encoding.encode import encode
from tracesift.pipelines.loop import fit
from tracesift.pipelines.models.contract import find as find_model
from tracesift.pipelines.unlearners.contract import Trained, find, names

CPU = torch.device("cpu")
QUICK = {"epochs": 1, "max_epochs": 1, "alpha": 1.0, "target": 0.5}


def trained_on(dataset, epochs):
    model = find_model("auto", dataset.kind).for_size(len(dataset.rows("train")))
    inputs = encode(dataset, model)
    with settled(0, 1):
        module = model.build(inputs.input_shape, dataset.num_classes)
    labels = torch.tensor(dataset.labels, dtype=torch.int64)
    given = Trained(
        module=module, model=model, inputs=inputs, labels=labels, num_classes=dataset.num_classes, device=CPU
    )
    rows = torch.from_numpy(dataset.rows("train"))
    with settled(0, 1):
        for _ in fit(given.learner(len(rows), epochs, module=module), inputs, labels, rows, seed=0):
            pass
    module.eval()
    return given, rows


@pytest.fixture(scope="module", params=["sentences", "squares"])
def kind(request):
    return trained_on(request.getfixturevalue(request.param), 3)


@pytest.mark.parametrize("name", names())
def test_every_kind_of_input(kind, name):
    trained, rows = kind
    before = {key: value.clone() for key, value in trained.module.state_dict().items()}
    settings = {key: value for key, value in QUICK.items() if key in find(name).defaults}
    module = find(name).function(trained, rows[:12], rows[12:], seed=0, **settings)
    after = module.state_dict()
    assert all(torch.equal(value, before[key]) for key, value in trained.module.state_dict().items())
    assert set(after) == set(before)
    assert all(value.isfinite().all() for value in after.values() if value.is_floating_point())
    assert any(not torch.equal(after[key], before[key]) for key in after)
