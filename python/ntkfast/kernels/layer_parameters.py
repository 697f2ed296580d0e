"""Derivatives of networks of rows by their parameters, in one walk along the layers.

A parameter moves the constants of layers and nothing else, so that their derivatives are all that
an engine must know. Pairs are symmetric, and each input has a half of them. A constant that is 0
stays so in first order, for none is negative.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ntkfast import places
from ntkfast.arrays.collections import FloatArray, Rows, Weights
from ntkfast.arrays.panels import panels
from ntkfast.engines import Run
from ntkfast.engines.codes import DIRECTIONS
from ntkfast.engines.maps import LayerMap
from ntkfast.kernels.moving import REACH, stencil

Steps = NDArray[np.float64]
FAR = 2.0  # what no constant moves by within a stencil, if it moves smoothly


@lru_cache(maxsize=256)
def steps_of(kernel: Any, name: str, dim: int) -> Steps | None:
    """Return half the logarithmic derivatives of w, e, x and y of each layer, and of the result.

    None where layers depend on a parameter in steps, as powers of two that keep them in range do.
    """
    nodes, weights = stencil(kernel.parameters()[name], REACH)
    here = _constants(kernel, dim)
    tables = [_constants(kernel._moved(name, node), dim) for node in nodes]
    if any(table.shape != here.shape for table in tables):
        return None
    ratios = np.array(tables) / np.where(here > 0, here, 1)
    if not np.all((ratios * FAR >= 1) & (ratios <= FAR) | (here == 0)):
        return None
    slopes = np.tensordot(np.array(weights), ratios, 1)
    return np.where(here > 0, slopes / 2, 0).astype(np.float64)


def _constants(kernel: Any, dim: int) -> NDArray[np.longdouble]:
    rows = [(layer.w, layer.e, layer.x, layer.y) for layer in kernel.network.layers(dim)]
    return np.array([*rows, (kernel.network.scale(kernel.kind), 0, 0, 0)], np.longdouble)


def known_steps(kernel: Any, names: Sequence[str], dim: int, layers: int) -> dict[str, Steps]:
    """Return the steps of those parameters of which they are known."""
    found = {name: steps_of(kernel, name, dim) for name in names}
    return {name: one for name, one in found.items() if one is not None and len(one) == layers + 1}


@dataclass(frozen=True, eq=False)
class Walk:
    """What derivatives by some parameters ask of an engine.

    Attributes
    ----------
    plan : LayerMap
    steps : dict
        Of each parameter an (layers + 1, 4) array.
    X, Y : Rows
        None for Y: X in both places.
    """

    plan: LayerMap
    steps: dict[str, Steps]
    X: Rows
    Y: Rows | None

    def sums(self, V: Weights, run: Run) -> dict[str, float]:
        """Return the derivatives of sum_ij V_ij K(x_i, y_j)."""
        names = list(self.steps)
        found: dict[str, float] = {}
        for first in range(0, len(names), DIRECTIONS):
            some = names[first : first + DIRECTIONS]
            steps, total = np.array([self.steps[name] for name in some]), np.zeros(len(some))
            for left, right, weights, turned in self._sides(V):
                sums = np.empty((len(left), len(some)))
                run.engine.by_parameters(
                    self.plan, steps, left, right, weights, turned, sums, run.threads
                )
                total += sums.sum(axis=0)
            found |= dict(zip(some, total.tolist(), strict=True))
        return found

    def _sides(self, V: Weights) -> list[tuple[Rows, Rows, Weights, FloatArray | None]]:
        """Return rows, columns and weights, V or the transpose of V, of calls for both halves."""
        X, Y = self.X, self.Y
        if V.left is None or V.right is None:
            if Y is None:
                return [(X, X, V, V.matrix)]
            return [(X, Y, V, None), (Y, X, Weights(), V.matrix)]
        if Y is None:
            place = places.of(X.memory)
            both = place.beside(V.left, V.right), place.beside(V.right, V.left)
            return [(X, X, Weights(None, *both), None)]
        return [(X, Y, V, None), (Y, X, Weights(None, V.right, V.left), None)]

    def add(self, along: Mapping[str, float], out: FloatArray, run: Run) -> None:
        """Add the derivative along steps of all parameters to a matrix, in one walk."""
        X, Y = self.X, self.Y
        steps = np.array([sum(along[name] * one for name, one in self.steps.items())])

        def half(left: Rows, right: Rows) -> FloatArray:
            part = np.empty((len(left), len(right)), left.dtype)
            run.engine.by_parameters(
                self.plan, steps, left, right, Weights(), None, part, run.threads
            )
            return part

        if Y is None:
            part = half(X, X)
            out += part + part.T
            return
        out += half(X, Y)
        for rows in panels(len(Y), len(X) * X.dtype.itemsize):
            out[:, rows] += half(Y[rows], X).T
