"""Averages tabulated: over variances, and over angles of functions with kinks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ntkfast.activations.base import (
    Array,
    SphereMap,
)
from ntkfast.activations.mesh import Doubles, _chebyshev
from ntkfast.activations.pairs import _power_sum, powers_defect

TABLE_NODES, WORTH_A_TABLE = 18, 50  # per piece of a sphere table; angles
FEW = 24  # variances that are worth a quadrature each


def _over_variances(compute: Callable[[float], Any], q: Array) -> Array:
    """Evaluate a function of the variance at many variances, which for data sets are all different.

    Averages over a Gaussian are analytic in log q: on stretches of a factor of 16 they are
    interpolated at Chebyshev nodes, as many as rounding error asks for.
    """
    unique, inverse = np.unique(q, return_inverse=True)
    if unique.size <= FEW:
        values = np.array([compute(float(x)) for x in unique])
    else:
        first = np.asarray(compute(float(unique[0])))
        values = np.empty((unique.size, *first.shape))
        values[0] = first  # may be 0
        low = 1
        while low < unique.size:
            high = int(np.searchsorted(unique, 16 * unique[low], side="right"))
            values[low:high] = _stretch(compute, unique[low:high])
            low = high
    return np.asarray(values[inverse].reshape(q.shape + values.shape[1:]).astype(q.dtype))


def _stretch(compute: Callable[[float], Any], q: Array) -> Doubles:
    """Evaluate on sorted variances within a factor of 16."""
    if q.size <= FEW:
        return np.array([compute(float(x)) for x in q])
    logs = np.log(q.astype(np.float64))
    middle, half = (logs[-1] + logs[0]) / 2, (logs[-1] - logs[0]) / 2 + 1e-12
    for count in (FEW, 2 * FEW, 4 * FEW):
        z, matrix = _chebyshev(count)
        samples = np.array([compute(float(np.exp(middle + half * x))) for x in z])
        flat = samples.reshape(count, -1)
        series = matrix @ flat
        if np.abs(series[-3:]).max() < 1e-15 * np.abs(flat).max():
            break
    basis = np.polynomial.chebyshev.chebvander((logs - middle) / half, count - 1)
    return np.asarray((basis @ series).reshape(q.size, *samples.shape[1:]))


def _sphere_nodes(first: float) -> tuple[Doubles, Doubles]:
    """Edges of the pieces of a sphere table, 0 and from `first` on twice as long, and its nodes."""
    count = int(np.ceil(np.log2(0.7072 / first)))
    edges = np.append(0.0, np.geomspace(first, 0.7072, count + 1))
    left, right = edges[:-1, None], edges[1:, None]
    return edges, (left + right) / 2 + (right - left) / 2 * _chebyshev(TABLE_NODES)[0]


class _SphereTable(NamedTuple):
    """Averages of squares over s = sin(theta/2), then over cos(theta/2), piece by piece.

    They are analytic in these variables.  Acute angles on the first piece are left to others, who
    keep their relative accuracy.
    """

    edges: Doubles
    series: Doubles  # (2 sides, pieces, nodes, 2)

    @classmethod
    def fit(cls, edges: Doubles, values: Doubles) -> _SphereTable:
        """Interpolate values at the nodes, (2 sides, pieces, nodes, 2)."""
        matrix = _chebyshev(TABLE_NODES)[1]
        return cls(edges, np.einsum("spnk,jn->spjk", values, matrix))

    def tails(self) -> Doubles:
        """Return the last coefficients, (2 sides, pieces, 2); what is not served counts as 0."""
        last = np.abs(self.series[:, :, -2:]).max(axis=2)
        last[0, 0] = 0
        return np.asarray(last)

    def serves(self, v: Doubles) -> Any:
        return v >= self.edges[1] ** 2

    def __call__(self, v: Doubles, vc: Doubles) -> Doubles:
        result = np.empty((2, v.size))
        for side, here in enumerate((v <= 0.5, v > 0.5)):
            s = np.sqrt((vc if side else v)[here])
            piece = np.searchsorted(self.edges[1:-1], s, side="right")
            left, right = self.edges[piece], self.edges[piece + 1]
            basis = np.polynomial.chebyshev.chebvander(
                (2 * s - left - right) / (right - left), TABLE_NODES - 1
            )
            result[:, here] = np.einsum("ij,ijk->ki", basis, self.series[side, piece])
        return result


def _series_map(weights: Array, v: Array, vc: Array) -> SphereMap:
    """Return the sphere map of sum_j weights[j] u^j."""
    slopes = (np.arange(len(weights)) * weights)[1:]
    return (
        powers_defect(weights, v, vc),
        _power_sum(slopes, vc - v),
        powers_defect(slopes, v, vc),
    )


def _interpolate(nodes: Doubles, values: Doubles, x: Doubles) -> Doubles:
    """Barycentric interpolation, also at the nodes themselves."""
    spread = nodes[:, None] - nodes[None, :]
    np.fill_diagonal(spread, 1.0)
    weights = 1 / np.prod(spread / np.ptp(nodes), axis=1)
    gaps = x[:, None] - nodes
    terms = weights / np.where(gaps == 0, 1e-200, gaps)
    return np.asarray((terms @ values) / terms.sum(axis=1))
