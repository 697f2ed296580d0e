"""One activation on a row of pairs; mirrors activation.hpp."""

from __future__ import annotations

import math
from typing import Any

from ntkfast.engines.codes import ActivationKind
from ntkfast.engines.numba.compiling import compiled
from ntkfast.engines.numba.formulas.arcsine_duals import erf_layer, gelu_layer, pair
from ntkfast.engines.numba.formulas.pair_state import (
    NEAR,
    OLD,
    keep_old,
    put,
    put_dual,
    put_far,
    put_near,
    sine_of_difference,
)
from ntkfast.engines.numba.formulas.rectified import relu_layer, step_layer
from ntkfast.engines.numba.formulas.simd import fetch, load, real, select, store, wide
from ntkfast.engines.numba.formulas.waves import exponential_layer, sine_layer
from ntkfast.engines.numba.problem import KEPT, ROWS, WIDTH, Array

IDENTITY, RELU, STEP, ERF, GELU, SINE, EXP, GAUSSIAN, HERMITE, DROPOUT = map(int, ActivationKind)
OLD_T = KEPT + 2 * WIDTH


@compiled
def activate(
    layers: Array, layer: int, left: Array, p: int, right: Array, o: int, state: Array, start: int
) -> int:
    """Apply the activation; returns how many numbers it has."""
    here = layers[layer]
    kind = here["kind"]
    a, b, c = here["parameter"][0], here["parameter"][1], here["parameter"][2]
    if kind == RELU:
        relu_layer(a, b, state, start)
    elif kind == STEP:
        step_layer(a, b, state, start)
    elif kind == ERF:
        erf_layer(left, p, right, o, state, start)
        return 7
    elif kind == GELU:
        gelu_layer(left, p, right, o, state, start)
        return 9
    elif kind == SINE:
        sine_layer(a, b, c, left, p, right, o, state, start)
        return 8
    elif kind == EXP:
        exponential_layer(b, left, p, right, o, state, start)
        return 1
    elif kind == GAUSSIAN:
        gaussian_layer(left, p, right, o, state, start)
        return 3
    elif kind == HERMITE:
        terms = int(here["count"])
        series_layer(terms, left, p, right, o, state, start)
        return terms + 1
    elif kind == DROPOUT:
        dropout_layer(a, state, start)
    return 0


@compiled
def dropout_layer(a: float, state: Array, start: int) -> None:
    """Keep a share: u and t over the roots of what they are of inputs and themselves."""
    wide()
    like = load(state, 0)
    kept, rest = real(like, a), real(like, 1 - a)
    for j in range(start, WIDTH):
        w, co, t = load(state, j), load(state, WIDTH + j), load(state, 2 * WIDTH + j)
        put(state, j, rest + kept * w, rest + kept * co, kept * t)


@compiled
def gaussian_layer(left: Array, p: int, right: Array, o: int, state: Array, start: int) -> None:
    """Apply a exp(b x^2). With r = 2 |b| q: h = sqrt(r / (1+r)), c = 1/sqrt(1+r), sqrt(1 - h^4)."""
    wide()
    h, c = fetch(left, p), fetch(left, p + ROWS)
    one = real(h, 1)
    for j in range(start, WIDTH):
        w, co = load(state, j), load(state, WIDTH + j)
        h_, c_, both = (
            fetch(right, o + j),
            fetch(right, o + WIDTH + j),
            pair(left, p, right, o + j, 2),
        )
        z, apart = h * h_, sine_of_difference(h, c, h_, c_) * (h * c_ + c * h_)
        rest1, across = c * c + c_ * c_ * (one - c * c), z * z * (w * co)
        rest = rest1 + across
        u = math.sqrt(both / rest)
        small = (apart * apart / (rest1 + both) + across) / (rest * (one + u))
        t = load(state, 2 * WIDTH + j) * ((one - w) * (u * u * u))
        store(state, j, u)
        store(state, 2 * WIDTH + j, t)
        put_near(state, j, u, small)


@compiled
def series_layer(
    terms: int, left: Array, p: int, right: Array, o: int, state: Array, start: int
) -> None:
    """Apply u' = sum_j a_j b_j u^j; numbers: the coefficients, and 1 / sqrt(sum_j j a_j^2).

    The loop over terms is the outer one, so that the inner one vectorises: value and slope are
    collected in the lines of co and t, u stays in that of w.
    """
    wide()
    keep_old(state, start)
    one, zero = real(load(state, 0), 1), real(load(state, 0), 0)
    for j in range(start, WIDTH):
        w, co = load(state, j), load(state, WIDTH + j)
        store(state, OLD_T + j, load(state, 2 * WIDTH + j))
        store(state, j, select(w < co, one - w, co - one))
        store(state, WIDTH + j, zero)
        store(state, 2 * WIDTH + j, zero)
    for k in range(terms - 1, -1, -1):
        a = fetch(left, p + k * ROWS)
        for j in range(start, WIDTH):
            u, value = load(state, j), load(state, WIDTH + j)
            store(state, 2 * WIDTH + j, load(state, 2 * WIDTH + j) * u + value)
            store(state, WIDTH + j, value * u + a * fetch(right, o + k * WIDTH + j))
    near = 0
    for j in range(start, WIDTH):
        value, slope = load(state, WIDTH + j), load(state, 2 * WIDTH + j)
        store(state, 2 * WIDTH + j, load(state, OLD_T + j))
        near += put_dual(state, j, value, slope * pair(left, p, right, o + j, terms))
    if near == 0:
        put_far(state, start)
        return
    for j in range(start, WIDTH):
        u = load(state, j)
        w, co = load(state, OLD + j), load(state, OLD + WIDTH + j)
        small = one - abs(u)
        if small < real(u, NEAR):
            small = series_near(terms, left, p, right, o + j, w, co, u)
        put_near(state, j, u, small)


@compiled
def series_near(
    terms: int, left: Array, p: int, right: Array, o: int, w: Any, co: Any, u: Any
) -> Any:
    """1 - |u| of a series; see the header."""
    one, zero, front = real(w, 1), real(w, 0), w < co
    small = select(front, w, co)
    even = select(u < zero, -one, one)
    odd, apart, tail, total = select(front, even, -even), zero, zero, zero
    for k in range(terms - 1, -1, -1):
        a = fetch(left, p + k * ROWS)
        b = select(k % 2 == 1, odd, even) * fetch(right, o + k * WIDTH)
        apart += (a - b) * (a - b)
        if k > 0:
            tail += a * b
            total = total * (one - small) + tail
    return real(w, 0.5) * apart + small * total
