"""Networks on images and sequences whose pairs are walked, and pairs of inputs for them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import ntkfast as nf
import oracle
from ntkfast import AvgPool, Conv, ConvNet, Dense, LayerNorm, Skip, SumPool

EPS = float(np.finfo(np.float64).eps)
Array = np.ndarray
SEQUENCES: dict[str, dict[str, Any]] = {
    "plain": {"depth": 1},
    "first states": {"depth": 2, "b_std": 0.3, "h_std": 0.5, "u_std": 0.8},
    "erf": {"depth": 2, "activation": "erf", "readout": "average", "w_std": 1.1},
    "gelu": {
        "depth": 2,
        "activation": "gelu",
        "direction": "bidirectional",
        "readout": "average_normalized",
        "b_std": 0.1,
    },
    "sin": {"depth": 2, "activation": "sin", "fixed_layers": 1, "readout": "average_released"},
    "gaussian": {"depth": 1, "activation": "gaussian"},
    "exp": {"depth": 1, "activation": "exp(1,0.5)", "w_std": 0.5, "u_std": 0.5},
    "step": {"depth": 2, "activation": "step", "b_std": 0.4},
}
PLAIN, WIDE = (Conv(3), "relu"), Conv(3, padding="circular")
IMAGES: dict[str, tuple[Any, tuple[int, int, int]]] = {
    "flatten": (nf.Convolutional(2), (4, 3, 2)),
    "gap": (nf.Convolutional(2, readout="gap", parameterization="ntk", b_std=0.3), (3, 3, 1)),
    "lap": (nf.Convolutional(2, readout="lap", window=3, padding="circular"), (4, 3, 2)),
    "valid": (nf.Convolutional(2, padding="valid", readout="gap"), (5, 5, 1)),
    "skip": (ConvNet(Conv(3), Skip("relu", Conv(3, 1.0, 0.2)), "relu", Conv(3)), (3, 3, 2)),
    "pools": (
        ConvNet(*PLAIN, AvgPool(2), *PLAIN, AvgPool(2), Conv(1, 1, 0.1), "relu", readout="flatten"),
        (4, 4, 2),
    ),
    "circular pool": (ConvNet(WIDE, "relu", AvgPool(2), WIDE, Skip("relu", WIDE)), (6, 6, 1)),
    "strides": (
        ConvNet(
            *(Conv((2, 3), 1.3, 0.2, ((1, 2), (0, 3)), stride=(1, 2)), "leaky_relu(0.3)"),
            *(Skip(Conv(2, 1.0, stride=2), shortcut=(Conv(1, stride=2), "abs", Conv(1))), "gelu"),
            readout=nf.Readout("lap", 3, b_std=0.2),
        ),
        (4, 5, 2),
    ),
    "grows": (
        ConvNet(Conv(2, 1.3, 0.2, 4), "step", Conv(1, 1.2, 0.1, 1), "relu", readout="flatten"),
        (3, 3, 1),
    ),
    "wide pools": (
        ConvNet(
            *(
                Conv(2, 1.2, 0.2),
                LayerNorm("all"),
                "relu",
                AvgPool((2, 3), 1, "zero"),
                Conv(3, stride=2),
            ),
            *("erf", SumPool((2, 1), 1), Conv(1), LayerNorm(), "sin"),
        ),
        (3, 4, 1),
    ),
    "circular strides": (
        ConvNet(WIDE, "cos", Conv(3, 1.2, 0.1, "circular", stride=(2, 3)), "gaussian"),
        (4, 6, 1),
    ),
    "branches": (
        ConvNet(
            Conv(2, 1.2, 0.2),
            nf.Multiply(("relu", Conv(2, 0.9, 0.1)), ("erf", Conv(1)), ()),
            nf.Concatenate((Conv(1), "gelu"), (Conv(1), "abs"), shares=(0.3, 0.7)),
            *(Conv(2, 1.1, 0.1), nf.Add((), ("relu", Conv(1), nf.Multiply((), Conv(1)))), Conv(1)),
        ),
        (3, 2, 2),
    ),
    "head": (
        ConvNet(
            *(Conv(3), "exp(1, 0.3)", Conv(2), "relu"),
            readout="flatten",
            head=("relu", Dense(1.1, 0.2), nf.Residual("erf", Dense(0.9)), Dense(1.1)),
        ),
        (3, 3, 1),
    ),
}
CLOSE_SEQUENCES = {
    "relu": (nf.Recurrent(1, b_std=0.3), oracle.relu),
    "leaky": (
        nf.Recurrent(2, activation="leaky_relu(0.2)", h_std=0.5, b_std=0.4, readout="average"),
        oracle.leaky_relu(0.2),
    ),
    "step": (nf.Recurrent(2, activation="step", b_std=0.4), oracle.step),
    "erf": (nf.Recurrent(2, activation="erf"), oracle.erf),
    "no biases": (nf.Recurrent(2, w_std=1.2), oracle.relu),
}
CLOSE_IMAGES = {
    "relu": nf.Convolutional(2, readout="gap"),
    "skip": ConvNet(
        Conv((1, 2), 1.2, 0.1),
        Skip("abs", Conv(2, 0.9, 0.2, stride=(1, 2)), shortcut=(Conv(1, stride=(1, 2)))),
        *("leaky_relu(0.3)", Conv((1, 2)), "relu"),
    ),
    "norm": ConvNet(
        *(Conv((1, 2), 1.2), LayerNorm("all"), "relu"),
        *(Conv((1, 2), 1.0, 0.3), LayerNorm(), "relu"),
    ),
    "product": ConvNet(
        Conv((1, 2), 1.2, 0.1),
        nf.Multiply(("abs", Conv(2, 0.9, 0.2)), ("leaky_relu(0.3)", Conv(1))),
        *(Conv((1, 2)), "relu"),
    ),
    "step": ConvNet(Conv(3, 1.2, 0.1), "step", Conv(3, 1.1, 0.2), "relu"),
    "pool": ConvNet(Conv(3, 1.2, 0.1), "relu", AvgPool((1, 3)), Conv(1, 1.1, 0.3), "relu"),
    "mixed": ConvNet(Conv(3, 1.2, 0.1), "erf", Conv(3, 1.1, 0.2), "relu"),
    "gelu": ConvNet(Conv(3), "gelu", AvgPool((1, 3)), Conv(1, 1.1, 0.3), "abs"),
    "waves": ConvNet(Conv(3, 1.5), "sin", Conv(3), "exp(1, 0.8)", Conv(3), "leaky_relu(0.2)"),
    "behind": ConvNet(Conv(3, 1.2, 0.1), "relu", head=("relu", Dense(1.1, 0.2), "relu", Dense())),
    "joined": ConvNet(
        *(Conv((1, 2), 1.2, 0.1), "gaussian", Conv(1), LayerNorm("all")),
        nf.Multiply(("erf", Conv((1, 2))), ("leaky_relu(0.3)", Conv(1, 1.1, 0.2))),
        *(Conv(1), AvgPool((1, 2), 1), Conv(1), Skip("abs", Conv(1, 0.7)), LayerNorm(), "relu"),
    ),
    "jump": ConvNet(Conv((1, 2), 1.2, 0.1), "gelu", Conv(1, 1.0, 0.1), "step", Conv(1), "relu"),
}


def some(found: dict[str, Any], quick: set[str]) -> Any:
    """Parametrise over cases, all but some of them slow."""
    return pytest.mark.parametrize(
        "case",
        [
            pytest.param(case, id=name, marks=() if name in quick else pytest.mark.slow)
            for name, case in found.items()
        ],
    )


def pairs(x: Array) -> list[tuple[float, Array, Array]]:
    """Return distances and pairs; infinity where images lose no digits.

    Where parts of inputs are 0 the derivative is the mean of those of both sides.
    """
    away = np.random.default_rng(8).standard_normal(x.shape)
    empty, other = x.copy(), away.copy()
    empty[1:], other[0] = 0, 0
    special = [(np.inf, *pair) for pair in ((x, x), (x, -2 * x), (empty, away), (empty, other))]
    return special + [(d, x, away if d == 1 else x + d * away) for d in (1.0, 1e-3, 1e-7)]
