"""What a batch job computes, without a word on where it goes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ntkfast._version import __version__
from ntkfast.batch.matrices import Matrix, digest, rows_of


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

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the Gram matrix."""
        return self.X.shape[0], (self.X if self.Y is None else self.Y).shape[0]

    def compute(self, rows: slice, columns: slice, out: NDArray[Any]) -> None:
        """Fill one tile; a tile on the diagonal of a symmetric job is itself symmetric."""
        a = rows_of(self.X, rows, self.dtype)
        if self.Y is None and rows == columns:
            b = None
        else:
            b = rows_of(self.X if self.Y is None else self.Y, columns, self.dtype)
        self.kernel(a, b, out=out, engine=self.engine, threads=self.threads)

    def fingerprint(self, path: Path) -> dict[str, Any]:
        """Everything that two runs must have in common to share one output."""
        return {
            # a function shown as <function f at 0x7f...> is another one in every process
            "kernel": re.sub(r" at 0x[0-9a-fA-F]+", "", repr(self.kernel)),
            "version of ntkfast": __version__,
            "shape of X": list(self.X.shape),
            "shape of Y": None if self.Y is None else list(self.Y.shape),
            "dtype": self.dtype.name,
            "format": path.suffix,
            **self.contents(),
        }

    def contents(self) -> dict[str, str | None]:
        """Digests of the inputs.

        Raises
        ------
        ValueError
            If one holds a NaN or an infinity.
        """
        return {
            "contents of X": digest("X", self.X),
            "contents of Y": None if self.Y is None else digest("Y", self.Y),
        }

    def probe(self) -> list[float]:
        """Kernel values of the first rows: they tell kernels apart whose names are equal."""
        few = slice(0, 3)
        a = rows_of(self.X, few, self.dtype)
        b = rows_of(self.X if self.Y is None else self.Y, few, self.dtype)
        values = self.kernel(a, b, engine=self.engine, threads=1)
        return [float(value) for value in values.ravel()]
