"""A network with biases, or on rows of any norms, where these are far apart: no walk along layers.

With q and p the variances of two rows after the first affine step, and t their angle there,

    K = sqrt(K(x, x) K(y, y)) sum_j T_j(z) sum_k s_jk f_jk(q) f_jk(p),     s_jk = 1 or -1,

z a function of t. Near equal rows every bias makes a cone sqrt(a (log q/p)^2 + t^2), and no such
sum is short; in a sector of angles away from it few hundred products serve at any depth. The
coefficient of each power is a symmetric function of q and p. Its spectral decomposition on
Chebyshev points of log q, cut where eigenvalues vanish in the precision of the rows, is that sum.
The functions of rows are interpolated on pieces of log q.

In float32 one to three hundred products serve rows of any norms. float64 would take five times as
many, so that a form is compiled for the norms of nearly all rows of a call, to powers of two.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ntkfast import engines
from ntkfast.arrays.collections import FloatArray, Rows
from ntkfast.engines.codes import SECTOR_UNIT
from ntkfast.engines.maps import LayerMap, Sector, SectorMap
from ntkfast.kernels.balance import scaled
from ntkfast.kernels.layer_rows import OfLayers, facts_of
from ntkfast.kernels.layers import IDENTITY, Layer, Layers, diagonal, numbers

Array: TypeAlias = NDArray[np.float64]

#: Angles where sectors begin: nearer pairs walk along the layers.
NARROW, WIDE = 0.2, 0.5
#: Where they end: some activations make a cone at opposite rows, too.
ENDS = math.pi, math.pi - WIDE
#: Variances of rows after the first layer, without its bias, as powers of two: from the first to
#: the second, or the third where activations are homogeneous.
RANGE = -8.0, 6.0, 12.0
NODES = 40, 64, 100, 150, 200  # of the logarithm of the variance: as many as the functions need
PIECE_NODES = 12  # of each piece of the functions of rows
TERMS = 4  # of z
CHECKED = 24, 32  # variances and angles of the pairs on which the form is compared with the layers
EVENLY = 240  # variances of rows of equal norms on which it is, too
LEAST = 1 / 16  # what each pair of norms reaches at some angle, K(x, x) = K(y, y) = 1
EPS = float(np.finfo(np.float64).eps)


class Digits(NamedTuple):
    """What the form takes in one precision, K(x, x) = K(y, y) = 1."""

    dtype: np.dtype[Any]
    cut: float  # root mean square of the terms of one power that are left out
    least: float  # coefficients of powers that count: the values have that error themselves
    angles: tuple[int, int]  # nodes of z in either sector
    pieces: int  # of the functions of rows
    numbers: int  # at most
    #: What the form costs at each pair, at least, in layers, and to compile on one processor, at
    #: most, in pairs that walk along the layers; twice that in float64, for each range of norms.
    cost: int
    sampled: int
    products: int  # in the time of a layer


SINGLE = Digits(np.dtype(np.float32), 2e-8, 2e-8, (14, 20), 16, 1024, 6, 12_000_000, 40)
DOUBLE = Digits(np.dtype(np.float64), 1e-16, 4e-16, (28, 48), 32, 2560, 12, 24_000_000, 28)


class Walk:
    """The layers after the first one, in float64, by variances and angles between them."""

    def __init__(self, layers: Layers, kind: str, span: tuple[float, float]) -> None:
        first = layers[0]
        # What is left of the first layer: a covariance c, of which c - e is the part of weights.
        gain = first.x / first.w
        self.bias, self.second = first.e, kind == "nngp"
        self.layers = (Layer(x=gain, y=first.y - gain * first.e), *layers[1:])
        low, high = (math.log2(2.0**end + first.e) for end in span)
        self.range = low, high
        self.plan = LayerMap(numbers(self.layers, ()), self.second, (1.0, 1.0))

    def own(self, q: Array) -> Array:
        """K(x, x)."""
        found = diagonal(self.layers, q)
        return np.asarray(found.nngp if self.second else found.ntk)

    def normalised(self, q: Array, p: Array, angles: Array) -> Array:
        """K(x, y) / sqrt(K(x, x) K(y, y)), (q, p, angles)."""
        left = _rows(q, np.zeros(1))
        right = _rows(p, angles)
        values = np.empty((len(left), len(right)))
        outs = (None, values) if self.second else (values, None)
        engines.load("native").run(self.plan, None, left, right, outs, 1)
        scale = np.sqrt(self.own(q)[:, None] * self.own(p))
        return np.asarray(values.reshape(*scale.shape, -1) / scale[..., None])


def accepted(layers: int, digits: Digits) -> float:
    """Return the largest error, K(x, x) = K(y, y) = 1: a half of what the layers are allowed."""
    return (2 + 1.5 * (layers - 1)) * float(np.finfo(digits.dtype).eps)


def whole_span(layers: Layers) -> tuple[float, float]:
    """Return variances of rows, without the bias of the first layer, as powers of two."""
    homogeneous = all(layer.activation.degree == 1 for layer in layers)
    return RANGE[0], RANGE[2 if homogeneous else 1]


def _rows(squares: Array, angles: Array) -> Rows:
    """Return vectors of a plane with all these squared norms and angles."""
    norms, ends = np.sqrt(squares), np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    data = (norms[:, None, None] * ends).reshape(-1, 2)
    return Rows(data, np.repeat(norms, len(ends)))


def sector_map(
    kernel: OfLayers, dim: int, digits: Digits = SINGLE, span: tuple[float, float] | None = None
) -> LayerMap | None:
    """Return the layers of a kernel with sectors; None if these are not accurate."""
    return _kept[digits](kernel, dim, digits, span)


def _with_sectors(
    kernel: OfLayers, dim: int, digits: Digits, span: tuple[float, float] | None
) -> LayerMap | None:
    layers, _, scales, exponent, _ = facts_of(kernel, dim)
    second = kernel.kind == "nngp"
    most = accepted(len(layers), digits)
    factor = scaled(scales[second], exponent)
    found = compile_sectors(layers, kernel.kind, factor, most, digits, span or whole_span(layers))
    if found is None:
        return None
    return LayerMap(numbers(layers, ()), second, scales, exponent, found)


# A form of float64 has up to 8 MB.
_kept = {SINGLE: lru_cache(maxsize=64)(_with_sectors), DOUBLE: lru_cache(maxsize=16)(_with_sectors)}


def compile_sectors(
    layers: Layers, kind: str, scale: float, most: float, digits: Digits, span: tuple[float, float]
) -> SectorMap | None:
    """Compile a kernel.

    Parameters
    ----------
    layers : sequence of Layer
        With activations that the native engine knows.
    kind : {"ntk", "nngp"}
    scale : float
        The kernel is that of the layers times this.
    most : float
        Error that is accepted, over sqrt(K(x, x) K(y, y)).
    digits : Digits
    span : (float, float)
        Variances of rows after the first layer, without its bias, as powers of two.

    Returns
    -------
    SectorMap or None
        Its `error` is measured against the layers in float64, in the arithmetic of the form, on
        some 18,000 pairs of any norms and on pairs of equal norms at the ends of sectors, where it
        is largest. None if there is no short form of that accuracy.
    """
    first = layers[0]
    if first.activation != IDENTITY or first.save >= 0 or first.joins or first.w <= 0:
        return None
    walk = Walk(layers, kind, span)
    if walk.layers[0].y < 0:  # weights are trained, and biases are not
        return None
    with np.errstate(all="ignore"):  # what is not finite has no such form
        for end in ENDS:
            # The wide one first: most kernels without a form are told by it.
            wide = _part(walk, WIDE, end, digits, 1)
            narrow = wide and _part(walk, NARROW, WIDE, digits, 0)
            if not wide or not narrow:
                continue
            found = _joined((narrow, wide), walk, first.w, scale, digits)
            if found is not None:
                found = replace(found, error=_error(found, walk, scale, end))
                if found.error <= most:
                    return found
    return None


class Part(NamedTuple):
    """A sector, and the coefficients and signs of its functions."""

    sector: Sector
    table: Array  # (pieces, nodes, numbers)
    signs: Array


def _part(walk: Walk, start: float, stop: float, digits: Digits, which: int) -> Part | None:
    """Return a sector, the first or the second; None if it has no form."""
    z = _variable(start / math.pi, stop / math.pi)
    angles = math.pi * _inverse(z, start / math.pi, stop / math.pi, _points(digits.angles[which]))
    found = _coefficients(walk, angles, digits.least)
    if found is None:
        return None
    size = np.abs(found).max(axis=(1, 2))
    terms, tables, signs = [], [], []
    for p in reversed(range((int(np.flatnonzero(size > digits.least)[-1]) + 2) // 2)):
        both = [_decomposed(found[power], digits.cut) for power in (2 * p + 1, 2 * p)]
        terms.append(max(sign.size for sign, _ in both))
        signs.append(_in_turn([sign for sign, _ in both], terms[-1]))
        functions = _in_turn([functions for _, functions in both], terms[-1])
        tables.append(_pieces(functions, digits.pieces))
    last = stop / math.pi if stop < math.pi else 1.25  # rounding may add to pi
    sector = Sector(start / math.pi, last, tuple(z.tolist()), tuple(terms))
    return Part(sector, np.concatenate(tables, axis=2), np.concatenate(signs))


def _joined(
    parts: Sequence[Part], walk: Walk, weight: float, scale: float, digits: Digits
) -> SectorMap | None:
    """Return the map of sectors, without its error; None if it has too many numbers."""
    own = np.sqrt(scale * walk.own(np.exp2(_between(*walk.range, _inner_points(digits.pieces)))))
    tables = [_transform(PIECE_NODES) @ own[..., None], *(part.table for part in parts)]
    rest = -sum(table.shape[2] for table in tables) % SECTOR_UNIT
    table = np.concatenate([*tables, np.zeros((digits.pieces, PIECE_NODES, rest))], axis=2)
    if table.shape[2] > digits.numbers:
        return None
    signs = np.concatenate([np.ones(1), *(part.signs for part in parts), np.ones(rest)])
    return SectorMap(
        tuple(part.sector for part in parts),
        table.astype(digits.dtype),
        signs.astype(digits.dtype),
        (weight, walk.bias),
        walk.range,
        walk.second,
        math.inf,
    )


def _variable(start: float, stop: float) -> Array:
    """Return z of an angle over pi as a polynomial, highest power first.

    It is nearly linear in the root: kernels of deep networks vary most at the smallest angles.
    """
    places = np.cos(math.pi / (TERMS - 1) * np.arange(TERMS))
    at = _between(math.sqrt(start), math.sqrt(stop), places) ** 2
    return np.linalg.solve(np.vander(at), places)


def _inverse(z: Array, start: float, stop: float, values: Array) -> Array:
    """Return where between both ends z has these values, by bisection."""
    low, high = np.full_like(values, start), np.full_like(values, stop)
    for _ in range(60):
        middle = (low + high) / 2
        above = np.polyval(z, middle) > values
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    return np.asarray((low + high) / 2)


def _points(count: int) -> Array:
    """Chebyshev points of [-1, 1]."""
    return np.asarray(np.cos(math.pi / count * (np.arange(count) + 0.5)))


def _transform(count: int) -> Array:
    """Return the matrix from values at these points to Chebyshev coefficients."""
    turns = np.outer(np.arange(count), 2 * np.arange(count) + 1) % (4 * count)  # no large angles
    matrix = np.cos(np.arccos(np.longdouble(0)) / count * turns) * (2 / np.longdouble(count))
    matrix[0] /= 2
    return np.asarray(matrix, np.float64)


def _between(low: float, high: float, points: Array) -> Array:
    return np.asarray((low + high) / 2 + (high - low) / 2 * points)


def _coefficients(walk: Walk, angles: Array, least: float) -> Array | None:
    """Chebyshev coefficients in z at points of q and p, (powers, q, p); None: they do not fall."""
    last, before = 0, 1.0
    for count in NODES:
        q = np.exp2(_between(*walk.range, _points(count)))
        values = walk.normalised(q, q, angles)
        base = values[..., 0]  # without it less is rounded
        found = np.moveaxis((values - base[..., None]) @ _transform(len(angles)).T, 2, 0)
        found[0] += base
        size = np.abs(found).max(axis=(1, 2))
        # Where it vanishes beside K(x, x), only layers keep its digits.
        if not (np.abs(values).max(axis=2).min() > LEAST and (size[-2:] <= 4 * least).all()):
            return None
        tail = float(np.abs(_transform(count)[-3:] @ found).max())
        if tail <= least:
            return (found + np.swapaxes(found, 1, 2)) / 2
        rate = math.log(tail / before) / (count - last)
        if math.log(tail) + rate * (NODES[-1] - count) > math.log(least):
            return None
        last, before = count, tail
    return None


def _spectrum(matrix: Array) -> tuple[Array, Array]:
    """Return eigenvalues and eigenvectors of a symmetric matrix, the largest ones first."""
    size, vectors = np.linalg.eigh(matrix)
    order = np.argsort(-np.abs(size))
    return size[order], vectors[:, order]


def _decomposed(matrix: Array, cut: float) -> tuple[Array, Array]:
    """Return signs and functions, (k,) and (nodes, k), whose products sum up to a matrix."""
    size, vectors = _spectrum(matrix)
    if 16 * EPS * abs(size[0]) > cut * len(matrix):  # which the others have as an error
        others, rest = _spectrum(matrix - size[0] * np.outer(vectors[:, 0], vectors[:, 0]))
        size, vectors = np.append(size[:1], others), np.hstack([vectors[:, :1], rest])
    left = np.sqrt(np.cumsum(size[::-1] ** 2)[::-1]) / len(matrix)
    kept = left > cut
    return np.sign(size[kept]), vectors[:, kept] * np.sqrt(np.abs(size[kept]))


def _in_turn(parts: list[Array], count: int) -> Array:
    """Interleave two sets along the last axis, both filled up with zeros."""
    filled = [np.pad(p, [(0, 0)] * (p.ndim - 1) + [(0, count - p.shape[-1])]) for p in parts]
    return np.stack(filled, axis=-1).reshape(*filled[0].shape[:-1], 2 * count)


def _pieces(functions: Array, count: int) -> Array:
    """Return coefficients on pieces, (pieces, nodes, functions), from values at points."""
    chebyshev = _transform(len(functions)) @ functions
    basis = np.polynomial.chebyshev.chebvander(_inner_points(count), len(functions) - 1)
    return np.asarray(_transform(PIECE_NODES) @ (basis @ chebyshev))


def _inner_points(count: int) -> Array:
    """Chebyshev points of each of so many pieces of [-1, 1], (pieces, nodes)."""
    edges, inner = np.linspace(-1, 1, count + 1), _points(PIECE_NODES)
    return np.stack([_between(low, high, inner) for low, high in pairwise(edges)])


def evaluate(plan: SectorMap, q: Array, p: Array, angles: Array) -> FloatArray:
    """Return the kernel at angles in sectors, (q, p, angles), in the precision of the engine."""
    dtype, sides = plan.table.dtype, []
    for variance in (q, p):
        low, high = plan.range
        place = (np.log2(variance) - low) / (high - low) * len(plan.table)
        piece = place.astype(int)
        basis = np.polynomial.chebyshev.chebvander(2 * (place - piece) - 1, plan.table.shape[1] - 1)
        row = np.einsum("nd,ndk->nk", basis.astype(dtype), plan.table[piece])
        sides.append(row * row[:, :1])
    products = sides[0][:, None] * (sides[1] * plan.sign)
    turn = (angles / math.pi).astype(dtype)
    result, first = np.zeros((len(q), len(p), len(angles)), dtype), 1
    for sector in plan.sectors:
        here = (turn >= dtype.type(sector.start)) & (turn < dtype.type(sector.stop))
        z = np.polyval(np.asarray(sector.z, dtype), turn[here])
        coefficients = []
        for count in sector.terms:
            both = products[..., first : first + 2 * count].reshape(len(q), len(p), count, 2)
            coefficients += [both[..., 0].sum(axis=-1), both[..., 1].sum(axis=-1)]
            first += 2 * count
        basis = np.polynomial.chebyshev.chebvander(z, len(coefficients) - 1).astype(dtype)
        result[..., here] = np.einsum("jqp,aj->qpa", coefficients[::-1], basis)
    return result


def _error(plan: SectorMap, walk: Walk, scale: float, end: float) -> float:
    """Largest error at random variances and angles, over the root of K(x, x) K(y, y).

    And at equal variances and the ends of sectors, where what is cut off adds up.
    """
    random = np.random.default_rng(0)
    q, p = np.exp2(random.uniform(*plan.range, (2, CHECKED[0])))
    half = CHECKED[1] // 2
    angles = np.concatenate([random.uniform(NARROW, WIDE, half), random.uniform(WIDE, end, half)])
    ends = NARROW * (1 + 1e-6), WIDE * (1 - 1e-6), WIDE * (1 + 1e-6), end * (1 - 1e-6)
    angles = np.concatenate([angles, ends])
    error = _largest(plan, walk, scale, q, p, angles)
    evenly = np.exp2(np.linspace(*plan.range, EVENLY + 2)[1:-1])
    for some in np.split(evenly, EVENLY // CHECKED[0]):
        error = max(error, _largest(plan, walk, scale, some, some, np.array(ends)))
    return error if math.isfinite(error) else math.inf


def _largest(plan: SectorMap, walk: Walk, scale: float, q: Array, p: Array, angles: Array) -> float:
    own = np.sqrt(scale * walk.own(q))[:, None, None] * np.sqrt(scale * walk.own(p))[:, None]
    found = evaluate(plan, q, p, angles) / own - walk.normalised(q, p, angles)
    return float(np.abs(found).max())
