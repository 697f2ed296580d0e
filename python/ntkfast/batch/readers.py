"""The files of a batch job opened: arrays, archives, groups of arrays and tables."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ntkfast.batch.tables import ASK, is_number, read_names, read_table, read_words
from ntkfast.support.optional import require


def load_matrix(
    path: str | os.PathLike[str],
    *,
    key: str | None = None,
    delimiter: str | None = None,
    header: bool | None = None,
) -> Any:
    r"""Open a matrix of numbers from a file.

    Parameters
    ----------
    path : path
        ``.npy``, ``.zarr``, ``.h5`` and ``.hdf5`` are not read into memory but opened, ``.npz``,
        ``.csv`` and ``.tsv`` are read. ``data.npz:name`` stands for the array `name` of an archive,
        of a zarr group or of an HDF5 file. A byte order mark, blank lines and what follows a '#' in
        a table do no harm.
    key : str, optional
        The array wanted from an archive; may be left out when there is only one.
    delimiter : str, optional
        Of the cells of a table, one character. Default: a comma, semicolon, tab, bar or spaces, by
        its first lines.
    header : bool, optional
        Whether a table begins with a line of column names. Default: if no cell of its first line is
        a number.

    Returns
    -------
    array, memory map, zarr.Array or h5py.Dataset, shape (n, d); or with 3 or 4 axes
        The first axis counts inputs. float32 and float64 are kept as they are; integers are
        promoted when they are used.

    Raises
    ------
    FileNotFoundError, ValueError
        With the name of the file, what was wanted and what was found; of a table, the line.

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
    file, matrix = _opened(path, key, delimiter, header)
    if not 2 <= len(matrix.shape) <= 4:
        raise ValueError(
            f"{file}: expected a matrix (n, d), or 3 or 4 axes, got shape {matrix.shape}"
        )
    if np.dtype(matrix.dtype).kind not in "fiub":
        raise ValueError(f"{file}: expected real numbers, got dtype {matrix.dtype}")
    return matrix


def load_targets(
    path: str | os.PathLike[str], *, delimiter: str | None = None, header: bool | None = None
) -> NDArray[Any]:
    """Read targets (n,) or (n, c), numbers or strings, from the same kinds of files.

    A table of one column gives (n,), of strings if they are no numbers. Its first line is no name
    if it comes again; where that does not tell, `header` has to.

    Raises
    ------
    FileNotFoundError, ValueError
        With the name of the file, what was wanted and what was found.
    """
    return named_targets(path, delimiter=delimiter, header=header)[0]


def named_targets(
    path: str | os.PathLike[str], *, delimiter: str | None = None, header: bool | None = None
) -> tuple[NDArray[Any], list[str] | None]:
    """Read targets as `load_targets` does, and the names of their columns if they have any."""
    words = read_words(Path(path)) if is_text(path) and Path(path).exists() else None
    if words:
        if header is None and words[0] in words[1:]:
            header = False
        if not all(map(is_number, words[1:] or words)):
            if header is None:
                raise ValueError(f"{path}: {words[0]!r} can be a name or a class; {ASK}")
            return np.array(words[1:] if header else words), words[:1] if header else None
    file, found = _opened(path, None, delimiter, header)
    values = np.asarray(found)
    if values.ndim not in (1, 2) or not values.size:
        raise ValueError(f"{file}: expected targets (n,) or (n, c), got shape {values.shape}")
    if values.dtype.kind not in "fiubU":
        raise ValueError(f"{file}: expected real numbers or strings, got dtype {values.dtype}")
    if not is_text(path):
        return values, None
    names = read_names(file, delimiter=delimiter, header=header)
    return values[:, 0] if values.shape[1] == 1 else values, names


def load_lengths(
    path: str | os.PathLike[str], *, delimiter: str | None = None, header: bool | None = None
) -> NDArray[np.int64]:
    """Read lengths of sequences, whole numbers in a row or a column, from the same kinds of files.

    Raises
    ------
    FileNotFoundError, ValueError
        With the name of the file, what was wanted and what was found.
    """
    file, found = _opened(path, None, delimiter, header)
    values = np.asarray(found)
    if values.size != max(values.shape, default=0) or values.dtype.kind not in "fiu":
        raise ValueError(f"{file}: expected lengths (n,), got shape {values.shape}")
    lengths = values.ravel().astype(np.int64)
    if not np.array_equal(lengths, values.ravel()):
        raise ValueError(f"{file}: expected whole numbers, got {values.dtype} with fractions")
    return lengths


def is_text(path: str | os.PathLike[str]) -> bool:
    """Tell whether a file is a table of text, which has a delimiter and may have column names."""
    return Path(path).suffix.lower() in (".csv", ".tsv")


def _opened(
    path: str | os.PathLike[str], key: str | None, delimiter: str | None, header: bool | None
) -> tuple[Path, Any]:
    """Return a file and the array in it."""
    file, key = _split_key(path, key)
    suffix = file.suffix.lower()
    if not file.exists():
        raise FileNotFoundError(f"{file}: no such file")
    if not is_text(file) and suffix not in _READERS:
        known = ", ".join([*_READERS, ".csv", ".tsv"])
        raise ValueError(f"{file}: expected one of {known}, got '{file.suffix}'")
    if key is not None and suffix not in _NAMED:
        raise ValueError(f"{file}: only {_NAMED_WORDS} have named arrays, got the name '{key}'")
    if not is_text(file):
        for name, option in (("delimiter", delimiter), ("header", header)):
            if option is not None:
                raise ValueError(f"{name}: expected a table, .csv or .tsv, got {file}")
        return file, _READERS[suffix](file, key)
    try:
        return file, read_table(file, delimiter=delimiter, header=header)
    except (ValueError, OSError) as error:
        raise ValueError(f"{file}: cannot be read as a table of numbers ({error})") from error


# --- Readers, by suffix --------------------------------------------------------------------------


def file_of(path: str | os.PathLike[str]) -> Path:
    """Return the file that ``archive.npz:name`` is in."""
    return _split_key(path, None)[0]


def _split_key(path: str | os.PathLike[str], key: str | None) -> tuple[Path, str | None]:
    """Understand ``archive.npz:name``."""
    match = re.fullmatch(r"(.+\.(?:npz|zarr|h5|hdf5)):([^\\:]+)", os.fspath(path), re.IGNORECASE)
    if match and not Path(path).exists():
        return Path(match[1]), match[2]
    return Path(path), key


def _read_npy(path: Path, key: str | None) -> Any:
    with open(path, "rb") as file:
        start = file.read(6)
    if start != b"\x93NUMPY":
        found = "is empty" if not start else f"begins with {start!r}"
        found = "is a .npz archive by its content" if start.startswith(b"PK") else found
        raise ValueError(f"{path}: cannot be read as .npy (it {found})")
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        why = f"it is cut off after {path.stat().st_size} bytes" if _is_short(error) else str(error)
        raise ValueError(f"{path}: cannot be read as .npy ({why})") from error


def _is_short(error: Exception) -> bool:
    """Whether NumPy says that a file ends too early."""
    return "mmap length" in str(error) or str(error).startswith("EOF")


def _read_npz(path: Path, key: str | None) -> Any:
    import zipfile
    import zlib

    try:
        with np.load(path, allow_pickle=False) as archive:
            names = list(archive.files)
            if key in names or (key is None and len(names) == 1):
                return archive[names[0] if key is None else key]
    except (ValueError, EOFError, OSError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path}: cannot be read as .npz ({error})") from error
    raise _no_such_array(path, names, key)


def _read_zarr(path: Path, key: str | None) -> Any:
    zarr = require("zarr", "zarr")
    try:
        found = zarr.open(store=str(path), mode="r")
        if key is None and isinstance(found, zarr.Array):
            return found
        members = () if isinstance(found, zarr.Array) else found.members(max_depth=None)
        arrays = {name: one for name, one in members if isinstance(one, zarr.Array)}
    except Exception as error:  # zarr has many kinds of errors for "not an array"
        raise ValueError(f"{path}: cannot be opened as a zarr array ({error})") from error
    return _chosen(path, arrays, key)


def _read_hdf5(path: Path, key: str | None) -> Any:
    h5py = require("h5py", "hdf5")
    arrays: dict[str, Any] = {}

    def visit(name: str, one: Any) -> None:
        if isinstance(one, h5py.Dataset):
            arrays[name] = one

    try:
        file = h5py.File(path, "r")
        file.visititems(visit)
    except (OSError, RuntimeError) as error:
        raise ValueError(f"{path}: cannot be opened as HDF5 ({error})") from error
    return _chosen(path, arrays, key)


def _chosen(path: Path, arrays: dict[str, Any], key: str | None) -> Any:
    """Return the array of a name, or the only one."""
    wanted = None if key is None else key.strip("/")
    if wanted in arrays or (key is None and len(arrays) == 1):
        return next(iter(arrays.values())) if wanted is None else arrays[wanted]
    raise _no_such_array(path, sorted(arrays), key)


def _no_such_array(path: Path, names: list[str], key: str | None) -> ValueError:
    found = ", ".join(names) or "none"
    if key is not None:
        return ValueError(f"{path}: expected one of {found}, got the name '{key}'")
    hint = f"; choose one as {path}:{names[0]}" if names else ""
    return ValueError(f"{path}: expected one array, got {found}{hint}")


_NAMED = (".npz", ".zarr", ".h5", ".hdf5")
_NAMED_WORDS = ".npz archives, zarr groups and HDF5 files"
_READERS: dict[str, Callable[[Path, str | None], Any]] = {
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".zarr": _read_zarr,
    ".h5": _read_hdf5,
    ".hdf5": _read_hdf5,
}
