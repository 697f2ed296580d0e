"""Inputs in blocks on a cluster: arrays of any kind, cut by rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ntkfast.arrays.collections import FloatArray, memories
from ntkfast.arrays.ragged import Sequences, joined
from ntkfast.batch.matrices import Matrix, as_matrix, check_shapes, float_type, rows_of, width_of
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
        return _slices(self.length, self.height)

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
    if lazy:
        return Blocks(_of_dask(session, name, X, height, dtype), length, height, dtype)

    def block(rows: slice) -> Any:
        found = rows_of(matrix, rows, dtype)
        if not isinstance(found, Sequences):  # which are finite
            _check_finite(name, found, rows.start)
        return joined([found])

    parts = [Part(session, partial(block, rows)) for rows in _slices(length, height)]
    return Blocks(parts, length, height, dtype)


def collected(session: Session, inputs: Any) -> Blocks:
    """Bring what a kernel has collected to the cluster."""
    height = _height(len(inputs), row_bytes(inputs))
    parts = [Part(session, partial(_rows, inputs, rows)) for rows in _slices(len(inputs), height)]
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


def is_dask(X: object) -> bool:
    """Whether this is a dask array."""
    return type(X).__module__.split(".")[0] == "dask"


def _height(length: int, row_bytes: int) -> int:
    least, most = HEIGHTS
    wanted = min(max(-(-length // BLOCKS), least), most, max(BLOCK_BYTES // row_bytes, UNIT))
    return -(-wanted // UNIT) * UNIT


def _slices(length: int, height: int) -> Iterator[slice]:
    for first in range(0, length, height):
        yield slice(first, min(first + height, length))


def _rows(inputs: Any, rows: slice) -> Any:
    """Return some rows without the array that they are a view of."""
    return joined([inputs[rows]])


def _check_finite(name: str, block: NDArray[Any], first: int) -> None:
    finite = np.isfinite(block).reshape(len(block), -1).all(axis=1)
    if not finite.all():
        row = first + int(np.argmin(finite))
        raise ValueError(f"{name}: expected finite numbers, row {row} holds NaN or infinity")


def _of_dask(session: Session, name: str, X: Any, height: int, dtype: np.dtype[Any]) -> list[Part]:
    if np.isnan(X.shape).any():
        raise ValueError(
            f"{name}: expected known numbers of rows, got {X.shape}; "
            "call X.compute_chunk_sizes() first"
        )
    whole = {axis: -1 for axis in range(1, X.ndim)}
    blocks = X.astype(dtype).rechunk({0: height, **whole}).to_delayed().ravel()
    return [Part(session, None, future) for future in session.client.compute(list(blocks))]
