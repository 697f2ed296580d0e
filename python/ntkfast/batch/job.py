"""What a batch job computes, without a word on where it goes."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ntkfast._version import __version__
from ntkfast.batch.matrices import Matrix, digest, rows_of
from ntkfast.kernels.pace import fill_in_steps, middle, pairs_per_second


class PairKernel(Protocol):
    """What a batch job needs of a kernel; every :class:`ntkfast.Kernel` has it."""

    def __call__(
        self,
        X: NDArray[Any],
        Y: NDArray[Any] | None = None,
        *,
        out: NDArray[Any] | None = None,
        engine: str | None = None,
        threads: int | None = None,
    ) -> NDArray[Any]:
        """Fill `out` with the kernel of all pairs of rows."""


@dataclass(frozen=True)
class Job:
    """What is to be computed, without a word on where it goes."""

    kernel: PairKernel
    X: Matrix
    Y: Matrix | None
    dtype: np.dtype[Any]
    engine: str | None
    threads: int | None
    rounded_to: np.dtype[Any] | None = None

    @property
    def kept(self) -> np.dtype[Any]:
        """Type of the result: that of the computation, or a smaller one."""
        return self.rounded_to or self.dtype

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the Gram matrix."""
        return self.X.shape[0], self._right.shape[0]

    def compute(
        self,
        rows: slice,
        columns: slice,
        out: NDArray[Any],
        edge: int,
        done: Callable[[int], None],
        first: tuple[int, int] = (0, 0),
    ) -> None:
        """Fill one tile in squares of some edge; one on the diagonal of a symmetric job is such.

        `first`: where this job begins in a larger one.
        """
        a = rows_of(self.X, rows, self.dtype)
        if self.Y is None and rows == columns:
            b = None
        else:
            b = rows_of(self._right, columns, self.dtype)
        run: dict[str, Any] = {"engine": self.engine, "threads": self.threads}
        if self.rounded_to:
            run["dtype"] = self.rounded_to
        first = first[0] + rows.start, first[1] + columns.start
        fill_in_steps(
            lambda X, Y, out: self.kernel(X, Y, out=out, **run), a, b, out, edge, done, first
        )

    def pairs_per_second(self, enough: float) -> float:
        """Time the kernel on some inputs; how much faster than `enough` it is does not matter."""

        def some(matrix: Matrix) -> Callable[[int], Any]:
            return lambda count: rows_of(matrix, middle(matrix.shape[0], count), self.dtype)

        def evaluate(X: Any, Y: Any) -> NDArray[Any]:
            return self.kernel(X, Y, engine=self.engine, threads=self.threads)

        try:
            return pairs_per_second(
                evaluate, some(self.X), some(self._right), self.shape, enough=enough
            )
        except ValueError:  # the tile with these inputs will say which ones they are
            return enough

    @property
    def _right(self) -> Matrix:
        return self.X if self.Y is None else self.Y

    def fingerprint(self, path: Path, progress: bool | None) -> dict[str, Any]:
        """Everything that two runs must have in common to share one output."""
        return {
            # a function shown as <function f at 0x7f...> is another one in every process
            "kernel": re.sub(r" at 0x[0-9a-fA-F]+", "", repr(self.kernel)),
            "version of ntkfast": __version__,
            "shape of X": list(self.X.shape),
            "shape of Y": None if self.Y is None else list(self.Y.shape),
            "dtype": self.dtype.name,
            **({"rounded to": self.rounded_to.name} if self.rounded_to else {}),
            "format": path.suffix,
            **self.contents(progress),
        }

    def contents(self, progress: bool | None) -> dict[str, str | None]:
        """Digests of the inputs, on a bar where it takes long to read them.

        Raises
        ------
        ValueError
            If one holds a NaN or an infinity.
        """
        return {
            "contents of X": digest("X", self.X, progress),
            "contents of Y": None if self.Y is None else digest("Y", self.Y, progress),
        }

    def probe(self) -> list[float]:
        """Kernel values of the first rows: they tell kernels apart whose names are equal."""
        few = slice(0, 3)
        a = rows_of(self.X, few, self.dtype)
        b = rows_of(self._right, few, self.dtype)
        values = self.kernel(a, b, engine=self.engine, threads=self.threads)
        return [float(value) for value in values.ravel()]
