"""Gaussian processes: scikit-learn's with the same kernel, 50 digits, and brute force."""

from __future__ import annotations

import math
import pickle
from typing import Any

import numpy as np
import pytest
from mpmath import mp
from numpy.typing import NDArray

import ntkfast as nf

pytest.importorskip("sklearn")

from scipy.optimize import minimize
from scipy.stats import multivariate_normal
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import WhiteKernel
from sklearn.utils.estimator_checks import check_estimator

from ntkfast.regression import GaussianProcess
from ntkfast.regression.marginal_likelihood import Evidence, Fit
from ntkfast.regression.positive import factorised
from ntkfast.regression.tuning import Search
from ntkfast.sklearn import NTKKernel

EPS = float(np.finfo(np.float64).eps)
g = np.random.default_rng(0)
X, Z = g.normal(size=(40, 3)), g.normal(size=(9, 3))
Y = np.stack([np.sin(X[:, 0]), X[:, 1] ** 2 - 3], axis=1) + 0.3 * g.normal(size=(40, 2))
NET = nf.FullyConnected(2, parameterization="ntk", w_std=1.3, b_std=0.3)


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("y", [Y, Y[:, 0]], ids=["columns", "vector"])
@pytest.mark.parametrize("kind", ["ntk", "nngp"])
def test_scikit_learn_has_the_same(kind: str, y: NDArray[Any], normalize: bool) -> None:
    ours = GaussianProcess(
        NET, kind=kind, noise=0.05, scale=1.7, tune=(), normalize_y=normalize
    ).fit(X, y)
    kernel = NTKKernel(NET, kind=kind, scale=1.7)
    noisy = GaussianProcessRegressor(
        kernel + WhiteKernel(0.05), alpha=0, optimizer=None, normalize_y=normalize
    ).fit(X, y)
    clean = GaussianProcessRegressor(kernel, alpha=0.05, optimizer=None, normalize_y=normalize).fit(
        X, y
    )
    condition = np.linalg.cond(kernel(X) + 0.05 * np.eye(40))
    tolerance: dict[str, Any] = {"rtol": 0, "atol": 10 * EPS * condition}
    for theirs, with_noise in ((noisy, True), (clean, False)):
        for spread in ("return_std", "return_cov"):
            found = ours.predict(Z, with_noise=with_noise, **{spread: True})
            for one, other in zip(found, theirs.predict(Z, **{spread: True}), strict=True):
                assert one.shape == other.shape
                np.testing.assert_allclose(one, other, **tolerance)
    wanted = noisy.log_marginal_likelihood()
    assert ours.log_marginal_likelihood_value_ == pytest.approx(wanted, rel=1e-13)
    for noise, scale, b_std in [(0.3, 0.5, 0.3), (1e-3, 2.0, 0.9)]:
        net = nf.FullyConnected(2, parameterization="ntk", w_std=1.3, b_std=b_std)
        other = GaussianProcessRegressor(
            NTKKernel(net, kind=kind, scale=scale) + WhiteKernel(noise),
            alpha=0,
            optimizer=None,
            normalize_y=normalize,
        ).fit(X, y)
        found = ours.log_marginal_likelihood(noise, scale, b_std=b_std)
        assert found == pytest.approx(other.log_marginal_likelihood(), rel=1e-11)


@pytest.mark.parametrize("noise", [1e-10, 1e-3, 1e8])
def test_fifty_digits(noise: float) -> None:
    """Mean, covariance and likelihood from the formulas, for the very Gram matrices."""
    few, y, K = X[:8], Y[:8], NET.ntk
    ours = GaussianProcess(NET, noise=noise, tune=()).fit(few, y)
    mean, cov = ours.predict(Z[:3], return_cov=True)
    with mp.workdps(50):
        A = mp.matrix(K(few).tolist()) + mp.mpf(noise) * mp.eye(8)
        B, targets = mp.matrix(K(Z[:3], few).tolist()), mp.matrix(y.tolist())
        inverse = A**-1
        wanted = B * inverse * targets
        rest = mp.matrix(K(Z[:3]).tolist()) - B * inverse * B.T
        square = sum((targets.T * inverse * targets)[c, c] for c in range(2))
        likelihood = -(square + 2 * mp.log(mp.det(A)) + 16 * mp.log(2 * mp.pi)) / 2
    condition = np.linalg.cond(K(few) + noise * np.eye(8))
    size = np.abs(np.array(wanted.tolist(), float)).max()
    np.testing.assert_allclose(
        mean, np.array(wanted.tolist(), float), rtol=0, atol=50 * EPS * condition * size
    )
    np.testing.assert_allclose(
        cov[..., 0], np.array(rest.tolist(), float), rtol=0, atol=50 * EPS * condition
    )
    assert ours.log_marginal_likelihood_value_ == pytest.approx(float(likelihood), rel=1e-12)


# --- Tuning --------------------------------------------------------------------------------------


@pytest.mark.parametrize("tuned", [("noise", "scale"), ("noise",), ("scale",)], ids="+".join)
@pytest.mark.parametrize("columns", [1, 2])
def test_noise_and_scale_are_the_best_ones(tuned: tuple[str, ...], columns: int) -> None:
    """Against a search in both by derivative-free descent on the density itself."""
    y = Y[:, :columns]
    model = GaussianProcess(NET, noise=0.2, scale=0.7, tune=tuple(tuned)).fit(X, y)
    K = NET.ntk(X)

    def minus(logs: NDArray[Any]) -> float:
        noise, scale = np.exp(logs)
        density = multivariate_normal(cov=scale * K + noise * np.eye(40))
        return -float(np.sum(density.logpdf(y.T)))

    free = [name in tuned for name in ("noise", "scale")]
    start = np.log([0.2, 0.7])
    found = minimize(
        lambda part: minus(np.where(free, np.resize(part, 2) if sum(free) == 1 else part, start)),
        start[free],
        method="Nelder-Mead",
        options={"xatol": 1e-8, "fatol": 1e-11, "maxiter": 1000},
    )
    assert model.log_marginal_likelihood_value_ == pytest.approx(-found.fun, rel=1e-11)
    at = [value for value, one in zip((model.noise_, model.scale_), free, strict=True) if one]
    np.testing.assert_allclose(np.log(at), found.x, atol=1e-5)
    if not free[0]:
        assert model.noise_ == 0.2
    if not free[1]:
        assert model.scale_ == 0.7


def test_likelihood_from_eigenvalues() -> None:
    K = NET.ntk(X)
    evidence = Evidence.of(K.copy(), Y)
    density = multivariate_normal(cov=0.4 * K + 0.1 * np.eye(40))
    assert float(evidence.at(0.4, 0.1)) == pytest.approx(np.sum(density.logpdf(Y.T)), rel=1e-12)
    assert evidence.at([0.4, 1.0], [0.1, 0.0]).shape == (2,)
    K[:, 0], K[0] = K[:, 1], K[1]
    K[0, 0] = K[1, 1]
    assert Evidence.of(K, Y).at(1.0, 0.0) == -np.inf


def test_parameters_of_the_network() -> None:
    names = ("noise", "scale", "b_std", "w_std")
    model = GaussianProcess(NET, tune=names, bounds={"b_std": (0.05, 5.0)}).fit(X, Y[:, 0])
    best = model.log_marginal_likelihood_value_
    assert set(model.parameters_) == {"b_std", "w_std"}
    assert model.kernel_.network.b_std == model.parameters_["b_std"]
    assert best > GaussianProcess(NET).fit(X, Y[:, 0]).log_marginal_likelihood_value_
    for name, low, high in (("b_std", 0.05, 5.0), ("w_std", 0.1, 10.0)):
        value = model.parameters_[name]
        assert low * (1 - 1e-12) <= value <= high * (1 + 1e-12)
        for factor in (0.98, 1.02):  # nothing near is better, scale and noise tuned again
            if low <= value * factor <= high:
                fixed = nf.FullyConnected(
                    2, parameterization="ntk", **(model.parameters_ | {name: value * factor})
                )
                near = GaussianProcess(fixed).fit(X, Y[:, 0])
                assert near.log_marginal_likelihood_value_ <= best + 1e-7


@pytest.mark.parametrize("noise", [0.1, 0.0], ids=["noise", "none"])
@pytest.mark.parametrize("own", [(), ("noise",), ("scale",), ("noise", "scale")], ids=str)
def test_slopes_of_the_likelihood(own: tuple[str, ...], noise: float) -> None:
    """Against differences of the likelihood, each with the best scale and noise of its own.

    Targets without noise end at the least noise there is, which moves with the kernel.
    """
    targets = NET.ntk(X) @ np.linspace(-1, 1, 40) if noise == 0 else Y[:, 0]
    if noise == 0 and "noise" not in own:
        targets, noise = Y[:, 0], 0.3
    names = ("b_std", "w_std")

    def fit(b_std: float, w_std: float, names: tuple[str, ...] = ()) -> Any:
        start = Fit(0.0, 0.7, noise or 0.1)
        search = Search(NET.ntk, X, targets[:, None], None, None, start, set(own), {})
        return search._fit({"b_std": b_std, "w_std": w_std}, names)

    found, slopes = fit(0.3, 1.3, names)
    assert (found.noise < 1e-9) == (targets is not Y[:, 0] and noise == 0)
    h = 1e-4
    for slope, step in zip(slopes, np.eye(2), strict=True):
        ends = [fit(*(np.array([0.3, 1.3]) + k * h * step))[0].value for k in (1, -1, 2, -2)]
        wanted = (8 * (ends[0] - ends[1]) - (ends[2] - ends[3])) / (12 * h)
        assert slope == pytest.approx(wanted, rel=1e-6, abs=1e-6 * abs(found.value))


def test_parameters_of_parts() -> None:
    kernel = NET.ntk + 0.5 * nf.Gaussian(0.3).ard([1.0, 2.0, 4.0])
    names = ("noise", "scale", "k2.factor", "k2.kernel.length_scales")
    model = GaussianProcess(kernel, tune=names).fit(X[:20], Y[:20])
    scales = [f"k2.kernel.length_scales.{k}" for k in range(3)]
    assert list(model.parameters_) == ["k2.factor", *scales]
    start = GaussianProcess(kernel).fit(X[:20], Y[:20]).log_marginal_likelihood_value_
    assert model.log_marginal_likelihood_value_ > start + 1
    assert model.parameters_.items() <= model.kernel_.parameters().items()
    again = model.log_marginal_likelihood(**model.parameters_)
    assert again == pytest.approx(model.log_marginal_likelihood_value_, rel=1e-12)
    wanted = model.log_marginal_likelihood(**{"k1.b_std": 0.5})
    assert model.log_marginal_likelihood(k1__b_std=0.5) == wanted != again
    with pytest.raises(ValueError, match=r"k3\.c: expected one of k1, k2, "):
        GaussianProcess(kernel, tune="k3.c").fit(X, Y)


def test_depth_is_tried() -> None:
    model = GaussianProcess(NET, tune=("noise", "scale", "depth"), bounds={"depth": (1, 3, 6)})
    model.fit(X, Y)
    values = {
        depth: GaussianProcess(
            nf.FullyConnected(depth, parameterization="ntk", w_std=1.3, b_std=0.3)
        )
        .fit(X, Y)
        .log_marginal_likelihood_value_
        for depth in (1, 3, 6)
    }
    assert model.parameters_ == {"depth": max(values, key=lambda depth: values[depth])}
    assert model.log_marginal_likelihood_value_ == pytest.approx(max(values.values()), rel=1e-12)


def test_restarts_repeat_and_never_lose() -> None:
    names = ("noise", "scale", "c")
    values = [
        GaussianProcess(nf.Laplace(50.0), tune=names, n_restarts=count, random_state=0)
        .fit(X[:15], Y[:15])
        .log_marginal_likelihood_value_
        for count in (0, 2, 2)
    ]
    assert values[1] == values[2] >= values[0]


# --- Draws ---------------------------------------------------------------------------------------


def test_draws_have_mean_and_covariance() -> None:
    n = 40_000
    model = GaussianProcess(NET, normalize_y=True, tune=()).fit(X[:5], Y[:5])
    mean, cov = model.predict(Z[:3], return_cov=True)
    drawn = model.sample_y(Z[:3], n, random_state=1)
    assert drawn.shape == (3, 2, n)
    std = np.sqrt(np.einsum("iic->ic", cov))
    np.testing.assert_allclose(drawn.mean(axis=-1), mean, atol=5 * std.max() / n**0.5)
    for c in range(2):
        error = 5 * 2**0.5 * std[:, c].max() ** 2 / n**0.5
        np.testing.assert_allclose(np.cov(drawn[:, c]), cov[..., c], atol=error)
    assert abs(np.corrcoef(drawn[0])[0, 1]) < 5 / n**0.5  # columns are independent
    assert np.array_equal(drawn, model.sample_y(Z[:3], n, random_state=1))
    noisy = model.sample_y(Z[:1], n, with_noise=True)
    wanted = cov[0, 0] + model.noise_ * Y[:5].var(axis=0)
    np.testing.assert_allclose(noisy[0].var(axis=1), wanted, rtol=5 * (2 / n) ** 0.5)


# --- Corners -------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("tune", [(), ("noise", "scale")])
def test_conventions_of_estimators(tune: tuple[str, ...]) -> None:
    check_estimator(GaussianProcess(tune=tune))


def test_copies() -> None:
    model = GaussianProcess(NET).fit(X, Y)
    assert np.array_equal(pickle.loads(pickle.dumps(model)).predict(Z), model.predict(Z))


def test_covariances_are_positive(monkeypatch: pytest.MonkeyPatch) -> None:
    line = np.linspace(-1, 1, 9)[:, None]
    model = GaussianProcess(NET, noise=1e-9, tune=()).fit(line, line[:, 0])
    points = np.vstack([line, line + 1e-10])
    cov = model.predict(points, return_cov=True)[1]
    assert np.array_equal(cov, cov.T)
    assert np.diagonal(cov).min() >= 0
    assert np.linalg.eigvalsh(cov).min() > -60 * EPS * NET.ntk.diag(points).sum()
    std = model.predict(points, return_std=True)[1]
    monkeypatch.setattr("ntkfast.regression.gaussian_process.PART_BYTES", 1)
    np.testing.assert_allclose(model.predict(points, return_std=True)[1], std, atol=1e-7)
    np.testing.assert_allclose(std**2, np.diagonal(cov), atol=60 * EPS * NET.ntk.diag(line).max())


def test_repeated_inputs_without_noise() -> None:
    twice = np.vstack([X, X[:1]])
    for tune in ((), ("scale",), ("w_std",)):
        with pytest.raises(np.linalg.LinAlgError, match=r"noise: .* singular .* noise=0 "):
            GaussianProcess(NET, noise=0.0, tune=tune).fit(twice, np.arange(41.0))
    model = GaussianProcess(NET, noise=0.0, tune=()).fit(X, Y)  # distinct ones interpolate
    np.testing.assert_allclose(model.predict(X), Y, atol=1e-10)
    assert GaussianProcess(NET).fit(twice, np.arange(41.0)).noise_ > 0
    again = GaussianProcess(NET).fit(twice, np.arange(41.0))
    assert again.log_marginal_likelihood(noise=0.0) == -math.inf


def test_small_eigenvalues_behind_large_pivots() -> None:
    """Kahan's matrix: no pivot of the Cholesky factor tells how singular it is."""
    n, c = 60, 0.285
    s = (1 - c * c) ** 0.5
    R = s ** np.arange(n)[:, None] * (np.eye(n) - c * np.triu(np.ones((n, n)), 1))
    A = R.T @ R
    pivots, values = s ** (2 * np.arange(n)), np.linalg.eigvalsh(A)
    assert pivots.min() > 1e3 * n * EPS * values[-1]
    assert values[0] < n * EPS * values[-1] / 4
    assert factorised(A) is None
    better = factorised(A + 4 * n * EPS * values[-1] * np.eye(n))
    assert better is not None
    np.testing.assert_allclose(np.prod(better.pivots[:9]), np.linalg.det(A[:9, :9]), rtol=1e-9)


def test_targets_without_noise_and_with_nothing_else() -> None:
    exact = GaussianProcess(NET).fit(X, NET.ntk(X) @ g.normal(size=40))
    assert exact.noise_ <= 1e-9 * exact.scale_
    nothing = GaussianProcess(NET).fit(X, g.choice([-1.0, 1.0], 40))
    assert nothing.noise_ == pytest.approx(1, abs=0.3)
    for constant in (0.0, 5.0):
        model = GaussianProcess(NET, normalize_y=True).fit(X, np.full(40, constant))
        np.testing.assert_allclose(model.predict(Z), constant)


def test_small_data() -> None:
    one = GaussianProcess(nf.FullyConnected(1), noise=1.0, tune=()).fit([[1.0]], [3.0])
    mean, std = one.predict([[2.0]], return_std=True)
    np.testing.assert_allclose(mean, 4.0)  # NTK 2 x y for positive numbers
    np.testing.assert_allclose(std**2, 8 - 16 / 3)
    assert np.isfinite(GaussianProcess().fit([[1.0]], [3.0]).predict([[2.0]])).all()
    same = GaussianProcess().fit([[1.0], [2.0], [-1.0], [3.0]], [1.0, 2.0, 0.5, 3.5])
    assert np.isfinite(same.predict([[2.0]], return_std=True)).all()


@pytest.mark.parametrize(
    ("kernel", "inputs"),
    [
        (nf.Convolutional(1), g.normal(size=(8, 4, 4, 2))),
        (nf.Recurrent(1, b_std=0.1), nf.sequences([g.normal(size=n) for n in range(3, 11)])),
    ],
    ids=["images", "sequences"],
)
def test_other_inputs(kernel: Any, inputs: Any) -> None:
    model = GaussianProcess(kernel, noise=0.1, tune=()).fit(inputs[:5], np.arange(5.0))
    mean, std = model.predict(inputs[5:], return_std=True)
    K, B = kernel.ntk(inputs[:5]) + 0.1 * np.eye(5), kernel.ntk(inputs[5:], inputs[:5])
    np.testing.assert_allclose(mean, B @ np.linalg.solve(K, np.arange(5.0)))
    left = kernel.ntk.diag(inputs[5:]) - np.sum(B * np.linalg.solve(K, B.T).T, axis=1)
    np.testing.assert_allclose(std**2, left, atol=1e-12)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"kernel": np.dot}, TypeError, "kernel: expected a Kernel"),
        ({"noise": -1.0}, ValueError, "noise: expected a finite number >= 0"),
        ({"scale": 0.0}, ValueError, "scale: expected a finite number > 0"),
        ({"tune": ("colour",)}, ValueError, "tune: .*colour: expected one of depth, "),
        ({"tune": "alpha"}, ValueError, "alpha: expected one of depth, "),
        (
            {"bounds": {"w_std": (1, 2)}},
            ValueError,
            "expected some of none, .*; got 'w_std'",
        ),
        ({"bounds": {"noise": (1, 2)}}, ValueError, "noise and scale have no bounds"),
        ({"tune": "depth", "bounds": {"depth": (0,)}}, ValueError, r"bounds\['depth'\]: expected"),
        ({"tune": "w_std", "bounds": {"w_std": (2, 1)}}, ValueError, "bounds: expected 'w_std'"),
        ({"tune": "parameterization"}, ValueError, "bounds: expected a range"),
        ({"n_restarts": -1}, ValueError, "n_restarts: expected an integer >= 0"),
    ],
)
def test_wrong_parameters(options: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        GaussianProcess(**options).fit(X, Y)


def test_wrong_arguments() -> None:
    bad = Y.copy()
    bad[3, 1] = np.nan
    with pytest.raises(ValueError, match="y: expected finite numbers"):
        GaussianProcess().fit(X, bad)
    model = GaussianProcess(tune=()).fit(X, Y)
    with pytest.raises(ValueError, match="only one of return_std and return_cov"):
        model.predict(Z, return_std=True, return_cov=True)
    with pytest.raises(ValueError, match="colour: "):
        model.log_marginal_likelihood(colour=1.0)


@pytest.mark.parametrize("size", [1e-150, 1e-100, 1e100, 1e140])
def test_units_do_not_matter(size: float) -> None:
    kernel = nf.FullyConnected(1)  # of degree 1 in each row
    wanted = GaussianProcess(kernel, noise=0.01, tune=()).fit(X, Y).predict(Z, return_std=True)
    model = GaussianProcess(kernel, noise=0.01 * size**2, tune=()).fit(X * size, Y * size)
    for found, one in zip(model.predict(Z * size, return_std=True), wanted, strict=True):
        np.testing.assert_allclose(found / size, one, rtol=1e-9)
