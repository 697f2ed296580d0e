"""exp(-c r^gamma): the Laplace, exponential-power and Gaussian kernels; mirrors radial.hpp."""

from __future__ import annotations

import math
from typing import Any

from ntkfast.engines.numba.compiling import compiled
from ntkfast.engines.numba.formulas.exponential import constant, exponential, logarithm
from ntkfast.engines.numba.formulas.simd import fetch, load, plus, real, select, store, wide
from ntkfast.engines.numba.problem import WIDTH, Array


@compiled
def squared_distances(
    products: Array, at: int, norm: Any, norms: Array, share: Any, u: Array
) -> int:
    """Write |x - y|^2 to the second line, 1 for close pairs to the first; returns their number."""
    wide()
    two, zero, one = real(norm, 2), real(norm, 0), real(norm, 1)
    close = 0
    for j in range(WIDTH):
        q = fetch(norms, WIDTH + j)
        total = norm * norm + q * q
        r2 = total - two * load(products, at + j)
        r2 = select(r2 > zero, r2, zero)
        is_close = r2 < total * share
        store(u, j, select(is_close, one, zero))
        store(u, WIDTH + j, r2)
        close += select(is_close, 1, 0)
    return close


@compiled
def squared_distance(x: Array, at: int, norm: Any, y: Array, to: int, dimension: int) -> Any:
    """|x - y|^2."""
    total = real(norm, 0)
    for k in range(dimension):
        difference = fetch(x, at + k) - fetch(y, to + k)
        total = plus(total, difference * difference)
    return total


@compiled
def refine_distances(
    x: Array,
    at: int,
    norm: Any,
    y: Array,
    to: int,
    stride: int,
    dimension: int,
    first: int,
    width: int,
    u: Array,
) -> None:
    """Recompute the squared distances of close pairs from differences."""
    wide()
    for j in range(first, width):
        if load(u, j) > real(norm, 0):
            r2 = squared_distance(x, at, norm, y, to + j * stride, dimension)
            store(u, WIDTH + j, r2)


@compiled
def chords(u: Array) -> None:
    """Replace v = (1-|u|)/2 by the squared distance of the directions."""
    wide()
    zero, one, four = real(load(u, 0), 0), real(load(u, 0), 1), real(load(u, 0), 4)
    for j in range(WIDTH):
        v = load(u, WIDTH + j)
        store(u, WIDTH + j, four * select(load(u, j) < zero, one - v, v))


@compiled
def radial_row(numbers: Array, power: int, u: Array, first: int, width: int) -> None:
    """Replace the squared distances in the second line by exp(-c r^gamma)."""
    wide()
    rate, gamma = -fetch(numbers, 0), fetch(numbers, 1)
    zero, half, tiny = real(rate, 0), real(rate, 0.5), constant("tiny", rate)
    if power == 1:
        for j in range(WIDTH):
            store(u, WIDTH + j, rate * math.sqrt(load(u, WIDTH + j)))
    elif power == 2:
        for j in range(WIDTH):
            store(u, WIDTH + j, rate * load(u, WIDTH + j))
    else:
        for j in range(WIDTH):
            r2 = load(u, WIDTH + j)
            raised = exponential(half * gamma * logarithm(select(r2 > tiny, r2, tiny)))
            store(u, WIDTH + j, select(r2 > zero, rate * raised, zero))
    for j in range(first, width):
        store(u, WIDTH + j, exponential(load(u, WIDTH + j)))
