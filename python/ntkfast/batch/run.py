"""Runs a batch job: takes it up or begins it, computes the missing tiles, publishes the file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ntkfast.arrays import checks
from ntkfast.arrays.grid import Grid
from ntkfast.batch.disk import failures_explained, require_space
from ntkfast.batch.errors import BatchError
from ntkfast.batch.grid import TILE_BYTES, TILE_SECONDS, default_tile
from ntkfast.batch.job import Job, PairKernel
from ntkfast.batch.journal import Journal, compare, differences
from ntkfast.batch.matrices import (
    Matrix,
    as_matrix,
    check_kernel,
    check_shapes,
    float_types,
    source_of,
    width_of,
)
from ntkfast.batch.sinks import EXTRAS, SINKS, Sink, open_result
from ntkfast.kernels.pace import STEP_SECONDS, step_edge
from ntkfast.support.files import require_folder
from ntkfast.support.optional import require
from ntkfast.support.progress import Bar
from ntkfast.support.telling import goes_on


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

    The pairs are walked in tiles of about 64 MiB, or fewer pairs where a kernel is slow, so that a
    tile takes a few seconds; one tile is written while the next is computed. A job that was
    interrupted, killed or ran out of disk goes on where it stopped, with the same tiles, when it is
    called again with the same arguments; a finished one is not computed again. The file appears
    under its final name only when it is complete, and a small journal stays beside it.

    Parameters
    ----------
    kernel : Kernel
        For example ``nf.FullyConnected(3).ntk``.
    X : array, memory map, zarr array or HDF5 dataset, shape (n, d)
        Inputs; rows are read as they are needed. Kernels of other inputs than rows take arrays of
        more axes, of which the first counts inputs; those of sequences take `ntkfast.sequences`.
    Y : the same, shape (m, d), optional
        Other inputs. None, or X itself, means X: the matrix is then exactly symmetric, and only
        the tiles on and above the diagonal are computed.
    out : path
        Ends in ``.npy`` (read it with ``np.load(out, mmap_mode="r")``), in ``.zarr`` (a zarr
        version 3 array, uncompressed, one shard per tile; needs the extra "zarr") or in ``.h5`` or
        ``.hdf5`` (a contiguous dataset "K"; needs the extra "hdf5"). A symbolic link stays one:
        what it names is written.
    dtype : float32, float64 or float16, optional
        float32 and float64 are those of the computation and of the file. Default: float32 if all
        inputs are, else float64. float16 is that of the file alone: what is computed in the default
        is rounded once, see `Kernel.__call__`.
    tile : int or (rows, columns), optional
        Edges of a tile; a symmetric job has square tiles. Default: measured on a few pairs. The
        same job with other tiles may differ in the last bit.
    engine, threads : optional
        As in ``kernel(X, Y)``. A resumed job may use others.
    progress : bool, optional
        Whether to show a bar, with pairs per second and time left. Default: on a terminal, after
        some seconds, if the extra "cli" is installed.
    resume : bool
        False discards what an interrupted job has left and starts afresh; a finished matrix is
        computed again then, with `overwrite`.
    overwrite : bool
        Allow `out` to exist; it is replaced when the new matrix is complete.

    Returns
    -------
    numpy.memmap, zarr.Array or h5py.Dataset, shape (n, m)
        The finished file, opened for reading.

    Raises
    ------
    ValueError
        If shapes do not fit, an input has a NaN or an infinity (with the row), or `out` is the
        file of an input.
    FileExistsError
        If `out` exists, is not the matrix of this very job, and `overwrite` is false.
    DiskSpaceError
        If the disk is too small, or became full on the way; finished tiles are kept.
    BatchError
        If another process writes `out`, an interrupted job of another kind is in the way, an input
        changed while the job ran, or writing failed; the message says what is kept.

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
    settings = Settings(dtype, tile, engine, threads, progress, resume, overwrite)
    return write(kernel, X, Y, out, settings, _fill)


@dataclass(frozen=True)
class Settings:
    """The arguments of `gram` beside kernel, inputs and output."""

    dtype: DTypeLike | None
    tile: int | tuple[int, int] | None
    engine: str | None
    threads: int | None
    progress: bool | None
    resume: bool
    overwrite: bool


@dataclass(frozen=True)
class Work:
    """What is missing of a job, and where it goes.

    Attributes
    ----------
    job : Job
    grid : Grid
    step : int
        Edge of the squares that a tile is computed in.
    done : set of (int, int)
        Tiles that are on the disk.
    sink : Sink
        Open.
    journal : Journal
    bar : Bar
    """

    job: Job
    grid: Grid
    step: int
    done: frozenset[tuple[int, int]]
    sink: Sink
    journal: Journal
    bar: Bar

    def missing(self) -> Iterator[tuple[int, int]]:
        """Yield the tiles to compute, once the others are counted."""
        for i, j in self.grid.tiles():
            if (i, j) in self.done:
                self.bar.skip(self.grid.pairs(i, j))
            else:
                yield i, j


def write(
    kernel: PairKernel,
    X: Matrix,
    Y: Matrix | None,
    out: str | os.PathLike[str],
    settings: Settings,
    fill: Callable[[Work], None],
) -> Any:
    """Do what `gram` does; `fill` computes and stores what is missing."""
    path = _output(out)
    job = job_of(kernel, X, Y, settings)
    _require_apart(path, X=job.X, Y=job.Y)
    if settings.tile is not None:
        _edges(settings.tile, job.Y is None)
    with failures_explained(path, resumable=False):
        journal = Journal.locked(path)
    try:
        # Reading large inputs has a bar of its own, but not where it takes a moment.
        header = {"job": job.fingerprint(path, settings.progress and None), "probe": job.probe()}
        complete = journal.describes(path)
        other = differences(journal.header, header) if complete else []
        if complete and settings.resume and not other:
            return open_result(path)
        if not settings.overwrite:
            require_absent(path, other)
        if complete:
            journal.clear()
        _write(job, header, path, journal, settings, fill)
        if not settings.overwrite:
            require_absent(path)  # somebody else may have made it in the meantime
        partial = Path(f"{path}.partial")
        with failures_explained(path, resumable=True):
            journal.finish(partial)
            SINKS[path.suffix].publish(partial, path)
    finally:
        journal.close()
    return open_result(path)


def job_of(kernel: PairKernel, X: Matrix, Y: Matrix | None, settings: Settings) -> Job:
    """Check a kernel and its inputs."""
    check_kernel(kernel)
    Y = None if Y is X else Y
    X = as_matrix("X", X)
    Y = None if Y is None else as_matrix("Y", Y)
    check_shapes(kernel, X, Y)
    dtype, rounded_to = float_types(settings.dtype, X, Y)
    return Job(kernel, X, Y, dtype, settings.engine, settings.threads, rounded_to)


def tiling(job: Job, tile: Any, old: dict[str, Any] | None) -> tuple[tuple[int, int], int]:
    """Return the edges of tiles, and of the squares that a tile is computed in.

    Those of one job are the same in all its runs, and so are its bits: `old` is the header of an
    earlier one.
    """
    edges = None if tile is None else _edges(tile, job.Y is None)
    if old is None:
        return _by_cost(job, edges)
    found = _edges(old["tile"], job.Y is None) if edges is None else edges
    return found, int(old.get("step", max(found)))


def _output(out: str | os.PathLike[str]) -> Path:
    """Return the file to write: that which a symbolic link names, for links stay as they are."""
    path = Path(os.path.realpath(out)) if os.path.islink(out) else Path(out)
    if path.suffix not in SINKS or path.suffix != Path(out).suffix:
        wanted = f"a path ending in {' or '.join(SINKS)}"
        raise ValueError(
            f"out: expected {wanted}, got {out}{'' if path == Path(out) else f' -> {path}'}"
        )
    require_folder("out", path)
    if path.suffix in EXTRAS:
        require(*EXTRAS[path.suffix])
    return path


def _require_apart(path: Path, **inputs: Matrix | None) -> None:
    """Refuse to replace what is read."""
    target = Path(os.path.realpath(path))
    for name, matrix in inputs.items():
        source = None if matrix is None else source_of(matrix)
        if source is not None and Path(os.path.realpath(source)).is_relative_to(target):
            raise ValueError(f"out: expected another file than that of {name}, got {path}")


def require_absent(path: Path, other: Sequence[str] = ()) -> None:
    """Refuse to replace a file."""
    if path.exists():
        why = f", of another job ({'; '.join(other)})" if other else ""
        raise FileExistsError(
            f"{path}: exists already{why}; choose another name or allow its replacement "
            "(--overwrite, overwrite=True)"
        )


def _write(
    job: Job,
    header: dict[str, Any],
    path: Path,
    journal: Journal,
    settings: Settings,
    fill: Callable[[Work], None],
) -> None:
    """Take up or begin the job and compute what is missing."""
    partial, progress = Path(f"{path}.partial"), settings.progress
    old = journal.header if settings.resume else None
    if old is not None and not partial.exists() and differences(old, header):
        old = None  # nothing is left of that job
    edges, step = tiling(job, settings.tile, old)
    header = {**header, "tile": list(edges), "step": step}
    grid = Grid(job.shape, edges, job.Y is None)
    sink = SINKS[path.suffix](partial, grid, job.kept)
    if old is not None:
        compare(journal, old, header)
    if old is not None and sink.exists():
        done = journal.done
        goes_on(path, len(done), f"of {grid.count} tiles")
        require_space(sink.partial, sink.size - sink.allocated())
    else:
        done = set()
        journal.clear()  # first: lines of an older job must never describe the new file
        sink.remove()
        _create(sink, journal, header, path)
    failed: ValueError | None = None
    sink.open()
    try:
        with failures_explained(path, resumable=True):
            with Bar(progress, path.name, grid.total, "pairs") as bar:
                fill(Work(job, grid, step, frozenset(done), sink, journal, bar))
    except KeyboardInterrupt as error:
        error.add_note(
            f"{path}: {len(journal.done)} of {grid.count} tiles are done and kept; "
            "the same job goes on from there when it is run again"
        )
        raise
    except ValueError as error:
        failed = error
    finally:
        sink.close()
    changed = _changed(job, header, progress and None)
    if changed:
        journal.clear()
        sink.remove()
        raise BatchError(
            f"{path}: {' and '.join(changed)} changed while the job ran; its tiles, of old and new "
            "numbers, are discarded: run it again when the inputs stay as they are"
        ) from failed
    if failed is not None:
        raise failed


def _changed(job: Job, header: dict[str, Any], progress: bool | None) -> list[str]:
    """Name the inputs that are not what they were when the job began."""
    try:
        now = job.contents(progress)
        return [f"the {name}" for name in now if header["job"][name] != now[name]]
    except ValueError:  # now not even finite
        return ["the inputs"]


def _by_cost(job: Job, edges: tuple[int, int] | None) -> tuple[tuple[int, int], int]:
    """Choose the edges of tiles, unless they are given, and of the squares between moves of a bar.

    A tile takes some seconds, a square a part of one. Kernels of which a whole tile takes no longer
    are called once for each.
    """
    rate = job.pairs_per_second(enough=TILE_BYTES // job.dtype.itemsize / STEP_SECONDS)
    if edges is None:
        most, size = rate * TILE_SECONDS, job.kept.itemsize
        edges = default_tile(job.shape, width_of(job.X), size, job.Y is None, most)
    step = step_edge(rate, job.threads)
    return edges, max(edges) if edges[0] * edges[1] <= step**2 else step


def _edges(tile: Any, symmetric: bool) -> tuple[int, int]:
    """Check the edges of a tile."""
    both = tuple(tile) if isinstance(tile, (tuple, list)) else (tile, tile)
    if len(both) != 2:
        raise ValueError(f"tile: expected an integer or two, got {tile}")
    rows, columns = (checks.count("tile", edge, least=1) for edge in both)
    if symmetric and rows != columns:
        raise ValueError(f"tile: expected a square for a symmetric job, got {rows} x {columns}")
    return rows, columns


def _create(sink: Sink, journal: Journal, header: dict[str, Any], path: Path) -> None:
    """Allocate the output and begin the journal, or leave nothing behind."""
    try:
        require_space(sink.partial, sink.size - sink.allocated())
        with failures_explained(path, resumable=False):
            sink.create()
            journal.begin(header)
    except BaseException:
        sink.remove()
        journal.remove()
        raise


def store(sink: Sink, grid: Grid, i: int, j: int, block: NDArray[Any]) -> None:
    """Write a tile, and its mirror if there is one, to the disk."""
    rows, columns = grid.span(i, j)
    sink.write(rows, columns, block)
    if grid.symmetric and i != j:
        sink.write(columns, rows, block.T)
    sink.sync()


def _fill(work: Work) -> None:
    """Compute the missing tiles, writing each while the next one is computed."""
    job, grid, sink, journal = work.job, work.grid, work.sink, work.journal
    sizes = [grid.pairs(i, j) for i, j in grid.tiles()]
    buffers = [np.empty(max(sizes), job.kept) for _ in range(min(2, len(sizes)))]
    pending: Future[None] | None = None

    def keep(i: int, j: int, block: NDArray[Any]) -> None:
        store(sink, grid, i, j, block)
        # After the data: a line must never speak of data that a crash can take.
        journal.record(i, j)

    with ThreadPoolExecutor(1, "ntkfast-writer") as writer:
        for turn, (i, j) in enumerate(work.missing()):
            rows, columns = grid.span(i, j)
            block = buffers[turn % 2][: grid.pairs(i, j)].reshape(
                rows.stop - rows.start, columns.stop - columns.start
            )
            job.compute(rows, columns, block, work.step, work.bar.update)
            if pending is not None:
                pending.result()
            pending = writer.submit(keep, i, j, block)
        if pending is not None:
            pending.result()
