"""The map on a row of a tile, one of four by the kind of plan, and what it needs of data rows."""

from __future__ import annotations

from typing import Any

from numba.extending import overload

from ntkfast.engines.numba.compiling import compiled, inlined
from ntkfast.engines.numba.cpu.angles import angles
from ntkfast.engines.numba.formulas.layer import diagonal_row, evaluate_layers, to_cosine, to_state
from ntkfast.engines.numba.formulas.neuron import TABLE, arguments, neuron_row
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
    Scratch,
    Table,
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
        size = max(float(side.norms[first + i]), plan.least)
        row_stats(plan.layers, size, side.series, first + i, out, i, stride)


@compiled
def scaled(
    u: Array,
    at: int,
    factor: Any,
    factors: Array,
    o: int,
    out: Array,
    to: int,
    first: int,
    end: int,
) -> None:
    """Write a line times the factors of both sides."""
    wide()
    for j in range(first, end):
        store(out, to + j, load(u, at + j) * (factor * fetch(factors, o + j)))


@inlined
def write(s: Scratch, row: Row, at: int, factor: Any, factors: Array, o: int, out: Target) -> None:
    """Write the line that begins at `at`, times the factors of both sides."""
    to = out.first + row.i * out.stride + row.j0
    scaled(s.lines, at, factor, factors, o, out.values, to, row.first, row.width)


def map_profile(problem: Any, plan: Any, s: Any, row: Any, out: Any, second: Any) -> None:
    """One or two profiles."""
    angles(problem, s, row)
    factor = problem.x.factors[row.i]
    write_profile(plan.first, s, row, factor, out)
    if second.wanted:
        write_profile(plan.second, s, row, factor, second)


@inlined
def write_profile(table: Table, s: Scratch, row: Row, factor: Any, out: Target) -> None:
    """Evaluate a profile at the lines of `angles`, times both factors."""
    profile_row(
        table.values,
        table.degree,
        table.shift,
        table.pieces,
        table.numbers,
        s.lines,
        row.first,
        row.width,
    )
    write(s, row, 2 * WIDTH, factor * table.numbers[4], s.factors, 0, out)


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
    write(s, row, WIDTH, x.factors[row.i], s.factors, 0, out)


def map_neuron(problem: Any, plan: Any, s: Any, row: Any, out: Any, second: Any) -> None:
    """Features of the directions, and of their negatives."""
    factor = problem.x.factors[row.i] * plan.scale
    cosine = problem.x.inverse[row.i] if plan.kind == TABLE else real(factor, 1)
    place = problem.x.series[row.i, 0] if plan.placed else real(factor, 0)
    if out.wanted:
        write_neuron(plan, s, row, cosine, place, factor, out)
    if second.wanted:
        write_neuron(plan, s, row, -cosine, place, factor, second)


@inlined
def write_neuron(
    plan: NeuronPlan, s: Scratch, row: Row, cosine: Any, place: Any, factor: Any, out: Target
) -> None:
    """Answers of neurons to the products times `cosine`."""
    arguments(s.products, row.r * WIDTH, cosine, s.lines)
    neuron_row(plan.kind, plan.table, plan.knots, plan.placed, place, s.lines)
    write(s, row, 0, factor, s.factors, 0, out)


def map_layers(problem: Any, plan: Any, s: Any, row: Any, out: Any, second: Any) -> None:
    """NTK, NNGP or both from the recursion over layers."""
    angles(problem, s, row)
    start = row.first // PANEL * PANEL
    equal = to_state(s.lines, start)
    last = evaluate_layers(plan.layers, s.rows, row.r, s.columns, s.lines, start)
    root, o = s.rows[last * ROWS + row.r], last * WIDTH
    if out.wanted:
        write(s, row, 2 * WIDTH, root * plan.scales[0], s.columns, o, out)
    if second.wanted:
        to_cosine(s.lines, row.first, row.width)
        write(s, row, 0, root * plan.scales[1], s.columns, o, second)
    if equal and len(problem.x.diagonal):
        if out.wanted:
            write_diagonal(problem.x, s, row, 0, out)
        if second.wanted:
            write_diagonal(problem.x, s, row, 1, second)


@inlined
def write_diagonal(x: Any, s: Scratch, row: Row, which: int, out: Target) -> None:
    """Write the NTK or NNGP of equal inputs."""
    to = out.first + row.i * out.stride + row.j0
    norm, value = x.norms[row.i], x.diagonal[row.i, which]
    diagonal_row(s.lines, norm, s.factors, value, out.values, to, row.first, row.width)
