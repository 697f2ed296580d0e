"""Arrays of decimal numbers against mpmath."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from mpmath import mp, mpf

from ntkfast.arrays.decimals import DIGITS, decimals, epsilon, is_decimal, pi, rounded

FUNCTIONS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "sum": (lambda x, y, s: 4 * x - s / 7 + 0.1, lambda x, y, s: 4 * x - s / 7 + mpf(0.1)),
    "product": (lambda x, y, s: y**3 * x / s, lambda x, y, s: y**3 * x / s),
    "sqrt": (lambda x, y, s: np.sqrt(s), lambda x, y, s: mp.sqrt(s)),
    "hypot": (lambda x, y, s: np.hypot(y, s), lambda x, y, s: mp.hypot(y, s)),
    "angle": (lambda x, y, s: np.arctan2(x, y), lambda x, y, s: mp.atan2(x, y)),
    "small angle": (lambda x, y, s: np.arctan2(s, x), lambda x, y, s: mp.atan2(s, x)),
    "far angle": (lambda x, y, s: np.arctan2(-s, -x), lambda x, y, s: mp.atan2(-s, -x)),
    "arcsin": (lambda x, y, s: np.arcsin(s), lambda x, y, s: mp.asin(s)),
    "exp": (lambda x, y, s: np.exp(4 * y), lambda x, y, s: mp.exp(4 * y)),
    "expm1": (lambda x, y, s: 1 + np.expm1(-s), lambda x, y, s: mp.exp(-s)),
}


def exact(a: Any) -> list[Any]:
    """Return numbers in mpmath."""
    return [mpf(str(one)) for one in a.view(np.ndarray).ravel()]


def check(found: Any, wanted: Any) -> None:
    """Compare relatively."""
    assert is_decimal(found)
    for one, other in zip(exact(found), wanted, strict=True):
        assert abs(one - other) <= 8 * epsilon(found.dtype) * max(abs(other), mpf(10) ** -DIGITS)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name: str) -> None:
    rng = np.random.default_rng(0)
    x, y, s = (
        decimals(values) * (1 + decimals(1e-20) / 3)  # numbers that use all their digits
        for values in (
            rng.uniform(0.1, 3, 99),
            rng.uniform(-3, 3, 99),
            10.0 ** rng.uniform(-16, -0.2, 99),
        )
    )
    mine, other = FUNCTIONS[name]
    with mp.workdps(70):
        check(mine(x, y, s), [other(*at) for at in zip(*map(exact, (x, y, s)), strict=True)])


def test_sums() -> None:
    rng = np.random.default_rng(0)
    x = decimals(rng.uniform(0.1, 3, (4, 5, 7))) / 3
    some = rng.integers(0, 4, (6, 5)).astype(float)
    with mp.workdps(70):
        whole = np.array(exact(x), object).reshape(x.shape)
        numbers = np.array([[mpf(v) for v in row] for row in some], object)
        check(x.sum(axis=1).ravel(), whole.sum(axis=1).ravel())
        check(x.mean(axis=(0, 2), keepdims=True).ravel(), whole.sum(axis=(0, 2)) / 28)
        check((some @ x).ravel(), (numbers @ whole).ravel())
        check((x.swapaxes(1, 2) @ some.T).ravel(), (whole.swapaxes(1, 2) @ numbers.T).ravel())
        check(pi(x.dtype).reshape(1), [+mp.pi])


def test_arrays_of_them() -> None:
    """They behave as arrays of numbers, and what they do not know is refused."""
    x = decimals([1.0, -2.0, 0.0, 5.0]) / 3
    assert np.array_equal(x > 0, [True, False, False, True])
    assert np.all(x == x * (1 + 1e-60)) and np.all(x != x + 1e-40)
    assert np.all(x + 1e-40 > x) and not np.any(x > x) and np.all(x >= x)
    assert np.array_equal(rounded(np.where(x > 0, x, 0) * 3), [1, 0, 0, 5])
    assert np.array_equal(rounded(np.maximum(np.minimum(x, 1), -0.5)), [1 / 3, -0.5, 0, 1])
    assert np.array_equal(rounded(np.sign(x)), [1, -1, 0, 1]) and np.all(abs(x) >= 0)
    assert np.array_equal(rounded(np.ones_like(x)), np.ones(4)) and not rounded(0 * x).any()
    y = np.zeros_like(x, shape=(2, 4))
    y[0] += x
    y[1, 2:] = 7.0
    assert is_decimal(y[1]) and np.array_equal(rounded(y * 3), [[1, -2, 0, 5], [0, 0, 21, 21]])
    assert np.array_equal(rounded(np.concatenate([x, x])[4:]), rounded(x))
    assert np.array_equal(rounded(np.roll(y, [1], (-1,))[1] * 3), [21, 0, 0, 21])
    none = x / 0
    assert np.array_equal(rounded(none), [np.inf, -np.inf, np.nan, np.inf], equal_nan=True)
    assert np.isnan(rounded(np.arctan2(none, none))).all()
    for call in (np.log, np.linalg.norm, np.cumsum):
        with pytest.raises(TypeError):
            call(x)
