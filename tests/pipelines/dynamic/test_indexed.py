"""The row travels with every kind of sample."""

import pytest
import torch
from torch.utils.data import DataLoader

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.dynamic.indexed import Indexed


def test_tuples_dicts_and_single_values():
    assert Indexed([("x", 1), ["y", 2]])[1] == (torch.tensor(1), "y", 2)
    assert Indexed([{"x": 5}])[0] == {"x": 5, "row": torch.tensor(0)}
    assert Indexed([7.0, 8.0])[0] == (torch.tensor(0), 7.0)
    assert len(Indexed("abc")) == 3
    with pytest.raises(BadInput, match="'row' of their own"):
        Indexed([{"row": 5}])[0]


def test_rows_are_int64_behind_a_loader():
    rows, values = next(iter(DataLoader(Indexed(torch.arange(10.0, 16)), batch_size=3, sampler=[4, 1, 5])))
    assert rows.dtype == torch.int64
    assert (rows.tolist(), values.tolist()) == ([4, 1, 5], [14.0, 11.0, 15.0])
