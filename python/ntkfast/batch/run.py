"""Runs a batch job: takes it up or begins it, computes the missing tiles, publishes the file."""

from __future__ import annotations

import os
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ntkfast.batch.disk import full_disk_explained, require_space
from ntkfast.batch.grid import Grid, default_tile
from ntkfast.batch.job import Job, PairKernel
from ntkfast.batch.journal import Journal, compare, differences
from ntkfast.batch.matrices import Matrix, as_matrix, check_shapes, float_type, width_of
from ntkfast.batch.sinks import SINKS, Sink, open_result
from ntkfast.support.optional import require
from ntkfast.support.progress import Bar


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
    progress: bool | None = None,
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
        Inputs; rows are read as they are needed. Kernels of other inputs than rows take arrays of
        more axes, of which the first counts inputs; those of sequences take `ntkfast.sequences`.
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
    progress : bool, optional
        Whether to show a bar, with pairs per second and time left. Default: on a terminal, after
        some seconds, if the extra "cli" is installed.
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
    X = as_matrix("X", X)
    Y = None if Y is None else as_matrix("Y", Y)
    check_shapes(kernel, X, Y)
    kind = float_type(dtype, X, Y)
    job = Job(kernel, X, Y, kind, engine, threads)
    journal = Journal.locked(path)
    try:
        published = _is_published(path, journal)
        if not (published or overwrite):
            _require_absent(path)
        header = {"job": job.fingerprint(path), "probe": job.probe()}
        if not (published and resume and not differences(journal.header, header)):
            if published:
                journal.clear()
            if not overwrite:
                _require_absent(path)
            _write(job, header, path, journal, tile, resume, progress)
            if not overwrite:
                _require_absent(path)  # somebody else may have made it in the meantime
            SINKS[path.suffix].publish(Path(f"{path}.partial"), path)
        journal.remove()
    finally:
        journal.close()
    return open_result(path)


def _check_output(path: Path) -> None:
    if path.suffix not in SINKS:
        raise ValueError(f"out: expected a path ending in .npy or .zarr, got {path}")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path.parent}: no such folder (for out)")
    if path.suffix == ".zarr":
        require("zarr", "zarr")


def _require_absent(path: Path) -> None:
    if path.exists():
        raise FileExistsError(
            f"{path}: exists already; choose another name or allow its replacement "
            "(--overwrite, overwrite=True)"
        )


def _is_published(path: Path, journal: Journal) -> bool:
    """Tell whether a run was killed after the rename, the last step but one."""
    if journal.header is None or not path.exists() or Path(f"{path}.partial").exists():
        return False
    job, tile = journal.header["job"], journal.header["tile"]
    n = job["shape of X"][0]
    m = n if job["shape of Y"] is None else job["shape of Y"][0]
    return journal.done >= set(Grid((n, m), tuple(tile), job["shape of Y"] is None).tiles())


def _write(
    job: Job,
    header: dict[str, Any],
    path: Path,
    journal: Journal,
    tile: int | tuple[int, int] | None,
    resume: bool,
    progress: bool | None,
) -> None:
    """Take up or begin the job and compute what is missing."""
    old = journal.header if resume else None
    edges = _tile_shape(tile, old, job)
    header = {**header, "tile": list(edges)}
    grid = Grid(job.shape, edges, job.Y is None)
    sink = SINKS[path.suffix](Path(f"{path}.partial"), grid, job.dtype)
    if old is not None:
        compare(journal, old, header)
    if old is not None and sink.exists():
        done = journal.done
        require_space(sink.partial, sink.size - sink.allocated())
    else:
        done = set()
        journal.clear()  # first: lines of an older job must never describe the new file
        sink.remove()
        _create(sink, journal)
        journal.begin(header)
    tiles = list(grid.tiles())
    sink.open()
    try:
        with full_disk_explained(sink.partial, resumable=True):
            bar = Bar(progress, path.name, sum(grid.pairs(i, j) for i, j in tiles), "pairs")
            _fill(job, grid, tiles, done, sink, journal, bar)
    except KeyboardInterrupt as error:
        error.add_note(
            f"{path}: {len(journal.done)} of {len(tiles)} tiles are done and kept; "
            "the same job goes on from there when it is run again"
        )
        raise
    finally:
        sink.close()


def _tile_shape(
    tile: int | tuple[int, int] | None, old: dict[str, Any] | None, job: Job
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
    return default_tile(job.shape, width_of(job.X), job.dtype.itemsize, symmetric)


def _create(sink: Sink, journal: Journal) -> None:
    """Allocate the output, or leave nothing behind."""
    try:
        require_space(sink.partial, sink.size - sink.allocated())
        with full_disk_explained(sink.partial, resumable=False):
            sink.create()
    except BaseException:
        sink.remove()
        journal.remove()
        raise


def _fill(
    job: Job,
    grid: Grid,
    tiles: list[tuple[int, int]],
    done: set[tuple[int, int]],
    sink: Sink,
    journal: Journal,
    bar: Bar,
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
