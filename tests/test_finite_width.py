"""The limits themselves: wide random networks in plain NumPy, differentiated by hand.

The empirical kernels of R independent networks of width m have the exact kernels as their mean up
to O(1/m). The test allows four standard errors of that mean plus the O(1/m) of the depth at hand,
so it catches a wrong factor, a missing layer or a wrong convention, not a wrong digit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.special

import ntkfast as nf

WIDTH = 384
DRAWS = 96
INPUTS = np.array([[1.0, 0.5, -0.5], [0.25, 1.0, 1.0], [-1.0, 0.25, 0.5], [2.0, 0.75, -1.25]])

Sample = tuple[np.ndarray, np.ndarray]  # empirical NNGP (f f^T of one draw) and NTK


def relu(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.maximum(x, 0), 1.0 * (x > 0)


def erf(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return scipy.special.erf(x), 2 / np.sqrt(np.pi) * np.exp(-x * x)


def dense_network(
    generator: np.random.Generator,
    depth: int,
    activation: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]],
    w_std: list[float],
    b_std: float = 0.0,
    trained_bias: float = 0.0,
) -> Sample:
    """h_l = s(g_l), g_l = w_std[l] W_l h_(l-1) / sqrt(fan-in) + biases, read-out linear.

    ``b_std`` scales random trained biases, ``trained_bias`` biases that start at zero.
    """
    hidden, layers = INPUTS.T, []
    for layer in range(depth + 1):
        fan_in, fan_out = len(hidden), 1 if layer == depth else WIDTH
        weight = generator.standard_normal((fan_out, fan_in))
        bias = b_std * generator.standard_normal((fan_out, 1))
        gain = w_std[layer] / np.sqrt(fan_in)
        before = gain * weight @ hidden + bias
        value, slope = (before, np.ones_like(before)) if layer == depth else activation(before)
        layers.append((weight, gain, hidden, slope))
        hidden = value
    nngp_features = layers[-1][2]
    tangent, delta = np.zeros((len(INPUTS), len(INPUTS))), np.ones((1, len(INPUTS)))
    for weight, gain, below, slope in reversed(layers):
        delta = delta * slope
        of_weights = gain**2 * below.T @ below
        tangent += (delta.T @ delta) * (of_weights + b_std**2 + trained_bias**2)
        delta = gain * weight.T @ delta
    nngp = w_std[-1] ** 2 * nngp_features.T @ nngp_features / len(nngp_features) + b_std**2
    return nngp, tangent


def residual_network(
    generator: np.random.Generator, depth: int, alpha: float, trained: str
) -> Sample:
    """x_l = x_(l-1) + alpha V_l relu(sqrt(2/m) W_l x_(l-1)) / sqrt(m), f = v.x_L."""
    first = generator.standard_normal((WIDTH, INPUTS.shape[1]))
    state, blocks = first @ INPUTS.T / np.sqrt(WIDTH), []
    for _ in range(depth):
        inner, outer = generator.standard_normal((2, WIDTH, WIDTH))
        value, slope = relu(np.sqrt(2 / WIDTH) * inner @ state)
        blocks.append((inner, outer, state, value, slope))
        state = state + alpha / np.sqrt(WIDTH) * outer @ value
    nngp = state.T @ state
    delta = generator.standard_normal((WIDTH, 1)) @ np.ones((1, len(INPUTS)))
    tangent = np.zeros((len(INPUTS), len(INPUTS)))
    if trained in ("last", "all"):
        tangent += nngp
    for inner, outer, before, value, slope in reversed(blocks):
        tangent += alpha**2 / WIDTH * (delta.T @ delta) * (value.T @ value)
        inside = alpha / np.sqrt(WIDTH) * slope * (outer.T @ delta)
        tangent += 2 / WIDTH * (inside.T @ inside) * (before.T @ before)
        delta = delta + np.sqrt(2 / WIDTH) * inner.T @ inside
    if trained == "all":
        tangent += (delta.T @ delta) / WIDTH * (INPUTS @ INPUTS.T)
    return nngp, tangent


def _unit(depth: int) -> list[float]:
    """Gains of the unit parameterisation: x.y at first, then c_sigma = 2 on what a ReLU emits."""
    return [np.sqrt(INPUTS.shape[1])] + [np.sqrt(2)] * depth


NETWORKS: dict[str, tuple[Any, Callable[[np.random.Generator], Sample], int]] = {
    "relu1": (
        nf.FullyConnected(1),
        lambda g: dense_network(g, 1, relu, _unit(1)),
        1,
    ),
    "relu3": (
        nf.FullyConnected(3),
        lambda g: dense_network(g, 3, relu, _unit(3)),
        3,
    ),
    "relu2-zero-initialised-bias": (
        nf.FullyConnected(2, bias=0.75),
        lambda g: dense_network(g, 2, relu, _unit(2), trained_bias=0.75),
        2,
    ),
    "relu2-ntk": (
        nf.FullyConnected(2, parameterization="ntk", w_std=1.25, b_std=0.5),
        lambda g: dense_network(g, 2, relu, [1.25] * 3, b_std=0.5),
        2,
    ),
    "erf2-ntk": (
        nf.FullyConnected(2, activation="erf", parameterization="ntk", w_std=1.5, b_std=0.25),
        lambda g: dense_network(g, 2, erf, [1.5] * 3, b_std=0.25),
        2,
    ),
    "resnet3-residual": (
        nf.ResNet(3, alpha=0.75),
        lambda g: residual_network(g, 3, 0.75, "residual"),
        3,
    ),
    "resnet2-last": (
        nf.ResNet(2, alpha=0.75, trained="last"),
        lambda g: residual_network(g, 2, 0.75, "last"),
        2,
    ),
    "resnet3-all": (
        nf.ResNet(3, alpha=0.75, trained="all"),
        lambda g: residual_network(g, 3, 0.75, "all"),
        3,
    ),
}


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.slow] * n.startswith("resnet")) for n in NETWORKS],
)
def test_wide_networks(name: str) -> None:
    """Means over random networks meet the exact NNGP and NTK within their standard errors."""
    network, draw, depth = NETWORKS[name]
    generator = np.random.default_rng([7, list(NETWORKS).index(name)])
    samples = np.array([draw(generator) for _ in range(DRAWS)])
    mean, error = samples.mean(axis=0), samples.std(axis=0, ddof=1) / np.sqrt(DRAWS)
    for index, kernel in enumerate((network.nngp, network.ntk)):
        exact = kernel(INPUTS)
        diagonal = np.diag(exact)
        allowance = 2 * depth / WIDTH * np.sqrt(np.outer(diagonal, diagonal))
        difference = np.abs(mean[index] - exact)
        assert np.all(difference <= 4 * error[index] + allowance), difference / exact
        assert np.all(4 * error[index] + allowance < 0.12 * diagonal.max())  # the test has power
