"""Prepares Gram matrices and products for compiled code; mirrors bind_gram.cpp and run.hpp."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ntkfast.arrays.collections import FloatArray, Rows
from ntkfast.engines.codes import (
    PIECES,
    REFINE_DISTANCE,
    REFINE_LAYERS,
    REFINE_SPHERE,
    NeuronKind,
)
from ntkfast.engines.maps import LayerMap, Map, NeuronMap, ProfileMap, RadialMap
from ntkfast.engines.norms import norm_powers
from ntkfast.engines.numba.cpu.tile import gram_task, pair_task, product_task
from ntkfast.engines.numba.cpu.turns import Turns, block_pair, count_pairs, product_block
from ntkfast.engines.numba.fine_table import fine_table
from ntkfast.engines.numba.formulas.profile import permutes
from ntkfast.engines.numba.formulas.row_stats import count_stats
from ntkfast.engines.numba.memory import flat_rows, zeros
from ntkfast.engines.numba.parallel import Task, share
from ntkfast.engines.numba.problem import (
    CHUNK,
    EQUAL,
    PANEL,
    ROWS,
    WIDTH,
    LayersPlan,
    NeuronPlan,
    Problem,
    ProfilePlan,
    RadialPlan,
    Scratch,
    Side,
    Table,
    Target,
)

SUMS_BYTES = 1 << 20  # of a product's sums that a thread keeps
PRODUCT_COLUMNS = 1024  # of a symmetric product that are done at once: they bound its sums


def run(
    plan: Map,
    second: Map | None,
    X: Rows,
    Y: Rows | None,
    outs: tuple[FloatArray | None, FloatArray | None],
    threads: int,
    right: FloatArray | None = None,
    product: FloatArray | None = None,
) -> None:
    """Compute one or two Gram matrices, or the product of one with `right`."""
    dtype = X.data.dtype
    degree = 0.0 if isinstance(plan, LayerMap) else plan.degree
    x = side(X, degree)
    y = x if Y is None else side(Y, degree)
    columns = 0 if right is None else right.shape[1]
    symmetric, chunk = Y is None, CHUNK
    if columns and symmetric:
        chunk = product_block(len(X), columns)
    elif columns:
        fit = SUMS_BYTES // (8 * columns) // ROWS * ROWS
        chunk = min(max(fit, ROWS), chunk)
    front, back = refine(plan, second, dtype)
    problem = Problem(
        x=x,
        y=y,
        dimension=X.data.shape[1],
        symmetric=symmetric,
        scaled=not (
            isinstance(plan, NeuronMap) or (isinstance(plan, RadialMap) and plan.euclidean)
        ),
        refine_front=dtype.type(front),
        refine_back=dtype.type(back),
        out=_target(outs[0], dtype),
        out_second=_target(outs[1], dtype),
        right=np.empty((0, 0), dtype) if right is None else np.array(right, order="C"),
        use_second=isinstance(plan, LayerMap) and plan.second,
        product=_target(product, dtype),
        chunk=chunk,
        cancelled=np.zeros(1, np.uint8),
    )
    made = prepared(plan, second, dtype)
    depth = 8 * len(plan.numbers) if isinstance(plan, LayerMap) else 0
    cost = len(X) * y.height * (problem.dimension + columns + depth + 16.0)
    if columns and symmetric:
        assert product is not None
        product[:] = _each_pair_once(problem, made, threads, cost / 2)
        return
    compute: Any = product_task if columns else gram_task

    def thread() -> Task:
        scratch, packed = scratch_of(problem, made), -1

        def task(number: int) -> None:
            nonlocal packed
            packed = compute(problem, made, scratch, number, packed)

        return task

    tasks = -(-len(X) // chunk) * (1 if columns else -(-y.height // WIDTH))
    share(thread, problem.cancelled, tasks, threads, cost)


def _each_pair_once(problem: Problem, plan: Any, threads: int, cost: float) -> NDArray[np.float64]:
    """Return a symmetric product."""
    n, columns, block = problem.x.height, problem.right.shape[1], problem.chunk
    blocks = -(-n // block)
    turns = Turns(n, columns, block, problem.cancelled)

    def thread() -> Task:
        scratch = scratch_of(problem, plan)
        rows = scratch.sums.reshape(block, columns)
        turned = scratch.turned_sums.reshape(columns, block).T

        def task(number: int) -> None:
            pair = block_pair(number, blocks)
            pair_task(problem, plan, scratch, pair.first, pair.second)
            turns.add(pair, rows, turned)

        return task

    share(thread, problem.cancelled, count_pairs(blocks), threads, cost)
    return turns.sums


def matmul(
    plan: Map, X: Rows, Y: Rows | None, V: FloatArray, out: FloatArray, threads: int
) -> None:
    """Write K(X, Y) V to `out`; Y = None is symmetric: every pair is evaluated once."""
    step = PRODUCT_COLUMNS if Y is None else V.shape[1]
    for c in range(0, V.shape[1], step):
        part = slice(c, c + step)
        run(plan, None, X, Y, (None, None), threads, V[:, part], out[:, part])


def prepared(plan: Map, second: Map | None, dtype: np.dtype[Any]) -> Any:
    """Return the plan as compiled code wants it."""
    if isinstance(plan, ProfileMap):
        return ProfilePlan(_table(plan), _table(second if isinstance(second, ProfileMap) else plan))
    if isinstance(plan, RadialMap):
        power = int(plan.gamma) if plan.gamma in (1, 2) else 0
        return RadialPlan(np.array([plan.c, plan.gamma], dtype), power, plan.euclidean)
    if isinstance(plan, NeuronMap):
        kind, (rows, knots) = int(NeuronKind[plan.kind.upper()]), plan.table.shape
        return NeuronPlan(kind, plan.table.ravel(), knots, rows > 1, dtype.type(plan.scale))
    scales = np.array(plan.scales, dtype)
    return LayersPlan(plan.numbers, count_stats(plan.numbers), scales, plan.exponent)


def _table(plan: ProfileMap) -> Table:
    """Return the table of a profile: its own where a permutation looks it up."""
    if permutes():
        mantissa = 52 if plan.table.itemsize == 8 else 23
        values = zeros(plan.table.size, plan.table.dtype)
        values[:] = plan.table.ravel()
        shift, pieces = mantissa - plan.sub_bits, PIECES
    else:
        values, shift, pieces = fine_table(plan)
    numbers = np.array([*plan.stretch, *plan.base, plan.scale], plan.table.dtype)
    return Table(values, len(plan.table) - 1, shift, pieces, numbers)


def side(rows: Rows, degree: float) -> Side:
    """Return a side's rows and what depends on them alone."""
    norms = np.array(rows.norms)
    series = np.empty((1, 1), norms.dtype) if rows.series is None else rows.series
    diagonal = np.empty((0, 2), norms.dtype) if rows.diagonal is None else rows.diagonal
    return Side(
        *flat_rows(rows.data),
        len(rows),
        norms,
        norm_powers(norms, -1.0),
        norm_powers(norms, degree),
        np.array(series, order="C"),
        np.array(diagonal, order="C"),
    )


def refine(plan: Map, second: Map | None, dtype: np.dtype[np.floating]) -> tuple[float, float]:
    """Return the (1-|u|)/2 below which pairs are recomputed from differences, at either end."""
    if isinstance(plan, NeuronMap):
        return 0.0, 0.0
    if isinstance(plan, RadialMap):
        return (REFINE_DISTANCE if plan.euclidean else REFINE_SPHERE), 0.0
    if isinstance(plan, LayerMap):
        return REFINE_LAYERS, REFINE_LAYERS
    front, back = plan.refine_below
    if isinstance(second, ProfileMap):
        front, back = max(front, second.refine_below[0]), max(back, second.refine_below[1])
    return front, back


def _target(out: FloatArray | None, dtype: np.dtype[Any]) -> Target:
    if out is None:
        return Target(False, np.empty(0, dtype), 0, 0)
    return Target(True, *flat_rows(out))


def scratch_of(problem: Problem, plan: Any) -> Scratch:
    """Return the buffers of one thread."""
    dtype, columns = problem.x.data.dtype, problem.right.shape[1]
    stats = plan.stats if isinstance(plan, LayersPlan) else 0
    tile, panels = ROWS * WIDTH, -(-columns // PANEL)
    turned = columns if problem.symmetric else 0
    return Scratch(
        packed=zeros(WIDTH * problem.dimension, dtype),
        products=zeros(tile, dtype),
        values=zeros(tile if columns else 0, dtype),
        factors=zeros(3 * WIDTH, dtype),
        lines=zeros(EQUAL + WIDTH, dtype),
        columns=zeros(stats * WIDTH, dtype),
        rows=zeros(stats * ROWS, dtype),
        packed_right=zeros(panels * PANEL * WIDTH, dtype),
        sums=zeros(problem.chunk * columns, np.float64),
        turned_right=zeros(turned * ROWS, dtype),
        turned_sums=zeros(problem.chunk * turned, np.float64),
    )
