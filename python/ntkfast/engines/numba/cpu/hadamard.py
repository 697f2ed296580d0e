"""Walsh-Hadamard transforms of rows, and what is made of them; mirrors hadamard.hpp.

The first three stages are done together, the others by twos, in loops that LLVM vectorises. Every
sum has the order of the C++ engine, and so the same bits.
"""

from __future__ import annotations

from typing import Any

from ntkfast.engines.codes import Answer
from ntkfast.engines.numba.compiling import cached, compiled
from ntkfast.engines.numba.formulas.simd import load, real, store
from ntkfast.engines.numba.problem import Array

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


@cached
def transform_rows(
    x: Array,
    x_first: int,
    x_stride: int,
    out: Array,
    out_first: int,
    out_stride: int,
    width: int,
    signs: Array,
    scale: Any,
    begin: int,
    end: int,
) -> None:
    """Write scale H (signs * row) for the rows from `begin` to `end`."""
    part = min(width, CACHED)
    one = real(scale, 1.0)
    for i in range(begin, end):
        start, at = x_first + i * x_stride, out_first + i * out_stride
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


@compiled
def rotate(
    x: Array,
    start: int,
    dim: int,
    signs: Array,
    ones: Array,
    to: Array,
    first: int,
    size: int,
    step: bool,
    scale: Any,
) -> None:
    """Write scale H (signs * row) of a row filled up with zeros to a part of the scratch memory.

    With `step` of 1{row > 0} instead of the row.
    """
    one = real(load(ones, 0), 1.0)
    if step:
        for k in range(dim):
            store(to, first + k, load(signs, k) if load(x, start + k) > 0 else one - one)
    else:
        for k in range(dim):
            store(to, first + k, signed(x, start, signs, k))
    for k in range(dim, size):
        store(to, first + k, one - one)
    transform_rows(to, first, 0, to, first, 0, size, ones, scale, 0, 1)


@cached
def sketch_rows(
    x: Array,
    x_first: int,
    x_stride: int,
    dim: int,
    signs_x: Array,
    index_x: Array,
    y: Array,
    y_first: int,
    y_stride: int,
    dim_y: int,
    signs_y: Array,
    index_y: Array,
    step: bool,
    out: Array,
    out_first: int,
    out_stride: int,
    ones: Array,
    scale: Any,
    scratch: Array,
    begin: int,
    end: int,
) -> None:
    """Write scale times one rotation, or the product of two, for the rows from `begin` to `end`."""
    size, second, one = len(signs_x), len(signs_y), real(scale, 1.0)
    for i in range(begin, end):
        at = out_first + i * out_stride
        if i == begin or x_stride != 0:
            rotate(x, x_first + i * x_stride, dim, signs_x, ones, scratch, 0, size, False, one)
        if second == 0:
            for j in range(len(index_x)):
                store(out, at + j, load(scratch, index_x[j]) * scale)
        else:
            if i == begin or y_stride != 0:
                start = y_first + i * y_stride
                rotate(y, start, dim_y, signs_y, ones, scratch, size, second, step, one)
            for j in range(len(index_x)):
                product = load(scratch, index_x[j]) * load(scratch, size + index_y[j])
                store(out, at + j, product * scale)


@cached
def structured_rows(
    x: Array,
    x_first: int,
    x_stride: int,
    dim: int,
    out: Array,
    out_first: int,
    out_stride: int,
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
            rotate(
                x, x_first + i * x_stride, dim, flips[block], ones, scratch, 0, size, False, unit
            )
            transform_rows(scratch, 0, 0, scratch, 0, 0, size, flips[block + 1], unit, 0, 1)
            transform_rows(scratch, 0, 0, scratch, 0, 0, size, flips[block + 2], unit, 0, 1)
            at = out_first + i * out_stride + first
            for k in range(min(size, count - first)):
                v = load(scratch, k)
                if answer == STEP:
                    store(out, at + k, scale if v > 0 else zero if v < 0 else half)
                elif answer == RELU:
                    store(out, at + k, v * load(lengths, first + k) if v > 0 else zero)
                else:
                    store(out, at + k, v * load(lengths, first + k))
