"""Drawn convolutional networks, images, engines and dtypes against the printed recursion."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from mpmath import mp, mpf

import ntkfast as nf
from image_oracle import Exact, Oracle
from ntkfast.networks import steps
from test_fuzz import CLOSE, ENGINES, fuzz
from tolerances import epsilon

ROUNDINGS = (
    8  # per step, in units of the root of the values at equal images; see test_convolutional
)
CONVS = st.builds(
    nf.Conv,
    st.sampled_from([1, 3, 3]),
    st.sampled_from([0.5, 1.0, 2**0.5, 2.0]),
    st.sampled_from([0.0, 0.0, 1e-3, 0.3]),
    st.just("zero"),
    st.booleans(),
)
BIASES = st.sampled_from([0.0, 0.0, 0.2])
CURVED = (
    *("erf", "gelu", "sin", "cos", "rbf(0.5)", "gaussian", "sigmoid_like"),
    *("abs", "leaky_relu(0.2)", "relu"),
)
READOUTS = st.builds(
    lambda kind, w, b, trained: nf.Readout(kind, 3 if kind == "lap" else None, w, b, trained),
    st.sampled_from(steps.READOUTS),
    st.sampled_from([1.0, 0.6]),
    BIASES,
    st.booleans(),
)


class Drawn(NamedTuple):
    """One case."""

    network: Any
    x: np.ndarray
    y: np.ndarray
    engine: str


class Blurred(Exact):
    """Numbers whose covariances before each ReLU are off, towards the right angle."""

    def __init__(self, change: float) -> None:
        self.change = mpf(change)

    def relu(self, s: Any, q: Any, p: Any) -> tuple[Any, Any]:
        """Both averages."""
        return super().relu(s * (1 - self.change), q, p)


@st.composite
def composed(draw: st.DrawFn) -> nf.ConvNet:
    """Draw branches, pools and convolutions that follow one another."""
    conv = draw(CONVS)
    block = nf.Skip("relu", draw(CONVS), *(["relu", draw(CONVS)] if draw(st.booleans()) else []))
    middle = draw(st.sampled_from([(), (block,), (block, block), (draw(CONVS),)]))
    pool = [nf.AvgPool(2)] if draw(st.booleans()) else []
    late = ["relu", *pool, draw(CONVS)] if draw(st.booleans()) else pool
    return nf.ConvNet(conv, *middle, *late, "relu", readout=draw(READOUTS), channels="last")


@st.composite
def stepped(draw: st.DrawFn) -> nf.ConvNet:
    """Draw strides, windows of any shape, projections, overlapping pools and normalization."""
    sizes = st.sampled_from([1, 2, 3, (1, 3), (2, 1)])
    scales = st.sampled_from([0.5, 1.0, 2**0.5])
    biases = st.sampled_from([0.0, 0.3])

    def conv(stride: int | None = None) -> nf.Conv:
        step = draw(st.sampled_from([1, 1, 2])) if stride is None else stride
        return nf.Conv(draw(sizes), draw(scales), draw(biases), stride=step)

    first, down = conv(), draw(st.sampled_from([1, 2]))
    block = nf.Skip("relu", conv(down), shortcut=nf.Conv(1, draw(scales), stride=down))
    norm = [nf.LayerNorm(draw(st.sampled_from(["channels", "all"])))] * draw(st.booleans())
    kind = draw(st.sampled_from([nf.AvgPool, nf.SumPool]))
    pool = [kind(draw(sizes), draw(st.sampled_from([1, 2])), "zero")] * draw(st.booleans())
    middle = draw(st.sampled_from([(block,), ("relu", conv()), (*norm, "relu", *pool, conv())]))
    return nf.ConvNet(first, *middle, "relu", readout=draw(READOUTS), channels="last")


@st.composite
def curved(draw: st.DrawFn) -> nf.ConvNet:
    """Draw any activations with closed duals but jumps, behind which small angles lose digits.

    Pixels are not averaged at the end: those of odd functions would cancel.
    """
    first, second = (draw(st.sampled_from(CURVED)) for _ in range(2))
    block = nf.Skip(second, draw(CONVS), *([first, draw(CONVS)] if draw(st.booleans()) else []))
    norm = [nf.LayerNorm(draw(st.sampled_from(["channels", "all"])))] * draw(st.booleans())
    middle = draw(st.sampled_from([(block,), (*norm, first, draw(CONVS)), ()]))
    last = nf.Readout("flatten", None, draw(st.sampled_from([1.0, 0.6])), draw(BIASES))
    return nf.ConvNet(draw(CONVS), *middle, second, readout=last, channels="last")


@st.composite
def uniform(draw: st.DrawFn) -> nf.Convolutional:
    """Draw equal layers, with any padding."""
    readout, unit = draw(st.sampled_from(steps.READOUTS)), draw(st.booleans())
    return nf.Convolutional(
        draw(st.integers(1, 2)),
        filter_size=draw(st.sampled_from([1, 3])),
        readout=readout,
        window=3 if readout == "lap" else None,
        padding=draw(st.sampled_from(steps.PADDINGS)),
        parameterization="unit" if unit else "ntk",
        w_std=draw(st.sampled_from([0.7, 2**0.5, 3.0])),
        b_std=0.0 if unit else draw(st.sampled_from([0.0, 1e-3, 0.4])),
        train_first=draw(st.booleans()),
        train_last=draw(st.booleans()),
        channels="last",
    )


def other(draw: st.DrawFn, x: np.ndarray, g: np.random.Generator, top: float) -> np.ndarray:
    """Draw an image: fresh, equal, opposite, parallel, close to one of these, zero."""
    far = st.floats(-15, top).map(lambda e: 10.0**e)
    y = x * draw(st.sampled_from([1.0, -1.0, 0.0]) | far | far.map(lambda factor: -factor))
    shift = draw(st.just(0.0) | st.just(1.0) | st.floats(-9, 0).map(lambda e: 10.0**e))
    return y + shift * np.abs(x).max() * g.normal(size=x.shape)


@st.composite
def cases(draw: st.DrawFn, engines: tuple[str, ...] = ENGINES) -> Drawn:
    """Draw any network; images of a few pixels, with empty parts, of any norm."""
    network = draw(composed() | stepped() | uniform() | curved())
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    low, high = (-18, 15) if dtype == np.float32 else (-140, 140)
    scaled = all(getattr(step, "degree", 1) == 1 for step in steps.each_step(network.steps()))
    if not scaled:  # large images are chaotic there: waves tell their sizes apart by eps of these
        low, high = -3, 0
    size = 10.0 ** draw(st.floats(max(-2, low), min(2, high)) | st.floats(low, high))
    g = np.random.default_rng(draw(st.integers(0, 2**32)))
    valid = getattr(network, "padding", "") == "valid" and network.filter_size > 1
    if valid:
        h, w = 2 * network.depth + 1, 2 * network.depth + draw(st.integers(1, 2))
    elif any(step == nf.AvgPool(2) for step in network.steps()):
        h, w = 2, draw(st.sampled_from([2, 4]))
    else:
        h, w = (draw(st.sampled_from([2, 3])) for _ in range(2))
        if getattr(network, "padding", "") == "circular":
            h, w = max(h, network.filter_size), max(w, network.filter_size)
    x = g.normal(size=(h, w, draw(st.sampled_from([1, 2, 3]))))
    x[g.random((h, w)) < draw(st.sampled_from([0.0, 0.0, 0.3, 1.0]))] = 0
    x = (size * x).astype(dtype)
    with np.errstate(over="ignore"):
        y = other(draw, x, g, 3 if scaled else 0.5).astype(dtype)
    return Drawn(network, x, y, draw(st.sampled_from(engines)))


def share_of_bound(drawn: Drawn) -> float:
    """Return the largest error of both kernels and their diagonals over the bound; 0 if refused.

    Behind a pool angles are differences: what a change of covariances in their last digits does is
    allowed there besides.
    """
    network, dtype = drawn.network, drawn.x.dtype
    X, Y = drawn.x[None], drawn.y[None]
    found: dict[str, list[float]] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            found["xy"] = [float(K[0, 0]) for K in network.both(X, Y, engine=drawn.engine)]
            for pair, Z in (("xx", X), ("yy", Y)):
                found[pair] = [float(kernel.diag(Z)[0]) for kernel in (network.nngp, network.ntk)]
        except ValueError as error:
            assert any(word in str(error) for word in ("overflow", "direction", "vanishes"))
            return 0.0
    allowed = ROUNDINGS * len(network.plan(drawn.x.shape).steps) * epsilon(dtype)
    tiny = 4 * float(np.finfo(dtype).smallest_normal)
    with mp.workdps(40):
        exact = Oracle().all(network, drawn.x, drawn.y)
        share = shares(found, exact, exact, allowed, tiny)
        pools = any(isinstance(step, nf.AvgPool) for step in network.steps())
        if share > CLOSE and pools:  # the second oracle takes its time
            blurred = Oracle(Blurred(allowed)).all(network, drawn.x, drawn.y)
            share = shares(found, exact, blurred, allowed, tiny)
    return share


def shares(
    found: dict[str, list[float]],
    exact: dict[str, tuple[float, float]],
    blurred: dict[str, tuple[float, float]],
    allowed: float,
    tiny: float,
) -> float:
    """Return the largest error over what is allowed, of all pairs and both kernels."""
    largest = 0.0
    for pair, values in found.items():
        for which, value in enumerate(values):
            wanted, changed = exact[pair][which], blurred[pair][which]
            size = np.sqrt(exact["xx"][which]) * np.sqrt(exact["yy"][which])
            bound = allowed * (size if pair == "xy" else wanted) + abs(changed - wanted) + tiny
            largest = max(largest, abs(value - wanted) / bound)
    return float(largest)


@fuzz(25)
@hypothesis.given(cases(ENGINES[:1]))
def test_images(drawn: Drawn) -> None:
    assert share_of_bound(drawn) <= 1


@pytest.mark.slow
@fuzz(120)
@hypothesis.given(cases())
def test_many_images(drawn: Drawn) -> None:
    assert share_of_bound(drawn) <= 1
