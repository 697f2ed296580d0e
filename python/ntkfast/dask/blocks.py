"""Inputs in blocks on a cluster: arrays of any kind, cut by rows."""

from __future__ import annotations

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
from ntkfast.dask.session import Part, Session
from ntkfast.kernels.base import Kernel

BLOCK_BYTES = 32 << 20  # of a block of inputs at most
UNIT = 64  # rows: heights of blocks are multiples of it
HEIGHTS = 512, 8192  # of a block, where there are as many rows
BLOCKS = 16  # at least, where that leaves the least height


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

    def slices(self) -> Iterator[slice]:
        """Yield the rows of each block."""
        return panels(self.length, 1, self.height)

    def cut(self, session: Session, V: FloatArray) -> list[Part]:
        """Return the rows of a matrix that belong to each block."""
        return [Part(session, partial(_rows, V, rows)) for rows in self.slices()]


def read(session: Session, name: str, kernel: Kernel, X: Any) -> Blocks:
    """Bring inputs to the cluster: those of a dask array stay there, others are read by blocks.

    Raises
    ------
    TypeError, ValueError
        If an array has the wrong type or shape, or holds NaN or infinity.
    """
    lazy = is_dask(X)
    matrix: Matrix = X if lazy else as_matrix(name, X)
    check_shapes(kernel, matrix, None)
    length, dtype = int(matrix.shape[0]), float_type(None, matrix, None)
    height = _height(length, width_of(matrix) * dtype.itemsize)
    make = _of_dask if lazy else parts_of
    return Blocks(make(session, name, matrix, height, dtype), length, height, dtype)


def parts_of(
    session: Session, name: str, X: Matrix, height: int, dtype: np.dtype[Any]
) -> list[Part]:
    """Return blocks of some height, read when they are first needed."""

    def block(rows: slice) -> Any:
        found = rows_of(X, rows, dtype)
        if not isinstance(found, Sequences):  # which are finite
            check_finite(name, found, rows.start)
        return joined([found])

    return [Part(session, partial(block, rows)) for rows in panels(X.shape[0], 1, height)]


def collected(session: Session, inputs: Any) -> Blocks:
    """Bring what a kernel has collected to the cluster."""
    height = _height(len(inputs), row_bytes(inputs))
    parts = [Part(session, partial(_rows, inputs, rows)) for rows in panels(len(inputs), 1, height)]
    return Blocks(parts, len(inputs), height, np.dtype(inputs.dtype))


def row_bytes(inputs: Any) -> int:
    """Return the bytes of one input."""
    if isinstance(inputs, np.ndarray):
        size = inputs.nbytes
    elif isinstance(inputs, Sequences):
        size = inputs.values.nbytes
    else:
        size = sum(memory.nbytes for memory in memories(inputs))
    return max(size // len(inputs), 1)


def _height(length: int, row_bytes: int) -> int:
    least, most = HEIGHTS
    wanted = min(max(-(-length // BLOCKS), least), most, max(BLOCK_BYTES // row_bytes, UNIT))
    return -(-wanted // UNIT) * UNIT


def _rows(inputs: Any, rows: slice) -> Any:
    """Return some rows without the array that they are a view of."""
    return joined([inputs[rows]])


def _of_dask(session: Session, name: str, X: Any, height: int, dtype: np.dtype[Any]) -> list[Part]:
    check_length(name, X)
    whole = {axis: -1 for axis in range(1, X.ndim)}
    blocks = X.astype(dtype).rechunk({0: height, **whole}).to_delayed().ravel()
    return [Part(session, None, future) for future in session.client.compute(list(blocks))]
