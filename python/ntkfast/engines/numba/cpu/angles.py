"""Angles of a row of pairs, those of close pairs from differences; see tile.hpp."""

from __future__ import annotations

import math
from typing import Any

from ntkfast.engines.numba.compiling import compiled, inlined
from ntkfast.engines.numba.formulas.exponential import constant
from ntkfast.engines.numba.formulas.simd import fetch, load, plus, real, select, store, wide
from ntkfast.engines.numba.problem import WIDTH, Array, Problem, Row, Scratch


@compiled
def apart(x: Array, at: int, norm: Any, y: Array, to: int, ratio: Any, dimension: int) -> Any:
    """sin^2 of the angle of x and y times the sign of `ratio`, which is |x|/|y| in size.

    And how far the difference of both, over |x|, goes along x.
    """
    one, zero = real(norm, 1), real(norm, 0)
    inverse = one / norm
    total = radial = zero
    for k in range(dimension):
        a = fetch(x, at + k)
        difference = (a - ratio * fetch(y, to + k)) * inverse
        total = plus(total, difference * difference)
        radial = plus(radial, difference * (a * inverse))
    sine2 = total - radial * radial
    rounding = constant("rounding", total) * total  # less than this is left of parallel rows
    return select(sine2 > rounding, sine2, zero), radial


@compiled
def half_angle(x: Array, at: int, norm: Any, y: Array, to: int, ratio: Any, dimension: int) -> Any:
    """sin^2 of half that angle."""
    one, zero = real(norm, 1), real(norm, 0)
    sine2, _ = apart(x, at, norm, y, to, ratio, dimension)
    cosine = math.sqrt(select(sine2 < one, one - sine2, zero))
    return sine2 / (one + one + (one + one) * cosine)


@compiled
def cosines(products: Array, at: int, inverse: Any, front: Any, back: Any, u: Array) -> int:
    """Write u and v = (1-|u|)/2 to two lines; returns how many pairs are close."""
    wide()
    half, zero = real(inverse, 0.5), real(inverse, 0)
    close = 0
    for j in range(WIDTH):
        cosine = load(products, at + j) * inverse
        v = half - half * abs(cosine)
        v = select(v > zero, v, zero)
        store(u, j, cosine)
        store(u, WIDTH + j, v)
        close += select(v < select(cosine < zero, back, front), 1, 0)
    return close


@compiled
def refine_angles(
    x: Array,
    at: int,
    norm: Any,
    y: Array,
    to: int,
    stride: int,
    norms: Array,
    dimension: int,
    front: Any,
    back: Any,
    first: int,
    width: int,
    u: Array,
) -> None:
    """Recompute v of close pairs from differences."""
    wide()
    zero = real(norm, 0)
    for j in range(first, width):
        cosine = load(u, j)
        if load(u, WIDTH + j) < select(cosine < zero, back, front):
            ratio = norm / fetch(norms, WIDTH + j)
            ratio = select(cosine < zero, -ratio, ratio)
            v = half_angle(x, at, norm, y, to + j * stride, ratio, dimension)
            store(u, WIDTH + j, v)


@compiled
def zero_row(norms: Array, u: Array) -> None:
    """Write u and v for a row of zeros: equal to other rows of zeros, orthogonal to all else."""
    wide()
    zero, half, one = real(fetch(norms, 0), 0), real(fetch(norms, 0), 0.5), real(fetch(norms, 0), 1)
    for j in range(WIDTH):
        equal = fetch(norms, WIDTH + j) == zero
        store(u, j, select(equal, one, zero))
        store(u, WIDTH + j, select(equal, zero, half))


@inlined
def angles(problem: Problem, s: Scratch, row: Row) -> None:
    """Write u and v = (1-|u|)/2 of a row to two lines; close pairs from differences."""
    x, y, front, back = problem.x, problem.y, problem.refine_front, problem.refine_back
    inverse = x.inverse[row.i]
    if x.norms[row.i] == 0:
        zero_row(s.factors, s.lines)
    elif cosines(s.products, row.r * WIDTH, inverse, front, back, s.lines):
        refine_angles(
            x.data,
            x.first + row.i * x.stride,
            x.norms[row.i],
            y.data,
            y.first + row.j0 * y.stride,
            y.stride,
            s.factors,
            problem.dimension,
            front,
            back,
            row.first,
            row.width,
            s.lines,
        )
