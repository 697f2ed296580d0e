"""Drawn networks, pairs of rows, engines and dtypes against the recursion in hundreds of digits.

For hours, by hand: ``NTKFAST_FUZZ=100000 python -m pytest tests/test_fuzz.py --all``, with
``--hypothesis-seed`` for other cases.
"""

from __future__ import annotations

import itertools
import os
import warnings
from typing import Any, NamedTuple

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from mpmath import mp, mpf

import named_oracle
import ntkfast as nf
import oracle
from ntkfast import activations
from tolerances import tolerance

ENGINES = ("native", "numba") if nf.engines.native.available_isas() else ("numba",)
H = mpf(10) ** -30
CLOSE = 0.2  # share of the cheap part of a bound from which on all of it is worth its time
VANISHING = mpf(10) ** -700  # a row of zeros is the limit of rows that shrink to it


def shifted_erf(a: float, b: float, c: float) -> oracle.Dual:
    """Dual of a erf(b x) + c."""

    def dual(q: mpf, p: mpf, c_: mpf) -> tuple[mpf, mpf]:
        rate = 2 * mpf(b) ** 2
        value, slope = oracle.erf(rate * q / 2, rate * p / 2, rate * c_ / 2)
        return mpf(a) ** 2 * value + mpf(c) ** 2, mpf(a) ** 2 * mpf(b) ** 2 * slope

    return dual


# name: (dual, activation, largest depth)
ACTIVATIONS: dict[str, tuple[oracle.Dual, Any, int]] = {
    "relu": (oracle.relu, "relu", 200),
    "abs": (oracle.absolute, "abs", 200),
    "leaky": (oracle.leaky_relu(0.999), "leaky_relu(0.999)", 200),
    "sign": (oracle.sign, "sign", 5),
    "erf": (oracle.erf, "erf", 200),
    "normal": (shifted_erf(0.5, 0.7, 0.5), activations.Erf(0.5, 0.7, 0.5), 200),
    "shifted": (shifted_erf(1, 1, 3), activations.Erf(1.0, 1.0, 3.0), 100),
    "gelu": (oracle.gelu, "gelu", 200),
    "sin": (oracle.sin, "sin", 200),
    "cos": (oracle.cos, "cos", 50),
    "rbf": (oracle.rbf(0.7), "rbf(0.7)", 50),
    "wave": (oracle.sine(1.2, 0.8, 0.3), activations.Sine(1.2, 0.8, 0.3), 100),
    "exp": (oracle.exp(1, 0.5), activations.Exp(1.0, 0.5), 3),
    "gaussian": (oracle.gaussian(), "gaussian", 10),
    "cubic": (oracle.polynomial([0, 1, 0, 0.2]), activations.Polynomial((0.0, 1.0, 0.0, 0.2)), 5),
    "identity": (oracle.identity, "identity", 200),
    "abrelu": (oracle.abrelu(0.5, -1.5), "abrelu(0.5, -1.5)", 200),
    "step": (oracle.step, "step", 5),
    "hermite": (oracle.hermite(3), "hermite(3)", 3),
    "squared": (oracle.rectified_monomial(2), "rectified_monomial(2)", 3),
    "square": (oracle.monomial(2), "monomial(2)", 3),
    **{name: (dual, name, 3) for name, dual in named_oracle.DUALS.items()},
}
CLOSED = tuple(sorted(set(ACTIVATIONS) - set(named_oracle.DUALS)))


class Drawn(NamedTuple):
    """One case."""

    name: str
    network: Any
    kind: str
    x: np.ndarray
    y: np.ndarray
    engine: str


@st.composite
def cases(
    draw: st.DrawFn, engines: tuple[str, ...] = ENGINES, names: tuple[str, ...] = CLOSED
) -> Drawn:
    """Draw any activation, depth and scales, angles from 1e-16 to pi, norms over decades.

    The oracles of functions without closed form are slow at large variances.
    """
    name = draw(st.sampled_from(names))
    _, activation, deepest = ACTIVATIONS[name]
    depth = draw(st.sampled_from([d for d in (1, 2, 3, 5, 10, 20, 50, 100, 200) if d <= deepest]))
    scales: dict[str, Any] = {}
    if draw(st.booleans()):
        scales = {
            "parameterization": "ntk",
            "w_std": draw(st.sampled_from([0.5, 0.9, 1.0, 1.1, 1.3, 1.5, 2.0, 3.0])),
            "b_std": draw(st.sampled_from([0.0, 1e-6, 1e-3, 0.1, 1.0])),
        }
    elif draw(st.booleans()):
        scales = {"bias": draw(st.sampled_from([1e-3, 0.1, 1.0]))}
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    small_only = name == "exp" or name not in CLOSED
    ordinary = st.floats(-2, 0) if small_only else st.floats(-2, 1.5)
    extreme = st.floats(-18, 3) if dtype == np.float32 else st.floats(-70, 3)
    exponent = draw(ordinary if small_only or draw(st.integers(0, 4)) else extreme)
    first = 10.0**exponent
    ratio = draw(
        st.one_of(
            st.just(1.0),
            st.floats(-6, -0.5).map(lambda e: 1 + 10.0**e),
            st.floats(-4, 0 if small_only else 4).map(lambda e: 10.0**e),
            st.floats(-18 if dtype == np.float32 else -70, 0).map(lambda e: 10.0**e / first),
            st.just(0.0),
        )
    )
    # Less than a thousandth of a roundoff counts as none.
    small = st.floats(-10 if dtype == np.float32 else -16, 0).map(lambda e: 10.0**e)
    angle = draw(
        st.one_of(
            st.sampled_from([0.0, np.pi]),
            small,
            small.map(lambda t: np.pi - t),
            st.floats(0, np.pi),
        )
    )
    x, y = np.array([[first, 0.0]]), first * ratio * np.array([[np.cos(angle), np.sin(angle)]])
    if angle in (0.0, np.pi):  # exactly parallel
        y = x * (ratio if angle == 0 else -ratio)
    network = nf.FullyConnected(depth, activation=activation, **scales)
    kind, engine = draw(st.sampled_from(["ntk", "nngp"])), draw(st.sampled_from(engines))
    return Drawn(name, network, kind, x.astype(dtype), y.astype(dtype), engine)


def exact(drawn: Drawn, q: mpf, p: mpf, theta: mpf) -> mpf:
    """Return the recursion of Jacot et al. (2018) over the layers the network states."""
    dual = ACTIVATIONS[drawn.name][0]
    if drawn.network.activation.degree == 1:  # it sees the direction of rows however short
        q, p = max(q, VANISHING), max(p, VANISHING)
    c, t = mp.sqrt(q * p) * mp.cos(theta), mpf(0)
    for k, layer in enumerate(drawn.network.layers(drawn.x.shape[1])):
        if k:
            value, slope = dual(q, p, c)
            q, p, c, t = dual(q, q, q)[0], dual(p, p, p)[0], value, slope * t
        w, e, x, y = (mpf(number) for number in (layer.w, layer.e, layer.x, layer.y))
        q, p, c, t = w * q + e, w * p + e, w * c + e, w * t + x * c + y
    return mpf(drawn.network.scale(drawn.kind)) * (t if drawn.kind == "ntk" else c)


def condition(drawn: Drawn, q: mpf, p: mpf, theta: mpf, value: mpf) -> mpf:
    """Change of the value for relative errors of both norms and of the angle, per unit of error."""
    turn = min(theta, mp.pi - theta) if mp.sin(theta) < 0.28 else 1 / mp.sin(theta)
    turned = theta + H * turn * (1 if theta < mp.pi / 2 else -1)
    moved = [(q * (1 + H), p, theta), (q, p * (1 + H), theta), (q, p, turned)]
    return sum(abs(exact(drawn, *inputs) - value) for inputs in moved) / H


def share_of_bound(drawn: Drawn) -> float:
    """Return the error of one pair over the bound that its condition number gives; 0 if refused."""
    kernel = getattr(drawn.network, drawn.kind)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            found = float(kernel(drawn.x, drawn.y, engine=drawn.engine)[0, 0])
        except ValueError as error:
            assert "overflows" in str(error)
            return 0.0
    # Rows are exact numbers to the oracle; duals are linear but for the squares of norms.
    norms = [float(np.linalg.norm(row.astype(float))) for row in (drawn.x, drawn.y)]
    smallest = min(norm for norm in norms if norm)
    # Differences of squares of variances that many layers have made large, or small.
    grown = sum(abs(np.log10(layer.w)) for layer in drawn.network.layers(drawn.x.shape[1]))
    with mp.workdps(int(100 + 4 * abs(np.log10(max(smallest, 1e-80))) + 2 * grown)):
        q, p, c = (
            inner(a, b) for a, b in ((drawn.x, drawn.x), (drawn.y, drawn.y), (drawn.x, drawn.y))
        )
        theta = mp.atan2(mp.sqrt(max(q * p - c * c, mpf(0))), c) if q * p else mp.pi / 2
        value = exact(drawn, q, p, theta)
        scale = mp.sqrt(abs(exact(drawn, q, q, mpf(0)) * exact(drawn, p, p, mpf(0))))
        moved = condition(drawn, q, p, theta, value)
        allowed = tolerance(
            drawn.x.dtype, float(scale), float(moved), dimension=2, layers=drawn.network.depth
        )
        tiny = 4 * float(np.finfo(drawn.x.dtype).smallest_normal)
        return abs(found - float(value)) / (float(allowed) + tiny)


def check(drawn: Drawn) -> None:
    """Compare one pair with the oracle."""
    assert share_of_bound(drawn) <= 1


def inner(a: np.ndarray, b: np.ndarray) -> mpf:
    """Exact inner product."""
    return mp.fsum(mpf(float(s)) * mpf(float(t)) for s, t in zip(a[0], b[0], strict=True))


def fuzz(count: int) -> Any:
    """Return settings of a run: the same examples every time, unless their number is given."""
    count = int(os.environ.get("NTKFAST_FUZZ", count))
    return hypothesis.settings(max_examples=count, derandomize="NTKFAST_FUZZ" not in os.environ)


@fuzz(25)
@hypothesis.given(cases(ENGINES[:1]))  # Numba would compile for as long as all of it takes
def test_dense_networks(drawn: Drawn) -> None:
    check(drawn)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["relu", "abs"])
def test_small_biases_near_opposite_rows(name: str, dtype: Any) -> None:
    """Kernels with a bend of the width of the bias: polynomials in the angle may miss it."""
    x = np.array([[1, 0]], dtype)
    for b_std, angle, depth in itertools.product((1e-6, 1e-3), (0.0054, 0.1), (1, 3)):
        y = np.array([[-np.cos(angle), np.sin(angle)]], dtype)
        net = nf.FullyConnected(
            depth,
            activation=ACTIVATIONS[name][1],
            parameterization="ntk",
            w_std=1.5,
            b_std=b_std,
        )
        check(Drawn(name, net, "ntk", x, y, ENGINES[0]))


def test_overflow_on_one_sphere_is_an_error() -> None:
    net = nf.FullyConnected(5, activation=ACTIVATIONS["cubic"][1], bias=0.1)
    x = np.array([[6.212507, 0.0], [-6.212507, 0.0015962848]], np.float32)
    with pytest.raises(ValueError, match="overflows float32"):
        net.ntk(x)


@pytest.mark.slow
@fuzz(200)
@hypothesis.given(cases())
def test_many_dense_networks(drawn: Drawn) -> None:
    check(drawn)


@pytest.mark.slow
@fuzz(8)
@hypothesis.given(cases(ENGINES[:1], tuple(sorted(named_oracle.STRIPS))))
def test_functions_without_closed_form(drawn: Drawn) -> None:
    pytest.importorskip("gmpy2")
    check(drawn)
