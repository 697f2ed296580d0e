"""Gram matrices in files, whose tiles the workers of a cluster compute and write."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import DTypeLike

from ntkfast.arrays.dask_arrays import is_dask
from ntkfast.arrays.grid import Grid
from ntkfast.arrays.panels import panels
from ntkfast.batch.errors import BatchError
from ntkfast.batch.job import Job
from ntkfast.batch.journal import header_of
from ntkfast.batch.matrices import Matrix
from ntkfast.batch.run import Settings, Work, job_of, store, tiling, write
from ntkfast.dask.blocks import parts_of
from ntkfast.dask.leases import Lease, leased
from ntkfast.dask.session import Session
from ntkfast.dask.stores import StoreSink, begun, complete, header_in, is_url, opened
from ntkfast.kernels.base import Kernel
from ntkfast.support.progress import Bar
from ntkfast.support.telling import goes_on

# The class of a sink, its path or URL, the tiles, and what the job says of itself.
Where: TypeAlias = tuple[Any, Any, Grid, str]


def gram(
    kernel: Kernel,
    X: Matrix,
    Y: Matrix | None = None,
    *,
    out: str | os.PathLike[str],
    client: Any = None,
    dtype: DTypeLike | None = None,
    tile: int | tuple[int, int] | None = None,
    engine: str | None = None,
    progress: bool | None = None,
    resume: bool = True,
    overwrite: bool = False,
) -> Any:
    """Write the Gram matrix ``kernel(X, Y)`` to a file, computed and written by a cluster.

    The job is that of `ntkfast.batch.gram`: the same tiles, file and journal. What one has begun
    the other goes on with, and the loss of workers, of the scheduler or of this process costs the
    tiles that were under way.

    Parameters
    ----------
    kernel, X, Y, dtype, tile, engine, progress, resume, overwrite
        As for `ntkfast.batch.gram`. X and Y may be dask arrays too: the client collects them.
    out : path or URL
        As for `ntkfast.batch.gram`; workers write to its folder, which all of them see. Or a zarr
        array in any store of fsspec, ``"s3://bucket/K.zarr"``, to which workers write too. It has
        no journal, since the store knows the tiles. ``K.zarr.lock`` beside it keeps other jobs
        away, for ten seconds if its own was killed.
    client : distributed.Client or str, optional
        Or the address of a scheduler. Default: the current client of this process.

    Returns
    -------
    numpy.memmap, zarr.Array or h5py.Dataset, shape (n, m)
        The finished file, opened for reading.

    Raises
    ------
    TypeError, ValueError, OSError, BatchError
        As for `ntkfast.batch.gram`; dask arrays are refused.
    FileNotFoundError
        If a worker does not see the folder of `out`.
    RuntimeError
        If a worker has another version of ntkfast, or workers die again and again.

    Warns
    -----
    ClusterWarning
        If workers compute with different engines or instruction sets.
    """
    session = Session(client)
    # Far smaller than the result, and what a later run continues with must be the same.
    X = collected(session, X)
    Y = None if Y is None else collected(session, Y)
    settings = Settings(dtype, tile, engine, 1, progress, resume, overwrite)
    if is_url(out):
        job, url = job_of(kernel, X, Y, settings), str(out)
        if not url.rstrip("/").endswith(".zarr"):
            raise ValueError(f"out: expected a URL ending in .zarr, got {url}")
        with leased(url) as lease:
            return _to_store(session, job, url, settings, lease)
    return write(kernel, X, Y, out, settings, partial(_fill, session))


def collected(session: Session, X: Any) -> Any:
    """Return what a dask array becomes on the host, and anything else as it is."""
    return X.compute(scheduler=session.client) if is_dask(X) else X


def _fill(session: Session, work: Work) -> None:
    """Let workers compute and write the missing tiles; the journal is written here."""
    where = type(work.sink), work.sink.partial, work.grid, told(work.journal.header)
    for i, j in _written(session, work.job, where, list(work.missing()), work.step):
        work.journal.record(i, j)
        work.bar.update(work.grid.pairs(i, j))


def _to_store(session: Session, job: Job, url: str, settings: Settings, lease: Lease) -> Any:
    """Take up or begin a job in a store, and let workers finish it."""
    facts = job.fingerprint(Path(url), settings.progress and None)
    header: dict[str, Any] = {"job": facts, "probe": job.probe()}
    old = header_in(opened(url)) if settings.resume else None
    edges, step = tiling(job, settings.tile, old)
    header = {**header, "tile": list(edges), "step": step}
    grid = Grid(job.shape, edges, job.Y is None)
    sink = StoreSink(url, grid, job.kept)
    done = begun(sink, header, settings.resume, settings.overwrite)
    if done:
        goes_on(url, len(done), f"of {grid.count} tiles")
    missing = [tile for tile in grid.tiles() if tile not in done]
    with Bar(settings.progress, url, grid.total, "pairs") as bar:
        bar.skip(sum(grid.pairs(i, j) for i, j in done))
        where = StoreSink, url, grid, told(header_in(opened(url)))
        for i, j in _written(session, job, where, missing, step):
            lease.check()
            bar.update(grid.pairs(i, j))
    if any(facts[name] != now for name, now in job.contents(settings.progress and None).items()):
        raise BatchError(f"{url}: the inputs changed while the job ran; discard it: resume=False")
    lease.check()
    complete(url, header)
    return opened(url)


def _written(
    session: Session, job: Job, where: Where, tiles: list[tuple[int, int]], step: int
) -> Iterator[tuple[int, int]]:
    """Yield tiles that workers have computed and written."""
    grid = where[2]
    height, width = grid.tile
    left = parts_of("X", job.X, list(panels(job.shape[0], 1, height)), job.dtype)
    right = left
    if job.Y is not None:
        right = parts_of("Y", job.Y, list(panels(job.shape[1], 1, width)), job.dtype)
    dtypes = job.dtype, job.rounded_to
    work = (
        (where, job.kernel, left[i], right[j], (i, j), dtypes, step, job.engine) for i, j in tiles
    )
    written = session.ordered(write_tile, work, engine=job.engine)
    for tile, _ in zip(tiles, written, strict=True):
        yield tile


def write_tile(
    where: Where,
    kernel: Kernel,
    X: Any,
    Y: Any,
    tile: tuple[int, int],
    dtypes: tuple[np.dtype[Any], np.dtype[Any] | None],
    step: int,
    engine: str | None,
) -> None:
    """Compute a tile and bring it to the disk, on a worker."""
    make, path, grid, header = where
    dtype, rounded_to = dtypes
    symmetric = grid.symmetric and tile[0] == tile[1]
    job = Job(kernel, X, None if symmetric else Y, dtype, engine, 1, rounded_to)
    sink = make(path, grid, job.kept)
    if not sink.exists():
        raise FileNotFoundError(f"{path}: a worker does not see this file; workers write to out")
    block = np.empty(job.shape, job.kept)
    everything = slice(0, job.shape[0]), slice(0, job.shape[1])
    rows, columns = grid.span(*tile)
    job.compute(*everything, block, step, lambda pairs: None, (rows.start, columns.start))
    sink.open()
    try:
        # Once it is open: a job that has begun since then, under this name, has another file.
        if told(sink.header() if isinstance(sink, StoreSink) else header_of(path)) != header:
            raise BatchError(f"{path}: this tile is of a job that has ended; another one began")
        store(sink, grid, *tile, block)
    finally:
        sink.close()


def told(header: dict[str, Any] | None) -> str:
    """Return what a job says of itself as text, to be compared."""
    return json.dumps(header, sort_keys=True)
