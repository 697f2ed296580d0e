"""Inputs in blocks on a cluster: arrays of any kind, cut by rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import numpy as np

from ntkfast.arrays.collections import FloatArray, memories
from ntkfast.arrays.dask_arrays import check_length, is_dask
from ntkfast.arrays.panels import panels
from ntkfast.arrays.ragged import Sequences
from ntkfast.batch.matrices import (
    Matrix,
    as_matrix,
    check_finite,
    check_shapes,
    float_type,
    rows_of,
    width_of,
)
from ntkfast.dask.parts import SHARED_BYTES, Part, Piece, cut
from ntkfast.dask.session import Session
from ntkfast.engines.groups import group_rows
from ntkfast.kernels.base import Kernel

GROUPS = 14  # of inputs that take long: a hundred pairs of them
STRIP = 512  # rows that are paired with all of other inputs
BLOCK_BYTES = 32 << 20  # of such rows at most

Cutter: TypeAlias = Callable[[int, int], list[slice]]  # of a length and the bytes of an input


@dataclass(frozen=True)
class Blocks:
    """Inputs in blocks of rows on the cluster.

    Cuts depend on kernel and inputs alone, and not on the cluster: sums over blocks have the same
    bits on any number of workers.

    Attributes
    ----------
    pieces : list of Piece
    slices : list of slice
        Rows of each block.
    dtype : dtype
    """

    pieces: list[Piece]
    slices: list[slice]
    dtype: np.dtype[Any]

    def __len__(self) -> int:
        return int(self.slices[-1].stop)

    def like(self, V: FloatArray) -> list[Piece]:
        """Return the rows of a matrix that belong to each block."""
        return cut(lambda rows: Part(partial(_rows, V, rows)), self.slices, V.nbytes)


def groups_of(kernel: Kernel, length: int) -> list[slice]:
    """Cut inputs into the groups of K(X, X) V: those of the engines, if they have any."""
    rows = group_rows(length) if kernel.of_rows else -(-length // GROUPS)
    return list(panels(length, 1, rows))


def strips(length: int, row_bytes: int) -> list[slice]:
    """Cut inputs that are paired with all of others."""
    wanted = max(min(length // 16, STRIP), length // 128)
    most = max(min(wanted, BLOCK_BYTES // max(row_bytes, 1)), 1)
    return list(panels(length, 1, -(-length // -(-length // most))))


def wholes(length: int, row_bytes: int) -> list[slice]:
    """Cut inputs of which each task has all: not at all, if they travel as one."""
    if length * row_bytes <= SHARED_BYTES:
        return [slice(0, length)]
    return strips(length, row_bytes)


def read(
    session: Session, name: str, kernel: Kernel, X: Any, cut_by: Cutter | None = None
) -> Blocks:
    """Bring inputs to the cluster: those of a dask array stay there, others are read by blocks.

    Parameters
    ----------
    cut_by : callable, optional
        `strips` or `wholes`; None: into groups, whose pairs are wanted.

    Raises
    ------
    TypeError, ValueError
        If an array has the wrong type or shape, or holds NaN or infinity.
    """
    lazy = is_dask(X)
    if lazy:
        check_length(name, X)
    matrix: Matrix = X if lazy else as_matrix(name, X)
    check_shapes(kernel, matrix, None)
    length, dtype = int(matrix.shape[0]), float_type(matrix, None)
    if cut_by is None:
        slices = groups_of(kernel, length)
    else:
        slices = cut_by(length, width_of(matrix) * dtype.itemsize)
    if lazy:
        return Blocks(_of_dask(session, name, matrix, slices, dtype), slices, dtype)
    return Blocks(parts_of(name, matrix, slices, dtype), slices, dtype)


def parts_of(name: str, X: Matrix, slices: list[slice], dtype: np.dtype[Any]) -> list[Piece]:
    """Return blocks that are read when they are first needed."""

    def block(rows: slice) -> Any:
        found = rows_of(X, rows, dtype)
        if not isinstance(found, Sequences):  # which are finite
            check_finite(name, found, rows.start)
        return found

    size = X.shape[0] * width_of(X) * dtype.itemsize
    return cut(lambda rows: Part(partial(block, rows)), slices, size)


def collected(inputs: Any, slices: list[slice]) -> Blocks:
    """Return what a kernel has collected in blocks."""
    pieces = cut(
        lambda rows: Part(partial(_rows, inputs, rows)), slices, bytes_of(inputs) * len(inputs)
    )
    return Blocks(pieces, slices, np.dtype(inputs.dtype))


def bytes_of(inputs: Any) -> int:
    """Return the bytes of one input, about."""
    if isinstance(inputs, np.ndarray):
        size = inputs.nbytes
    elif isinstance(inputs, Sequences):
        size = inputs.values.nbytes
    else:
        size = sum(memory.nbytes for memory in memories(inputs))
    return size // len(inputs)


def _rows(inputs: Any, rows: slice) -> Any:
    return inputs[rows]


def _of_dask(
    session: Session, name: str, X: Any, slices: list[slice], dtype: np.dtype[Any]
) -> list[Piece]:
    from dask.delayed import delayed

    rows = X.astype(dtype).rechunk({axis: -1 for axis in range(1, X.ndim)})

    def block(some: slice) -> Part:
        (found,) = rows[some].rechunk({0: -1}).to_delayed().ravel()
        return Part(None, delayed(_finite, pure=False)(name, found, some.start))

    pieces = cut(block, slices, X.nbytes)
    parts = list(dict.fromkeys(piece.part for piece in pieces))
    futures = session.client.compute([part.future for part in parts])  # what they share, once
    for part, future in zip(parts, futures, strict=True):
        part.future = future
    return pieces


def _finite(name: str, block: Any, first: int) -> Any:
    check_finite(name, block, first)
    return block
