"""The state of a row of pairs, and how smooth activations change it; mirrors pair_state.hpp.

A pair is carried as w = 1-u, co = 1+u and t; the three lines of `state` hold them. Number k of the
data row is left[p + k ROWS], those of the columns are right[o + k WIDTH + j].
"""

from __future__ import annotations

from typing import Any

from ntkfast.engines.numba.compiling import compiled
from ntkfast.engines.numba.formulas.simd import fetch, load, real, select, store, wide
from ntkfast.engines.numba.problem import KEPT, ROWS, WIDTH, Array

NEAR = 1 / 16  # below this 1-|u| is no longer formed from u
OLD = KEPT  # two lines: w and co before the activation


@compiled
def put(state: Array, j: int, w: Any, co: Any, t: Any) -> None:
    """Store the state of a pair."""
    store(state, j, w)
    store(state, WIDTH + j, co)
    store(state, 2 * WIDTH + j, t)


@compiled
def cosine(w: Any, co: Any) -> Any:
    """Return u, of either sign."""
    one = real(w, 1)
    return select(w < co, one - w, co - one)


@compiled
def sine_of_difference(sine: Any, cosine: Any, sine_: Any, cosine_: Any) -> Any:
    """sin(a-b) from sines and cosines of angles up to 90 degrees: 0 for equal ones."""
    return (sine - sine_) * cosine_ - sine_ * (cosine - cosine_)


@compiled
def keep_old(state: Array, start: int) -> None:
    """Keep w and co, which `near` forms need after u has been stored."""
    wide()
    for j in range(start, WIDTH):
        store(state, OLD + j, load(state, j))
        store(state, OLD + WIDTH + j, load(state, WIDTH + j))


@compiled
def put_dual(state: Array, j: int, u: Any, slope: Any) -> Any:
    """Store u in the line of w, and the new t; returns whether 1-|u| must come from `near`."""
    store(state, j, u)
    store(state, 2 * WIDTH + j, load(state, 2 * WIDTH + j) * slope)
    return select(real(u, 1) - abs(u) < real(u, NEAR), 1, 0)


@compiled
def put_near(state: Array, j: int, u: Any, near: Any) -> None:
    """Store w and co where 1-|u| may be small, which `near` is then."""
    one, zero = real(u, 1), real(u, 0)
    small = one - abs(u)
    exact = select(near > zero, near, zero)
    small = select(small < real(u, NEAR), exact, small)
    large = one + one - small
    store(state, j, select(u < zero, large, small))
    store(state, WIDTH + j, select(u < zero, small, large))


@compiled
def put_far(state: Array, start: int) -> None:
    """Replace u by w and co where no pair is near."""
    wide()
    one = real(load(state, 0), 1)
    for j in range(start, WIDTH):
        u = load(state, j)
        store(state, j, one - u)
        store(state, WIDTH + j, one + u)


@compiled
def mismatch(left: Array, p: int, right: Array, o: int, root: int, half: Any, dual: Any) -> Any:
    """1 - K(q, p) / sqrt(K(q, q) K(p, p)) at equal directions; see the header."""
    own, other = fetch(left, p + root * ROWS), fetch(right, o + root * WIDTH)
    gap = own - other
    inverse, inverse_ = fetch(left, p + (root + 1) * ROWS), fetch(right, o + (root + 1) * WIDTH)
    square = (gap * inverse) * (gap * inverse_)
    return select(square < real(gap, 0.25), half - real(gap, 0.5) * square, real(gap, 1) - dual)
