"""Pairs at which kernels once lost their digits, against recursions in hundreds of digits."""

from __future__ import annotations

from typing import Any

import mpmath
import numpy as np
import pytest

import ntkfast as nf
import oracle
from ntkfast.activations import Erf
from test_fuzz import ENGINES, Drawn, check
from tolerances import VALUE, epsilon

ROW, NEAR = np.array([[1.0, 0.0]]), np.array([[1.0, 1e-3]]) / np.hypot(1, 1e-3)
TURNED = np.array([[-1.0, 1e-4]])
NTK = {"parameterization": "ntk"}
# activation, network, x, y, dtypes
PAIRS: dict[str, tuple[str, Any, np.ndarray, np.ndarray, str]] = {
    "chaos": ("erf", nf.FullyConnected(50, activation="erf"), ROW, NEAR, "fd"),
    "deeper chaos": ("erf", nf.FullyConnected(100, activation="erf"), ROW, NEAR, "fd"),
    "odd": ("erf", nf.FullyConnected(200, activation="erf"), ROW, -ROW, "fd"),
    "nearly opposite": (
        "erf",
        nf.FullyConnected(80, activation="erf", w_std=1.5, b_std=1e-6, **NTK),
        ROW,
        TURNED,
        "fd",
    ),
    "opposite in abs": (
        "abs",
        nf.FullyConnected(5, activation="abs", w_std=2.5, b_std=1e-4, **NTK),
        ROW,
        -ROW,
        "fd",
    ),
    "vanishing variances": (
        "gelu",
        nf.FullyConnected(70, activation="gelu", w_std=1.0, **NTK),
        ROW,
        np.array([[0.3, 2.0]]),
        "d",
    ),
    "trained bias": (
        "relu",
        nf.FullyConnected(20, bias=1.0, w_std=0.1),
        ROW,
        np.array([[0.3, 2.0]]),
        "fd",
    ),
    "tiny rows and a bias": (
        "relu",
        nf.FullyConnected(3, bias=20.0),
        1e-18 * ROW,
        np.array([[0.0, 2e-18]]),
        "fd",
    ),
    "huge rows": (
        "gelu",
        nf.FullyConnected(1, activation="gelu"),
        4e9 * ROW,
        np.array([[3e9, 3e9]]),
        "fd",
    ),
    "nearly ReLU": (
        "gelu",
        nf.FullyConnected(200, activation="gelu", w_std=3.0, **NTK),
        np.array([[1e-3, 0.0]]),
        np.array([[-1.0, 1e-6]]),
        "d",
    ),
    "parallel": ("sign", nf.FullyConnected(5, activation="sign"), 3.48 * ROW, -1.7 * ROW, "fd"),
    "bias above all": (
        "erf",
        nf.FullyConnected(50, activation="erf", w_std=3.0, b_std=1.0, **NTK),
        1.2258200e-12 * ROW,
        1.2258186e-12 * TURNED,
        "fd",
    ),
}


@pytest.mark.grid(1)
@pytest.mark.parametrize("kind", ["ntk", "nngp"])
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("name", "dtype"), [(name, dtype) for name, case in PAIRS.items() for dtype in case[-1]]
)
def test_pairs(name: str, dtype: str, engine: str, kind: str) -> None:
    activation, network, x, y, _ = PAIRS[name]
    check(Drawn(activation, network, kind, x.astype(dtype), y.astype(dtype), engine))


@pytest.mark.parametrize("activation", ["erf", "sin", "gelu"])
@pytest.mark.parametrize("engine", ENGINES)
def test_products_of_norms_that_underflow(activation: str, engine: str) -> None:
    """Rows of norm 1e-20 in float32: kernels are subnormal numbers, but right to the last bit."""
    x = np.array([[1e-20, 0], [0, 2e-20], [1e-20, 1e-20]], np.float32)
    kernel = nf.FullyConnected(1, activation=activation).nngp
    found, wanted = kernel(x, engine=engine), kernel(x.astype(np.float64), engine=engine)
    spacing = float(np.finfo(np.float32).smallest_subnormal)
    assert np.all(np.abs(found - wanted) <= 4 * epsilon(np.float32) * wanted + 4 * spacing)
    linear = (
        kernel.network.layers(2)[-1].w * {"erf": 4 / np.pi, "sin": 1, "gelu": 1 / 4}[activation]
    )
    np.testing.assert_allclose(wanted, linear * (x.astype(float) @ x.T.astype(float)), rtol=1e-12)


@pytest.mark.parametrize("engine", ENGINES)
def test_small_residual_at_opposite_rows(engine: str) -> None:
    """1 + u of a sum of two states is formed from theirs."""
    theta = np.pi - 1e-8
    x, y = np.array([[1.0, 0.0]]), np.array([[np.cos(theta), np.sin(theta)]])
    wanted = float(oracle.resnet(5, 1e-8)(x[0], y[0]))
    found = nf.ResNet(5, alpha=1e-8).ntk(x, y, engine=engine)[0, 0]
    assert abs(found - wanted) <= 1e-8 * abs(wanted)  # the angle is known to eps / 1e-8


@pytest.mark.grid(1)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "make",
    [
        lambda: nf.FullyConnected(100).ntk,
        lambda: nf.FullyConnected(3, bias=0.5).ntk,
        lambda: nf.FullyConnected(100, bias=0.1).nngp,
        lambda: nf.FullyConnected(5, activation="erf").ntk,
        lambda: nf.ResNet(20, alpha=0.3).ntk,
        lambda: nf.ArcCosine(2),
        lambda: nf.Laplace(inputs="homogeneous"),
    ],
)
def test_diagonals_are_one_number(make: Any, engine: str, dtype: Any, count: int = 60) -> None:
    """``diag``, the diagonal, and pairs of duplicates on one side or on both agree to the bit."""
    kernel, x = make(), np.random.default_rng(0).normal(size=(count, 9)).astype(dtype)
    x[7], x[11], x[13] = x[3], 0, 0
    own, gram, rectangle = (
        kernel.diag(x),
        kernel(x, engine=engine),
        kernel(x, x.copy(), engine=engine),
    )
    for found in (np.diag(gram), np.diag(rectangle)):
        np.testing.assert_array_equal(found, own)
    for i, j in ((3, 7), (11, 13)):
        assert gram[i, j] == gram[j, i] == rectangle[i, j] == own[i] == own[j]


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("engine", ENGINES)
def test_diagonals_of_a_function_are_one_number(engine: str, dtype: Any) -> None:
    kernel = nf.FullyConnected(2, activation=np.tanh).nngp  # a quadrature for each pair
    test_diagonals_are_one_number(lambda: kernel, engine, dtype, count=17)


@pytest.mark.parametrize("bias", [0.0, 0.1])
@pytest.mark.parametrize("depth", [1, 100, 1000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_diagonals_of_deep_networks(depth: int, bias: float) -> None:
    """Depth adds no error to the diagonal where the platform has extended precision."""
    x = np.random.default_rng(1).normal(size=(3, 9))
    kernel = nf.FullyConnected(depth, bias=bias).ntk
    extended = float(np.finfo(np.longdouble).eps)
    allowed = VALUE * epsilon(np.float64) + 2 * depth * extended
    for row, found in zip(x, kernel.diag(x), strict=True):
        q, b = oracle.inner(row, row), mpmath.mpf(bias) ** 2
        # ReLU keeps the variance and halves the slope's gain of 2: each layer adds q + bias^2.
        wanted = (depth + 1) * (q + b)
        assert abs(found - wanted) <= allowed * wanted


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("small", [0.0, 1e-17])
def test_shifted_erf_of_a_row_without_length(
    engine: dict[str, Any], small: float, dtype: Any
) -> None:
    """E[(erf(0) + 3) (erf(z) + 3)] = 9, and a half squared for the normal distribution function."""
    x, y = np.array([[small, 0.0]], dtype), np.array([[0.7, 0.0]], dtype)
    for activation, wanted in ((Erf(1.0, 1.0, 3.0), 9.0), (Erf(0.5, 0.7, 0.5), 0.25)):
        net = nf.FullyConnected(1, activation=activation, parameterization="ntk", w_std=1.0)
        np.testing.assert_allclose(net.nngp(x, y, **engine), wanted, rtol=8 * np.finfo(dtype).eps)


def test_products_that_overflow_are_refused() -> None:
    X = np.ones((3, 2), np.float32)
    for kernel in (nf.FullyConnected(1).ntk, nf.FullyConnected(1, activation="tanh").ntk):
        with pytest.raises(ValueError, match="V: the product with the kernel overflows float32"):
            kernel.matmul(X, None, np.full(3, 3e38))


@pytest.mark.parametrize(
    "activation", ["polynomial(0, 1, 0, 0.2)", "hermite_series(0, 1, 0, 0.2)", "gelu", "sin"]
)
def test_rows_of_zeros_are_limits(activation: str, dtype: Any) -> None:
    """Derivatives at 0 of functions that vanish there count: the NTK saw the last bias alone."""
    kernel = nf.FullyConnected(2, activation=activation, bias=0.3).ntk
    x, short = np.array([[1.0, 0.0]], dtype), np.array([[0.0, 1e-15]], dtype)
    found, limit = kernel(x, 0 * short), kernel(x, short)
    np.testing.assert_allclose(found, limit, rtol=16 * np.finfo(dtype).eps)
    assert found > 1.5 * 0.3**2
