"""Recording under a Hugging Face Trainer, with a tiny BERT made here; nothing is downloaded."""

import json

import numpy as np
import pytest
import torch

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.recorder import Recorder
from tracesift.pipelines.recording.token_losses import token_losses
from tracesift.pipelines.signals import load_signals

pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def tiny_bert(tmp_path_factory, sentences):
    """A local checkpoint: one layer of 16, and a word tokenizer."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("bert")
    words = sorted({word for text in sentences.inputs for word in text.split()})
    vocabulary = {word: at for at, word in enumerate(["[PAD]", "[UNK]", *words])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(
        folder
    )
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=32, num_labels=2, pad_token_id=0,
    )  # fmt: skip
    BertForSequenceClassification(config).save_pretrained(folder)
    return str(folder)


def trainer_for(folder, dataset, tmp_path, *, columns=("row",), recorder=None, **arguments):
    import datasets
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, Trainer, TrainingArguments

    from tracesift.pipelines.trainer_mixin import RecorderMixin

    class RecordingTrainer(RecorderMixin, Trainer):
        pass

    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows = dataset.rows("train")
    table = {
        **tokenizer([dataset.inputs[row] for row in rows], padding=True),
        "labels": dataset.labels[rows].tolist(),
        "row": rows.tolist(),
        "sample_id": dataset.samples["sample_id"].gather(rows).to_list(),
    }
    table = {
        name: values
        for name, values in table.items()
        if name in ("input_ids", "attention_mask", "labels", "sample_id", *columns)
    }
    return RecordingTrainer(
        model=AutoModelForSequenceClassification.from_pretrained(folder),
        args=TrainingArguments(
            output_dir=str(tmp_path / "out"), num_train_epochs=2, per_device_train_batch_size=16, learning_rate=1e-2,
            report_to=[], save_strategy="no", logging_strategy="no", disable_tqdm=True, use_cpu=True, seed=0, **arguments,
        ),
        train_dataset=datasets.Dataset.from_dict(table),
        eval_dataset=datasets.Dataset.from_dict({name: table[name][:8] for name in ("input_ids", "attention_mask", "labels")}),
        recorder=recorder or Recorder(tmp_path / "work", dataset),
    )  # fmt: skip


@pytest.mark.parametrize("arguments", [{}, {"gradient_accumulation_steps": 2, "label_smoothing_factor": 0.3}])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_trainer_records_without_any_setting(tiny_bert, sentences, tmp_path, arguments):
    trainer = trainer_for(tiny_bert, sentences, tmp_path, **arguments)
    trainer.train()
    trainer.evaluate()  # rows are needed for training alone, and evaluation is not recorded
    arrays = load_signals(tmp_path / "work", trainer.recorder.finalize()).in_mode("in_training")
    assert arrays["loss"].shape == (2, len(sentences.rows("train")))
    assert arrays["seen"].all()
    np.testing.assert_array_equal(arrays["labels"], sentences.labels[sentences.rows("train")])
    np.testing.assert_allclose(arrays["loss"], -np.log(arrays["prob_label"]), rtol=1e-3, atol=1e-5)
    assert arrays["loss"][1].mean() < arrays["loss"][0].mean()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_missing_row_column_stops_the_first_step(tiny_bert, sentences, tmp_path):
    trainer = trainer_for(tiny_bert, sentences, tmp_path, columns=())
    with pytest.raises(BadInput, match="no column 'row'"):
        trainer.train()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_causal_language_model_is_recorded_by_its_mean_token_loss(sentences, tmp_path):
    import datasets
    from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

    from tracesift.pipelines.trainer_mixin import RecorderMixin

    class RecordingTrainer(RecorderMixin, Trainer):
        pass

    rows = sentences.rows("train")
    words = sorted({word for text in sentences.inputs for word in text.split()})
    ids = [[words.index(word) for word in sentences.inputs[row].split()][: 2 + row % 4] for row in rows]
    longest = max(map(len, ids))
    prompt = 1  # the first token is given, and takes no part as a label
    table = {
        "input_ids": [one + [0] * (longest - len(one)) for one in ids],
        "labels": [[-100] * prompt + one[prompt:] + [-100] * (longest - len(one)) for one in ids],
        "row": rows.tolist(),
    }
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(words), n_positions=longest, n_embd=16, n_layer=1, n_head=1, resid_pdrop=0, embd_pdrop=0,
        attn_pdrop=0, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    model = GPT2LMHeadModel(config)
    trainer = RecordingTrainer(
        model=model,
        args=TrainingArguments(
            output_dir=str(tmp_path / "out"), num_train_epochs=1, per_device_train_batch_size=16, learning_rate=0.0,
            report_to=[], save_strategy="no", logging_strategy="no", disable_tqdm=True, use_cpu=True, seed=0,
        ),
        train_dataset=datasets.Dataset.from_dict(table),
        recorder=Recorder(tmp_path / "work", sentences, fields=("loss",)),
    )  # fmt: skip
    trainer.train()
    arrays = load_signals(tmp_path / "work", trainer.recorder.finalize()).in_mode("in_training")
    # what transformers itself says of each sample alone; the weights never moved
    told = []
    for at in range(len(rows)):
        given = {name: torch.tensor(table[name][at : at + 1]) for name in ("input_ids", "labels")}
        with torch.no_grad():
            told.append(model(**given).loss.item())
    np.testing.assert_allclose(arrays["loss"][0], told, rtol=1e-5)
    assert arrays["num_tokens"].tolist() == [len(one) - prompt for one in ids]
    assert len(set(arrays["num_tokens"].tolist())) > 1


def test_token_losses_by_hand():
    logits = torch.log(torch.tensor([[[0.5, 0.5], [0.25, 0.75], [0.9, 0.1]]]).repeat(2, 1, 1))
    labels = torch.tensor([[1, 0, 1], [-100, -100, -100]])
    losses, tokens = token_losses(logits, labels, shifted=True)
    assert losses[0].item() == pytest.approx(-(np.log(0.5) + np.log(0.75)) / 2)
    assert tokens.tolist() == [2, 0]
    assert losses[1].isnan()
    losses, tokens = token_losses(logits, labels, shifted=False)
    assert losses[0].item() == pytest.approx(-(np.log(0.5) + np.log(0.25) + np.log(0.1)) / 3)
    assert tokens.tolist() == [3, 0]


def test_hf_classifier_is_a_model_like_the_others(tiny_bert, sentences, tmp_path):
    from tracesift.pipelines.embedding.embeddings import embed
    from tracesift.pipelines.train import TrainConfig, record

    config = TrainConfig(seed=0, model=f"hf_classifier:{tiny_bert}", epochs=2, lr=1e-2, threads=1)
    run_id = record(sentences, tmp_path, config)
    embed(sentences, tmp_path, run_id)
    arrays = load_signals(tmp_path, run_id).in_mode("epoch_end")
    assert arrays["embedding"].shape == (len(sentences.rows("train")), 16)
    assert arrays["correct"][-1].mean() > 0.9
    assert json.loads(json.dumps(load_signals(tmp_path, run_id).run))["model"] == f"hf_classifier:{tiny_bert}"


def test_an_absent_checkpoint_is_bad_input(sentences, tmp_path):
    from tracesift.pipelines.train import TrainConfig, record

    with pytest.raises(BadInput, match="hf_classifier"):
        record(sentences, tmp_path, TrainConfig(seed=0, model=f"hf_classifier:{tmp_path}/nothing"))
