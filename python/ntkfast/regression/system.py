"""K + diag(ridge) as products, in the precision and by the storage that a budget allows."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from ntkfast.arrays.collections import FloatArray, Values
from ntkfast.arrays.panels import panels
from ntkfast.kernels.evaluation import Evaluation

MEMORY = 4 << 30  # bytes, unless the caller says otherwise: results do not depend on the machine
SINGLE = 1e-30, 1e30  # kernel values that float32 holds with room for sums
WIDTH = 2048  # rows of a block that is evaluated in float64 for rows in float32


@dataclass(frozen=True)
class Plan:
    """How products are computed.

    Attributes
    ----------
    dtype : float32 or float64
        Of the fast product.
    stored : bool
        Whether the Gram matrix is.
    """

    dtype: np.dtype[Any]
    stored: bool

    def __str__(self) -> str:
        return f"{self.dtype} {'stored' if self.stored else 'recomputed'}"


class System:
    """The matrix K(X, X) + diag(ridge), which is that of the rows in float64 whatever their type.

    Parameters
    ----------
    evaluation : Evaluation
    inputs
        What the kernel has collected.
    ridge : float or (n,) array
        One for all inputs, or one for each.

    Attributes
    ----------
    products : int
        Products so far.
    seconds : float
        Time they took, and storing the matrix.
    memory : int
        Bytes of the matrix and of copies of the inputs.
    storage : str
        How products are computed, in words.
    """

    def __init__(self, evaluation: Evaluation, inputs: Any, ridge: float | Values) -> None:
        self.evaluation, self.inputs, self.ridge = evaluation, inputs, ridge
        self._ridges = np.broadcast_to(ridge, len(inputs))
        self.diagonal = np.empty(len(inputs))
        for rows in panels(len(inputs), _bytes(inputs[:1]), WIDTH * _bytes(inputs[:1])):
            self.diagonal[rows] = evaluation.diag(double(inputs[rows]))
        self.products, self.seconds, self.memory = 0, 0.0, 0
        self.storage = "float64 recomputed"
        self._stored: FloatArray | None = None
        self._fast: Any = None  # inputs of the fast product, where it is not the exact one
        self._double = inputs if inputs.dtype == np.float64 else None

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def bound(self) -> float:
        """An upper bound of the condition number, infinite where an input has no ridge."""
        least = float(self._ridges.min())
        top = float(self.diagonal.sum()) + float(self._ridges.max())
        return top / least if least > 0 else math.inf

    @property
    def copied(self) -> int:
        """Bytes of the inputs in float32, where they are not."""
        return 0 if self.inputs.dtype == np.float32 else _bytes(self.inputs) // 2

    def plan(self, memory: int) -> Plan:
        """Choose the fastest product that needs no more memory."""
        n, exact = len(self), self.inputs.dtype == np.float64
        positive = self.diagonal[self.diagonal > 0]
        holds = bool(np.all((SINGLE[0] < positive) & (positive < SINGLE[1])))
        holds &= _largest(self.inputs) < 1e18  # whose square is a float32
        room = 0 if self.evaluation.is_remote else memory
        if (exact or not holds) and 8 * n * n <= room:
            return Plan(np.dtype(np.float64), True)
        if not holds:
            return Plan(np.dtype(np.float64), False)
        return Plan(np.dtype(np.float32), 4 * n * n <= room)

    def prepare(self, plan: Plan, memory: int) -> None:
        """Store the matrix, or the inputs in the precision of the fast product."""
        began = time.perf_counter()
        self.storage = str(plan)
        if plan.dtype == np.float64:
            if plan.stored:
                self.store()
        else:
            fast = self.inputs.astype(np.float32, copy=False)
            if plan.stored:
                self._stored = self.evaluation(fast)
                self.memory += 4 * len(self) ** 2
            else:
                self._fast = fast
                self.memory += 0 if fast is self.inputs else _bytes(fast)
        if self._double is None and not self._is_exact:
            size = 2 * _bytes(self.inputs)
            if self.memory + size <= memory:
                self._double, self.memory = double(self.inputs), self.memory + size
        self.seconds += time.perf_counter() - began

    def store(self) -> Values:
        """Keep the float64 matrix without the ridge, and return it."""
        stored = self.evaluation(double(self.inputs))
        self.memory += stored.nbytes
        self._stored = stored
        self.storage = "float64 stored"
        return np.asarray(stored, np.float64)

    @property
    def _is_exact(self) -> bool:
        return self._stored is not None and self._stored.dtype == np.float64

    @property
    def is_single(self) -> bool:
        """Whether fast products are in float32."""
        return self._fast is not None or (self._stored is not None and not self._is_exact)

    def give_up_single(self) -> None:
        """Compute every product in float64 from here on."""
        self.memory -= 0 if self._stored is None else self._stored.nbytes
        self._stored = self._fast = None
        self.storage += ", then float64 recomputed"

    def fast(self, V: Values) -> Values:
        """Return (K + ridge I) V as fast as the plan allows; columns of V have norms near 1."""
        if not self.is_single:
            return self.exact(V)
        began = time.perf_counter()
        single = V.astype(np.float32)
        if self._stored is not None:
            product: Any = self._stored @ single
        else:
            product = self.evaluation.matmul(self._fast, None, single)
        return self._counted(product, V, began)

    def exact(self, V: Values) -> Values:
        """Return (K + ridge I) V in float64."""
        began = time.perf_counter()
        if self._stored is not None and self._is_exact:
            product: Any = self._stored @ V
        elif self._double is not None or self.evaluation.is_remote:
            inputs = double(self.inputs) if self._double is None else self._double
            product = self.evaluation.matmul(inputs, None, V)
        else:
            product = self._by_blocks(V)
        return self._counted(product, V, began)

    def _by_blocks(self, V: Values) -> Values:
        """Multiply block by block: the rows in float64 never exist as a whole."""
        out = np.zeros_like(V)
        blocks = [slice(k, min(k + WIDTH, len(self))) for k in range(0, len(self), WIDTH)]
        for i, rows in enumerate(blocks):
            own = double(self.inputs[rows])
            out[rows] += self.evaluation(own) @ V[rows]
            for columns in blocks[i + 1 :]:
                block = self.evaluation(own, double(self.inputs[columns]))
                out[rows] += block @ V[columns]
                out[columns] += block.T @ V[rows]
        return out

    def columns(self, block: slice, dtype: DTypeLike) -> FloatArray:
        """Return the columns of a block of K + ridge I, from its diagonal downwards."""
        below = slice(block.start, len(self))
        if self._stored is not None:
            part = self._stored[below, block].astype(dtype)
        else:
            part = np.empty((len(self) - block.start, block.stop - block.start), dtype)
            right = double(self.inputs[block])
            for rows in panels(len(part), 8 * part.shape[1], WIDTH * 8 * part.shape[1]):
                left = double(self.inputs[below][rows])
                part[rows] = self.evaluation(left, right)
            # An input with itself may be more than a pair of equal inputs.
            np.einsum("ii->i", part[: part.shape[1]])[:] = self.diagonal[block]
        np.einsum("ii->i", part[: part.shape[1]])[:] += self._ridges[block]
        return part

    def _counted(self, product: FloatArray, V: Values, began: float) -> Values:
        result = np.asarray(product, np.float64) + self._ridges[:, None] * V
        self.products += 1
        self.seconds += time.perf_counter() - began
        return result


def double(inputs: Any) -> Any:
    """Return inputs in float64, not copied where they are."""
    return inputs.astype(np.float64, copy=False)


def _bytes(inputs: Any) -> int:
    for name in ("values", "data"):  # of sequences and images
        array = getattr(inputs, name, None)
        if isinstance(array, np.ndarray):
            return array.nbytes
    return int(inputs.nbytes)


def _largest(inputs: Any) -> float:
    for name in ("values", "data"):
        array = getattr(inputs, name, None)
        if isinstance(array, np.ndarray):
            return _largest(array)
    return max(float(inputs.max()), -float(inputs.min()))
