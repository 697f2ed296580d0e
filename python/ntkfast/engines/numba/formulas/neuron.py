"""f(w.x), what a random neuron answers: the map of random features; mirrors neuron.hpp."""

from __future__ import annotations

from typing import Any

from numba import int64

from ntkfast.engines.codes import NeuronKind
from ntkfast.engines.numba.compiling import compiled
from ntkfast.engines.numba.formulas.simd import fetch, load, real, select, store, wide
from ntkfast.engines.numba.problem import WIDTH, Array, NeuronPlan

RELU, STEP, TABLE = map(int, NeuronKind)


@compiled
def neuron_row(
    plan: NeuronPlan, place: Any, products: Array, at: int, scale: Any, u: Array
) -> None:
    """Answers of the neurons to the products of a row, times `scale`."""
    wide()
    kind, table, knots = plan.kind, plan.table, plan.knots
    for j in range(WIDTH):
        store(u, j, load(products, at + j) * scale)
    zero, half, one = real(place, 0), real(place, 0.5), real(place, 1)
    if kind == RELU:
        for j in range(WIDTH):
            p = load(u, j)
            store(u, j, select(p > zero, p, zero))
    elif kind == STEP:
        for j in range(WIDTH):
            p = load(u, j)
            store(u, j, select(p > zero, one, select(p < zero, zero, half)))
    elif not plan.placed:
        for j in range(WIDTH):
            store(u, j, interpolate(table, int64(0), knots, load(u, j)))
    else:
        first = int64(place)
        share = place - real(place, first)
        for j in range(WIDTH):
            p = load(u, j)
            low = interpolate(table, first * knots, knots, p)
            high = interpolate(table, (first + 1) * knots, knots, p)
            store(u, j, low + share * (high - low))


@compiled
def interpolate(table: Array, row: int, knots: int, u: Any) -> Any:
    """Look up a row of the table at a cosine, linearly between the knots."""
    half = real(u, 0.5) * real(u, knots - 1)
    position = u * half + half
    left = position - real(u, 0.5)
    left = select(left > real(u, 0), left, real(u, 0))
    most = real(u, knots - 2)
    knot = int64(select(left < most, left, most) + real(u, 0.5))
    low, high = fetch(table, row + knot), fetch(table, row + knot + 1)
    return low + (position - real(u, knot)) * (high - low)
