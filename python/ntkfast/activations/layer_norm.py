"""Layer normalization: division by the root of the variance of a layer's own signals."""

# ruff: noqa: D102 - the methods are documented once, in the base class

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ntkfast.activations.base import (
    Activation,
    Angle,
    Array,
    SphereMap,
    _check_count,
    _column,
    _floats,
    _linear_limit,
)
from ntkfast.activations.pairs import _half_chords, inverse_root


@dataclass(frozen=True)
class Standardization(Activation):
    """The linear function x / sqrt(q) of signals of variance q: K = c / sqrt(qp).

    Signals of variance 0, of a row of zeros without biases before, have no direction: they count as
    orthogonal to others and equal to themselves. Where the network is homogeneous, that is the
    limit of short rows in both kernels; elsewhere the NTK lacks what is trained before.
    """

    is_arc_cosine = True
    is_smooth = True

    @property
    def name(self) -> str:
        return "layer normalization"

    @property
    def degree(self) -> float | None:
        return 0.0

    @property
    def polynomial_degree(self) -> int | None:
        return 1

    @property
    def is_odd(self) -> bool:
        return True

    def __call__(self, x: ArrayLike) -> Array:
        raise TypeError("activation: layer normalization is a function of all neurons of a layer")

    def derivative(self, x: ArrayLike) -> Array:
        return self(x)

    def dual(self, q: ArrayLike, p: ArrayLike, c: ArrayLike) -> Array:
        _, v, vc = _half_chords(*_floats(q, p, c))
        return np.asarray(vc - v)

    def derivative_dual(self, q: ArrayLike, p: ArrayLike, c: ArrayLike) -> Array:
        q, p, c = np.broadcast_arrays(*_floats(q, p, c))
        return np.asarray(inverse_root(q) * inverse_root(p))

    def variance(self, q: ArrayLike) -> Array:
        return np.ones_like(_floats(q)[0])

    def derivative_variance(self, q: ArrayLike) -> Array:
        (q,) = _floats(q)
        return np.where(q > 0, 1 / np.where(q > 0, q, 1), 0)

    def hermite(self, q: ArrayLike, count: int) -> Array:
        _check_count(count)
        q, _ = _column(q)
        return np.broadcast_to(np.arange(count) == 1, (*q.shape, count)).astype(q.dtype)

    def arc_cosine_map(self, angle: Angle) -> tuple[Any, Any]:
        return angle.D, 0 * angle.D + 1

    def _sphere_map(self, q: Array, v: Array, vc: Array) -> SphereMap:
        return _linear_limit(v)
