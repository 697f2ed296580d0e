"""The compiled code of the Numba engine: the tile loop of the C++ engine, in Numba.

Importing this module imports Numba and compiles nothing. `run` is compiled once per dtype and kind
of map, at the first call, and kept in Numba's cache on disk where that can be written to.

LLVM vectorises a loop only if it can show that stores do not change what is loaded. Arrays that no
loop below writes to while reading them (data, tables, packed columns) are therefore read by
`fetch`, whose loads are declared not to alias with any `store`; what a loop rewrites is read by
`load`. Scratch rows have the constant length WIDTH, so that their distances are known.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic, overload
from numpy.typing import NDArray

WIDTH = 256  # columns of a tile
ROWS = 96  # rows of a tile
CHUNK = 16 * ROWS  # rows of a task: amortises packing the columns; a multiple of WIDTH
PANEL = 64  # columns that are packed together
DEPTH = 128  # inner dimension of one pass: keeps a packed panel in cache
REGISTER_ROWS = 6  # rows of the register tile
SLOTS = 4
STATE = 3 * WIDTH  # w, co and t of a row of pairs

# Degree and row length of the fine tables of a profile, by size of the number.
FINE_DEGREE = {32: 3, 64: 6}
FINE_STRIDE = {32: 4, 64: 8}

Array = NDArray[Any]
Code = tuple[Any, Callable[..., Any]]

# Coefficients by name and size of the number, constant term first: those of csrc/coefficients.hpp.
COEFFICIENTS: dict[str, dict[int, tuple[float, ...]]] = {
    "asin": {
        64: (
            1.0, 0.16666666666664941, 0.075000000003852017, 0.044642856805998938,
            0.030381959697685138, 0.022371749733164054, 0.01735977964134998,
            0.013884842826402081, 0.012170138592391726, 0.0065293020047365693,
            0.019513468251252168, -0.016187392271599133, 0.031879621400812839,
        ),
        32: (
            0.999999996, 0.16666782, 0.0749469669, 0.0455206356, 0.0239939997, 0.0424173738,
        ),
    },
    "turn": {
        64: (
            0.31830988618379068, 0.053051647697292953, 0.023873241465010435,
            0.014210262668836787, 0.0096708781334106716, 0.0071211491112956994,
            0.0055257894818137986, 0.0044196827397518687, 0.0038738754301851688,
            0.0020783413779872936, 0.0062113298581070904, -0.0051526069915850928,
            0.010147598659675072,
        ),
        32: (
            0.318309885, 0.0530520148, 0.0238563605, 0.0144896683, 0.0076375273, 0.0135018694,
        ),
    },
    "chord": {
        64: (
            0.84882636315677511, 0.084882636315697053, 0.027283704526327283,
            0.012631344965088311, 0.0070333518785631548, 0.0043825612743567393,
            0.0029425709399070188, 0.0021224926001380432, 0.0013621468259766904,
            0.0019134046906161237, -0.00080815459603626676, 0.0028670587473201154,
        ),
        32: (
            0.848826376, 0.0848800032, 0.0273664394, 0.0117413891, 0.0107503413,
        ),
    },
    "exp": {
        64: (
            1.0, 1.0, 0.50000000000000186, 0.16666666666666681, 0.041666666666486661,
            0.0083333333333194903, 0.0013888888952696516, 0.00019841269890340665,
            2.4801485074105117e-5, 2.7557240604663896e-6, 2.7632790542117181e-7,
            2.5110153646928931e-8,
        ),
        32: (
            1.0, 1.00000004, 0.500000005, 0.166664145, 0.0416663516, 0.0083752102, 0.00139412131,
        ),
    },
}


class Side(NamedTuple):
    """The rows on one side: where row i starts, and what depends on them alone."""

    data: Array  # flat
    first: int  # row i is data[first + i stride :]
    stride: int
    count: int
    norms: Array
    inverse: Array  # of the norms; 0 for a norm of 0
    factors: Array  # the result is scaled by both sides'
    series: Array  # (count, terms) Hermite coefficients, or (1, 1)


class Target(NamedTuple):
    """Where results go: entry (i, j) is values[first + i stride + j]."""

    wanted: bool
    values: Array  # flat
    first: int
    stride: int


class Problem(NamedTuple):
    """What `run` is asked for: a Gram matrix, or its product with `right`."""

    x: Side
    y: Side
    dimension: int
    symmetric: bool
    refine_front: Any  # pairs with (1-u)/2 below this are recomputed from differences
    refine_back: Any  # and with (1+u)/2 below this
    out: Target
    out_second: Target
    right: Array  # (m, columns), empty if there is no product
    product: Target
    chunk: int  # rows of a task
    cancelled: Array


class Scratch(NamedTuple):
    """Buffers of one thread."""

    packed: Array  # panels [dimension][PANEL] of columns
    products: Array  # [ROWS][WIDTH]
    values: Array  # [ROWS][WIDTH] of a product's tile
    factors: Array  # [2][WIDTH]: factors and norms of the columns
    lines: Array  # work space of one row: state and slots
    columns: Array  # [stats][WIDTH]
    rows: Array  # [stats][ROWS]
    packed_right: Array  # panels [WIDTH][PANEL]
    sums: Array  # [chunk][columns], float64


class Row(NamedTuple):
    """A row of a tile: i = i0 + r, and the columns j0 + first to j0 + width of it."""

    i: int
    r: int
    j0: int
    first: int
    width: int


class ProfilePlan(NamedTuple):
    """A profile with a fine table: [side][piece][coefficient], highest power first."""

    table: Array
    shift: int  # mantissa bits below those that pick a piece
    pieces: int  # on either side
    numbers: Array  # stretch, stretch, base, base
    table_second: Array
    shift_second: int
    pieces_second: int
    numbers_second: Array


class RadialPlan(NamedTuple):
    """exp(-c r^gamma)."""

    numbers: Array  # c, gamma
    power: int  # 1 or 2 if gamma is, else 0
    euclidean: bool


class LayersPlan(NamedTuple):
    """The layers, one row of constants each."""

    layers: Array  # (layers, 12)
    stats: int  # numbers per data row
    scales: Array  # of NTK and NNGP


# ---- compiling ----------------------------------------------------------------------------------

Function = TypeVar("Function", bound=Callable[..., Any])
_OPTIONS = {"nogil": True, "error_model": "numpy", "fastmath": {"contract"}}


def _compiled(function: Function) -> Function:
    """Compile a function called from compiled code; products and sums may be fused."""
    result: Function = njit(**_OPTIONS)(function)
    return result


def _cached(function: Function) -> Function:
    """Compile a function called from Python, with a cache on disk if there is a place for it."""
    try:
        result: Function = njit(cache=True, **_OPTIONS)(function)
    except RuntimeError:  # neither __pycache__ nor the user's cache directory can be written
        result = njit(**_OPTIONS)(function)
    return result


# ---- operations that Python has no word for -----------------------------------------------------


def _scope(module: Any) -> Any:
    """Metadata: the memory that `fetch` reads and no `store` changes."""
    domain = module.add_metadata([ir.MetaDataString(module, "ntkfast")])
    scope = module.add_metadata([ir.MetaDataString(module, "ntkfast input"), domain])
    return module.add_metadata([scope])


def _pointer(context: Any, builder: Any, kind: Any, array: Any, index: Any) -> Any:
    data = context.make_array(kind)(context, builder, array).data
    return builder.gep(data, [index], inbounds=True)


@intrinsic
def fetch(typing: Any, array: Any, index: Any) -> Code:
    """Read array[index] of a flat array that `store` does not change meanwhile."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        value = builder.load(_pointer(context, builder, signature.args[0], *arguments))
        value.set_metadata("alias.scope", _scope(builder.module))
        return value

    return array.dtype(array, types.intp), code


@intrinsic
def load(typing: Any, array: Any, index: Any) -> Code:
    """Read array[index] of a flat array; index is not negative."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        value = builder.load(_pointer(context, builder, signature.args[0], *arguments))
        value.set_metadata("noalias", _scope(builder.module))
        return value

    return array.dtype(array, types.intp), code


@intrinsic
def store(typing: Any, array: Any, index: Any, value: Any) -> Code:
    """Write array[index] of a flat array that `fetch` does not read meanwhile."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = _pointer(context, builder, signature.args[0], *arguments[:2])
        builder.store(arguments[2], pointer).set_metadata("noalias", _scope(builder.module))
        return context.get_dummy_value()

    return types.void(array, types.intp, array.dtype), code


@intrinsic
def real(typing: Any, like: Any, value: Any) -> Code:
    """Convert to the type of `like`: Numba would compute 0.5 * float32 in float64."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return context.cast(builder, arguments[1], signature.args[1], signature.args[0])

    return like(like, value), code


@intrinsic
def plus(typing: Any, total: Any, value: Any) -> Code:
    """Add to a sum whose order does not matter: a loop may keep one per lane."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.fadd(*arguments, flags=("contract", "reassoc"))

    return total(total, total), code


@intrinsic
def bits(typing: Any, value: Any) -> Code:
    """Return the bits of a number as an integer of its size."""
    whole = types.int64 if value.bitwidth == 64 else types.int32

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], context.get_value_type(whole))

    return whole(value), code


@intrinsic
def number(typing: Any, like: Any, value: Any) -> Code:
    """Return the number of the type of `like` with these bits."""
    whole = types.int64 if like.bitwidth == 64 else types.int32

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[1], context.get_value_type(like))

    return like(like, whole), code


@intrinsic
def cell(typing: Any, value: Any, shift: Any) -> Code:
    """Return exponent and leading mantissa bits: the bits shifted to the right, as an index."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        size = ir.IntType(value.bitwidth)
        shifted = builder.lshr(
            builder.bitcast(arguments[0], size), _resize(builder, arguments[1], size)
        )
        return builder.zext(shifted, ir.IntType(64)) if value.bitwidth < 64 else shifted

    return types.int64(value, types.int64), code


@intrinsic
def left_edge(typing: Any, value: Any, shift: Any) -> Code:
    """Return the number with the lowest `shift` bits cleared."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        size = ir.IntType(value.bitwidth)
        amount = _resize(builder, arguments[1], size)
        mask = builder.shl(ir.Constant(size, -1), amount)
        kept = builder.and_(builder.bitcast(arguments[0], size), mask)
        return builder.bitcast(kept, context.get_value_type(value))

    return value(value, types.int64), code


def _resize(builder: Any, value: Any, size: Any) -> Any:
    return builder.trunc(value, size) if size.width < value.type.width else value


@intrinsic(prefer_literal=True)
def polynomial(typing: Any, name: Any, x: Any) -> Code:
    """Evaluate one of COEFFICIENTS."""
    coefficients = COEFFICIENTS[name.literal_value][x.bitwidth]

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind, flags = context.get_value_type(x), ("contract",)
        total = ir.Constant(kind, coefficients[-1])
        for coefficient in coefficients[-2::-1]:
            product = builder.fmul(total, arguments[1], flags=flags)
            total = builder.fadd(product, ir.Constant(kind, coefficient), flags=flags)
        return total

    return x(name, x), code


@intrinsic
def wide(typing: Any) -> Code:
    """Let the calling function use the widest vectors; LLVM takes half of AVX-512 otherwise."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        # llvmlite's own `add` refuses attributes that it does not know.
        set.add(builder.function.attributes, '"prefer-vector-width"="512"')
        return context.get_dummy_value()

    return types.void(), code


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
    depth: Any,
    t: Any,
    to: Any,
) -> Code:
    """Add x[6][depth] y[depth][some columns of a panel] to t[6][WIDTH].

    Rows beyond `rows` repeat the last one. Returns the number of columns done. The sums stay in registers, for which LLVM needs to be told
    the vectors.
    """

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _, at_, stride_, rows_, _, start_, depth_, _, to_ = arguments
        lanes, across = _vectors(context, x.dtype.bitwidth)
        scalar, index = context.get_value_type(x.dtype), ir.IntType(64)
        vector = ir.VectorType(scalar, lanes)
        align = x.dtype.bitwidth // 8

        def whole(value: int) -> Any:
            return ir.Constant(index, value)

        def place(which: int, offset: Any) -> Any:
            pointer = _pointer(context, builder, signature.args[which], arguments[which], offset)
            return builder.bitcast(pointer, vector.as_pointer())

        def target(row: int, part: int) -> Any:
            return place(7, builder.add(to_, whole(row * WIDTH + part * lanes)))

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
            offset = builder.add(start_, builder.mul(loop.index, whole(PANEL)))
            rights = [
                builder.load(place(4, builder.add(offset, whole(part * lanes))), align=align)
                for part in range(across)
            ]
            for row in range(REGISTER_ROWS):
                position = builder.add(lefts[row], loop.index)
                element = builder.load(
                    _pointer(context, builder, signature.args[0], arguments[0], position)
                )
                one = builder.insert_element(
                    ir.Constant(vector, ir.Undefined), element, ir.Constant(ir.IntType(32), 0)
                )
                zeros = ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
                left = builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined), zeros)
                for part in range(across):
                    product = builder.fmul(left, rights[part], flags=("contract",))
                    total = builder.load(sums[row, part])
                    builder.store(
                        builder.fadd(total, product, flags=("contract",)), sums[row, part]
                    )
        for key in tile:
            builder.store(builder.load(sums[key]), target(*key), align=align)
        return whole(lanes * across)

    size = types.int64
    return size(x, size, size, size, y, size, size, t, size), code


# ---- inner products -----------------------------------------------------------------------------


@_compiled
def pack(side: Side, j0: int, scaled: bool, dimension: int, packed: Array) -> None:
    """Pack the columns from j0 on: panels [dimension][PANEL], of unit length if `scaled`."""
    for j in range(WIDTH):
        to = j // PANEL * PANEL * dimension + j % PANEL
        if j0 + j < side.count:
            factor = fetch(side.inverse, j0 + j) if scaled else real(fetch(side.norms, 0), 1)
            at = side.first + (j0 + j) * side.stride
            for k in range(dimension):
                packed[to + k * PANEL] = fetch(side.data, at + k) * factor
        else:
            for k in range(dimension):
                packed[to + k * PANEL] = 0


@_compiled
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
                        min(DEPTH, depth - k),
                        t,
                        i * WIDTH + panel + j,
                    )
                j += done


# ---- one pair's angle from differences: see csrc/tile.hpp ---------------------------------------


@_compiled
def half_angle(x: Side, i: int, y: Side, j: int, dimension: int, ratio: Any) -> Any:
    """sin^2 of half the angle of x and y times the sign of `ratio`, which is |x|/|y| in size."""
    one = real(ratio, 1)
    inverse = one / fetch(x.norms, i)
    total = radial = real(ratio, 0)
    at, to = x.first + i * x.stride, y.first + j * y.stride
    for k in range(dimension):
        a = fetch(x.data, at + k)
        difference = (a - ratio * fetch(y.data, to + k)) * inverse
        total = plus(total, difference * difference)
        radial = plus(radial, difference * (a * inverse))
    sine2 = total - radial * radial
    if not sine2 > 0:
        return real(ratio, 0)
    return sine2 / (one + one + (one + one) * math.sqrt(one - sine2 if sine2 < one else real(ratio, 0)))


@_compiled
def squared_distance(x: Side, i: int, y: Side, j: int, dimension: int) -> Any:
    """|x - y|^2."""
    total = real(fetch(x.norms, i), 0)
    at, to = x.first + i * x.stride, y.first + j * y.stride
    for k in range(dimension):
        difference = fetch(x.data, at + k) - fetch(y.data, to + k)
        total = plus(total, difference * difference)
    return total


@_compiled
def angles(problem: Problem, s: Scratch, row: Row) -> None:
    """Write u and v = (1-|u|)/2 of a row to two lines; close pairs from differences."""
    wide()
    x, y, u, products = problem.x, problem.y, s.lines, s.products
    at = row.r * WIDTH
    inverse = fetch(x.inverse, row.i)
    half, zero = real(inverse, 0.5), real(inverse, 0)
    front, back = problem.refine_front, problem.refine_back
    close = 0
    for j in range(WIDTH):
        cosine = load(products, at + j) * inverse
        v = half - half * abs(cosine)
        v = v if v > zero else zero
        store(u, j, cosine)
        store(u, WIDTH + j, v)
        close += 1 if v < (back if cosine < zero else front) else 0
    if close:
        for j in range(row.first, row.width):
            cosine = load(u, j)
            if load(u, WIDTH + j) < (back if cosine < zero else front):
                ratio = fetch(x.norms, row.i) / fetch(y.norms, row.j0 + j)
                ratio = -ratio if cosine < zero else ratio
                v = half_angle(x, row.i, y, row.j0 + j, problem.dimension, ratio)
                store(u, WIDTH + j, v)


# ---- profile ------------------------------------------------------------------------------------


@_compiled
def profile_row(
    table: Array,
    shift: int,
    pieces: int,
    numbers: Array,
    factor: Any,
    s: Scratch,
    row: Row,
    out: Target,
) -> None:
    """Evaluate a profile at the lines of `angles`, times both factors."""
    wide()
    u, factors, values = s.lines, s.factors, out.values
    to = out.first + row.i * out.stride + row.j0
    zero, one = real(factor, 0), real(factor, 1)
    stretch, stretch_back = fetch(numbers, 0), fetch(numbers, 1)
    base, base_back = fetch(numbers, 2), fetch(numbers, 3)
    for j in range(row.first, row.width):
        root = math.sqrt(load(u, WIDTH + j))
        back = load(u, j) < zero
        t = one + root * (stretch_back if back else stretch)
        piece = (cell(t, shift) & (pieces - 1)) + (pieces if back else 0)
        value = horner(table, piece, t - left_edge(t, shift))
        value = value * root + (base_back if back else base)
        store(values, to + j, value * (factor * fetch(factors, j)))


@intrinsic
def horner(typing: Any, table: Any, piece: Any, x: Any) -> Code:
    """Evaluate the polynomial of one piece; see `ntkfast.engines.numba` for the degree."""
    count = FINE_DEGREE[table.dtype.bitwidth] + 1

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        scope, total = _scope(builder.module), None
        start = builder.mul(arguments[1], ir.Constant(ir.IntType(64), FINE_STRIDE[x.bitwidth]))
        for k in range(count):
            index = builder.add(start, ir.Constant(ir.IntType(64), k))
            pointer = _pointer(context, builder, signature.args[0], arguments[0], index)
            coefficient = builder.load(pointer)
            coefficient.set_metadata("alias.scope", scope)
            if total is None:
                total = coefficient
            else:
                product = builder.fmul(total, arguments[2], flags=("contract",))
                total = builder.fadd(product, coefficient, flags=("contract",))
        return total

    return x(table, types.int64, x), code


# ---- radial -------------------------------------------------------------------------------------


@_compiled
def exponential(x: Any) -> Any:
    """exp(x); 0 far below, where it would be subnormal."""
    return x


# ---- driver -------------------------------------------------------------------------------------


def map_row(problem: Any, plan: Any, s: Any, row: Any, out: Any, second: Any) -> None:
    """Evaluate the map on a row of a tile: one of the three functions below, by kind of plan."""
    raise NotImplementedError


@overload(map_row)
def _map_row(problem: Any, plan: Any, s: Any, row: Any, out: Any, second: Any) -> Any:
    kinds = {ProfilePlan: map_profile}
    return kinds[plan.instance_class]


def map_profile(problem: Any, plan: Any, s: Any, row: Any, out: Any, second: Any) -> None:
    """One or two profiles."""
    angles(problem, s, row)
    factor = fetch(problem.x.factors, row.i)
    profile_row(plan.table, plan.shift, plan.pieces, plan.numbers, factor, s, row, out)
    if second.wanted:
        profile_row(
            plan.table_second,
            plan.shift_second,
            plan.pieces_second,
            plan.numbers_second,
            factor,
            s,
            row,
            second,
        )


@_compiled
def mirror(target: Target, i0: int, i1: int, j0: int, j1: int) -> None:
    """Copy the strict upper part of a finished tile to its mirror image."""
    out, first, stride = target.values, target.first, target.stride
    for block in range(j0, j1, 16):
        for i in range(i0, i1):
            for j in range(max(block, i + 1), min(block + 16, j1)):
                store(out, first + j * stride + i, load(out, first + i * stride + j))


@_compiled
def pack_columns(problem: Problem, plan: Any, s: Scratch, j0: int) -> None:
    y = problem.y
    pack(y, j0, True, problem.dimension, s.packed)
    for j in range(WIDTH):
        s.factors[j] = fetch(y.factors, j0 + j) if j0 + j < y.count else 0
        s.factors[WIDTH + j] = fetch(y.norms, j0 + j) if j0 + j < y.count else 0


@_cached
def run(problem: Problem, plan: Any, s: Scratch, task: int, packed: int) -> int:
    """Do one task: a block of columns against a chunk of rows. Returns the block in `packed`."""
    wide()
    x, y, out, second = problem.x, problem.y, problem.out, problem.out_second
    chunks = (x.count + problem.chunk - 1) // problem.chunk
    block = task // chunks
    j0 = block * WIDTH
    j1 = min(j0 + WIDTH, y.count)
    begin = task % chunks * problem.chunk
    end = min(begin + problem.chunk, x.count)
    if problem.symmetric and begin >= j1:
        return packed
    if packed != block:
        pack_columns(problem, plan, s, j0)
    for i0 in range(begin, end, ROWS):
        if problem.cancelled[0] or (problem.symmetric and i0 >= j1):
            break
        rows = min(ROWS, end - i0)
        multiply(x.data, x.first + i0 * x.stride, x.stride, rows, s.packed, j1 - j0, problem.dimension, s.products)
        for r in range(rows):
            first = max(i0 + r - j0, 0) if problem.symmetric else 0
            map_row(problem, plan, s, Row(i0 + r, r, j0, first, j1 - j0), out, second)
        if problem.symmetric:
            if out.wanted:
                mirror(out, i0, i0 + rows, max(i0, j0), j1)
            if second.wanted:
                mirror(second, i0, i0 + rows, max(i0, j0), j1)
    return block
