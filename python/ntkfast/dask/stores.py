"""Gram matrices in stores that fsspec knows, as zarr arrays: S3, Google Cloud, memory.

There is no journal: the array has the description of the job among its attributes, and a tile is
done when its object is there, which stores make visible as a whole or not at all.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ntkfast.arrays.grid import Grid
from ntkfast.batch.errors import BatchError
from ntkfast.batch.grid import TILE_STEP
from ntkfast.batch.journal import differences
from ntkfast.dask.leases import options_of, system_of
from ntkfast.support.optional import require

ATTRIBUTE = "ntkfast"


def is_url(out: object) -> bool:
    """Whether this names a store, and no file."""
    return isinstance(out, str) and "://" in out


class StoreSink:
    """A zarr version 3 array at a URL, one shard (an object) per tile; see `batch.sinks.Sink`."""

    def __init__(self, url: str, grid: Grid, dtype: np.dtype[Any]) -> None:
        self.partial, self._grid, self._dtype = url, grid, dtype
        self._array: Any = None

    def exists(self) -> bool:
        """Tell whether this process sees the array."""
        return opened(self.partial) is not None

    def create(self, header: dict[str, Any]) -> None:
        """Make an array without tiles, in place of an older one."""
        tile = self._grid.tile
        chunk = tuple(TILE_STEP if edge % TILE_STEP == 0 else edge for edge in tile)
        require("zarr", "zarr").create_array(
            store=_store(self.partial),
            shape=self._grid.shape,
            chunks=chunk,
            shards=tile if chunk != tile else None,
            dtype=self._dtype.name,
            compressors=None,
            attributes={ATTRIBUTE: header},
            overwrite=True,
        )

    def open(self) -> None:
        """Open it for writing."""
        found = opened(self.partial, "r+")
        # A tile of zeros is stored, too: it could not be told from a missing one.
        self._array = found.with_config({"write_empty_chunks": True})

    def header(self) -> dict[str, Any] | None:
        """Return what the job is."""
        return header_in(self._array)

    def write(self, rows: slice, columns: slice, block: NDArray[Any]) -> None:
        """Write one tile."""
        self._array[rows, columns] = np.ascontiguousarray(block)

    def sync(self) -> None:
        """Do nothing: what a store has taken it has."""

    def close(self) -> None:
        """Close it."""
        self._array = None

    def done(self) -> set[tuple[int, int]]:
        """Return the tiles that are there, with their mirrors."""
        system, root = system_of(self.partial)
        files = {tuple(name.split("/")[-2:]) for name in system.find(f"{root}/c")}
        there = {(int(i), int(j)) for i, j in files}
        if not self._grid.symmetric:
            return there
        return {(i, j) for i, j in there if i <= j and (j, i) in there}


def begun(
    sink: StoreSink, header: dict[str, Any], resume: bool, overwrite: bool
) -> set[tuple[int, int]]:
    """Take up or begin a job, and return the tiles that are there.

    Raises
    ------
    FileExistsError
        If the array is another one, and may not be replaced.
    BatchError
        If it is that of an interrupted job of another kind.
    """
    array = opened(sink.partial)
    old = header_in(array)
    found = differences(old, header) if array is not None else []
    if array is not None and resume and old is not None and not found:
        return sink.done()
    finished = old is None or old.get("complete", False)
    if array is not None and finished and not overwrite:
        raise FileExistsError(
            f"{sink.partial}: exists already ({'; '.join(found) or 'complete'}); choose another "
            "name or allow its replacement (--overwrite, overwrite=True)"
        )
    if array is not None and not finished and resume:
        raise BatchError(
            f"{sink.partial}: an interrupted job of another kind is in the way "
            f"({'; '.join(found)}). Repeat that job to finish it, or start afresh with --no-resume "
            "(resume=False), which discards its finished tiles"
        )
    sink.create(header)
    return set()


def header_in(array: Any) -> dict[str, Any] | None:
    """Return the description of the job whose array this is."""
    found: dict[str, Any] | None = None if array is None else array.attrs.get(ATTRIBUTE)
    return found


def complete(url: str, header: dict[str, Any]) -> None:
    """Write that all tiles are there."""
    array = opened(url, "r+")
    array.attrs[ATTRIBUTE] = {**header, "complete": True}


def opened(url: str, mode: str = "r") -> Any:
    """Open an array, or return None if there is none."""
    try:
        return require("zarr", "zarr").open_array(store=_store(url), mode=mode)
    except FileNotFoundError:
        return None


def _store(url: str) -> Any:
    kind = require("zarr", "zarr").storage.FsspecStore
    return kind.from_url(url, storage_options=options_of(url))
