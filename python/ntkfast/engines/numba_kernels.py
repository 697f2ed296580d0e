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
from numba import int64, njit, types
from numba.core import cgutils
from numba.core.options import DefaultOptions
from numba.extending import intrinsic, overload
from numpy.typing import NDArray

WIDTH = 256  # columns of a tile
ROWS = 96  # rows of a tile
CHUNK = 16 * ROWS  # rows of a task: amortises packing the columns; a multiple of WIDTH
PANEL = 64  # columns that are packed together
DEPTH = 128  # inner dimension of one pass: keeps a packed panel in cache
REGISTER_ROWS = 6  # rows of the register tile
SLOTS = 4
GROUP = 4  # vectors in flight: hides the latency of the Horner chain
STATE = 3 * WIDTH  # w, co and t of a row of pairs
KEPT = (1 + SLOTS) * STATE  # two more lines after state and slots
EQUAL = KEPT + WIDTH

# Degree and row length of the fine tables of a profile, by size of the number.
FINE_DEGREE = {32: 3, 64: 6}
FINE_STRIDE = {32: 4, 64: 8}

Array = NDArray[Any]
Code = tuple[Any, Callable[..., Any]]

# Coefficients by name and size of the number, constant term first: those of csrc/coefficients.hpp.
COEFFICIENTS: dict[str, dict[int, tuple[float, ...]]] = {
    "asin": {
        64: (
            1.0,
            0.16666666666664941,
            0.075000000003852017,
            0.044642856805998938,
            0.030381959697685138,
            0.022371749733164054,
            0.01735977964134998,
            0.013884842826402081,
            0.012170138592391726,
            0.0065293020047365693,
            0.019513468251252168,
            -0.016187392271599133,
            0.031879621400812839,
        ),
        32: (
            0.999999996,
            0.16666782,
            0.0749469669,
            0.0455206356,
            0.0239939997,
            0.0424173738,
        ),
    },
    "turn": {
        64: (
            0.31830988618379068,
            0.053051647697292953,
            0.023873241465010435,
            0.014210262668836787,
            0.0096708781334106716,
            0.0071211491112956994,
            0.0055257894818137986,
            0.0044196827397518687,
            0.0038738754301851688,
            0.0020783413779872936,
            0.0062113298581070904,
            -0.0051526069915850928,
            0.010147598659675072,
        ),
        32: (
            0.318309885,
            0.0530520148,
            0.0238563605,
            0.0144896683,
            0.0076375273,
            0.0135018694,
        ),
    },
    "chord": {
        64: (
            0.84882636315677511,
            0.084882636315697053,
            0.027283704526327283,
            0.012631344965088311,
            0.0070333518785631548,
            0.0043825612743567393,
            0.0029425709399070188,
            0.0021224926001380432,
            0.0013621468259766904,
            0.0019134046906161237,
            -0.00080815459603626676,
            0.0028670587473201154,
        ),
        32: (
            0.848826376,
            0.0848800032,
            0.0273664394,
            0.0117413891,
            0.0107503413,
        ),
    },
    "exp": {
        64: (
            1.0,
            1.0,
            0.50000000000000186,
            0.16666666666666681,
            0.041666666666486661,
            0.0083333333333194903,
            0.0013888888952696516,
            0.00019841269890340665,
            2.4801485074105117e-5,
            2.7557240604663896e-6,
            2.7632790542117181e-7,
            2.5110153646928931e-8,
        ),
        32: (
            1.0,
            1.00000004,
            0.500000005,
            0.166664145,
            0.0416663516,
            0.0083752102,
            0.00139412131,
        ),
    },
    "log": {
        64: (
            2.0,
            0.66666666666667646,
            0.39999999999302338,
            0.2857142876064168,
            0.22222197056726047,
            0.18183631680229329,
            0.15312528148364191,
            0.14809710360655277,
        ),
        32: (
            2.0,
            0.666668153,
            0.399748505,
            0.299243905,
        ),
    },
}


# Numbers that belong to a format: see csrc/exponential.hpp.
CONSTANTS: dict[str, dict[int, float]] = {
    "magic": {64: 1.5 * 2.0**52, 32: 1.5 * 2.0**23},  # adding it rounds to an integer
    "lowest": {64: -708.0, 32: -87.0},
    "highest": {64: 709.0, 32: 88.0},
    "log2_high": {64: 0.693147180369123816490, 32: 0.693359375},
    "log2_low": {64: 1.90821492927058770002e-10, 32: -2.12194440e-4},
    "tiny": {64: 2.2250738585072014e-308, 32: 1.17549435e-38},
}
MANTISSA = {64: 52, 32: 23}
ROOT_HALF_BITS = {64: 0x3FE6A09E667F3BCD, 32: 0x3F3504F3}


class Side(NamedTuple):
    """The rows on one side: where row i starts, and what depends on them alone."""

    data: Array  # flat
    first: int  # row i is data[first + i stride :]
    stride: int
    height: int
    norms: Array
    inverse: Array  # of the norms; 0 for a norm of 0
    factors: Array  # the result is scaled by both sides'
    series: Array  # (height, terms) Hermite coefficients, or (1, 1)
    diagonal: Array  # (height, 2) NTK and NNGP at equal inputs, or (0, 2)


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
    scaled: bool  # columns to unit length: products cannot overflow then
    refine_front: Any  # pairs with (1-u)/2 below this are recomputed from differences
    refine_back: Any  # and with (1+u)/2 below this
    out: Target
    out_second: Target
    right: Array  # (m, columns), empty if there is no product
    use_second: bool  # multiply the NNGP of layers, not the NTK
    product: Target
    chunk: int  # rows of a task
    cancelled: Array


class Scratch(NamedTuple):
    """Buffers of one thread."""

    packed: Array  # panels [dimension][PANEL] of columns
    products: Array  # [ROWS][WIDTH]
    values: Array  # [ROWS][WIDTH] of a product's tile
    factors: Array  # [3][WIDTH]: factors, norms and inverse norms of the columns
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
    """A profile: its own table if a permutation looks it up, else a fine one.

    The fine table is [side][piece][coefficient]. Both have the highest power first.
    """

    table: Array
    degree: int  # of the profile's own table
    shift: int  # mantissa bits below those that pick a piece
    pieces: int  # on either side
    numbers: Array  # stretch, stretch, base, base, scale
    table_second: Array
    degree_second: int
    shift_second: int
    pieces_second: int
    numbers_second: Array


class RadialPlan(NamedTuple):
    """exp(-c r^gamma)."""

    numbers: Array  # c, gamma
    power: int  # gamma if that is 1 or 2, else 0
    euclidean: bool


class LayersPlan(NamedTuple):
    """The layers, one row of constants each."""

    layers: Array  # (layers, 12), see `ntkfast.maps.LayerMap`
    stats: int  # numbers per data row
    least: float  # norm that smaller ones are taken for
    scales: Array  # of NTK and NNGP


# ---- compiling ----------------------------------------------------------------------------------

Function = TypeVar("Function", bound=Callable[..., Any])
_OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": {"contract"}}
# The callers keep all arrays alive: counting references took most of the time of a short row.
if hasattr(DefaultOptions, "_nrt"):
    _OPTIONS["_nrt"] = False


def _compiled(function: Function) -> Function:
    """Compile a function called from compiled code; products and sums may be fused."""
    wrappers = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}  # half of the time
    result: Function = njit(**wrappers, **_OPTIONS)(function)
    return result


def _inlined(function: Function) -> Function:
    """Compile a function as a part of its caller: passing tuples of arrays costs compile time."""
    result: Function = njit(inline="always", **_OPTIONS)(function)
    return result


def _cached(function: Function) -> Function:
    """Compile a function called from Python, with a cache on disk if there is a place for it."""
    try:
        result: Function = njit(cache=True, no_cfunc_wrapper=True, **_OPTIONS)(function)
    except RuntimeError:  # neither __pycache__ nor the user's cache directory can be written
        result = njit(no_cfunc_wrapper=True, **_OPTIONS)(function)
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
def select(typing: Any, condition: Any, a: Any, b: Any) -> Code:
    """Choose a or b, computing both: a branch in a loop may keep it from vectorising."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.select(*arguments)

    return a(types.boolean, a, a), code


@intrinsic
def plus(typing: Any, total: Any, value: Any) -> Code:
    """Add to a sum whose order does not matter: a loop may keep one per lane."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.fadd(*arguments, flags=("contract", "reassoc"))

    return total(total, total), code


@intrinsic(prefer_literal=True)
def constant(typing: Any, name: Any, like: Any) -> Code:
    """Return one of CONSTANTS for the type of `like`."""
    value = CONSTANTS[name.literal_value][like.bitwidth]

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return ir.Constant(context.get_value_type(like), value)

    return like(name, like), code


@intrinsic
def times_power(typing: Any, value: Any, shifted: Any) -> Code:
    """Return value 2^n, where n is in the low bits of `shifted` = n + magic."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        whole = ir.IntType(value.bitwidth)
        left, right = (builder.bitcast(argument, whole) for argument in arguments)
        power = builder.shl(right, ir.Constant(whole, MANTISSA[value.bitwidth]))
        return builder.bitcast(builder.add(left, power), context.get_value_type(value))

    return value(value, value), code


def _exponent(builder: Any, value: Any, size: int) -> tuple[Any, Any]:
    """Bits of a number m 2^n with m in [sqrt 1/2, sqrt 2), and n."""
    whole = ir.IntType(size)
    all_bits = builder.bitcast(value, whole)
    shifted = builder.sub(all_bits, ir.Constant(whole, ROOT_HALF_BITS[size]))
    return all_bits, builder.ashr(shifted, ir.Constant(whole, MANTISSA[size]))


@intrinsic
def mantissa(typing: Any, value: Any) -> Code:
    """Return m of a number m 2^n with m in [sqrt 1/2, sqrt 2)."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        all_bits, n = _exponent(builder, arguments[0], value.bitwidth)
        power = builder.shl(n, ir.Constant(n.type, MANTISSA[value.bitwidth]))
        return builder.bitcast(builder.sub(all_bits, power), context.get_value_type(value))

    return value(value), code


@intrinsic
def exponent(typing: Any, value: Any) -> Code:
    """Return n of a number m 2^n with m in [sqrt 1/2, sqrt 2)."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        n = _exponent(builder, arguments[0], value.bitwidth)[1]
        return builder.sitofp(n, context.get_value_type(value))

    return value(value), code


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
    """Evaluate one of COEFFICIENTS; "expm1" is "exp" without its constant term, over x."""
    if name.literal_value == "expm1":
        coefficients = COEFFICIENTS["exp"][x.bitwidth][1:]
    else:
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

    Rows beyond `rows` repeat the last one. Returns the number of columns done. The sums stay in
    registers, for which LLVM needs to be told the vectors.
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
def half_angle(x: Array, at: int, norm: Any, y: Array, to: int, ratio: Any, dimension: int) -> Any:
    """sin^2 of half the angle of x and y times the sign of `ratio`, which is |x|/|y| in size."""
    one, zero = real(norm, 1), real(norm, 0)
    inverse = one / norm
    total = radial = zero
    for k in range(dimension):
        a = fetch(x, at + k)
        difference = (a - ratio * fetch(y, to + k)) * inverse
        total = plus(total, difference * difference)
        radial = plus(radial, difference * (a * inverse))
    sine2 = total - radial * radial
    cosine = math.sqrt(select(sine2 < one, one - sine2, zero))
    return select(sine2 > zero, sine2 / (one + one + (one + one) * cosine), zero)


@_compiled
def squared_distance(x: Array, at: int, norm: Any, y: Array, to: int, dimension: int) -> Any:
    """|x - y|^2."""
    total = real(norm, 0)
    for k in range(dimension):
        difference = fetch(x, at + k) - fetch(y, to + k)
        total = plus(total, difference * difference)
    return total


@_compiled
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


@_compiled
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


@_compiled
def zero_row(norms: Array, u: Array) -> None:
    """Write u and v for a row of zeros: equal to other rows of zeros, orthogonal to all else."""
    wide()
    zero, half, one = real(fetch(norms, 0), 0), real(fetch(norms, 0), 0.5), real(fetch(norms, 0), 1)
    for j in range(WIDTH):
        equal = fetch(norms, WIDTH + j) == zero
        store(u, j, select(equal, one, zero))
        store(u, WIDTH + j, select(equal, zero, half))


@_inlined
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


# ---- profile ------------------------------------------------------------------------------------


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

        def all_of(value: Any) -> Any:
            one = builder.insert_element(
                ir.Constant(ir.VectorType(value.type, lanes), ir.Undefined),
                value,
                ir.Constant(ir.IntType(32), 0),
            )
            zeros = ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
            return builder.shuffle_vector(one, one, zeros)

        def place(which: int, offset: Any) -> Any:
            pointer = _pointer(context, builder, signature.args[which], arguments[which], offset)
            return builder.bitcast(pointer, vector.as_pointer())

        def vector_at(which: int, offset: Any) -> Any:
            return builder.load(place(which, offset), align=size // 8)

        def fused(a: Any, b: Any, c: Any) -> Any:
            return builder.fadd(builder.fmul(a, b, flags=("contract",)), c, flags=("contract",))

        def number(k: int) -> Any:
            pointer = _pointer(
                context, builder, signature.args[3], arguments[3], ir.Constant(index, k)
            )
            return all_of(builder.load(pointer))

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

        amount = all_of(_resize(builder, shift_, whole))
        mask = builder.shl(ir.Constant(wholes, [-1] * lanes), amount)
        zero, one = ir.Constant(vector, [0.0] * lanes), ir.Constant(vector, [1.0] * lanes)
        seven, eight = (ir.Constant(wholes, [k] * lanes) for k in (7, 8))
        none = ir.Constant(wholes, [0] * lanes)
        xs, roots, backs, pieces = [], [], [], []
        for group in range(GROUP):
            back = builder.fcmp_ordered("<", vector_at(4, line(0, group)), zero)
            s = builder.call(root, [vector_at(4, line(1, group))])
            t = fused(s, builder.select(back, number(1), number(0)), one)
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
                builder.store(fused(builder.load(value), x, c), value)
        for group, (value, s, back) in enumerate(zip(values, roots, backs, strict=True)):
            base = builder.select(back, number(3), number(2))
            result = fused(builder.load(value), s, base)
            builder.store(result, place(4, line(2, group)), align=size // 8)
        return ir.Constant(index, GROUP * lanes)

    size = types.int64
    return size(table, size, size, numbers, u, size), code


@_compiled
def profile_row(
    table: Array,
    degree: int,
    shift: int,
    pieces: int,
    numbers: Array,
    u: Array,
    factor: Any,
    factors: Array,
    out: Array,
    to: int,
    first: int,
    width: int,
) -> None:
    """Evaluate a profile at the lines of `angles`, times both factors."""
    wide()
    factor *= fetch(numbers, 4)
    if pieces == 8:  # the table of the profile itself
        j = first // PANEL * PANEL
        while j < width:
            j += profile_lanes(table, degree, shift, numbers, u, j)
    else:
        fine_profile(table, shift, pieces, numbers, u, first, width)
    for j in range(first, width):
        store(out, to + j, load(u, 2 * WIDTH + j) * (factor * fetch(factors, j)))


@_compiled
def fine_profile(
    table: Array, shift: int, pieces: int, numbers: Array, u: Array, first: int, width: int
) -> None:
    """Evaluate a profile with a fine table, without its factors, to the third line."""
    wide()
    zero, one = real(load(u, 0), 0), real(load(u, 0), 1)
    stretch, stretch_back = fetch(numbers, 0), fetch(numbers, 1)
    base, base_back = fetch(numbers, 2), fetch(numbers, 3)
    for j in range(first, width):
        root = math.sqrt(load(u, WIDTH + j))
        back = load(u, j) < zero
        t = one + root * select(back, stretch_back, stretch)
        piece = (cell(t, shift) & (pieces - 1)) + select(back, pieces, 0)
        value = horner(table, piece, t - left_edge(t, shift))
        store(u, 2 * WIDTH + j, value * root + select(back, base_back, base))


# ---- radial: see csrc/radial.hpp and csrc/exponential.hpp ---------------------------------------


@_compiled
def exponential(x: Any) -> Any:
    """exp(x), 0 where that is subnormal; no call, so that loops vectorise."""
    lowest, highest, magic = constant("lowest", x), constant("highest", x), constant("magic", x)
    inside = select(x > lowest, x, lowest)
    inside = select(inside < highest, inside, highest)
    shifted = inside * real(x, 1.44269504088896340736) + magic
    n = shifted - magic
    rest = (inside - n * constant("log2_high", x)) - n * constant("log2_low", x)
    value = times_power(polynomial("exp", rest), shifted)
    return select(x < lowest, real(x, 0), value)


@_compiled
def logarithm(x: Any) -> Any:
    """log(x) of normal x > 0."""
    one, m, n = real(x, 1), mantissa(x), exponent(x)
    z = (m - one) / (m + one)
    p = z * polynomial("log", z * z)
    return n * constant("log2_high", x) + (n * constant("log2_low", x) + p)


@_compiled
def squared_distances(
    products: Array, at: int, norm: Any, norms: Array, share: Any, u: Array
) -> int:
    """Write |x - y|^2 to the second line, 1 for close pairs to the first; returns their number."""
    wide()
    two, zero, one = real(norm, 2), real(norm, 0), real(norm, 1)
    close = 0
    for j in range(WIDTH):
        q = fetch(norms, WIDTH + j)
        total = norm * norm + q * q
        r2 = total - two * load(products, at + j)
        r2 = select(r2 > zero, r2, zero)
        is_close = r2 < total * share
        store(u, j, select(is_close, one, zero))
        store(u, WIDTH + j, r2)
        close += select(is_close, 1, 0)
    return close


@_compiled
def refine_distances(
    x: Array,
    at: int,
    norm: Any,
    y: Array,
    to: int,
    stride: int,
    dimension: int,
    first: int,
    width: int,
    u: Array,
) -> None:
    """Recompute the squared distances of close pairs from differences."""
    wide()
    for j in range(first, width):
        if load(u, j) > real(norm, 0):
            r2 = squared_distance(x, at, norm, y, to + j * stride, dimension)
            store(u, WIDTH + j, r2)


@_compiled
def chords(u: Array) -> None:
    """Replace v = (1-|u|)/2 by the squared distance of the directions."""
    wide()
    zero, one, four = real(load(u, 0), 0), real(load(u, 0), 1), real(load(u, 0), 4)
    for j in range(WIDTH):
        v = load(u, WIDTH + j)
        store(u, WIDTH + j, four * select(load(u, j) < zero, one - v, v))


@_compiled
def radial_row(
    numbers: Array,
    power: int,
    u: Array,
    factor: Any,
    factors: Array,
    out: Array,
    to: int,
    first: int,
    width: int,
) -> None:
    """exp(-c r^gamma) of the squared distances in the second line, times both factors."""
    wide()
    rate, gamma = -fetch(numbers, 0), fetch(numbers, 1)
    zero, half, tiny = real(factor, 0), real(factor, 0.5), constant("tiny", factor)
    if power == 1:
        for j in range(WIDTH):
            store(u, WIDTH + j, rate * math.sqrt(load(u, WIDTH + j)))
    elif power == 2:
        for j in range(WIDTH):
            store(u, WIDTH + j, rate * load(u, WIDTH + j))
    else:
        for j in range(WIDTH):
            r2 = load(u, WIDTH + j)
            raised = exponential(half * gamma * logarithm(select(r2 > tiny, r2, tiny)))
            store(u, WIDTH + j, select(r2 > zero, rate * raised, zero))
    for j in range(first, width):
        value = exponential(load(u, WIDTH + j))
        store(out, to + j, value * (factor * fetch(factors, j)))


# ---- numbers per data row that layers multiply pairwise: see csrc/row_stats.hpp -----------------


def activation_stats(kind: int, terms: int) -> int:
    """Count the numbers of an activation."""
    return (0, 0, 0, 3, 5, 2, 1, 3, terms)[kind]


def count_stats(layers: NDArray[np.float64]) -> int:
    """Count the numbers of all layers, and the root of the final variance."""
    total = 1
    for layer in layers:
        total += activation_stats(int(layer[0]), int(layer[11]))
        total += 4 * (layer[7] != 0 or layer[9] != 0) + 4 * (layer[2] >= 0)
    return int(total)


@_compiled
def variance_after(kind: int, a: float, b: float, c: float, q: float) -> float:
    """Return K(q, q, q) of an activation with a closed form."""
    if kind == 1:
        return (a + b) * q
    if kind == 2:
        return a + b
    if kind == 3:
        z = 2 * b * b * q
        return a * a * 2 / math.pi * math.asin(z / (1 + z)) + c * c
    if kind == 4:
        e = math.sqrt(1 + 2 * q)
        return q / 4 + q / (2 * math.pi) * math.atan2(q, e) + q * q / (math.pi * (1 + q) * e)
    if kind == 5:
        return a * a / 2 * ((1 - c) - c * math.expm1(-2 * b * b * q))
    if kind == 6:
        return a * a * math.exp(2 * b * b * q)
    if kind == 7:
        return a * a / math.sqrt(1 - 4 * b * q)
    return q


@_compiled
def inverse_root(q: float) -> float:
    """1/sqrt(q), or 0."""
    return 1 / math.sqrt(q) if q > 0 else 0.0


@_compiled
def put_shares(share: float, rest: float, out: Array, at: int, stride: int) -> int:
    """Write sine and cosine of half the angle whose cosine and sine are given."""
    cosine = math.sqrt((1 + share) / 2) if share + rest > 0 else 1.0
    out[at] = rest / (2 * cosine)
    out[at + stride] = cosine
    return at + 2 * stride


@_compiled
def row_stats(
    layers: Array, size: float, series: Array, row: int, out: Array, at: int, stride: int
) -> None:
    """Write the numbers of a data row, in the order of the layers."""
    q = size * size
    slot0 = slot1 = slot2 = slot3 = q
    for layer in range(len(layers)):
        kind, save, add = int(layers[layer, 0]), int(layers[layer, 1]), int(layers[layer, 2])
        a, b, w, e = layers[layer, 3], layers[layer, 4], layers[layer, 6], layers[layer, 7]
        if save == 0:
            slot0 = q
        elif save == 1:
            slot1 = q
        elif save == 2:
            slot2 = q
        elif save == 3:
            slot3 = q
        after = variance_after(kind, a, b, layers[layer, 5], q)
        z = 2 * abs(b * b if kind == 3 else b) * q
        if kind == 3:
            out[at] = math.sqrt(z / (1 + z))
            out[at + stride] = inverse_root(after)
            out[at + 2 * stride] = 1 / (1 + z)
            at += 3 * stride
        elif kind == 4:
            out[at] = math.sqrt(q / (1 + q))
            out[at + stride] = 1 / math.sqrt(1 + q)
            out[at + 2 * stride] = math.sqrt(q)
            out[at + 3 * stride] = inverse_root(after)
            out[at + 4 * stride] = 1 / (1 + q)
            at += 5 * stride
        elif kind == 5:
            out[at] = math.sqrt(q)
            out[at + stride] = inverse_root(after)
            at += 2 * stride
        elif kind == 6:
            out[at] = math.sqrt(q)
            at += stride
        elif kind == 7:
            out[at] = math.sqrt(z / (1 + z))
            out[at + stride] = abs(a) / math.sqrt(1 + z) * inverse_root(after)
            out[at + 2 * stride] = 1 / (1 + z)
            at += 3 * stride
        elif kind == 8:
            first, terms = int(layers[layer, 10]), int(layers[layer, 11])
            for k in range(terms):
                out[at] = series[row, first + k]
                at += stride
            after = float(series[row, first + terms])
        q = w * after + e
        if e != 0 or layers[layer, 9] != 0:
            inverse = inverse_root(q)
            share = math.sqrt(w * after) * inverse
            out[at] = share
            out[at + stride] = inverse
            at = put_shares(share, math.sqrt(e) * inverse, out, at + 2 * stride, stride)
        if add >= 0:
            slot = slot0 if add == 0 else slot1 if add == 1 else slot2 if add == 2 else slot3
            inverse = inverse_root(q + slot)
            share, rest = math.sqrt(q) * inverse, math.sqrt(slot) * inverse
            out[at] = share
            out[at + stride] = rest
            at = put_shares(share, rest, out, at + 2 * stride, stride)
            q += slot
    out[at] = math.sqrt(q)


# ---- one layer on a row of pairs: see csrc/layer.hpp --------------------------------------------
#
# A pair is carried as w = 1-u, co = 1+u and t = ntk / sqrt(q p); the three lines of `state` hold
# them. Number k of the data row is left[k ROWS], those of the columns are right[k WIDTH + j].


@_compiled
def arc_cosine(w: Any, co: Any) -> Any:
    """kappa0, kappa1 for u < 1/2 and 1 - kappa1 at w = 1-u, co = 1+u; accurate at both ends."""
    half, one, inverse_pi = real(w, 0.5), real(w, 1), real(w, 0.31830988618379067154)
    near = w < co
    small = select(near, w, co)
    middle = small > half
    u, m = one - w, half * small
    argument = select(middle, u * u, m)
    r = math.sqrt(select(middle, one - argument, m))
    a = polynomial("turn", argument)
    g = polynomial("chord", m) * (m * r)
    angle = (r + r) * a
    mid0 = half + u * a
    kappa0 = select(middle, mid0, select(near, one - angle, angle))
    kappa1 = select(middle, r * inverse_pi + mid0 * u, g)
    top = select(middle, one, select(near, w, one))
    return kappa0, kappa1, top - kappa1


@_compiled
def arc_sine(z: Any, one_minus_square: Any) -> Any:
    """asin(z), given 1 - z^2 too."""
    half, one, size = real(z, 0.5), real(z, 1), abs(z)
    middle = size < half
    m = half * one_minus_square / (one + size)
    a = polynomial("asin", select(middle, z * z, m))
    outer = real(z, 1.57079632679489661923) - (one + one) * math.sqrt(m) * a
    value = select(middle, size * a, outer)
    return select(z < real(z, 0), -value, value)


@_compiled
def put_cosine(state: Array, j: int, u: Any, t: Any) -> None:
    """Store the state after a smooth activation: rounding must not make 1 - u negative."""
    w, co, zero = real(u, 1) - u, real(u, 1) + u, real(u, 0)
    put(state, j, select(w > zero, w, zero), select(co > zero, co, zero), t)


@_compiled
def put(state: Array, j: int, w: Any, co: Any, t: Any) -> None:
    """Store the state of a pair."""
    store(state, j, w)
    store(state, WIDTH + j, co)
    store(state, 2 * WIDTH + j, t)


@_compiled
def relu_layer(a: float, b: float, state: Array, start: int) -> None:
    """Apply ReLU and its relatives: A kappa1 + B u and A kappa0 + B, over A + B."""
    wide()
    like = load(state, 0)
    a_, b_, two = real(like, a / (a + b)), real(like, b / (a + b)), real(like, 2)
    if b == 0:
        for j in range(start, WIDTH):
            kappa0, _, defect = arc_cosine(load(state, j), load(state, WIDTH + j))
            put(state, j, defect, two - defect, load(state, 2 * WIDTH + j) * kappa0)
        return
    for j in range(start, WIDTH):
        w, co = load(state, j), load(state, WIDTH + j)
        kappa0, kappa1, defect = arc_cosine(w, co)
        # From u = -1 where both cancel: abs, which is even, has 1 - K = 0 there too.
        far = (a_ + two * b_) - (kappa1 * a_ + co * b_)
        defect = select(w < co, defect * a_ + w * b_, far)
        put(state, j, defect, two - defect, load(state, 2 * WIDTH + j) * (kappa0 * a_ + b_))


@_compiled
def step_layer(a: float, b: float, state: Array, start: int) -> None:
    """Apply the step: alpha + beta (2 kappa0 - 1), over alpha + beta."""
    wide()
    like = load(state, 0)
    share, one, zero = real(like, 2 * b / (a + b)), real(like, 1), real(like, 0)
    for j in range(start, WIDTH):
        kappa0 = arc_cosine(load(state, j), load(state, WIDTH + j))[0]
        defect = share * (one - kappa0)
        put(state, j, defect, one + one - defect, zero)


@_compiled
def complement(own: Any, other: Any, h: Any, w: Any, co: Any) -> Any:
    """1 - z^2 for z = u h, from 1 - h_i^2 of both inputs: no cancellation for large ones."""
    return own + other * (real(own, 1) - own) + h * h * (w * co)


@_compiled
def erf_layer(
    a: float, c: float, left: Array, p: int, right: Array, o: int, state: Array, start: int
) -> None:
    """Apply a erf(b x) + c. With z = 2 b^2 q: h = sqrt(z / (1+z)), 1/sqrt(variance), 1/(1+z)."""
    wide()
    h_, inverse_ = fetch(left, p), fetch(left, p + ROWS)
    own, one = fetch(left, p + 2 * ROWS), real(h_, 1)
    scale, shift = real(h_, a * a * 0.63661977236758134308), real(h_, c * c)
    for j in range(start, WIDTH):
        h, inverse = h_ * fetch(right, o + j), inverse_ * fetch(right, o + WIDTH + j)
        w, other = load(state, j), fetch(right, o + 2 * WIDTH + j)
        z, rest = (one - w) * h, complement(own, other, h, w, load(state, WIDTH + j))
        u = (scale * arc_sine(z, rest) + shift) * inverse
        t = load(state, 2 * WIDTH + j) * (scale * h * inverse / math.sqrt(rest))
        put_cosine(state, j, u, t)


@_compiled
def gelu_layer(left: Array, p: int, right: Array, o: int, state: Array, start: int) -> None:
    """Numbers: h = sqrt(q / (1+q)), 1/sqrt(1+q), sqrt q, 1/sqrt(variance), 1/(1+q)."""
    wide()
    h_, g_, n_ = fetch(left, p), fetch(left, p + ROWS), fetch(left, p + 2 * ROWS)
    inverse_, own = fetch(left, p + 3 * ROWS), fetch(left, p + 4 * ROWS)
    one, fourth, inverse_2pi = real(h_, 1), real(h_, 0.25), real(h_, 0.15915494309189533577)
    two = one + one
    for j in range(start, WIDTH):
        w, t = load(state, j), load(state, 2 * WIDTH + j)
        h, g = h_ * fetch(right, o + j), g_ * fetch(right, o + WIDTH + j)
        root = fetch(right, o + 2 * WIDTH + j)
        inverse = inverse_ * fetch(right, o + 3 * WIDTH + j)
        other = fetch(right, o + 4 * WIDTH + j)
        u, n = one - w, n_ * root
        z, rest = u * h, complement(own, other, h, w, load(state, WIDTH + j))
        e = math.sqrt(rest)
        quarter = fourth + arc_sine(z, rest) * inverse_2pi
        value = n * u * quarter + g * (z * z + n * n * rest) / e * inverse_2pi
        # g^2 (1 + q + p) stands for 1 - q p g^2, which cancels for large variances
        gap = n_ - root
        total = gap * gap + two * n
        slope = quarter + z / e * (g * g * (one / rest + (total + two))) * inverse_2pi
        out = value * inverse
        put_cosine(state, j, out, t * slope * (n * inverse))


@_compiled
def sine_layer(
    a: float,
    b: float,
    turn: float,
    left: Array,
    p: int,
    right: Array,
    o: int,
    state: Array,
    start: int,
) -> None:
    """Apply a sin(b x + phase), turn = cos(2 phase). Numbers: sqrt q, 1/sqrt(variance)."""
    wide()
    n_, inverse_ = fetch(left, p), fetch(left, p + ROWS)
    one, half = real(n_, 1), real(n_, 0.5)
    rate, scale, turn_ = real(n_, -b * b), real(n_, a * a / 2), real(n_, turn)
    for j in range(start, WIDTH):
        w, co, t = load(state, j), load(state, WIDTH + j), load(state, 2 * WIDTH + j)
        n, gap = n_ * fetch(right, o + j), n_ - fetch(right, o + j)
        inverse = inverse_ * fetch(right, o + WIDTH + j)
        plus_ = exponential(rate * (n * w + half * gap * gap))
        minus = turn_ * exponential(rate * (n * co + half * gap * gap))
        # For small covariances, as of small inputs, the difference cancels.
        x = (rate + rate) * n * (one - w)
        close = plus_ * ((one - turn_) - turn_ * (x * polynomial("expm1", x)))
        u = scale * select(abs(x) < real(x, 0.3), close, plus_ - minus) * inverse
        put_cosine(state, j, u, t * (-rate * scale * (plus_ + minus) * n * inverse))


@_compiled
def exponential_layer(
    b: float, left: Array, p: int, right: Array, o: int, state: Array, start: int
) -> None:
    """Apply a exp(b x). Number: sqrt q."""
    wide()
    n_ = fetch(left, p)
    _one, half, rate = real(n_, 1), real(n_, 0.5), real(n_, -b * b)
    for j in range(start, WIDTH):
        n, gap = n_ * fetch(right, o + j), n_ - fetch(right, o + j)
        u = exponential(rate * (n * load(state, j) + half * gap * gap))
        put_cosine(state, j, u, load(state, 2 * WIDTH + j) * (-rate * n * u))


@_compiled
def gaussian_layer(left: Array, p: int, right: Array, o: int, state: Array, start: int) -> None:
    """Numbers: h = sqrt(2|b|q / (1+2|b|q)), sqrt(1 - h^2) |a| / sqrt(variance), 1 - h^2."""
    wide()
    h_, scale_ = fetch(left, p), fetch(left, p + ROWS)
    own, one = fetch(left, p + 2 * ROWS), real(h_, 1)
    for j in range(start, WIDTH):
        h = h_ * fetch(right, o + j)
        w, other = load(state, j), fetch(right, o + 2 * WIDTH + j)
        z, rest = (one - w) * h, complement(own, other, h, w, load(state, WIDTH + j))
        u = scale_ * fetch(right, o + WIDTH + j) / math.sqrt(rest)
        put_cosine(state, j, u, load(state, 2 * WIDTH + j) * (u * h * z / rest))


@_compiled
def series_layer(
    terms: int, left: Array, p: int, right: Array, o: int, state: Array, start: int
) -> None:
    """Numbers: normalised Hermite coefficients, u' = sum_j a_j b_j u^j.

    The loop over terms is the outer one, so that the inner one vectorises: value and slope are
    collected in the lines of co and t, u stays in that of w, and a fourth line keeps the old t.
    """
    wide()
    one, zero = real(load(state, 0), 1), real(load(state, 0), 0)
    for j in range(start, WIDTH):
        store(state, KEPT + j, load(state, 2 * WIDTH + j))
        put(state, j, one - load(state, j), zero, zero)
    for k in range(terms - 1, -1, -1):
        a = fetch(left, p + k * ROWS)
        for j in range(start, WIDTH):
            u, value = load(state, j), load(state, WIDTH + j)
            store(state, 2 * WIDTH + j, load(state, 2 * WIDTH + j) * u + value)
            store(state, WIDTH + j, value * u + a * fetch(right, o + k * WIDTH + j))
    for j in range(start, WIDTH):
        value, t = load(state, WIDTH + j), load(state, KEPT + j) * load(state, 2 * WIDTH + j)
        put_cosine(state, j, value, t)


@_compiled
def affine(
    w: float,
    e: float,
    x: float,
    y: float,
    left: Array,
    p: int,
    right: Array,
    o: int,
    state: Array,
    start: int,
) -> None:
    """(c, t) <- (w c + e, w t + x c + y).

    Numbers, if e or y is not 0: sqrt(w q / q'), 1/sqrt(q'), sin(a/2), cos(a/2).
    """
    wide()
    like = load(state, 0)
    x_, y_, one = real(like, x / w), real(like, y), real(like, 1)
    two = one + one
    if e == 0 and y == 0:
        if x != 0:
            for j in range(start, WIDTH):
                t = load(state, 2 * WIDTH + j) + x_ * (one - load(state, j))
                store(state, 2 * WIDTH + j, t)
        return
    share_, inverse_ = fetch(left, p), fetch(left, p + ROWS)
    sine, cosine = fetch(left, p + 2 * ROWS), fetch(left, p + 3 * ROWS)
    keeps_co = e == 0
    for j in range(start, WIDTH):
        before, share = load(state, j), share_ * fetch(right, o + j)
        gap = sine * fetch(right, o + 3 * WIDTH + j) - cosine * fetch(right, o + 2 * WIDTH + j)
        t = share * (load(state, 2 * WIDTH + j) + x_ * (one - before))
        t += y_ * (inverse_ * fetch(right, o + WIDTH + j))
        defect = share * before + two * gap * gap
        put(state, j, defect, select(keeps_co, load(state, WIDTH + j), two - defect), t)


@_compiled
def add_slot(
    slot: int, left: Array, p: int, right: Array, o: int, state: Array, start: int
) -> None:
    """(c, t) <- (c, t) + slot; numbers: sqrt(q / q'), sqrt(q_slot / q'), sin(a/2), cos(a/2)."""
    wide()
    at = (1 + slot) * STATE
    g_, h_ = fetch(left, p), fetch(left, p + ROWS)
    sine, cosine = fetch(left, p + 2 * ROWS), fetch(left, p + 3 * ROWS)
    two = real(g_, 2)
    for j in range(start, WIDTH):
        g, h = g_ * fetch(right, o + j), h_ * fetch(right, o + WIDTH + j)
        gap = sine * fetch(right, o + 3 * WIDTH + j) - cosine * fetch(right, o + 2 * WIDTH + j)
        defect = g * load(state, j) + h * load(state, at + j) + two * gap * gap
        t = g * load(state, 2 * WIDTH + j) + h * load(state, at + 2 * WIDTH + j)
        put(state, j, defect, two - defect, t)


@_compiled
def activate(
    layers: Array, layer: int, left: Array, p: int, right: Array, o: int, state: Array, start: int
) -> int:
    """Apply the activation; returns how many numbers it has."""
    kind, a, b, c = int(layers[layer, 0]), layers[layer, 3], layers[layer, 4], layers[layer, 5]
    if kind == 1:
        relu_layer(a, b, state, start)
    elif kind == 2:
        step_layer(a, b, state, start)
    elif kind == 3:
        erf_layer(a, c, left, p, right, o, state, start)
        return 3
    elif kind == 4:
        gelu_layer(left, p, right, o, state, start)
        return 5
    elif kind == 5:
        sine_layer(a, b, c, left, p, right, o, state, start)
        return 2
    elif kind == 6:
        exponential_layer(b, left, p, right, o, state, start)
        return 1
    elif kind == 7:
        gaussian_layer(left, p, right, o, state, start)
        return 3
    elif kind == 8:
        terms = int(layers[layer, 11])
        series_layer(terms, left, p, right, o, state, start)
        return terms
    return 0


@_compiled
def evaluate_layers(
    layers: Array, left: Array, r: int, right: Array, state: Array, start: int
) -> int:
    """Apply all layers to a row of pairs; returns the position of the last number."""
    k = 0
    for layer in range(len(layers)):
        save, add = int(layers[layer, 1]), int(layers[layer, 2])
        w, e, x, y = layers[layer, 6], layers[layer, 7], layers[layer, 8], layers[layer, 9]
        if save >= 0:
            for j in range(STATE):
                store(state, (1 + save) * STATE + j, load(state, j))
        k += activate(layers, layer, left, k * ROWS + r, right, k * WIDTH, state, start)
        affine(w, e, x, y, left, k * ROWS + r, right, k * WIDTH, state, start)
        if e != 0 or y != 0:
            k += 4
        if add >= 0:
            add_slot(add, left, k * ROWS + r, right, k * WIDTH, state, start)
            k += 4
    return k


# ---- driver -------------------------------------------------------------------------------------


def map_row(problem: Any, plan: Any, s: Any, row: Any, out: Any, second: Any) -> None:
    """Evaluate the map on a row of a tile: one of the three functions below, by kind of plan."""
    raise NotImplementedError


@overload(map_row, inline="always")
def _map_row(problem: Any, plan: Any, s: Any, row: Any, out: Any, second: Any) -> Any:
    kinds = {ProfilePlan: map_profile, RadialPlan: map_radial, LayersPlan: map_layers}
    return kinds[plan.instance_class]


def map_profile(problem: Any, plan: Any, s: Any, row: Any, out: Any, second: Any) -> None:
    """One or two profiles."""
    angles(problem, s, row)
    factor = problem.x.factors[row.i]
    profile_row(
        plan.table,
        plan.degree,
        plan.shift,
        plan.pieces,
        plan.numbers,
        s.lines,
        factor,
        s.factors,
        out.values,
        out.first + row.i * out.stride + row.j0,
        row.first,
        row.width,
    )
    if second.wanted:
        profile_row(
            plan.table_second,
            plan.degree_second,
            plan.shift_second,
            plan.pieces_second,
            plan.numbers_second,
            s.lines,
            factor,
            s.factors,
            second.values,
            second.first + row.i * second.stride + row.j0,
            row.first,
            row.width,
        )


def map_radial(problem: Any, plan: Any, s: Any, row: Any, out: Any, second: Any) -> None:
    """Laplace and its relatives."""
    x, y = problem.x, problem.y
    if plan.euclidean:
        norm, at = x.norms[row.i], row.r * WIDTH
        if squared_distances(s.products, at, norm, s.factors, problem.refine_front, s.lines):
            refine_distances(
                x.data,
                x.first + row.i * x.stride,
                norm,
                y.data,
                y.first + row.j0 * y.stride,
                y.stride,
                problem.dimension,
                row.first,
                row.width,
                s.lines,
            )
    else:
        angles(problem, s, row)
        chords(s.lines)
    radial_row(
        plan.numbers,
        plan.power,
        s.lines,
        x.factors[row.i],
        s.factors,
        out.values,
        out.first + row.i * out.stride + row.j0,
        row.first,
        row.width,
    )


def map_layers(problem: Any, plan: Any, s: Any, row: Any, out: Any, second: Any) -> None:
    """NTK, NNGP or both from the recursion over layers."""
    angles(problem, s, row)
    start = row.first // PANEL * PANEL
    equal = to_state(s.lines, start)
    k = evaluate_layers(plan.layers, s.rows, row.r, s.columns, s.lines, start)
    to = out.first + row.i * out.stride + row.j0
    to_second = second.first + row.i * second.stride + row.j0
    final_row(
        s.lines,
        s.columns,
        k * WIDTH,
        s.rows[k * ROWS + row.r],
        plan.scales,
        out.values,
        to,
        out.wanted,
        second.values,
        to_second,
        second.wanted,
        row.first,
        row.width,
    )
    if equal and len(problem.x.diagonal):
        norm = problem.x.norms[row.i]
        ntk, nngp = problem.x.diagonal[row.i, 0], problem.x.diagonal[row.i, 1]
        if out.wanted:
            diagonal_row(s.lines, norm, s.factors, ntk, out.values, to, row.first, row.width)
        if second.wanted:
            diagonal_row(
                s.lines, norm, s.factors, nngp, second.values, to_second, row.first, row.width
            )


@_compiled
def to_state(state: Array, start: int) -> int:
    """Replace u and v = (1-|u|)/2 by w = 1-u, co = 1+u and t = 0; returns how many w are 0."""
    wide()
    zero, one, tiny = (
        real(load(state, 0), 0),
        real(load(state, 0), 1),
        constant("tiny", load(state, 0)),
    )
    equal = 0
    for j in range(start, WIDTH):
        back, v = load(state, j) < zero, load(state, WIDTH + j)
        small = v + v
        large = one + one - small
        w = select(back, large, small)
        put(state, j, w, select(back, small, large), zero)
        is_equal = w < tiny
        store(state, EQUAL + j, select(is_equal, one, zero))
        equal += select(is_equal, 1, 0)
    return equal


@_compiled
def diagonal_row(
    state: Array, norm: Any, norms: Array, value: Any, out: Array, to: int, first: int, width: int
) -> None:
    """Write the value at equal inputs to the pairs that are: no rounding there."""
    for j in range(first, width):
        if load(state, EQUAL + j) > real(norm, 0) and norm == fetch(norms, WIDTH + j):
            store(out, to + j, value)


@_compiled
def final_row(
    state: Array,
    right: Array,
    last: int,
    root: Any,
    scales: Array,
    out: Array,
    to: int,
    wanted: bool,
    second: Array,
    to_second: int,
    wanted_second: bool,
    first: int,
    width: int,
) -> None:
    """Write t and u, times the roots of the final variances."""
    wide()
    one = real(root, 1)
    scale, scale_second = root * fetch(scales, 0), root * fetch(scales, 1)
    if wanted:
        for j in range(first, width):
            value = load(state, 2 * WIDTH + j)
            store(out, to + j, value * (scale * fetch(right, last + j)))
    if wanted_second:
        for j in range(first, width):
            value = one - load(state, j)
            store(second, to_second + j, value * (scale_second * fetch(right, last + j)))


@_compiled
def mirror(out: Array, first: int, stride: int, i0: int, i1: int, j0: int, j1: int) -> None:
    """Copy the strict upper part of a finished tile to its mirror image."""
    for block in range(j0, j1, 16):
        for i in range(i0, i1):
            for j in range(max(block, i + 1), min(block + 16, j1)):
                store(out, first + j * stride + i, load(out, first + i * stride + j))


def prepare(plan: Any, side: Any, first: Any, count: Any, out: Any, stride: Any) -> None:
    """Write what the layers need of the data rows from `first` on, with this stride."""
    raise NotImplementedError


@overload(prepare, inline="always")
def _prepare(plan: Any, side: Any, first: Any, count: Any, out: Any, stride: Any) -> Any:
    return prepare_stats if plan.instance_class is LayersPlan else prepare_nothing


def prepare_stats(plan: Any, side: Any, first: Any, count: Any, out: Any, stride: Any) -> None:
    """Numbers of data rows for the layer map."""
    for i in range(min(count, side.height - first)):
        size = max(float(side.norms[first + i]), plan.least)
        row_stats(plan.layers, size, side.series, first + i, out, i, stride)


def prepare_nothing(plan: Any, side: Any, first: Any, count: Any, out: Any, stride: Any) -> None:
    """Other maps need nothing."""


@_inlined
def pack_columns(problem: Problem, plan: Any, s: Scratch, j0: int) -> None:
    """Prepare a block of columns."""
    y = problem.y
    for j in range(WIDTH):
        inside = j0 + j < y.height
        s.factors[j] = y.factors[j0 + j] if inside else 0
        s.factors[WIDTH + j] = y.norms[j0 + j] if inside else 0
        s.factors[2 * WIDTH + j] = (y.inverse[j0 + j] if problem.scaled else 1) if inside else 0
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


@_inlined
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


@_cached
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


@_compiled
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


@_compiled
def pack_right(right: Array, j0: int, width: int, packed: Array) -> None:
    """Pack the rows from j0 on of the matrix to multiply with: panels [width][PANEL]."""
    for c in range(0, right.shape[1], PANEL):
        for j in range(width):
            for k in range(PANEL):
                inside = c + k < right.shape[1]
                packed[c * WIDTH + j * PANEL + k] = right[j0 + j, c + k] if inside else 0


@_cached
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
            place = Target(not problem.use_second, s.values, -i0 * WIDTH - j0, WIDTH)
            other = Target(problem.use_second, s.values, -i0 * WIDTH - j0, WIDTH)
            compute_tile(problem, plan, s, i0, rows, j0, place, other)
            add_product(
                s.values,
                rows,
                width,
                s.packed_right,
                columns,
                s.products,
                s.sums,
                (i0 - begin) * columns,
            )
    for i in range(begin, end):
        for c in range(columns):
            at = product.first + i * product.stride + c
            product.values[at] = s.sums[(i - begin) * columns + c]
    return packed
