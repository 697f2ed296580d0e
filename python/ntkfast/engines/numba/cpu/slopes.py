"""Derivatives of a kernel by one of its inputs on a row of pairs; mirrors slopes.hpp.

The lines get: the cosine, (1 - abs(cosine)) / 2, `turn`, `radial`, and 1 / sin of the angle, or 0
of close pairs.
"""

from __future__ import annotations

import math
from typing import Any

from numba.extending import overload

from ntkfast.engines.codes import NEAR_TANGENT, RATES
from ntkfast.engines.numba.compiling import compiled
from ntkfast.engines.numba.cpu.angles import angles, apart
from ntkfast.engines.numba.formulas.exponential import constant, exponential, logarithm
from ntkfast.engines.numba.formulas.layer import to_state
from ntkfast.engines.numba.formulas.layer_slopes import evaluate_tangents, start_tangents
from ntkfast.engines.numba.formulas.pair_state import cosine
from ntkfast.engines.numba.formulas.profile import profile_row
from ntkfast.engines.numba.formulas.radial import (
    refine_distances,
    squared_distance,
    squared_distances,
)
from ntkfast.engines.numba.formulas.row_rates import row_rates
from ntkfast.engines.numba.formulas.simd import fetch, load, real, select, store, wide
from ntkfast.engines.numba.formulas.slot_slopes import NTK_T, NTK_X, U_X
from ntkfast.engines.numba.problem import (
    ROWS,
    WIDTH,
    Array,
    LayersPlan,
    Matrix,
    ProfilePlan,
    RadialPlan,
    Row,
)

TURN, RADIAL, INVERSE = 2 * WIDTH, 3 * WIDTH, 4 * WIDTH


def slope_row(gradient: Any, plan: Any, s: Any, extra: Any, row: Any) -> None:
    """Write the derivatives of a row of pairs: one of three functions, by kind of plan."""
    raise NotImplementedError


@overload(slope_row, inline="always")
def _slope_row(gradient: Any, plan: Any, s: Any, extra: Any, row: Any) -> Any:
    kinds = {ProfilePlan: profile_slopes, RadialPlan: radial_slopes, LayersPlan: layer_slopes}
    return kinds[plan.instance_class]


def prepare_rates(plan: Any, side: Any, first: Any, count: Any, out: Any, at: Any) -> None:
    """Write the rates of data rows, one row after the other, where there are layers."""
    raise NotImplementedError


@overload(prepare_rates, inline="always")
def _prepare_rates(plan: Any, side: Any, first: Any, count: Any, out: Any, at: Any) -> Any:
    return layer_rates if plan.instance_class is LayersPlan else no_rates


def no_rates(plan: Any, side: Any, first: Any, count: Any, out: Any, at: Any) -> None:
    """Other maps need none."""


def layer_rates(plan: Any, side: Any, first: Any, count: Any, out: Any, at: Any) -> None:
    """Rates of the layer map."""
    size = RATES * len(plan.layers) + 1
    for i in range(count):
        row = first + i
        norm = float(side.norms[row])
        row_rates(plan.layers, norm, side.series, row, out, at + i * size)


@compiled
def copy_line(u: Array, at: int, other: Array, to: int) -> None:
    """Copy a line to another."""
    wide()
    for j in range(WIDTH):
        store(other, to + j, load(u, at + j))


@compiled
def inverse_sines(u: Array) -> None:
    """Write 1 / sin of the angles, 0 of those near 0 and pi."""
    wide()
    one, two, zero = real(load(u, 0), 1), real(load(u, 0), 2), real(load(u, 0), 0)
    near = real(one, NEAR_TANGENT)
    for j in range(WIDTH):
        v = load(u, WIDTH + j)
        close = v < near
        sine = two * math.sqrt(select(close, near, v * (one - v)))
        store(u, INVERSE + j, select(close, zero, one / sine))


@compiled
def scale_slopes(u: Array, outer: Any, degree: Any, turned: Any, factors: Array) -> None:
    """Multiply the lines of k and dk/dt by what makes them radial and turn."""
    wide()
    for j in range(WIDTH):
        factor = outer * fetch(factors, j)
        store(u, RADIAL + j, load(u, RADIAL + j) * degree * factor)
        store(u, TURN + j, -load(u, TURN + j) * turned * factor)


def profile_slopes(gradient: Any, plan: Any, s: Any, extra: Any, row: Any) -> None:
    """Take a profile and its derivative."""
    angles(gradient.problem, s, row)
    profile_row(plan.first, s.lines, 0, WIDTH)
    copy_line(s.lines, TURN, s.lines, RADIAL)
    profile_row(plan.second, s.lines, 0, WIDTH)
    inverse_sines(s.lines)
    degree = gradient.degree * plan.first.numbers[4]
    scale_slopes(s.lines, gradient.outer[row.i], degree, plan.second.numbers[4], s.factors)


@compiled
def falling(numbers: Array, power: int, r2: Any) -> Any:
    """exp(-c r^gamma) and minus its derivative by r, which counts as 0 at r = 0."""
    c, gamma = fetch(numbers, 0), fetch(numbers, 1)
    zero, half, one, tiny = real(c, 0), real(c, 0.5), real(c, 1), constant("tiny", c)
    root = math.sqrt(r2)
    if power == 2:
        value = exponential(-c * r2)
        return value, (c + c) * root * value
    if power == 1:
        value = exponential(-c * root)
        return value, select(r2 > zero, c * value, zero)
    raised = exponential(half * (gamma - one) * logarithm(select(r2 > tiny, r2, tiny)))
    value = exponential(select(r2 > zero, -c * raised * root, zero))
    return value, select(r2 > zero, c * gamma * raised * value, zero)


@compiled
def sphere_slopes(
    numbers: Array, power: int, degree: Any, outer: Any, factors: Array, u: Array
) -> None:
    """Exponentials of the distance of directions, r = 2 sin(t/2)."""
    wide()
    zero, one, four = real(outer, 0), real(outer, 1), real(outer, 4)
    for j in range(WIDTH):
        v = load(u, WIDTH + j)
        back = load(u, j) < zero
        half, rest = select(back, one - v, v), select(back, v, one - v)
        value, loss = falling(numbers, power, four * half)
        factor = outer * fetch(factors, j)
        store(u, RADIAL + j, value * degree * factor)
        store(u, TURN + j, loss * math.sqrt(rest) * factor)


@compiled
def euclidean_slopes(numbers: Array, power: int, norm: Any, norms: Array, u: Array) -> None:
    """Exponentials of the distance, whose squares are in the second line."""
    wide()
    zero, one, near = real(norm, 0), real(norm, 1), real(norm, NEAR_TANGENT)
    for j in range(WIDTH):
        r2, q = load(u, WIDTH + j), fetch(norms, WIDTH + j)
        _, loss = falling(numbers, power, r2)
        far = r2 > (norm * norm + q * q) * near
        store(u, j, one)
        store(u, TURN + j, loss)
        store(u, RADIAL + j, zero)
        store(u, INVERSE + j, select(far, one / math.sqrt(select(far, r2, one)), zero))


def radial_slopes(gradient: Any, plan: Any, s: Any, extra: Any, row: Any) -> None:
    """Laplace and its relatives."""
    problem, x, y = gradient.problem, gradient.problem.x, gradient.problem.y
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
        euclidean_slopes(plan.numbers, plan.power, norm, s.factors, s.lines)
    else:
        angles(problem, s, row)
        inverse_sines(s.lines)
        outer = gradient.outer[row.i]
        sphere_slopes(plan.numbers, plan.power, gradient.degree, outer, s.factors, s.lines)


@compiled
def finish_layers(
    kept: Array, size: Any, columns: Array, o: int, nngp: bool, rate: Any, d: Array, u: Array
) -> None:
    """Write the lines of the results, from the state and its tangents."""
    wide()
    for j in range(WIDTH):
        root = size * fetch(columns, o + j)
        if nngp:
            along = load(d, U_X + j) + rate * cosine(load(u, j), load(u, WIDTH + j))
            turned = load(d, j)
        else:
            along, turned = load(d, NTK_X + j), load(d, NTK_T + j)
        store(u, j, load(kept, j))
        store(u, RADIAL + j, along * root)
        store(u, TURN + j, -turned * root)
        store(u, INVERSE + j, load(kept, WIDTH + j))


def layer_slopes(gradient: Any, plan: Any, s: Any, extra: Any, row: Any) -> None:
    """Layers with tangents beside them."""
    angles(gradient.problem, s, row)
    inverse_sines(s.lines)
    copy_line(s.lines, 0, extra.kept, 0)
    copy_line(s.lines, INVERSE, extra.kept, WIDTH)
    start_tangents(s.lines, extra.tangents)
    to_state(s.lines, 0)
    count, nngp = len(plan.layers), gradient.problem.use_second
    r, right = row.r * (RATES * count + 1), s.columns
    last = evaluate_tangents(
        plan.layers,
        s.rows,
        row.r,
        right,
        extra.rates,
        r,
        extra.shares,
        s.lines,
        extra.tangents,
    )
    k = last if nngp else last + 1
    size = s.rows[k * ROWS + row.r] * plan.scales[1 if nngp else 0] * gradient.outer[row.i]
    rate = extra.rates[r + RATES * count]
    finish_layers(extra.kept, size, right, k * WIDTH, nngp, rate, extra.tangents, s.lines)


@compiled
def tangent(
    x: Matrix,
    y: Matrix,
    dimension: int,
    norm: Any,
    other: Any,
    scaled: bool,
    i: int,
    j: int,
    back: bool,
) -> Any:
    """Inverse, ratio, along and scale of scale ((x - ratio y) inverse - along x inverse).

    That is the unit tangent of two close rows; the scale is 0 where there is none.
    """
    at, start = x.first + i * x.stride, y.first + j * y.stride
    inverse, ratio, along, scale = real(norm, 1), real(norm, 1), real(norm, 0), real(norm, 0)
    if scaled:
        if norm == scale or other == scale:
            return inverse, ratio, along, scale
        inverse, ratio = inverse / norm, norm / other
        ratio = select(back, -ratio, ratio)
        sine2, along = apart(x.values, at, norm, y.values, start, ratio, dimension)
    else:
        sine2 = squared_distance(x.values, at, norm, y.values, start, dimension)
    if sine2 > scale:
        scale = real(norm, 1) / math.sqrt(sine2)
        scale = select(scaled and back, scale, -scale)
    return inverse, ratio, along, scale


@compiled
def add_tangents(
    x: Matrix,
    y: Matrix,
    dimension: int,
    norm: Any,
    norms: Array,
    scaled: bool,
    row: Row,
    weights: Array,
    u: Array,
    sums: Array,
    to: int,
) -> None:
    """Add the unit tangents of close pairs, times weight and turn, from differences of rows."""
    zero, at = real(norm, 0), x.first + row.i * x.stride
    for j in range(row.width):
        if load(u, INVERSE + j) > zero:
            continue
        other, back = fetch(norms, WIDTH + j), load(u, j) < zero
        inverse, ratio, along, scale = tangent(
            x, y, dimension, norm, other, scaled, row.i, row.j0 + j, back
        )
        c = load(weights, row.r * WIDTH + j) * load(u, TURN + j)
        start = y.first + (row.j0 + j) * y.stride
        for k in range(dimension):
            a = fetch(x.values, at + k)
            difference = (a - ratio * fetch(y.values, start + k)) * inverse
            sums[to + k] += c * (scale * (difference - along * (a * inverse)))


@compiled
def add_moves(
    x: Matrix,
    y: Matrix,
    moves: Matrix,
    dimension: int,
    norm: Any,
    norms: Array,
    scaled: bool,
    row: Row,
    u: Array,
    out: Array,
    to: int,
) -> None:
    """Add what close pairs change across x, as x moves."""
    zero, at = real(norm, 0), x.first + row.i * x.stride
    step = moves.first + row.i * moves.stride
    for j in range(row.width):
        if load(u, INVERSE + j) > zero:
            continue
        other, back = fetch(norms, WIDTH + j), load(u, j) < zero
        inverse, ratio, along, scale = tangent(
            x, y, dimension, norm, other, scaled, row.i, row.j0 + j, back
        )
        start, total = y.first + (row.j0 + j) * y.stride, zero
        for k in range(dimension):
            a = fetch(x.values, at + k)
            difference = (a - ratio * fetch(y.values, start + k)) * inverse
            total += scale * (difference - along * (a * inverse)) * moves.values[step + k]
        out[to + j] += load(u, TURN + j) * total
