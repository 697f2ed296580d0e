"""Tangents of sums and products with a saved state; mirrors their part of layer_slopes.hpp."""

from __future__ import annotations

from ntkfast.engines.numba.compiling import compiled
from ntkfast.engines.numba.formulas.arcsine_duals import pair
from ntkfast.engines.numba.formulas.pair_state import cosine, sine_of_difference
from ntkfast.engines.numba.formulas.simd import fetch, load, store, wide
from ntkfast.engines.numba.problem import ROWS, STATE, WIDTH, Array

# Lines of tangents: du/dt, du/dlog |x|, and those of the NTK over the root of its own values.
U_X, NTK_T, NTK_X, TANGENTS = WIDTH, 2 * WIDTH, 3 * WIDTH, 4 * WIDTH


@compiled
def slot_tangents(
    slot: int,
    left: Array,
    p: int,
    right: Array,
    o: int,
    rates: Array,
    r: int,
    state: Array,
    d: Array,
) -> None:
    """Carry tangents through the addition of a slot."""
    wide()
    at, before = (1 + slot) * TANGENTS, (1 + slot) * STATE
    cosine_, sine = fetch(left, p), fetch(left, p + ROWS)
    turn = cosine_ * sine * (fetch(rates, r + 4) - fetch(rates, r + 3))
    for j in range(WIDTH):
        other, other_sine = fetch(right, o + j), fetch(right, o + WIDTH + j)
        g, h = cosine_ * other, sine * other_sine
        apart = sine_of_difference(sine, cosine_, other_sine, other)
        moved = sine * other * load(state, j) - cosine_ * other_sine * load(state, before + j)
        store(d, j, g * load(d, j) + h * load(d, at + j))
        u_x = g * load(d, U_X + j) + h * load(d, at + U_X + j)
        store(d, U_X + j, u_x + turn * (moved - apart))
        kept = pair(left, p, right, o + j, 2)
        gained = pair(left, p, right, o + j, 3)
        store(d, NTK_T + j, kept * load(d, NTK_T + j) + gained * load(d, at + NTK_T + j))
        store(d, NTK_X + j, kept * load(d, NTK_X + j) + gained * load(d, at + NTK_X + j))


@compiled
def product_tangents(
    slot: int,
    left: Array,
    p: int,
    right: Array,
    o: int,
    rates: Array,
    r: int,
    state: Array,
    d: Array,
) -> None:
    """Carry tangents through the multiplication by a slot."""
    wide()
    at, before = (1 + slot) * TANGENTS, (1 + slot) * STATE
    rate, rate_ = fetch(rates, r + 3), fetch(rates, r + 4)
    for j in range(WIDTH):
        u = cosine(load(state, j), load(state, WIDTH + j))
        v = cosine(load(state, before + j), load(state, before + WIDTH + j))
        u_t, u_x = load(d, j), load(d, U_X + j)
        v_t, v_x = load(d, at + j), load(d, at + U_X + j)
        kept, gained = pair(left, p, right, o + j, 0), pair(left, p, right, o + j, 1)
        t, t_ = kept * load(state, 2 * WIDTH + j), gained * load(state, before + 2 * WIDTH + j)
        by_t = v * (kept * load(d, NTK_T + j)) + u * (gained * load(d, at + NTK_T + j))
        by_x = v * (kept * load(d, NTK_X + j)) + u * (gained * load(d, at + NTK_X + j))
        store(d, NTK_T + j, by_t + t * v_t + t_ * u_t)
        store(d, NTK_X + j, by_x + t * (v_x + rate_ * v) + t_ * (u_x + rate * u))
        store(d, j, u_t * v + u * v_t)
        store(d, U_X + j, u_x * v + u * v_x)
