"""erf and GELU, whose duals are arc sines, on a row of pairs; mirrors arcsine_duals.hpp."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from ntkfast.engines.numba.compiling import compiled
from ntkfast.engines.numba.formulas.arccos import arc_sine, arc_sine_excess, arc_sine_ratio
from ntkfast.engines.numba.formulas.exponential import constant
from ntkfast.engines.numba.formulas.pair_state import (
    OLD,
    keep_old,
    mismatch,
    put_dual,
    put_far,
    put_near,
    sine_of_difference,
)
from ntkfast.engines.numba.formulas.simd import fetch, load, real, select, wide
from ntkfast.engines.numba.problem import ROWS, WIDTH, Array


class ArcSine(NamedTuple):
    """The arc sine of z = h h' u, in the names of the header."""

    size: Any  # |u|
    product: Any  # 1 - u^2
    front: Any  # whether u > 0
    small: Any  # 1 - |u|
    g: Any
    sum: Any
    z1: Any
    z: Any
    rest1: Any
    rest: Any
    e1: Any
    e: Any


@compiled
def pair(left: Array, p: int, right: Array, o: int, k: int) -> Any:
    """Product of the k-th numbers of both sides."""
    return fetch(left, p + k * ROWS) * fetch(right, o + k * WIDTH)


@compiled
def arcs(left: Array, p: int, right: Array, o: int, w: Any, co: Any) -> ArcSine:
    """Of h and c, the first two numbers."""
    one, c, c_ = real(w, 1), fetch(left, p + ROWS), fetch(right, o + WIDTH)
    own, square, front = c * c, c_ * c_, w < co
    small = select(front, w, co)
    size, product, z1 = one - small, w * co, pair(left, p, right, o, 0)
    rest1 = own + square * (one - own)
    rest = rest1 + z1 * z1 * product
    e1, e = math.sqrt(rest1), math.sqrt(rest)
    return ArcSine(
        size, product, front, small, c * c_, own + square, z1, z1 * size, rest1, rest, e1, e
    )


@compiled
def turned(s: ArcSine) -> Any:
    """K with sin(asin(z1) - asin(|z|)) = z1 k."""
    return s.product / (s.e + s.size * s.e1)


@compiled
def spread(a: Any, cosine: Any, a_: Any, cosine_: Any, z1: Any, e1: Any) -> Any:
    """Gap A - A' and bend (A + A')/2 - C of the arc sines of h^2, h'^2 and h h'."""
    one, zero, half = real(z1, 1), real(z1, 0), real(z1, 0.5)
    sine = sine_of_difference(a, cosine, a_, cosine_)
    both, mean = cosine * cosine_, a * a_
    near, doubled = both + mean, both - mean
    gap = arc_sine(sine, near * near)
    large = math.sqrt(half + half * abs(doubled))
    small = half * (a * cosine_ + cosine * a_) / large
    acute = doubled > zero
    middle = select(acute, small, large) * e1 + select(acute, large, small) * z1
    tiny = constant("smallest", z1)
    middle = select(middle > tiny, middle, tiny)
    bent = sine * (sine / ((one + one) * (one + near) * middle))
    bent = select(bent < one, bent, one)
    return gap, arc_sine(bent, (one - bent) * (one + bent))


@compiled
def erf_layer(left: Array, p: int, right: Array, o: int, state: Array, start: int) -> None:
    """Apply a erf(b x) + c."""
    wide()
    keep_old(state, start)
    near = 0
    for j in range(start, WIDTH):
        s = arcs(left, p, right, o + j, load(state, OLD + j), load(state, OLD + WIDTH + j))
        odd = pair(left, p, right, o + j, 3) * s.size * arc_sine_ratio(s.z, s.rest)
        u = pair(left, p, right, o + j, 4) + select(s.front, odd, -odd)
        near += put_dual(state, j, u, pair(left, p, right, o + j, 2) / s.e)
    if near == 0:
        put_far(state, start)
        return
    for j in range(start, WIDTH):
        w, co = load(state, OLD + j), load(state, OLD + WIDTH + j)
        put_near(state, j, load(state, j), erf_near(left, p, right, o + j, w, co, load(state, j)))


@compiled
def erf_near(left: Array, p: int, right: Array, o: int, w: Any, co: Any, u: Any) -> Any:
    """1 - |u| of erf."""
    s, zero = arcs(left, p, right, o, w, co), real(w, 0)
    h, h_, m, m_ = (
        fetch(left, p),
        fetch(right, o),
        fetch(left, p + 2 * ROWS),
        fetch(right, o + 2 * WIDTH),
    )
    share, shift = pair(left, p, right, o, 3), pair(left, p, right, o, 4)
    rate = fetch(left, p + 3 * ROWS) / h * (fetch(right, o + 3 * WIDTH) / h_)
    bend = rate * spread(h * h, m * m, h_ * h_, m_ * m_, s.z1, s.e1)[1]
    top = share * arc_sine_ratio(s.z1, s.rest1)
    own = mismatch(left, p, right, o, 5, bend, shift + top)
    turn, cosine = turned(s), s.e * s.e1 + s.z1 * s.z
    turn = share * turn * arc_sine_ratio(s.z1 * turn, cosine * cosine)
    far = top + share * s.size * arc_sine_ratio(s.z, s.rest)
    return own + select(s.front, turn, select(u < zero, turn + (shift + shift), far))


@compiled
def even_part(s: ArcSine, size: Any, arc: Any, rest: Any, e: Any) -> Any:
    """Return the even part of GELU's dual over sqrt(q q') and times 2 pi."""
    return size * arc + s.z1 * (s.g * s.g * (size * size) + rest) / e


@compiled
def gelu_layer(left: Array, p: int, right: Array, o: int, state: Array, start: int) -> None:
    """Apply GELU."""
    wide()
    keep_old(state, start)
    fourth, over = real(load(state, 0), 0.25), real(load(state, 0), 0.15915494309189533577)
    near = 0
    for j in range(start, WIDTH):
        s = arcs(left, p, right, o + j, load(state, OLD + j), load(state, OLD + WIDTH + j))
        arc, u = arc_sine(s.z, s.rest), fourth * s.size
        value = even_part(s, s.size, arc, s.rest, s.e) * over
        turn = (arc + s.z / s.e * (s.g * s.g / s.rest + s.sum)) * over
        value = pair(left, p, right, o + j, 5) * (value + select(s.front, u, -u))
        slope = pair(left, p, right, o + j, 6) * (fourth + select(s.front, turn, -turn))
        near += put_dual(state, j, value, slope)
    if near == 0:
        put_far(state, start)
        return
    for j in range(start, WIDTH):
        w, co = load(state, OLD + j), load(state, OLD + WIDTH + j)
        put_near(state, j, load(state, j), gelu_near(left, p, right, o + j, w, co))


@compiled
def gelu_near(left: Array, p: int, right: Array, o: int, w: Any, co: Any) -> Any:
    """1 - |u| of GELU."""
    s, one, half = arcs(left, p, right, o, w, co), real(w, 1), real(w, 0.5)
    over, fourth = real(w, 0.15915494309189533577), real(w, 0.25)
    square, arc, arc1, turn = (
        s.g * s.g,
        arc_sine(s.z, s.rest),
        arc_sine(s.z1, s.rest1),
        turned(s),
    )
    even1, sine = even_part(s, one, arc1, s.rest1, s.e1), s.z1 * turn
    cosine = one + s.e * s.e1 + s.z1 * s.z
    lost = w * arc + s.e1 * sine * turn / cosine + arc_sine_excess(select(sine < half, sine, half))
    lost += s.z1 * s.product * (s.rest1 + square * (one + one / (s.e * s.e1))) / (s.e + s.e1)
    both = even1 + even_part(s, s.size, arc, s.rest, s.e)
    away = fourth * s.small + select(s.front, lost, both) * over
    share = pair(left, p, right, o, 5)
    bend = share * gelu_bend(left, p, right, o, s, arc1)
    own = mismatch(left, p, right, o, 7, bend, share * (fourth + even1 * over))
    return share * away + gelu_large(left, p, right, o, s, share, own)


@compiled
def gelu_large(
    left: Array, p: int, right: Array, o: int, s: ArcSine, share: Any, other: Any
) -> Any:
    """Return the mismatch where both variances are large; see the header."""
    one, h, h_ = real(share, 1), fetch(left, p), fetch(right, o)
    c, c_ = fetch(left, p + ROWS), fetch(right, o + WIDTH)
    e, e_ = fetch(left, p + 4 * ROWS) * c * c, fetch(right, o + 4 * WIDTH) * c_ * c_
    both = gelu_lack(s.e1, s.z1, s.g)
    own, own_ = gelu_lack(e, h * h, c * c), gelu_lack(e_, h_ * h_, c_ * c_)
    lost = (both - own) + (both - own_) + own * own_ - both * both
    apart = lost * (share * share) / (real(one, 4) + real(one, 2) * share * (one - both))
    gap = fetch(left, p + 7 * ROWS) - fetch(right, o + 7 * WIDTH)
    square = (gap * fetch(left, p + 8 * ROWS)) * (gap * fetch(right, o + 8 * WIDTH))
    sine = select(e > e_, e, e_)
    return select((sine < real(one, 0.5)) & (sine * sine * sine < square), apart, other)


@compiled
def gelu_lack(sine: Any, cosine: Any, g: Any) -> Any:
    """Return what the dual lacks; see the header."""
    one, half, over = real(sine, 1), real(sine, 0.5), real(sine, 0.3183098861837907)
    cut = arc_sine_excess(select(sine < half, sine, half)) + sine * sine * sine / (one + cosine)
    return (cut - cosine * g * g / sine) * over


@compiled
def gelu_bend(left: Array, p: int, right: Array, o: int, s: ArcSine, arc1: Any) -> Any:
    """Half the sum of the duals of either input with itself, less that of both; see the header."""
    one, half, over = real(arc1, 1), real(arc1, 0.5), real(arc1, 0.15915494309189533577)
    fourth = half * half
    gap = fetch(left, p + 2 * ROWS) - fetch(right, o + 2 * WIDTH)
    plus, minus = gap * fetch(left, p + 3 * ROWS), gap * fetch(right, o + 3 * WIDTH)
    square, total = plus * minus, plus + minus
    h, h_, c, c_ = fetch(left, p), fetch(right, o), fetch(left, p + ROWS), fetch(right, o + WIDTH)
    x1, x2, x = fetch(left, p + 4 * ROWS), fetch(right, o + 4 * WIDTH), s.e1 / s.g
    a, a_ = h * h, h_ * h_
    between, bend = spread(a, x1 * c * c, a_, x2 * c_ * c_, s.z1, s.e1)
    turns = half * square * arc1 + (half * square + one) * bend + fourth * total * between
    first = (one - one / (x1 * x)) / (x1 + x)
    second = (one - one / (x * x2)) / (x + x2)
    apart = (c * gap * c_) * (h * c_ + c * h_)
    roots = apart * (s.g * s.g * (x + one / x))
    roots += half * ((a * a + a_ * a_) * (first - second) + (a - a_) * (a + a_) * (first + second))
    return half * fourth * square + (turns + half * total * roots) * over
