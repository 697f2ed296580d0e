"""Kernels of recurrent networks on a strip of pairs; mirrors sequence.hpp.

The formulas are those of the header. Rows pass one by one, and inputs of many channels are compared
by differences throughout, where the header takes products and repairs close pairs.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ntkfast.engines.numba.compiling import cached, compiled
from ntkfast.engines.numba.formulas.activation import activate
from ntkfast.engines.numba.formulas.pair_state import put
from ntkfast.engines.numba.formulas.simd import fetch, load, real, select, store, wide
from ntkfast.engines.numba.problem import KEPT, ROWS, WIDTH, Array

GAP, SUM = KEPT, KEPT + WIDTH  # lines that activations overwrite


class SequencesSide(NamedTuple):
    """Sequences by length: numbers of both directions, first step, length, place in the result."""

    numbers: Array  # flat, [direction][step][fields]
    size: int  # numbers of a direction
    first: Array
    length: Array
    place: Array


class SequencesProblem(NamedTuple):
    """What `sequences` is asked for."""

    x: SequencesSide
    y: SequencesSide
    activation: Array  # (1, 12)
    asked: int  # numbers of the activation
    layers: int
    fixed: int
    channels: int
    fields: int
    directions: int
    every: bool
    nngp: bool
    symmetric: bool
    diagonal: Array
    out: Array  # flat, entry (i, j) at first + i row + j column
    first: int
    row: int
    column: int
    cancelled: Array


class SequencesScratch(NamedTuple):
    """Buffers of one thread."""

    left: Array  # [direction][step][fields][ROWS]
    right: Array  # [direction][step][fields][WIDTH]
    lengths: Array  # [WIDTH]
    state: Array
    lines: Array  # [layers][w, co and t][WIDTH]
    sums: Array  # [WIDTH]


@cached
def sequences_task(problem: SequencesProblem, s: SequencesScratch, task: int, packed: int) -> int:
    """Do a block of rows with a strip of columns; returns the column packed last."""
    p, x, y = problem, problem.x, problem.y
    blocks = (len(x.length) + ROWS - 1) // ROWS
    j0, i0 = task // blocks * WIDTH, task % blocks * ROWS
    j1, i1 = min(j0 + WIDTH, len(y.length)), min(i0 + ROWS, len(x.length))
    if p.symmetric and i0 >= j1:
        return packed
    longest, shortest, steps = y.length[j1 - 1], y.length[j0], x.length[i1 - 1]
    if packed != j0:
        for j in range(WIDTH):
            s.lengths[j] = y.length[j0 + j] if j0 + j < j1 else 0
        pack(y, j0, j1, longest, p.fields, p.directions, s.right, WIDTH)
    pack(x, i0, i1, steps, p.fields, p.directions, s.left, ROWS)
    for i in range(i0, i1):
        if p.cancelled[0]:
            break
        s.sums[:] = 0
        for d in range(p.directions):
            at = d * steps * p.fields * ROWS + i - i0
            to = d * longest * p.fields * WIDTH
            row_of_pairs(p, s, at, to, min(x.length[i], longest), shortest)
        for j in range(max(i, j0) if p.symmetric else j0, j1):
            a, b = x.place[i], y.place[j]
            value = p.diagonal[i] if p.symmetric and i == j else s.sums[j - j0]
            p.out[p.first + a * p.row + b * p.column] = value
            if p.symmetric:
                p.out[p.first + b * p.row + a * p.column] = value
    return j0


@compiled
def pack(
    side: Any, i0: int, i1: int, steps: int, fields: int, directions: int, out: Array, width: int
) -> None:
    """Bring the numbers of sequences side by side; steps before their start are 0."""
    for d in range(directions):
        to = d * steps * fields * width
        for k in range(steps * fields * width):
            out[to + k] = 0
        for i in range(i0, i1):
            at = d * side.size + side.first[i] * fields
            for k in range(side.length[i] * fields):
                out[to + k * width + i - i0] = side.numbers[at + k]


@compiled
def row_of_pairs(
    problem: SequencesProblem, s: SequencesScratch, p: int, o: int, steps: int, shortest: int
) -> None:
    """Run one sequence along all those of a strip."""
    left, right, state, lines, fields = s.left, s.right, s.state, s.lines, problem.fields
    zero = real(load(state, 0), 0)
    for k in range(problem.layers):
        for j in range(WIDTH):
            put(lines, 3 * k * WIDTH + j, zero + 1, zero + 1, zero)
    for step in range(steps - 1, -1, -1):
        a, b = p + step * fields * ROWS, o + step * fields * WIDTH
        for layer in range(problem.layers):
            below = 1 if layer else problem.channels
            gaps(left, a, right, b, layer, below, state)
            mix(left, a, right, b, layer, layer >= problem.fixed, lines, state)
            used = 2 + below
            a, b = a + used * ROWS, b + used * WIDTH
            activate(problem.activation, 0, left, a, right, b, state, 0)
            a, b = a + problem.asked * ROWS, b + problem.asked * WIDTH
            if problem.asked:
                scale_tangent(fetch(left, a), right, b, state)
                a, b = a + ROWS, b + WIDTH
            keep(state, lines, 3 * layer * WIDTH, s.lengths, step if step >= shortest else -1)
        if problem.every or step == 0:
            read_out(fetch(left, a), right, b, problem.nngp, state, s.sums)


@compiled
def gaps(left: Array, p: int, right: Array, o: int, layer: int, below: int, state: Array) -> None:
    """|e - e'|^2, and the same with the signs of bias and inputs turned, of the shares."""
    wide()
    a, g = fetch(left, p), fetch(left, p + ROWS)
    for j in range(WIDTH):
        gap = a - fetch(right, o + j)
        g_ = fetch(right, o + WIDTH + j)
        store(state, GAP + j, gap * gap + (g - g_) * (g - g_))
        store(state, SUM + j, gap * gap + (g + g_) * (g + g_))
    for c in range(2, 2 + below):
        b = fetch(left, p + c * ROWS)
        for j in range(WIDTH):
            b_ = fetch(right, o + c * WIDTH + j)
            other = select(layer == 0, b + b_, b - b_)
            store(state, GAP + j, load(state, GAP + j) + (b - b_) * (b - b_))
            store(state, SUM + j, load(state, SUM + j) + other * other)


@compiled
def mix(
    left: Array, p: int, right: Array, o: int, layer: int, trained: bool, lines: Array, state: Array
) -> None:
    """Write the mixed covariance of a layer to the state."""
    wide()
    at, under = 3 * layer * WIDTH, 3 * (layer - 1) * WIDTH
    a_, b_ = fetch(left, p), fetch(left, p + 2 * ROWS)
    half, zero, one, far = real(a_, 0.5), real(a_, 0), real(a_, 1), real(a_, 1.98)
    own = one if trained else zero
    for j in range(WIDTH):
        a = a_ * fetch(right, o + j)
        w = a * load(lines, at + j) + half * load(state, GAP + j)
        opposite = a * load(lines, at + WIDTH + j) + half * load(state, SUM + j)
        t = a * load(lines, at + 2 * WIDTH + j)
        if layer:
            b = b_ * fetch(right, o + 2 * WIDTH + j)
            w += b * load(lines, under + j)
            opposite += b * load(lines, under + WIDTH + j)
            t += b * load(lines, under + 2 * WIDTH + j)
        co = select(w > far, opposite, max(one + one - w, zero))
        put(state, j, w, co, t + own * (one - w))


@compiled
def scale_tangent(factor: Any, right: Array, o: int, state: Array) -> None:
    """Turn the slope of an activation into that over the roots of variances."""
    wide()
    for j in range(WIDTH):
        store(state, 2 * WIDTH + j, load(state, 2 * WIDTH + j) * (factor * fetch(right, o + j)))


@compiled
def keep(state: Array, lines: Array, at: int, lengths: Array, step: int) -> None:
    """Store a layer; lanes whose sequence has not begun go back to independent states."""
    wide()
    zero, one = real(load(state, 0), 0), real(load(state, 0), 1)
    for j in range(WIDTH):
        begun = fetch(lengths, j) > step
        store(lines, at + j, select(begun, load(state, j), one))
        store(lines, at + WIDTH + j, select(begun, load(state, WIDTH + j), one))
        store(lines, at + 2 * WIDTH + j, select(begun, load(state, 2 * WIDTH + j), zero))


@compiled
def read_out(factor: Any, right: Array, o: int, nngp: bool, state: Array, sums: Array) -> None:
    """Add a step's output to the sums."""
    wide()
    one = real(factor, 1)
    derivative = real(factor, 0) if nngp else one
    for j in range(WIDTH):
        value = one - load(state, j) + derivative * load(state, 2 * WIDTH + j)
        store(sums, j, load(sums, j) + factor * fetch(right, o + j) * value)
