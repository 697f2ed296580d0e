"""Functions on one sphere, once and for all angles: by a short series, or by a table."""

from __future__ import annotations

from collections.abc import Hashable
from functools import lru_cache
from typing import Protocol

import numpy as np

from ntkfast.activations.mesh import NOISY, Doubles, Function, noise_floor
from ntkfast.activations.tables import _sphere_nodes, _SphereTable


class OnSphere(Hashable, Protocol):
    """What is needed of a function with a mesh."""

    # ruff: noqa: D102 - see `CallableActivation`

    @property
    def function(self) -> Function: ...
    @property
    def reachable(self) -> float: ...
    def found_kinks(self, reach: float = 16.0) -> tuple[float, ...]: ...
    def _bound(self, root: float) -> float: ...
    def _small_angle(self, root: float) -> float: ...
    def _direct(self, root: float, v: Doubles, vc: Doubles) -> Doubles: ...
    def _yardstick(self, root: float, squares: Doubles) -> Doubles: ...
    def _coefficients(self, root: float, count: int) -> Doubles: ...


@lru_cache(maxsize=64)
def _sphere_table(activation: OnSphere, root: float) -> _SphereTable | None:
    """Tabulate averages of squares at one variance; None if that is not accurate enough."""
    edges, s = _sphere_nodes(float(np.sin(activation._small_angle(root) / 2)))
    small, large = (s * s).ravel(), (1 - s * s).ravel()
    found = activation._direct(root, np.append(small, large), np.append(large, small))
    values = found.reshape(2, 2, *s.shape).transpose(1, 2, 3, 0)
    table = _SphereTable.fit(edges, values)
    scale = activation._yardstick(root, np.abs(values).max(axis=2).swapaxes(0, 1)).swapaxes(0, 1)
    if np.any(table.tails() > activation.reachable * scale):
        return None
    return table


@lru_cache(maxsize=64)
def _series_weights(activation: OnSphere, root: float) -> Doubles | None:
    """Return squared Hermite coefficients with sum 1, or None if they decay too slowly.

    Smooth functions need a hundred; with these an angle costs a polynomial and no quadrature.
    """
    if activation.found_kinks(activation._bound(root) * root):
        return None
    count, noise = 64, noise_floor(activation.function)
    while count <= 4096:
        weights = activation._coefficients(root, count) ** 2
        slopes = np.arange(count) * weights
        if slopes[-8:].max() < max(1e-18, noise**2 if noise > NOISY else 0) * slopes.sum():
            return np.asarray(weights / weights.sum())
        count *= 2
    return None
