"""The inputs of a batch job: files opened, matrices checked, rows read."""

from __future__ import annotations

import hashlib
import io
import math
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ntkfast.arrays.checks import matrix_shape
from ntkfast.arrays.ragged import Sequences
from ntkfast.kernels.base import checked_kernel
from ntkfast.support.optional import require

SCAN_BYTES = 16 << 20
_FLOATS = (np.dtype("f4"), np.dtype("f8"))


class Matrix(Protocol):
    """What is read of an input: an array, a memory map, a zarr array or `Sequences`."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of inputs, and shape of one."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the entries."""

    def __getitem__(self, rows: slice, /) -> Any:
        """Read some rows."""


def load_matrix(path: str | os.PathLike[str], *, key: str | None = None) -> Any:
    r"""Open a matrix of numbers from a ``.npy``, ``.npz``, ``.csv``, ``.tsv`` or ``.zarr`` file.

    Parameters
    ----------
    path : path
        ``.npy`` and ``.zarr`` are not read into memory but mapped. A text file may begin with a
        line of column names, and a byte order mark or blank lines do no harm. ``data.npz:name``
        stands for the array `name` of an archive.
    key : str, optional
        The array wanted from an archive; may be left out when there is only one.

    Returns
    -------
    array, memory map or zarr array, shape (n, d); or with 3 or 4 axes, the first counts inputs
        float32 and float64 are kept as they are; integers are promoted when they are used.

    Raises
    ------
    FileNotFoundError, ValueError
        With the name of the file, what was wanted and what was found.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from ntkfast import batch
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = pathlib.Path(folder, "points.csv")
    ...     _ = file.write_text("x,y\n1,2\n3,4.5\n")
    ...     batch.load_matrix(file)
    array([[1. , 2. ],
           [3. , 4.5]])
    """
    file, matrix = _opened(path, key)
    if not 2 <= len(matrix.shape) <= 4:
        raise ValueError(
            f"{file}: expected a matrix (n, d), or 3 or 4 axes, got shape {matrix.shape}"
        )
    if np.dtype(matrix.dtype).kind not in "fiub":
        raise ValueError(f"{file}: expected real numbers, got dtype {matrix.dtype}")
    return matrix


def load_lengths(path: str | os.PathLike[str]) -> NDArray[np.int64]:
    """Read lengths of sequences, whole numbers in a row or a column, from the same kinds of files.

    Raises
    ------
    FileNotFoundError, ValueError
        With the name of the file, what was wanted and what was found.
    """
    file, found = _opened(path, None)
    values = np.asarray(found)
    if values.size != max(values.shape, default=0) or values.dtype.kind not in "fiu":
        raise ValueError(f"{file}: expected lengths (n,), got shape {values.shape}")
    lengths = values.ravel().astype(np.int64)
    if not np.array_equal(lengths, values.ravel()):
        raise ValueError(f"{file}: expected whole numbers, got {values.dtype} with fractions")
    return lengths


def _opened(path: str | os.PathLike[str], key: str | None) -> tuple[Path, Any]:
    """Return a file and the array in it."""
    file, key = _split_key(path, key)
    if not file.exists():
        raise FileNotFoundError(f"{file}: no such file")
    reader = _READERS.get(file.suffix.lower())
    if reader is None:
        raise ValueError(f"{file}: expected one of {', '.join(_READERS)}, got '{file.suffix}'")
    if key is not None and file.suffix.lower() != ".npz":
        raise ValueError(f"{file}: only an .npz archive has named arrays, got the name '{key}'")
    return file, reader(file, key)


# --- Readers, by suffix --------------------------------------------------------------------------


def _split_key(path: str | os.PathLike[str], key: str | None) -> tuple[Path, str | None]:
    """Understand ``archive.npz:name``."""
    match = re.fullmatch(r"(.+\.npz):([^/\\:]+)", os.fspath(path), re.IGNORECASE)
    if match and not Path(path).exists():
        return Path(match[1]), match[2]
    return Path(path), key


def _read_npy(path: Path, key: str | None) -> Any:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise ValueError(f"{path}: cannot be read as .npy ({error})") from error


def _read_npz(path: Path, key: str | None) -> Any:
    import zipfile

    try:
        with np.load(path, allow_pickle=False) as archive:
            names = list(archive.files)
            if key is None and len(names) == 1:
                key = names[0]
            if key in names:
                return archive[key]
    except (ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: cannot be read as .npz ({error})") from error
    found = ", ".join(names)
    if key is None:
        raise ValueError(
            f"{path}: expected one array, got {found}; choose one as {path}:{names[0]}"
        )
    raise ValueError(f"{path}: expected one of {found}, got the name '{key}'")


def _read_text(path: Path, key: str | None) -> Any:
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    try:
        with open(path, encoding="utf-8-sig") as file:
            skip = _header_lines(file, delimiter)
        return np.loadtxt(
            path, delimiter=delimiter, skiprows=skip, ndmin=2, encoding="utf-8-sig", comments="#"
        )
    except (ValueError, OSError) as error:
        raise ValueError(f"{path}: cannot be read as a table of numbers ({error})") from error


def _header_lines(lines: io.TextIOBase, delimiter: str) -> int:
    """Count the lines up to and with a line of column names; zero if there is none."""
    skip = 0
    for number, line in enumerate(lines):
        cells = [cell.strip() for cell in line.split("#")[0].split(delimiter)]
        if any(cells):
            # Names only: a line with some numbers is data, and its bad cell deserves an error.
            if skip or any(_is_number(cell) for cell in cells):
                return skip
            skip = number + 1
    raise ValueError("it has no data")


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _read_zarr(path: Path, key: str | None) -> Any:
    zarr = require("zarr", "zarr")
    try:
        return zarr.open_array(store=str(path), mode="r")
    except Exception as error:  # zarr has many kinds of errors for "not an array"
        raise ValueError(f"{path}: cannot be opened as a zarr array ({error})") from error


_READERS: dict[str, Callable[[Path, str | None], Any]] = {
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".csv": _read_text,
    ".tsv": _read_text,
    ".zarr": _read_zarr,
}


# --- Matrices ------------------------------------------------------------------------------------


def as_matrix(name: str, value: Matrix) -> Matrix:
    """Return what has a shape and a dtype as it is, else an array."""
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return value
    try:
        return np.asarray(value)
    except ValueError as error:  # lists of different lengths
        raise ValueError(
            f"{name}: expected an array, or ntkfast.sequences(list) of different lengths; {error}"
        ) from error


def source_of(matrix: Matrix) -> Path | None:
    """Return the file that is read where the numbers of an input do not lie in memory."""
    found: Any = matrix.values if isinstance(matrix, Sequences) else matrix
    while isinstance(found, np.ndarray):  # a view knows the memory map that it is a part of
        if isinstance(found, np.memmap) and found.filename is not None:
            return Path(found.filename)
        found = found.base
    root = getattr(getattr(found, "store", None), "root", None)  # of a zarr array on this machine
    return None if root is None else Path(root)


def check_kernel(kernel: object) -> None:
    """Check that a kernel can be called; a network is none."""
    if hasattr(kernel, "ntk") or not callable(kernel):
        checked_kernel(kernel)


def check_shapes(kernel: object, X: Matrix, Y: Matrix | None) -> None:
    """Check the inputs by the rules of the kernel; by those of matrices for any other callable."""
    first = tuple(int(length) for length in X.shape)
    second = None if Y is None else tuple(int(length) for length in Y.shape)
    if hasattr(kernel, "check_shapes"):
        kernel.check_shapes(first, second)
        return
    matrix_shape("X", first)
    if second is not None:
        matrix_shape("Y", second, first[1])


def width_of(matrix: Matrix) -> int:
    """Count the numbers of one input."""
    return math.prod(int(length) for length in matrix.shape[1:])


def float_type(dtype: DTypeLike | None, X: Matrix, Y: Matrix | None) -> np.dtype[Any]:
    """Choose float32 or float64; anything else was a mistake."""
    for name, matrix in (("X", X), ("Y", Y)):
        kind = None if matrix is None else np.dtype(matrix.dtype)
        if kind is not None and kind.kind not in "iub" and kind.newbyteorder("=") not in _FLOATS:
            raise TypeError(f"{name}: expected float32 or float64 (or integers), got {kind}")
    if dtype is not None:
        wanted = np.dtype(dtype).newbyteorder("=")
        if wanted not in _FLOATS:
            raise TypeError(f"dtype: expected float32 or float64, got {wanted}")
        return wanted
    inputs = [np.dtype(matrix.dtype) for matrix in (X, Y) if matrix is not None]
    return np.dtype("f4") if all(kind.str[1:] == "f4" for kind in inputs) else np.dtype("f8")


def rows_of(matrix: Matrix, rows: slice, dtype: np.dtype[Any]) -> Any:
    """Read some rows, contiguous and of the type of the job; some of sequences if they are such."""
    if isinstance(matrix, Sequences):
        return matrix[rows].astype(dtype, copy=False)
    return np.ascontiguousarray(np.asarray(matrix[rows]), dtype=dtype)


def digest(name: str, matrix: Matrix) -> str:
    """SHA-256 of the numbers, read in blocks; the same pass finds NaN and infinities."""
    kind = np.dtype(matrix.dtype)
    sha = hashlib.sha256(kind.str.encode())
    if isinstance(matrix, Sequences):  # finite, and padding does not count
        sha.update(np.ascontiguousarray(matrix.lengths).data)
        for i in range(len(matrix)):
            sha.update(np.ascontiguousarray(matrix[i]).view(np.uint8).data.cast("B"))
        return sha.hexdigest()
    step = max(1, SCAN_BYTES // (width_of(matrix) * kind.itemsize))
    for first in range(0, matrix.shape[0], step):
        block = np.ascontiguousarray(np.asarray(matrix[first : first + step]))
        finite = np.isfinite(block).reshape(len(block), -1).all(axis=1)
        if not finite.all():
            row = first + int(np.argmin(finite))
            raise ValueError(f"{name}: expected finite numbers, row {row} holds NaN or infinity")
        sha.update(block.view(np.uint8).data.cast("B"))
    return sha.hexdigest()
