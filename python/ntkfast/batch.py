"""Write Gram matrices larger than memory to a file, tile by tile, so that a killed job resumes.

A job owns three names. ``K.npy.partial`` receives the tiles; ``K.npy.journal`` holds what the job
is (kernel, shapes, digests of the inputs) and one line for each tile whose data have reached the
disk; ``K.npy`` itself appears only at the end, by an atomic rename.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import math
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
from numpy.typing import DTypeLike, NDArray

if TYPE_CHECKING:
    from tqdm import tqdm

__all__ = ["BatchError", "DiskSpaceError", "gram", "load_matrix"]

TILE_BYTES = 64 << 20
TILE_STEP = 512  # default tile edges are multiples of this: whole disk pages, whole zarr chunks
TILE_MIN = 256  # below this the matrix product of a tile is bound by reading its inputs
SCAN_BYTES = 16 << 20
JOURNAL_MAGIC = "ntkfast gram journal 1"


class BatchError(RuntimeError):
    """A batch job cannot start or go on; the message says why and what to do."""


class DiskSpaceError(BatchError):
    """The output does not fit on the disk."""


class PairKernel(Protocol):
    """What a batch job needs of a kernel; every :class:`ntkfast.Kernel` has it."""

    def __call__(
        self,
        X: NDArray[Any],
        Y: NDArray[Any] | None = None,
        *,
        out: NDArray[Any] | None = None,
        engine: str | None = None,
        threads: int | None = None,
    ) -> NDArray[Any]:
        """Fill `out` with the kernel of all pairs of rows."""


class Matrix(Protocol):
    """What is read of an input: an array, a memory map or a zarr array."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows and columns."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the entries."""

    def __getitem__(self, rows: slice, /) -> Any:
        """Read some rows."""


# --- Public functions ----------------------------------------------------------------------------


def gram(
    kernel: PairKernel,
    X: Matrix,
    Y: Matrix | None = None,
    *,
    out: str | os.PathLike[str],
    dtype: DTypeLike | None = None,
    tile: int | tuple[int, int] | None = None,
    engine: str | None = None,
    threads: int | None = None,
    progress: bool = True,
    resume: bool = True,
    overwrite: bool = False,
) -> Any:
    """Write the Gram matrix ``kernel(X, Y)`` to a file, which may be larger than memory.

    The pairs are walked in tiles of about 64 MiB; one tile is written while the next is computed.
    A job that was interrupted, killed or ran out of disk goes on where it stopped when it is called
    again with the same arguments. The file appears under its final name only when it is complete.

    Parameters
    ----------
    kernel : Kernel
        For example ``nf.FullyConnected(3).ntk``.
    X : array, memory map or zarr array, shape (n, d)
        Inputs; rows are read as they are needed.
    Y : array, memory map or zarr array, shape (m, d), optional
        Other inputs. None, or X itself, means X: the matrix is then exactly symmetric, and only
        the tiles on and above the diagonal are computed.
    out : path
        Ends in ``.npy`` (read it with ``np.load(out, mmap_mode="r")``) or in ``.zarr`` (a zarr
        version 3 array, uncompressed, one shard per tile; needs the extra "zarr").
    dtype : float32 or float64, optional
        Of the computation and of the file. Default: float32 if all inputs are, else float64.
    tile : int or (rows, columns), optional
        Edges of a tile; a symmetric job has square tiles.
    engine, threads : optional
        As in ``kernel(X, Y)``. A resumed job may use others.
    progress : bool
        Show a bar on a terminal, with pairs per second and time left; needs the extra "cli",
        without which there is no bar.
    resume : bool
        False discards what an interrupted job has left and starts afresh.
    overwrite : bool
        Allow `out` to exist; it is replaced when the new matrix is complete.

    Returns
    -------
    numpy.memmap or zarr.Array, shape (n, m)
        The finished file, opened for reading.

    Raises
    ------
    ValueError
        If shapes do not fit, or an input has a NaN or an infinity (with the row).
    FileExistsError
        If `out` exists and `overwrite` is false.
    DiskSpaceError
        If the disk is too small, or became full on the way; finished tiles are kept.
    BatchError
        If another process writes `out`, or an interrupted job of another kind is in the way.

    Examples
    --------
    >>> import tempfile, numpy as np, ntkfast as nf
    >>> from ntkfast import batch
    >>> X = np.random.default_rng(0).normal(size=(50, 4))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     K = batch.gram(nf.FullyConnected(2).ntk, X, out=folder + "/K.npy")
    ...     shape, symmetric = K.shape, bool((K == K.T).all())
    ...     del K
    >>> shape, symmetric
    ((50, 50), True)
    """
    path = Path(out)
    _check_output(path)
    Y = None if Y is X else Y
    X = _matrix("X", X)
    Y = None if Y is None else _matrix("Y", Y, columns=X.shape[1])
    kind = _float_type(dtype, X, Y)
    job = _Job(kernel, X, Y, kind, engine, threads)
    journal = _Journal.locked(path)
    try:
        published = _is_published(path, journal)
        if not (published or overwrite):
            _require_absent(path)
        header = {"job": job.fingerprint(path), "probe": job.probe()}
        if not (published and resume and not _differences(journal.header, header)):
            if published:
                journal.clear()
            if not overwrite:
                _require_absent(path)
            _write(job, header, path, journal, tile, resume, progress)
            if not overwrite:
                _require_absent(path)  # somebody else may have made it in the meantime
            _SINKS[path.suffix].publish(Path(f"{path}.partial"), path)
        journal.remove()
    finally:
        journal.close()
    return _open_result(path)


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
    array, memory map or zarr array, shape (n, d)
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
    file, key = _split_key(path, key)
    if not file.exists():
        raise FileNotFoundError(f"{file}: no such file")
    reader = _READERS.get(file.suffix.lower())
    if reader is None:
        raise ValueError(f"{file}: expected one of {', '.join(_READERS)}, got '{file.suffix}'")
    if key is not None and file.suffix.lower() != ".npz":
        raise ValueError(f"{file}: only an .npz archive has named arrays, got the name '{key}'")
    matrix = reader(file, key)
    if len(matrix.shape) != 2:
        raise ValueError(f"{file}: expected a matrix (n, d), got shape {matrix.shape}")
    if np.dtype(matrix.dtype).kind not in "fiub":
        raise ValueError(f"{file}: expected real numbers, got dtype {matrix.dtype}")
    return matrix


# --- The job -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Job:
    """What is to be computed, without a word on where it goes."""

    kernel: PairKernel
    X: Matrix
    Y: Matrix | None
    dtype: np.dtype[Any]
    engine: str | None
    threads: int | None

    @property
    def shape(self) -> tuple[int, int]:
        return self.X.shape[0], (self.X if self.Y is None else self.Y).shape[0]

    def compute(self, rows: slice, columns: slice, out: NDArray[Any]) -> None:
        """Fill one tile; a tile on the diagonal of a symmetric job is itself symmetric."""
        a = _rows(self.X, rows, self.dtype)
        if self.Y is None and rows == columns:
            b = None
        else:
            b = _rows(self.X if self.Y is None else self.Y, columns, self.dtype)
        self.kernel(a, b, out=out, engine=self.engine, threads=self.threads)

    def fingerprint(self, path: Path) -> dict[str, Any]:
        """Everything that two runs must have in common to share one output."""
        from ._version import __version__

        return {
            # a function shown as <function f at 0x7f...> is another one in every process
            "kernel": re.sub(r" at 0x[0-9a-fA-F]+", "", repr(self.kernel)),
            "version of ntkfast": __version__,
            "shape of X": list(self.X.shape),
            "shape of Y": None if self.Y is None else list(self.Y.shape),
            "dtype": self.dtype.name,
            "format": path.suffix,
            "contents of X": _digest("X", self.X),
            "contents of Y": None if self.Y is None else _digest("Y", self.Y),
        }

    def probe(self) -> list[float]:
        """Kernel values of the first rows: they tell kernels apart whose names are equal."""
        few = slice(0, 3)
        a = _rows(self.X, few, self.dtype)
        b = _rows(self.X if self.Y is None else self.Y, few, self.dtype)
        values = self.kernel(a, b, engine=self.engine, threads=1)
        return [float(value) for value in values.ravel()]


@dataclass(frozen=True)
class _Grid:
    """The tiles of the matrix, by block row and block column."""

    shape: tuple[int, int]
    tile: tuple[int, int]
    symmetric: bool

    def tiles(self) -> Iterator[tuple[int, int]]:
        """All tiles to compute: row panel by row panel, from the diagonal on if symmetric."""
        for i in range(math.ceil(self.shape[0] / self.tile[0])):
            for j in range(i if self.symmetric else 0, math.ceil(self.shape[1] / self.tile[1])):
                yield i, j

    def span(self, i: int, j: int) -> tuple[slice, slice]:
        (n, m), (rows, columns) = self.shape, self.tile
        return (
            slice(i * rows, min(n, (i + 1) * rows)),
            slice(j * columns, min(m, (j + 1) * columns)),
        )

    def pairs(self, i: int, j: int) -> int:
        rows, columns = self.span(i, j)
        return int((rows.stop - rows.start) * (columns.stop - columns.start))


def _write(
    job: _Job,
    header: dict[str, Any],
    path: Path,
    journal: _Journal,
    tile: int | tuple[int, int] | None,
    resume: bool,
    progress: bool,
) -> None:
    """Take up or begin the job and compute what is missing."""
    old = journal.header if resume else None
    edges = _tile_shape(tile, old, job)
    header = {**header, "tile": list(edges)}
    grid = _Grid(job.shape, edges, job.Y is None)
    sink = _SINKS[path.suffix](Path(f"{path}.partial"), grid, job.dtype)
    if old is not None:
        _compare(journal, old, header)
    if old is not None and sink.exists():
        done = journal.done
        _require_space(sink)
    else:
        done = set()
        journal.clear()  # first: lines of an older job must never describe the new file
        sink.remove()
        _create(sink, journal)
        journal.begin(header)
    tiles = list(grid.tiles())
    sink.open()
    try:
        with _full_disk_explained(sink, resumable=True):
            _fill(job, grid, tiles, done, sink, journal, _Bar(progress, path.name, grid, tiles))
    except KeyboardInterrupt as error:
        error.add_note(
            f"{path}: {len(journal.done)} of {len(tiles)} tiles are done and kept; "
            "the same job goes on from there when it is run again"
        )
        raise
    finally:
        sink.close()


def _fill(
    job: _Job,
    grid: _Grid,
    tiles: list[tuple[int, int]],
    done: set[tuple[int, int]],
    sink: _Sink,
    journal: _Journal,
    bar: _Bar,
) -> None:
    """Compute the missing tiles, writing each while the next one is computed."""
    done = set(done)
    largest = max(grid.pairs(i, j) for i, j in tiles)
    buffers = [np.empty(largest, job.dtype) for _ in range(min(2, len(tiles)))]
    pending: Future[None] | None = None

    def store(i: int, j: int, block: NDArray[Any]) -> None:
        rows, columns = grid.span(i, j)
        sink.write(rows, columns, block)
        if grid.symmetric and i != j:
            sink.write(columns, rows, block.T)
        sink.sync()  # data before journal: a line must never speak of data that a crash can take
        journal.record(i, j)
        bar.update(block.size)

    with bar, ThreadPoolExecutor(1, "ntkfast-writer") as writer:
        turn = 0
        for i, j in tiles:
            if (i, j) in done:
                bar.skip(grid.pairs(i, j))
                continue
            rows, columns = grid.span(i, j)
            block = buffers[turn % 2][: grid.pairs(i, j)].reshape(
                rows.stop - rows.start, columns.stop - columns.start
            )
            job.compute(rows, columns, block)
            if pending is not None:
                pending.result()
            pending = writer.submit(store, i, j, block)
            turn += 1
        if pending is not None:
            pending.result()


def _create(sink: _Sink, journal: _Journal) -> None:
    """Allocate the output, or leave nothing behind."""
    try:
        _require_space(sink)
        with _full_disk_explained(sink, resumable=False):
            sink.create()
    except BaseException:
        sink.remove()
        journal.remove()
        raise


class _Bar:
    """A tqdm bar in pairs, or nothing at all where tqdm or a terminal is missing."""

    def __init__(self, wanted: bool, name: str, grid: _Grid, tiles: list[tuple[int, int]]) -> None:
        self._bar: tqdm[Any] | None = None
        if not wanted:
            return
        try:
            from tqdm import tqdm
        except ImportError:
            return
        total = sum(grid.pairs(i, j) for i, j in tiles)
        self._bar = tqdm(
            total=total, desc=name, unit=" pairs", unit_scale=True, disable=None, smoothing=0.05
        )

    def update(self, pairs: int) -> None:
        if self._bar is not None:
            self._bar.update(pairs)

    def skip(self, pairs: int) -> None:
        """Count pairs of an earlier run, which must not flatter the rate."""
        if self._bar is not None and not self._bar.disable:
            self._bar.initial += pairs
            self._bar.n += pairs
            self._bar.refresh()

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.close()


# --- The journal ---------------------------------------------------------------------------------


class _Journal:
    """Says which tiles are on the disk; locked against other processes while it is open."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor
        self.header: dict[str, Any] | None = None
        self.done: set[tuple[int, int]] = set()
        self._read()

    @classmethod
    def locked(cls, output: Path) -> _Journal:
        """Open or make the journal of an output, as the only process to do so."""
        path = Path(f"{output}.journal")
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
            try:
                _lock(descriptor)
                if _is_at(descriptor, path):  # else it was removed between opening and locking
                    return cls(path, descriptor)
            except BlockingIOError:
                os.close(descriptor)
                raise BatchError(f"{output}: another process is writing this file") from None
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)

    def _read(self) -> None:
        """Read the header and the tiles up to the first line that is not whole."""
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        with os.fdopen(os.dup(self._descriptor), "rb") as file:
            lines = file.read().splitlines(keepends=True)
        good = 0
        for number, line in enumerate(lines):
            try:
                if not line.endswith(b"\n"):
                    break
                value = json.loads(line)
                if number == 0:
                    if value["magic"] != JOURNAL_MAGIC:
                        raise BatchError(f"{self.path}: this is not a journal of ntkfast")
                    self.header = value
                else:
                    i, j = value
                    self.done.add((int(i), int(j)))
            except (ValueError, TypeError, KeyError):
                break
            good += len(line)
        if lines and self.header is None and lines[0].endswith(b"\n"):
            raise BatchError(f"{self.path}: this is not a journal of ntkfast")
        os.ftruncate(self._descriptor, good)  # or the next line would be glued to a torn one
        os.lseek(self._descriptor, good, os.SEEK_SET)

    def begin(self, header: dict[str, Any]) -> None:
        self.header = {"magic": JOURNAL_MAGIC, **header}
        self._append(self.header)
        _sync_folder(self.path.parent)

    def record(self, i: int, j: int) -> None:
        self._append([i, j])
        self.done.add((i, j))

    def _append(self, value: Any) -> None:
        _write_all(self._descriptor, memoryview(json.dumps(value).encode() + b"\n"))
        _sync_data(self._descriptor)

    def clear(self) -> None:
        self.header, self.done = None, set()
        os.ftruncate(self._descriptor, 0)
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        os.fsync(self._descriptor)

    def remove(self) -> None:
        if sys.platform == "win32":
            self.close()  # an open file cannot be removed there
        self.path.unlink(missing_ok=True)
        _sync_folder(self.path.parent)

    def close(self) -> None:
        """Give up the lock; a journal that says nothing goes away."""
        if self._descriptor < 0:
            return
        descriptor, self._descriptor = self._descriptor, -1
        idle = self.header is None and _is_at(descriptor, self.path)
        if sys.platform == "win32":
            os.close(descriptor)  # first: an open file cannot be removed there
        if idle:
            self.path.unlink(missing_ok=True)
        if sys.platform != "win32":
            os.close(descriptor)


def _compare(journal: _Journal, old: dict[str, Any], new: dict[str, Any]) -> None:
    """Refuse to mix two jobs in one file, and say what differs."""
    differences = _differences(old, new)
    if differences:
        raise BatchError(
            f"{journal.path}: an interrupted job of another kind is in the way "
            f"({'; '.join(differences)}). Repeat that job to finish it, or start afresh with "
            f"--restart (resume=False), which discards its {len(journal.done)} finished tiles"
        )


def _differences(old: dict[str, Any] | None, new: dict[str, Any]) -> list[str]:
    """Say in words what keeps two runs from sharing one output."""
    if old is None:
        return ["nothing is known of the earlier job"]
    theirs, ours = old["job"], new["job"]
    changed = [name for name in ours if theirs.get(name) != ours[name]]
    words = [
        f"{name} was {theirs.get(name)}, is now {ours[name]}"
        for name in changed
        if not name.startswith("contents")
    ]
    words += [
        f"the {name} changed"
        for name in changed
        if name.startswith("contents") and name.replace("contents", "shape") not in changed
    ]
    if "tile" in new and old["tile"] != new["tile"]:
        words.append(f"tile was {old['tile']}, is now {new['tile']}")
    if not words and not np.allclose(old["probe"], new["probe"], 1e-3, 0, equal_nan=True):
        words.append("the kernel has other values on the first rows")
    return words


# --- Where the tiles go --------------------------------------------------------------------------


class _Sink(Protocol):
    """A file under construction."""

    partial: Path
    size: int

    def __init__(self, partial: Path, grid: _Grid, dtype: np.dtype[Any]) -> None: ...

    def exists(self) -> bool: ...

    def allocated(self) -> int: ...

    def create(self) -> None: ...

    def open(self) -> None: ...

    def write(self, rows: slice, columns: slice, block: NDArray[Any]) -> None: ...

    def sync(self) -> None: ...

    def close(self) -> None: ...

    @staticmethod
    def publish(partial: Path, path: Path) -> None: ...

    def remove(self) -> None: ...


class _NpySink:
    """A .npy file written by position: a full disk is an error here, in a memory map a SIGBUS."""

    def __init__(self, partial: Path, grid: _Grid, dtype: np.dtype[Any]) -> None:
        self.partial = partial
        self._columns = grid.shape[1]
        self._dtype = dtype
        self._descriptor = -1
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(
            header,
            {
                "descr": np.lib.format.dtype_to_descr(dtype),
                "fortran_order": False,
                "shape": grid.shape,
            },
        )
        self._header = header.getvalue()
        self.size = len(self._header) + math.prod(grid.shape) * dtype.itemsize

    def exists(self) -> bool:
        if not self.partial.is_file() or self.partial.stat().st_size != self.size:
            return False
        with open(self.partial, "rb") as file:
            return file.read(len(self._header)) == self._header

    def allocated(self) -> int:
        return _allocated(self.partial)

    def create(self) -> None:
        with open(self.partial, "xb") as file:
            file.write(self._header)
            file.flush()
            _reserve(file.fileno(), self.size)
            os.fsync(file.fileno())
        _sync_folder(self.partial.parent)

    def open(self) -> None:
        self._descriptor = os.open(self.partial, os.O_RDWR | getattr(os, "O_BINARY", 0))

    def write(self, rows: slice, columns: slice, block: NDArray[Any]) -> None:
        # The mirror of a tile is transposed in strips: no third buffer of the size of a tile.
        strip = max(1, (4 << 20) // (block.shape[1] * block.itemsize))
        for first in range(0, block.shape[0], strip):
            part = np.ascontiguousarray(block[first : first + strip])
            self._write_rows(rows.start + first, columns.start, part)

    def _write_rows(self, row: int, column: int, part: NDArray[Any]) -> None:
        width = self._dtype.itemsize
        lines = [part] if part.shape[1] == self._columns else list(part)
        for number, line in enumerate(lines):
            offset = len(self._header) + ((row + number) * self._columns + column) * width
            os.lseek(self._descriptor, offset, os.SEEK_SET)
            _write_all(self._descriptor, line.data.cast("B"))

    def sync(self) -> None:
        _sync_data(self._descriptor)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    @staticmethod
    def publish(partial: Path, path: Path) -> None:
        _sync_path(partial)
        os.replace(partial, path)
        _sync_folder(path.parent)

    def remove(self) -> None:
        self.partial.unlink(missing_ok=True)


class _ZarrSink:
    """A zarr version 3 array, one shard (a file) per tile, in chunks that are quick to read."""

    def __init__(self, partial: Path, grid: _Grid, dtype: np.dtype[Any]) -> None:
        self.partial = partial
        self.size = math.prod(grid.shape) * dtype.itemsize
        self._grid = grid
        self._dtype = dtype
        self._array: Any = None
        self._touched: set[Path] = set()

    def exists(self) -> bool:
        return (self.partial / "zarr.json").is_file()

    def allocated(self) -> int:
        return sum(_allocated(file) for file in self.partial.rglob("*")) if self.exists() else 0

    def create(self) -> None:
        zarr = _import_zarr()
        tile = self._grid.tile
        chunk = tuple(TILE_STEP if edge % TILE_STEP == 0 else edge for edge in tile)
        zarr.create_array(
            store=str(self.partial),
            shape=self._grid.shape,
            chunks=chunk,
            shards=tile if chunk != tile else None,
            dtype=self._dtype.name,
            compressors=None,
        )
        _sync_path(self.partial / "zarr.json")
        _sync_folder(self.partial)
        _sync_folder(self.partial.parent)

    def open(self) -> None:
        self._array = _import_zarr().open_array(store=str(self.partial), mode="r+")

    def write(self, rows: slice, columns: slice, block: NDArray[Any]) -> None:
        self._array[rows, columns] = np.ascontiguousarray(block)
        i, j = rows.start // self._grid.tile[0], columns.start // self._grid.tile[1]
        self._touched.add(self.partial / "c" / str(i) / str(j))

    def sync(self) -> None:
        for file in self._touched:
            if file.exists():  # a shard of nothing but zeros is not stored
                _sync_path(file)
                _sync_folder(file.parent)
        _sync_folder(self.partial / "c")
        self._touched.clear()

    def close(self) -> None:
        self._array = None

    @staticmethod
    def publish(partial: Path, path: Path) -> None:
        old = path.with_name(path.name + ".replaced")
        if path.exists():  # a folder cannot be replaced by a rename
            _remove_tree(old)
            os.replace(path, old)
        os.replace(partial, path)
        _sync_folder(path.parent)
        _remove_tree(old)

    def remove(self) -> None:
        _remove_tree(self.partial)


_SINKS: dict[str, type[_Sink]] = {".npy": _NpySink, ".zarr": _ZarrSink}


def _is_published(path: Path, journal: _Journal) -> bool:
    """Tell whether a run was killed after the rename, the last step but one."""
    if journal.header is None or not path.exists() or Path(f"{path}.partial").exists():
        return False
    job, tile = journal.header["job"], journal.header["tile"]
    n = job["shape of X"][0]
    m = n if job["shape of Y"] is None else job["shape of Y"][0]
    return journal.done >= set(_Grid((n, m), tuple(tile), job["shape of Y"] is None).tiles())


def _require_absent(path: Path) -> None:
    if path.exists():
        raise FileExistsError(
            f"{path}: exists already; choose another name or allow its replacement "
            "(--overwrite, overwrite=True)"
        )


def _open_result(path: Path) -> Any:
    if path.suffix == ".zarr":
        return _import_zarr().open_array(store=str(path), mode="r")
    return np.load(path, mmap_mode="r", allow_pickle=False)


# --- Checks of the arguments ---------------------------------------------------------------------


def _check_output(path: Path) -> None:
    if path.suffix not in _SINKS:
        raise ValueError(f"out: expected a path ending in .npy or .zarr, got {path}")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path.parent}: no such folder (for out)")
    if path.suffix == ".zarr":
        _import_zarr()


def _matrix(name: str, value: Matrix, *, columns: int | None = None) -> Matrix:
    matrix = value if hasattr(value, "shape") and hasattr(value, "dtype") else np.asarray(value)
    shape = tuple(int(length) for length in matrix.shape)
    wanted = f"(*, {'d' if columns is None else columns})"
    if len(shape) != 2 or (columns is not None and shape[1] != columns):
        raise ValueError(f"{name}: expected shape {wanted}, got {shape}")
    if 0 in shape:
        raise ValueError(f"{name}: expected at least one row and one column, got shape {shape}")
    return matrix


def _float_type(dtype: DTypeLike | None, X: Matrix, Y: Matrix | None) -> np.dtype[Any]:
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


_FLOATS = (np.dtype("f4"), np.dtype("f8"))


def _tile_shape(
    tile: int | tuple[int, int] | None, old: dict[str, Any] | None, job: _Job
) -> tuple[int, int]:
    """Take the tile asked for, else that of the job to resume, else one of about 64 MiB."""
    symmetric = job.Y is None
    if tile is not None:
        rows, columns = (tile, tile) if isinstance(tile, int) else tile
        if rows < 1 or columns < 1:
            raise ValueError(f"tile: expected positive edges, got {rows} x {columns}")
        if symmetric and rows != columns:
            raise ValueError(f"tile: expected a square for a symmetric job, got {rows} x {columns}")
        return int(rows), int(columns)
    if old is not None:
        rows, columns = old["tile"]
        return int(rows), int(columns)
    return _default_tile(job.shape, job.X.shape[1], job.dtype.itemsize, symmetric)


def _default_tile(
    shape: tuple[int, int], width: int, itemsize: int, symmetric: bool
) -> tuple[int, int]:
    """Choose edges so that a tile and its rows of inputs, r*c + (r + c)*d numbers, fit."""
    room = TILE_BYTES // itemsize
    square = math.isqrt(width * width + room) - width
    columns = _edge(square, shape[1])
    rows = columns if symmetric else _edge((room - columns * width) // (columns + width), shape[0])
    return rows, columns


def _edge(wanted: int, length: int) -> int:
    """Round to whole disk pages; an axis that fits is not cut."""
    if length <= max(wanted, TILE_MIN):
        return -(-length // TILE_STEP) * TILE_STEP if length > TILE_STEP else length
    return wanted // TILE_STEP * TILE_STEP if wanted >= TILE_STEP else max(wanted, TILE_MIN)


# --- Reading inputs ------------------------------------------------------------------------------


def _rows(matrix: Matrix, rows: slice, dtype: np.dtype[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(np.asarray(matrix[rows]), dtype=dtype)


def _digest(name: str, matrix: Matrix) -> str:
    """SHA-256 of the numbers, read in blocks; the same pass finds NaN and infinities."""
    kind = np.dtype(matrix.dtype)
    digest = hashlib.sha256(kind.str.encode())
    step = max(1, SCAN_BYTES // (matrix.shape[1] * kind.itemsize))
    for first in range(0, matrix.shape[0], step):
        block = np.ascontiguousarray(np.asarray(matrix[first : first + step]))
        finite = np.isfinite(block).all(axis=1)
        if not finite.all():
            row = first + int(np.argmin(finite))
            raise ValueError(f"{name}: expected finite numbers, row {row} holds NaN or infinity")
        digest.update(block.view(np.uint8).data.cast("B"))
    return digest.hexdigest()


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
    zarr = _import_zarr()
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


def _import_zarr() -> Any:
    try:
        import zarr
    except ImportError as error:
        raise ImportError("a .zarr file needs zarr: pip install 'ntkfast[zarr]'") from error
    return zarr


# --- The disk ------------------------------------------------------------------------------------


def _require_space(sink: _Sink) -> None:
    """Fail before the work rather than after half of it."""
    needed = sink.size - sink.allocated()
    free = shutil.disk_usage(sink.partial.parent).free
    if needed > free:
        raise DiskSpaceError(
            f"{sink.partial.with_suffix('')}: expected {_bytes(needed)} of free disk, got "
            f"{_bytes(free)} in {sink.partial.parent.resolve()}"
        )


@contextmanager
def _full_disk_explained(sink: _Sink, *, resumable: bool) -> Iterator[None]:
    """Turn 'no space left' and 'quota exceeded' into an error that says what is kept."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        folder = sink.partial.parent
        kept = "; finished tiles are kept: make room and run the same job again"
        raise DiskSpaceError(
            f"{sink.partial.with_suffix('')}: the disk became full "
            f"({_bytes(shutil.disk_usage(folder).free)} free in {folder.resolve()})"
            + (kept if resumable else "")
        ) from error


_FULL = {errno.ENOSPC, errno.EDQUOT} if hasattr(errno, "EDQUOT") else {errno.ENOSPC}


def _bytes(count: int) -> str:
    value, unit = float(count), "bytes"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{count} bytes" if unit == "bytes" else f"{value:.1f} {unit} ({count} bytes)"


def _allocated(path: Path) -> int:
    """Bytes that a file has on the disk, holes not counted."""
    if not path.is_file():
        return 0
    status = path.stat()
    return cast(int, getattr(status, "st_blocks", -(-status.st_size // 512))) * 512


def _reserve(descriptor: int, size: int) -> None:
    """Give the file its blocks now, where the system can, so that a full disk shows at once."""
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(descriptor, 0, size)
            return
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
                raise
    os.ftruncate(descriptor, size)


def _write_all(descriptor: int, data: memoryview) -> None:
    while data:  # a write may take a part only
        data = data[os.write(descriptor, data) :]


def _sync_data(descriptor: int) -> None:
    getattr(os, "fdatasync", os.fsync)(descriptor)


def _sync_path(path: Path) -> None:
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Make a rename or a new name durable; Windows has no way to ask for it."""
    if sys.platform != "win32":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _remove_tree(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _lock(descriptor: int) -> None:
    """Take the lock that the system gives back by itself when the process dies.

    Raises
    ------
    BlockingIOError
        If another process has it.
    """
    if sys.platform == "win32":
        import msvcrt

        os.lseek(descriptor, 1 << 30, os.SEEK_SET)  # far behind the text: such locks bar readers
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError as error:
            raise BlockingIOError(*error.args) from error
    else:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
