"""Networks walked for all pairs of rows in NumPy, where no series of the activation is short.

A pair is carried as (w, co, t): 1 - u and 1 + u of the cosine u = nngp / sqrt(q p), and the NTK.
Sums of two kernels (a bias is the constant kernel) are those of csrc/formulas/pair_state.hpp:
parallel rows stay parallel to the last digit.
"""

from __future__ import annotations

import operator
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ntkfast.activations.base import Activation
from ntkfast.activations.pairs import root_share
from ntkfast.arrays.collections import FloatArray, Rows
from ntkfast.arrays.panels import panels
from ntkfast.kernels.layers import Layer, Layers, carry

Doubles: TypeAlias = NDArray[np.floating[Any]]
Variances: TypeAlias = tuple[NDArray[np.float64], NDArray[np.float64]]  # of both sides of a pair
Outs: TypeAlias = tuple[FloatArray | None, FloatArray | None]  # NTK and NNGP
NEAR = 0.01  # 1 - |u| below which rows are subtracted
PANEL_BYTES = 1 << 24
MAX_TERMS = 1024  # Hermite coefficients of an activation without a closed form
CUT = 4.0  # what a series of fewer terms may lack, in units of eps
LOSS = 8.0  # and one of the most terms, before pairs are walked
VANISHING = 2.5  # power of eps: a variance at which functions are as at 0, but for their size
FEW_PAIRS = 400  # that are worth a quadrature each
SAMPLED = 256  # rows among which the hardest pairs are looked for


def series_losses(activation: Activation, coefficients: Doubles, q: Doubles) -> tuple[float, float]:
    """Return what a Hermite series lacks of E[s^2] and of E[s'^2], relative to them.

    Parameters
    ----------
    activation : Activation
    coefficients : (n, terms) array
        Of the variances `q`, (n,).
    """
    squares = coefficients**2
    degrees = squares * np.arange(squares.shape[1])
    found = squares.sum(axis=1), degrees.sum(axis=1)
    whole = activation.variance(q), q * activation.derivative_variance(q)
    lost = [
        float(np.max(np.where(top > 0, top - part, 0) / np.where(top > 0, top, 1), initial=0.0))
        for part, top in zip(found, whole, strict=True)
    ]
    return lost[0], lost[1]


def normalised_series(
    activation: Activation, variances: Variances, dtype: DTypeLike
) -> list[FloatArray]:
    """Return normalised Hermite coefficients, one row per data row, then root mean squares.

    The number of coefficients is doubled until what is cut off is rounding error.
    """
    eps = float(np.finfo(dtype).eps)
    unique, inverse = np.unique(np.concatenate(variances), return_inverse=True)
    top = np.asarray(activation.variance(unique), np.float64)
    seen = np.maximum(unique, eps**VANISHING)  # 0 / 0 has a limit
    terms = 8
    while True:
        found = np.asarray(activation.hermite(seen, terms), np.float64)
        if terms >= MAX_TERMS or max(series_losses(activation, found, seen)) <= CUT * eps:
            break
        terms *= 2
    size = np.asarray(activation.variance(seen), np.float64)
    scale = np.where(size > 0, 1 / np.sqrt(np.where(size > 0, size, 1)), 0)
    slope = np.asarray(activation.derivative_variance(unique), np.float64)
    block = np.column_stack([found * scale[:, None], np.sqrt(top), np.sqrt(slope)])
    count = len(variances[0])
    return [block[inverse[:count]], block[inverse[count:]]]


@lru_cache(maxsize=256)
def _loss(activation: Activation, q: float) -> float:
    """Return what the longest series lacks at a variance."""
    if activation.polynomial_degree is not None:
        return 0.0
    if not activation.has_series:
        return np.inf
    variance = np.array([q])
    return max(series_losses(activation, activation.hermite(variance, MAX_TERMS), variance))


def short_of(layers: Layers, X: Rows, Y: Rows | None) -> tuple[Activation, ...]:
    """Return the activations whose series are too short for the largest rows."""
    limit = LOSS * float(np.finfo(X.dtype).eps)
    short: list[Activation] = []

    def activate(layer: Layer, q: float) -> float:
        one = layer.activation
        if not one.is_compiled and _loss(one, q) > limit:
            short.append(one)
        return float(one.variance(q))

    top = max(float(side.norms.max()) for side in (X, Y) if side is not None) ** 2

    def affine(layer: Layer, q: float) -> float:
        return layer.w * q + layer.e

    carry(layers, top, activate, affine, operator.add, operator.mul)
    return tuple(short)


def can_walk(short: tuple[Activation, ...], X: Rows, Y: Rows | None) -> bool:
    """Whether all pairs can be walked.

    Functions with kinks other than 0 have no tables: their averages cost milliseconds each, and are
    taken where pairs are few.
    """
    tabulated = all(getattr(one, "has_table", True) for one in short)
    return tabulated or len(X) * len(X if Y is None else Y) <= FEW_PAIRS


def hardest(X: Rows, Y: Rows) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return some rows and columns whose pairs are the most nearly parallel or opposite.

    They are looked for among some hundred rows of either side.
    """
    rows, columns = (
        np.unique(np.linspace(0, len(side) - 1, min(len(side), SAMPLED)).astype(np.intp))
        for side in (X, Y)
    )
    sides = zip((X, Y), (rows, columns), strict=True)
    w, co = angles(*(side.data[part].astype(np.float64) for side, part in sides))
    if X.data is Y.data:
        np.fill_diagonal(w, 2)
    size = np.outer(X.norms[rows], Y.norms[columns])  # of pairs that a series cannot tell apart
    found = [
        np.unravel_index(np.lexsort((-size.ravel(), alike.ravel()))[:4], w.shape)
        for alike in (np.floor(w * MAX_TERMS), np.floor(co * MAX_TERMS))
    ]
    first, second = (np.unique(np.concatenate(part)) for part in zip(*found, strict=True))
    return rows[first], columns[second]


def part(side: Rows, rows: NDArray[np.intp]) -> Rows:
    """Pick rows with all that belongs to them."""
    parts = side.data, side.norms, side.series, side.diagonal
    data, norms, *rest = (None if part is None else part[rows] for part in parts)
    assert data is not None and norms is not None
    return Rows(data, norms, *rest)


class Pairs(NamedTuple):
    """The kernels of all pairs at some point of a network."""

    q: Doubles  # (n,): variances of the rows
    p: Doubles  # (m,): and of the columns
    w: Doubles  # (n, m)
    co: Doubles
    t: Doubles
    error: float  # of w and of derivative duals, as far as activations tell

    @property
    def roots(self) -> Doubles:
        """The roots of the products of both variances."""
        return np.asarray(np.sqrt(self.q)[:, None] * np.sqrt(self.p))

    @property
    def nngp(self) -> Doubles:
        """The NNGP."""
        u = np.where(self.w < 1, 1 - self.w, self.co - 1)
        return np.asarray(self.roots * u)


def _activate(layer: Layer, pairs: Pairs) -> Pairs:
    one = layer.activation
    defect, slope, error = one.pair_duals(pairs.q, pairs.p, pairs.w / 2, pairs.co / 2)
    q, p = np.split(one.variance(np.concatenate([pairs.q, pairs.p])), [pairs.q.size])
    w, t = np.clip(defect, 0, 2), np.where(pairs.t == 0, 0, slope * pairs.t)
    return Pairs(q, p, w, 2 - w, t, pairs.error + error)


def _affine(layer: Layer, pairs: Pairs) -> Pairs:
    t = layer.w * pairs.t + layer.x * pairs.nngp + layer.y
    scaled = pairs._replace(q=layer.w * pairs.q, p=layer.w * pairs.p)
    if layer.e:
        zero = np.zeros_like(t)
        q, p = (np.full_like(side, layer.e) for side in (pairs.q, pairs.p))
        scaled = _join(scaled, Pairs(q, p, zero, zero + 2, zero, 0.0))
    return scaled._replace(t=t)


def _join(a: Pairs, b: Pairs) -> Pairs:
    whole = Pairs(a.q + b.q, a.p + b.p, a.w, a.co, a.t + b.t, max(a.error, b.error))
    cosine, cosine_ = root_share(a.q, whole.q, 1.0)[:, None], root_share(a.p, whole.p, 1.0)
    sine, sine_ = root_share(b.q, whole.q)[:, None], root_share(b.p, whole.p)
    turned = (sine - sine_) * cosine_ - sine_ * (cosine - cosine_)
    first, second = cosine * cosine_, sine * sine_
    moved = turned**2 / (1 + first + second)
    w, co = (first * one + second * two + moved for one, two in ((a.w, b.w), (a.co, b.co)))
    return whole._replace(w=w, co=co)


def _multiply(a: Pairs, b: Pairs) -> Pairs:
    w, co = (a.w * b.co + a.co * b.w) / 2, (a.co * b.co + a.w * b.w) / 2
    t = a.t * b.nngp + a.nngp * b.t
    return Pairs(a.q * b.q, a.p * b.p, w, co, t, a.error + b.error)


def walk(layers: Layers, pairs: Pairs) -> Pairs:
    """Carry all pairs through layers."""
    return carry(layers, pairs, _activate, _affine, _join, _multiply)


def angles(X: Doubles, Y: Doubles) -> tuple[Doubles, Doubles]:
    """Return 1 - u and 1 + u of all pairs; a zero row is orthogonal to others, equal to itself."""
    left, right = (np.linalg.norm(side, axis=1)[:, None] for side in (X, Y))
    A, B = X / np.where(left > 0, left, 1), Y / np.where(right > 0, right, 1)
    u = A @ B.T
    w, co = 1 - u, 1 + u
    for sign, distance in ((1, w), (-1, co)):
        i, j = np.nonzero(distance < NEAR)
        for part in panels(i.size, 16 * A.shape[1]):
            gap = A[i[part]] - sign * B[j[part]]
            distance[i[part], j[part]] = np.einsum("ij,ij->i", gap, gap) / 2
    empty = (left == 0) & (right.T == 0)
    w[empty], co[empty] = 0, 2
    return w, co


def write(
    layers: Layers,
    scales: tuple[float, float],
    X: Rows,
    Y: Rows | None,
    own: NDArray[np.float64],
    outs: Outs,
) -> float:
    """Write the NTK and the NNGP, each where an array for it is given.

    Parameters
    ----------
    own : (n, 2) array
        Both kernels of the rows of X with themselves.

    Returns
    -------
    float
        What the activations say about the error, relative to the roots of values at equal rows.
    """
    other = X if Y is None else Y
    left, right = (side.data.astype(np.float64, copy=False) for side in (X, other))
    q, p = (side.norms.astype(np.float64) ** 2 for side in (X, other))
    error = 0.0
    for part in panels(len(left), 64 * len(right), PANEL_BYTES):
        w, co = angles(left[part], right)
        start = Pairs(q[part], p, w, co, np.zeros_like(w), 0.0)
        pairs = walk(layers, start)
        error = max(error, pairs.error)
        equal = (w == 0) & (q[part][:, None] == p)
        for out, scale, value, top in zip(
            outs, scales, (pairs.t, pairs.nngp), own[part].T, strict=True
        ):
            if out is not None:
                out[part] = np.where(equal, top[:, None], scale * value)
                if Y is None:  # the other half by its mirror image, to the last bit
                    out[part, : part.start] = out[: part.start, part].T
                    block = out[part, part]
                    block[:] = np.triu(block) + np.triu(block, 1).T
    return error
