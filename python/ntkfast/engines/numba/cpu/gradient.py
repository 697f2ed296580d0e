"""Gradients by rows: two numbers per pair while a tile is in cache; mirrors gradient.hpp."""

from __future__ import annotations

from typing import Any, NamedTuple

from ntkfast.engines.codes import RATES
from ntkfast.engines.numba.compiling import cached, compiled, inlined
from ntkfast.engines.numba.cpu.angles import angles
from ntkfast.engines.numba.cpu.map_row import prepare
from ntkfast.engines.numba.cpu.product import multiply, pack
from ntkfast.engines.numba.cpu.slopes import (
    INVERSE,
    RADIAL,
    TURN,
    add_moves,
    add_tangents,
    prepare_rates,
    slope_row,
    walk_layers,
    weigh_tangents,
    write_tangents,
)
from ntkfast.engines.numba.cpu.tile import add_product, pack_columns
from ntkfast.engines.numba.formulas.simd import fetch, load, plus, real, store, wide
from ntkfast.engines.numba.problem import (
    PANEL,
    ROWS,
    WIDTH,
    Array,
    Matrix,
    Problem,
    Row,
    Scratch,
    Side,
)


class Gradient(NamedTuple):
    """What `vjp` is asked for; see problems.hpp."""

    problem: Problem
    lively: Side  # x with tiny norms instead of zeros, for layers
    layers: int
    degree: Any  # of homogeneity
    outer: Array  # |x|^(degree - 1)
    directions: int  # of derivatives of layers
    steps: Array  # of layers along them, or none: x moves
    weights: Matrix  # V, unless there are factors, is the sum of this if it is `straight`
    turned: Matrix  # and of the transpose of this if it is `both`
    straight: bool
    both: bool
    left: Matrix
    right: Matrix
    rank: int  # of left and right; 0: none
    ones: Array  # as many as a tile has columns
    moves: Matrix  # dx, of `jvp`
    out: Matrix
    sums: Array  # of rows and directions, or none


class GradientScratch(NamedTuple):
    """Buffers of one thread, beside those of products."""

    weights: Array  # [ROWS][WIDTH]
    right: Array  # panels [rank][PANEL]
    own: Array  # [chunk]: what a row itself is multiplied by
    rates: Array  # of layers: [ROWS][count_rates]
    shares: Array  # of layers: [layers][WIDTH], the first rates of the columns
    one: Array  # [WIDTH][RATES layers]
    bends: Array  # lines of an activation
    tangents: Array  # lines of directions and their slots
    kept: Array  # two lines


@compiled
def pack_factor(
    y: Array, first: int, stride: int, width: int, factors: Array, dimension: int, packed: Array
) -> None:
    """Pack the columns, times their factors, as the right side of a product."""
    for c in range(0, dimension, PANEL):
        for j in range(width):
            factor = fetch(factors, j)
            for k in range(PANEL):
                to = c * WIDTH + j * PANEL + k
                if c + k < dimension:
                    store(packed, to, fetch(y, first + j * stride + c + k) * factor)
                else:
                    packed[to] = 0


@compiled
def load_weights(
    V: Matrix,
    straight: bool,
    T: Matrix,
    turned: bool,
    i0: int,
    rows: int,
    j0: int,
    width: int,
    t: Array,
) -> None:
    """Copy the weights of a tile: V, the transpose of T, or their sum."""
    for r in range(rows):
        at = V.first + (i0 + r) * V.stride + j0
        for j in range(width):
            t[r * WIDTH + j] = V.values[at + j] if straight else 0
    if turned:
        for j in range(width):
            at = T.first + (j0 + j) * T.stride + i0
            for r in range(rows):
                t[r * WIDTH + j] += T.values[at + r]


@inlined
def weigh_tile(
    gradient: Gradient, extra: GradientScratch, i0: int, rows: int, j0: int, width: int
) -> None:
    """Write V of a tile."""
    if gradient.rank:
        left = gradient.left
        at = left.first + i0 * left.stride
        multiply(
            left.values, at, left.stride, rows, extra.right, width, gradient.rank, extra.weights
        )
    else:
        load_weights(
            gradient.weights,
            gradient.straight,
            gradient.turned,
            gradient.both,
            i0,
            rows,
            j0,
            width,
            extra.weights,
        )


@inlined
def pack_weights(gradient: Gradient, extra: GradientScratch, j0: int, width: int) -> None:
    """Pack the right factor of V, if there is one."""
    if gradient.rank:
        right = gradient.right
        at = right.first + j0 * right.stride
        pack(right.values, at, right.stride, width, gradient.ones, gradient.rank, extra.right)


@compiled
def weigh(weights: Array, at: int, width: int, u: Array, values: Array) -> Any:
    """Write the weights of the columns in the product, and return that of the row itself."""
    wide()
    total = real(load(u, 0), 0)
    for j in range(width):
        v = fetch(weights, at + j)
        c = v * load(u, TURN + j) * load(u, INVERSE + j)
        store(values, at + j, c)
        total = plus(total, v * load(u, RADIAL + j) - c * load(u, j))
    return total


@compiled
def count_close(u: Array, width: int) -> int:
    """Return how many pairs are close."""
    zero, count = real(load(u, 0), 0), 0
    for j in range(width):
        count += 0 if load(u, INVERSE + j) > zero else 1
    return count


@compiled
def copy_shares(rates: Array, layers: int, width: int, shares: Array) -> None:
    """Copy the first rate of each layer and column."""
    for layer in range(layers):
        for j in range(width):
            shares[layer * WIDTH + j] = rates[(j * layers + layer) * RATES]


@inlined
def pack_shares(gradient: Gradient, plan: Any, extra: GradientScratch, j0: int, width: int) -> None:
    """Write what tangents ask of columns, which do not move."""
    prepare_rates(plan, gradient.steps, 0, gradient.problem.y, j0, width, extra.one)
    copy_shares(extra.one, gradient.layers, width, extra.shares)


@inlined
def prepare_rows(
    gradient: Gradient, plan: Any, s: Scratch, extra: GradientScratch, i0: int, rows: int
) -> None:
    """Write what pairs ask of the rows of a tile."""
    prepare(plan, gradient.lively, i0, rows, s.rows, ROWS)
    prepare_rates(plan, gradient.steps, gradient.directions, gradient.lively, i0, rows, extra.rates)


@compiled
def move(moved: Array, at: int, own: Any, u: Array, width: int, out: Array, to: int) -> None:
    """Write derivatives along dx, of close pairs the part along x alone."""
    wide()
    for j in range(width):
        apart = fetch(moved, at + j) - load(u, j) * own
        turned = load(u, TURN + j) * load(u, INVERSE + j) * apart
        store(out, to + j, load(u, RADIAL + j) * own + turned)


@cached
def move_task(gradient: Gradient, plan: Any, s: Scratch, extra: GradientScratch, task: int) -> None:
    """Do a chunk of rows against all columns: derivatives along dx."""
    problem, x, y = gradient.problem, gradient.problem.x, gradient.problem.y
    dimension, out, moves = problem.dimension, gradient.out, gradient.moves
    begin = task * problem.chunk
    end = min(begin + problem.chunk, x.height)
    data, columns = Matrix(x.data, x.first, x.stride), Matrix(y.data, y.first, y.stride)
    for j0 in range(0, y.height, WIDTH):
        width = min(WIDTH, y.height - j0)
        pack_columns(problem, plan, s, j0)
        pack_shares(gradient, plan, extra, j0, width)
        for i0 in range(begin, end, ROWS):
            if problem.cancelled[0]:
                return
            rows = min(ROWS, end - i0)
            at = x.first + i0 * x.stride
            multiply(x.data, at, x.stride, rows, s.packed, width, dimension, s.products)
            at = moves.first + i0 * moves.stride
            multiply(
                moves.values, at, moves.stride, rows, s.packed, width, dimension, extra.weights
            )
            prepare_rows(gradient, plan, s, extra, i0, rows)
            for r in range(rows):
                i = i0 + r
                row = Row(i, r, j0, 0, width)
                slope_row(gradient, plan, s, extra, row)
                inverse, total = x.inverse[i] if problem.scaled else x.inverse[i] * 0 + 1, 0.0
                for k in range(dimension):
                    step = moves.values[moves.first + i * moves.stride + k]
                    total += x.data[x.first + i * x.stride + k] * inverse * step
                own = real(inverse, total)
                to = out.first + i * out.stride + j0
                move(extra.weights, r * WIDTH, own, s.lines, width, out.values, to)
                if count_close(s.lines, width):
                    add_moves(
                        data,
                        columns,
                        moves,
                        dimension,
                        x.norms[i],
                        s.factors,
                        problem.scaled,
                        row,
                        s.lines,
                        out.values,
                        to,
                    )


@cached
def gradient_task(
    gradient: Gradient, plan: Any, s: Scratch, extra: GradientScratch, task: int
) -> None:
    """Do a chunk of rows against all columns."""
    problem, x, y = gradient.problem, gradient.problem.x, gradient.problem.y
    dimension, out = problem.dimension, gradient.out
    begin = task * problem.chunk
    end = min(begin + problem.chunk, x.height)
    s.sums[:] = 0
    extra.own[:] = 0
    data, columns = Matrix(x.data, x.first, x.stride), Matrix(y.data, y.first, y.stride)
    for j0 in range(0, y.height, WIDTH):
        width = min(WIDTH, y.height - j0)
        pack_columns(problem, plan, s, j0)
        first = y.first + j0 * y.stride
        factors = s.factors[2 * WIDTH :]
        pack_shares(gradient, plan, extra, j0, width)
        pack_factor(y.data, first, y.stride, width, factors, dimension, s.packed_right)
        pack_weights(gradient, extra, j0, width)
        for i0 in range(begin, end, ROWS):
            if problem.cancelled[0]:
                return
            rows = min(ROWS, end - i0)
            weigh_tile(gradient, extra, i0, rows, j0, width)
            at = x.first + i0 * x.stride
            multiply(x.data, at, x.stride, rows, s.packed, width, dimension, s.products)
            prepare_rows(gradient, plan, s, extra, i0, rows)
            for r in range(rows):
                row = Row(i0 + r, r, j0, 0, width)
                slope_row(gradient, plan, s, extra, row)
                own = weigh(extra.weights, r * WIDTH, width, s.lines, s.values)
                extra.own[i0 - begin + r] += own
                if count_close(s.lines, width):
                    add_tangents(
                        data,
                        columns,
                        dimension,
                        x.norms[i0 + r],
                        s.factors,
                        problem.scaled,
                        row,
                        extra.weights,
                        s.lines,
                        s.sums,
                        (i0 - begin + r) * dimension,
                    )
            to = (i0 - begin) * dimension
            add_product(s.values, rows, width, s.packed_right, dimension, s.products, s.sums, to)
    for i in range(begin, end):
        factor = extra.own[i - begin]
        if problem.scaled:
            factor *= x.inverse[i]
        for k in range(dimension):
            total = (
                s.sums[(i - begin) * dimension + k] + factor * x.data[x.first + i * x.stride + k]
            )
            out.values[out.first + i * out.stride + k] = total


@cached
def parameter_task(
    gradient: Gradient, plan: Any, s: Scratch, extra: GradientScratch, task: int
) -> None:
    """Do a chunk of rows against all columns: derivatives along steps of layers."""
    problem, x, y = gradient.problem, gradient.problem.x, gradient.problem.y
    dimension, directions, out = problem.dimension, gradient.directions, gradient.out
    begin = task * problem.chunk
    end = min(begin + problem.chunk, x.height)
    weigh = len(gradient.sums) > 0
    for j0 in range(0, y.height, WIDTH):
        width = min(WIDTH, y.height - j0)
        pack_columns(problem, plan, s, j0)
        pack_shares(gradient, plan, extra, j0, width)
        pack_weights(gradient, extra, j0, width)
        for i0 in range(begin, end, ROWS):
            if problem.cancelled[0]:
                return
            rows = min(ROWS, end - i0)
            at = x.first + i0 * x.stride
            multiply(x.data, at, x.stride, rows, s.packed, width, dimension, s.products)
            prepare_rows(gradient, plan, s, extra, i0, rows)
            if weigh:
                weigh_tile(gradient, extra, i0, rows, j0, width)
            for r in range(rows):
                i = i0 + r
                row = Row(i, r, j0, 0, width)
                angles(problem, s, row)
                size, o = walk_layers(gradient, plan, s, extra, row)
                if weigh:
                    weigh_tangents(
                        size,
                        s.columns,
                        o,
                        extra.weights,
                        r * WIDTH,
                        width,
                        extra.tangents,
                        directions,
                        gradient.sums,
                        i * directions,
                    )
                else:
                    to = out.first + i * out.stride + j0
                    write_tangents(size, s.columns, o, width, extra.tangents, out.values, to)
