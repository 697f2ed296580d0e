"""Gradients by inputs against differences in 100 digits, at every special position of a pair."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import pytest

import cases
import gradient_oracle
import ntkfast as nf
from tolerances import epsilon

# Rounding of a gradient, in units of eps times the sum of |V_ij| times the size of gradients: a
# handful of roundings, and cosines whose error is amplified by at most 1 / sin t = 5, where rows are
# not subtracted.
ROUNDING = 24.0
RADIAL = [case for case in cases.GENERAL if "euclidean" in case.name]
SMOOTH = [case for case in cases.ZONAL if case.name not in ("step2-nngp", "sign2")] + RADIAL


def angles(dimension: int, dtype: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return rows, and one row per angle from 1e-12 to pi from the first of them."""
    x = cases.rows(2, dimension, np.float64, seed=5)
    first = x[0] / np.linalg.norm(x[0])
    other = x[1] - first * (first @ x[1])
    other /= np.linalg.norm(other)
    found = [1e-12, 1e-9, 1e-6, 1e-3, 0.05, 0.3, 1.0, 2.0, 3.0, np.pi - 1e-3, np.pi - 1e-8, np.pi]
    y = [(np.cos(t) * first + np.sin(t) * other) * (1 + 0.5 * (k % 3)) for k, t in enumerate(found)]
    return x.astype(dtype), np.array(y, dtype)


@lru_cache(maxsize=128)
def expected(name: str, dtype: Any, special: bool) -> tuple[np.ndarray, ...]:
    """Return rows, the gradient of every pair, and the size of gradients."""
    case = cases.BY_NAME[name]
    x, y = cases.special_pairs(dtype, 4, case.radius) if special else angles(4, dtype)
    exact = case.oracle(4)
    pairs = [[gradient_oracle.gradient(exact, a, b) for b in y] for a in x]
    values = np.array(pairs, object).astype(np.float64)
    size = np.linalg.norm(values, axis=-1)
    return x, y, values, np.maximum(size, 0.02 * size.max(axis=1, keepdims=True))


def check(found: np.ndarray, V: np.ndarray, values: np.ndarray, size: np.ndarray) -> None:
    exact = np.einsum("ij,ijk->ik", V.astype(np.float64), values)
    allowed = ROUNDING * epsilon(found.dtype) * np.einsum("ij,ij->i", np.abs(V), size)
    assert np.all(np.isfinite(found))
    error = np.linalg.norm(found - exact, axis=1)
    assert np.all(error <= allowed), (error / np.where(allowed > 0, allowed, 1)).max()


@cases.parametrize(SMOOTH)
@pytest.mark.parametrize("special", [True, False], ids=["special", "angles"])
def test_against_the_oracle(case: Any, special: bool, engine_name: str, dtype: Any) -> None:
    x, y, values, size = expected(case.name, dtype, special)
    for j in range(len(y)):  # pair by pair: nothing hides behind other pairs
        V = np.full((len(x), 1), dtype(1.5))
        found = case.kernel.vjp(x, y[j : j + 1], V, engine=engine_name)
        check(found, V, values[:, j : j + 1], size[:, j : j + 1])
    V = cases.rows(len(x), len(y), dtype, seed=2)
    check(case.kernel.vjp(x, y, V, engine=engine_name), V, values, size)


KERNELS = {
    "profile": nf.FullyConnected(3).ntk,
    "Laplace": nf.Laplace(0.5),
    "sphere": nf.Gaussian(0.5, inputs="homogeneous"),
}
