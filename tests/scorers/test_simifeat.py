"""SimiFeat: the soft histogram of neighbours' labels, its vote and its ranking."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tracesift.catalog.schema import BadInput
from tracesift.scorers.contract import compute
from tracesift.scorers.noise.neighbors import label_histogram as module
from tracesift.scorers.noise.neighbors.label_histogram import label_histogram
from tracesift.scorers.noise.neighbors.simifeat_rank import simifeat_rank
from tracesift.scorers.noise.neighbors.simifeat_vote import simifeat_vote


def histogram_by_distances(x, labels, k, min_similarity=0.0):
    """The published steps on the whole distance matrix, in float64 tensors."""
    unit = F.normalize(torch.from_numpy(x).double(), dim=1)
    distance = 1 - unit @ unit.T
    distance.fill_diagonal_(-1.0)  # itself first, also among copies
    values, index = distance.topk(k, dim=1, largest=False)
    values[:, 0] = 2 * values[:, 1] - values[:, 2]
    marks = F.one_hot(torch.from_numpy(labels))[index].double()  # (N, k, K)
    return F.normalize(((1 - min_similarity - values)[..., None] * marks).sum(dim=1), dim=1)


@pytest.mark.parametrize(("k", "min_similarity"), [(10, 0.0), (3, 0.0), (25, 0.5)])
def test_against_the_whole_distance_matrix(clusters, k, min_similarity):
    x, labels, _ = clusters(samples=300, spread=0.6)
    expected = histogram_by_distances(x, labels, k, min_similarity)
    own = F.one_hot(torch.from_numpy(labels)).bool()
    rank = F.nll_loss(torch.log(expected + 1e-8), torch.from_numpy(labels), reduction="none")
    vote = expected.masked_fill(own, -1).amax(dim=1) - expected[own]
    settings = {"k": k, "min_similarity": min_similarity}
    np.testing.assert_allclose(simifeat_rank(x, labels, **settings), rank, atol=2e-4)
    np.testing.assert_allclose(simifeat_vote(x, labels, **settings), vote, atol=2e-5)


def test_above_zero_is_the_published_vote(clusters):
    x, labels, _ = clusters(samples=400, spread=1.0)
    most = histogram_by_distances(x, labels, 10).argmax(dim=1).numpy()
    score = simifeat_vote(x, labels)
    assert 0.1 < (score > 0).mean() < 0.6
    np.testing.assert_array_equal(score > 0, most != labels)


def test_the_own_distance_is_replaced():
    """With 1 for its own cosine the first sample would keep its label; so all three classes are level."""
    x = np.array([[1.0, 0.0], [0.8, 0.6], [0.8, -0.6], [0.0, 1.0]])  # cosines 0.8, 0.8, 0 to the first
    labels = np.array([0, 1, 2, 1])
    _, histogram = next(label_histogram(x, labels, k=3, min_similarity=0.0))
    np.testing.assert_allclose(histogram[0], np.ones(3) / np.sqrt(3), atol=1e-9)  # 2 * 0.8 - 0.8 for itself
    assert simifeat_vote(x, labels, k=3)[0] == 0.0


def test_blocks_leave_no_trace(clusters, monkeypatch):
    x, labels, _ = clusters(samples=97)
    whole = simifeat_rank(x, labels), simifeat_vote(x, labels)
    blocks = module.row_blocks
    monkeypatch.setattr(module, "row_blocks", lambda rows, width: blocks(rows, width, elements=30))
    np.testing.assert_array_equal(simifeat_rank(x, labels), whole[0])
    np.testing.assert_array_equal(simifeat_vote(x, labels), whole[1])


def test_no_vector_no_score_and_no_vote(clusters):
    x, labels, _ = clusters(samples=60)
    holed = x.copy()
    holed[[4, 30]] = np.nan
    rest = np.delete(np.arange(60), [4, 30])
    for scorer in (simifeat_rank, simifeat_vote):
        score = scorer(holed, labels)
        assert np.isnan(score[[4, 30]]).all()
        np.testing.assert_allclose(score[rest], scorer(x[rest], labels[rest]), atol=1e-12)


def test_few_samples_one_class_and_opposite_directions():
    for scorer in (simifeat_rank, simifeat_vote):
        assert np.isnan(scorer(np.eye(2), np.array([0, 1]))).all()
        with pytest.raises(BadInput, match="3 or more"):
            scorer(np.eye(3), np.arange(3), k=2)
    same = np.random.default_rng(0).normal(1, 0.1, size=(20, 4))
    assert np.allclose(simifeat_vote(same, np.zeros(20, dtype=int)), -1)
    assert np.allclose(simifeat_rank(same, np.zeros(20, dtype=int)), 0, atol=1e-7)
    opposite = np.array([[1.0, 0.0], [-1.0, 0.1], [-1.0, -0.1]])  # negative cosines are no support
    assert simifeat_rank(opposite, np.array([0, 1, 1]), k=3)[0] == pytest.approx(-np.log(1e-8))


def test_wrong_labels_are_suspicious(clusters, auroc):
    x, labels, true = clusters(rate=0.3)
    frame = compute(["simifeat_rank", "simifeat_vote"], {"embedding": x, "labels": labels})
    for name in frame.columns:
        assert auroc(frame[name].to_numpy(), labels != true) > 0.98
    flagged = frame["simifeat_vote"].to_numpy() > 0
    assert (flagged == (labels != true)).mean() > 0.95
