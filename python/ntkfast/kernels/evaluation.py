"""A kernel together with how it is evaluated, for work that calls it again and again."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from ntkfast.arrays.collections import FloatArray
from ntkfast.kernels.base import Kernel

FREE = 300  # octaves around 1 whose squares are left alone
LEAST = 1e-290  # of a kernel value whose rounding errors are still relative


@dataclass(frozen=True)
class Evaluation:
    """A kernel with the engine and the number of threads that a caller has chosen.

    Attributes
    ----------
    kernel : Kernel
    engine : {"native", "numba", "cuda"}, optional
    threads : int, optional
    progress : bool, optional
        Whether Gram matrices that take long have a bar, as in calling a kernel.
    factor : float, default 1
        A power of two that values are multiplied by.
    is_remote : bool
        Whether others compute what is large: it is not worth storing then.
    """

    is_remote: ClassVar[bool] = False

    kernel: Kernel
    engine: str | None = None
    threads: int | None = None
    progress: bool | None = False
    factor: float = 1.0

    def __call__(self, X: ArrayLike, Y: ArrayLike | None = None) -> FloatArray:
        """Return K(X, Y)."""
        run: Any = {"engine": self.engine, "threads": self.threads, "progress": self.progress}
        K = self.kernel(X, Y, **run)
        if self.factor != 1:
            K *= self.factor
        return K

    def matmul(self, X: ArrayLike, Y: ArrayLike | None, V: Any) -> FloatArray:
        """Return K(X, Y) @ V."""
        product = self.kernel.matmul(X, Y, V, engine=self.engine, threads=self.threads)
        return product if self.factor == 1 else product * self.factor

    def diag(self, X: ArrayLike) -> FloatArray:
        """Return the diagonal of K(X, X)."""
        return self.kernel.diag(X) * self.factor

    def near_one(self, X: FloatArray) -> Evaluation:
        """Return the same with values of which no square vanishes or overflows.

        Raises
        ------
        ValueError
            If the values themselves are so small that they have lost digits.
        """
        top = float(np.max(self.kernel.diag(X)))
        if 0 < top < LEAST:
            raise ValueError(
                f"X: expected rows whose kernel values are normal numbers, the largest is "
                f"{top:.3g}; scale the rows or the weights up"
            )
        exponent = math.frexp(top)[1]
        return self if abs(exponent) < FREE else replace(self, factor=math.ldexp(1.0, -exponent))
