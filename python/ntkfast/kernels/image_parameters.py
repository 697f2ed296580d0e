"""Derivatives of convolutional kernels by their parameters, all in one walk of the pairs.

A parameter moves the gains and biases of convolutions and of the read-out, and nothing else. Pairs
are symmetric, and each image has a half of these constants: gains and biases of a pair are roots of
products of both. What a half moves are covariances, by half of what the constant does, and the
variances of its image. The other half is that of the pair turned around.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ntkfast.arrays.collections import Images, Weights
from ntkfast.engines.maps import ImagePlan
from ntkfast.kernels.moving import REACH, gradient_weights, stencil

Doubles = NDArray[np.float64]
LEAST = 8  # parameters from which on a walk is faster than twelve matrices for each


@lru_cache(maxsize=256)
def steps_of(kernel: Any, name: str, shape: tuple[int, int, int]) -> Doubles:
    """Return the logarithmic derivatives of gains and biases, of steps and of the read-out.

    Returns
    -------
    (steps + 1, 2) array
    """
    nodes, weights = stencil(kernel.parameters()[name], REACH)
    here = _constants(kernel.network.plan(shape))
    tables = [_constants(kernel._moved(name, node).network.plan(shape)) for node in nodes]
    safe = np.where(here > 0, here, 1)
    slopes = sum(w * (table / safe) for w, table in zip(weights, tables, strict=True))
    return np.where(here > 0, slopes, 0).astype(np.float64)


def _constants(plan: ImagePlan) -> NDArray[np.longdouble]:
    rows = [(row["gain"], row["bias"]) for row in plan.steps]
    return np.array([*rows, (plan.weight_h.max(), plan.bias)], np.longdouble)


def sums(kernel: Any, X: Images, Y: Images | None, V: Weights) -> Doubles:
    """Return the derivatives of sum_ij V_ij K(x_i, y_j) by logarithms of gains and biases."""
    total = np.zeros_like(_constants(kernel.network.plan(X.shape)), np.float64)
    left = kernel._alone(X)
    right = left if Y is None else kernel._alone(Y)
    turned = Weights(None if V.matrix is None else V.matrix.T, V.right, V.left)
    halves: list[tuple[Any, ...]] = [(X, left, Y, right, V)]
    if Y is not None:
        halves.append((Y, right, X, left, turned))
    elif V.left is not None and V.right is not None:  # as for `vjp`
        both = np.hstack([V.left, V.right]), np.hstack([V.right, V.left])
        halves = [(X, left, None, left, Weights(None, *both))]
    for one, mine, other, others, weights in halves:
        for part, some in gradient_weights(one, other, weights):
            for rows, columns, block in kernel._blocks(
                one, mine[part], others, part.start, Y is None
            ):
                size = block[0].size[:, None]  # which gradients are without
                kernel._gradients(*block, size * some[rows, columns], total)
    return total
