"""Compiles a kernel on the sphere, a function of u = cos(x, y), into piecewise polynomials.

With s = sqrt((1-u)/2) for u >= 0 and s = sqrt((1+u)/2) for u < 0, kernels of wide networks are
analytic in s up to both ends, and

    k(u) = base + s p(s),     base = k(1) = 1 or base = k(-1),

so that 1 - k keeps its relative accuracy near the diagonal. Either side has eight pieces, uniform
in log(1 + stretch s): deep networks are spiky near s = 0. The piece is read off the exponent and
first mantissa bits of t = 1 + stretch s, and the variable is the distance to its left edge.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ntkfast.arrays.collections import FloatArray
from ntkfast.engines.codes import MIDDLE_BYTES, MIDDLE_DENSITY, PIECES
from ntkfast.engines.maps import ProfileMap

# Extended precision where the platform has it; the curves keep the dtype they are given.
Real = np.longdouble
Reals: TypeAlias = NDArray[Any]

#: v, vc -> 1 - k, where v and vc are sin^2 and cos^2 of half the angle and k(1) = 1.
Curve: TypeAlias = Callable[[Reals, Reals], Reals]
S_MAX = float(np.sqrt(0.5))
F32, F64 = np.dtype(np.float32), np.dtype(np.float64)
NODES = {F32: (10, 20), F64: (20, 32)}  # interpolation nodes per piece: first, and if need be
SAMPLED = 9  # pieces of the samples that all layouts are fitted to
SAMPLE_NODES = {F32: 16, F64: 28}  # and their nodes
GOOD_DEGREE = {F32: 8, F64: 17}  # a layout that reaches this is not searched further
# Octaves of t that eight pieces of 2^sub_bits per octave can cover.
OCTAVES = {3: (1,), 2: (2,), 1: (3, 4), 0: (5, 6, 8)}
CHECKED = 13  # points of a piece on which a profile is compared with its curve
# |u| where the middle table ends, and the part of it with fewer powers.
MIDDLE_END = {F32: 0.88, F64: 0.85}
INNER_END = 0.5
MIDDLE_DEGREE = {F32: 10, F64: 20}  # at most: beyond, the square root costs less
TIP = np.array([1e-5, 2e-5], Real)  # distances from the spike that tell its scale
SPIKE = 1.0  # octaves wanted: log2(1 + S_MAX SPIKE |g'/g|)

# A pair is recomputed from differences where rounding of u would be amplified by more than this,
# at most at the angles with (1-|u|)/2 < REFINE_MOST.
AMPLIFICATION = 3.4
REFINE_MOST = 0.15
REFINE_LEAST = {F32: 2e-6, F64: 1e-13}  # of smooth curves: equal rows must come out equal


class Layout(NamedTuple):
    """Pieces of one side: 2^sub_bits per octave of t in [1, 2^octaves]."""

    sub_bits: int
    octaves: int

    def edges(self) -> tuple[Reals, Reals]:
        """Left edges and widths in t."""
        per_octave = 1 << self.sub_bits
        k = np.arange(self.octaves * per_octave)
        octave = Real(2) ** (k // per_octave)
        width = octave / per_octave
        return octave + (k % per_octave) * width, width

    def stretch(self, dtype: np.dtype[np.floating]) -> float:
        """Slope of t = 1 + stretch s, such that t < 2^octaves even when s is rounded up."""
        exact = (2.0**self.octaves - 1) / S_MAX
        return float(dtype.type(exact * (1 - 8 * float(np.finfo(dtype).eps))))


class Sampled(NamedTuple):
    """What one evaluation of a curve tells: 1 - k at u = -1, the octaves wanted, both sides."""

    end: np.longdouble
    wanted: int
    near: Samples
    far: Samples


class Samples(NamedTuple):
    """One side of a curve on pieces that halve towards s = 0: all layouts are fitted to these.

    The curve of a deep network is dear, and singular at distances like 1/depth from s = 0.
    """

    divided: bool
    coefficients: Reals  # (pieces, count): of g(s) if divided, else of k - base
    slack: float = 1.0  # how much more than rounding errors of a value may be cut off

    def at(self, s: Reals) -> Reals:
        """Return the values at s in [0, S_MAX]."""
        values = interpolant(self.coefficients[None, :, None], s.ravel())
        return np.asarray(values.reshape(s.shape))


def interpolant(coefficients: Reals, s: Reals, side: Any = 0) -> Reals:
    """Return values, (n, k), of Chebyshev series on pieces that halve towards s = 0.

    Parameters
    ----------
    coefficients : (sides, pieces, k, count) array
    s : (n,) array
        In [0, S_MAX].
    side : (n,) array of int, optional
    """
    _, pieces, _, count = coefficients.shape
    piece = np.maximum(-np.frexp(np.maximum(s / S_MAX, 0.5**pieces))[1], 0)
    right = np.ldexp(s.dtype.type(S_MAX), -piece)
    left = np.where(piece == pieces - 1, 0, right / 2)
    basis = np.empty((count, len(s)), s.dtype)
    basis[0], basis[1] = 1, 2 * (s - left) / (right - left) - 1
    twice = 2 * basis[1]
    for k in range(2, count):
        np.multiply(twice, basis[k - 1], out=basis[k])
        basis[k] -= basis[k - 2]
    return np.asarray(np.einsum("jn,nkj->nk", basis, coefficients[side, piece]))


def sampled_edges(pieces: int) -> tuple[Reals, Reals]:
    """Left and right ends in s of the pieces of samples."""
    right = Real(S_MAX) * Real(2) ** -np.arange(pieces)
    return np.append(right[1:], Real(0)), right


@cache
def sampled_nodes(count: int, pieces: int) -> Reals:
    """Return where `count` samples of each piece lie, (pieces, count)."""
    left, right = sampled_edges(pieces)
    nodes = left[:, None] + (right - left)[:, None] * (np.cos(_angles(count)) + 1) / 2
    nodes.flags.writeable = False
    return np.asarray(nodes)


def interpolated(values: Reals) -> Reals:
    """Return Chebyshev coefficients of samples."""
    # `dot` of long doubles takes a third of the time of `@`.
    return np.asarray(np.dot(values, _transform(values.shape[1]).astype(values.dtype, copy=False)))


@cache
def _transform(count: int) -> Reals:
    """Return the matrix from samples to Chebyshev coefficients, each entry exact to an ulp."""
    turn = 4 * count  # a full turn, in halves of the angle between samples
    part = (2 * np.arange(count)[:, None] + 1) * np.arange(count) % turn
    part = np.minimum(part, turn - part)
    acute = np.minimum(part, turn // 2 - part)
    basis = np.cos(acute * (_angles(1)[0] / count)) * (Real(2) / count)
    basis = np.where(part > acute, -basis, basis)
    basis[:, 0] /= 2
    return np.asarray(basis)


def sample(curve: Curve, count: int, far_pieces: int = SAMPLED) -> Sampled:
    """Evaluate the curve once, on both sides: a deep network takes its time for each layer."""
    s, c = sampled_nodes(count, SAMPLED), sampled_nodes(count, far_pieces)
    v = np.concatenate([TIP * TIP, (s * s).ravel()])
    vc = np.concatenate([(c * c).ravel(), np.zeros(1, Real)])
    values = curve(np.concatenate([v, 1 - vc]), np.concatenate([1 - v, vc]))
    tip, near = values[: TIP.size], values[TIP.size : v.size].reshape(s.shape)
    far, end = values[v.size : -1].reshape(c.shape), values[-1]
    sides = Samples(True, interpolated(-near / s)), Samples(False, interpolated(end - far))
    return Sampled(end, _octaves_wanted(tip), *sides)


class Pieces(NamedTuple):
    """Chebyshev coefficients of g(s) = (k - base) / s on the pieces of one side."""

    layout: Layout
    coefficients: Reals  # (pieces, count)
    degree: int  # that suffices


def _angles(count: int) -> Reals:
    pi = np.arctan2(Real(0), Real(-1))
    return np.asarray((np.arange(count, dtype=Real) + Real(0.5)) * (pi / count))


def _fit(samples: Samples, layout: Layout, dtype: np.dtype[np.floating]) -> Pieces:
    """Interpolate one side at Chebyshev nodes, twice as many as soon as they do not suffice."""
    left, width = layout.edges()
    stretch, eps = Real(layout.stretch(dtype)), float(np.finfo(dtype).eps)
    right = (left + width - 1) / stretch
    for count in NODES[dtype]:
        s = (left[:, None] - 1 + width[:, None] * (np.cos(_angles(count)) + 1) / 2) / stretch
        values = samples.at(s)
        # k - base is a difference: divide the polynomial by s where s can be small.
        if not samples.divided:
            values[1:] /= s[1:]
        coefficients = interpolated(values)
        if not samples.divided:
            coefficients[0] = _divide_by_s(coefficients[0]) * (2 * stretch / width[0])
        # What is cut off may cost a fraction of an ulp of k = base + s p, and a few ulps of 1-k.
        tail = np.cumsum(np.abs(coefficients[:, ::-1]), axis=1)[:, ::-1]
        allowed = samples.slack * eps / 6 / right
        if samples.divided:
            allowed = np.minimum(allowed, 4 * eps * np.abs(coefficients).sum(axis=1))
        degree = max(int(np.max(np.sum(tail > allowed[:, None], axis=1))) - 1, 1)
        if degree < count - 2:
            break
    return Pieces(layout, coefficients, degree)


def _divide_by_s(c: Reals) -> Reals:
    """Divide a Chebyshev series that vanishes at z = -1 by z + 1."""
    quotient = np.zeros(len(c) + 2, dtype=Real)
    for k in range(len(c) - 1, 0, -1):  # (z + 1) T_k = T_k + (T_{k+1} + T_{k-1}) / 2
        quotient[k - 1] = 2 * (c[k] - quotient[k]) - quotient[k + 1]
    quotient[0] /= 2
    return quotient[: len(c)]


def _monomials(pieces: Pieces, degree: int) -> Reals:
    """Monomial coefficients in x = t - left edge, highest power first."""
    c = pieces.coefficients[:, : degree + 1]
    centred = c @ _powers(degree)[: c.shape[1]]
    scale = 2 / pieces.layout.edges()[1][:, None]
    table = np.zeros((PIECES, degree + 1), dtype=Real)
    used = table[: len(c)]
    for a in centred.T[::-1]:  # Horner in z = 2 x / width - 1
        used[:, 1:] = used[:, :-1] * scale - used[:, 1:]
        used[:, 0] = a - used[:, 0]
    return np.asarray(table.T[::-1])


@cache
def _powers(degree: int) -> Reals:
    """Return the coefficients of Chebyshev polynomials, row by row, constant first."""
    rows = np.eye(degree + 1, dtype=Real)
    for k in range(2, degree + 1):
        rows[k] = -rows[k - 2]
        rows[k, 1:] += 2 * rows[k - 1, :-1]
    return rows


def _place(table: Reals, sub_bits: int) -> Reals:
    """Order the pieces by the low three bits of the exponent and mantissa that select them."""
    placed = np.zeros_like(table)
    placed[:, ((1023 << sub_bits) + np.arange(PIECES)) % PIECES] = table
    return placed


def _octaves_wanted(tip: Reals) -> int:
    """Octaves that suit the scale 1/|g'/g| of the spike at s = 0, from values at `TIP`."""
    one, two = tip / TIP
    if not one:  # a constant, or as good as one
        return 1
    if two > 1.5 * one:  # smooth at s = 0: g vanishes there, look at g/s
        two /= 2
    rate = abs(float((two - one) / one)) / float(TIP[0])
    if not np.isfinite(rate):  # nor is the curve, which the check of the profile will say
        return 1
    return int(np.clip(np.ceil(np.log2(1 + S_MAX * SPIKE * rate)), 1, 8))


def _search(
    sides: tuple[Samples, Samples], wanted: int, dtype: np.dtype[np.floating]
) -> tuple[Pieces, Pieces]:
    """Choose the layouts with the smallest common degree, the likely ones first."""
    order = sorted(OCTAVES, key=lambda bits: min(abs(wanted - o) for o in OCTAVES[bits]))
    best: tuple[Pieces, Pieces] | None = None
    near, far = sides
    for sub_bits in order:
        octaves = sorted(OCTAVES[sub_bits], key=lambda o: abs(wanted - o))
        front = _fit(near, Layout(sub_bits, octaves[0]), dtype)
        behind: Pieces | None = None
        for o in sorted(OCTAVES[sub_bits]):  # the far side is smooth for most kernels
            if behind is None or behind.degree > front.degree:
                other = _fit(far, Layout(sub_bits, o), dtype)
                behind = min(behind or other, other, key=lambda p: p.degree)
        assert behind is not None  # every entry of OCTAVES holds an octave
        if best is None or max(front.degree, behind.degree) < max(p.degree for p in best):
            best = front, behind
        if max(p.degree for p in best) <= GOOD_DEGREE[dtype]:
            break
    assert best is not None
    return best


def _refinement(profile: ProfileMap, back: bool) -> float:
    """Return the (1-|u|)/2 below which |dk/du| exceeds AMPLIFICATION."""
    dtype = profile.table.dtype
    s = np.geomspace(1e-6, np.sqrt(REFINE_MOST), 120)
    v = (s * s).astype(dtype)
    missing = evaluate(profile, np.full_like(v, -1 if back else 1), v, with_base=False)
    slope = np.abs(np.diff(missing.astype(np.float64)) / np.diff(v.astype(np.float64))) / 2
    steep = np.flatnonzero(slope > AMPLIFICATION)
    least = REFINE_LEAST[dtype]
    return least if not len(steep) else max(least, float(v[steep[-1] + 1]))


def evaluate(
    profile: ProfileMap, u: FloatArray, v: FloatArray, *, with_base: bool = True
) -> FloatArray:
    """Return k for cosines `u` and `v` = (1 - abs(u))/2, in the steps of the compiled engines."""
    dtype = profile.table.dtype
    integer: type[np.signedinteger[Any]] = np.int64 if dtype == F64 else np.int32
    shift = (52 if dtype == F64 else 23) - profile.sub_bits
    back = (u < 0).astype(np.intp)
    s = np.sqrt(v)
    t = s * np.asarray(profile.stretch, dtype)[back] + dtype.type(1)
    bits: NDArray[np.signedinteger[Any]] = t.view(integer)
    x = t - (bits & ~integer((1 << shift) - 1)).view(dtype)
    piece = ((bits >> shift) & 7) + 8 * back
    value = profile.table[0][piece]
    for row in profile.table[1:]:
        value = value * x + row[piece]
    value = value * s
    return np.asarray(value + np.asarray(profile.base, dtype)[back] if with_base else value, dtype)


def _check(profile: ProfileMap, curve: Curve, top: float) -> float:
    """Largest error of the compiled profile on points between those that made it."""
    dtype = profile.table.dtype
    near, far = ((_check_points(profile, back) ** 2).astype(dtype) for back in (False, True))
    exact = near.astype(Real), far.astype(Real)
    v, vc = np.concatenate([exact[0], 1 - exact[1]]), np.concatenate([1 - exact[0], exact[1]])
    sides = ((np.ones_like(near), near), (-np.ones_like(far), far))
    found = np.concatenate([evaluate(profile, u, half) for u, half in sides])
    return float(np.max(np.abs(found - (top - curve(v, vc)))))


def _check_points(profile: ProfileMap, back: bool) -> NDArray[np.float64]:
    """Return s in all pieces of a side; most towards right ends, where powers of x cancel most."""
    left, width = Layout(profile.sub_bits, PIECES >> profile.sub_bits).edges()
    places = 1 - np.geomspace(0.002, 0.98, CHECKED)
    t = (left[:, None] + width[:, None] * places).ravel()
    s = (t - 1).astype(np.float64) / profile.stretch[back]
    return np.concatenate([np.geomspace(1e-8, s[CHECKED - 1], 2 * CHECKED), s[s < S_MAX]])


def _with_middle(profile: ProfileMap, sampled: Sampled, top: float) -> ProfileMap:
    """Add the table in u itself, of the same samples, if short polynomials suffice."""
    dtype, base = profile.table.dtype, (Real(top), top - sampled.end)

    def exact(u: Reals) -> Reals:
        back, s = u < 0, np.sqrt((1 - np.abs(u)) / 2)
        k = np.empty_like(s)
        k[back] = base[1] + sampled.far.at(s[back])
        k[~back] = base[0] + s[~back] * sampled.near.at(s[~back])
        return k

    columns = MIDDLE_BYTES // dtype.itemsize
    rate, j = MIDDLE_DENSITY * columns, np.arange(1 - columns // 2, columns // 2)
    nodes = j[:, None] + np.cos(_angles(MIDDLE_DEGREE[dtype] + 4)) / 2
    coefficients = interpolated(exact(nodes / rate))
    tail = np.cumsum(np.abs(coefficients[:, ::-1]), axis=1)[:, ::-1]
    counts = np.sum(tail > np.finfo(dtype).eps / 6, axis=1)
    count, inner = np.max(counts), np.abs(j) - 0.5 <= INNER_END * rate
    if not 0 < count <= MIDDLE_DEGREE[dtype] + 1:
        return profile
    coefficients[inner, (inner_count := max(np.max(counts[inner]), 1)) :] = 0
    table = np.zeros((count, columns), dtype)
    powers = _powers(count - 1) * Real(2) ** np.arange(count)  # of 2 x
    table[:, j] = np.dot(coefficients[:, :count], powers).T[::-1]
    ends = INNER_END, min(MIDDLE_END[dtype], 1 - 2 * max(profile.refine_below))
    u = np.linspace(-ends[1], ends[1], 8 * CHECKED).astype(dtype)
    error = float(np.max(np.abs(evaluate_middle(table, u) - exact(u.astype(Real)))))
    profile = replace(profile, error=max(profile.error, error))
    return replace(profile, middle=table, middle_ends=ends, inner_degree=int(inner_count) - 1)


def evaluate_middle(table: FloatArray, u: FloatArray) -> FloatArray:
    """Return k at cosines that a middle table serves, as the compiled engine does."""
    t = u.astype(Real) * (MIDDLE_DENSITY * table.shape[1])
    place = np.rint(t).astype(np.intp)
    x = (t - place).astype(u.dtype)  # rounded once
    value = table[0][place]
    for row in table[1:]:
        value = value * x + row[place]
    return np.asarray(value)


def in_double(curve: Curve) -> Curve:
    """Return the curve evaluated in float64."""

    def rounded(v: Reals, vc: Reals) -> Reals:
        return curve(v.astype(F64), vc.astype(F64)).astype(Real)

    return rounded


def compile_profile(
    curve: Curve, dtype: np.dtype[np.floating], *, degree: float, scale: float, top: float = 1.0
) -> ProfileMap:
    """Compile a curve.

    Parameters
    ----------
    curve : callable
        ``(v, vc) -> top - k`` with k(1) = top, evaluated in extended precision; v and vc are sin^2
        and cos^2 of half the angle.
    dtype : float32 or float64
        Precision of the result.
    degree, scale : float
        Copied to the map.
    top : float, default 1
        1, or less in size where k is largest elsewhere.

    Returns
    -------
    ProfileMap
        Its ``error`` is measured in the arithmetic of `dtype` on 250 points, about one ulp of 1.
    """
    if dtype == F32:  # float64 is precise enough then, and several times faster
        curve = in_double(curve)
    sampled = sample(curve, SAMPLE_NODES[dtype])
    profile = assembled(
        (sampled.near, sampled.far),
        sampled.wanted,
        dtype,
        base=(top, float(top - sampled.end)),
        degree=degree,
        scale=scale,
    )
    profile = replace(
        profile,
        refine_below=(_refinement(profile, False), _refinement(profile, True)),
        error=_check(profile, curve, top),
    )
    return _with_middle(profile, sampled, top)


def assembled(
    sides: tuple[Samples, Samples],
    wanted: int,
    dtype: np.dtype[np.floating],
    *,
    base: tuple[float, float],
    degree: float,
    scale: float,
) -> ProfileMap:
    """Return the polynomials of samples, of `wanted` octaves or about; without what is measured."""
    fits = _search(sides, wanted, dtype)
    highest, sub_bits = max(fit.degree for fit in fits), fits[0].layout.sub_bits
    halves = [_place(_monomials(fit, highest), sub_bits) for fit in fits]
    return ProfileMap(
        table=np.ascontiguousarray(np.hstack(halves), dtype=dtype),
        sub_bits=sub_bits,
        stretch=(fits[0].layout.stretch(dtype), fits[1].layout.stretch(dtype)),
        base=base,
        refine_below=(0.0, 0.0),
        degree=degree,
        scale=scale,
        error=0.0,
    )
