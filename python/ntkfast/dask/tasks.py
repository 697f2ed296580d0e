"""What a worker does: kernels of blocks of inputs, on one thread."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ntkfast.arrays.collections import FloatArray, Values
from ntkfast.arrays.panels import panels
from ntkfast.arrays.ragged import joined
from ntkfast.kernels.base import Kernel

PANEL_BYTES = 16 << 20  # of the part of a tile that is there at a time
STRIP = 256  # columns of it that are summed in its precision, before sums go on in float64


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
    return kernel.matmul(X, joined(Y), np.concatenate(V), engine=engine, threads=1)


def symmetric_product(
    kernel: Kernel, X: Any, Y: Any, V: FloatArray, U: FloatArray | None, engine: str | None
) -> tuple[Values, Values | None]:
    """Return K(X, Y) U and K(X, Y)^T V; or K(X, X) V and nothing where Y is None.

    V has the rows of X, U those of Y.
    """
    if Y is None:
        return kernel.matmul(X, None, V, engine=engine, threads=1).astype(np.float64), None
    assert U is not None
    rows, columns = np.zeros(V.shape), np.zeros(U.shape)
    for part in panels(len(X), len(Y) * V.itemsize, PANEL_BYTES):
        panel = kernel(X[part], Y, engine=engine, threads=1)
        _add(panel, U, rows[part])
        _add(panel.T, V[part], columns)
    return rows, columns


def _add(panel: FloatArray, V: FloatArray, sums: Values) -> None:
    for first in range(0, len(V), STRIP):
        strip = slice(first, first + STRIP)
        sums += panel[:, strip] @ V[strip]
