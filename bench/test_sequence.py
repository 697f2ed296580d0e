"""Recurrent kernels against their arithmetic bound and the scheme of the released code.

The bound of all pairs of two sets is T products of (n, m) with (m, n) in NumPy plus T x depth maps
of a layer at the rate of the dense engine: depth 40 over depth 20, with biases, on rows of unequal
norms. A set with itself has half of that. The released scheme has arrays of all pairs at every
step, arc cosines and square roots, and is written anew from the formulas.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

import ntkfast as nf
from race import Call, Race, Size, Times

W2, U2, B2 = 2.0, 1.0, 0.01  # squared scales of the recurrent weights, the input and the biases
SHAPES = {"one channel": (1, 1), "16 channels": (16, 3)}  # channels, depth


def dense_pair(dtype: str, n: int) -> dict[str, Call]:
    """Return the calls whose difference tells the rate of a layer."""
    random = np.random.default_rng(0)
    X = random.standard_normal((n, 16)) * random.uniform(0.5, 2, (n, 1))
    X = X.astype(dtype)
    Y = X[::-1].copy()
    net = partial(nf.FullyConnected, parameterization="ntk", b_std=0.1)
    return {f"depth {depth}": partial(net(depth).ntk, X, Y) for depth in (20, 40)}


def layer_rate(times: Times, n: int) -> float:
    """Return the seconds of a layer per pair of rows."""
    return (times["depth 40"].median - times["depth 20"].median) / 20 / n**2


def products(X: np.ndarray) -> Call:
    """Return T products of all pairs of inputs of a step."""
    steps = np.ascontiguousarray(X.swapaxes(0, 1))
    out = np.empty((len(X), len(X)), X.dtype)

    def work() -> None:
        for step in steps:
            np.matmul(step, step.T, out=out)

    return work


def dual(c: np.ndarray, size: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return E[phi phi] and E[phi' phi'] of ReLU for covariances and products of deviations."""
    u = np.clip(c / size, -1, 1)
    angle = np.arccos(u)
    slope = (np.pi - angle) / (2 * np.pi)
    return size * (np.sqrt(1 - u * u) / (2 * np.pi) + slope * u), slope


def released(X: np.ndarray, depth: int) -> np.ndarray:
    """Return the tangent kernel by arrays of all pairs at every step."""
    count, steps, channels = X.shape
    own = np.zeros((depth, count), X.dtype)  # variances after the activation
    past = [(np.zeros((count, count), X.dtype), np.zeros((count, count), X.dtype))] * depth
    for t in range(steps):
        x = X[:, t]
        value, tangent = x @ x.T / channels, np.zeros((count, count), X.dtype)
        size = np.einsum("ij,ij->i", x, x) / channels
        for layer in range(depth):
            c = W2 * past[layer][0] + U2 * value + B2
            theta = c + W2 * past[layer][1] + U2 * tangent
            q = W2 * own[layer] + U2 * size + B2
            value, slope = dual(c, np.sqrt(np.outer(q, q)))
            tangent = slope * theta
            past[layer] = value, tangent
            size = own[layer] = q / 2
    return value + tangent


@pytest.mark.parametrize("what", ["one set", "two sets", "NumPy"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", SHAPES)
def test_sequences(race: Race, size: Size, name: str, dtype: str, what: str) -> None:
    """All pairs of 500 sequences of 128 steps, ReLU with biases."""
    channels, depth = SHAPES[name]
    count, steps, flat = size(20, 500), size(8, 128), size(64, 2000)
    X = np.random.default_rng(0).standard_normal((count, steps, channels)).astype(dtype)
    kernel = nf.Recurrent(depth, w_std=W2**0.5, u_std=U2**0.5, b_std=B2**0.5).ntk
    row = {"sequences": f"{name}, depth {depth}", "dtype": dtype}
    if what == "NumPy":
        error = np.abs(released(X[:50].astype(float), depth) / kernel(X[:50]) - 1).max()
        call, facts = partial(released, X, depth), {"largest difference": float(error)}
        race(call, "sequences", row, what, against={"one set": partial(kernel, X)}, facts=facts)
        return
    beside = {"products": products(X), **dense_pair(dtype, flat)}
    call = partial(kernel, X) if what == "one set" else partial(kernel, X, X[::-1].copy())
    pairs = count * (count + 1) / 2 if what == "one set" else count**2

    def facts_of(times: Times) -> dict[str, float]:
        rate, own = layer_rate(times, flat), times["own"].median
        share = 2 if what == "one set" else 1
        bound = times["products"].median / share + steps * depth * pairs * rate
        facts = {f"{what} / bound": own / bound}
        if what == "one set":
            each = own / (steps * depth * pairs)
            facts |= {"ns per step, layer, pair": 1e9 * each, "layer map, ns": 1e9 * rate}
        return facts

    race(call, "sequences", row, what, beside=beside, facts=facts_of)
