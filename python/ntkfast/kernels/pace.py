"""Gram matrices that take long: how fast they come is measured, and they are filled in steps."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import numpy as np

from ntkfast.arrays.collections import FloatArray
from ntkfast.arrays.grid import Grid
from ntkfast.engines.threads import get_num_threads
from ntkfast.support import progress as bars

STEP_SECONDS = 0.8  # between two moves of a bar
TRIAL_SECONDS = 0.2  # that measure a pair well enough
ONCE_SECONDS = 4.0  # trials that take longer are not repeated
LARGEST_TRIAL = 512  # rows and columns
FIRST_STEP = 16  # inputs

# Writes the Gram matrix of some inputs, and of others or None, to an array of any strides.
Writer: TypeAlias = Callable[[Any, Any, FloatArray], Any]


def pairs_per_second(
    evaluate: Callable[[Any, Any], FloatArray],
    X: Callable[[int], Any],
    Y: Callable[[int], Any],
    counts: tuple[int, int],
    *,
    enough: float,
) -> float:
    """Time a kernel on more and more pairs until it is known, or known to be fast enough.

    Parameters
    ----------
    evaluate : function
        Returns the Gram matrix of some inputs and others.
    X, Y : functions
        Return some inputs: so many of them.
    counts : (int, int)
        Of all inputs.
    enough : float
        Of pairs per second; how much faster a kernel is does not matter.

    Returns
    -------
    float
        From below: small trials are dominated by what comes before the first pair.
    """
    edge = 2  # one row has one norm, and may go another way than several
    while True:
        rows, columns = min(edge, counts[0]), min(edge, counts[1])
        left, right = X(rows), Y(columns)
        elapsed = _seconds(evaluate, left, right)
        if TRIAL_SECONDS <= elapsed < ONCE_SECONDS:  # it may have compiled something
            elapsed = min(elapsed, _seconds(evaluate, left, right))
        rate = rows * columns / elapsed
        if rate >= enough or elapsed >= TRIAL_SECONDS or edge >= min(max(counts), LARGEST_TRIAL):
            return rate
        edge *= 2


def _seconds(evaluate: Callable[[Any, Any], FloatArray], X: Any, Y: Any) -> float:
    began = time.perf_counter()
    evaluate(X, Y)
    return max(time.perf_counter() - began, 1e-9)


def step_edge(rate: float, threads: int | None) -> int:
    """Return the edge of a square of pairs that takes the time of a step.

    Each thread has at least one pair.
    """
    least = math.isqrt(max(get_num_threads() if threads is None else threads, 1) - 1) + 1
    return max(least, math.isqrt(int(min(rate * STEP_SECONDS, 2.0**62))))


def fill_in_steps(
    write: Writer,
    X: Any,
    Y: Any,
    out: FloatArray,
    edge: int,
    done: Callable[[int], None],
    first: tuple[int, int] = (0, 0),
) -> None:
    """Write a Gram matrix square by square, and say how many pairs each one had.

    Of a symmetric matrix, Y None, the squares on and above the diagonal are computed. `first` are
    the numbers of the first rows and columns in what they are parts of, for errors.
    """
    grid = Grid((out.shape[0], out.shape[1]), (edge, edge), Y is None)
    right = X if Y is None else Y
    for i, j in grid.tiles():
        rows, columns = grid.span(i, j)
        block = out[rows, columns]
        try:
            write(X[rows], None if Y is None and i == j else right[columns], block)
        except ValueError as error:
            above, before = first[0] + rows.start, first[1] + columns.start
            if above or before:
                of = " of X" if Y is None else ""
                error.add_note(f"here X begins with row {above}, and Y with row {before}{of}")
            raise
        if Y is None and i != j:
            out[columns, rows] = block.T
        done(block.size * (2 if Y is None and i != j else 1))


def fill_with_bar(
    write: Writer, X: Any, Y: Any, out: FloatArray, threads: int | None, progress: bool | None
) -> None:
    """Write a Gram matrix with a bar of its pairs, or at once if it takes a moment."""
    pairs = out.size if Y is not None else len(X) * (len(X) + 1) // 2
    enough = pairs / max(bars.DELAY, 1e-9)
    if bars.is_shown(progress):
        right, counts = X if Y is None else Y, (out.shape[0], out.shape[1])

        def evaluate(left: Any, right: Any) -> FloatArray:
            panel = np.empty((len(left), len(right)), out.dtype)
            write(left, right, panel)
            return panel

        rate = pairs_per_second(evaluate, _some(X), _some(right), counts, enough=enough)
        if rate < enough:
            with bars.Bar(progress, "kernel", out.size, "pairs") as bar:
                fill_in_steps(write, X, Y, out, step_edge(rate, threads), bar.update)
            return
    write(X, Y, out)


def steps(count: int) -> Iterator[slice]:
    """Yield parts of some inputs, one after the other, so large that each takes the time of a step.

    How long the caller takes for one says how large the next one is.
    """
    first, size = 0, FIRST_STEP
    while first < count:
        began = time.perf_counter()
        yield slice(first, min(first + size, count))
        first += size
        room = STEP_SECONDS / max(time.perf_counter() - began, 1e-9)
        size = max(1, int(size * min(room, 2.0)))


def middle(length: int, count: int) -> slice:
    """Return where inputs for a trial lie: sequences may be sorted."""
    first = (length - count) // 2
    return slice(first, first + count)


def _some(inputs: Any) -> Callable[[int], Any]:
    return lambda count: inputs[middle(len(inputs), count)]
