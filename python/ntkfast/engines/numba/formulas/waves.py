"""Waves and exponentials on a row of pairs; mirrors waves.hpp."""

from __future__ import annotations

from typing import Any

from ntkfast.engines.numba.compiling import compiled
from ntkfast.engines.numba.formulas.arcsine_duals import pair
from ntkfast.engines.numba.formulas.exponential import expm1_ratio, exponential
from ntkfast.engines.numba.formulas.pair_state import (
    OLD,
    keep_old,
    mismatch,
    put,
    put_dual,
    put_far,
    put_near,
)
from ntkfast.engines.numba.formulas.simd import fetch, load, real, select, wide
from ntkfast.engines.numba.problem import ROWS, WIDTH, Array


@compiled
def root_gap(left: Array, p: int, right: Array, o: int, rate: Any) -> Any:
    """Rate (sqrt q - sqrt q')^2 / 2, of the first number."""
    d = fetch(left, p) - fetch(right, o)
    return real(d, 0.5) * rate * (d * d)


@compiled
def sine_layer(
    a: float,
    b: float,
    c: float,
    left: Array,
    p: int,
    right: Array,
    o: int,
    state: Array,
    start: int,
) -> None:
    """Apply a sin(b x + phase), c = cos(2 phase)."""
    wide()
    keep_old(state, start)
    like = load(state, 0)
    rate, half, turn, one = real(like, b * b), real(like, a * a / 2), real(like, c), real(like, 1)
    near = 0
    for j in range(start, WIDTH):
        w, co = load(state, OLD + j), load(state, OLD + WIDTH + j)
        front = w < co
        small, n = select(front, w, co), rate * pair(left, p, right, o + j, 0)
        size = one - small
        every = exponential(-(n * small + root_gap(left, p, right, o + j, rate)))
        apart = size * expm1_ratio(-(one + one) * n * size)
        sign = select(front, turn, -one)
        u = pair(left, p, right, o + j, 1) + sign * pair(left, p, right, o + j, 2) * apart
        slope = select(front, sign, one) * pair(left, p, right, o + j, 4) * apart
        slope = pair(left, p, right, o + j, 3) - slope
        near += put_dual(state, j, every * u, every * slope)
    if near == 0:
        put_far(state, start)
        return
    for j in range(start, WIDTH):
        w, co, u = load(state, OLD + j), load(state, OLD + WIDTH + j), load(state, j)
        put_near(state, j, u, sine_near(left, p, right, o + j, rate, half, turn, w, co, u))


@compiled
def sine_near(
    left: Array,
    p: int,
    right: Array,
    o: int,
    rate: Any,
    half: Any,
    turn: Any,
    w: Any,
    co: Any,
    u: Any,
) -> Any:
    """1 - |u| of a sine wave."""
    one, zero, middle = real(w, 1), real(w, 0), real(w, 0.5)
    two, n, d = one + one, rate * pair(left, p, right, o, 0), root_gap(left, p, right, o, rate)
    x, y, gone = -n * w, -n * co, exponential(-d)
    even, odd = pair(left, p, right, o, 1), pair(left, p, right, o, 2)
    scaled, rx, ry = middle * odd * gone, expm1_ratio(x), expm1_ratio(y)
    ex, ey = one + x * rx, one + y * ry
    front = scaled * w * rx * ((one + turn) + turn * (y * ry))
    behind = scaled * co * ry * (one + ex) + even * gone * ey * (one + ex)
    root = fetch(left, p) - fetch(right, o)
    wave = fetch(left, p + 7 * ROWS) - fetch(right, o + 7 * WIDTH)
    inverse, inverse_ = fetch(left, p + 6 * ROWS), fetch(right, o + 6 * WIDTH)
    far = exponential(-two * n - d)
    bend = (middle * rate * half) * (root * inverse) * (root * inverse_)
    bend *= expm1_ratio(-d) * (one + turn * far)
    bend -= (middle * turn * half) * (wave * inverse) * (wave * inverse_)
    dual = gone * (even + turn * odd * expm1_ratio(-two * n))
    return mismatch(left, p, right, o, 5, bend, dual) + select(u < zero, behind, front)


@compiled
def exponential_layer(
    b: float, left: Array, p: int, right: Array, o: int, state: Array, start: int
) -> None:
    """Apply a exp(b x)."""
    wide()
    rate, one = real(load(state, 0), b * b), real(load(state, 0), 1)
    for j in range(start, WIDTH):
        w = load(state, j)
        lost = rate * (pair(left, p, right, o + j, 0) * w)
        lost += root_gap(left, p, right, o + j, rate)
        u, defect = exponential(-lost), lost * expm1_ratio(-lost)
        put(state, j, defect, one + one - defect, load(state, 2 * WIDTH + j) * u)
