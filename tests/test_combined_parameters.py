"""Derivatives of kernels of kernels by parameters, against differences in 100 digits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from mpmath import mp, mpf

import combined_oracle
import ntkfast as nf
import oracle
from walked_cases import some

NTK = nf.FullyConnected(2, parameterization="ntk", w_std=0.9, b_std=0.4).ntk
SCALED = nf.FullyConnected(2, parameterization="ntk", w_std=1.1).ntk  # without biases
ERF = nf.FullyConnected(1, activation="erf", parameterization="ntk", b_std=0.3).nngp
GAUSSIAN, LAPLACE, SPHERE = nf.Gaussian(0.7), nf.Laplace(0.5), nf.Laplace(0.5, inputs="sphere")
LENGTHS = [0.5, 1.0, 2.0]
KERNELS = {
    "sum": NTK + GAUSSIAN,
    "sum of one degree": SCALED + 0.3 * nf.ArcCosine(1),
    "sum of two degrees": SCALED + 0.3 * SPHERE,
    "multiple": 2.5 * NTK,
    "product": ERF * GAUSSIAN,
    "product with a profile": SCALED * SPHERE,
    "three factors": nf.ArcCosine(2) * GAUSSIAN * (0.5 * NTK),
    "normalised": NTK.normalized(),
    "normalised sum": (SCALED + GAUSSIAN).normalized(),
    "columns": NTK.on([2, 0]),
    "length scales": GAUSSIAN.ard(LENGTHS),
    "length scales of a network": NTK.ard(LENGTHS),
    "length scales of a profile": SCALED.ard(LENGTHS),
    "nested": LAPLACE.on([0, 1]) + 0.5 * (NTK.ard(LENGTHS) * GAUSSIAN.on(2)).normalized(),
}


def rows() -> tuple[Any, Any, Any]:
    """Return rows, some of them equal, close and opposite, and weights of their pairs."""
    rng = np.random.default_rng(0)
    X, Y, V = rng.standard_normal((4, 3)), rng.standard_normal((4, 3)), rng.standard_normal((4, 4))
    Y[0], Y[1], Y[2] = X[0], X[1] * (1 + 1e-5) + 1e-6, -2 * X[2]
    return X, Y, V


@some(KERNELS, {"product", "normalised sum", "nested"})
def test_against_the_oracle(case: Any) -> None:
    """The gradient, and the derivative along each parameter, and along all of them."""
    X, Y, V = rows()
    for other, weights in ((Y, V), (None, V)):
        slopes = combined_oracle.slopes(case, X, X if other is None else other)
        found = case.parameter_gradient(X, other, weights)
        along, total = dict.fromkeys(slopes, 2.0), np.zeros((4, 4))
        for name, slope in slopes.items():
            if case.parameters()[name] == 0:
                continue
            size = np.sum(np.abs(weights * slope))
            assert abs(found[name] - np.sum(weights * slope)) <= 1e-13 * size, name
            moved = case.parameter_jvp(X, other, {name: 1.0})
            assert np.max(np.abs(moved - slope)) <= 1e-14 * np.max(np.abs(slope)), name
            total += 2.0 * slope
        moved = case.parameter_jvp(X, other, along)
        assert np.max(np.abs(moved - total)) <= 1e-14 * sum(
            np.max(np.abs(2 * slope)) for slope in slopes.values()
        )
        if other is None:
            assert np.array_equal(moved, moved.T)
    single = case.parameter_jvp(X.astype(np.float32), None, along)
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, moved, rtol=0, atol=2e-5 * np.max(np.abs(moved)))


def test_panels() -> None:
    """Blocks beside the diagonal of a symmetric matrix, and factors of V."""
    kernel = ERF * GAUSSIAN + NTK.normalized()
    X = np.random.default_rng(1).standard_normal((1100, 3))  # more than one block of products
    A, B = np.random.default_rng(2).standard_normal((2, 1100, 2))
    along = dict.fromkeys(kernel.parameters(), 1.0)
    moved = kernel.parameter_jvp(X, None, along)
    np.testing.assert_allclose(moved, kernel.parameter_jvp(X, X.copy(), along), atol=1e-14)
    found = sum(kernel.parameter_gradient(X, None, (A, B)).values())
    assert found == pytest.approx(np.sum(A @ B.T * moved), rel=1e-11)


def test_parts_without_derivatives_by_inputs() -> None:
    """Length scales of a kernel that has no gradients by rows."""

    def dual(cov: Any, q: Any, p: Any) -> Any:
        return 2 / np.pi * np.arcsin(2 * cov / np.sqrt((1 + 2 * q) * (1 + 2 * p)))

    def slope(cov: Any, q: Any, p: Any) -> Any:
        return 4 / np.pi / np.sqrt((1 + 2 * q) * (1 + 2 * p) - 4 * cov * cov)

    X, Y, V = rows()
    stated, known = (
        nf.FullyConnected(1, activation=one, parameterization="ntk", b_std=0.3).ntk.ard(LENGTHS)
        for one in (nf.Dual(dual, slope), "erf")
    )
    wanted, found = (kernel.parameter_gradient(X, Y, V) for kernel in (known, stated))
    assert found == pytest.approx(wanted, rel=1e-11)
    wanted, found = (kernel.parameter_jvp(X, Y, wanted) for kernel in (known, stated))
    np.testing.assert_allclose(found, wanted, rtol=1e-10)


RATES = {
    f"{inputs} {gamma} {c}": nf.ExponentialPower(gamma, c, inputs)
    for inputs in ("euclidean", "sphere", "homogeneous")
    for gamma in (0.5, 1.0, 1.3, 2.0)
    for c in (1e-3, 0.7, 50.0)
}


@some(RATES, {"euclidean 2.0 0.7", "sphere 1.0 0.001", "homogeneous 1.3 0.7"})
def test_rates_of_close_rows(case: Any) -> None:
    """Each pair has its digits, at all distances, of multiples too."""
    rng = np.random.default_rng(0)
    for distance in 10.0 ** -np.arange(0, 13, 2):
        for times in (1.0, 3.7):
            x, away = rng.standard_normal((2, 1, 3))
            y = times * x + distance * away
            slope = combined_oracle.slopes(case, x, y)["c"][0, 0]
            if abs(slope) > 1e-100:
                moved = case.parameter_jvp(x, y, {"c": 1.0})[0, 0]
                assert moved == pytest.approx(slope, rel=1e-12, abs=0)
                assert case.parameter_gradient(x, y, [[1.0]])["c"] == moved
    chord = 1.0 if case.inputs == "euclidean" else 2.0 ** (case.gamma / 2)
    wanted = 0.0 if case.inputs == "homogeneous" else -chord * np.exp(-case.c * chord)
    for dtype, allowed in ((np.float64, 1e-12), (np.float32, 1e-5)):
        zero = np.zeros((1, 3), dtype), np.array([[0, 0, 0], [1, 0, 0]], dtype)
        moved = case.parameter_jvp(*zero, {"c": 1.0})
        tiny = float(np.finfo(dtype).tiny)
        np.testing.assert_allclose(moved, [[0, wanted]], rtol=allowed, atol=tiny)


@pytest.mark.parametrize("inputs", ["euclidean", "sphere", "homogeneous"])
def test_rates_where_all_rows_are_close(inputs: str) -> None:
    """Steeper kernels tell what rounding hides; values of float32 are all 1 here."""
    X = 1 + np.random.default_rng(3).standard_normal((40, 3))
    X[1], X[2], X[3] = X[0], 3 * X[0], 0
    for gamma in (1.0, 2.0):
        kernel = nf.ExponentialPower(gamma, 1e-9, inputs)
        slope = combined_oracle.slopes(kernel, X[:6], X[:6])["c"]
        moved = kernel.parameter_jvp(X, None, {"c": 1.0})
        assert np.array_equal(moved, moved.T)
        np.testing.assert_allclose(moved[:6, :6], slope, rtol=1e-12, atol=1e-13)
        single = kernel.parameter_jvp(X.astype(np.float32), None, {"c": 1.0})
        np.testing.assert_allclose(single, moved, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("last", ["relu", pytest.param("erf", marks=pytest.mark.slow)])
def test_dropout(last: str) -> None:
    """A row with itself has one mask, two rows have two: the diagonal moves by itself."""
    D, P = nf.Dense, nf.Dropout
    b = 0.2 if last == "erf" else 0.0
    net = nf.compose(D(1.2, b), "relu", P(0.3), D(1.4, b), last, P(0.2), D(1.1))
    X, _, V = rows()
    X[1] = X[0]
    for kernel in (net.ntk, net.nngp):

        def values(at: dict[str, Any], kind: str = kernel.kind) -> Any:
            both = []
            for same in (False, True):
                dense = [("dense", at[f"{k}.w_std"], at[f"{k}.b_std"], True) for k in (0, 3, 6)]
                first, second = ("activation", oracle.relu), ("activation", getattr(oracle, last))
                masks = ("dropout", 0.3, same), ("dropout", 0.2, same)
                steps = [dense[0], first, masks[0], dense[1], second, masks[1], dense[2]]
                one = oracle.composed(steps, which=kind, dimension=3)
                both.append(oracle.matrix(one, X, X))
            return np.where(np.eye(4, dtype=bool), both[1], both[0])

        known = {name: mpf(value) for name, value in kernel.parameters().items()}
        found = kernel.parameter_gradient(X, None, V)
        factors = kernel.parameter_gradient(X, None, (V, np.eye(4)))
        for name, value in known.items():
            moved = kernel.parameter_jvp(X, None, {name: 1.0})
            if not value:
                assert found[name] == 0 and not moved.any()
                continue
            with mp.workdps(oracle.DIGITS):
                h = mpf(10) ** -30
                ends = [values(known | {name: value + step}) for step in (h, -h)]
                slope = ((ends[0] - ends[1]) / (2 * h)).astype(np.float64)
            size = np.sum(np.abs(V * slope))
            for one in (found, factors):
                assert abs(one[name] - np.sum(V * slope)) <= 1e-13 * size
            assert np.max(np.abs(moved - slope)) <= 1e-14 * np.max(np.abs(slope))


def test_a_name_twice_counts_once() -> None:
    network = nf.compose(nf.Dense(1.2), "relu", nf.Dropout(0.3), nf.Dense())
    once, twice = (
        network.ntk.parameter_gradient(np.eye(2), None, np.eye(2), names=["0.w_std"] * k)
        for k in (1, 2)
    )
    assert once == twice


def test_rates_beyond_all_numbers() -> None:
    assert not nf.Laplace(1e304).parameter_jvp(np.ones((3, 2)), None, {"c": 1.0}).any()
