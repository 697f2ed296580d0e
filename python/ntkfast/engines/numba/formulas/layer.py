"""All layers on a row of pairs, in the state of activation.py; mirrors layer.hpp."""

from __future__ import annotations

from typing import Any

from ntkfast.engines.numba.compiling import compiled
from ntkfast.engines.numba.formulas.activation import activate
from ntkfast.engines.numba.formulas.exponential import constant
from ntkfast.engines.numba.formulas.pair_state import cosine, put, sine_of_difference
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
    """Apply all layers to a row of pairs; returns the position of the last two numbers."""
    k = 0
    for layer in range(len(layers)):
        save, add = layers[layer]["save"], layers[layer]["add"]
        times = layers[layer]["times"]
        if save >= 0:
            for j in range(STATE):
                store(state, (1 + save) * STATE + j, load(state, j))
        k += activate(layers, layer, left, k * ROWS + r, right, k * WIDTH, state, start)
        k += affine(layers, layer, left, k * ROWS + r, right, k * WIDTH, state, start)
        if add >= 0:
            add_slot(add, left, k * ROWS + r, right, k * WIDTH, state, start)
            k += 4
        if times >= 0:
            multiply(times, left, k * ROWS + r, right, k * WIDTH, state, start)
            k += 2
    return k


@compiled
def moved(left: Array, p: int, right: Array, o: int) -> Any:
    """1 - cos(a-b) of two angles below 90 degrees, whose cosines and sines come first."""
    cosine, sine = fetch(left, p), fetch(left, p + ROWS)
    cosine_, sine_ = fetch(right, o), fetch(right, o + WIDTH)
    gap = sine_of_difference(sine, cosine, sine_, cosine_)
    return gap * gap / (real(gap, 1) + cosine * cosine_ + sine * sine_)


@compiled
def affine(
    layers: Array, layer: int, left: Array, p: int, right: Array, o: int, state: Array, start: int
) -> int:
    """(c, t) <- (w c + e, w t + x c + y); returns how many numbers that has; see the header."""
    wide()
    here = layers[layer]
    offset, gains = here["e"] != 0, here["x"] != 0 or here["y"] != 0
    one = real(load(state, 0), 1)
    two, used = one + one, 2 if offset else 0
    if gains:
        a, b = p + used * ROWS, o + used * WIDTH
        old, seen, added = fetch(left, a), fetch(left, a + ROWS), fetch(left, a + 2 * ROWS)
        for j in range(start, WIDTH):
            t = old * fetch(right, b + j) * load(state, 2 * WIDTH + j)
            t += seen * fetch(right, b + WIDTH + j) * (one - load(state, j))
            store(state, 2 * WIDTH + j, t + added * fetch(right, b + 2 * WIDTH + j))
        used += 3
    if offset:
        share_, rest_ = fetch(left, p), fetch(left, p + ROWS)
        for j in range(start, WIDTH):
            share, rest = share_ * fetch(right, o + j), rest_ * fetch(right, o + WIDTH + j)
            gap = moved(left, p, right, o + j)
            store(state, j, share * load(state, j) + gap)
            store(state, WIDTH + j, share * load(state, WIDTH + j) + gap + two * rest)
    return used


@compiled
def add_slot(
    slot: int, left: Array, p: int, right: Array, o: int, state: Array, start: int
) -> None:
    """(c, t) <- (c, t) + slot; for the numbers see the header."""
    wide()
    at = (1 + slot) * STATE
    g_, h_ = fetch(left, p), fetch(left, p + ROWS)
    own, other = fetch(left, p + 2 * ROWS), fetch(left, p + 3 * ROWS)
    for j in range(start, WIDTH):
        g, h = g_ * fetch(right, o + j), h_ * fetch(right, o + WIDTH + j)
        gap = moved(left, p, right, o + j)
        w = g * load(state, j) + h * load(state, at + j) + gap
        co = g * load(state, WIDTH + j) + h * load(state, at + WIDTH + j) + gap
        t = own * fetch(right, o + 2 * WIDTH + j) * load(state, 2 * WIDTH + j)
        t += other * fetch(right, o + 3 * WIDTH + j) * load(state, at + 2 * WIDTH + j)
        put(state, j, w, co, t)


@compiled
def multiply(
    slot: int, left: Array, p: int, right: Array, o: int, state: Array, start: int
) -> None:
    """(c, t) <- (c c_slot, t c_slot + c t_slot); for the numbers see the header."""
    wide()
    at = (1 + slot) * STATE
    kept, gained = fetch(left, p), fetch(left, p + ROWS)
    half = real(load(state, 0), 0.5)
    for j in range(start, WIDTH):
        w, co = load(state, j), load(state, WIDTH + j)
        w_, co_ = load(state, at + j), load(state, at + WIDTH + j)
        t = kept * fetch(right, o + j) * load(state, 2 * WIDTH + j) * cosine(w_, co_)
        t_ = gained * fetch(right, o + WIDTH + j) * load(state, at + 2 * WIDTH + j)
        put(
            state, j, half * (w * co_ + co * w_), half * (co * co_ + w * w_), t + t_ * cosine(w, co)
        )


@compiled
def to_cosine(state: Array, first: int, width: int) -> None:
    """Replace w by u."""
    wide()
    for j in range(first, width):
        store(state, j, cosine(load(state, j), load(state, WIDTH + j)))


@compiled
def diagonal_row(state: Array, norm: Any, norms: Array, value: Any, row: Row, out: Target) -> None:
    """Write the value at equal inputs to the pairs that are: no rounding there."""
    to = out.first + row.i * out.stride + row.j0
    for j in range(row.first, row.width):
        if load(state, EQUAL + j) > real(norm, 0) and norm == fetch(norms, WIDTH + j):
            store(out.values, to + j, value)
