"""The memory of the host: NumPy arrays, and whatever NumPy makes arrays of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ntkfast import engines
from ntkfast.arrays import checks, ragged
from ntkfast.arrays.collections import Collection, FloatArray, Images, Rows, Shape
from ntkfast.arrays.foreign import host_array
from ntkfast.arrays.panels import PANEL_BYTES, panels
from ntkfast.arrays.ragged import Sequences
from ntkfast.places.base import Output, Place


class Host(Place):
    """The host; see `Place`."""

    panel_bytes = PANEL_BYTES
    feature_bytes = 1 << 24

    def engine(self, name: str | None) -> engines.Engine:
        """Return the engine of this name, or the fastest one."""
        return engines.select(name)

    def matrix(self, name: str, value: Any) -> FloatArray:
        """Return a matrix, copied where its rows have no unit stride."""
        return checks.matrix(name, value)

    def rows(self, X: Any, Y: Any) -> tuple[Rows, Rows | None]:
        """Return rows with their norms."""
        found = engines.measured_rows(X, Y)
        if found is None:  # something has to be converted, or refused
            X = checks.matrix("X", X)
            if Y is not None:
                Y = checks.matrix("Y", Y)
                checks.same_features(X, Y)
                X, Y = checks.same_dtype(X, Y)
            found = *engines.measured_norms(X), *(() if Y is None else engines.measured_norms(Y))
        rows = checks.rows("X", X, *found[:3])
        return rows, None if Y is None else checks.rows("Y", Y, *found[3:])

    def images(
        self, X: Any, Y: Any, wanted: Shape | None, fits: Callable[[Shape], object]
    ) -> tuple[Images, Images | None]:
        """Return images, one per row."""
        left = _images("X", X, wanted, fits)
        if Y is None:
            return left, None
        right = _images("Y", Y, wanted, fits)
        if right.shape != left.shape:
            raise ValueError(f"Y: expected images of shape {left.shape}, got {right.shape}")
        dtype = np.result_type(left.dtype, right.dtype)
        return left.astype(dtype, copy=False), right.astype(dtype, copy=False)

    def sequences(self, X: Any, Y: Any) -> list[tuple[Sequences, NDArray[Any]]]:
        """Return sequences of one length or of several."""
        left = ragged.checked("X", X)
        if Y is None:
            return [(left, left.values)]
        left, right = ragged.matched(left, ragged.checked("Y", Y))
        return [(left, left.values), (right, right.values)]

    def factor(
        self, V: Any, count: int, like: Collection, name: str = "V"
    ) -> tuple[FloatArray, bool]:
        """Return V in the dtype of the inputs."""
        matrix, vector = checks.columns(name, V, count)
        return checks.narrowed(name, matrix, like.dtype), vector

    def output(
        self,
        out: Any,
        shape: tuple[int, int],
        like: Collection,
        dtype: np.dtype[Any] | None = None,
        **read: Collection | None,
    ) -> Output:
        """Return an array of any strides."""
        kept = like.dtype if dtype is None else dtype
        if out is None:
            result: FloatArray = np.empty(shape, kept)
            return Output(result, result, result)
        result = checks.output("out", out, shape, kept)
        checks.disjoint("out", result, **read)
        target = result if result.flags.aligned else np.empty(shape, kept)
        return Output(target, result, result)

    def product_output(
        self, out: Any, shape: tuple[int, int], like: Collection, vector: bool, **read: Any
    ) -> Output:
        """Return an array, and rows of unit stride that are copied to it in the end if need be."""
        column = out[:, None] if vector and isinstance(out, np.ndarray) and out.ndim == 1 else out
        memory = self.output(column, shape, like, **read).memory
        unit = memory.strides[1] == memory.itemsize and memory.flags.aligned
        target = memory if unit else np.empty(shape, like.dtype)
        made = memory[:, 0] if vector else memory
        return Output(target, memory, made if out is None else out)

    def transformed(self, X: Any, out: Any) -> tuple[FloatArray, Output]:
        """Return rows, or a vector as one row, and an array whose rows have unit stride."""
        vector = np.ndim(X) == 1
        rows = checks.matrix("X", host_array("X", X)[None] if vector else X)
        given = out[None] if vector and isinstance(out, np.ndarray) and out.ndim == 1 else out
        memory = checks.output("out", given, (len(rows), rows.shape[1]), rows.dtype)
        direct = checks.unit_stride(memory) and memory.flags.aligned
        target = memory if direct else np.empty_like(rows, order="C")
        if np.may_share_memory(rows, target) and not _same_memory(rows, target):
            rows = rows.copy()
        made = memory[0] if vector else memory
        return rows, Output(target, memory, made if out is None else out)

    def values(self, values: FloatArray, like: Collection) -> FloatArray:
        """Return them as they are."""
        return values

    def row_norms(self, X: Any) -> FloatArray:
        """Return the norms by the best engine."""
        return engines.row_norms(X)

    def finite(self, array: Any) -> bool:
        """Whether all numbers of a matrix are finite."""
        return bool(np.isfinite(np.min(array) + np.max(array)))

    def empty(self, like: Any, shape: tuple[int, int]) -> FloatArray:
        """Return memory of the dtype of `like`."""
        return np.empty(shape, like.dtype)

    def clear(self, array: Any) -> None:
        """Write zeros."""
        array[...] = 0

    def beside(self, left: Any, right: Any) -> FloatArray:
        """Return the columns of both matrices in one."""
        return np.hstack([left, right])

    def add_turned(self, matrix: Any, part: Any) -> None:
        """Add the transpose of `part` to a matrix."""
        matrix += part.T

    def add_mirrored(self, matrix: Any) -> None:
        """Add its transpose to a square matrix, panel by panel from the diagonal on."""
        for rows in panels(len(matrix), len(matrix) * matrix.itemsize):
            rest = slice(rows.start, None)
            both = matrix[rows, rest] + matrix[rest, rows].T
            matrix[rows, rest], matrix[rest, rows] = both, both.T

    def multiply(self, A: Any, V: Any, out: Any, diagonal: FloatArray | None, shift: int) -> None:
        """Write A V by BLAS."""
        if diagonal is not None:
            np.einsum("ii->i", A[:, shift : shift + len(A)])[:] = diagonal
        out[...] = A @ V.astype(np.float64, copy=False)


def _images(name: str, value: Any, wanted: Shape | None, fits: Callable[[Shape], object]) -> Images:
    if isinstance(value, Images):
        return value
    array = checks.images(name, value, wanted)
    shape = array.shape[1], array.shape[2], array.shape[3]
    fits(shape)  # before any work
    data = np.ascontiguousarray(array.reshape(len(array), -1))
    norms = engines.row_norms(data).astype(np.float64)
    checks.finite_images(name, data, norms)
    return Images(data, shape, norms)


def _same_memory(first: FloatArray, second: FloatArray) -> bool:
    """Whether two arrays of one shape are the same entries."""
    same_rows = len(first) == 1 or first.strides[0] == second.strides[0]
    return same_rows and first.ctypes.data == second.ctypes.data
