"""Where vectors come from: a model, the content, the user's own file or column, a pretrained encoder."""

import builtins

import numpy as np
import polars as pl
import pytest
import torch

from tracesift.catalog.schema import SPLITS, BadInput
from tracesift.pipelines.dataset import open_dataset
from tracesift.pipelines.embedding.embeddings import content_embedding, features, load_module, recorded_model
from tracesift.pipelines.embedding.encoders import encoded
from tracesift.pipelines.embedding.own_vectors import from_file
from tracesift.pipelines.embedding.sources import by_split, made_by, vectors_of
from tracesift.pipelines.encoding.encode import encode
from tracesift.pipelines.signals import load_signals, read_run
from tracesift.pipelines.train import TrainConfig, record


def own(dataset, width=3):
    """Ids in an order of their own, and vectors that say whose they are: the first number is in the id."""
    ids = dataset.samples["sample_id"].sample(fraction=1, shuffle=True, seed=1).to_list()
    values = np.array([[int(name[1:]), 1, -1][:width] for name in ids], dtype=np.float32)
    return ids, values


def expected(dataset):
    return np.array([int(name[1:]) for name in dataset.samples["sample_id"]], dtype=np.float32)


def test_the_models_features_cover_every_split(blobs, tmp_path):
    run_id = record(blobs, tmp_path, TrainConfig(seed=0, epochs=1))
    made = vectors_of(blobs, "model", workspace=tmp_path, run_id=run_id)
    signals = load_signals(tmp_path, run_id).in_mode("epoch_end")
    assert np.array_equal(made["train"], signals["embedding"])
    assert np.array_equal(made["val"], signals["val_embedding"])
    model = recorded_model(blobs, read_run(tmp_path, run_id))
    inputs = encode(blobs, model)
    module = load_module(blobs, tmp_path, run_id, model, inputs)
    assert np.array_equal(made["test"], features(module, inputs, torch.from_numpy(blobs.rows("test"))))
    assert len(made["test"]) > 0


def test_content_is_cut_by_split(squares):
    whole = content_embedding(squares)
    made = vectors_of(squares, "content")
    for split in SPLITS:
        assert np.array_equal(made[split], whole[squares.rows(split)])


@pytest.mark.parametrize("form", ["npz", "bytes.npz", "parquet", "array.parquet", "integers.npz"])
def test_a_file_with_ids_goes_by_them_in_any_order(blobs, tmp_path, form):
    ids, values = own(blobs)
    path = tmp_path / f"vectors.{form}"
    if form.endswith("npz"):
        named = np.array([name.encode() for name in ids]) if form == "bytes.npz" else np.array(ids)
        np.savez(path, sample_ids=named, vectors=values.astype(np.int64) if "integers" in form else values)
    else:
        dtype = pl.Array(pl.Float32, 3) if form == "array.parquet" else pl.List(pl.Float64)
        extra = [*ids, "unknown"], np.concatenate([values, values[:1]])
        pl.DataFrame({"sample_id": extra[0], "v": pl.Series(extra[1].tolist(), dtype=dtype)}).write_parquet(
            path
        )
    found = from_file(blobs, path)
    assert found.dtype == np.float32
    assert np.array_equal(found[:, 0], expected(blobs))
    parts = by_split(blobs, found)
    assert sum(map(len, parts.values())) == len(blobs)


def test_a_file_without_ids_needs_to_be_told_its_order(blobs, tmp_path):
    path = tmp_path / "vectors.npy"
    np.save(path, expected(blobs)[:, None])
    with pytest.raises(BadInput, match=r"--order source .* or --order id"):
        from_file(blobs, path)
    assert np.array_equal(from_file(blobs, path, order="id")[:, 0], expected(blobs))
    in_source = np.empty(len(blobs), np.float32)
    in_source[blobs.positions] = expected(blobs)
    np.save(path, in_source[:, None])
    assert not np.array_equal(in_source, expected(blobs))
    assert np.array_equal(from_file(blobs, path, order="source")[:, 0], expected(blobs))
    np.save(path, in_source[:-1, None])
    with pytest.raises(BadInput, match=r"holds 149 vectors; blobs has 150 samples"):
        from_file(blobs, path, order="id")


def test_ids_that_do_not_cover_the_dataset_are_counted_and_the_first_is_named(blobs, tmp_path):
    ids, values = own(blobs)
    gone = sorted(ids)[4:7]
    kept = [at for at, name in enumerate(ids) if name not in gone]
    np.savez(tmp_path / "v.npz", sample_ids=np.array(ids)[kept], values=values[kept])
    with pytest.raises(BadInput, match=rf"147 of the 150 samples .* lacks 3, first '{gone[0]}'"):
        from_file(blobs, tmp_path / "v.npz")


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"sample_ids": ["a", "a"], "v": [[1.0], [2.0]]}, "1 repeated ids, first 'a'"),
        ({"sample_ids": ["a"], "v": [[1.0], [2.0]]}, "2 vectors for 1 ids"),
        ({"sample_ids": ["a", "b"], "v": [1.0, 2.0]}, r"v \(2,\)"),
        ({"v": [[1.0]], "w": [[1.0]]}, "one array of vectors"),
        ({"sample_ids": ["a"], "v": [["x"]]}, "must be numbers"),
    ],
)
def test_an_npz_that_says_too_little_is_refused(blobs, tmp_path, arrays, said):
    np.savez(tmp_path / "v.npz", **{name: np.array(values) for name, values in arrays.items()})
    with pytest.raises(BadInput, match=said):
        from_file(blobs, tmp_path / "v.npz")


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"id": ["a"], "v": [[1.0]]}, "should have sample_id"),
        ({"sample_id": ["a"], "v": [1.0]}, "one column of lists"),
        ({"sample_id": ["a", "b"], "v": [[1.0], [1.0, 2.0]]}, "of one length"),
        ({"sample_id": ["a", "b"], "v": [[1.0], None]}, "1 empty"),
        ({"sample_id": ["a", None], "v": [[1.0], [2.0]]}, "1 of 2 sample_id are empty"),
        ({"sample_id": ["a"], "v": [["x"]]}, "other things than numbers"),
    ],
)
def test_a_table_that_says_too_little_is_refused(blobs, tmp_path, columns, said):
    pl.DataFrame(columns).write_parquet(tmp_path / "v.parquet")
    with pytest.raises(BadInput, match=said):
        from_file(blobs, tmp_path / "v.parquet")


def test_files_that_cannot_be_read_are_named(blobs, tmp_path):
    for name in ("v.npy", "v.npz", "v.parquet"):
        (tmp_path / name).write_bytes(b"nothing of the kind")
        with pytest.raises(BadInput, match="cannot be read"):
            from_file(blobs, tmp_path / name)
    (tmp_path / "v.csv").write_text("a")
    with pytest.raises(BadInput, match=r"\.npy, \.npz or \.parquet"):
        from_file(blobs, tmp_path / "v.csv")
    with pytest.raises(BadInput, match=r"no such file .*did you mean 'model'"):
        made_by(blobs, "modell")
    with pytest.raises(BadInput, match="a folder; vectors come in"):
        made_by(blobs, str(tmp_path))
    np.savez(tmp_path / "v.npz", v=np.array([["x", None]], dtype=object))
    # no advice to unpickle it
    with pytest.raises(BadInput, match="without pickled objects"):
        from_file(blobs, tmp_path / "v.npz")


@pytest.mark.filterwarnings("error")
def test_numbers_beyond_float32_are_called_so_and_infinite_ones_are_not(blobs, tmp_path):
    values = np.ones((len(blobs), 2))
    values[3, 1] = 1e300
    np.save(tmp_path / "v.npy", values)
    with pytest.raises(BadInput, match=f"1 of {2 * len(blobs)} numbers are too large for float32"):
        from_file(blobs, tmp_path / "v.npy", order="id")
    values[3, 1] = np.inf
    np.save(tmp_path / "v.npy", values)
    assert np.isinf(from_file(blobs, tmp_path / "v.npy", order="id")).sum() == 1


def test_a_column_of_lists_in_the_source(sentences):
    frame = pl.DataFrame(
        {
            "id": sentences.samples["sample_id"],
            "text": list(sentences.inputs),
            "label": sentences.samples["label"],
            "vector": [[float(row), -1.0] for row in range(len(sentences))],
            "remark": ["a"] * len(sentences),
        }
    )
    dataset = open_dataset(frame, text="text")
    made = vectors_of(dataset, "column:vector")
    assert np.array_equal(made["train"][:, 0], dataset.rows("train"))
    assert np.array_equal(made["test"][:, 0], dataset.rows("test"))
    assert made_by(dataset, "column:vector") == made_by(dataset, "column:vector")
    with pytest.raises(BadInput, match=r"no such column .*did you mean 'vector'"):
        made_by(dataset, "column:vectr")
    with pytest.raises(BadInput, match="no lists of numbers"):
        vectors_of(dataset, "column:remark")


# --- encoders


@pytest.fixture(scope="module")
def text_encoder(tmp_path_factory):
    """A tiny untrained encoder with a tokenizer of words, in a local folder."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    words = ["[PAD]", "[UNK]", "cat", "dog", "horse", "cow", "paris", "lagos", "lima", "oslo", "number"]
    tokenizer = Tokenizer(models.WordLevel({word: at for at, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]")
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    model = BertModel(BertConfig(vocab_size=len(words), max_position_embeddings=64, **sizes))
    folder = tmp_path_factory.mktemp("encoder") / "tiny"
    model.save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


def test_text_is_averaged_over_its_own_tokens(sentences, text_encoder):
    from transformers import AutoModel, AutoTokenizer

    found = encoded(sentences, str(text_encoder))
    assert found.shape == (len(sentences), 16)
    model, tokenizer = (
        AutoModel.from_pretrained(text_encoder).eval(),
        AutoTokenizer.from_pretrained(text_encoder),
    )
    for row in (0, 63, 64, 159):  # alone there is no padding to average over
        with torch.no_grad():
            hidden = model(**tokenizer([sentences.inputs[row]], return_tensors="pt")).last_hidden_state
        np.testing.assert_allclose(found[row], hidden[0].mean(0).numpy(), rtol=1e-4, atol=1e-5)
    assert np.array_equal(found, encoded(sentences, str(text_encoder)))
    made = made_by(sentences, f"hf:{text_encoder}")
    assert made["weights"] != str(text_encoder)
    assert made == made_by(sentences, f"hf:{text_encoder}")


@pytest.mark.parametrize("architecture", ["transformer", "convolutional"])
def test_an_image_is_averaged_over_its_places(squares, tmp_path, architecture):
    from transformers import AutoModel, ResNetConfig, ResNetModel, ViTConfig, ViTImageProcessor, ViTModel

    torch.manual_seed(0)
    if architecture == "transformer":
        sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
        model = ViTModel(ViTConfig(image_size=16, patch_size=8, **sizes))
    else:
        model = ResNetModel(
            ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
        )
    model.save_pretrained(tmp_path)
    processor = ViTImageProcessor(size={"height": 16, "width": 16})
    processor.save_pretrained(tmp_path)
    found = encoded(squares, str(tmp_path))
    assert found.shape == (len(squares), 16)
    picture = squares.content([70])[0].convert("RGB")
    with torch.no_grad():
        hidden = AutoModel.from_pretrained(tmp_path).eval()(**processor([picture], return_tensors="pt"))
    plain = hidden.last_hidden_state[0]
    mean = plain.mean(0) if plain.ndim == 2 else plain.flatten(1).mean(1)
    np.testing.assert_allclose(found[70], mean.numpy(), rtol=1e-3, atol=1e-5)


def test_what_cannot_be_encoded_is_said(blobs, sentences, tmp_path, monkeypatch):
    with pytest.raises(BadInput, match="blobs is tabular"):
        encoded(blobs, "any")
    with pytest.raises(BadInput, match="cannot be loaded"):
        encoded(sentences, str(tmp_path))
    real = builtins.__import__

    def without(name, *rest):
        if name == "transformers":
            raise ModuleNotFoundError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(BadInput, match=r"pip install 'tracesift\[hf\]'"):
        encoded(sentences, "any")
