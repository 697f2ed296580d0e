"""Prepares Gram matrices and products for compiled code; mirrors bind_gram.cpp and run.hpp."""

from __future__ import annotations

from typing import Any

import numpy as np

from ntkfast.arrays.collections import FloatArray, Rows, Values
from ntkfast.arrays.panels import panels
from ntkfast.engines.codes import (
    PIECES,
    REFINE_DISTANCE,
    REFINE_LAYERS,
    REFINE_SPHERE,
    NeuronKind,
)
from ntkfast.engines.groups import Groups, group_rows
from ntkfast.engines.maps import LayerMap, Map, NeuronMap, ProfileMap, RadialMap
from ntkfast.engines.norms import norm_powers
from ntkfast.engines.numba.cpu.tile import gram_task, pair_task, product_task
from ntkfast.engines.numba.cpu.turns import (
    Turns,
    add_in_turn,
    count_in_groups,
    pair_across,
    pair_in_groups,
    product_block,
)
from ntkfast.engines.numba.fine_table import fine_table
from ntkfast.engines.numba.formulas.profile import permutes
from ntkfast.engines.numba.formulas.row_stats import count_stats
from ntkfast.engines.numba.memory import flat_rows, zeros
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
from ntkfast.engines.parallel import Task, share

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
    """Compute one or two Gram matrices, or the rectangular product of one with `right`."""
    problem, made, cost = _problem(plan, second, X, Y, outs, right, product)
    columns, compute = problem.right.shape[1], product_task if product is not None else gram_task

    def thread() -> Task:
        scratch, packed = scratch_of(problem, made), -1

        def task(number: int) -> None:
            nonlocal packed
            packed = compute(problem, made, scratch, number, packed)

        return task

    tasks = -(-len(X) // problem.chunk) * (1 if columns else -(-problem.y.height // WIDTH))
    share(thread, problem.cancelled, tasks, threads, cost)


def _problem(
    plan: Map,
    second: Map | None,
    X: Rows,
    Y: Rows | None,
    outs: tuple[FloatArray | None, FloatArray | None],
    right: FloatArray | None = None,
    product: FloatArray | None = None,
    left: FloatArray | None = None,
    total: int = 0,
) -> tuple[Problem, Any, float]:
    """Return a problem, the plan as compiled code wants it, and what it costs, about."""
    dtype = X.data.dtype
    degree = 0.0 if isinstance(plan, LayerMap) else plan.degree
    x = side(X, degree)
    y = x if Y is None else side(Y, degree)
    columns, chunk = 0 if right is None else right.shape[1], CHUNK
    if left is not None:
        chunk = product_block(total, columns)
    elif columns:
        fit = SUMS_BYTES // (8 * columns) // ROWS * ROWS
        chunk = min(max(fit, ROWS), chunk)
    front, back = refine(plan, second, dtype)
    problem = Problem(
        x=x,
        y=y,
        dimension=X.data.shape[1],
        symmetric=Y is None,
        scaled=not (
            isinstance(plan, NeuronMap) or (isinstance(plan, RadialMap) and plan.euclidean)
        ),
        refine_front=dtype.type(front),
        refine_back=dtype.type(back),
        out=_target(outs[0], dtype),
        out_second=_target(outs[1], dtype),
        right=_factor(right, dtype),
        left=_factor(left, dtype),
        use_second=isinstance(plan, LayerMap) and plan.second,
        product=_target(product, dtype),
        chunk=chunk,
        cancelled=np.zeros(1, np.uint8),
    )
    depth = 8 * len(plan.numbers) if isinstance(plan, LayerMap) else 0
    cost = len(X) * y.height * (problem.dimension + columns + depth + 16.0)
    return problem, prepared(plan, second, dtype), cost


def _both(
    plan: Map, X: Rows, Y: Rows | None, U: FloatArray, V: FloatArray, total: int, threads: int
) -> tuple[Values, Values]:
    """Return what the pairs of X and Y, or of X, add to a symmetric product of `total` rows.

    K(X, Y) V and K(Y, X) U; where Y is None the product of X, twice. X and Y are groups of rows.
    """
    problem, made, cost = _problem(plan, None, X, Y, (None, None), V, None, U, total)
    columns, block = V.shape[1], problem.chunk
    blocks = group_rows(total) // block
    groups = -(-len(X) // (blocks * block))
    left = Turns(len(X), columns, block, blocks, problem.cancelled)
    right = left if Y is None else Turns(len(Y), columns, block, blocks, problem.cancelled)

    def thread() -> Task:
        scratch = scratch_of(problem, made)
        rows = scratch.sums.reshape(block, columns)
        turned = scratch.turned_sums.reshape(columns, block).T

        def task(number: int) -> None:
            across = Y is not None
            pair = pair_across(number, blocks) if across else pair_in_groups(number, groups, blocks)
            if left.has(pair.first) and right.has(pair.second):
                pair_task(problem, made, scratch, pair.first, pair.second)
                add_in_turn(left, right, pair, rows, turned)
            else:
                add_in_turn(left, right, pair)

        return task

    tasks = count_in_groups(groups, blocks) if Y is None else blocks * blocks
    share(thread, problem.cancelled, tasks, threads, cost / (2 if Y is None else 1))
    return left.sums, right.sums


def rounded(plan: Map, X: Rows, Y: Rows | None, out: FloatArray, threads: int) -> bool:
    """Return False: panels are rounded by NumPy, see `ntkfast.kernels.filling`."""
    return False


def matmul(
    plan: Map, X: Rows, Y: Rows | None, V: FloatArray, out: FloatArray, threads: int
) -> None:
    """Write K(X, Y) V to `out`; Y = None is symmetric: every pair is evaluated once."""
    if Y is not None:
        run(plan, None, X, Y, (None, None), threads, V, out)
        return
    for part in panels(V.shape[1], 1, PRODUCT_COLUMNS):
        out[:, part] = _both(plan, X, None, V[:, part], V[:, part], len(X), threads)[0]


def products(
    plan: Map, X: Rows, V: FloatArray, groups: Groups, out: FloatArray, threads: int
) -> None:
    """Write what two groups of rows add to K(X, X) V to their rows of `out`, in float64."""
    rows, others, total = groups
    Y = None if rows == others else X[others]
    for part in panels(V.shape[1], 1, PRODUCT_COLUMNS):
        U, W = V[rows, part], V[others, part]
        out[rows, part], out[others, part] = _both(plan, X[rows], Y, U, W, total, threads)


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


def _factor(V: FloatArray | None, dtype: np.dtype[Any]) -> FloatArray:
    return np.empty((0, 0), dtype) if V is None else np.array(V, order="C")


def _target(out: FloatArray | None, dtype: np.dtype[Any]) -> Target:
    if out is None:
        return Target(False, np.empty(0, dtype), 0, 0)
    return Target(True, *flat_rows(out))


def scratch_of(problem: Problem, plan: Any) -> Scratch:
    """Return the buffers of one thread."""
    dtype, columns = problem.x.data.dtype, problem.right.shape[1]
    stats = plan.stats if isinstance(plan, LayersPlan) else 0
    tile, panels = ROWS * WIDTH, -(-columns // PANEL)
    turned = columns if len(problem.left) else 0
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
