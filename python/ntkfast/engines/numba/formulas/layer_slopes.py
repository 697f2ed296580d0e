"""Tangents beside the layers on a row of pairs; mirrors layer_slopes.hpp."""

from __future__ import annotations

import math
from typing import Any

from ntkfast.engines.codes import MOVES, RATES
from ntkfast.engines.numba.compiling import compiled
from ntkfast.engines.numba.formulas.activation import IDENTITY, activate
from ntkfast.engines.numba.formulas.arcsine_duals import pair
from ntkfast.engines.numba.formulas.bends import F_S, G_S, G_U, G, write_bends
from ntkfast.engines.numba.formulas.layer import add_slot, affine, multiply
from ntkfast.engines.numba.formulas.pair_state import cosine, sine_of_difference
from ntkfast.engines.numba.formulas.simd import fetch, load, real, store, wide
from ntkfast.engines.numba.problem import ROWS, STATE, WIDTH, Array

# Lines of a direction: the derivatives of u, and of the NTK over the root of its own values.
NTK, TANGENT = WIDTH, 2 * WIDTH


@compiled
def apply_bend(bends: Array, rate: Any, state: Array, d: Array, at: int) -> None:
    """Replace the tangents before an activation by those behind it."""
    wide()
    for j in range(WIDTH):
        u, t = load(d, at + j), load(state, 2 * WIDTH + j)
        bent = load(bends, G_U + j) * u + rate * load(bends, G_S + j)
        store(d, at + NTK + j, load(bends, G + j) * load(d, at + NTK + j) + t * bent)
        store(d, at + j, load(bends, j) * u + rate * load(bends, F_S + j))


@compiled
def activate_tangents(
    layers: Array,
    layer: int,
    left: Array,
    p: int,
    right: Array,
    o: int,
    rates: Array,
    r: int,
    shares: Array,
    directions: int,
    bends: Array,
    state: Array,
    d: Array,
) -> None:
    """Carry tangents through one activation, of which the state has not been carried through."""
    if layers[layer]["kind"] == IDENTITY:
        return
    write_bends(layers, layer, left, p, right, o, rates, r, shares, state, bends)
    for i in range(directions):
        apply_bend(bends, fetch(rates, r + RATES + i * MOVES), state, d, i * TANGENT)


@compiled
def scale_tangents(step: Any, state: Array, d: Array, at: int) -> None:
    """Add what the NTK moves with the weights."""
    wide()
    for j in range(WIDTH):
        moved = load(d, at + NTK + j) + step * load(state, 2 * WIDTH + j)
        store(d, at + NTK + j, moved)


@compiled
def gain_tangents(
    left: Array,
    k: int,
    right: Array,
    m: int,
    root: Any,
    given: Any,
    state: Array,
    d: Array,
    at: int,
) -> None:
    """Carry those of the NTK through what it gains, from the NNGP and from biases."""
    wide()
    one = real(load(state, 0), 1)
    for j in range(WIDTH):
        moved = load(d, at + j) + root * (one - load(state, j))
        kept = pair(left, k, right, m + j, 0) * load(d, at + NTK + j)
        own = pair(left, k, right, m + j, 1) * moved
        store(d, at + NTK + j, kept + own + pair(left, k, right, m + j, 2) * given)


@compiled
def share_tangents(
    left: Array, p: int, right: Array, o: int, move: Any, state: Array, d: Array, at: int
) -> None:
    """Carry those of u through a bias, as shares turn."""
    wide()
    cosine_, sine = fetch(left, p), fetch(left, p + ROWS)
    turn = move * cosine_ * sine
    for j in range(WIDTH):
        other, other_sine = fetch(right, o + j), fetch(right, o + WIDTH + j)
        apart = sine_of_difference(sine, cosine_, other_sine, other)
        moved = turn * (sine * other * load(state, j) - apart)
        store(d, at + j, cosine_ * other * load(d, at + j) + moved)


@compiled
def affine_tangents(
    layers: Array,
    layer: int,
    left: Array,
    p: int,
    right: Array,
    o: int,
    rates: Array,
    r: int,
    directions: int,
    state: Array,
    d: Array,
) -> None:
    """Carry tangents through an affine step."""
    here = layers[layer]
    offset, gains = here["e"] != 0, here["x"] != 0 or here["y"] != 0
    k, m = (p + 2 * ROWS, o + 2 * WIDTH) if offset else (p, o)
    for i in range(directions):
        at, move = i * TANGENT, r + RATES + i * MOVES
        scale_tangents(fetch(rates, move + 3), state, d, at)
        if gains:
            root, given = fetch(rates, move + 1) + fetch(rates, move + 4), fetch(rates, move + 5)
            gain_tangents(left, k, right, m, root, given, state, d, at)
        if offset:
            share_tangents(left, p, right, o, fetch(rates, move + 2), state, d, at)


@compiled
def slot_tangents(
    slot: int,
    left: Array,
    p: int,
    right: Array,
    o: int,
    move: Any,
    state: Array,
    d: Array,
    at: int,
    saved: int,
) -> None:
    """Carry tangents through the addition of a slot."""
    wide()
    before = (1 + slot) * STATE
    cosine_, sine = fetch(left, p), fetch(left, p + ROWS)
    turn = cosine_ * sine * move
    for j in range(WIDTH):
        other, other_sine = fetch(right, o + j), fetch(right, o + WIDTH + j)
        g, h = cosine_ * other, sine * other_sine
        apart = sine_of_difference(sine, cosine_, other_sine, other)
        moved = sine * other * load(state, j) - cosine_ * other_sine * load(state, before + j)
        u = g * load(d, at + j) + h * load(d, saved + j)
        store(d, at + j, u + turn * (moved - apart))
        kept = pair(left, p, right, o + j, 2) * load(d, at + NTK + j)
        gained = pair(left, p, right, o + j, 3) * load(d, saved + NTK + j)
        store(d, at + NTK + j, kept + gained)


@compiled
def factor_tangents(
    slot: int,
    left: Array,
    p: int,
    right: Array,
    o: int,
    rates: Any,
    state: Array,
    d: Array,
    at: int,
    saved: int,
) -> None:
    """Carry tangents through the multiplication by a slot."""
    wide()
    before = (1 + slot) * STATE
    rate, rate_ = rates
    for j in range(WIDTH):
        u = cosine(load(state, j), load(state, WIDTH + j))
        v = cosine(load(state, before + j), load(state, before + WIDTH + j))
        du, dv = load(d, at + j), load(d, saved + j)
        kept, gained = pair(left, p, right, o + j, 0), pair(left, p, right, o + j, 1)
        t, t_ = kept * load(state, 2 * WIDTH + j), gained * load(state, before + 2 * WIDTH + j)
        moved = v * (kept * load(d, at + NTK + j)) + u * (gained * load(d, saved + NTK + j))
        store(d, at + NTK + j, moved + t * (dv + rate_ * v) + t_ * (du + rate * u))
        store(d, at + j, du * v + u * dv)


@compiled
def start_tangents(u: Array, inputs: bool, directions: int, d: Array) -> None:
    """Write the tangents before the layers, of the lines of `angles`: by inputs, or by none."""
    wide()
    zero, one, two = real(load(u, 0), 0), real(load(u, 0), 1), real(load(u, 0), 2)
    for j in range(directions * TANGENT):
        store(d, j, zero)
    if inputs:
        for j in range(WIDTH):
            v = load(u, WIDTH + j)
            store(d, j, -two * math.sqrt(v * (one - v)))


@compiled
def finish_tangents(nngp: bool, rate: Any, step: Any, state: Array, d: Array, at: int) -> None:
    """Leave the derivatives of the NTK, or NNGP, in the second line."""
    wide()
    for j in range(WIDTH):
        if nngp:
            u = cosine(load(state, j), load(state, WIDTH + j))
            store(d, at + NTK + j, load(d, at + j) + (rate + step) * u)
        else:
            t = load(state, 2 * WIDTH + j)
            store(d, at + NTK + j, load(d, at + NTK + j) + step * t)


@compiled
def evaluate_tangents(
    layers: Array,
    left: Array,
    row: int,
    right: Array,
    rates: Array,
    r: int,
    shares: Array,
    directions: int,
    nngp: bool,
    bends: Array,
    state: Array,
    d: Array,
) -> int:
    """Apply all layers to a row of pairs and its tangents; mirrors evaluate_layers of layer.py."""
    k, lines = 0, directions * TANGENT
    for layer in range(len(layers)):
        save, add = layers[layer]["save"], layers[layer]["add"]
        times = layers[layer]["times"]
        if save >= 0:
            for j in range(STATE):
                store(state, (1 + save) * STATE + j, load(state, j))
            for j in range(lines):
                store(d, (1 + save) * lines + j, load(d, j))
        p, o = k * ROWS + row, k * WIDTH
        activate_tangents(
            layers, layer, left, p, right, o, rates, r, shares, directions, bends, state, d
        )
        k += activate(layers, layer, left, p, right, o, state, 0)
        p, o = k * ROWS + row, k * WIDTH
        affine_tangents(layers, layer, left, p, right, o, rates, r, directions, state, d)
        k += affine(layers, layer, left, p, right, o, state, 0)
        if add >= 0:
            p, o = k * ROWS + row, k * WIDTH
            for i in range(directions):
                move, at = fetch(rates, r + RATES + i * MOVES + 6), i * TANGENT
                slot_tangents(add, left, p, right, o, move, state, d, at, (1 + add) * lines + at)
            add_slot(add, left, p, right, o, state, 0)
            k += 4
        if times >= 0:
            p, o = k * ROWS + row, k * WIDTH
            for i in range(directions):
                move, at = r + RATES + i * MOVES + 6, i * TANGENT
                both = fetch(rates, move), fetch(rates, move + 1)
                to = (1 + times) * lines + at
                factor_tangents(times, left, p, right, o, both, state, d, at, to)
            multiply(times, left, p, right, o, state, 0)
            k += 2
        r += RATES + MOVES * directions
    for i in range(directions):
        rate, step = fetch(rates, r + 2 * i), fetch(rates, r + 2 * i + 1)
        finish_tangents(nngp, rate, step, state, d, i * TANGENT)
    return k
