"""f(w.x), what a random neuron answers: the map of random features; mirrors formulas/neuron.hpp."""

from __future__ import annotations

from typing import Any

from numba import int64

from ntkfast.engines.numba_kernels.compiling import _compiled
from ntkfast.engines.numba_kernels.maps import RELU, STEP, WIDTH, Array
from ntkfast.engines.numba_kernels.vectors import fetch, load, real, select, store, wide


def map_neuron(problem: Any, plan: Any, s: Any, row: Any, out: Any, second: Any) -> None:
    """Features of the directions, and of their negatives."""
    x = problem.x
    factor = x.factors[row.i] * plan.scale
    cosine = x.inverse[row.i] if plan.kind > STEP else real(factor, 1)
    place = x.series[row.i, 0] if plan.placed else real(factor, 0)
    if out.wanted:
        arguments(s.products, row.r * WIDTH, cosine, s.lines)
        neuron_row(plan.kind, plan.table, plan.knots, plan.placed, place, s.lines)
        scaled(
            s.lines,
            factor,
            s.factors,
            out.values,
            out.first + row.i * out.stride + row.j0,
            row.width,
        )
    if second.wanted:
        arguments(s.products, row.r * WIDTH, -cosine, s.lines)
        neuron_row(plan.kind, plan.table, plan.knots, plan.placed, place, s.lines)
        scaled(
            s.lines,
            factor,
            s.factors,
            second.values,
            second.first + row.i * second.stride + row.j0,
            row.width,
        )


@_compiled
def arguments(products: Array, at: int, scale: Any, u: Array) -> None:
    """Write the products of a row, scaled."""
    wide()
    for j in range(WIDTH):
        store(u, j, load(products, at + j) * scale)


@_compiled
def neuron_row(kind: int, table: Array, knots: int, placed: bool, place: Any, u: Array) -> None:
    """Replace products or cosines by the answers of the neurons."""
    wide()
    zero, half, one = real(place, 0), real(place, 0.5), real(place, 1)
    if kind == RELU:
        for j in range(WIDTH):
            p = load(u, j)
            store(u, j, select(p > zero, p, zero))
    elif kind == STEP:
        for j in range(WIDTH):
            p = load(u, j)
            store(u, j, select(p > zero, one, select(p < zero, zero, half)))
    elif not placed:
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


@_compiled
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


@_compiled
def scaled(u: Array, factor: Any, factors: Array, out: Array, to: int, width: int) -> None:
    """Write a row times the factors of both sides."""
    wide()
    for j in range(width):
        store(out, to + j, load(u, j) * (factor * fetch(factors, j)))
