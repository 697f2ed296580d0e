"""All layers on a row of pairs, in the state of activation.py; mirrors layer.hpp."""

from __future__ import annotations

from typing import Any

from ntkfast.engines.numba.compiling import compiled
from ntkfast.engines.numba.formulas.activation import activate, put
from ntkfast.engines.numba.formulas.exponential import constant
from ntkfast.engines.numba.formulas.simd import fetch, load, real, select, store, wide
from ntkfast.engines.numba.problem import EQUAL, ROWS, STATE, WIDTH, Array, Row, Target


@compiled
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


@compiled
def evaluate_layers(
    layers: Array, left: Array, r: int, right: Array, state: Array, start: int
) -> int:
    """Apply all layers to a row of pairs; returns the position of the last number."""
    k = 0
    for layer in range(len(layers)):
        save, add = layers[layer]["save"], layers[layer]["add"]
        if save >= 0:
            for j in range(STATE):
                store(state, (1 + save) * STATE + j, load(state, j))
        k += activate(layers, layer, left, k * ROWS + r, right, k * WIDTH, state, start)
        k += affine(layers, layer, left, k * ROWS + r, right, k * WIDTH, state, start)
        if add >= 0:
            add_slot(add, left, k * ROWS + r, right, k * WIDTH, state, start)
            k += 4
    return k


@compiled
def affine(
    layers: Array, layer: int, left: Array, p: int, right: Array, o: int, state: Array, start: int
) -> int:
    """(c, t) <- (w c + e, w t + x c + y); returns how many numbers that has.

    Numbers, if e or y is not 0: sqrt(w q / q'), 1/sqrt(q'), sin(a/2), cos(a/2).
    """
    wide()
    here = layers[layer]
    w, e, x, y = here["w"], here["e"], here["x"], here["y"]
    like = load(state, 0)
    x_, y_, one = real(like, x / w), real(like, y), real(like, 1)
    two = one + one
    if e == 0 and y == 0:
        if x != 0:
            for j in range(start, WIDTH):
                t = load(state, 2 * WIDTH + j) + x_ * (one - load(state, j))
                store(state, 2 * WIDTH + j, t)
        return 0
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
    return 4


@compiled
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


@compiled
def to_cosine(state: Array, first: int, width: int) -> None:
    """Replace w by u = 1-w."""
    wide()
    one = real(load(state, 0), 1)
    for j in range(first, width):
        store(state, j, one - load(state, j))


@compiled
def diagonal_row(state: Array, norm: Any, norms: Array, value: Any, row: Row, out: Target) -> None:
    """Write the value at equal inputs to the pairs that are: no rounding there."""
    to = out.first + row.i * out.stride + row.j0
    for j in range(row.first, row.width):
        if load(state, EQUAL + j) > real(norm, 0) and norm == fetch(norms, WIDTH + j):
            store(out.values, to + j, value)
