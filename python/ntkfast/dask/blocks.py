"""Inputs in blocks on a cluster: arrays of any kind, cut by rows."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from ntkfast.arrays.collections import FloatArray, memories
from ntkfast.arrays.dask_arrays import check_length, is_dask
from ntkfast.arrays.panels import panels
from ntkfast.arrays.ragged import Sequences, joined
from ntkfast.batch.matrices import (
    Matrix,
    as_matrix,
    check_finite,
    check_shapes,
    float_type,
    rows_of,
    width_of,
)
from ntkfast.dask.parts import Part
from ntkfast.dask.session import Session
from ntkfast.kernels.base import Kernel

BLOCK_BYTES = 32 << 20  # of a block of inputs at most
UNIT = 16  # rows: heights of blocks are multiples of it
MANY = 128  # blocks, for which there are workers enough
TASK = 1 << 31  # operations of a pair of blocks of rows: some 50 ms
PAIR = 64, 512  # operations of a pair of rows beside their product: of a profile, of layers


@dataclass(frozen=True)
class Blocks:
    """Inputs in blocks of rows, each of them a part on the cluster.

    Their height depends on the inputs alone, and not on the cluster: sums over blocks have the same
    bits on any number of workers.

    Attributes
    ----------
    parts : list of Part
    length, height : int
        Rows in all, and of a block.
    dtype : dtype
    """

    parts: list[Part]
    length: int
    height: int
    dtype: np.dtype[Any]

    def __len__(self) -> int:
        return len(self.parts)

    def rows(self, i: int) -> int:
        """Count the rows of a block."""
        return min(self.height, self.length - i * self.height)

    def slices(self) -> Iterator[slice]:
        """Yield the rows of each block."""
        return panels(self.length, 1, self.height)

    def cut(self, V: FloatArray) -> list[Part]:
        """Return the rows of a matrix that belong to each block."""
        return [Part(partial(_rows, V, rows)) for rows in self.slices()]


def square(kernel: Kernel, length: int, width: int, itemsize: int) -> int:
    """Return the height of blocks that are paired with each other.

    It depends on kernel and inputs alone. Pairs of blocks take a moment each, where it is known how
    long that is: of rows; and there are as many of them as a large cluster needs.
    """
    least = length // 32
    if kernel.of_rows:
        least = math.isqrt(TASK // (width + PAIR[not kernel.is_zonal]))
    return _even(length, max(least, length // MANY), width * itemsize)


def strip(length: int, width: int, itemsize: int) -> int:
    """Return the height of blocks that are paired with all of other inputs."""
    return _even(length, max(min(length // 16, 512), length // MANY), width * itemsize)


def _even(length: int, wanted: int, row_bytes: int) -> int:
    """Return a height near the one wanted with which all blocks have about as many rows."""
    most = max(min(wanted, BLOCK_BYTES // max(row_bytes, 1)), UNIT)
    return -(-length // -(-length // most) // UNIT) * UNIT


def read(session: Session, name: str, kernel: Kernel, X: Any, *, alone: bool = True) -> Blocks:
    """Bring inputs to the cluster: those of a dask array stay there, others are read by blocks.

    Parameters
    ----------
    alone : bool
        Whether blocks are paired with each other, and not with other inputs.

    Raises
    ------
    TypeError, ValueError
        If an array has the wrong type or shape, or holds NaN or infinity.
    """
    lazy = is_dask(X)
    matrix: Matrix = X if lazy else as_matrix(name, X)
    check_shapes(kernel, matrix, None)
    length, dtype = int(matrix.shape[0]), float_type(None, matrix, None)
    size = length, width_of(matrix), dtype.itemsize
    height = square(kernel, *size) if alone else strip(*size)
    if lazy:
        parts = _of_dask(session, name, matrix, height, dtype)
    else:
        parts = parts_of(name, matrix, height, dtype)
    return Blocks(parts, length, height, dtype)


def parts_of(name: str, X: Matrix, height: int, dtype: np.dtype[Any]) -> list[Part]:
    """Return blocks of some height, read when they are first needed."""

    def block(rows: slice) -> Any:
        found = rows_of(X, rows, dtype)
        if not isinstance(found, Sequences):  # which are finite
            check_finite(name, found, rows.start)
        return joined([found])

    return [Part(partial(block, rows)) for rows in panels(X.shape[0], 1, height)]


def collected(inputs: Any, height: int) -> Blocks:
    """Return what a kernel has collected in blocks."""
    parts = [Part(partial(_rows, inputs, rows)) for rows in panels(len(inputs), 1, height)]
    return Blocks(parts, len(inputs), height, np.dtype(inputs.dtype))


def numbers_in(inputs: Any) -> int:
    """Count the numbers of one input, about."""
    if isinstance(inputs, np.ndarray):
        size = inputs.size
    elif isinstance(inputs, Sequences):
        size = inputs.values.size
    else:
        size = sum(memory.size for memory in memories(inputs))
    return max(size // len(inputs), 1)


def _rows(inputs: Any, rows: slice) -> Any:
    """Return some rows without the array that they are a view of."""
    return joined([inputs[rows]])


def _of_dask(session: Session, name: str, X: Any, height: int, dtype: np.dtype[Any]) -> list[Part]:
    check_length(name, X)
    from dask.delayed import delayed

    whole = {axis: -1 for axis in range(1, X.ndim)}
    blocks = X.astype(dtype).rechunk({0: height, **whole}).to_delayed().ravel()
    checked = [
        delayed(_finite, pure=False)(name, block, i * height) for i, block in enumerate(blocks)
    ]
    return [Part(None, future) for future in session.client.compute(checked)]


def _finite(name: str, block: Any, first: int) -> Any:
    check_finite(name, block, first)
    return block
