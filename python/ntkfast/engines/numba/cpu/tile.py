"""The tile loop: inner products of a tile, then the map; mirrors tile.hpp."""

from __future__ import annotations

from typing import Any

from numba import int64

from ntkfast.engines.numba.compiling import cached, compiled, inlined
from ntkfast.engines.numba.cpu.map_row import map_row, prepare
from ntkfast.engines.numba.cpu.product import REGISTER_ROWS, multiply, pack, register_tile
from ntkfast.engines.numba.formulas.simd import load, store, wide
from ntkfast.engines.numba.problem import PANEL, ROWS, WIDTH, Array, Problem, Row, Scratch, Target


@compiled
def pack_factors(
    factors: Array, norms: Array, inverse: Array, scaled: bool, j0: int, height: int, out: Array
) -> None:
    """Copy what products ask of columns, three lines; 0 beyond the data."""
    for j in range(WIDTH):
        inside = j0 + j < height
        out[j] = factors[j0 + j] if inside else 0
        out[WIDTH + j] = norms[j0 + j] if inside else 0
        out[2 * WIDTH + j] = (inverse[j0 + j] if scaled else 1) if inside else 0


@inlined
def pack_columns(problem: Problem, plan: Any, s: Scratch, j0: int) -> None:
    """Prepare a block of columns."""
    y = problem.y
    pack_factors(y.factors, y.norms, y.inverse, problem.scaled, j0, y.height, s.factors)
    pack(
        y.data,
        y.first + j0 * y.stride,
        y.stride,
        min(WIDTH, y.height - j0),
        s.factors[2 * WIDTH :],
        problem.dimension,
        s.packed,
    )
    prepare(plan, y, j0, WIDTH, s.columns, WIDTH)


@inlined
def compute_tile(
    problem: Problem,
    plan: Any,
    s: Scratch,
    i0: int,
    rows: int,
    j0: int,
    out: Target,
    second: Target,
) -> None:
    """Write kernel values of `rows` rows from i0 on and the columns packed last."""
    x, width = problem.x, min(WIDTH, problem.y.height - j0)
    at = x.first + i0 * x.stride
    multiply(x.data, at, x.stride, rows, s.packed, width, problem.dimension, s.products)
    prepare(plan, x, i0, rows, s.rows, ROWS)
    for r in range(rows):
        first = max(i0 + r - j0, 0) if problem.symmetric else 0
        map_row(problem, plan, s, Row(i0 + r, r, j0, first, width), out, second)


@compiled
def mirror(out: Array, first: int, stride: int, i0: int, i1: int, j0: int, j1: int) -> None:
    """Copy the strict upper part of a finished tile to its mirror image."""
    for block in range(j0, j1, 16):
        for i in range(i0, i1):
            for j in range(max(block, i + 1), min(block + 16, j1)):
                store(out, first + j * stride + i, load(out, first + i * stride + j))


@cached
def gram_task(problem: Problem, plan: Any, s: Scratch, task: int, packed: int) -> int:
    """Do a block of columns and a chunk of rows of Gram matrices.

    `packed` is the first column packed last, as returned by the call before.
    """
    x, y, out, second = problem.x, problem.y, problem.out, problem.out_second
    chunks = (x.height + problem.chunk - 1) // problem.chunk
    j0 = task // chunks * WIDTH
    j1 = min(j0 + WIDTH, y.height)
    begin = task % chunks * problem.chunk
    if problem.symmetric and begin >= j1:
        return packed
    if packed != j0:
        pack_columns(problem, plan, s, j0)
    for i0 in range(begin, min(begin + problem.chunk, x.height), ROWS):
        if problem.cancelled[0] or (problem.symmetric and i0 >= j1):
            break
        rows = min(ROWS, x.height - i0)
        compute_tile(problem, plan, s, i0, rows, j0, out, second)
        if problem.symmetric:
            if out.wanted:
                mirror(out.values, out.first, out.stride, i0, i0 + rows, max(i0, j0), j1)
            if second.wanted:
                mirror(second.values, second.first, second.stride, i0, i0 + rows, max(i0, j0), j1)
    return j0


@compiled
def add_product(
    values: Array,
    rows: int,
    width: int,
    packed: Array,
    columns: int,
    parts: Array,
    sums: Array,
    at: int,
) -> None:
    """Add values[rows][width] times packed columns to the sums, in float64."""
    for c in range(0, columns, PANEL):
        used = min(PANEL, columns - c)
        multiply(values, int64(0), int64(WIDTH), rows, packed[c * WIDTH :], used, width, parts)
        for r in range(rows):
            for k in range(used):
                sums[at + r * columns + c + k] += parts[r * WIDTH + k]


@compiled
def add_turned(
    right: Array,
    i0: int,
    rows: int,
    width: int,
    values: Array,
    turned: Array,
    parts: Array,
    sums: Array,
    at: int,
    pitch: int,
) -> None:
    """Add right[i0:i0 + rows] turned times values, the tile mirrored, to the sums in float64."""
    wide()
    columns = right.shape[1]
    for i in range(rows):
        for c in range(columns):
            turned[c * ROWS + i] = right[i0 + i, c]
    for c in range(0, columns, REGISTER_ROWS):
        count = min(REGISTER_ROWS, columns - c)
        for q in range(REGISTER_ROWS * WIDTH):
            parts[q] = 0
        j = 0
        while j < width:
            j += register_tile(turned, c * ROWS, ROWS, count, values, j, WIDTH, rows, parts, j)
        for r in range(count):
            for k in range(width):
                sums[at + (c + r) * pitch + k] += parts[r * WIDTH + k]


@compiled
def clear(values: Array, below: int, rows: int) -> None:
    """Set the entries of row r before the column `below` + r to 0."""
    for r in range(rows):
        for j in range(min(below + r, WIDTH)):
            values[r * WIDTH + j] = 0


@compiled
def pack_right(right: Array, j0: int, width: int, packed: Array) -> None:
    """Pack the rows from j0 on of the matrix to multiply with: panels [width][PANEL]."""
    for c in range(0, right.shape[1], PANEL):
        for j in range(width):
            for k in range(PANEL):
                inside = c + k < right.shape[1]
                packed[c * WIDTH + j * PANEL + k] = right[j0 + j, c + k] if inside else 0


@inlined
def product_tile(problem: Problem, plan: Any, s: Scratch, i0: int, rows: int, j0: int) -> None:
    """Write the kernel values of a product to the scratch memory."""
    place = Target(not problem.use_second, s.values, -i0 * WIDTH - j0, WIDTH)
    other = Target(problem.use_second, s.values, -i0 * WIDTH - j0, WIDTH)
    compute_tile(problem, plan, s, i0, rows, j0, place, other)


@cached
def product_task(problem: Problem, plan: Any, s: Scratch, task: int, packed: int) -> int:
    """Do a chunk of rows of a product, all columns; the kernel is never stored."""
    x, columns, product = problem.x, problem.right.shape[1], problem.product
    begin = task * problem.chunk
    end = min(begin + problem.chunk, x.height)
    s.sums[:] = 0
    for j0 in range(0, problem.y.height, WIDTH):
        width = min(WIDTH, problem.y.height - j0)
        pack_columns(problem, plan, s, j0)
        pack_right(problem.right, j0, width, s.packed_right)
        for i0 in range(begin, end, ROWS):
            if problem.cancelled[0]:
                return packed
            rows = min(ROWS, end - i0)
            product_tile(problem, plan, s, i0, rows, j0)
            at = (i0 - begin) * columns
            add_product(s.values, rows, width, s.packed_right, columns, s.products, s.sums, at)
    for i in range(begin, end):
        for c in range(columns):
            at = product.first + i * product.stride + c
            product.values[at] = s.sums[(i - begin) * columns + c]
    return packed


@cached
def pair_task(problem: Problem, plan: Any, s: Scratch, first: int, second: int) -> None:
    """Do a block of rows and one of columns, of a symmetric problem at or after it.

    Both get sums: [block][columns] of the rows and [columns][block] of the columns.
    """
    columns, block = problem.right.shape[1], problem.chunk
    begin, start = first * block, second * block
    end, stop = min(begin + block, problem.x.height), min(start + block, problem.y.height)
    s.sums[:] = 0
    s.turned_sums[:] = 0
    for j0 in range(start, stop, WIDTH):
        width = min(WIDTH, stop - j0)
        pack_columns(problem, plan, s, j0)
        pack_right(problem.right, j0, width, s.packed_right)
        for i0 in range(begin, min(end, j0 + width) if problem.symmetric else end, ROWS):
            if problem.cancelled[0]:
                return
            rows = min(ROWS, end - i0)
            product_tile(problem, plan, s, i0, rows, j0)
            if problem.symmetric:
                clear(s.values, i0 - j0, rows)
            at = (i0 - begin) * columns
            add_product(s.values, rows, width, s.packed_right, columns, s.products, s.sums, at)
            if problem.symmetric:
                clear(s.values, i0 - j0 + 1, rows)  # the diagonal counts once
            add_turned(
                problem.left,
                i0,
                rows,
                width,
                s.values,
                s.turned_right,
                s.products,
                s.turned_sums,
                j0 - start,
                block,
            )
