import numpy as np

from tracesift.scorers.contract import compute


def test_what_stands_alone_and_is_not_fitted_comes_first(auroc):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 6))
    lonely = np.zeros(300, dtype=bool)
    lonely[:12] = True
    x[lonely] *= 4
    leverage = np.einsum("nd,de,ne->n", x, np.linalg.inv(x.T @ x), x)
    residual = np.clip(0.1 + 0.05 * rng.normal(size=300) + 0.3 * lonely, 0, 1)
    given = {"trak_self": leverage[:, None], "trak_residual": residual[:, None]}
    score = compute("trak_self_influence", given).to_series().to_numpy()
    assert auroc(score, lonely) > 0.95
    assert ((score >= 0) & (score <= 1)).all()
    one = compute("trak_self_influence", {"trak_self": [[0.5, 0.25]], "trak_residual": [[0.0, 1.0]]})
    assert one["trak_self_influence"].to_list() == [0.1875]
    assert np.isnan(compute("trak_self_influence", {"trak_self": [[np.nan]], "trak_residual": [[0.5]]})[0, 0])
