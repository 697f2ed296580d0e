"""Times a kernel against the matrix product of the same shape, in interleaved runs."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["PRODUCT", "Row", "Timing", "compare", "format_table", "limited", "measure", "table"]

PRODUCT = "product"
Contender = Callable[[NDArray[Any], NDArray[Any], int], Callable[[], object]]


@dataclass(frozen=True)
class Timing:
    """Seconds of all runs of one function, in the order of the rounds."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Median of the runs, in seconds."""
        return statistics.median(self.seconds)

    def ratio(self, base: Timing) -> float:
        """Median of these runs over the median of those of `base`."""
        return self.median / base.median

    def spread(self, base: Timing) -> tuple[float, float]:
        """Lower and upper quartile of the ratio within one round, where both saw the same machine.

        Returns
        -------
        tuple of float
            (lower, upper).
        """
        rounds = sorted(a / b for a, b in zip(self.seconds, base.seconds, strict=True))
        lower, _, upper = statistics.quantiles(rounds, n=4, method="inclusive")
        return lower, upper


@dataclass(frozen=True)
class Row:
    """What was measured for one shape: timings by the name of the contender."""

    dtype: str
    n: int
    m: int
    d: int
    depth: int
    times: Mapping[str, Timing]


# After a product the threads of OpenBLAS spin for about 0.1 s and take a core from what follows.
SETTLE = 0.15


def measure(
    functions: Mapping[str, Callable[[], object]],
    *,
    repeats: int = 7,
    warmup: int = 1,
    spinning: Collection[str] | None = None,
) -> dict[str, Timing]:
    """Time functions in turn, round after round, so that a slow moment hits all of them.

    Parameters
    ----------
    functions : mapping of str to callable
        What to time; results are thrown away at once.
    repeats : int
        Timed rounds, at least 2.
    warmup : int
        Rounds before the clock counts.
    spinning : collection of str, optional
        Functions whose BLAS threads would take time from the next one: it waits for them. Default:
        all of them.

    Returns
    -------
    dict of str to Timing
        In the order of `functions`.

    Examples
    --------
    >>> from ntkfast.command.bench import measure
    >>> times = measure({"sum": lambda: sum(range(1000))}, repeats=3)
    >>> len(times["sum"].seconds)
    3
    """
    if repeats < 2:
        raise ValueError(f"repeats: expected at least 2, got {repeats}")
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for turn in range(warmup + repeats):
        for name, function in functions.items():
            start = time.perf_counter()
            result = function()
            elapsed = time.perf_counter() - start
            del result  # freed outside the clock, for every contender alike
            if spinning is None or name in spinning:
                time.sleep(SETTLE)
            if turn >= warmup:
                seconds[name].append(elapsed)
    return {name: Timing(tuple(values)) for name, values in seconds.items()}


def compare(
    *,
    n: int = 2000,
    m: int | None = None,
    dims: Sequence[int] = (10, 100, 784),
    depths: Sequence[int] = (1, 3, 10, 100),
    dtypes: Sequence[str] = ("float32", "float64"),
    threads: int | None = None,
    repeats: int = 7,
    contenders: Mapping[str, Contender] | None = None,
    report: Callable[[Row], None] | None = None,
) -> list[Row]:
    """Measure ``ntk(X, Y)`` and others against ``X @ Y.T`` on standard normal data.

    Parameters
    ----------
    n, m : int
        Rows of X and of Y (None: as many as X).
    dims, depths, dtypes : sequences
        Widths of the inputs, hidden layers, types; every combination is measured.
    threads : int, optional
        For all contenders, see :func:`limited`.
    repeats : int
        Rounds per combination.
    contenders : mapping of str to function, optional
        ``make(X, Y, depth)`` gives the function to time, or None where it does not apply.
        Default: ``{"ntkfast": ...}``, the NTK of a fully connected ReLU network. The product is
        always measured too.
    report : function, optional
        Called with each row as soon as it is there.

    Returns
    -------
    list of Row
        One for each combination.
    """
    makers = {"ntkfast": fully_connected} if contenders is None else contenders
    rows = []
    with limited(threads):
        for dtype in dtypes:
            for d in dims:
                X, Y = _inputs(n, m or n, d, dtype)
                for depth in depths:
                    functions = {PRODUCT: _product(X, Y)}
                    for name, make in makers.items():
                        function = make(X, Y, depth)
                        if function is not None:
                            functions[name] = function
                    spinning = (PRODUCT,) if contenders is None else None
                    times = measure(functions, repeats=repeats, spinning=spinning)
                    rows.append(Row(dtype, n, m or n, d, depth, times))
                    if report is not None:
                        report(rows[-1])
    return rows


def fully_connected(X: NDArray[Any], Y: NDArray[Any], depth: int) -> Callable[[], object]:
    """Give the call that is compared with the product: the NTK of a ReLU network."""
    from ntkfast import FullyConnected

    kernel = FullyConnected(depth).ntk
    return lambda: kernel(X, Y)


@contextmanager
def limited(threads: int | None) -> Iterator[None]:
    """Hold this package and the BLAS of NumPy to a number of threads.

    Without threadpoolctl the BLAS keeps what its environment variables said at its start
    (``OPENBLAS_NUM_THREADS``, ``MKL_NUM_THREADS``); a line on stderr says so.
    """
    with ExitStack() as stack:
        if threads is not None:
            from ntkfast import threadpool_limits

            stack.enter_context(threadpool_limits(threads))
            try:
                import threadpoolctl

                stack.enter_context(threadpoolctl.threadpool_limits(threads))
            except ImportError:
                print(
                    "threadpoolctl is not installed: the product runs with the threads "
                    "that OPENBLAS_NUM_THREADS or MKL_NUM_THREADS allow it",
                    file=sys.stderr,
                )
        yield


def table(rows: Sequence[Row]) -> str:
    """Write rows as a text table: times of the product, multiples of it for everybody else.

    Columns are as wide as rows to come may need, so that a table can grow line by line.
    """
    names = list(dict.fromkeys(name for row in rows for name in row.times if name != PRODUCT))
    head = ["type   ", "   d", "depth", "  X @ Y.T"]
    for name in names:
        head += [f"{name:>9}", " ratio", "    quartiles"]
    return format_table(head, [_cells(row, names) for row in rows], left=1)


def format_table(head: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> str:
    """Align cells under their heads; the first `left` columns to the left, numbers to the right."""
    widths = [max(len(row[k]) for row in [head, *rows]) for k in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        parts = [
            cell.ljust(width) if k < left else cell.rjust(width)
            for k, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return ("  " + "   ".join(parts)).rstrip()

    rule = "  " + _dash() * (sum(widths) + 3 * (len(widths) - 1))
    return "\n".join([line(head), rule, *map(line, rows)])


def milliseconds(seconds: float) -> str:
    """Write a time with three significant digits."""
    value = 1e3 * seconds
    return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f} ms"


def _cells(row: Row, names: Sequence[str]) -> list[str]:
    base = row.times[PRODUCT]
    cells = [row.dtype, str(row.d), str(row.depth), milliseconds(base.median)]
    for name in names:
        if name in row.times:
            mine = row.times[name]
            lower, upper = mine.spread(base)
            cells += [
                milliseconds(mine.median),
                f"{mine.ratio(base):.2f}",
                f"{lower:.2f} - {upper:.2f}",
            ]
        else:
            cells += ["", "", ""]
    return cells


def _inputs(n: int, m: int, d: int, dtype: str) -> tuple[NDArray[Any], NDArray[Any]]:
    generator = np.random.default_rng(0)
    X = generator.standard_normal((n, d)).astype(dtype)
    Y = generator.standard_normal((m, d)).astype(dtype)
    return X, Y


def _product(X: NDArray[Any], Y: NDArray[Any]) -> Callable[[], object]:
    return lambda: X @ Y.T


def _dash() -> str:
    """Give a line character that the terminal can show."""
    encoding = (getattr(sys.stdout, "encoding", None) or "ascii").lower()
    return "─" if encoding.replace("-", "").startswith("utf") else "-"
