"""Prepares gradients for compiled code; mirrors bind/gradient.hpp and run.hpp."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ntkfast.arrays.collections import FloatArray, Rows, Weights
from ntkfast.engines.codes import LAYER_ROW, RATES, REFINE_LAYERS, SLOTS, ActivationKind
from ntkfast.engines.maps import LayerMap, Map, RadialMap
from ntkfast.engines.norms import norm_powers
from ntkfast.engines.numba.bind_gram import prepared, refine, scratch_of, side
from ntkfast.engines.numba.cpu.gradient import (
    Gradient,
    GradientScratch,
    gradient_task,
    move_task,
    parameter_task,
)
from ntkfast.engines.numba.formulas.bends import BENDS
from ntkfast.engines.numba.formulas.layer_slopes import TANGENT
from ntkfast.engines.numba.formulas.row_rates import count_rates
from ntkfast.engines.numba.memory import flat_rows, zeros
from ntkfast.engines.numba.problem import PANEL, ROWS, WIDTH, Problem, Target
from ntkfast.engines.parallel import Task, share

SUMS_BYTES = 1 << 22  # of the sums that a thread keeps


def vjp(
    plan: Map,
    slope: Map | None,
    X: Rows,
    Y: Rows | None,
    V: Weights,
    out: FloatArray,
    threads: int,
) -> None:
    """Write sum_j V_ij dK(x_i, y_j)/dx_i to `out`; Y = None: of V + V^T, if V is a matrix."""
    turned = V.matrix if Y is None else None
    _run(plan, slope, X, X if Y is None else Y, V, turned, out, threads)


def jvp(
    plan: Map,
    slope: Map | None,
    X: Rows,
    Y: Rows,
    dX: FloatArray,
    out: FloatArray,
    threads: int,
) -> None:
    """Write dK(x_i, y_j)/dx_i . dX_i to `out`, whose rows have unit stride."""
    _run(plan, slope, X, Y, Weights(), None, out, threads, dX=dX)


def by_parameters(
    plan: LayerMap,
    steps: NDArray[np.float64],
    X: Rows,
    Y: Rows,
    V: Weights,
    turned: FloatArray | None,
    out: FloatArray,
    threads: int,
) -> None:
    """Write what `ntkfast.engines.Engine.by_parameters` says."""
    _run(plan, None, X, Y, V, turned, out, threads, steps=steps)


def _run(
    plan: Map,
    slope: Map | None,
    X: Rows,
    Y: Rows,
    V: Weights,
    turned: FloatArray | None,
    out: FloatArray,
    threads: int,
    dX: FloatArray | None = None,
    steps: NDArray[np.float64] | None = None,
) -> None:
    dtype, (n, dimension) = X.dtype, X.data.shape
    layers = plan.numbers if isinstance(plan, LayerMap) else np.empty(0, LAYER_ROW)
    degree = 0.0 if isinstance(plan, LayerMap) else plan.degree
    x = side(X, degree)
    y = side(Y, degree)
    euclidean = isinstance(plan, RadialMap) and plan.euclidean
    limits = refine(plan, None, dtype)
    front, back = limits if euclidean else (max(limit, REFINE_LAYERS) for limit in limits)
    fit = SUMS_BYTES // (8 * (dimension + 1)) // ROWS * ROWS
    even = -(-n // (4 * threads * ROWS)) * ROWS
    chunk = max(ROWS, min(fit, even))
    nothing = Target(False, np.empty(0, dtype), 0, 0)
    problem = Problem(
        x=x,
        y=y,
        dimension=dimension,
        symmetric=False,
        scaled=not euclidean,
        refine_front=dtype.type(front),
        refine_back=dtype.type(back),
        out=nothing,
        out_second=nothing,
        right=np.empty((0, dimension), dtype),
        left=np.empty((0, 0), dtype),
        use_second=isinstance(plan, LayerMap) and plan.second,
        product=nothing,
        chunk=chunk,
        cancelled=np.zeros(1, np.uint8),
    )
    tiny = dtype.type(1e-140 if dtype.itemsize == 8 else 1e-15)
    at_zero = 1 / tiny if isinstance(plan, LayerMap) and _is_smooth_at_zero(layers) else 0
    outer = np.where(x.inverse == 0, at_zero, norm_powers(X.norms, degree - 1)).astype(dtype)
    lively = x._replace(norms=np.where(x.norms > 0, x.norms, tiny).astype(dtype))
    if steps is not None:  # rows of zeros are like others
        lively, outer = x, np.ones_like(outer)
    weighs = V.left is not None or V.matrix is not None or turned is not None
    sums = out.reshape(-1) if steps is not None and weighs else np.empty(0)
    empty = np.empty((0, 0), dtype)
    rank = 0 if V.left is None else V.left.shape[1]
    gradient = Gradient(
        problem=problem,
        lively=lively,
        layers=len(layers),
        degree=dtype.type(degree),
        outer=outer,
        directions=2 if steps is None else len(steps),
        steps=np.empty(0) if steps is None else steps.reshape(-1),
        weights=flat_rows(empty if V.matrix is None else V.matrix),
        turned=flat_rows(empty if turned is None else turned),
        straight=V.matrix is not None,
        both=turned is not None,
        left=flat_rows(empty if V.left is None else V.left),
        right=flat_rows(empty if V.right is None else V.right),
        rank=rank,
        ones=np.ones(WIDTH, dtype),
        moves=flat_rows(empty if dX is None else dX),
        out=flat_rows(empty if len(sums) else out),
        sums=sums,
    )
    compiled_plan = prepared(plan, slope, dtype)
    directions = gradient.directions
    rates, lines = count_rates(len(layers), directions), WIDTH * bool(len(layers))
    do: Any = gradient_task if dX is None else move_task
    if steps is not None:
        do, sums[:] = parameter_task, 0

    def thread() -> Task:
        scratch = scratch_of(problem, compiled_plan)
        extra = GradientScratch(
            weights=zeros(ROWS * WIDTH, dtype),
            right=zeros(-(-WIDTH // PANEL) * PANEL * rank, dtype),
            own=zeros(chunk, np.float64),
            rates=zeros(ROWS * rates, dtype),
            shares=zeros(WIDTH * len(layers), dtype),
            one=zeros(RATES * len(layers) * WIDTH, dtype),
            bends=zeros(BENDS // WIDTH * lines, dtype),
            tangents=zeros((1 + SLOTS) * TANGENT // WIDTH * directions * lines, dtype),
            kept=zeros(2 * lines, dtype),
        )

        def task(number: int) -> None:
            do(gradient, compiled_plan, scratch, extra, number)

        return task

    cost = n * y.height * (2.0 * dimension + rank + 16.0 * (1 + len(layers)))
    share(thread, problem.cancelled, -(-n // chunk), threads, cost)


def _is_smooth_at_zero(layers: NDArray[np.void]) -> bool:
    """Whether a network has derivatives at a row of zeros: a random bias comes before any kink."""
    for layer in layers:
        if layer["kind"] in (ActivationKind.RELU, ActivationKind.STEP, ActivationKind.HERMITE):
            return False
        if layer["e"] > 0:
            return True
    return True
