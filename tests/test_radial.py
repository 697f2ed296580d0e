"""Power series of kernels whose rows have different norms, and the features made of them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import ntkfast as nf

pytest.importorskip("sklearn")

from ntkfast.features import (
    DualActivationFeatures,
    GegenbauerFeatures,
    NTKRandomFeatures,
    NTKSketch,
    radial,
)
from ntkfast.kernels.dense import NetworkKernel
from ntkfast.kernels.rows import RowKernel

Array = NDArray[Any]


def scattered(n: int, d: int, spread: float = 0.5, seed: int = 0) -> NDArray[np.float64]:
    """Rows whose norms vary by a factor of about exp(4 spread)."""
    generator = np.random.default_rng(seed)
    return generator.normal(size=(n, d)) * np.exp(spread * generator.normal(size=(n, 1)))


def relative(F: Array, K: Array) -> float:
    return float(np.linalg.norm(F @ F.T - K) / np.linalg.norm(K))


def assert_unbiased(draws: list[Array], K: Array, allowed: float) -> None:
    """Compare the mean of F F^T with K within 5 standard errors, and a known bias."""
    grams = np.array([F @ F.T for F in draws])
    error = grams.std(axis=0, ddof=1) / math.sqrt(len(draws))
    size = np.sqrt(np.outer(np.diagonal(K), np.diagonal(K)))
    assert float(np.mean(error / size)) < 0.03  # the test can see an error of a few percent
    assert np.all(np.abs(grams.mean(axis=0) - K) <= 5 * error + allowed * size)


KERNELS = {
    "zero-initialised bias": nf.FullyConnected(2, bias=0.7).ntk,
    "bias": nf.FullyConnected(3, parameterization="ntk", b_std=0.5).ntk,
    "erf, NNGP": nf.FullyConnected(2, activation="erf", parameterization="ntk", b_std=0.3).nngp,
    "gelu": nf.FullyConnected(2, activation="gelu").ntk,
    "gelu, residual": nf.ResNet(3, alpha=0.5, activation="gelu", trained="all").ntk,
    "steps, NNGP": nf.FullyConnected(1, activation="step", parameterization="ntk", b_std=0.5).nngp,
    "gaussian": nf.Gaussian(0.05),
}


@pytest.mark.parametrize("name", KERNELS)
def test_power_series_sum_to_the_kernel(name: str) -> None:
    """At pairs of the nodes and cosines where 200 powers are all there is."""
    kernel, logs = KERNELS[name], np.log([0.4, 1.0, 2.5])
    series = radial.power_series(kernel, 6, logs)
    assert series.min() > -1e-11
    for u in (0.8, 0.3, -0.7):
        X, Y = np.zeros((3, 6)), np.zeros((3, 6))
        X[:, 0] = np.exp(logs)
        Y[:, 0], Y[:, 1] = u * np.exp(logs), math.sqrt(1 - u * u) * np.exp(logs)
        scale = np.sqrt(np.outer(kernel.diag(X), kernel.diag(Y)))
        found = np.einsum("lij,l->ij", series, u ** np.arange(len(series)))
        np.testing.assert_allclose(found, kernel(X, Y) / scale, atol=1e-10)


@pytest.mark.parametrize("degree", [2, 3, 5])
def test_one_layer_of_a_polynomial_has_the_published_coefficients(degree: int) -> None:
    """r_l of Han, Zandieh et al. (2022), equation of the dual of a polynomial, for x^degree."""

    def r(power: int, norm: float) -> float:
        i, rest = divmod(degree - power, 2)
        if rest or i < 0:
            return 0.0
        factor = math.factorial(degree) / (2**i * math.factorial(i))
        return factor / math.sqrt(math.factorial(power)) * norm**degree

    kernel = nf.FullyConnected(1, activation=f"monomial({degree})", w_std=1.0).nngp
    norms = np.array([0.5, 1.0, 3.0])
    series = radial.power_series(kernel, 4, np.log(norms))
    X = np.zeros((3, 4))
    X[:, 0] = norms
    scale = np.sqrt(np.outer(kernel.diag(X), kernel.diag(X)))
    for power in range(degree + 2):
        column = np.array([r(power, float(norm)) for norm in norms])
        expected = np.outer(column, column) / scale
        np.testing.assert_allclose(series[power], expected, atol=1e-10)


@pytest.mark.parametrize("dim", [1, 2, 3, 10, 500])
def test_powers_are_sums_of_polynomials(dim: int) -> None:
    """u^l = sum_k c_lk P_k(u), with P_k from SciPy."""
    from scipy.special import eval_chebyt, eval_gegenbauer

    c, u = radial.multiples(dim, 201), np.linspace(-1, 1, 7)
    assert c.min() >= 0
    np.testing.assert_allclose(c.sum(axis=1), 1, rtol=1e-12)
    for power in (0, 1, 2, 7, 30):
        total = np.zeros_like(u)
        for k in range(power + 1):
            if dim == 1:
                p = np.sign(u) ** k if k < 2 else np.zeros_like(u)
            elif dim == 2:
                p = eval_chebyt(k, u)
            else:
                lam = (dim - 2) / 2
                p = eval_gegenbauer(k, lam, u) / eval_gegenbauer(k, lam, 1.0)
            total += c[power, k] * p
        inside = np.abs(u) == 1 if dim == 1 else slice(None)
        np.testing.assert_allclose(total[inside], (u**power)[inside], atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("map_", [DualActivationFeatures, NTKSketch], ids=lambda one: one.__name__)
@pytest.mark.parametrize("name", ["zero-initialised bias", "bias", "gelu"])
def test_unbiased_for_rows_of_different_norms(name: str, map_: Any) -> None:
    X, kernel = scattered(12, 6), KERNELS[name]
    options = {"degree": 16} if map_ is NTKSketch else {"max_degree": 60}
    fitted = map_(kernel, 256, **options).fit(X)
    bias = fitted.fit_error_ if map_ is NTKSketch else fitted.truncated_
    assert bias < 0.06
    draws = [map_(kernel, 256, random_state=seed, **options).fit_transform(X) for seed in range(40)]
    assert_unbiased(draws, kernel(X), bias)


@pytest.mark.slow
@pytest.mark.parametrize("name", KERNELS)
def test_errors_are_below_those_of_random_features(name: str) -> None:
    X, kernel = scattered(300, 8), KERNELS[name]
    F = DualActivationFeatures(kernel, 1024, random_state=0).fit_transform(X)
    assert F.shape == (300, 1024)
    assert relative(F, kernel(X)) < 0.08
    if isinstance(kernel, NetworkKernel) and kernel.kind == "ntk":
        other = NTKRandomFeatures(kernel.network, n_components=1024, random_state=0)
        assert 2 * relative(F, kernel(X)) < relative(other.fit_transform(X), kernel(X))
    G = GegenbauerFeatures(kernel, 4096, random_state=0).fit_transform(X)
    assert relative(G, kernel(X)) < 0.4


@pytest.mark.parametrize("exact", [-1, 0, 1, 2])
def test_every_number_of_exact_degrees(exact: int) -> None:
    X, kernel = scattered(200, 5), KERNELS["bias"]
    features = DualActivationFeatures(kernel, 2048, exact=exact, random_state=0)
    assert relative(features.fit_transform(X), kernel(X)) < 0.08
    assert features.exact_ == exact


def test_precision_norms_outside_and_zero_rows() -> None:
    X, kernel = scattered(400, 6), KERNELS["bias"]
    features = DualActivationFeatures(kernel, 512, random_state=0).fit(X)
    F = features.transform(X)
    single = features.transform(X.astype(np.float32))
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, F, atol=2e-4 * np.abs(F).max())
    # Rows beyond the norms seen, zero included, have features of the right length.
    Y = np.vstack([1e-3 * X[:5], 1e3 * X[:5], np.zeros((1, 6))])
    assert np.isfinite(features.transform(Y)).all()
    lengths = np.sum(features.transform(Y) ** 2, axis=1) / kernel.diag(Y)
    assert np.all(np.abs(lengths - 1) < 0.5)
    np.testing.assert_array_equal(features.transform(X[::2]), F[::2])


def test_a_kernel_without_continuation_is_refused() -> None:
    class Odd(RowKernel):
        """Some kernel of the norms that nothing is known about."""

        is_zonal = False  # type: ignore[assignment]

        def profile(self, u: Any, radius: float = 1.0) -> NDArray[np.float64]:
            raise NotImplementedError

        def diagonal_of(self, norms: Array, dim: int) -> NDArray[np.float64]:
            return np.ones(len(norms))

        def _map(self, X: Any, Y: Any) -> Any:
            raise NotImplementedError

    with pytest.raises(TypeError, match="expected a network's kernel, an exponential one, or rows"):
        DualActivationFeatures(Odd(), 64).fit(scattered(10, 3))
    with pytest.raises(ValueError, match="X: expected rows that are not all zero"):
        DualActivationFeatures(KERNELS["bias"], 64).fit(np.zeros((3, 2)))
