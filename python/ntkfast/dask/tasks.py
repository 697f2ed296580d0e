"""What a worker does: kernels of blocks of inputs, on one thread."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ntkfast.arrays.collections import FloatArray
from ntkfast.arrays.ragged import joined
from ntkfast.kernels.base import Kernel


def diagonal(kernel: Kernel, X: Any) -> FloatArray:
    """Return the kernel of each input with itself."""
    return kernel.diag(X)


def tile(kernel: Kernel, X: Any, Y: Any, engine: str | None) -> FloatArray:
    """Return K(X, Y), symmetric where Y is None."""
    return kernel(X, Y, engine=engine, threads=1)


def product(
    kernel: Kernel, X: Any, Y: Sequence[Any], V: Sequence[Any], engine: str | None
) -> FloatArray:
    """Return K(X, Y) V of a block with all of Y, to the bit as one machine finds it."""
    return kernel.matmul(X, _one(Y), _one(V), engine=engine, threads=1)


def symmetric_product(
    kernel: Kernel, X: Sequence[Any], V: Sequence[FloatArray], engine: str | None
) -> tuple[FloatArray, FloatArray | None]:
    """Return K(X, X) V of all blocks together, and of the first of several by itself."""
    found = kernel.matmul(_one(X), None, _one(V), engine=engine, threads=1)
    own = kernel.matmul(X[0], None, V[0], engine=engine, threads=1) if len(X) > 1 else None
    return found, own


def _one(parts: Sequence[Any]) -> Any:
    return parts[0] if len(parts) == 1 else joined(parts)
