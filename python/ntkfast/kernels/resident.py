"""A kernel that a device evaluates again and again: the rows that it is given stay there."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from numpy.typing import ArrayLike

from ntkfast import engines
from ntkfast.arrays.collections import FloatArray
from ntkfast.engines import cuda
from ntkfast.kernels.evaluation import Evaluation
from ntkfast.places.resident import Resident

PART = 1 << 28  # bytes of a result that is made there as a whole; a larger one comes in pieces


@dataclass(frozen=True)
class ResidentEvaluation(Evaluation):
    """A kernel of rows on a device; rows, vectors and results are arrays of the host.

    Rows have a copy on the device as long as this lives. Where they have no room the engine takes
    them block by block.

    Attributes
    ----------
    there : Resident
    """

    is_remote: ClassVar[bool] = True

    there: Resident = field(default_factory=Resident, compare=False, repr=False)

    def __call__(self, X: ArrayLike, Y: ArrayLike | None = None) -> FloatArray:
        """Return K(X, Y)."""
        left: Any = X
        right: Any = X if Y is None else Y
        is_large = len(left) * len(right) * left.dtype.itemsize > PART
        if is_large or left.dtype != right.dtype or not self.there.has_room(left, right):
            return super().__call__(X, Y)
        rows = self.there.rows(left)
        K = self.there.empty(rows, (len(left), len(right)))
        self.kernel(rows, None if Y is None else self.there.rows(right, rows), out=K)
        return self._found(K)

    def matmul(self, X: ArrayLike, Y: ArrayLike | None, V: Any) -> FloatArray:
        """Return K(X, Y) @ V."""
        left: Any = X
        right: Any = X if Y is None else Y
        alike = left.dtype == right.dtype == V.dtype
        if not alike or not self.there.has_room(left, right):
            return super().matmul(X, Y, V)
        rows = self.there.rows(left)
        columns = None if Y is None else self.there.rows(right, rows)
        factor = self.there.placed(V, rows)
        product = self.there.empty(rows, (len(left), factor.shape[1]))
        self.kernel.matmul(rows, columns, factor, out=product)
        return self._found(product).reshape(len(left), *V.shape[1:])

    def _found(self, result: Any) -> FloatArray:
        found = self.there.numbers(result)
        return found if self.factor == 1 else found * self.factor


def evaluated(
    kernel: Any, engine: str | None, threads: int | None, progress: bool | None
) -> Evaluation:
    """Return a kernel as this process evaluates it, on a device if that is the engine."""
    if kernel.of_rows and engines.select(engine) is cuda.engine:
        return ResidentEvaluation(kernel, engine, threads, progress)
    return Evaluation(kernel, engine, threads, progress)
