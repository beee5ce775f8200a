"""Torch datasets that carry the row, through a shuffling loader into a recorder."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.recorder import Recorder
from tracesift.pipelines.rows import RowDataset, WithRows, rows_of


def test_rows_of_ids(blobs):
    ids = blobs.samples["sample_id"]
    wanted = np.array([5, 0, 7, 5])
    np.testing.assert_array_equal(rows_of(blobs, ids.gather(wanted).to_list()), wanted)
    with pytest.raises(BadInput, match="'nobody' is not in"):
        rows_of(blobs, [ids[0], "nobody"])


def test_a_shuffling_loader_records_every_sample(blobs, tmp_path):
    data = RowDataset(blobs, transform=lambda row: torch.tensor(list(row.values())))
    rec = Recorder(tmp_path, blobs)
    for rows, x, labels in DataLoader(data, batch_size=16, shuffle=True):
        assert rows.dtype == torch.int64
        assert torch.equal(labels, torch.tensor(blobs.labels)[rows])
        np.testing.assert_allclose(x.numpy(), blobs.inputs[rows.numpy()].to_numpy())
        rec.update(rows, x[:, :3], labels)
    assert rec.end_epoch().complete


def test_splits_and_kinds(squares, sentences):
    for dataset in (squares, sentences):
        row, item, label = RowDataset(dataset, "test")[0]
        assert row.item() == dataset.rows("test")[0]
        assert label.item() == dataset.labels[row]
        expected = dataset.inputs[int(row)]
        assert item == expected if isinstance(item, str) else np.array_equal(item, expected)


def test_the_users_own_torch_dataset(blobs):
    rows = blobs.rows("train")[::-1][:6]
    ids = blobs.samples["sample_id"].gather(rows).to_list()
    inner = TensorDataset(torch.arange(6.0), torch.arange(6))
    wrapped = WithRows(inner, blobs, ids)
    row, x, y = wrapped[4]
    assert (row.item(), x.item(), y.item()) == (rows[4], 4.0, 4)
    assert len(wrapped) == 6
    with pytest.raises(BadInput, match="one id per item"):
        WithRows(inner, blobs, ids[:5])
