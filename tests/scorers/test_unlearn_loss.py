import numpy as np
import pytest

from tracesift.catalog.schema import MissingSignal
from tracesift.scorers.contract import compute, find


def test_it_is_the_signal_of_the_job_as_it_stands():
    values = np.array([0.0, 0.25, 1.0, np.nan])
    found = compute("unlearn_loss", {"unlearn_loss": values})["unlearn_loss"].to_numpy()
    np.testing.assert_array_equal(found, values)
    assert find("unlearn_loss").jobs == ("worst_case",)


def test_without_the_job_the_message_says_how_to_get_it():
    with pytest.raises(MissingSignal, match="record --job worst_case"):
        compute("unlearn_loss", {"loss": np.ones((2, 3))})
