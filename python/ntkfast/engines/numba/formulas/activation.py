"""One activation on a row of pairs; with layer.py, mirrors layer.hpp.

A pair is carried as w = 1-u, co = 1+u and t = ntk / sqrt(q p); the three lines of `state` hold
them. Number k of the data row is left[k ROWS], those of the columns are right[k WIDTH + j].
"""

from __future__ import annotations

import math
from typing import Any

from ntkfast.engines.codes import ActivationKind
from ntkfast.engines.numba.compiling import compiled
from ntkfast.engines.numba.formulas.arccos import arc_cosine, arc_sine
from ntkfast.engines.numba.formulas.exponential import exponential
from ntkfast.engines.numba.formulas.simd import fetch, load, polynomial, real, select, store, wide
from ntkfast.engines.numba.problem import KEPT, ROWS, WIDTH, Array

IDENTITY, RELU, STEP, ERF, GELU, SINE, EXP, GAUSSIAN, HERMITE = map(int, ActivationKind)


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
        erf_layer(a, c, left, p, right, o, state, start)
        return 3
    elif kind == GELU:
        gelu_layer(left, p, right, o, state, start)
        return 5
    elif kind == SINE:
        sine_layer(a, b, c, left, p, right, o, state, start)
        return 2
    elif kind == EXP:
        exponential_layer(b, left, p, right, o, state, start)
        return 1
    elif kind == GAUSSIAN:
        gaussian_layer(left, p, right, o, state, start)
        return 3
    elif kind == HERMITE:
        terms = int(here["count"])
        series_layer(terms, left, p, right, o, state, start)
        return terms
    return 0


@compiled
def put(state: Array, j: int, w: Any, co: Any, t: Any) -> None:
    """Store the state of a pair."""
    store(state, j, w)
    store(state, WIDTH + j, co)
    store(state, 2 * WIDTH + j, t)


@compiled
def put_cosine(state: Array, j: int, u: Any, t: Any) -> None:
    """Store the state after a smooth activation: rounding must not make 1 - u negative."""
    w, co, zero = real(u, 1) - u, real(u, 1) + u, real(u, 0)
    put(state, j, select(w > zero, w, zero), select(co > zero, co, zero), t)


@compiled
def relu_layer(a: float, b: float, state: Array, start: int) -> None:
    """Apply ReLU and its relatives: A kappa1 + B u and A kappa0 + B, over A + B."""
    wide()
    like = load(state, 0)
    a_, b_, two = real(like, a / (a + b)), real(like, b / (a + b)), real(like, 2)
    if b == 0:
        for j in range(start, WIDTH):
            kappa0, _, defect = arc_cosine(load(state, j), load(state, WIDTH + j))
            put(state, j, defect, two - defect, load(state, 2 * WIDTH + j) * kappa0)
        return
    for j in range(start, WIDTH):
        w, co = load(state, j), load(state, WIDTH + j)
        kappa0, kappa1, defect = arc_cosine(w, co)
        # From u = -1 where both cancel: abs, which is even, has 1 - K = 0 there too.
        far = (a_ + two * b_) - (kappa1 * a_ + co * b_)
        defect = select(w < co, defect * a_ + w * b_, far)
        put(state, j, defect, two - defect, load(state, 2 * WIDTH + j) * (kappa0 * a_ + b_))


@compiled
def step_layer(a: float, b: float, state: Array, start: int) -> None:
    """Apply the step: alpha + beta (2 kappa0 - 1), over alpha + beta."""
    wide()
    like = load(state, 0)
    share, one, zero = real(like, 2 * b / (a + b)), real(like, 1), real(like, 0)
    for j in range(start, WIDTH):
        kappa0 = arc_cosine(load(state, j), load(state, WIDTH + j))[0]
        defect = share * (one - kappa0)
        put(state, j, defect, one + one - defect, zero)


@compiled
def complement(own: Any, other: Any, h: Any, w: Any, co: Any) -> Any:
    """1 - z^2 for z = u h, from 1 - h_i^2 of both inputs: no cancellation for large ones."""
    return own + other * (real(own, 1) - own) + h * h * (w * co)


@compiled
def erf_layer(
    a: float, c: float, left: Array, p: int, right: Array, o: int, state: Array, start: int
) -> None:
    """Apply a erf(b x) + c. With z = 2 b^2 q: h = sqrt(z / (1+z)), 1/sqrt(variance), 1/(1+z)."""
    wide()
    h_, inverse_ = fetch(left, p), fetch(left, p + ROWS)
    own, one = fetch(left, p + 2 * ROWS), real(h_, 1)
    scale, shift = real(h_, a * a * 0.63661977236758134308), real(h_, c * c)
    for j in range(start, WIDTH):
        h, inverse = h_ * fetch(right, o + j), inverse_ * fetch(right, o + WIDTH + j)
        w, other = load(state, j), fetch(right, o + 2 * WIDTH + j)
        z, rest = (one - w) * h, complement(own, other, h, w, load(state, WIDTH + j))
        u = (scale * arc_sine(z, rest) + shift) * inverse
        t = load(state, 2 * WIDTH + j) * (scale * h * inverse / math.sqrt(rest))
        put_cosine(state, j, u, t)


@compiled
def gelu_layer(left: Array, p: int, right: Array, o: int, state: Array, start: int) -> None:
    """Numbers: h = sqrt(q / (1+q)), 1/sqrt(1+q), sqrt q, 1/sqrt(variance), 1/(1+q)."""
    wide()
    h_, g_, n_ = fetch(left, p), fetch(left, p + ROWS), fetch(left, p + 2 * ROWS)
    inverse_, own = fetch(left, p + 3 * ROWS), fetch(left, p + 4 * ROWS)
    one, fourth, inverse_2pi = real(h_, 1), real(h_, 0.25), real(h_, 0.15915494309189533577)
    two = one + one
    for j in range(start, WIDTH):
        w, t = load(state, j), load(state, 2 * WIDTH + j)
        h, g = h_ * fetch(right, o + j), g_ * fetch(right, o + WIDTH + j)
        root = fetch(right, o + 2 * WIDTH + j)
        inverse = inverse_ * fetch(right, o + 3 * WIDTH + j)
        other = fetch(right, o + 4 * WIDTH + j)
        u, n = one - w, n_ * root
        z, rest = u * h, complement(own, other, h, w, load(state, WIDTH + j))
        e = math.sqrt(rest)
        quarter = fourth + arc_sine(z, rest) * inverse_2pi
        value = n * u * quarter + g * (z * z + n * n * rest) / e * inverse_2pi
        # g^2 (1 + q + p) stands for 1 - q p g^2, which cancels for large variances
        gap = n_ - root
        total = gap * gap + two * n
        slope = quarter + z / e * (g * g * (one / rest + (total + two))) * inverse_2pi
        out = value * inverse
        put_cosine(state, j, out, t * slope * (n * inverse))


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
    """Apply a sin(b x + phase), c = cos(2 phase). Numbers: sqrt q, 1/sqrt(variance)."""
    wide()
    n_, inverse_ = fetch(left, p), fetch(left, p + ROWS)
    one, half = real(n_, 1), real(n_, 0.5)
    rate, scale, turn = real(n_, -b * b), real(n_, a * a / 2), real(n_, c)
    for j in range(start, WIDTH):
        w, co, t = load(state, j), load(state, WIDTH + j), load(state, 2 * WIDTH + j)
        n, gap = n_ * fetch(right, o + j), n_ - fetch(right, o + j)
        inverse = inverse_ * fetch(right, o + WIDTH + j)
        plus_ = exponential(rate * (n * w + half * gap * gap))
        minus = turn * exponential(rate * (n * co + half * gap * gap))
        # For small covariances, as of small inputs, the difference cancels.
        x = (rate + rate) * n * (one - w)
        close = plus_ * ((one - turn) - turn * (x * polynomial("expm1", x)))
        u = scale * select(abs(x) < real(x, 0.3), close, plus_ - minus) * inverse
        put_cosine(state, j, u, t * (-rate * scale * (plus_ + minus) * n * inverse))


@compiled
def exponential_layer(
    b: float, left: Array, p: int, right: Array, o: int, state: Array, start: int
) -> None:
    """Apply a exp(b x). Number: sqrt q."""
    wide()
    n_ = fetch(left, p)
    half, rate = real(n_, 0.5), real(n_, -b * b)
    for j in range(start, WIDTH):
        n, gap = n_ * fetch(right, o + j), n_ - fetch(right, o + j)
        u = exponential(rate * (n * load(state, j) + half * gap * gap))
        put_cosine(state, j, u, load(state, 2 * WIDTH + j) * (-rate * n * u))


@compiled
def gaussian_layer(left: Array, p: int, right: Array, o: int, state: Array, start: int) -> None:
    """Numbers: h = sqrt(2|b|q / (1+2|b|q)), sqrt(1 - h^2) |a| / sqrt(variance), 1 - h^2."""
    wide()
    h_, scale_ = fetch(left, p), fetch(left, p + ROWS)
    own, one = fetch(left, p + 2 * ROWS), real(h_, 1)
    for j in range(start, WIDTH):
        h = h_ * fetch(right, o + j)
        w, other = load(state, j), fetch(right, o + 2 * WIDTH + j)
        z, rest = (one - w) * h, complement(own, other, h, w, load(state, WIDTH + j))
        u = scale_ * fetch(right, o + WIDTH + j) / math.sqrt(rest)
        put_cosine(state, j, u, load(state, 2 * WIDTH + j) * (u * h * z / rest))


@compiled
def series_layer(
    terms: int, left: Array, p: int, right: Array, o: int, state: Array, start: int
) -> None:
    """Numbers: normalised Hermite coefficients, u' = sum_j a_j b_j u^j.

    The loop over terms is the outer one, so that the inner one vectorises: value and slope are
    collected in the lines of co and t, u stays in that of w, and a fourth line keeps the old t.
    """
    wide()
    one, zero = real(load(state, 0), 1), real(load(state, 0), 0)
    for j in range(start, WIDTH):
        store(state, KEPT + j, load(state, 2 * WIDTH + j))
        put(state, j, one - load(state, j), zero, zero)
    for k in range(terms - 1, -1, -1):
        a = fetch(left, p + k * ROWS)
        for j in range(start, WIDTH):
            u, value = load(state, j), load(state, WIDTH + j)
            store(state, 2 * WIDTH + j, load(state, 2 * WIDTH + j) * u + value)
            store(state, WIDTH + j, value * u + a * fetch(right, o + k * WIDTH + j))
    for j in range(start, WIDTH):
        value, t = load(state, WIDTH + j), load(state, KEPT + j) * load(state, 2 * WIDTH + j)
        put_cosine(state, j, value, t)
