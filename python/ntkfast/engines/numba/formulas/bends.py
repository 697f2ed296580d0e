"""Derivatives of activations at a row of pairs; mirrors bends.hpp.

The lines get f_u, f_s, g, g_u and g_s of Bend.
"""

from __future__ import annotations

import math
from typing import Any

from ntkfast.engines.numba.compiling import compiled
from ntkfast.engines.numba.formulas.activation import (
    DROPOUT,
    ERF,
    EXP,
    GAUSSIAN,
    GELU,
    RELU,
    SINE,
    STEP,
)
from ntkfast.engines.numba.formulas.arccos import arc_cosine, arc_sine, arc_sine_ratio
from ntkfast.engines.numba.formulas.arcsine_duals import arcs, pair
from ntkfast.engines.numba.formulas.exponential import expm1_ratio, exponential
from ntkfast.engines.numba.formulas.pair_state import cosine
from ntkfast.engines.numba.formulas.simd import fetch, load, real, select, store, wide
from ntkfast.engines.numba.formulas.waves import root_gap
from ntkfast.engines.numba.problem import ROWS, WIDTH, Array

F_S, G, G_U, G_S, BENDS = WIDTH, 2 * WIDTH, 3 * WIDTH, 4 * WIDTH, 5 * WIDTH
INVERSE_2PI = 0.15915494309189533577


@compiled
def store_bend(bends: Array, j: int, bend: Any) -> None:
    """Write the derivatives of an activation at a pair."""
    f_u, f_s, g, g_u, g_s = bend
    store(bends, j, f_u)
    store(bends, F_S + j, f_s)
    store(bends, G + j, g)
    store(bends, G_U + j, g_u)
    store(bends, G_S + j, g_s)


@compiled
def inverse_sine(w: Any, co: Any, factor: Any) -> Any:
    """Return factor / sin, or 0 of parallel inputs."""
    sine2, zero = w * co, real(w, 0)
    apart = sine2 > zero
    return select(apart, factor / math.sqrt(select(apart, sine2, real(w, 1))), zero)


@compiled
def relu_bends(a: float, b: float, state: Array, bends: Array) -> None:
    """Write the derivatives of ReLU and its relatives."""
    wide()
    like = load(state, 0)
    a_, b_, zero = real(like, a / (a + b)), real(like, b / (a + b)), real(like, 0)
    turn = a_ * real(like, 1 / math.pi)
    for j in range(WIDTH):
        w, co = load(state, j), load(state, WIDTH + j)
        g = arc_cosine(w, co)[0] * a_ + b_
        bend = g, zero, g, inverse_sine(w, co, turn), zero
        store_bend(bends, j, bend)


@compiled
def step_bends(a: float, b: float, state: Array, bends: Array) -> None:
    """Write the derivatives of the step."""
    wide()
    like = load(state, 0)
    turn, zero = real(like, 2 * b / (a + b) / math.pi), real(like, 0)
    for j in range(WIDTH):
        f_u = inverse_sine(load(state, j), load(state, WIDTH + j), turn)
        store_bend(bends, j, (f_u, zero, zero, zero, zero))


@compiled
def erf_bends(
    left: Array, p: int, right: Array, o: int, grown: Any, state: Array, bends: Array
) -> None:
    """Write the derivatives of a erf(b x) + c."""
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
        store_bend(bends, j, bend)


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
    size, ie = fetch(left, p + 2 * ROWS) * root, s.g / s.e
    u2, inverse_d = u * u, s.g * s.g
    e2 = s.rest / inverse_d
    lost = half * s.product - u2 * (inverse_d + half * ie * ie)
    by_q = share * (s.e * s.g + q * ie * lost)
    along = u * slope + two * size * by_q * inverse
    first, second = share / s.rest, rest_p / s.rest
    c = u * size
    across = c / e2
    bent = inverse * ie * ((one + first) * (one + second) + two * across * across)
    slope_s = (first - second + three * first * second) + (two * share - one)
    g = slope * own
    g_s = own * (inverse * ie * c * share * slope_s)
    return g * share_, top * along - f * grown, g, own * size * bent, g_s


@compiled
def gelu_bends(
    left: Array,
    p: int,
    right: Array,
    o: int,
    shares: Array,
    at: int,
    own: Any,
    grown: Any,
    state: Array,
    bends: Array,
) -> None:
    """Write the derivatives of GELU."""
    wide()
    for j in range(WIDTH):
        share = own * fetch(shares, at + j)
        w, co = load(state, j), load(state, WIDTH + j)
        bend = gelu_bend(left, p, right, o + j, grown, share, w, co)
        store_bend(bends, j, bend)


@compiled
def lead(left: Array, p: int, right: Array, o: int, w: Any) -> Any:
    """Return sqrt(q) (sqrt(q) - sqrt(p) u), of the first number."""
    root, other = fetch(left, p), fetch(right, o)
    return root * ((root - other) + other * w)


@compiled
def sine_bends(
    a: float,
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
    state: Array,
    bends: Array,
) -> None:
    """Write the derivatives of a sin(b x + phase), c = cos(2 phase); see the header."""
    wide()
    like = load(state, 0)
    rate2, turn, one, zero = real(like, b * b), real(like, c), real(like, 1), real(like, 0)
    half, two = real(like, a * a / 2), real(like, 2)
    q = rate2 * fetch(left, p) * fetch(left, p)
    inverse = fetch(left, p + 6 * ROWS) if fetch(left, p + 5 * ROWS) > zero else zero
    rest = one - fetch(left, p + 7 * ROWS)
    z = turn * rest * rest
    grown = two * q * half * inverse * inverse
    for j in range(WIDTH):
        w, co = load(state, j), load(state, WIDTH + j)
        front, u = w < co, cosine(w, co)
        small, n = select(front, w, co), rate2 * pair(left, p, right, o + j, 0)
        size, gap = one - small, root_gap(left, p, right, o + j, rate2)
        every = exponential(-(n * small + gap))
        apart = size * expm1_ratio(-two * n * size)
        sign = select(front, turn, -one)
        f = pair(left, p, right, o + j, 1) + sign * pair(left, p, right, o + j, 2) * apart
        g = select(front, sign, one) * pair(left, p, right, o + j, 4) * apart
        f, g = every * f, every * (pair(left, p, right, o + j, 3) - g)
        share = own * fetch(shares, at + j)
        moves = share > zero
        g_u = select(moves, n * n * f / select(moves, share, one), zero)
        even, odd = exponential(-(n * w + gap)), turn * exponential(-(n * co + gap))
        ahead = rate2 * lead(left, p, right, o + j, w)
        twice = ahead + ahead
        close = abs(twice) < real(like, 0.3)
        x = select(close, twice, zero)
        lost = select(close, z * even * (x * expm1_ratio(x)), odd - z * even)
        living = fetch(right, o + j + 5 * WIDTH) > zero
        inverse_ = select(living, fetch(right, o + j + 6 * WIDTH), zero)
        near = half * inverse * (grown * lost - ahead * (even + odd)) * inverse_
        f_s = select(f > real(like, 0.75), near, u * (g * share) - f * (q + rate))
        store_bend(bends, j, (g * share, f_s, g, g_u, u * g_u - q * g))


@compiled
def exponential_bends(
    b: float, left: Array, p: int, right: Array, o: int, state: Array, bends: Array
) -> None:
    """Write the derivatives of a exp(b x)."""
    wide()
    rate2 = real(load(state, 0), b * b)
    q = rate2 * fetch(left, p) * fetch(left, p)
    for j in range(WIDTH):
        w, co = load(state, j), load(state, WIDTH + j)
        n = rate2 * pair(left, p, right, o + j, 0)
        f = exponential(-(n * w + root_gap(left, p, right, o + j, rate2)))
        f_s = -f * (rate2 * lead(left, p, right, o + j, w))
        store_bend(bends, j, (n * f, f_s, f, n * f, f * (q + n * cosine(w, co))))


@compiled
def gaussian_bends(left: Array, p: int, right: Array, o: int, state: Array, bends: Array) -> None:
    """Write the derivatives of a exp(b x^2)."""
    wide()
    one, three = real(load(state, 0), 1), real(load(state, 0), 3)
    for j in range(WIDTH):
        w, co = load(state, j), load(state, WIDTH + j)
        h, c, c_ = fetch(left, p), fetch(left, p + ROWS), fetch(right, o + WIDTH + j)
        h_ = fetch(right, o + j)
        z1, square, h2 = h * h_, c_ * c_, h * h
        rest = c * c + square * (one - c * c) + z1 * z1 * (w * co)
        f, u = math.sqrt(pair(left, p, right, o + j, 2) / rest), cosine(w, co)
        z2 = z1 * z1 * u / rest
        moved, cube = u * z2 - h2 / rest, f * f * f
        behind = -((h - h_) + h_ * w)
        bend = (
            f * z2,
            f * (h2 * behind * (h_ * u + h) / (rest * (one + h2))),
            u * cube,
            cube * (one + three * u * z2),
            u * cube * (one + three * moved),
        )
        store_bend(bends, j, bend)


@compiled
def dropout_bends(kept: float, state: Array, bends: Array) -> None:
    """Write the derivatives of masks, which multiply u and t."""
    wide()
    like = load(state, 0)
    share, zero = real(like, kept), real(like, 0)
    for j in range(WIDTH):
        store_bend(bends, j, (share, zero, share, zero, zero))


@compiled
def series_bend(
    terms: int, left: Array, p: int, right: Array, o: int, grown: Any, w: Any, co: Any
) -> Any:
    """Return the derivatives of a Hermite series; see the header."""
    u, zero, two = cosine(w, co), real(w, 0), real(w, 2)
    f = f_u = half = moved = moved_u = apart = total = tail = zero
    for k in range(terms - 1, -1, -1):
        a, a_ = fetch(left, p + k * ROWS), fetch(right, o + k * WIDTH)
        b = real(w, k) * a
        if k + 2 < terms:
            b += math.sqrt(real(w, (k + 1) * (k + 2))) * fetch(left, p + (k + 2) * ROWS)
        c = b - a * grown
        half = half * u + f_u
        f_u = f_u * u + f
        f = f * u + a * a_
        moved_u = moved_u * u + moved
        moved = moved * u + b * a_
        apart = apart * u - c * (a - a_)
        if k:
            tail += c * a
            total = total * u + tail
    own = pair(left, p, right, o, terms)
    f_s = select(w < co, apart - w * total, moved - f * grown)
    return f_u, f_s, f_u * own, two * half * own, (moved_u - f_u) * own


@compiled
def series_bends(
    terms: int,
    left: Array,
    p: int,
    right: Array,
    o: int,
    grown: Any,
    state: Array,
    bends: Array,
) -> None:
    """Write the derivatives of any other function."""
    for j in range(WIDTH):
        w, co = load(state, j), load(state, WIDTH + j)
        bend = series_bend(terms, left, p, right, o + j, grown, w, co)
        store_bend(bends, j, bend)


@compiled
def write_bends(
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
    bends: Array,
) -> None:
    """Write the derivatives of one activation, which is not the identity."""
    here = layers[layer]
    kind, at = here["kind"], layer * WIDTH
    a, b, c = here["parameter"][0], here["parameter"][1], here["parameter"][2]
    own, grown = fetch(rates, r), fetch(rates, r + 1)
    if kind == RELU:
        relu_bends(a, b, state, bends)
    elif kind == STEP:
        step_bends(a, b, state, bends)
    elif kind == ERF:
        erf_bends(left, p, right, o, grown, state, bends)
    elif kind == GELU:
        gelu_bends(left, p, right, o, shares, at, own, grown, state, bends)
    elif kind == SINE:
        sine_bends(a, b, c, left, p, right, o, shares, at, own, grown, state, bends)
    elif kind == EXP:
        exponential_bends(b, left, p, right, o, state, bends)
    elif kind == GAUSSIAN:
        gaussian_bends(left, p, right, o, state, bends)
    elif kind == DROPOUT:
        dropout_bends(a, state, bends)
    else:
        series_bends(here["count"], left, p, right, o, grown, state, bends)
