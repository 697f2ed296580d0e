"""Gaussian processes and gradient flow by products alone, beside those by matrices."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ntkfast as nf

pytest.importorskip("sklearn")

from numpy.testing import assert_allclose, assert_array_equal

from ntkfast.kernels.evaluation import Evaluation
from ntkfast.regression import GaussianProcess, GradientFlow, SolverWarning
from ntkfast.regression.repeated import Repeated

EPS = float(np.finfo(np.float64).eps)
g = np.random.default_rng(0)
X, Z = g.normal(size=(90, 3)), g.normal(size=(20, 3))
Y = np.stack([np.sin(X[:, 0]), X[:, 1] ** 2 - 3], axis=1) + 0.3 * g.normal(size=(90, 2))
NET = nf.FullyConnected(2, parameterization="ntk", w_std=1.3, b_std=0.3)
TOL = 1e-9


# --- Gaussian processes --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("y", "memory"),
    [(Y, None), pytest.param(Y[:, 0], 30_000, marks=pytest.mark.slow)],
    ids=["stored", "recomputed"],
)
def test_posterior_by_products(y: Any, memory: int | None) -> None:
    options: dict[str, Any] = {"noise": 0.05, "scale": 1.7, "tune": (), "normalize_y": True}
    dense = GaussianProcess(NET, method="dense", **options).fit(X, y)
    found = GaussianProcess(NET, method="lanczos", tol=TOL, memory=memory, **options).fit(X, y)
    assert (dense.method_, found.method_) == ("dense", "lanczos")
    A = 1.7 * NET.ntk(X) + 0.05 * np.eye(90)
    # A residual r moves coefficients by A^-1 r, and predictions by k^T A^-1 r.
    K = 1.7 * NET.ntk(X, Z)
    move = np.linalg.norm(np.linalg.solve(A, K), axis=0).max() * TOL * np.linalg.norm(y)
    for spread in ("return_std", "return_cov"):
        one, other = dense.predict(Z, **{spread: True}), found.predict(Z, **{spread: True})
        assert_allclose(other[0], one[0], rtol=0, atol=10 * move)
        assert other[1].shape == one[1].shape
    assert np.array_equal(other[1], np.swapaxes(other[1], 0, 1))
    bound = (TOL * np.linalg.norm(K, axis=0).max()) ** 2 / 0.05
    rounding = 50 * EPS * np.linalg.cond(A) * 1.7 * NET.ntk.diag(Z).max()
    assert_allclose(other[1], one[1], rtol=0, atol=(bound + rounding) * found.deviation_.max() ** 2)
    assert found.sample_y(Z, 3).shape[-1] == 3


@pytest.mark.parametrize("noise", [1e-3, 0.05, 3.0])
def test_variances_are_never_too_small(noise: float) -> None:
    options: dict[str, Any] = {"noise": noise, "tune": ()}
    exact = GaussianProcess(NET, **options).fit(X, Y).predict(Z, return_std=True)[1] ** 2
    rough = GaussianProcess(NET, method="lanczos", tol=1e-2, **options).fit(X, Y)
    found = rough.predict(Z, return_std=True)[1] ** 2
    sizes = np.linalg.norm(NET.ntk(X, Z), axis=0)[:, None]
    rounding = 1e-13 * sizes**2 / noise
    assert np.all(found - exact >= -rounding)
    assert np.all(found - exact <= (1e-2 * sizes) ** 2 / noise + rounding)


def test_likelihood_is_within_its_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ntkfast.regression.preconditioner.RANK", 2)  # of 90 rows, 19
    within = []
    for noise in (1e-4, 1.0):
        for columns in (1, 2):
            y = Y[:, :columns]
            exact = GaussianProcess(NET, noise=noise, tune=()).fit(X, y)
            found = GaussianProcess(NET, noise=noise, tune=(), method="lanczos", tol=TOL).fit(X, y)
            value, error = found.log_marginal_likelihood(return_std=True)
            assert value == found.log_marginal_likelihood_value_
            assert 0 < error < 0.1 * y.size
            within.append(abs(value - exact.log_marginal_likelihood_value_) / error)
            other = found.log_marginal_likelihood(scale=2.0, b_std=0.1, return_std=True)
            wanted = exact.log_marginal_likelihood(scale=2.0, b_std=0.1)
            within.append(abs(other[0] - wanted) / other[1])
    assert max(within) < 4
    assert np.mean(within) < 1.5
    assert exact.log_marginal_likelihood(return_std=True)[1] == 0


def test_determinants_have_no_bias() -> None:
    """With many probes, and a preconditioner that is none, little, or the matrix."""
    few = X[:50]
    K = NET.ntk(few)
    for rank, ridge in ((0, 0.1), (5, 0.1), (20, 1e-4), (50, 1e-4)):
        repeated = Repeated.of(Evaluation(NET.ntk), few, ridge, 1 << 24, TOL, rank)
        wanted = np.linalg.slogdet(K + ridge * np.eye(50))[1]
        found, error = repeated.log_determinant(400, np.random.default_rng(1))
        assert error < 2
        assert abs(found - wanted) < 4 * error + 1e-9
        P = repeated.precondition
        B = np.eye(50)
        root = P.root(B)
        assert_allclose(root @ root, P(B), rtol=0, atol=1e-12 / ridge)
        assert_allclose(P.log_determinant, -np.linalg.slogdet(P(B))[1], rtol=1e-9)


def test_a_sample_of_rows_tunes() -> None:
    options: dict[str, Any] = {"method": "lanczos", "tuning_rows": 60, "random_state": 3}
    model = GaussianProcess(NET, **options).fit(X, Y)
    rows = np.sort(np.random.RandomState(3).choice(90, 60, replace=False))
    part = GaussianProcess(NET, method="dense").fit(X[rows], Y[rows])
    assert (model.noise_, model.scale_) == (part.noise_, part.scale_)
    assert len(model.dual_coef_) == 90


def test_memory_chooses() -> None:
    for make in (GaussianProcess, GradientFlow):
        assert make(NET).fit(X, Y).method_ == "dense"
        assert make(NET, memory=32 * 89**2).fit(X, Y).method_ == "lanczos"
    with pytest.raises(ValueError, match="noise: expected a number above 0"):
        GaussianProcess(NET, noise=0, tune=(), method="lanczos").fit(X, Y)
    with pytest.raises(ValueError, match="method: expected one of"):
        GaussianProcess(NET, method="cg").fit(X, Y)


def test_repeated_rows_with_little_noise_are_told() -> None:
    twice = np.repeat(X[:30], 2, axis=0)
    model = GaussianProcess(NET, noise=1e-15, tune=(), method="lanczos")
    with pytest.warns(SolverWarning, match="not solved"):
        model.fit(twice, Y[:60])


# --- Files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["dense", pytest.param("lanczos", marks=pytest.mark.slow)])
def test_saved_models_predict_the_same_bits(method: str, tmp_path: Path) -> None:
    file = tmp_path / "model.npz"
    images = X.reshape(90, 1, 3, 1)
    cnn = nf.Convolutional(1, shape=(1, 3, 1))
    process = {"tune": ("noise", "b_std"), "bounds": {"b_std": (0.2, 0.4)}, "normalize_y": True}
    for model, inputs, others in (
        (GaussianProcess(NET, method=method, **process), X, Z),
        (GaussianProcess(cnn, method=method, tune=()), images, images[:9] + 1),
        (GradientFlow(NET, method=method, ridge=0.1, momentum=0.5), X.astype("f4"), Z),
        (GradientFlow(cnn, method=method, kind="nngp", ridge=0.1), images, images[:9] + 1),
    ):
        model.fit(inputs, Y).save(file)
        again = nf.regression.load(file)
        assert type(again) is type(model)
        assert again.get_params() == model.get_params()
        assert again.kernel_ == model.kernel_
        one, other = (each.predict(others, return_std=True) for each in (model, again))
        for found, wanted in zip(other, one, strict=True):
            assert_array_equal(found, wanted, strict=True)
        if isinstance(model, GaussianProcess):
            assert again.parameters_ == model.parameters_
            assert again.log_marginal_likelihood_value_ == model.log_marginal_likelihood_value_
        else:
            assert_array_equal(again.predict(others, [1, 9]), model.predict(others, [1, 9]))
    assert [path.name for path in tmp_path.iterdir()] == ["model.npz"]
    with pytest.raises(TypeError, match="loss: expected a number or a name"):
        GradientFlow(NET, loss=lambda f, Y: f - Y).fit(X, Y).save(file)


# --- Gradient flow -------------------------------------------------------------------------------

OPTIONS = [
    {},
    {"kind": "nngp"},
    {"ridge": 0.0, "learning_rate": 0.5},
    {"momentum": 0.8},
    {"momentum": 0.8, "nesterov": True},
]


@pytest.mark.parametrize(
    "options",
    [OPTIONS[0], *(pytest.param(one, marks=pytest.mark.slow) for one in OPTIONS[1:])],
    ids=str,
)
def test_flow_by_products(options: dict[str, Any]) -> None:
    given = {"ridge": 0.1} | options
    dense = GradientFlow(NET, method="dense", **given).fit(X, Y)
    found = GradientFlow(NET, method="lanczos", tol=1e-10, **given).fit(X, Y)
    times: list[float] = [0, 1, 30, 3000] + [np.inf] * (given["ridge"] > 0)
    cases: list[dict[str, Any]] = [{"time": times}]
    if not given.get("nesterov"):
        cases.append({"steps": [0, 3, 200]})
    else:
        cases = [{"steps": [0, 3, 200]}]
    K = NET.ntk(X)
    condition = np.linalg.norm(K, 2) / max(given["ridge"], 180 / 3000) + 1
    for case in cases:
        one, other = (model.predict(Z, **case, return_std=True) for model in (dense, found))
        # coefficients are known to 1e-10 and as the condition says
        assert_allclose(other[0], one[0], rtol=0, atol=1e-9 * condition)
        assert_allclose(other[1] ** 2, one[1] ** 2, rtol=0, atol=1e-8 * condition)
        one, other = (model.predict(None, **case) for model in (dense, found))
        assert_allclose(other, one, rtol=0, atol=1e-9 * condition)
    cov = found.predict(Z[:5], time=30, return_cov=True)[1]
    assert_allclose(cov, dense.predict(Z[:5], time=30, return_cov=True)[1], atol=1e-8 * condition)
    loss = found.training_loss(times[:4])
    assert_allclose(loss, dense.training_loss(times[:4]), rtol=1e-7)
    assert found.max_learning_rate() == pytest.approx(dense.max_learning_rate(), rel=1e-9)


def test_other_losses_by_products() -> None:
    hot = np.eye(3)[np.arange(90) % 3]
    for case in ({"time": [1.0, 50.0]}, {"steps": [1, 20]}):
        one, other = (
            GradientFlow(NET, loss="cross_entropy", method=method).fit(X, hot).predict(Z, **case)
            for method in ("dense", "lanczos")
        )
        assert_allclose(other, one, atol=1e-7)


def test_spaces_are_grown_once_for_all_times(monkeypatch: pytest.MonkeyPatch) -> None:
    model = GradientFlow(NET, method="lanczos").fit(X, Y)
    count = 0
    times = type(model.training_).times

    def counted(self: Any, kind: str, B: Any) -> Any:
        nonlocal count
        count += 1
        return times(self, kind, B)

    monkeypatch.setattr(type(model.training_), "times", counted)
    model.predict(Z, [1, 30, 300])
    first, count = count, 0
    model.predict(Z, [300])
    assert first <= count + 10


def test_columns_in_parts() -> None:
    one = GradientFlow(NET, method="lanczos").fit(X, Y)
    few = GradientFlow(NET, method="lanczos", memory=8 * 90 * 400).fit(X, Y)
    assert_allclose(few.predict(Z, 30), one.predict(Z, 30), atol=1e-7)


def test_what_products_cannot_tell() -> None:
    model = GradientFlow(NET, method="lanczos").fit(X, Y)
    with pytest.raises(ValueError, match=r"Z: expected inputs .* 64800 bytes for 90 inputs"):
        model.predict(None, 3, return_std=True)
    with pytest.raises(ValueError, match="training_loss: expected"):
        model.training_loss(3, ensemble=True)
    pytest.importorskip("matplotlib")
    with pytest.raises(ValueError, match="times: expected numbers for a model"):
        nf.plot.learning_curves(model)
    assert len(nf.plot.learning_curves(model, [1, 30]).axes[0].lines) == 1
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("error", SolverWarning)
        patch.setattr("ntkfast.regression.krylov.STEPS", 10)
        with pytest.raises(SolverWarning, match="the answer is not known"):
            model.predict(Z, 1e9)
