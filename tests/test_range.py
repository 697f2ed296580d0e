"""Kernels of networks whose numbers leave the range of floats: right values, zeros, or errors."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import pytest

import cases
import ntkfast as nf
import oracle
from ntkfast import spectrum
from ntkfast.kernels.balance import balanced

X, Y = cases.rows(5, 3, np.float64, seed=1), cases.rows(4, 3, np.float64, seed=2)
X[2], Y[1] = 2 * X[2], 0.5 * X[0]
NARROW = [nf.Dense(1e-150), "relu"] * 3 + [nf.Dense(1e150), "relu"] * 3
NARROW_ORACLE = [
    part
    for w in (1e-150, 1e150)
    for part in [("dense", w, 0, True), ("activation", oracle.relu)] * 3
]
WIDE = [nf.Dense(1e40, 2e40), "relu", nf.Dense(1e40), "relu", nf.Dense(1e-80, 0.5), "relu"]
WIDE_ORACLE = [
    ("dense", 1e40, 2e40, True),
    ("activation", oracle.relu),
    ("dense", 1e40, 0, True),
    ("activation", oracle.relu),
    ("dense", 1e-80, 0.5, True),
    ("activation", oracle.relu),
]
RIGHT = {
    "deep-normalized": (
        lambda: nf.ResNet(1020, alpha=1.0, normalize=True),
        lambda which: oracle.resnet(1020, 1.0, normalize=True, which=which),
    ),
    "all-normalized": (
        lambda: nf.ResNet(300, alpha=100.0, normalize=True, trained="all"),
        lambda which: oracle.resnet(300, 100.0, normalize=True, trained="all", which=which),
    ),
    "small-branch": (
        lambda: nf.ResNet(3, alpha=1e-200, normalize=True),
        lambda which: oracle.resnet(3, 1e-200, normalize=True, which=which),
    ),
    "small-branch-last": (
        lambda: nf.ResNet(3, alpha=1e-200, trained="last"),
        lambda which: oracle.resnet(3, 1e-200, trained="last", which=which),
    ),
    "down-and-up": (
        lambda: nf.compose(*NARROW),
        lambda which: oracle.composed(NARROW_ORACLE, which=which, dimension=3),
    ),
    "up-and-down": (
        lambda: nf.compose(*WIDE),
        lambda which: oracle.composed(WIDE_ORACLE, which=which, dimension=3),
    ),
}


@lru_cache(maxsize=64)
def expected(name: str, which: str, dtype: Any) -> cases.Expected:
    return cases.compare(RIGHT[name][1](which), X[:3].astype(dtype), Y[:2].astype(dtype))


@pytest.mark.slow
@pytest.mark.parametrize("which", ["ntk", "nngp"])
@pytest.mark.parametrize("name", RIGHT)
def test_right_values(name: str, which: str, engine: dict[str, Any], dtype: Any) -> None:
    """Whatever happens on the way, results that fit are right."""
    make, exact = RIGHT[name]
    kernel, x, y = getattr(make(), which), X[:3].astype(dtype), Y[:2].astype(dtype)
    expected(name, which, dtype).check(kernel(x, y, **engine))
    layers = 2 * getattr(make(), "depth", 6)
    cases.check_diagonal(kernel, kernel(x, **engine), x, layers)
    own = float(exact(which)(x[0], x[0]))
    np.testing.assert_allclose(kernel.diag(x)[0], own, rtol=8 * layers * np.finfo(dtype).eps)


VANISH = {
    "relu": nf.FullyConnected(300, w_std=0.01).ntk,
    "erf": nf.FullyConnected(150, activation="erf", w_std=0.01).ntk,
    "branch": nf.ResNet(3, alpha=1e-170).ntk,
    "gelu": nf.FullyConnected(150, w_std=0.01, activation="gelu", parameterization="ntk").nngp,
    "untrained": nf.compose(nf.Dense(trained=False), "relu").ntk,
}


@pytest.mark.grid(1)
@pytest.mark.parametrize("name", VANISH)
def test_values_that_vanish(name: str, engine: dict[str, Any], dtype: Any) -> None:
    kernel, x = VANISH[name], X.astype(dtype)
    for rows in (x, x / np.linalg.norm(x, axis=1)[:, None]):
        assert not kernel(rows, **engine).any()
        assert not kernel.diag(rows).any()
        assert not kernel.matmul(rows, None, np.ones(len(rows), dtype), **engine).any()
    assert not kernel.profile([1.0, 0.3]).any()
    with pytest.raises(
        ValueError, match="kernel: expected a positive number as the value at equal"
    ):
        spectrum.mercer(kernel, 3, 5, radius=1.0)


def test_a_constant_to_rounding(engine: dict[str, Any], dtype: Any) -> None:
    kernel = nf.FullyConnected(2, w_std=1e-100, parameterization="ntk", b_std=0.5).ntk
    for rows in (X, X / np.linalg.norm(X, axis=1)[:, None]):
        np.testing.assert_array_equal(kernel(rows.astype(dtype), **engine), dtype(0.25))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: nf.FullyConnected(2, w_std=1e200),
            "w_std: expected a number from 1.49e-154 to 1.34",
        ),
        (lambda: nf.FullyConnected(2, bias=1e-200), "bias: expected a number from"),
        (lambda: nf.Dense(1.0, 1e200), "b_std: expected a number from"),
        (lambda: nf.Conv(w_std=1e-170), "w_std: expected a number from"),
        (lambda: nf.Recurrent(1, u_std=1e160), "u_std: expected a number from"),
        (lambda: nf.ResNet(1, alpha=1e200), "alpha: expected alpha v_std <= 6.7"),
        (lambda: nf.FullyConnected(1000, w_std=5.0).ntk(X), "X: the kernel of a row .* overflows"),
        (
            lambda: nf.FullyConnected(1000, w_std=5.0).ntk.diag(X),
            "X: the kernel of a row .* overflo",
        ),
        (
            lambda: nf.FullyConnected(1000, w_std=5.0).ntk.profile(1.0),
            "radius: the kernel of a row",
        ),
        (lambda: nf.ResNet(1020, alpha=1.0).ntk(X), "X: the kernel of a row .* overflows float64"),
        (
            lambda: nf.compose(*NARROW[:2], nf.Dense(1e-50)).nngp(1e149 * X[:1], 1e149 * X),
            "X: the kernel vanishes in float64 for unit rows, but not for one with norm",
        ),
        (
            lambda: nf.FullyConnected(2, activation="monomial(2)").ntk(
                np.array([[4e-11], [1e4]], np.float32)
            ),
            "X: a row has norm 4e-11, whose power 4 vanishes in float32, and faces one with norm",
        ),
        (
            lambda: nf.compose(nf.Dense(1e80, 1e80), "erf", nf.Dense()).ntk(1e100 * X),
            "X: a layer overflows float64 for a row with norm",
        ),
        (
            lambda: nf.FullyConnected(300, activation="erf", w_std=0.01, bias=0.5).ntk(X),
            "X: a layer vanishes in float64 for a row with norm",
        ),
    ],
)
def test_errors(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_ordinary_layers_are_left_alone() -> None:
    for net in (nf.FullyConnected(100), nf.FullyConnected(3, bias=0.5), nf.ResNet(50, alpha=1.0)):
        assert balanced(net.layers(3)) == (tuple(net.layers(3)), 0)


def test_powers_of_short_rows_where_the_kernel_vanishes() -> None:
    kernel = nf.FullyConnected(2, activation="monomial(2)", w_std=1e-60).ntk
    assert not kernel(np.array([[4e-11], [1.0]], np.float32)).any()


@pytest.mark.parametrize("b_std", [0.0, 0.1])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_of_ordinary_norms_are_planned_as_all_others(b_std: float, dtype: Any) -> None:
    kernel = nf.FullyConnected(3, parameterization="ntk", b_std=b_std).ntk
    X, Y = np.random.default_rng(0).standard_normal((2, 40, 5)).astype(dtype)
    for ends in (Y[:1] * dtype(2.0**20), Y[:1] * dtype(2.0**-20)):  # beyond: all checks are made
        both = kernel(np.vstack([X, ends]), Y)
        np.testing.assert_array_equal(kernel(X, Y), both[:-1])
        assert both[-1, 0] == kernel(ends, Y[:1])[0, 0]
    shared = np.vstack([Y[:3], X[3:]])  # equal rows in two sets: values without rounding
    np.testing.assert_array_equal(np.diag(kernel(shared, Y))[:3], kernel.diag(Y[:3]))
