"""Recordings that others wrote: what each form gives, and the sentences for what cannot be read."""

import json
import os
import pickle
from typing import ClassVar

import numpy as np
import polars as pl
import pytest
import torch

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.foreign.bare import from_recording
from tracesift.pipelines.foreign.class_order import class_order, complete
from tracesift.pipelines.foreign.imported import write_imported
from tracesift.pipelines.foreign.matching import match
from tracesift.pipelines.foreign.reading import read_foreign
from tracesift.pipelines.foreign.recording import Finished
from tracesift.pipelines.recorder import Recorder
from tracesift.pipelines.signals import load_signals
from tracesift.scorers.contract import compute

T, N, K = 3, 7, 4
IDS = [f"s{at}" for at in (3, 0, 6, 1, 5, 2, 4)]  # never in ascending order: rows must travel by id


@pytest.fixture
def logits():
    return np.random.default_rng(0).normal(size=(T, N, K)).astype(np.float32) * 3


@pytest.fixture
def labels():
    return np.array([0, 1, 2, 3, 0, 1, 2])


def softmax(values):
    grown = np.exp(values.astype(np.float64) - values.max(-1, keepdims=True))
    return grown / grown.sum(-1, keepdims=True)


def bare(found):
    return from_recording(
        "x", "x.npz", found.ids, found.labels, [str(k) for k in range(K)], ["train"] * len(found.ids)
    )


def imported(path, workspace, dataset=None, mode="in_training", **options):
    found = read_foreign(path, **options)
    record = write_imported(workspace, match(found, dataset or bare(found)), mode=mode)
    return load_signals(workspace, record["run_id"]).in_mode(mode), record


def save(path, **arrays):
    np.savez(path, **arrays)
    return path


class TestExactness:
    """Every derived number against float64 arithmetic written out, by id."""

    @pytest.fixture
    def expected(self, logits, labels):
        order = np.argsort(IDS)
        z, y = logits[:, order].astype(np.float64), labels[order]
        p = softmax(z)
        rows = np.arange(N)
        others = z.copy()
        others[:, rows, y] = -np.inf
        p_others = p.copy()
        p_others[:, rows, y] = -np.inf
        step = np.abs(p[1:] * (np.log(p[1:] + 1e-8) - np.log(p[:-1] + 1e-8))).sum(2)
        return {
            "loss": -np.log(p[:, rows, y]),
            "correct": z.argmax(2) == y,
            "margin": z[:, rows, y] - others.max(2),
            "prob_label": p[:, rows, y],
            "prob_margin": p[:, rows, y] - p_others.max(2),
            "error_norm": np.linalg.norm(p - np.eye(K)[y], axis=2),
            "entropy": -(p * np.log(p)).sum(2),
            "kl_step": np.vstack([np.full((1, N), np.nan), step]),
            "pred": z.argmax(2),
        }

    @pytest.mark.parametrize("kind", ["logits", "probs"])
    def test_npz(self, tmp_path, logits, labels, expected, kind):
        values = logits if kind == "logits" else softmax(logits)
        path = save(tmp_path / "r.npz", sample_ids=np.array(IDS), labels=labels, **{kind: values})
        signals, record = imported(path, tmp_path / "w")
        for name, wanted in expected.items():
            np.testing.assert_allclose(signals[name], wanted, rtol=2e-5, atol=2e-5, err_msg=name)
        assert signals["seen"].all()
        np.testing.assert_allclose(signals["probs_last"], softmax(logits[-1][np.argsort(IDS)]), rtol=1e-5)
        assert record["fields"] == list(expected)

    def test_equals_our_own_recorder(self, tmp_path, logits, labels):
        import torch

        path = save(tmp_path / "r.npz", sample_ids=np.array(IDS), labels=labels, logits=logits)
        dataset = bare(read_foreign(path))
        recorder = Recorder(tmp_path / "own", dataset)
        for epoch in range(T):
            recorder.update(list(IDS), torch.from_numpy(logits[epoch]), torch.from_numpy(labels))
            recorder.end_epoch()
        own = load_signals(tmp_path / "own", recorder.finalize()).in_mode("in_training")
        ours, _ = imported(path, tmp_path / "w", dataset)
        for name in ("loss", "margin", "entropy", "kl_step", "correct", "pred"):
            np.testing.assert_array_equal(ours[name], own[name])

    @pytest.mark.parametrize("suffix", ["parquet", "csv", "jsonl"])
    def test_long_table_of_logits(self, tmp_path, logits, labels, expected, suffix):
        frame = pl.DataFrame(
            {
                "sample_id": IDS * T,
                "epoch": np.repeat([10, 20, 30], N),
                "label": np.tile(labels, T),
                "logits": logits.reshape(-1, K).tolist(),
            }
        )
        if suffix == "csv":
            for k in range(K):
                frame = frame.with_columns(pl.col("logits").list.get(k).alias(f"logits_{k}"))
            frame = frame.drop("logits")
        frame = frame.sample(fraction=1.0, shuffle=True, seed=1)
        path = tmp_path / f"r.{suffix}"
        {"parquet": frame.write_parquet, "csv": frame.write_csv, "jsonl": frame.write_ndjson}[suffix](path)
        signals, record = imported(path, tmp_path / "w")
        np.testing.assert_allclose(signals["margin"], expected["margin"], rtol=1e-5, atol=1e-6)
        assert record["imported"]["epochs"] == [10, 20, 30]

    def test_probability_of_zero_stays_finite(self, tmp_path):
        probs = np.array([[[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]]])
        path = save(tmp_path / "r.npz", ids=np.array(["a", "b"]), labels=np.array([0, 0]), probs=probs)
        signals, _ = imported(path, tmp_path / "w")
        assert signals["correct"][0].tolist() == [True, False]
        assert signals["loss"][0, 0] == 0
        assert 80 < signals["loss"][0, 1] < 90
        assert signals["margin"][0, 0] > 80 > -80 > signals["margin"][0, 1]


class TestScalars:
    def test_loss_alone_gives_the_probability_of_the_label(self, tmp_path):
        loss = np.array([[0.5, np.nan], [0.25, 2.0]])
        path = save(tmp_path / "r.npz", ids=np.array(["b", "a"]), labels=np.array([0, 1]), loss=loss)
        signals, record = imported(path, tmp_path / "w")
        np.testing.assert_allclose(
            signals["prob_label"], [[np.nan, np.exp(-0.5)], [np.exp(-2), np.exp(-0.25)]], rtol=1e-6
        )
        assert signals["seen"].tolist() == [[False, True], [True, True]]
        assert record["imported"]["computed"] == ["prob_label"]
        assert "correct" not in signals

    def test_margin_says_who_won(self, tmp_path):
        path = save(
            tmp_path / "r.npz",
            ids=np.array(["a", "b"]),
            labels=np.array([0, 1]),
            margin=np.array([[2.0, -1.0]]),
        )
        signals, _ = imported(path, tmp_path / "w")
        assert signals["correct"].tolist() == [[True, False]]

    def test_only_out_of_sample_probabilities(self, tmp_path):
        """What users of confident learning have: one probability matrix and labels."""
        probs = np.array([[0.7, 0.2, 0.1, 0.0], [0.1, 0.8, 0.1, 0.0]])
        path = save(tmp_path / "r.npz", ids=np.array(["b", "a"]), labels=np.array([0, 1]), probs_oos=probs)
        signals, record = imported(path, tmp_path / "w")
        np.testing.assert_allclose(signals["probs_oos"], probs[::-1], rtol=1e-6)
        assert not signals["seen"].any()
        assert "loss" not in signals
        assert record["epochs"] == 1

    def test_models_of_ones_own_on_subsets(self, tmp_path):
        """What `subset_training` would train: answers of models that saw a sample and of models that did not."""
        trained = np.array([[1, 1, 0, 0], [0, 0, 1, 1]])
        right = np.array([[1, 1, 0, 1], [1, 0, 1, 1]])
        file = dict(ids=np.array(["b", "a"]), labels=Y2, subset_trained=trained, subset_correct=right)
        file["subset_prob_label"] = np.where(right, 0.75, 0.25).astype(np.float32)
        signals, _ = imported(save(tmp_path / "r.npz", **file), tmp_path / "w")
        assert signals["subset_correct"].dtype == bool
        of = {"memorization_subset": {"of": "prob_label"}}
        found = compute("memorization_subset", signals).to_series()
        assert found.to_list() == [1.0 - 0.5, 1.0 - 0.5]
        assert compute("memorization_subset", signals, params=of).to_series().to_list() == [0.25, 0.25]
        assert signals["subset_trained"].tolist() == [[False, False, True, True], [True, True, False, False]]

    def test_truths_of_a_part_are_refused(self, tmp_path):
        dataset = bare(read_foreign(save(tmp_path / "all.npz", ids=IDS2, labels=Y2, loss=np.ones((1, 2)))))
        file = dict(ids=IDS2[:1], labels=Y2[:1], subset_correct=np.array([[True]]))
        with pytest.raises(BadInput, match="1 are not, such as b"):
            imported(save(tmp_path / "r.npz", **file), tmp_path / "w", dataset)
        assert not list((tmp_path / "w").rglob("run.json"))

    def test_rows_that_a_file_lacks_are_unseen(self, tmp_path, logits, labels):
        path = save(tmp_path / "r.npz", sample_ids=np.array(IDS), labels=labels, logits=logits)
        dataset = bare(read_foreign(path))
        part = save(tmp_path / "p.npz", sample_ids=np.array(IDS[:4]), labels=labels[:4], logits=logits[:, :4])
        signals, record = imported(part, tmp_path / "w", dataset)
        there = np.isin(np.sort(IDS), IDS[:4])
        assert (signals["seen"] == there).all()
        assert np.isnan(signals["margin"][:, ~there]).all()
        assert (signals["pred"][:, ~there] == -1).all()
        assert record["imported"]["missing"] == N - 4

    def test_rows_of_nan_are_not_observed(self, tmp_path, logits, labels):
        logits[:, 1] = np.nan  # s0, always
        logits[1, 4, 2] = np.nan  # s5, one logit of one epoch
        logits[2, 0] = np.inf
        path = save(tmp_path / "r.npz", sample_ids=np.array(IDS), labels=labels, logits=logits)
        signals, record = imported(path, tmp_path / "w")
        assert signals["seen"].sum(0).tolist() == [0, T, T, T, T, T - 1, T]
        told = record["imported"]
        assert told["observed"] == N - 1
        assert told["nan"] == {"rows": T + 1, "samples": 2, "first": ["s0", "s5"], "never": ["s0"]}
        assert told["nonfinite"] == 1

    def test_what_a_file_leaves_out_is_no_nan(self, tmp_path, labels):
        """Rows that a long table lacks were not observed either, but nothing is wrong with them."""
        rows = [(IDS[0], 0, 0, 1.0), (IDS[0], 1, 0, 0.5), (IDS[1], 0, 1, 2.0)]
        frame = pl.DataFrame(rows, schema=["sample_id", "epoch", "label", "loss"], orient="row")
        frame.write_parquet(tmp_path / "long.parquet")
        _, record = imported(tmp_path / "long.parquet", tmp_path / "w")
        assert record["imported"]["nan"]["rows"] == 0
        assert record["imported"]["observed"] == 2

    def test_arrays_without_epochs_say_what_was_observed(self, tmp_path):
        probs = np.array([[0.7, 0.2, 0.1, 0.0], [np.nan] * 4])
        path = save(tmp_path / "r.npz", ids=np.array(["b", "a"]), labels=np.array([0, 1]), probs_oos=probs)
        _, record = imported(path, tmp_path / "w")
        assert record["imported"]["observed"] == 1
        assert record["imported"]["nan"] == {"rows": 1, "samples": 1, "first": ["a"], "never": ["a"]}

    def test_validation_among_the_rows(self, tmp_path, logits, labels):
        path = save(tmp_path / "r.npz", ids=np.array(IDS), labels=labels, logits=logits)
        split = ["train"] * (N - 2) + ["val"] * 2
        dataset = from_recording("x", "x", IDS, labels, [str(k) for k in range(K)], split)
        signals, _ = imported(path, tmp_path / "w", dataset, mode="epoch_end")
        order = np.argsort(IDS[N - 2 :]) + N - 2
        np.testing.assert_allclose(signals["val_probs_last"], softmax(logits[-1][order]), rtol=1e-5)

    def test_validation_kept_apart(self, tmp_path, logits, labels):
        path = save(
            tmp_path / "r.npz", ids=np.array(IDS), labels=labels, logits=logits,
            val_ids=np.array(["v1", "v0"]), val_loss=np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), val_labels=np.array([1, 0]),
        )  # fmt: skip
        found = read_foreign(path)
        dataset = from_recording(
            "x", "x", found.ids + found.val.ids, np.concatenate([labels, [1, 0]]), [str(k) for k in range(K)],
            ["train"] * N + ["val"] * 2,
        )  # fmt: skip
        signals, _ = imported(path, tmp_path / "w", dataset, mode="epoch_end")
        assert signals["val_loss"].tolist() == [[2, 1], [4, 3], [6, 5]]
        assert signals["val_labels"].tolist() == [0, 1]


class TestPeers:
    def test_cartography(self, tmp_path, logits, labels):
        folder = tmp_path / "run" / "training_dynamics"
        folder.mkdir(parents=True)
        for epoch in range(T):
            lines = [
                json.dumps(
                    {
                        "guid": 100 + int(at),
                        f"logits_epoch_{epoch}": logits[epoch, at].tolist(),
                        "gold": int(labels[at]),
                    }
                )
                for at in np.random.default_rng(epoch).permutation(N)
            ]
            (folder / f"dynamics_epoch_{epoch}.jsonl").write_text("\n".join(lines))
        signals, record = imported(tmp_path / "run", tmp_path / "w")
        wanted = np.stack([softmax(logits[t])[np.arange(N), labels] for t in range(T)])
        np.testing.assert_allclose(signals["prob_label"], wanted, rtol=1e-5)
        assert record["imported"]["form"] == "cartography"

    @pytest.mark.parametrize("released", [True, False])
    def test_aum_records_as_released_and_as_in_its_repository(self, tmp_path, released):
        """The same records under the names of either; a NaN of the network is an empty cell."""
        rows = [  # id, measurement, label, its logit, the highest other class, its logit
            ("b", 1, 1, 2.0, 0, 0.5), ("b", 2, 1, 1.0, 2, 3.0), ("b", 3, 1, None, 0, None),
            ("a", 1, 0, 0.0, 2, 0.0), ("a", 2, 0, 4.0, 1, 1.0), ("a", 3, 0, -1.25, 1, 0.5),
        ]  # fmt: skip
        lines = []
        for name, at, label, own, other, highest in rows:
            pair = [(label, own), (other, highest)]
            values = [value for two in pair for value in (two if released else two[::-1])]
            margin = None if own is None else own - highest
            lines.append(",".join("" if v is None else str(v) for v in (name, at, *values, margin, 0.0)))
        header = "sample_id,num_measurements,target_logit,target_val,other_logit,other_val,margin,aum"
        (tmp_path / "full_aum_records.csv").write_text("\n".join([header, *lines]) + "\n")
        found = read_foreign(tmp_path)
        assert dict(zip(found.ids, found.labels, strict=True)) == {"a": 0, "b": 1}
        signals, _ = imported(tmp_path, tmp_path / "w")
        assert signals["margin"][:2].tolist() == [[0.0, 1.5], [3.0, -2.0]]
        assert signals["pred"].tolist() == [[0, 1], [0, 2], [1, -1]]
        assert signals["correct"].tolist() == [[True, True], [True, False], [False, False]]
        assert signals["seen"].tolist() == [[True, True], [True, True], [True, False]]

    @pytest.mark.filterwarnings("default:The inplace keyword")  # the package calls pandas in an older way
    @pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
    def test_aum_records_of_the_package_itself(self, tmp_path, logits, labels, dtype):
        aum = pytest.importorskip("aum")
        given = torch.from_numpy(logits).to(getattr(torch, dtype))
        calculator = aum.AUMCalculator(str(tmp_path), compressed=False)
        for epoch in range(T):
            order = np.random.default_rng(epoch).permutation(N)
            calculator.update(given[epoch, order], torch.from_numpy(labels[order]), [IDS[at] for at in order])
        calculator.finalize()
        found = read_foreign(tmp_path)
        by_id = dict(zip(found.ids, found.labels, strict=True))
        assert [by_id[name] for name in IDS] == labels.tolist()
        signals, _ = imported(tmp_path, tmp_path / "w")
        order, rounded = np.argsort(IDS), given.float().numpy()
        assert signals["pred"].tolist() == rounded[:, order].argmax(2).tolist()

    WRONG_RECORDS: ClassVar = {
        "the label moves": "a,1,0,1.5,1,0.5,1.0,1.0\na,2,1,1.5,0,0.5,1.0,1.0",
        "another margin": "a,1,0,1.5,1,0.5,-1.0,-1.0",
        "no class at all": "a,1,0.5,1.5,0.25,0.5,1.0,1.0",
        "the same class twice": "a,1,1,1.5,1,0.5,1.0,1.0",
        "either": "a,1,0,1,2,3,-2.0,-2.0",
    }

    @pytest.mark.parametrize("case", WRONG_RECORDS)
    def test_aum_records_whose_values_do_not_tell(self, tmp_path, case):
        header = "sample_id,num_measurements,target_logit,target_val,other_logit,other_val,margin,aum\n"
        (tmp_path / "full_aum_records.csv").write_text(header + self.WRONG_RECORDS[case] + "\n")
        with pytest.raises(BadInput, match="both can be" if case == "either" else "neither is a class"):
            read_foreign(tmp_path)

    def test_aum_values_are_finished_scores(self, tmp_path):
        (tmp_path / "aum_values.csv").write_text("sample_id,aum\n7,3.5\n4,-1.25\n")
        found = read_foreign(tmp_path / "aum_values.csv")
        assert isinstance(found, Finished)
        assert found.frame.to_dicts() == [{"sample_id": "7", "aum": 3.5}, {"sample_id": "4", "aum": -1.25}]

    def test_tdds_rows_stand_in_the_order_of_presentation(self, tmp_path, logits, labels):
        for epoch in range(T):
            shuffled = np.random.default_rng(epoch).permutation(N)
            np.save(tmp_path / f"{epoch + 1}_Output.npy", logits[epoch, shuffled])
            np.save(tmp_path / f"{epoch + 1}_Index.npy", shuffled)
        names = [f"n{at}" for at in range(N)]
        signals, record = imported(tmp_path, tmp_path / "w", ids=names, labels=[str(y) for y in labels])
        wanted = np.stack([softmax(logits[t])[np.arange(N), labels] for t in range(T)])
        np.testing.assert_allclose(signals["prob_label"], wanted, rtol=1e-5)
        assert record["imported"]["epochs"] == [1, 2, 3]

    @pytest.mark.parametrize("protocol", [2, 3, 4, 5])
    def test_statistics_of_example_forgetting(self, tmp_path, protocol):
        stats = {  # keys as its code makes them: numpy integers, in the order of the first epoch
            np.int64(2): [[2.5, 0.25, 1.5], [0, 1, 0], [-1.5, 2.0, -0.5]],
            np.int64(0): [[0.5, 0.25, 0.125], [1, 1, 1], [1.0, 2.0, 3.0]],
            "train": [[], [50.0, 100.0, 50.0]],
            np.int64(1): [[3.0, 3.5, 4.0], [0, 0, 0], [-2.0, -2.5, -3.0]],
            "test": [[], [40.0, 50.0, 60.0]],
        }
        (tmp_path / "run__stats_dict.pkl").write_bytes(pickle.dumps(stats, protocol=protocol))
        signals, record = imported(
            tmp_path / "run__stats_dict.pkl", tmp_path / "w", ids=["z", "m", "a"], labels=["0", "1", "2"]
        )
        order = [2, 1, 0]  # ids ascending: a, m, z
        assert signals["loss"].T.tolist() == [stats[at][0] for at in order]
        assert signals["correct"].T.astype(int).tolist() == [stats[at][1] for at in order]
        assert signals["margin"].T.tolist() == [stats[at][2] for at in order]
        assert record["imported"]["form"] == "example_forgetting"
        assert compute("forgetting_events", signals)["forgetting_events"].to_list() == [1, 3, 0]

    def test_sorted_counts_of_example_forgetting_are_finished_scores(self, tmp_path):
        held = {"indices": np.array([4, 7]), "forgetting counts": np.array([0, 400])}
        (tmp_path / "sorted.pkl").write_bytes(pickle.dumps(held))
        found = read_foreign(tmp_path / "sorted.pkl", ids=[f"n{at}" for at in range(8)])
        assert isinstance(found, Finished)
        assert found.frame.to_dicts() == [
            {"sample_id": "n4", "forgetting_events": 0}, {"sample_id": "n7", "forgetting_events": 400},
        ]  # fmt: skip

    @pytest.mark.parametrize("order", ["C", "F"])
    def test_npy_of_logits(self, tmp_path, logits, labels, order):
        np.save(tmp_path / "out.npy", np.asarray(logits, order=order))
        signals, _ = imported(tmp_path / "out.npy", tmp_path / "w", ids=IDS, labels=[str(y) for y in labels])
        at = IDS.index("s0")
        np.testing.assert_allclose(
            signals["prob_label"][:, 0], softmax(logits[:, at])[:, labels[at]], rtol=1e-5
        )


class TestClassOrder:
    """A permuted class axis gives plausible scores that are all wrong, so it is known or refused."""

    CLASSES = ("ant", "bee", "cat")

    def found(self, tmp_path, **arrays):
        logits = np.random.default_rng(1).normal(size=(2, 6, 3))
        return read_foreign(save(tmp_path / "r.npz", ids=np.array(list("abcdef")), logits=logits, **arrays))

    def test_by_labels(self, tmp_path):
        found = self.found(tmp_path, labels=np.array([2, 0, 1, 2, 0, 1]))
        order = class_order(found, self.CLASSES, np.array([0, 1, 2, 0, 1, 2]))
        assert complete(order, 3, found, self.CLASSES).tolist() == [2, 0, 1]

    def test_by_names(self, tmp_path):
        found = self.found(
            tmp_path, labels=np.array([1, 1, 1, 1, 1, 1]), classes=np.array(["bee", "ant", "cat"])
        )
        order = class_order(found, self.CLASSES, np.zeros(6, dtype=int))
        assert complete(order, 3, found, self.CLASSES).tolist() == [1, 0, 2]

    def test_the_columns_move_with_it(self, tmp_path):
        """Same labels and logits in another class order: the same signals."""
        logits = np.random.default_rng(1).normal(size=(2, 6, 3)).astype(np.float32)
        labels = np.array([0, 1, 2, 0, 1, 2])
        dataset = from_recording("x", "x", list("abcdef"), labels, self.CLASSES, ["train"] * 6)
        straight = save(tmp_path / "a.npz", ids=np.array(list("abcdef")), labels=labels, logits=logits)
        turn = np.array([2, 0, 1])  # column k of the second file is class turn[k]
        turned = save(
            tmp_path / "b.npz",
            ids=np.array(list("abcdef")),
            labels=np.argsort(turn)[labels],
            logits=logits[..., turn],
        )
        one, _ = imported(straight, tmp_path / "w", dataset)
        other, _ = imported(turned, tmp_path / "w", dataset)
        for name in ("loss", "margin", "pred", "probs_last"):
            np.testing.assert_allclose(one[name], other[name], rtol=1e-6)

    def test_unknown_order_is_refused(self, tmp_path):
        found = self.found(tmp_path)
        with pytest.raises(BadInput, match="--classes"):
            complete(class_order(found, self.CLASSES, np.zeros(6, dtype=int)), 3, found, self.CLASSES)

    def test_one_other_label_is_named(self, tmp_path):
        found = self.found(tmp_path, labels=np.array([0, 1, 2, 0, 1, 0]))
        with pytest.raises(BadInput, match="1 of 6 samples, first 'f'"):
            class_order(found, self.CLASSES, np.array([0, 1, 2, 0, 1, 2]))

    def test_labels_counted_from_one(self, tmp_path):
        given = np.array([0, 1, 2, 0, 1, 2])
        found = self.found(tmp_path, labels=given + 1)
        with pytest.raises(BadInput, match=r"label 3 of sample 'c' lies outside the 3 classes \(2 such"):
            complete(class_order(found, self.CLASSES, given), 3, found, self.CLASSES)

    def test_class_of_the_file_that_the_dataset_lacks(self, tmp_path):
        found = self.found(tmp_path, classes=np.array(["ant", "bee", "cow"]))
        with pytest.raises(BadInput, match="'cow' is none of the dataset"):
            class_order(found, self.CLASSES, np.zeros(6, dtype=int))


IDS2, Y2 = np.array(["a", "b"]), np.array([0, 1])
WRONG = {
    "nan ids": (dict(ids=np.array([1.0, np.nan]), labels=Y2, loss=np.ones((1, 2))), r"no id \(empty or NaN\) in 1 of 2 rows"),
    "doubled ids": (dict(ids=np.array(["a", "a"]), labels=Y2, loss=np.ones((1, 2))), "ids that stand there twice: 1, first 'a'"),
    "objects": (dict(ids=np.array(["a", 1], dtype=object), labels=Y2, loss=np.ones((1, 2))), "pickle can run code"),
    "swapped axes": (dict(ids=IDS2, labels=Y2, logits=np.ones((2, 5, 3))), "epochs come first"),
    "other T": (dict(ids=IDS2, labels=Y2, loss=np.ones((3, 2)), margin=np.ones((2, 2))), "different numbers of epochs"),
    "nothing": (dict(ids=IDS2, labels=Y2), "holds none of"),
    "typo": (dict(ids=IDS2, labels=Y2, logit=np.ones((1, 2, 3))), r"unknown array 'logit' \(did you mean 'logits'"),
    "labels": (dict(ids=IDS2, labels=np.array([0.5, 1]), loss=np.ones((1, 2))), "not fractions or NaN"),
    "labels too few": (dict(ids=IDS2, labels=np.array([0]), loss=np.ones((1, 2))), "expected one for each of 2"),
    "rows": (dict(ids=IDS2, labels=Y2, probs_oos=np.ones((3, 2))), "first axis must be 2 samples"),
    "axes": (dict(ids=IDS2, labels=Y2, less_cosine=np.ones((2, 3))), r"its axes are \(N, E, S\)"),
    "truth": (dict(ids=IDS2, labels=Y2, subset_trained=np.array([[0], [2]])), "more than 0 and 1"),
    "words": (dict(ids=IDS2, labels=Y2, grad_last=np.array([["a"], ["b"]])), "has to hold numbers"),
    "mode": (dict(ids=IDS2, labels=Y2, loss=np.ones((1, 2)), mode=np.array("train")), "mode 'train' is none of"),
    "val": (dict(ids=IDS2, labels=Y2, loss=np.ones((1, 2)), val_loss=np.ones((1, 3))), "without 'val_ids'"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_refused_by_what_stands_there(tmp_path, case):
    arrays, message = WRONG[case]
    with pytest.raises(BadInput, match=message):
        read_foreign(save(tmp_path / "r.npz", **arrays))


UNLIKELY = {
    "probs that are logits": (dict(probs=np.array([[[2.0, -1, 0, 0], [1, 1, 0, 0]]])), "name them 'logits'"),
    "logits that are probs": (dict(logits=np.array([[[0.5, 0.5, 0, 0], [1, 0, 0, 0]]])), "name them 'probs'"),
    "probability above 1": (dict(prob_label=np.array([[0.5, 1.5]])), "prob_label of 'b' is 1.5"),
    "other classes": (dict(logits=np.ones((1, 2, 5))), "5 columns per sample, and the dataset has 4 classes"),
}


@pytest.mark.parametrize("case", UNLIKELY)
def test_refused_by_the_values(tmp_path, case):
    arrays, message = UNLIKELY[case]
    path = save(tmp_path / "r.npz", ids=IDS2, labels=Y2, **arrays)
    with pytest.raises(BadInput, match=message):
        imported(path, tmp_path / "w")
    assert not list((tmp_path / "w").rglob("run.json"))


def test_texts_are_no_array_of_a_recording(tmp_path, logits, labels):
    path = save(tmp_path / "f.npz", ids=IDS, labels=labels, logits=logits, texts=np.array(["a b"] * N))
    with pytest.raises(BadInput, match="unknown array 'texts'"):
        read_foreign(path)


@pytest.mark.parametrize("name", ["x.ckpt", "x.pt", "x.joblib"])
def test_pickles_are_refused_by_name(tmp_path, name):
    (tmp_path / name).write_bytes(pickle.dumps({"logits": [1]}))
    with pytest.raises(BadInput, match="pickle can run code"):
        read_foreign(tmp_path / name)


STATS = {0: [[1.0], [0], [-1.0]]}
ODD_PICKLES = {
    "a list": ([1, 2], "holds a list, none of the pickles"),
    "two lists": ({0: [[1.0], [0]]}, "sample 0 has no three lists"),
    "text": ({0: [["a"], [0], [1.0]]}, "hold more than numbers"),
    "no presentation": ({0: [[], [], []]}, "one number per presentation"),
    "hits": ({0: [[1.0], [2], [1.0]]}, "hits of sample 0 must be 0 or 1"),
    "uneven": (STATS | {1: [[1.0, 2.0], [0, 1], [-1.0, 1.0]]}, "presented 1 to 2 times"),
    "sorted, uneven": ({"indices": np.arange(2), "forgetting counts": np.arange(3)}, "one position and one count"),
    "sorted, twice": ({"indices": np.zeros(2, int), "forgetting counts": np.arange(2)}, "stands there twice"),
    "objects": ({0: np.array([1, None])}, "an array of 'O8'"),
}  # fmt: skip


@pytest.mark.parametrize("case", ODD_PICKLES)
def test_pickles_that_hold_something_else(tmp_path, case):
    held, message = ODD_PICKLES[case]
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(held))
    with pytest.raises(BadInput, match=message):
        read_foreign(tmp_path / "x.pkl")


class Runs:
    """Unpickled by anybody else, it makes a folder."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("protocol", range(6))
def test_what_a_pickle_asks_for_is_not_done(tmp_path, protocol):
    held = pickle.dumps(STATS | {"train": Runs(tmp_path / "made")}, protocol=protocol)
    (tmp_path / "x.pkl").write_bytes(held)
    with pytest.raises(BadInput, match=r"asks for (posix|nt)\.mkdir; a pickle can run code"):
        read_foreign(tmp_path / "x.pkl")
    assert not (tmp_path / "made").exists()
    pickle.loads(held)  # the trap is a real one
    assert (tmp_path / "made").exists()


TRICKS = {
    "getattr": b"cbuiltins\ngetattr\n.",
    "numpy's own loader": b"cnumpy\nload\n.",
    "ctypes by numpy": b"cnumpy.ctypeslib\nload_library\n.",
    "a number outside": b"Pelsewhere\n.",
    "an extension": pickle.EXT1 + b"\x01.",
    "damaged": pickle.dumps(STATS)[:-4],
    "no pickle": b"sample_id,loss\n",
    "empty": b"",
    # sets an attribute of the reader's own class for arrays, then leaves it there as the value
    "the reader itself": b"\x80\x02cnumpy\ndtype\nN}X\x04\x00\x00\x00textK\x01s\x86b.",
}


@pytest.mark.parametrize("case", TRICKS)
def test_pickles_that_try_more(tmp_path, case):
    (tmp_path / "x.pkl").write_bytes(TRICKS[case])
    with pytest.raises(BadInput, match=r"x\.pkl"):
        read_foreign(tmp_path / "x.pkl")


def test_a_pickle_under_another_name(tmp_path):
    (tmp_path / "x.npz").write_bytes(pickle.dumps({"logits": [1]}))
    (tmp_path / "x.npy").write_bytes(pickle.dumps({"logits": [1]}))
    for name in ("x.npz", "x.npy"):
        with pytest.raises(BadInput, match="not a"):
            read_foreign(tmp_path / name)


def test_cut_short(tmp_path, logits):
    np.save(tmp_path / "out.npy", logits)
    whole = (tmp_path / "out.npy").read_bytes()
    (tmp_path / "out.npy").write_bytes(whole[:-8])
    found = read_foreign(tmp_path / "out.npy")
    with pytest.raises(BadInput, match="ends after"):
        list(found.read())


TABLES = {
    "no ids": ("loss,epoch\n1,0\n", "no column of ids"),
    "twice": ("sample_id,epoch,loss\na,0,1\na,0,2\n", "sample 'a' stands twice in epoch 0"),
    "no epoch": ("sample_id,loss\na,1\na,2\n", "without a column 'epoch'"),
    "two labels": (
        "sample_id,epoch,label,loss\na,0,x,1\na,1,y,2\n",
        "labels that change: those of 1 of 1 samples, first 'a'",
    ),
    "text": ("sample_id,epoch,loss\na,0,low\n", "holds text where numbers"),
    "gap": ("sample_id,epoch,loss\n,0,1\n", r"no id \(empty or NaN\)"),
    "columns": ("sample_id,epoch,logits_0,logits_2\na,0,1,2\n", "numbered"),
}


@pytest.mark.parametrize("case", TABLES)
def test_tables_refused(tmp_path, case):
    content, message = TABLES[case]
    (tmp_path / "r.csv").write_text(content)
    with pytest.raises(BadInput, match=message):
        list(read_foreign(tmp_path / "r.csv").read())


def test_unknown_ids_are_counted_and_named(tmp_path):
    dataset = from_recording("pets", "x", ["a", "b"], Y2, None, ["train"] * 2)
    path = save(
        tmp_path / "r.npz", ids=np.array(["a", "q", "r"]), labels=np.array([0, 1, 1]), loss=np.ones((1, 3))
    )
    with pytest.raises(BadInput, match="pets lacks 2 of 3 ids, first 'q'"):
        match(read_foreign(path), dataset)


def test_the_same_again_writes_nothing(tmp_path, logits, labels):
    path = save(tmp_path / "r.npz", sample_ids=np.array(IDS), labels=labels, logits=logits)
    _, first = imported(path, tmp_path / "w")
    times = {found: found.stat().st_mtime_ns for found in (tmp_path / "w").rglob("*") if found.is_file()}
    _, again = imported(path, tmp_path / "w")
    assert again == first
    assert times == {
        found: found.stat().st_mtime_ns for found in (tmp_path / "w").rglob("*") if found.is_file()
    }
    turned = save(
        tmp_path / "t.npz", sample_ids=np.array(IDS[::-1]), labels=labels[::-1], logits=logits[:, ::-1]
    )
    other, record = imported(turned, tmp_path / "w", bare(read_foreign(path)))
    assert record["run_id"] != first["run_id"]
    np.testing.assert_array_equal(
        other["margin"], load_signals(tmp_path / "w", first["run_id"]).in_mode("in_training")["margin"]
    )


def test_a_bare_dataset_says_what_it_lacks(tmp_path, labels):
    dataset = from_recording("pets", "pets.npz", IDS, labels, None, ["train"] * N)
    with pytest.raises(BadInput, match="ids and labels alone"):
        dataset.content([0])
    with pytest.raises(BadInput, match="outside the 2 classes"):
        from_recording("pets", "pets.npz", IDS, labels, ["x", "y"], ["train"] * N)
