"""Networks on images whose activations are functions or state their duals: walked in NumPy."""

from __future__ import annotations

from typing import Any

import mpmath
import numpy as np
import pytest
from scipy import special

import ntkfast as nf
from ntkfast.activations import CallableActivation
from test_realization import check_limit

Conv = nf.Conv


def gelu(x: np.ndarray) -> np.ndarray:
    return np.asarray(x * special.ndtr(x))


def leaky(x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, x, 0.2 * x)


def stated(name: str) -> nf.Dual:
    """Return an activation of the package by its duals alone."""
    one = nf.Activation(name)
    return nf.Dual(lambda c, q, p: one.dual(q, p, c), lambda c, q, p: one.derivative_dual(q, p, c))


def networks(a: Any) -> list[nf.ConvNet]:
    """Pools, strides, branches, normalization, heads and circles."""
    circular = Conv(3, 1.3, 0.1, "circular")
    return [
        nf.ConvNet(
            *(Conv(3, 1.3), a, nf.AvgPool(2, 1), Conv(3, 1.1, 0.1, stride=2), a),
            readout="flatten",
        ),
        nf.ConvNet(
            *(Conv((2, 3), 1.3, 0.2), nf.Skip(a, Conv(3, 0.9)), nf.LayerNorm(), a, Conv(), "relu"),
            readout=nf.Readout("lap", 3),
            head=("relu", nf.Dense(1.2)),
        ),
        nf.ConvNet(circular, a, nf.Multiply(circular, (circular, a)), circular, a),
    ]


def images(dtype: Any = np.float64) -> np.ndarray:
    """Equal ones, opposite ones, multiples, and pixels without variance."""
    X = np.random.default_rng(0).normal(size=(5, 4, 5, 2))
    X[1], X[2], X[3], X[4, :2] = X[0], -X[0], 2 * X[0], 0
    return X.astype(dtype)


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("name", "function", "tolerance", "which"),
    [
        *(("gelu", None, 1e-14, k) for k in range(3)),
        *(pytest.param("gelu", gelu, 1e-12, k, marks=SLOW) for k in range(3)),
        # Behind such functions cosines are differences: at kinks their angles tell.
        ("leaky_relu(0.2)", leaky, 1e-7, 1),
        *(pytest.param("leaky_relu(0.2)", leaky, 1e-7, k, marks=SLOW) for k in (0, 2)),
        *(pytest.param("leaky_relu(0.2)", None, 1e-7, k, marks=SLOW) for k in range(3)),
    ],
)
def test_against_closed_forms(name: str, function: Any, tolerance: float, which: int) -> None:
    X, known = images(), networks(name)[which]
    net = networks(stated(name) if function is None else function)[which]
    for kind in ("ntk", "nngp"):
        kernel, wanted = getattr(net, kind), getattr(known, kind)(X)
        found = kernel(X)
        size = np.sqrt(np.outer(np.diag(wanted), np.diag(wanted)))
        assert np.all(np.abs(found - wanted) <= (tolerance if kind == "ntk" else 1e-12) * size)
        np.testing.assert_array_equal(found, found.T)
        np.testing.assert_allclose(kernel.diag(X), np.diag(found), rtol=1e-14)
        np.testing.assert_allclose(kernel(X[3:], X), found[3:], rtol=1e-13, atol=1e-15)
        assert found[0, 1] == found[0, 0]  # equal images
    half = images(np.float32)
    np.testing.assert_allclose(net.ntk(half), net.ntk(half.astype(np.float64)), rtol=3e-7)
    np.testing.assert_array_equal(net.both(half)[1], net.ntk(half))


@pytest.mark.parametrize(
    "name",
    ["monomial(2)", *(pytest.param(f"{one}monomial(3)", marks=SLOW) for one in ("", "rectified_"))],
)
def test_other_degrees(name: str) -> None:
    """The slope of a power grows with both norms; a Dual without a degree is told no power."""
    X = images()
    for known, wanted in zip(networks(name), networks(stated(name)), strict=True):
        for kind in ("ntk", "nngp"):
            exact = getattr(wanted, kind)(X)
            size = np.sqrt(np.outer(np.diag(exact), np.diag(exact)))
            assert np.all(np.abs(getattr(known, kind)(X) - exact) <= 1e-12 * size)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("function", "exact", "slope"),
    [
        (np.tanh, mpmath.tanh, lambda x: mpmath.sech(x) ** 2),
        (
            lambda x: np.logaddexp(0, x),
            lambda x: mpmath.log1p(mpmath.exp(x)),
            lambda x: 1 / (1 + mpmath.exp(-x)),
        ),
    ],
    ids=["tanh", "softplus"],
)
def test_duals_of_pixels(function: Any, exact: Any, slope: Any) -> None:
    """At equal, opposite, orthogonal and nearly parallel pixels, and at pixels without variance."""
    one = CallableActivation(function)
    with mpmath.workdps(30):
        step = mpmath.mpf(1) / 6
        z = [k * step for k in range(-54, 55)]
        weights = [step * mpmath.npdf(x) for x in z]

        def average(f: Any, q: Any, p: Any, u: Any, z: Any = z, weights: Any = weights) -> Any:
            """Apply the trapezoidal rule, which converges geometrically."""
            rest = mpmath.sqrt(max(1 - u * u, 0))
            total = mpmath.mpf(0)
            for x, w in zip(z, weights, strict=True):
                inner = zip(z, weights, strict=True) if rest else [(mpmath.mpf(0), mpmath.mpf(1))]
                inside = mpmath.fsum(
                    v * f(mpmath.sqrt(p) * (u * x + rest * y)) for y, v in inner if w * v > 1e-22
                )
                total += w * f(mpmath.sqrt(q) * x) * inside
            return total

        for q, p in ((0.7, 0.7), (0.3, 0.9), (0.0, 0.8)):
            first, second = mpmath.mpf(q), mpmath.mpf(p)
            tops = [
                mpmath.sqrt(average(f, first, first, 1) * average(f, second, second, 1))
                for f in (exact, slope)
            ]
            for v in (0.0, 1.0, 0.5, 5e-8, 1 - 5e-8):
                angle = np.full((1, 1, 1, 1), v)
                sides = (np.full((1, 1, 1), side) for side in (q, p))
                shared, left, right = one.sides(*sides)
                got = one.between(shared, left[:, None], right[None], angle, 1 - angle)
                for value, f, top in zip(got, (exact, slope), tops, strict=True):
                    wanted = average(f, first, second, 1 - 2 * mpmath.mpf(v))
                    assert abs(mpmath.mpf(float(value.item())) - wanted) <= 2e-12 * max(top, 1e-30)


@pytest.mark.slow
def test_wide_networks() -> None:
    net = nf.ConvNet(Conv(3, 1.3, 0.2), np.tanh, Conv(3, 1.4, 0.1, stride=2), np.tanh)
    x = np.random.default_rng(1).normal(size=(3, 4, 3, 2))
    check_limit(net, x, nf.finite.Realization(net, 200, shape=(4, 3, 2)), 40, 0.03)


def test_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ntkfast.kernels.image_values.BLOCK_BYTES", 1 << 14)
    monkeypatch.setattr("ntkfast.engines.parallel.WORTH_THREADS", 0)
    kernel = nf.ConvNet(Conv(), np.tanh, Conv(), "relu", readout="gap").ntk
    x, y = images(), images()[::-1].copy()
    for other in (None, y):
        one, three = (kernel(x, other, threads=threads) for threads in (1, 3))
        np.testing.assert_array_equal(one, three)
    np.testing.assert_array_equal(kernel(x), kernel(x).T)


def test_what_is_refused() -> None:
    def clipped(x: np.ndarray) -> np.ndarray:
        return np.clip(x, -1, 1)

    with pytest.raises(ValueError, match="no kink other than at 0, found some in clipped"):
        nf.ConvNet(Conv(), clipped)
    with pytest.raises(TypeError, match="derivatives by pixels are known of activations whose"):
        nf.ConvNet(Conv(), np.tanh).ntk.vjp(images(), None, np.ones((5, 5)))


@pytest.mark.slow
def test_many_parameters() -> None:
    """A walk of derivatives is not known: differences of values serve any number of them."""
    layers = (
        one for function in (np.tanh, "relu", "relu", "relu") for one in (nf.Conv(), function)
    )
    kernel = nf.ConvNet(*layers, readout="gap").ntk
    x = np.random.default_rng(9).normal(size=(2, 3, 3, 1))
    found = kernel.parameter_gradient(x, None, np.ones((2, 2)))
    name = next(iter(found))
    (alone,) = kernel.parameter_gradient(x, None, np.ones((2, 2)), names=[name]).values()
    assert found[name] == alone
