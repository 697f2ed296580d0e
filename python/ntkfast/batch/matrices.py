"""The inputs of a batch job: matrices checked, rows read."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ntkfast.arrays.checks import matrix_shape
from ntkfast.arrays.foreign import host_array, is_foreign
from ntkfast.arrays.ragged import Sequences
from ntkfast.kernels.base import checked_kernel
from ntkfast.support.progress import track

SCAN_BYTES = 16 << 20
_FLOATS = (np.dtype("f4"), np.dtype("f8"))


class Matrix(Protocol):
    """What is read of an input: an array of any kind, in memory or a file, or `Sequences`."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of inputs, and shape of one."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the entries."""

    def __getitem__(self, rows: slice, /) -> Any:
        """Read some rows."""


def as_matrix(name: str, value: Matrix) -> Matrix:
    """Return what has a shape and a dtype as it is, and is read in parts, else an array."""
    if isinstance(value, (str, Path)):
        load = f"ntkfast.batch.load_matrix({str(value)!r})"
        raise TypeError(f"{name}: expected an array, got the name of a file; pass {load}")
    if hasattr(value, "shape") and hasattr(value, "dtype") and not is_foreign(value):
        return value
    try:
        return host_array(name, value)
    except ValueError as error:
        hint = "; sequences of different lengths are ntkfast.sequences(list)"
        raise ValueError(f"{error}{hint if isinstance(value, (list, tuple)) else ''}") from error


def source_of(matrix: Matrix) -> Path | None:
    """Return the file that is read where the numbers of an input do not lie in memory."""
    found: Any = matrix.values if isinstance(matrix, Sequences) else matrix
    while isinstance(found, np.ndarray):  # a view knows the memory map that it is a part of
        if isinstance(found, np.memmap) and found.filename is not None:
            return Path(found.filename)
        found = found.base
    for owner, name in (("store", "root"), ("file", "filename")):  # of zarr, of HDF5
        file = getattr(getattr(found, owner, None), name, None)
        if file is not None:
            return Path(file)
    return None


def check_kernel(kernel: object) -> None:
    """Check that a kernel can be called; a network is none."""
    if hasattr(kernel, "ntk") or not callable(kernel):
        checked_kernel(kernel)


def check_shapes(kernel: object, X: Matrix, Y: Matrix | None) -> None:
    """Check the inputs by the rules of the kernel; by those of matrices for any other callable."""
    first = _shape(kernel, X)
    second = None if Y is None else _shape(kernel, Y)
    if hasattr(kernel, "check_shapes"):
        kernel.check_shapes(first, second)
        return
    matrix_shape("X", first)
    if second is not None:
        matrix_shape("Y", second, first[1])


def _shape(kernel: object, matrix: Matrix) -> tuple[int, ...]:
    """Return the shape of an array as the kernel wants it."""
    shape = tuple(int(length) for length in matrix.shape)
    channels = getattr(getattr(kernel, "network", None), "channels", None)
    if isinstance(matrix, Sequences) and channels == "first":  # whatever they were made of
        return shape[0], shape[2], shape[1]
    return shape


def width_of(matrix: Matrix) -> int:
    """Count the numbers of one input."""
    return math.prod(int(length) for length in matrix.shape[1:])


def float_type(X: Matrix, Y: Matrix | None) -> np.dtype[Any]:
    """Return float32 if all inputs are, else float64; anything else was a mistake."""
    for name, matrix in (("X", X), ("Y", Y)):
        kind = None if matrix is None else np.dtype(matrix.dtype)
        if kind is not None and kind.kind not in "iub" and kind.newbyteorder("=") not in _FLOATS:
            raise TypeError(f"{name}: expected float32 or float64 (or integers), got {kind}")
    inputs = [np.dtype(matrix.dtype) for matrix in (X, Y) if matrix is not None]
    return np.dtype("f4") if all(kind.str[1:] == "f4" for kind in inputs) else np.dtype("f8")


def float_types(
    dtype: DTypeLike | None, X: Matrix, Y: Matrix | None
) -> tuple[np.dtype[Any], np.dtype[Any] | None]:
    """Return the type to compute in, and that of the result if it is another one: float16."""
    own = float_type(X, Y)
    if dtype is None:
        return own, None
    wanted = np.dtype(dtype).newbyteorder("=")
    if wanted == np.float16:
        return own, wanted
    if wanted not in _FLOATS:
        raise TypeError(f"dtype: expected float32, float64 or float16, got {wanted}")
    return wanted, None


def rows_of(matrix: Matrix, rows: slice, dtype: np.dtype[Any]) -> Any:
    """Read some rows, contiguous and of the type of the job; some of sequences if they are such."""
    if isinstance(matrix, Sequences):
        return matrix[rows].astype(dtype, copy=False)
    return np.ascontiguousarray(np.asarray(matrix[rows]), dtype=dtype)


def digest(name: str, matrix: Matrix, progress: bool | None = False) -> str:
    """SHA-256 of the numbers, read in blocks; the same pass finds NaN and infinities."""
    kind = np.dtype(matrix.dtype)
    sha = hashlib.sha256(kind.str.encode())
    if isinstance(matrix, Sequences):  # finite, and padding does not count
        sha.update(np.ascontiguousarray(matrix.lengths).data)
        for i in range(len(matrix)):
            sha.update(np.ascontiguousarray(matrix[i]).view(np.uint8).data.cast("B"))
        return sha.hexdigest()
    step = max(1, SCAN_BYTES // (width_of(matrix) * kind.itemsize))
    for first in track(range(0, matrix.shape[0], step), progress, f"reading {name}", "blocks"):
        block = np.ascontiguousarray(np.asarray(matrix[first : first + step]))
        check_finite(name, block, first)
        sha.update(block.view(np.uint8).data.cast("B"))
    return sha.hexdigest()


def check_finite(name: str, block: NDArray[Any], first: int) -> None:
    """Raise an error that names the row, of a block that begins with row `first`."""
    finite = np.isfinite(block).reshape(len(block), -1).all(axis=1)
    if not finite.all():
        row = first + int(np.argmin(finite))
        raise ValueError(f"{name}: expected finite numbers, row {row} holds NaN or infinity")
