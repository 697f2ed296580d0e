"""Tangents beside the layers on a row of pairs; mirrors layer_slopes.hpp."""

from __future__ import annotations

import math
from typing import Any

from ntkfast.engines.codes import RATES
from ntkfast.engines.numba.compiling import compiled
from ntkfast.engines.numba.formulas.activation import (
    ERF,
    EXP,
    GAUSSIAN,
    GELU,
    IDENTITY,
    RELU,
    SINE,
    STEP,
    activate,
)
from ntkfast.engines.numba.formulas.arccos import arc_cosine, arc_sine, arc_sine_ratio
from ntkfast.engines.numba.formulas.arcsine_duals import arcs, pair
from ntkfast.engines.numba.formulas.exponential import expm1_ratio, exponential
from ntkfast.engines.numba.formulas.layer import add_slot, affine, multiply
from ntkfast.engines.numba.formulas.pair_state import cosine, sine_of_difference
from ntkfast.engines.numba.formulas.simd import fetch, load, real, select, store, wide
from ntkfast.engines.numba.formulas.slot_slopes import (
    NTK_T,
    NTK_X,
    TANGENTS,
    U_X,
    product_tangents,
    slot_tangents,
)
from ntkfast.engines.numba.formulas.waves import root_gap
from ntkfast.engines.numba.problem import ROWS, STATE, WIDTH, Array

INVERSE_2PI = 0.15915494309189533577


@compiled
def store_tangents(d: Array, j: int, t: Any, rate: Any, bend: Any) -> None:
    """Replace the tangents before an activation by those behind it: see Bend in the header."""
    f_u, f_s, g, g_u, g_s = bend
    u_t, u_x = load(d, j), load(d, U_X + j)
    store(d, NTK_T + j, g * load(d, NTK_T + j) + t * (g_u * u_t))
    store(d, NTK_X + j, g * load(d, NTK_X + j) + t * (g_u * u_x + rate * g_s))
    store(d, j, f_u * u_t)
    store(d, U_X + j, f_u * u_x + rate * f_s)


@compiled
def inverse_sine(w: Any, co: Any, factor: Any) -> Any:
    """Return factor / sin, or 0 of parallel inputs."""
    sine2, zero = w * co, real(w, 0)
    apart = sine2 > zero
    return select(apart, factor / math.sqrt(select(apart, sine2, real(w, 1))), zero)


@compiled
def relu_tangents(a: float, b: float, rate: Any, state: Array, d: Array) -> None:
    """Apply the derivatives of ReLU and its relatives."""
    wide()
    like = load(state, 0)
    a_, b_, zero = real(like, a / (a + b)), real(like, b / (a + b)), real(like, 0)
    turn = a_ * real(like, 1 / math.pi)
    for j in range(WIDTH):
        w, co = load(state, j), load(state, WIDTH + j)
        g = arc_cosine(w, co)[0] * a_ + b_
        bend = g, zero, g, inverse_sine(w, co, turn), zero
        store_tangents(d, j, load(state, 2 * WIDTH + j), rate, bend)


@compiled
def step_tangents(a: float, b: float, rate: Any, state: Array, d: Array) -> None:
    """Apply the derivatives of the step."""
    wide()
    like = load(state, 0)
    turn, zero = real(like, 2 * b / (a + b) / math.pi), real(like, 0)
    for j in range(WIDTH):
        f_u = inverse_sine(load(state, j), load(state, WIDTH + j), turn)
        store_tangents(d, j, load(state, 2 * WIDTH + j), rate, (f_u, zero, zero, zero, zero))


@compiled
def erf_tangents(
    left: Array, p: int, right: Array, o: int, rate: Any, grown: Any, state: Array, d: Array
) -> None:
    """Apply the derivatives of a erf(b x) + c."""
    wide()
    h2, c2 = fetch(left, p) * fetch(left, p), fetch(left, p + ROWS) * fetch(left, p + ROWS)
    for j in range(WIDTH):
        w, co = load(state, j), load(state, WIDTH + j)
        u, s = cosine(w, co), arcs(left, p, right, o + j, w, co)
        share = pair(left, p, right, o + j, 3)
        f = pair(left, p, right, o + j, 4) + share * u * arc_sine_ratio(s.z, s.rest)
        steep, g = share / s.e, pair(left, p, right, o + j, 2) / s.e
        z2 = s.z * s.z / s.rest
        bend = (
            steep,
            steep * u * c2 - f * grown,
            g,
            g * s.z1 * s.z1 * u / s.rest,
            g * (z2 * c2 - h2),
        )
        store_tangents(d, j, load(state, 2 * WIDTH + j), rate, bend)


@compiled
def gelu_bend(
    left: Array, p: int, right: Array, o: int, grown: Any, share_: Any, w: Any, co: Any
) -> Any:
    """Return the derivatives of GELU; see the header."""
    one, half, two, three = real(w, 1), real(w, 0.5), real(w, 2), real(w, 3)
    inverse, quarter = real(w, INVERSE_2PI), real(w, 0.25)
    u, s = cosine(w, co), arcs(left, p, right, o, w, co)
    top, own = pair(left, p, right, o, 5), pair(left, p, right, o, 6)
    arc = arc_sine(s.z, s.rest)
    even = s.size * arc + s.z1 * (s.g * s.g * (s.size * s.size) + s.rest) / s.e
    f = top * (even * inverse + quarter * u)
    odd = (arc + s.z / s.e * (s.g * s.g / s.rest + s.sum)) * inverse
    slope = quarter + select(s.front, odd, -odd)
    q = fetch(left, p + 2 * ROWS) * fetch(left, p + 2 * ROWS)
    share = fetch(left, p + ROWS) * fetch(left, p + ROWS)
    root = fetch(right, o + 2 * WIDTH)
    rest_p = fetch(right, o + WIDTH) * fetch(right, o + WIDTH)
    size, other, ie = fetch(left, p + 2 * ROWS) * root, root * root, s.g / s.e
    u2, inverse_d = u * u, s.g * s.g
    e2, log_e, high = s.rest / inverse_d, half * share / s.rest, s.e / s.g * inverse_d
    by_q = (high + q * share * ie) - u2 * (q * high) * log_e
    by_q -= (u2 * (q * inverse_d) * ie + q * high) * (share + log_e)
    along = u * slope + two * size * by_q * inverse
    first = (q * share - s.z * s.z) / s.rest
    second = (other * rest_p - s.z * s.z) / s.rest
    c = u * size
    across = c / e2
    bent = inverse * ie * ((two - first) * (two - second) + two * across * across)
    less = share * rest_p - s.z1 * s.z1
    inner = three * log_e / e2 + (less + one) * log_e + other * rest_p * share + less * share
    slope_q = inverse * (-c * high * log_e - c * ie * inner)
    g = slope * own
    g_s = own * (two * q * slope_q + c * bent)
    return g * share_, top * along - f * grown, g, own * size * bent, g_s


@compiled
def gelu_tangents(
    left: Array,
    p: int,
    right: Array,
    o: int,
    shares: Array,
    at: int,
    own: Any,
    rate: Any,
    grown: Any,
    state: Array,
    d: Array,
) -> None:
    """Apply the derivatives of GELU."""
    wide()
    for j in range(WIDTH):
        share = own * fetch(shares, at + j)
        w, co = load(state, j), load(state, WIDTH + j)
        bend = gelu_bend(left, p, right, o + j, grown, share, w, co)
        store_tangents(d, j, load(state, 2 * WIDTH + j), rate, bend)


@compiled
def sine_tangents(
    b: float,
    c: float,
    left: Array,
    p: int,
    right: Array,
    o: int,
    shares: Array,
    at: int,
    own: Any,
    rate: Any,
    grown: Any,
    state: Array,
    d: Array,
) -> None:
    """Apply the derivatives of a sin(b x + phase), c = cos(2 phase)."""
    wide()
    like = load(state, 0)
    rate2, turn, one, zero = real(like, b * b), real(like, c), real(like, 1), real(like, 0)
    loss = rate2 * fetch(left, p) * fetch(left, p)
    for j in range(WIDTH):
        w, co = load(state, j), load(state, WIDTH + j)
        front, u = w < co, cosine(w, co)
        small, n = select(front, w, co), rate2 * pair(left, p, right, o + j, 0)
        size = one - small
        every = exponential(-(n * small + root_gap(left, p, right, o + j, rate2)))
        apart = size * expm1_ratio(-(one + one) * n * size)
        sign = select(front, turn, -one)
        f = pair(left, p, right, o + j, 1) + sign * pair(left, p, right, o + j, 2) * apart
        g = select(front, sign, one) * pair(left, p, right, o + j, 4) * apart
        f, g = every * f, every * (pair(left, p, right, o + j, 3) - g)
        share = own * fetch(shares, at + j)
        moves = share > zero
        g_u = select(moves, n * n * f / select(moves, share, one), zero)
        f_u = g * share
        bend = f_u, u * f_u - f * (loss + grown), g, g_u, u * g_u - loss * g
        store_tangents(d, j, load(state, 2 * WIDTH + j), rate, bend)


@compiled
def exponential_tangents(
    b: float,
    left: Array,
    p: int,
    right: Array,
    o: int,
    rate: Any,
    grown: Any,
    state: Array,
    d: Array,
) -> None:
    """Apply the derivatives of a exp(b x)."""
    wide()
    rate2 = real(load(state, 0), b * b)
    q = rate2 * fetch(left, p) * fetch(left, p)
    for j in range(WIDTH):
        w, co = load(state, j), load(state, WIDTH + j)
        n = rate2 * pair(left, p, right, o + j, 0)
        f = exponential(-(n * w + root_gap(left, p, right, o + j, rate2)))
        both = q + n * cosine(w, co)
        bend = n * f, f * (both - grown), f, n * f, f * both
        store_tangents(d, j, load(state, 2 * WIDTH + j), rate, bend)


@compiled
def gaussian_tangents(
    left: Array, p: int, right: Array, o: int, rate: Any, grown: Any, state: Array, d: Array
) -> None:
    """Apply the derivatives of a exp(b x^2)."""
    wide()
    one, three = real(load(state, 0), 1), real(load(state, 0), 3)
    for j in range(WIDTH):
        w, co = load(state, j), load(state, WIDTH + j)
        h, c, c_ = fetch(left, p), fetch(left, p + ROWS), fetch(right, o + WIDTH + j)
        z1, square = h * fetch(right, o + j), c_ * c_
        rest = c * c + square * (one - c * c) + z1 * z1 * (w * co)
        f, u = math.sqrt(pair(left, p, right, o + j, 2) / rest), cosine(w, co)
        z2 = z1 * z1 * u / rest
        moved, cube = u * z2 - h * h / rest, f * f * f
        bend = (
            f * z2,
            f * (moved - grown),
            u * cube,
            cube * (one + three * u * z2),
            u * cube * (one + three * moved),
        )
        store_tangents(d, j, load(state, 2 * WIDTH + j), rate, bend)


@compiled
def series_bend(
    terms: int, left: Array, p: int, right: Array, o: int, grown: Any, w: Any, co: Any
) -> Any:
    """Return the derivatives of a Hermite series; see the header."""
    u, zero, two = cosine(w, co), real(w, 0), real(w, 2)
    f = f_u = half = moved = moved_u = zero
    for k in range(terms - 1, -1, -1):
        a = fetch(left, p + k * ROWS)
        b = real(w, k) * a
        if k + 2 < terms:
            b += math.sqrt(real(w, (k + 1) * (k + 2))) * fetch(left, p + (k + 2) * ROWS)
        half = half * u + f_u
        f_u = f_u * u + f
        f = f * u + a * fetch(right, o + k * WIDTH)
        moved_u = moved_u * u + moved
        moved = moved * u + b * fetch(right, o + k * WIDTH)
    own = pair(left, p, right, o, terms)
    return f_u, moved - f * grown, f_u * own, two * half * own, (moved_u - f_u) * own


@compiled
def series_tangents(
    terms: int,
    left: Array,
    p: int,
    right: Array,
    o: int,
    rate: Any,
    grown: Any,
    state: Array,
    d: Array,
) -> None:
    """Apply the derivatives of any other function."""
    for j in range(WIDTH):
        w, co = load(state, j), load(state, WIDTH + j)
        bend = series_bend(terms, left, p, right, o + j, grown, w, co)
        store_tangents(d, j, load(state, 2 * WIDTH + j), rate, bend)


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
    state: Array,
    d: Array,
) -> None:
    """Carry tangents through one activation, of which the state has not been carried through."""
    here = layers[layer]
    kind, at = here["kind"], layer * WIDTH
    a, b, c = here["parameter"][0], here["parameter"][1], here["parameter"][2]
    own, rate, grown = fetch(rates, r), fetch(rates, r + 1), fetch(rates, r + 2)
    if kind == RELU:
        relu_tangents(a, b, rate, state, d)
    elif kind == STEP:
        step_tangents(a, b, rate, state, d)
    elif kind == ERF:
        erf_tangents(left, p, right, o, rate, grown, state, d)
    elif kind == GELU:
        gelu_tangents(left, p, right, o, shares, at, own, rate, grown, state, d)
    elif kind == SINE:
        sine_tangents(b, c, left, p, right, o, shares, at, own, rate, grown, state, d)
    elif kind == EXP:
        exponential_tangents(b, left, p, right, o, rate, grown, state, d)
    elif kind == GAUSSIAN:
        gaussian_tangents(left, p, right, o, rate, grown, state, d)
    elif kind != IDENTITY:
        series_tangents(here["count"], left, p, right, o, rate, grown, state, d)


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
    state: Array,
    d: Array,
) -> None:
    """Carry tangents through an affine step."""
    wide()
    here = layers[layer]
    offset, gains = here["e"] != 0, here["x"] != 0 or here["y"] != 0
    one, rate = real(load(state, 0), 1), fetch(rates, r + 1) * fetch(rates, r + 2)
    if gains:
        k, m = (p + 2 * ROWS, o + 2 * WIDTH) if offset else (p, o)
        for j in range(WIDTH):
            kept = fetch(left, k) * fetch(right, m + j)
            own = fetch(left, k + ROWS) * fetch(right, m + WIDTH + j)
            moved = load(d, U_X + j) + rate * (one - load(state, j))
            store(d, NTK_T + j, kept * load(d, NTK_T + j) + own * load(d, j))
            store(d, NTK_X + j, kept * load(d, NTK_X + j) + own * moved)
    if offset:
        cosine_, sine = fetch(left, p), fetch(left, p + ROWS)
        turn = -rate * cosine_ * sine
        for j in range(WIDTH):
            other, other_sine = fetch(right, o + j), fetch(right, o + WIDTH + j)
            share = cosine_ * other
            apart = sine_of_difference(sine, cosine_, other_sine, other)
            moved = turn * (sine * other * load(state, j) - apart)
            store(d, j, share * load(d, j))
            store(d, U_X + j, share * load(d, U_X + j) + moved)


@compiled
def start_tangents(u: Array, d: Array) -> None:
    """Write the tangents of the angle itself, of the lines of `angles`."""
    wide()
    zero, one, two = real(load(u, 0), 0), real(load(u, 0), 1), real(load(u, 0), 2)
    for j in range(WIDTH):
        v = load(u, WIDTH + j)
        store(d, j, -two * math.sqrt(v * (one - v)))
        store(d, U_X + j, zero)
        store(d, NTK_T + j, zero)
        store(d, NTK_X + j, zero)


@compiled
def evaluate_tangents(
    layers: Array,
    left: Array,
    row: int,
    right: Array,
    rates: Array,
    r: int,
    shares: Array,
    state: Array,
    d: Array,
) -> int:
    """Apply all layers to a row of pairs and its tangents; mirrors evaluate_layers of layer.py."""
    k = 0
    for layer in range(len(layers)):
        save, add = layers[layer]["save"], layers[layer]["add"]
        times = layers[layer]["times"]
        if save >= 0:
            for j in range(STATE):
                store(state, (1 + save) * STATE + j, load(state, j))
            for j in range(TANGENTS):
                store(d, (1 + save) * TANGENTS + j, load(d, j))
        p, o = k * ROWS + row, k * WIDTH
        activate_tangents(layers, layer, left, p, right, o, rates, r, shares, state, d)
        k += activate(layers, layer, left, p, right, o, state, 0)
        p, o = k * ROWS + row, k * WIDTH
        affine_tangents(layers, layer, left, p, right, o, rates, r, state, d)
        k += affine(layers, layer, left, p, right, o, state, 0)
        if add >= 0:
            p, o = k * ROWS + row, k * WIDTH
            slot_tangents(add, left, p, right, o, rates, r, state, d)
            add_slot(add, left, p, right, o, state, 0)
            k += 4
        if times >= 0:
            p, o = k * ROWS + row, k * WIDTH
            product_tangents(times, left, p, right, o, rates, r, state, d)
            multiply(times, left, p, right, o, state, 0)
            k += 2
        r += RATES
    return k
