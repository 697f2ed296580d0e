"""Prepares gradients for compiled code; mirrors bind/gradient.cpp and run.hpp."""

from __future__ import annotations

import numpy as np

from ntkfast.arrays.collections import FloatArray, Rows, Weights
from ntkfast.engines.codes import REFINE_LAYERS
from ntkfast.engines.maps import LayerMap, Map, RadialMap
from ntkfast.engines.norms import norm_powers
from ntkfast.engines.numba.bind_gram import prepared, refine, scratch_of, side
from ntkfast.engines.numba.cpu.gradient import Gradient, GradientScratch, gradient_task
from ntkfast.engines.numba.memory import flat_rows, zeros
from ntkfast.engines.numba.parallel import Task, share
from ntkfast.engines.numba.problem import PANEL, ROWS, WIDTH, Problem, Target

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
    assert not isinstance(plan, LayerMap)
    dtype, (n, dimension) = X.dtype, X.data.shape
    x = side(X, plan.degree)
    y = x if Y is None else side(Y, plan.degree)
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
        use_second=False,
        product=nothing,
        chunk=chunk,
        cancelled=np.zeros(1, np.uint8),
    )
    empty = np.empty((0, 0), dtype)
    rank = 0 if V.left is None else V.left.shape[1]
    outer = norm_powers(X.norms, plan.degree - 1)
    gradient = Gradient(
        problem=problem,
        degree=dtype.type(plan.degree),
        outer=np.where(x.inverse == 0, 0, outer).astype(dtype),  # rows of zeros count as 0
        weights=flat_rows(empty if V.matrix is None else V.matrix),
        turned=V.matrix is not None and Y is None,
        left=flat_rows(empty if V.left is None else V.left),
        right=flat_rows(empty if V.right is None else V.right),
        rank=rank,
        ones=np.ones(WIDTH, dtype),
        out=flat_rows(out),
    )
    compiled_plan = prepared(plan, slope, dtype)

    def thread() -> Task:
        scratch = scratch_of(problem, compiled_plan)
        extra = GradientScratch(
            weights=zeros(ROWS * WIDTH, dtype),
            right=zeros(-(-WIDTH // PANEL) * PANEL * rank, dtype),
            own=zeros(chunk, np.float64),
        )

        def task(number: int) -> None:
            gradient_task(gradient, compiled_plan, scratch, extra, number)

        return task

    cost = n * y.height * (2.0 * dimension + rank + 16.0)
    share(thread, problem.cancelled, -(-n // chunk), threads, cost)
