"""Walsh-Hadamard transforms of rows, and what is made of them; mirrors hadamard.hpp.

The first three stages are done together, the others by twos, in loops that LLVM vectorises. Every
sum has the order of the C++ engine, and so the same bits.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ntkfast.engines.codes import Answer
from ntkfast.engines.numba.compiling import cached, compiled
from ntkfast.engines.numba.formulas.simd import load, real, store
from ntkfast.engines.numba.problem import Array, Matrix

CACHED = 4096  # entries of a part that stays in the first-level cache
PRODUCT, RELU, STEP = map(int, Answer)

Eight = tuple[Any, Any, Any, Any, Any, Any, Any, Any]


@compiled
def eight_sums(a: Any, b: Any, c: Any, d: Any, e: Any, f: Any, g: Any, h: Any) -> Eight:
    """Three stages of eight entries."""
    a, b, c, d, e, f, g, h = a + b, a - b, c + d, c - d, e + f, e - f, g + h, g - h
    a, b, c, d, e, f, g, h = a + c, b + d, a - c, b - d, e + g, f + h, e - g, f - h
    return a + e, b + f, c + g, d + h, a - e, b - f, c - g, d - h


@compiled
def signed(x: Array, start: int, signs: Array, k: int) -> Any:
    """Entry k of a row, with its sign."""
    return load(x, start + k) * load(signs, k)


@compiled
def eights(
    x: Array, start: int, out: Array, at: int, signs: Array, first: int, last: int, scale: Any
) -> None:
    """Transform all pieces of 8 entries."""
    for k in range(first, last, 8):
        a, b, c, d, e, f, g, h = eight_sums(
            signed(x, start, signs, k),
            signed(x, start, signs, k + 1),
            signed(x, start, signs, k + 2),
            signed(x, start, signs, k + 3),
            signed(x, start, signs, k + 4),
            signed(x, start, signs, k + 5),
            signed(x, start, signs, k + 6),
            signed(x, start, signs, k + 7),
        )
        store(out, at + k, a * scale)
        store(out, at + k + 1, b * scale)
        store(out, at + k + 2, c * scale)
        store(out, at + k + 3, d * scale)
        store(out, at + k + 4, e * scale)
        store(out, at + k + 5, f * scale)
        store(out, at + k + 6, g * scale)
        store(out, at + k + 7, h * scale)


@compiled
def pairs(out: Array, at: int, piece: int, scale: Any) -> None:
    """Combine two pieces."""
    for k in range(at, at + piece):
        a, b = load(out, k), load(out, k + piece)
        store(out, k, (a + b) * scale)
        store(out, k + piece, (a - b) * scale)


@compiled
def fours(out: Array, at: int, piece: int, scale: Any) -> None:
    """Combine four pieces."""
    for k in range(at, at + piece):
        a, b = load(out, k), load(out, k + piece)
        c, d = load(out, k + 2 * piece), load(out, k + 3 * piece)
        a, b, c, d = a + b, a - b, c + d, c - d
        store(out, k, (a + c) * scale)
        store(out, k + piece, (b + d) * scale)
        store(out, k + 2 * piece, (a - c) * scale)
        store(out, k + 3 * piece, (b - d) * scale)


@compiled
def combine(out: Array, at: int, piece: int, width: int, scale: Any) -> None:
    """Combine the transformed pieces of `width` entries."""
    one = real(scale, 1.0)
    while piece < width:
        radix = 2 if width == 2 * piece else 4
        factor = scale if radix * piece == width else one
        for k in range(at, at + width, radix * piece):
            if radix == 2:
                pairs(out, k, piece, factor)
            else:
                fours(out, k, piece, factor)
        piece *= radix


@compiled
def transform(
    x: Array, start: int, out: Array, at: int, width: int, signs: Array, scale: Any
) -> None:
    """Write scale H (signs * row) of a row."""
    part, one = min(width, CACHED), real(scale, 1.0)
    for k in range(0, width, part):
        factor = scale if part == width else one
        if part < 8:
            for j in range(part):
                store(out, at + j, signed(x, start, signs, j))
            combine(out, at, 1, part, factor)
            if part == 1:
                store(out, at, load(out, at) * factor)
        else:
            eights(x, start, out, at, signs, k, k + part, factor if part == 8 else one)
            combine(out, at + k, 8, part, factor)
    combine(out, at, part, width, scale)


@cached
def transform_rows(
    x: Matrix, out: Matrix, width: int, signs: Array, scale: Any, begin: int, end: int
) -> None:
    """Write scale H (signs * row) for the rows from `begin` to `end`."""
    for i in range(begin, end):
        start, at = x.first + i * x.stride, out.first + i * out.stride
        transform(x.values, start, out.values, at, width, signs, scale)


@compiled
def rotate(
    x: Matrix,
    row: int,
    dim: int,
    signs: Array,
    ones: Array,
    to: Array,
    first: int,
    step: bool,
    scale: Any,
) -> None:
    """Write scale H (signs * row) of a row filled up with zeros to a part of the scratch memory.

    With `step` of 1{row > 0} instead of the row.
    """
    start, size, one = x.first + row * x.stride, len(signs), real(scale, 1.0)
    for k in range(dim):
        if step:
            store(to, first + k, load(signs, k) if load(x.values, start + k) > 0 else one - one)
        else:
            store(to, first + k, signed(x.values, start, signs, k))
    for k in range(dim, size):
        store(to, first + k, one - one)
    transform(to, first, to, first, size, ones, scale)


class Factor(NamedTuple):
    """Rows of x, a single one for all if the stride is 0, and how they are rotated."""

    x: Matrix
    dim: int
    signs: Array  # (size,)
    taken: Array  # indices of coordinates


@cached
def sketch_rows(
    left: Factor,
    right: Factor,
    step: bool,
    out: Matrix,
    ones: Array,
    scale: Any,
    scratch: Array,
    begin: int,
    end: int,
) -> None:
    """Write scale times one rotation, or the product of two, for the rows from `begin` to `end`."""
    size, one = len(left.signs), real(scale, 1.0)
    for i in range(begin, end):
        at = out.first + i * out.stride
        if i == begin or left.x.stride != 0:
            rotate(left.x, i, left.dim, left.signs, ones, scratch, 0, False, one)
        if len(right.signs) == 0:
            for j in range(len(left.taken)):
                store(out.values, at + j, load(scratch, left.taken[j]) * scale)
        else:
            if i == begin or right.x.stride != 0:
                rotate(right.x, i, right.dim, right.signs, ones, scratch, size, step, one)
            for j in range(len(left.taken)):
                product = load(scratch, left.taken[j]) * load(scratch, size + right.taken[j])
                store(out.values, at + j, product * scale)


@cached
def structured_rows(
    x: Matrix,
    dim: int,
    out: Matrix,
    count: int,
    flips: Array,
    lengths: Array,
    ones: Array,
    scale: Any,
    unit: Any,
    answer: int,
    scratch: Array,
    begin: int,
    end: int,
) -> None:
    """Write the answers of structured neurons for the rows from `begin` to `end`."""
    size = len(scratch)
    half, zero = real(scale, 0.5) * scale, scale - scale
    for i in range(begin, end):
        for first in range(0, count, size):
            block = 3 * (first // size)
            rotate(x, i, dim, flips[block], ones, scratch, 0, False, unit)
            transform(scratch, 0, scratch, 0, size, flips[block + 1], unit)
            transform(scratch, 0, scratch, 0, size, flips[block + 2], unit)
            at = out.first + i * out.stride + first
            for k in range(min(size, count - first)):
                v = load(scratch, k)
                if answer == STEP:
                    value = scale if v > 0 else zero if v < 0 else half
                elif answer == RELU:
                    value = v * load(lengths, first + k) if v > 0 else zero
                else:
                    value = v * load(lengths, first + k)
                store(out.values, at + k, value)
