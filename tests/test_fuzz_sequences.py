"""Drawn recurrent networks, sequences, engines and dtypes against the printed recursion."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from mpmath import mp

import ntkfast as nf
import sequence_oracle
from ntkfast.networks import recurrent
from test_fuzz import ACTIVATIONS, CLOSE, CLOSED, ENGINES, fuzz
from tolerances import LAYER, VALUE, epsilon, inner_product_error

SEQUENTIAL = [  # series and the identity are refused
    name
    for name in CLOSED
    if name != "identity" and nf.Activation(ACTIVATIONS[name][1]).is_compiled
]


class Drawn(NamedTuple):
    """One case."""

    name: str
    network: Any
    kind: str
    x: np.ndarray
    y: np.ndarray
    engine: str
    padded: bool


def other(draw: st.DrawFn, x: np.ndarray, g: np.random.Generator) -> np.ndarray:
    """Draw a sequence: fresh, equal, opposite, parallel, close to one of these, of any length."""
    y = x * draw(
        st.sampled_from([1.0, -1.0])
        | st.floats(-4, 1).map(lambda e: 10.0**e)
        | st.floats(-6, -0.5).map(lambda e: 1 + 10.0**e)
    )
    size = np.abs(x).max() if x.any() else 1.0
    shift = draw(st.just(0.0) | st.just(1.0) | st.floats(-12, 0).map(lambda e: 10.0**e))
    y = y + shift * size * g.normal(size=x.shape)
    if draw(st.booleans()):  # another length, the same end or the same beginning
        cut = draw(st.integers(0, len(x) - 1))
        more = size * g.normal(size=(draw(st.integers(0, 2)), x.shape[1]))
        y = np.concatenate([more, y[cut:]]) if draw(st.booleans()) else y[: len(x) - cut]
    return y


@st.composite
def cases(draw: st.DrawFn, engines: tuple[str, ...] = ENGINES) -> Drawn:
    """Draw any activation, scales, read-outs and directions; sequences of a few steps."""
    name = draw(st.sampled_from(SEQUENTIAL))
    narrow = name in ("exp", "gaussian")
    scale = st.sampled_from([0.3, 0.5] if narrow else [0.5, 0.9, 1.0, 1.3, 2.0, 3.0])
    zero_or = st.sampled_from([0.0, 0.0, 1e-6, 1e-2, 0.3] if narrow else [0.0, 0.0, 1e-6, 0.1, 1.0])
    depth = draw(st.integers(1, 3))
    network = nf.Recurrent(
        depth,
        w_std=draw(scale),
        u_std=draw(scale),
        b_std=draw(zero_or),
        h_std=draw(zero_or),
        v_std=draw(st.sampled_from([1.0, 0.7])),
        activation=ACTIVATIONS[name][1],
        direction=draw(st.sampled_from(recurrent.DIRECTIONS)),
        readout=draw(st.sampled_from(sorted(recurrent.READOUTS))),
        fixed_layers=draw(st.integers(0, depth)),
        channels="last",
    )
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    ordinary = st.floats(-2, 0) if narrow else st.floats(-2, 1.5)
    extreme = st.floats(-18, 0 if narrow else 3) if dtype == np.float32 else st.floats(-70, 0)
    size = 10.0 ** draw(extreme if draw(st.integers(0, 4)) == 0 else ordinary)
    g = np.random.default_rng(draw(st.integers(0, 2**32)))
    x = g.normal(size=(draw(st.integers(1, 5)), draw(st.sampled_from([1, 2, 5]))))
    x[g.random(len(x)) < draw(st.sampled_from([0.0, 0.0, 0.4, 1.0]))] = 0
    if narrow:
        size, x = size / 4, np.clip(x, -2, 2)
    y = other(draw, x, g)
    if narrow:
        y = np.clip(y, -3, 3)
    kind, engine = draw(st.sampled_from(["ntk", "nngp"])), draw(st.sampled_from(engines))
    x, y = ((size * a).astype(dtype) for a in (x, y))
    return Drawn(name, network, kind, x, y, engine, draw(st.booleans()))


def inputs(drawn: Drawn) -> list[Any]:
    """Return both sequences as collections, as padded arrays or as lists."""
    if not drawn.padded:
        return [[drawn.x], [drawn.y]]
    long = max(len(drawn.x), len(drawn.y)) + 1
    found = []
    for a in (drawn.x, drawn.y):
        table = np.full((1, long, a.shape[1]), np.nan, a.dtype)
        table[0, : len(a)] = a
        found.append(nf.sequences(table, lengths=[len(a)], channels="last"))
    return found


def share_of_bound(drawn: Drawn, condition: bool = True) -> float:
    """Return the largest error of a pair and its diagonal over the bound; 0 if refused."""
    kernel = getattr(drawn.network, drawn.kind)
    X, Y = inputs(drawn)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            found = float(kernel(X, Y, engine=drawn.engine)[0, 0])
            own = [float(kernel.diag(Z)[0]) for Z in (X, Y)]
        except ValueError as error:
            assert "overflows" in str(error)
            return 0.0
    sizes = np.abs(np.concatenate([drawn.x, drawn.y]).astype(float))
    smallest = sizes[sizes > 0].min(initial=1.0)
    dual, dtype = ACTIVATIONS[drawn.name][0], drawn.x.dtype
    cells = drawn.network.depth * max(len(drawn.x), len(drawn.y))
    tiny = 4 * float(np.finfo(dtype).smallest_normal)
    with mp.workdps(int(100 + 4 * abs(np.log10(max(smallest, 1e-80))))):
        case = drawn.network, dual, drawn.x, drawn.y, drawn.kind
        value = sequence_oracle.kernel(*case)
        sides = [
            sequence_oracle.kernel(drawn.network, dual, a, a, drawn.kind, same=True)
            for a in (drawn.x, drawn.y)
        ]
        share = max(
            abs(float(a) - float(b)) / (epsilon(dtype) * (VALUE + LAYER * cells) * float(b) + tiny)
            for a, b in zip(own, sides, strict=True)
        )
        error = abs(found - float(value))
        allowed = epsilon(dtype) * (VALUE + LAYER * cells) * float(mp.sqrt(sides[0] * sides[1]))
        if condition and error > CLOSE * (allowed + tiny):  # the condition takes its time
            factor = inner_product_error(drawn.x.shape[1]) + LAYER
            allowed += epsilon(dtype) * factor * float(sequence_oracle.condition(*case))
        return max(share, error / (allowed + tiny))


@fuzz(25)
@hypothesis.given(cases(ENGINES[:1]))
def test_sequences(drawn: Drawn) -> None:
    assert share_of_bound(drawn) <= 1


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_inputs_far_below_the_bias(dtype: Any, engine: str) -> None:
    """What 30 steps of a chaotic network make of inputs of a millionth of the bias."""
    g = np.random.default_rng(4)
    x = g.normal(size=(30, 2))
    y = x + 1e-3 * g.normal(size=x.shape)
    net = nf.Recurrent(1, activation="sin", w_std=3.0, u_std=1e-6, b_std=1.0, channels="last")
    for kind in ("nngp", "ntk"):
        drawn = Drawn("sin", net, kind, x.astype(dtype), y.astype(dtype), engine, padded=False)
        assert share_of_bound(drawn, condition=False) <= 1


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", ["relu", "sign", "shifted"])
@pytest.mark.parametrize("depth", [1, 2])
def test_steps_without_variance(depth: int, name: str, engine: str) -> None:
    """A step of zeros, or zeros throughout, is at a right angle to others, as a row of zeros is."""
    x = np.array([[0.0], [0.0], [0.7]])
    net = nf.Recurrent(depth, activation=ACTIVATIONS[name][1], readout="average", channels="last")
    for a, b in ((x, x[::-1]), (0 * x, x), (0 * x, 0 * x), (x[:2], x)):
        drawn = Drawn(name, net, "nngp", a, b, engine, padded=False)
        assert share_of_bound(drawn) <= 1
    if name == "shifted":  # E[(erf(0) + 3) (erf(z) + 3)]
        found = nf.Recurrent(1, activation=ACTIVATIONS[name][1]).nngp([[0.0]], [[0.7]])
        np.testing.assert_allclose(found, 9, rtol=1e-14)


@pytest.mark.slow
@fuzz(120)
@hypothesis.given(cases())
def test_many_sequences(drawn: Drawn) -> None:
    assert share_of_bound(drawn) <= 1
