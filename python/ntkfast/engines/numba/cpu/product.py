"""Inner products of rows with packed panels of columns; mirrors product.hpp."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ntkfast.engines.numba.compiling import compiled
from ntkfast.engines.numba.formulas.simd import Code, address, fetch, fused, splat, store, wide
from ntkfast.engines.numba.problem import PANEL, WIDTH, Array

DEPTH = 128  # inner dimension of one pass: keeps a packed panel in cache
REGISTER_ROWS = 6  # rows of the register tile


def _vectors(context: Any, size: int) -> tuple[int, int]:
    """Lanes of a vector, and vectors across the register tile that leave registers to spare."""
    features = context.codegen().magic_tuple()[2]
    if "+avx512f" in features:
        return 512 // size, 4
    return (256 if "+avx2" in features else 128) // size, 2


@intrinsic
def register_tile(
    typing: Any,
    x: Any,
    at: Any,
    stride: Any,
    rows: Any,
    y: Any,
    start: Any,
    pitch: Any,
    depth: Any,
    t: Any,
    to: Any,
) -> Code:
    """Add x[6][depth] y[depth][some columns of a row] to t[6][WIDTH]; rows of y are `pitch` apart.

    Rows beyond `rows` repeat the last one. Returns the number of columns done. The sums stay in
    registers, for which LLVM needs to be told the vectors.
    """

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _, at_, stride_, rows_, _, start_, pitch_, depth_, _, to_ = arguments
        lanes, across = _vectors(context, x.dtype.bitwidth)
        scalar, index = context.get_value_type(x.dtype), ir.IntType(64)
        vector = ir.VectorType(scalar, lanes)
        align = x.dtype.bitwidth // 8

        def whole(value: int) -> Any:
            return ir.Constant(index, value)

        def place(which: int, offset: Any) -> Any:
            to = address(context, builder, signature.args[which], arguments[which], offset)
            return builder.bitcast(to, vector.as_pointer())

        def target(row: int, part: int) -> Any:
            return place(8, builder.add(to_, whole(row * WIDTH + part * lanes)))

        tile = [(row, part) for row in range(REGISTER_ROWS) for part in range(across)]
        sums = {key: cgutils.alloca_once(builder, vector) for key in tile}
        for key in tile:
            builder.store(builder.load(target(*key), align=align), sums[key])
        last = builder.sub(rows_, whole(1))
        lefts = []
        for r in range(REGISTER_ROWS):
            row = builder.select(builder.icmp_signed("<", whole(r), rows_), whole(r), last)
            lefts.append(builder.add(at_, builder.mul(stride_, row)))
        with cgutils.for_range(builder, depth_, intp=index) as loop:
            offset = builder.add(start_, builder.mul(loop.index, pitch_))
            rights = [
                builder.load(place(4, builder.add(offset, whole(part * lanes))), align=align)
                for part in range(across)
            ]
            for row in range(REGISTER_ROWS):
                position = builder.add(lefts[row], loop.index)
                element = address(context, builder, signature.args[0], arguments[0], position)
                left = splat(builder, builder.load(element), lanes)
                for part in range(across):
                    total = builder.load(sums[row, part])
                    total = fused(builder, left, rights[part], total)
                    builder.store(total, sums[row, part])
        for key in tile:
            builder.store(builder.load(sums[key]), target(*key), align=align)
        return whole(lanes * across)

    size = types.int64
    return size(x, size, size, size, y, size, size, size, t, size), code


@compiled
def pack(
    y: Array, at: int, stride: int, count: int, inverse: Array, depth: int, packed: Array
) -> None:
    """Pack `count` rows, each times its factor: panels [depth][PANEL], the rest zeros."""
    for j in range(WIDTH):
        to = j // PANEL * PANEL * depth + j % PANEL
        if j < count:
            factor = fetch(inverse, j)
            for k in range(depth):
                store(packed, to + k * PANEL, fetch(y, at + j * stride + k) * factor)
        else:
            for k in range(depth):
                packed[to + k * PANEL] = 0


@compiled
def multiply(
    x: Array, at: int, stride: int, rows: int, packed: Array, columns: int, depth: int, t: Array
) -> None:
    """t[rows][WIDTH] = x[rows][depth] times packed panels, as far as `columns`."""
    wide()
    for q in range((rows + REGISTER_ROWS - 1) // REGISTER_ROWS * REGISTER_ROWS * WIDTH):
        t[q] = 0
    for k in range(0, depth, DEPTH):
        for panel in range(0, columns, PANEL):
            start = panel * depth + k * PANEL
            j = 0
            while j < min(PANEL, columns - panel):
                done = 0
                for i in range(0, rows, REGISTER_ROWS):
                    done = register_tile(
                        x,
                        at + i * stride + k,
                        stride,
                        rows - i,
                        packed,
                        start + j,
                        PANEL,
                        min(DEPTH, depth - k),
                        t,
                        i * WIDTH + panel + j,
                    )
                j += done
