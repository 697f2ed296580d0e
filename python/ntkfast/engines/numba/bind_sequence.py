"""Prepares kernels of recurrent networks for compiled code; mirrors bind_sequence.cpp."""

from __future__ import annotations

import numpy as np

from ntkfast.arrays.collections import FloatArray
from ntkfast.engines.maps import SequenceMap, SequenceSide
from ntkfast.engines.numba.cpu.sequence import (
    SequencesProblem,
    SequencesScratch,
    SequencesSide,
    sequences_task,
)
from ntkfast.engines.numba.formulas.row_stats import activation_stats
from ntkfast.engines.numba.memory import flat, zeros
from ntkfast.engines.numba.problem import EQUAL, ROWS, WIDTH
from ntkfast.engines.parallel import Task, share


def sequences(
    plan: SequenceMap, X: SequenceSide, Y: SequenceSide | None, out: FloatArray, threads: int
) -> None:
    """Write the kernel of a recurrent network to an array of any strides."""
    dtype, fields = X.dtype, X.numbers[0].shape[1]
    x = _side(X)
    y = x if Y is None else _side(Y)
    memory, first = flat(out)
    problem = SequencesProblem(
        x=x,
        y=y,
        activation=plan.activation,
        asked=activation_stats(int(plan.activation["kind"][0]), 0),
        layers=plan.layers,
        fixed=plan.fixed,
        channels=plan.channels,
        fields=fields,
        directions=len(X.numbers),
        every=plan.every,
        nngp=plan.nngp,
        symmetric=Y is None,
        diagonal=np.array(X.diagonal),
        out=memory,
        first=first,
        row=out.strides[0] // out.itemsize,
        column=out.strides[1] // out.itemsize,
        cancelled=np.zeros(1, np.uint8),
    )
    per_step = len(X.numbers) * fields

    def thread() -> Task:
        packed, scratch = (
            -1,
            SequencesScratch(
                left=zeros(per_step * ROWS * int(x.length[-1]), dtype),
                right=zeros(per_step * WIDTH * int(y.length[-1]), dtype),
                lengths=np.zeros(WIDTH, np.int64),
                state=zeros(EQUAL + WIDTH, dtype),
                lines=zeros(3 * plan.layers * WIDTH, dtype),
                sums=zeros(WIDTH, dtype),
            ),
        )

        def task(number: int) -> None:
            nonlocal packed
            packed = sequences_task(problem, scratch, number, packed)

        return task

    tasks = -(-len(x.length) // ROWS) * -(-len(y.length) // WIDTH)
    cost = float(x.length.sum()) * len(y.length) * (8.0 * plan.layers + plan.channels)
    share(thread, problem.cancelled, tasks, threads, cost)


def _side(side: SequenceSide) -> SequencesSide:
    numbers = np.concatenate([part.ravel() for part in side.numbers])
    return SequencesSide(numbers, side.numbers[0].size, *map(np.array, side.layout))
