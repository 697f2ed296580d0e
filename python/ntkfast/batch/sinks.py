"""Where the tiles go: a .npy or HDF5 file, or a zarr array, under construction."""

from __future__ import annotations

import io
import math
import os
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ntkfast.arrays.grid import Grid
from ntkfast.batch.disk import (
    allocated_bytes,
    remove_tree,
    reserve,
    sync_data,
    sync_folder,
    sync_path,
    sync_tree,
    write_all,
)
from ntkfast.batch.grid import TILE_STEP
from ntkfast.support.optional import require

DATASET = "K"  # in an HDF5 file


class Sink(Protocol):
    """A file under construction."""

    partial: Path

    def __init__(self, partial: Path, grid: Grid, dtype: np.dtype[Any]) -> None: ...

    @property
    def size(self) -> int:
        """Bytes that it takes on the disk."""

    def exists(self) -> bool:
        """Tell whether an earlier run has left a file that fits."""

    def allocated(self) -> int:
        """Bytes that it has on the disk already."""

    def create(self) -> None:
        """Allocate it."""

    def open(self) -> None:
        """Open it for writing."""

    def write(self, rows: slice, columns: slice, block: NDArray[Any]) -> None:
        """Write one tile."""

    def sync(self) -> None:
        """Wait until what was written has reached the disk."""

    def close(self) -> None:
        """Close it."""

    @staticmethod
    def publish(partial: Path, path: Path) -> None:
        """Give a complete file its final name."""

    def remove(self) -> None:
        """Remove it if it is there."""


class _FlatSink:
    """Numbers row by row, from one place of a file on, written by position.

    A full disk is an error here, in a memory map a SIGBUS.
    """

    def __init__(self, partial: Path, grid: Grid, dtype: np.dtype[Any]) -> None:
        self.partial = partial
        self._shape = grid.shape
        self._columns = grid.shape[1]
        self._dtype = dtype
        self._descriptor = -1
        self._start = 0

    @property
    def size(self) -> int:
        return self._start + math.prod(self._shape) * self._dtype.itemsize

    def allocated(self) -> int:
        return allocated_bytes(self.partial)

    def _reserve(self) -> None:
        """Allocate the file, whose first bytes are written, and make it durable."""
        with open(self.partial, "rb+") as file:
            reserve(file.fileno(), self.size)
            os.fsync(file.fileno())
        sync_folder(self.partial.parent)

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
            offset = self._start + ((row + number) * self._columns + column) * width
            os.lseek(self._descriptor, offset, os.SEEK_SET)
            write_all(self._descriptor, line.data.cast("B"))

    def sync(self) -> None:
        sync_data(self._descriptor)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    @staticmethod
    def publish(partial: Path, path: Path) -> None:
        sync_path(partial)
        os.replace(partial, path)
        sync_folder(path.parent)

    def remove(self) -> None:
        self.partial.unlink(missing_ok=True)


class _NpySink(_FlatSink):
    """A .npy file."""

    def __init__(self, partial: Path, grid: Grid, dtype: np.dtype[Any]) -> None:
        super().__init__(partial, grid, dtype)
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
        self._start = len(self._header)

    def exists(self) -> bool:
        if not self.partial.is_file() or self.partial.stat().st_size != self.size:
            return False
        with open(self.partial, "rb") as file:
            return file.read(len(self._header)) == self._header

    def create(self) -> None:
        with open(self.partial, "xb") as file:
            file.write(self._header)
        self._reserve()


class _Hdf5Sink(_FlatSink):
    """An HDF5 file with one contiguous dataset.

    The library makes the file and says where the numbers lie; it has closed the file before they
    are written, so that a killed job leaves nothing half-written of its tables.
    """

    def exists(self) -> bool:
        h5py = require("h5py", "hdf5")
        try:
            with h5py.File(self.partial, "r") as file:
                found = file[DATASET]
                fits = found.shape == self._shape and found.dtype == self._dtype
                start = found.id.get_offset()
        except (OSError, KeyError):
            return False
        self._start = start or 0
        return fits and start is not None and self.partial.stat().st_size >= self.size

    def create(self) -> None:
        h5py = require("h5py", "hdf5")
        early = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        early.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        early.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        with h5py.File(self.partial, "x") as file:
            kind, space = h5py.h5t.py_create(self._dtype), h5py.h5s.create_simple(self._shape)
            self._start = h5py.h5d.create(
                file.id, DATASET.encode(), kind, space, early
            ).get_offset()
        self._reserve()


class _ZarrSink:
    """A zarr version 3 array, one shard (a file) per tile, in chunks that are quick to read."""

    def __init__(self, partial: Path, grid: Grid, dtype: np.dtype[Any]) -> None:
        self.partial = partial
        self.size = math.prod(grid.shape) * dtype.itemsize
        self._grid = grid
        self._dtype = dtype
        self._array: Any = None
        self._touched: set[Path] = set()

    def exists(self) -> bool:
        return (self.partial / "zarr.json").is_file()

    def allocated(self) -> int:
        files = self.partial.rglob("*") if self.exists() else ()
        return sum(allocated_bytes(file) for file in files)

    def create(self) -> None:
        zarr = require("zarr", "zarr")
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
        sync_path(self.partial / "zarr.json")
        sync_folder(self.partial)
        sync_folder(self.partial.parent)

    def open(self) -> None:
        self._array = require("zarr", "zarr").open_array(store=str(self.partial), mode="r+")

    def write(self, rows: slice, columns: slice, block: NDArray[Any]) -> None:
        self._array[rows, columns] = np.ascontiguousarray(block)
        i, j = rows.start // self._grid.tile[0], columns.start // self._grid.tile[1]
        self._touched.add(self.partial / "c" / str(i) / str(j))

    def sync(self) -> None:
        for file in self._touched:
            if file.exists():  # a shard of nothing but zeros is not stored
                sync_tree(file, self.partial)
        self._touched.clear()

    def close(self) -> None:
        self._array = None

    @staticmethod
    def publish(partial: Path, path: Path) -> None:
        old = path.with_name(path.name + ".replaced")
        if path.exists():  # a folder cannot be replaced by a rename
            remove_tree(old)
            os.replace(path, old)
        os.replace(partial, path)
        sync_folder(path.parent)
        remove_tree(old)

    def remove(self) -> None:
        remove_tree(self.partial)


SINKS: dict[str, type[Sink]] = {
    ".npy": _NpySink,
    ".zarr": _ZarrSink,
    ".h5": _Hdf5Sink,
    ".hdf5": _Hdf5Sink,
}
EXTRAS = {".zarr": ("zarr", "zarr"), ".h5": ("h5py", "hdf5"), ".hdf5": ("h5py", "hdf5")}


def open_result(path: Path) -> Any:
    """Open a finished file for reading."""
    if path.suffix == ".zarr":
        return require("zarr", "zarr").open_array(store=str(path), mode="r")
    if path.suffix in (".h5", ".hdf5"):
        return require("h5py", "hdf5").File(path, "r")[DATASET]
    return np.load(path, mmap_mode="r", allow_pickle=False)
