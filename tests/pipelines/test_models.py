"""Models: found by name, right shapes, features that lead to the logits, and the user's own."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from tracesift.catalog.schema import BadInput, UnknownName
from tracesift.flows import options
from tracesift.pipelines.encoding.encode import encode
from tracesift.pipelines.models import contract
from tracesift.pipelines.models.contract import AUTO, Bags, find, names

MODEL_HELP = Path(options.__file__).read_text().split('model: str = "auto"')[1].split("epochs:")[0]
BATCHES = {
    "tabular": ((5,), torch.randn(4, 5)),
    "image": ((3, 12, 12), torch.randn(4, 3, 12, 12)),
    "text": ((-1, 50), Bags(torch.tensor([1, 2, 3, 4, 49]), torch.tensor([0, 2, 2, 4]), torch.ones(5))),
}
BUILT_IN = [
    ("linear", "tabular"),
    ("linear", "image"),
    ("linear", "text"),
    ("mlp", "tabular"),
    ("mlp", "image"),
    ("small_cnn", "image"),
    ("resnet18", "image"),
    ("hashed_ngrams", "text"),
]


def test_names_are_the_files_that_hold_a_model():
    assert names() == ("hashed_ngrams", "hf_classifier", "linear", "mlp", "resnet18", "small_cnn")


@pytest.mark.parametrize(("name", "kind"), BUILT_IN)
def test_shapes_and_features(name, kind):
    shape, batch = BATCHES[kind]
    module = find(name, kind).build(shape, 7).eval()
    with torch.no_grad():
        logits = module(batch)
        features = module.features(batch)
        torch.testing.assert_close(module.head(features), logits)
    assert logits.shape == (4, 7)
    assert features.ndim == 2
    assert logits.dtype == torch.float32


@pytest.mark.parametrize("side", [8, 16, 28, 33, 64])
def test_small_cnn_takes_any_side(side):
    module = find("small_cnn", "image").build((1, side, side), 2)
    assert module(torch.randn(2, 1, side, side)).shape == (2, 2)


def test_auto_picks_by_kind():
    assert {kind: find("auto", kind).name for kind in AUTO} == AUTO


def test_unknown_names_and_wrong_kinds_are_refused():
    with pytest.raises(UnknownName, match="did you mean 'small_cnn'"):
        find("smal_cnn", "image")
    with pytest.raises(
        UnknownName, match="known: hashed_ngrams, hf_classifier:NAME, linear, mlp, "
    ) as raised:
        find("nonsuch", "text")
    for typed in str(raised.value).split("known: ")[1].split(", or ")[0].split(", "):
        assert typed in MODEL_HELP
    with pytest.raises(BadInput, match="takes image, not text"):
        find("resnet18", "text")
    with pytest.raises(UnknownName, match="importable"):
        find("no_such_module:build", "image")
    with pytest.raises(UnknownName, match="no attribute 'nothing'"):
        find("math:nothing", "image")
    with pytest.raises(BadInput, match="needs a checkpoint"):
        find("hf_classifier", "text").build((-1, 10), 2)


def test_batch_grows_with_the_training_set():
    model = find("hashed_ngrams", "text")
    size = model.recipe.batch_size
    assert model.for_size(1_000).recipe.batch_size == size
    assert model.for_size(500 * size).recipe.batch_size == size
    assert model.for_size(500 * size + 1).recipe.batch_size == 2 * size
    assert model.for_size(10**9).recipe.batch_size == 8 * size
    assert find("resnet18", "image").for_size(10**9).recipe.batch_size == 128


def test_users_own_function_is_named_with_its_code(tmp_path, monkeypatch, blobs):
    source = "from torch import nn\ndef build(input_shape, num_classes):\n    return nn.Linear(input_shape[0], num_classes)\n"
    (tmp_path / "own_model_a.py").write_text(source)
    (tmp_path / "own_model_b.py").write_text(source + "# changed\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    model = find("own_model_a:build", "tabular")
    module = model.build((5,), 3)
    assert isinstance(module, nn.Linear)
    assert module(encode(blobs, model).batch(torch.arange(2))).shape == (2, 3)
    assert model.name.startswith("own_model_a:build@")
    code = model.name.partition("@")[2]
    assert find("own_model_b:build", "tabular").name.partition("@")[2] != code
    assert model.recipe == contract.USER_RECIPE


def test_identity_leaves_out_what_changes_no_meaning():
    identity = find("mlp", "tabular").identity()
    assert identity["name"] == "mlp"
    assert identity["lr"] == 2e-3
    assert not {"threads", "epochs", "kinds", "most_steps"} & set(identity)


def test_contract_needs_no_transformers():
    code = "import sys; from tracesift.pipelines.models.contract import find; find('mlp', 'tabular'); print('transformers' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        == "False\n"
    )
