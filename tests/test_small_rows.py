"""Rows that are short or zero under activations that do not vanish at 0, with trained biases.

There the NTK counts E[s'(a) s'(b)] = s'(0) E[s'] and more, of which s, near the constant s(0),
shows next to nothing.  Exact values: Hermite series in 40 digits, whose terms fall off like powers
of the norm.
"""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from mpmath import mp, mpf
from mpmath.calculus.quadrature import GaussLegendre
from scipy.special import ndtr

import ntkfast as nf
import oracle
import test_fuzz
from ntkfast.activations import CallableActivation
from test_fuzz import ENGINES, Drawn, share_of_bound

TERMS = 24
FUNCTIONS = {
    "softplus": lambda x: np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
}
EXACT = {
    "softplus": (lambda x: mp.log1p(mp.exp(x)), lambda x: 1 / (1 + mp.exp(-x))),
    "sigmoid": (lambda x: 1 / (1 + mp.exp(-x)), lambda x: 1 / (2 * mp.cosh(x / 2)) ** 2),
}
NORMS = [0.0, 1e-2, 1e-3, 1e-6, 1e-12, 1e-20, 1e-30, 1e-100]


@cache
def rule() -> tuple[list[mpf], list[list[mpf]]]:
    """Nodes z, and weights with the density and h_j(z) for every j."""
    with mp.workdps(40):
        edges = [-14, -10, -7, -5, -3, -1, 1, 3, 5, 7, 10, 14]
        nodes = [
            ((mpf(b) + a) / 2 + (mpf(b) - a) / 2 * x, (mpf(b) - a) / 2 * w)
            for a, b in pairwise(edges)
            for x, w in GaussLegendre(mp).calc_nodes(4, mp.prec)
        ]
        points = [z for z, _ in nodes]
        before, row = [mpf(0)] * len(nodes), [w * mp.npdf(z) for z, w in nodes]
        rows = []
        for j in range(TERMS):
            rows.append(row)
            up = [
                (z * b - mp.sqrt(j) * a) / mp.sqrt(j + 1)
                for z, a, b in zip(points, before, row, strict=True)
            ]
            before, row = row, up
        return points, rows


@cache
def coefficients(name: str, which: int, q: mpf) -> list[mpf]:
    with mp.workdps(40):
        points, rows = rule()
        root = mp.sqrt(q)
        values = [EXACT[name][which](root * z) for z in points]
        return [mp.fdot(values, row) for row in rows]


def series_dual(name: str) -> oracle.Dual:
    def dual(q: mpf, p: mpf, c: mpf) -> tuple[mpf, mpf]:
        u = c / mp.sqrt(q * p) if q * p else mpf(0)

        def series(which: int) -> mpf:
            left, right = coefficients(name, which, q), coefficients(name, which, p)
            return mp.fsum(a * b * u**j for j, (a, b) in enumerate(zip(left, right, strict=True)))

        return series(0), series(1)

    return dual


def check(
    monkeypatch: pytest.MonkeyPatch, one: Any, exact: oracle.Dual, pair: Any, dtype: Any, **how: Any
) -> None:
    """Compare one pair of rows of these norms, near a right angle to no axis."""
    monkeypatch.setitem(test_fuzz.ACTIVATIONS, "drawn", (exact, one, 1))
    x, y = pair[0] * np.array([[0.6, 0.8]]), pair[1] * np.array([[0.28, 0.96]])
    net = nf.FullyConnected(1, activation=one, bias=0.1)
    for kind in ("ntk", "nngp"):
        for engine in how.get("engines", ENGINES[:1]):
            drawn = Drawn("drawn", net, kind, x.astype(dtype), y.astype(dtype), engine)
            assert share_of_bound(drawn) <= 1, (pair, kind, engine)


def test_reported_value() -> None:
    net = nf.FullyConnected(1, activation="softplus", bias=0.1)
    x = np.array([[0.3, 0.4], [0.0, 0.0]])
    assert net.ntk(x[:1], x[1:])[0, 0] == pytest.approx(0.557071, abs=1e-6)
    full, V = net.ntk(x), np.array([[1.0], [2.0]])
    assert full[0, 1] == full[1, 0] == pytest.approx(0.557071, abs=1e-6)
    np.testing.assert_array_equal(net.ntk.diag(x), np.diag(full))
    np.testing.assert_allclose(net.ntk.matmul(x, None, V), full @ V, rtol=1e-14)


@pytest.mark.parametrize("pair", [(0.5, 0.0), (0.5, 1e-6), (1e-20, 2e-20), (1e-25, 0.0)])
def test_softplus(monkeypatch: pytest.MonkeyPatch, pair: Any, dtype: Any) -> None:
    check(monkeypatch, "softplus", series_dual("softplus"), pair, dtype)


@pytest.mark.slow
@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_callables(monkeypatch: pytest.MonkeyPatch, name: str, named: bool, dtype: Any) -> None:
    """With a derivative and without: it is then the interpolant's."""
    one = name if named else CallableActivation(FUNCTIONS[name])
    least = 1e-37 if dtype == np.float32 else 0.0
    pairs = [(0.5, norm) for norm in NORMS] + [(norm, 2 * norm) for norm in NORMS[4:7]]
    pairs += [(norm, norm) for norm in NORMS[3:7:2]] + [(1e-25, 0.0), (1e-30, 1e-12)]
    for pair in pairs:
        if not 0 < pair[1] < least:
            check(monkeypatch, one, series_dual(name), pair, dtype, engines=ENGINES)


CLOSED = {
    "polynomial(1, 1, 0.5)": oracle.polynomial([1, 1, 0.5]),
    "polynomial(1, 0, 0.5)": oracle.polynomial([1, 0, 0.5]),
    "hermite_series(1, 1)": oracle.polynomial([1, 1]),
    **{one: exact for exact, one, _ in test_fuzz.ACTIVATIONS.values() if one != "elu"},
}


@pytest.mark.slow
@pytest.mark.parametrize("one", CLOSED, ids=str)
def test_closed_forms(monkeypatch: pytest.MonkeyPatch, one: Any, dtype: Any) -> None:
    least = 1e-37 if dtype == np.float32 else 0.0
    pairs = [(0.5, norm) for norm in (*NORMS, 1e-9)] + [(n, 2 * n) for n in NORMS[1:7]]
    for pair in pairs:
        if not 0 < pair[1] < least:
            check(monkeypatch, one, CLOSED[one], pair, dtype, engines=ENGINES)


@pytest.mark.parametrize("norm", [1e-12, 1e-30, 1e-100])
def test_elu_at_short_rows(norm: float) -> None:
    """E[s(a) s(b)] is E[s'(a)] E[a b] then: off by 2e-10, because of what s'' does at 0."""
    net = nf.FullyConnected(1, activation="elu", parameterization="ntk", w_std=1.0)
    x, y = np.array([0.3, 0.4]), norm * np.array([0.28, 0.96])
    root = np.sqrt(x @ x / 2)
    wanted = (x @ y) / 2 * (0.5 + np.exp(root**2 / 2) * ndtr(-root))
    np.testing.assert_allclose(net.nngp(x[None], y[None])[0, 0], wanted, rtol=norm + 1e-13)


def test_functions_without_digits_beside_zero() -> None:
    """exp(x) - 1 is 0 at 1e-17: with a zero row this was told as an error of 5e-4."""
    net = nf.FullyConnected(1, activation=lambda x: np.where(x > 0, x, np.exp(x) - 1), bias=0.1)
    named = nf.FullyConnected(1, activation="elu", bias=0.1)
    x, y = np.array([[0.3, 0.4]]), np.zeros((1, 2))
    np.testing.assert_allclose(net.ntk(x, y), named.ntk(x, y), rtol=1e-12)
    assert net.nngp(x, y) == 0


@pytest.mark.parametrize("engine", ENGINES)
def test_cosines_slope_at_short_rows(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """1 - exp(-2 q) of its slope's variance was 0 for norms below 1e-8."""
    check(monkeypatch, "cos", oracle.cos, (0.5, 1e-9), np.float64, engines=(engine,))
