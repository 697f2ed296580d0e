"""A kernel together with how it is evaluated, for work that calls it again and again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import ArrayLike

from ntkfast.arrays.collections import FloatArray
from ntkfast.kernels.base import Kernel


@dataclass(frozen=True)
class Evaluation:
    """A kernel with the engine and the number of threads that a caller has chosen.

    Attributes
    ----------
    kernel : Kernel
    engine : {"native", "numba", "cuda"}, optional
    threads : int, optional
    """

    kernel: Kernel
    engine: str | None = None
    threads: int | None = None

    def __call__(self, X: ArrayLike, Y: ArrayLike | None = None) -> FloatArray:
        """Return K(X, Y)."""
        return self.kernel(X, Y, engine=self.engine, threads=self.threads)

    def matmul(self, X: ArrayLike, Y: ArrayLike | None, V: Any) -> FloatArray:
        """Return K(X, Y) @ V."""
        return self.kernel.matmul(X, Y, V, engine=self.engine, threads=self.threads)

    def diag(self, X: ArrayLike) -> FloatArray:
        """Return the diagonal of K(X, X)."""
        return self.kernel.diag(X)
