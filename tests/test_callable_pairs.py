"""Functions without a closed form at unequal norms, and functions that no quadrature can trust."""

from __future__ import annotations

import re
import warnings
from typing import Any

import mpmath
import numpy as np
import pytest
from mpmath import mp, mpf

import ntkfast as nf
import oracle
from named_oracle import STRIPS, elu_dual, strip_dual
from ntkfast import activations
from ntkfast.activations import CallableActivation
from ntkfast.activations.functions import NAMED


def network(activation: Any, depth: int, w_std: float, b_std: float) -> nf.FullyConnected:
    return nf.FullyConnected(
        depth, activation=activation, parameterization="ntk", w_std=w_std, b_std=b_std
    )


def check(net: Any, kernel: Any, x: np.ndarray, rtol: float, **options: Any) -> None:
    """Compare NTK and NNGP with the oracle, relative to the roots of both diagonals."""
    for which in ("ntk", "nngp"):
        found = getattr(net, which)(x, **options).astype(float)
        exact = kernel(which)
        wanted = oracle.matrix(exact, x, x).astype(float)
        scale = np.maximum(oracle.scales(exact, x, x), 1e-20)
        assert np.max(np.abs(found - wanted) / scale) < rtol
        np.testing.assert_allclose(np.diag(found), getattr(net, which).diag(x), rtol=4e-15)
        np.testing.assert_array_equal(found, found.T)


def test_reported_value() -> None:
    net = nf.FullyConnected(1, activation="tanh", w_std=1.0)
    assert net.ntk([[13.0]], [[20.0]])[0, 0] == pytest.approx(9.207448, abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", STRIPS)
def test_one_column(name: str) -> None:
    """Rows that are parallel or opposite, from 1e-5 to 1e3, duplicates and zero."""
    x = np.array([[1e-5], [-0.3], [13.0], [-20.0], [13.0], [1e3]])

    dual = strip_dual(name)

    def kernel(which: str) -> Any:
        return oracle.fully_connected_ntk(1, dual, dimension=1, w_std=1, b_std=0, which=which)

    net = network(name, 1, 1.0, 0.0)
    check(net, kernel, x, 1e-11)
    both = np.vstack([x, [[0.0]]])
    full = net.ntk(both)
    np.testing.assert_allclose(full[:6, 4], full[:6, 2], rtol=1e-12, atol=1e-12)
    dead = float(NAMED[name](0.0)) * np.sqrt(NAMED[name].variance(x[:, 0] ** 2))
    mean = [NAMED[name].hermite(x[:, 0] ** 2, 1)[:, 0]]
    np.testing.assert_allclose(
        net.nngp(both)[6, :6],
        float(NAMED[name](0.0)) * mean[0],
        rtol=1e-12,
        atol=1e-13 * dead.max(),
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "depth", "w_std", "b_std"),
    [("tanh", 2, 1.5, 0.0), ("softplus", 2, 3.0, 0.5), ("silu", 3, 0.1, 0.3)],
)
def test_layers(name: str, depth: int, w_std: float, b_std: float) -> None:
    """More pairs than are worth a quadrature each: the tables."""
    x = np.array([[-4.0], [0.0], [1 / 64], [1.0], [1.0], [2.5]])
    extended = strip_dual(name)

    def dual(q: mpf, p: mpf, c: mpf) -> tuple[mpf, mpf]:
        first, second = q or mpf(10) ** -40, p or mpf(10) ** -40  # it divides by the variances
        return extended(first, second, first if q == p == c else c)

    net = network(name, depth, w_std, b_std)
    for which in ("ntk", "nngp"):
        exact = oracle.fully_connected_ntk(
            depth, dual, dimension=1, w_std=w_std, b_std=b_std, which=which
        )
        wanted = oracle.matrix(exact, x, x).astype(float)
        scale = np.sqrt(np.outer(np.diag(wanted), np.diag(wanted))) + 1e-20
        for dtype, rtol in ((np.float64, 1e-10), (np.float32, 1e-5)):
            found = getattr(net, which)(x.astype(dtype))
            assert np.max(np.abs(found - wanted) / scale) < rtol


@pytest.mark.parametrize("u", [0.5, 0.9, -0.9])
def test_a_kink_at_zero(u: float) -> None:
    """Where the oracle's panels resolve the kink; nearer to parallel rows they do not."""
    one, q, p = NAMED["elu"], np.array([0.25]), np.array([0.1])
    defect, slope, _ = one.pair_duals(q, p, np.array([[(1 - u) / 2]]), np.array([[(1 + u) / 2]]))
    root = float(np.sqrt(q * p)[0] * u)
    value, steep = oracle.numeric_dual(one, one.derivative, (0.0,))(mpf(q[0]), mpf(p[0]), mpf(root))
    size = np.sqrt(one.variance(q) * one.variance(p))[0]
    assert (1 - defect[0, 0]) * size == pytest.approx(float(value), rel=1e-13)
    assert slope[0, 0] == pytest.approx(float(steep), rel=1e-13)


@pytest.mark.slow
@pytest.mark.parametrize("side", [1, -1])
@pytest.mark.parametrize("gap", [1e-2, 1e-4, 1e-6, 1e-9, 1e-12])
@pytest.mark.parametrize(("q", "p"), [(0.25, 0.1), (4.0, 4.0), (30.0, 0.01)])
def test_elu_near_parallel_rows(q: float, p: float, gap: float, side: int) -> None:
    one = NAMED["elu"]
    near, far = np.array([[gap / 2]]), np.array([[1 - gap / 2]])
    v, vc = (near, far) if side == 1 else (far, near)
    defect, slope, _ = one.pair_duals(np.array([q]), np.array([p]), v, vc)
    turn = 2 * mp.asin(mp.sqrt(mpf(gap) / 2))
    value, steep = elu_dual(mpf(q), mpf(p), turn if side == 1 else mp.pi - turn)
    own, other = elu_dual(mpf(q), mpf(q), mpf(0)), elu_dual(mpf(p), mpf(p), mpf(0))
    size, scale = (float(mp.sqrt(a * b)) for a, b in zip(own, other, strict=True))
    assert (1 - defect[0, 0]) * size == pytest.approx(float(value), abs=1e-13 * size)
    assert slope[0, 0] == pytest.approx(float(steep), abs=1e-13 * scale)
    np.testing.assert_allclose(one.variance(np.array([q])), float(own[0]), rtol=1e-14)


@pytest.mark.slow
def test_tables_agree_with_quadrature() -> None:
    rng = np.random.default_rng(5)
    q, p = (np.exp(rng.uniform(-9, 3, size)) for size in (9, 8))
    v = rng.random((9, 8)) ** 6
    v[0], v[1] = 0, 1
    one = NAMED["tanh"]
    defect, slope, error = one.pair_duals(q, p, v, 1 - v)
    roots = np.sqrt(q[:, None] * p)
    value, want = one._both_duals(q[:, None], p, roots * (1 - 2 * v))
    sizes = np.sqrt(one.variance(q))[:, None] * np.sqrt(one.variance(p))
    slopes = np.sqrt(one.derivative_variance(q))[:, None] * np.sqrt(one.derivative_variance(p))
    assert error < 1e-11
    np.testing.assert_allclose(1 - defect, value / sizes, rtol=0, atol=max(error, 1e-12))
    np.testing.assert_allclose(slope / slopes, want / slopes, rtol=0, atol=max(error, 1e-12))


@pytest.mark.slow
def test_products_and_pairs_of_kernels() -> None:
    x = np.linspace(-3.0, 4.0, 6)[:, None]
    net = network("tanh", 2, 2.0, 0.1)
    nngp, ntk = net.both(x)
    np.testing.assert_array_equal(ntk, net.ntk(x))
    np.testing.assert_array_equal(nngp, net.nngp(x))
    V = np.random.default_rng(0).standard_normal((6, 2))
    np.testing.assert_allclose(net.ntk.matmul(x, None, V), ntk @ V, rtol=1e-12)


def relu6(x: Any) -> Any:
    return np.clip(x, 0, 6)


def test_kinks_of_few_pairs_have_all_digits() -> None:
    x = np.array([[-4.0], [1.0], [9.0], [9.0]])
    ratios = {abs(a / b) for a in x[:, 0] for b in x[:, 0]}  # breaks of both factors
    breaks = (0.0, *(6 * ratio for ratio in ratios))
    dual = oracle.numeric_dual(relu6, lambda x: 1.0 * ((x > 0) & (x < 6)), breaks)

    def kernel(which: str) -> Any:
        return oracle.fully_connected_ntk(1, dual, dimension=1, w_std=1, b_std=0, which=which)

    check(network(relu6, 1, 1.0, 0.0), kernel, x, 1e-11)


@pytest.mark.slow
def test_stated_error_is_the_error() -> None:
    """Kinks and many pairs: a series that is cut; its error is measured, said once and here."""
    x = np.linspace(-9.0, 9.0, 26)[:, None]
    net = network(relu6, 1, 1.0, 0.0)
    for which in ("ntk", "nngp"):
        kernel = getattr(net, which)
        with pytest.warns(RuntimeWarning, match="1024 Hermite coefficients of relu6") as caught:
            found = kernel(x)
        assert len(caught) == 1
        assert caught[0].filename == __file__
        stated = float(re.search(r"about (\S+)", str(caught[0].message))[1])
        some = np.arange(0, 26, 5)
        wanted = kernel(x[some])  # few pairs: by quadrature
        scale = np.sqrt(np.outer(np.diag(wanted), np.diag(wanted)))
        error = np.max(np.abs(found[np.ix_(some, some)] - wanted) / scale)
        assert stated / 10 < error < 2 * stated


@pytest.mark.slow
def test_no_warning_where_the_series_suffices() -> None:
    """A thousand terms lack 1e-2 at u = 1, and nothing at the angles of these rows."""
    x = 9 * np.random.default_rng(0).standard_normal((25, 60))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        network(relu6, 1, 1.0, 0.0).nngp(x)


# ------------------------------------------------------------------- functions that are not smooth


SINGLE: dict[str, tuple[Any, Any]] = {
    "tanh": (lambda x: np.tanh(np.asarray(x, np.float32)), np.tanh),
    "relu": (lambda x: np.maximum(np.asarray(x, np.float32), 0), lambda x: np.maximum(x, 0)),
    "silu": (
        lambda x: np.asarray(x, np.float32) / (1 + np.exp(-np.asarray(x, np.float32))),
        NAMED["silu"].__call__,
    ),
}


@pytest.mark.grid(1)
@pytest.mark.parametrize("unit", [True, False])
@pytest.mark.parametrize("name", SINGLE)
def test_functions_of_single_precision(name: str, unit: bool) -> None:
    """They are found, and their kernels have the error that is stated."""
    coarse, fine = SINGLE[name]
    x = np.random.default_rng(1).standard_normal((4, 3))
    if unit:
        x /= np.linalg.norm(x, axis=1)[:, None]
    one = CallableActivation(lambda x: coarse(x), name=f"{name} {unit}")
    with pytest.warns(RuntimeWarning, match="relative error") as caught:
        found = network(one, 2, 1.2, 0.1).ntk(x)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    stated = float(re.search(r"up to (\S+);", str(caught[0].message))[1])
    wanted = network(CallableActivation(fine), 2, 1.2, 0.1).ntk(x)
    assert stated < 3e-4
    np.testing.assert_allclose(found, wanted, rtol=0, atol=stated * wanted.max())


@pytest.mark.parametrize("rate", [3.0, 30.0, 40.0])
def test_waves(rate: float) -> None:
    x = np.random.default_rng(1).standard_normal((5, 3))
    x /= np.linalg.norm(x, axis=1)[:, None]
    x[1] = x[0] + 1e-2 * x[2]
    x[1] /= np.linalg.norm(x[1])
    found = nf.FullyConnected(1, activation=lambda x: np.sin(rate * x)).ntk(x)
    wanted = nf.FullyConnected(1, activation=activations.resolve(f"sine(1, {rate}, 0)")).ntk(x)
    # the angle of rows is known to an eps, which a wave multiplies by the square of its rate
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-11 * wanted.max())


@pytest.mark.parametrize(
    ("function", "found"),
    [
        (lambda x: 1 / x, "none at 0"),
        (lambda x: 1 / (x - 0.3), "singular point at 0.3|pole at 0.3"),
        (lambda x: np.sqrt(np.abs(x)), "singular point at"),
        (lambda x: np.sin(400 * x), "changes on a length"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_functions_that_are_refused(function: Any, found: str) -> None:
    x = np.eye(3)
    with pytest.raises(ValueError, match=f"activation: expected .*({found}).*; pass "):
        nf.FullyConnected(1, activation=function).ntk(x)


def test_meshes_of_long_intervals_miss_nothing() -> None:
    """An interpolant over [1, 16384] must not take tanh for a constant."""
    q = np.array([1e6])
    with mpmath.workdps(20):
        edges = [0, *(mpf(2) ** k / 1000 for k in range(-1, 8)), 1, 3, 12]
        wanted = 2 * mp.quad(lambda z: mp.npdf(z) * mp.sech(1000 * z) ** 4, edges)
    assert NAMED["tanh"].derivative_variance(q)[0] == pytest.approx(float(wanted), rel=1e-13)
