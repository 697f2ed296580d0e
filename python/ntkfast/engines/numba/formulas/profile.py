"""Evaluates a compiled profile on a row of pairs; mirrors profile.hpp."""

from __future__ import annotations

import math
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ntkfast.engines.codes import PIECES
from ntkfast.engines.numba.compiling import compiled
from ntkfast.engines.numba.formulas.simd import (
    Code,
    address,
    fetch,
    fused,
    input_scope,
    load,
    real,
    resize,
    select,
    splat,
    store,
    wide,
)
from ntkfast.engines.numba.problem import PANEL, WIDTH, Array, Table

GROUP = 4  # vectors in flight: hides the latency of the Horner chain

# Degree and row length of the fine tables of a profile, by size of the number.
FINE_DEGREE = {32: 3, 64: 6}
FINE_STRIDE = {32: 4, 64: 8}


@compiled
def profile_row(table: Table, u: Array, first: int, width: int) -> None:
    """Evaluate a profile without its scale at the lines of `angles`, to the third line."""
    if table.pieces == PIECES:  # the table of the profile itself
        j = first // PANEL * PANEL
        while j < width:
            j += profile_lanes(table.values, table.degree, table.shift, table.numbers, u, j)
    else:
        fine_profile(table, u, first, width)


# ---- the table of the profile itself, looked up by a permutation --------------------------------


def permutes() -> bool:
    """Whether a vector holds half a row of a profile's table, so that a permutation looks it up."""
    from numba.core.registry import cpu_target

    return _has_avx512(cpu_target.target_context)


def _has_avx512(context: Any) -> bool:
    features = context.codegen().magic_tuple()[2].split(",")
    return "+avx512f" in features and "+avx512dq" in features


@intrinsic
def profile_lanes(
    typing: Any, table: Any, degree: Any, shift: Any, numbers: Any, u: Any, start: Any
) -> Code:
    """Evaluate a profile without its factors at GROUP vectors of the lines of `angles`.

    The third line gets the values. For processors with AVX-512: LLVM makes no permutations of
    loops over a table, and gathers are several times slower. Returns the number of pairs done.
    """

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        index = ir.IntType(64)
        if not _has_avx512(context):  # never called there
            return ir.Constant(index, WIDTH)
        _, degree_, shift_, _, _, start_ = arguments
        size = u.dtype.bitwidth
        lanes, scalar, whole = 512 // size, context.get_value_type(u.dtype), ir.IntType(size)
        vector, wholes = ir.VectorType(scalar, lanes), ir.VectorType(whole, lanes)

        def place(which: int, offset: Any) -> Any:
            to = address(context, builder, signature.args[which], arguments[which], offset)
            return builder.bitcast(to, vector.as_pointer())

        def vector_at(which: int, offset: Any) -> Any:
            return builder.load(place(which, offset), align=size // 8)

        def number(k: int) -> Any:
            at = ir.Constant(index, k)
            at = address(context, builder, signature.args[3], arguments[3], at)
            return splat(builder, builder.load(at), lanes)

        def line(which: int, group: int) -> Any:
            return builder.add(start_, ir.Constant(index, which * WIDTH + group * lanes))

        root = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(vector, [vector]), f"llvm.sqrt.v{lanes}f{size}"
        )
        arguments_ = [vector, wholes] if size == 32 else [vector, wholes, vector]
        permute = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(vector, arguments_),
            "llvm.x86.avx512." + ("permvar.sf.512" if size == 32 else "vpermi2var.pd.512"),
        )

        def look_up(row: Any, pieces: list[Any]) -> list[Any]:
            low = vector_at(0, row)
            if size == 32:
                return [builder.call(permute, [low, piece]) for piece in pieces]
            high = vector_at(0, builder.add(row, ir.Constant(index, lanes)))
            return [builder.call(permute, [low, piece, high]) for piece in pieces]

        amount = splat(builder, resize(builder, shift_, whole), lanes)
        mask = builder.shl(ir.Constant(wholes, [-1] * lanes), amount)
        zero, one = ir.Constant(vector, [0.0] * lanes), ir.Constant(vector, [1.0] * lanes)
        seven, eight = (ir.Constant(wholes, [k] * lanes) for k in (7, 8))
        none = ir.Constant(wholes, [0] * lanes)
        xs, roots, backs, pieces = [], [], [], []
        for group in range(GROUP):
            back = builder.fcmp_ordered("<", vector_at(4, line(0, group)), zero)
            s = builder.call(root, [vector_at(4, line(1, group))])
            t = fused(builder, s, builder.select(back, number(1), number(0)), one)
            bits = builder.bitcast(t, wholes)
            xs.append(builder.fsub(t, builder.bitcast(builder.and_(bits, mask), vector)))
            piece = builder.and_(builder.lshr(bits, amount), seven)
            pieces.append(builder.or_(piece, builder.select(back, eight, none)))
            roots.append(s)
            backs.append(back)
        values = [cgutils.alloca_once(builder, vector) for _ in range(GROUP)]
        for value, first in zip(values, look_up(ir.Constant(index, 0), pieces), strict=True):
            builder.store(first, value)
        with cgutils.for_range(builder, degree_, intp=index) as loop:
            row = builder.mul(
                builder.add(loop.index, ir.Constant(index, 1)), ir.Constant(index, 16)
            )
            for value, x, c in zip(values, xs, look_up(row, pieces), strict=True):
                builder.store(fused(builder, builder.load(value), x, c), value)
        for group, (value, s, back) in enumerate(zip(values, roots, backs, strict=True)):
            base = builder.select(back, number(3), number(2))
            result = fused(builder, builder.load(value), s, base)
            builder.store(result, place(4, line(2, group)), align=size // 8)
        return ir.Constant(index, GROUP * lanes)

    size = types.int64
    return size(table, size, size, numbers, u, size), code


# ---- a fine table, looked up by gathering -------------------------------------------------------


@compiled
def fine_profile(table: Table, u: Array, first: int, width: int) -> None:
    """Evaluate a profile with a fine table, without its factors, to the third line."""
    wide()
    numbers, shift = table.numbers, table.shift
    zero, one = real(load(u, 0), 0), real(load(u, 0), 1)
    stretch, stretch_back = fetch(numbers, 0), fetch(numbers, 1)
    base, base_back = fetch(numbers, 2), fetch(numbers, 3)
    for j in range(first, width):
        root = math.sqrt(load(u, WIDTH + j))
        back = load(u, j) < zero
        t = one + root * select(back, stretch_back, stretch)
        piece = (cell(t, shift) & (table.pieces - 1)) + select(back, table.pieces, 0)
        value = horner(table.values, piece, t - left_edge(t, shift))
        store(u, 2 * WIDTH + j, value * root + select(back, base_back, base))


@intrinsic
def horner(typing: Any, table: Any, piece: Any, x: Any) -> Code:
    """Evaluate the polynomial of one piece; its degree is that of fine_table.py."""
    count = FINE_DEGREE[table.dtype.bitwidth] + 1

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        scope, total = input_scope(builder.module), None
        start = builder.mul(arguments[1], ir.Constant(ir.IntType(64), FINE_STRIDE[x.bitwidth]))
        for k in range(count):
            index = builder.add(start, ir.Constant(ir.IntType(64), k))
            at = address(context, builder, signature.args[0], arguments[0], index)
            coefficient = builder.load(at)
            coefficient.set_metadata("alias.scope", scope)
            first = total is None
            total = coefficient if first else fused(builder, total, arguments[2], coefficient)
        return total

    return x(table, types.int64, x), code


@intrinsic
def cell(typing: Any, value: Any, shift: Any) -> Code:
    """Return exponent and leading mantissa bits: the bits shifted to the right, as an index."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        size = ir.IntType(value.bitwidth)
        shifted = builder.lshr(
            builder.bitcast(arguments[0], size), resize(builder, arguments[1], size)
        )
        return builder.zext(shifted, ir.IntType(64)) if value.bitwidth < 64 else shifted

    return types.int64(value, types.int64), code


@intrinsic
def left_edge(typing: Any, value: Any, shift: Any) -> Code:
    """Return the number with the lowest `shift` bits cleared."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        size = ir.IntType(value.bitwidth)
        amount = resize(builder, arguments[1], size)
        mask = builder.shl(ir.Constant(size, -1), amount)
        kept = builder.and_(builder.bitcast(arguments[0], size), mask)
        return builder.bitcast(kept, context.get_value_type(value))

    return value(value, types.int64), code
