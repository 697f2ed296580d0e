"""Arrays as compiled code takes them: flat memory, the place of the first entry, and strides."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ntkfast.arrays.collections import FloatArray
from ntkfast.engines.numba.problem import Matrix


class _Memory:
    """The memory that a matrix spans as a flat array; writable by type, so that one type does."""

    def __init__(self, matrix: FloatArray) -> None:
        item = matrix.itemsize
        spans = [(n - 1) * step for n, step in zip(matrix.shape, matrix.strides, strict=True)]
        low = sum(min(span, 0) for span in spans)
        self.first = -low // item
        self.owner = matrix
        self.__array_interface__ = {
            "version": 3,
            "data": (matrix.ctypes.data + low, False),
            "typestr": matrix.dtype.str,
            "shape": (sum(map(abs, spans)) // item + 1,),
        }


def flat(matrix: FloatArray) -> tuple[FloatArray, int]:
    """Return the memory that a matrix of any strides spans, and the position of entry (0, 0)."""
    if not matrix.size:
        return np.empty(0, matrix.dtype), 0
    memory = _Memory(matrix)
    return np.asarray(memory), memory.first


def flat_rows(matrix: FloatArray) -> Matrix:
    """Return the memory of a matrix whose rows have unit stride."""
    stride = matrix.strides[0] // matrix.itemsize if len(matrix) > 1 else matrix.shape[1]
    return Matrix(*flat(matrix), stride if matrix.size else 0)


def zeros(count: int, dtype: Any) -> NDArray[Any]:
    """Allocate a buffer that starts at a cache line."""
    size = np.dtype(dtype).itemsize
    raw = np.zeros(count + 64 // size, dtype)
    skip = -raw.ctypes.data % 64 // size
    return raw[skip : skip + count]
