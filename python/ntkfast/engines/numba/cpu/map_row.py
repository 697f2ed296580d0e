"""The map on a row of a tile, one of four by the kind of plan, and what it needs of data rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.extending import overload

from ntkfast.engines.numba.compiling import compiled
from ntkfast.engines.numba.cpu.angles import angles
from ntkfast.engines.numba.formulas.layer import diagonal_row, evaluate_layers, to_cosine, to_state
from ntkfast.engines.numba.formulas.neuron import TABLE, neuron_row
from ntkfast.engines.numba.formulas.profile import profile_row
from ntkfast.engines.numba.formulas.radial import (
    chords,
    radial_row,
    refine_distances,
    squared_distances,
)
from ntkfast.engines.numba.formulas.row_stats import row_stats
from ntkfast.engines.numba.formulas.simd import fetch, load, real, store, wide
from ntkfast.engines.numba.problem import (
    PANEL,
    ROWS,
    WIDTH,
    Array,
    LayersPlan,
    NeuronPlan,
    ProfilePlan,
    RadialPlan,
    Row,
    Target,
)


def map_row(problem: Any, plan: Any, s: Any, row: Any, out: Any, second: Any) -> None:
    """Evaluate the map on a row of a tile: one of four functions, by kind of plan."""
    raise NotImplementedError


@overload(map_row, inline="always")
def _map_row(problem: Any, plan: Any, s: Any, row: Any, out: Any, second: Any) -> Any:
    kinds = {
        ProfilePlan: map_profile,
        RadialPlan: map_radial,
        NeuronPlan: map_neuron,
        LayersPlan: map_layers,
    }
    return kinds[plan.instance_class]


def prepare(plan: Any, side: Any, first: Any, count: Any, out: Any, stride: Any) -> None:
    """Write what the layers need of the data rows from `first` on, with this stride."""
    raise NotImplementedError


@overload(prepare, inline="always")
def _prepare(plan: Any, side: Any, first: Any, count: Any, out: Any, stride: Any) -> Any:
    return prepare_layers if plan.instance_class is LayersPlan else prepare_nothing


def prepare_nothing(plan: Any, side: Any, first: Any, count: Any, out: Any, stride: Any) -> None:
    """Other maps need nothing."""


def prepare_layers(plan: Any, side: Any, first: Any, count: Any, out: Any, stride: Any) -> None:
    """Numbers of data rows for the layer map."""
    for i in range(min(count, side.height - first)):
        size, row = np.float64(side.norms[first + i]), first + i
        row_stats(plan.layers, plan.exponent, size, side.series, row, out, i, stride)


@compiled
def write(u: Array, at: int, factor: Any, factors: Array, o: int, row: Row, out: Target) -> None:
    """Write the line that begins at `at`, times the factors of both sides."""
    wide()
    to = out.first + row.i * out.stride + row.j0
    for j in range(row.first, row.width):
        store(out.values, to + j, load(u, at + j) * (factor * fetch(factors, o + j)))


def map_profile(problem: Any, plan: Any, s: Any, row: Any, out: Any, second: Any) -> None:
    """One or two profiles."""
    angles(problem, s, row)
    factor = problem.x.factors[row.i]
    profile_row(plan.first, s.lines, row.first, row.width)
    write(s.lines, 2 * WIDTH, factor * plan.first.numbers[4], s.factors, 0, row, out)
    if second.wanted:
        profile_row(plan.second, s.lines, row.first, row.width)
        write(s.lines, 2 * WIDTH, factor * plan.second.numbers[4], s.factors, 0, row, second)


def map_radial(problem: Any, plan: Any, s: Any, row: Any, out: Any, second: Any) -> None:
    """Laplace and its relatives."""
    x, y = problem.x, problem.y
    if plan.euclidean:
        norm, at = x.norms[row.i], row.r * WIDTH
        if squared_distances(s.products, at, norm, s.factors, problem.refine_front, s.lines):
            refine_distances(
                x.data,
                x.first + row.i * x.stride,
                norm,
                y.data,
                y.first + row.j0 * y.stride,
                y.stride,
                problem.dimension,
                row.first,
                row.width,
                s.lines,
            )
    else:
        angles(problem, s, row)
        chords(s.lines)
    radial_row(plan.numbers, plan.power, s.lines, row.first, row.width)
    write(s.lines, WIDTH, x.factors[row.i], s.factors, 0, row, out)


def map_neuron(problem: Any, plan: Any, s: Any, row: Any, out: Any, second: Any) -> None:
    """Features of the directions, and of their negatives."""
    factor, at = problem.x.factors[row.i] * plan.scale, row.r * WIDTH
    cosine = problem.x.inverse[row.i] if plan.kind == TABLE else real(factor, 1)
    place = problem.x.series[row.i, 0] if plan.placed else real(factor, 0)
    if out.wanted:
        neuron_row(plan, place, s.products, at, cosine, s.lines)
        write(s.lines, 0, factor, s.factors, 0, row, out)
    if second.wanted:
        neuron_row(plan, place, s.products, at, -cosine, s.lines)
        write(s.lines, 0, factor, s.factors, 0, row, second)


def map_layers(problem: Any, plan: Any, s: Any, row: Any, out: Any, second: Any) -> None:
    """NTK, NNGP or both from the recursion over layers."""
    angles(problem, s, row)
    start = row.first // PANEL * PANEL
    equal = to_state(s.lines, start)
    last = evaluate_layers(plan.layers, s.rows, row.r, s.columns, s.lines, start)
    p, o = last * ROWS + row.r, last * WIDTH
    if out.wanted:
        root = s.rows[p + ROWS] * plan.scales[0]
        write(s.lines, 2 * WIDTH, root, s.columns, o + WIDTH, row, out)
    if second.wanted:
        to_cosine(s.lines, row.first, row.width)
        write(s.lines, 0, s.rows[p] * plan.scales[1], s.columns, o, row, second)
    if equal and len(problem.x.diagonal):
        norm = problem.x.norms[row.i]
        if out.wanted:
            diagonal_row(s.lines, norm, s.factors, problem.x.diagonal[row.i, 0], row, out)
        if second.wanted:
            diagonal_row(s.lines, norm, s.factors, problem.x.diagonal[row.i, 1], row, second)
