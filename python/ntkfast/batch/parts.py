"""An array computed part by part and written to a file, so that a killed job resumes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ntkfast._version import __version__
from ntkfast.arrays.panels import panels
from ntkfast.batch.disk import (
    failures_explained,
    require_space,
    sync_data,
    sync_folder,
    sync_path,
    write_all,
)
from ntkfast.batch.errors import BatchError
from ntkfast.batch.journal import Journal, compare, differences
from ntkfast.batch.run import require_absent
from ntkfast.batch.tables import write_table
from ntkfast.kernels.pace import TRIAL_SECONDS
from ntkfast.support.files import require_folder
from ntkfast.support.progress import Bar
from ntkfast.support.telling import goes_on

PART_SECONDS = 1.0


def write_parts(
    compute: Callable[[slice], NDArray[Any]],
    count: int,
    job: Callable[[], dict[str, Any]],
    *,
    out: str | os.PathLike[str],
    rows: int,
    is_most: bool = False,
    progress: bool | None = None,
    resume: bool = True,
    overwrite: bool = False,
    names: Sequence[str] | None = None,
) -> bool:
    """Write ``compute(slice(0, count))``, with a journal beside it as `gram` has one.

    A table of text is written from the whole array at the end; until then that is kept beside it.

    Parameters
    ----------
    compute : function
        Of a slice, returns an array with so many rows; dtype and the other axes are those of the
        first row.
    count : int
        Rows, at least one.
    job : function
        Returns a dict of values of JSON, all that the result depends on: a run that is to resume
        another one has the same, and it must be the same in the end.
    out : path
        Ends in ``.npy`` or ``.csv``.
    rows : int
        Of a part.
    is_most : bool
        Whether a part may have fewer rows, as many as take a moment. A job that is taken up keeps
        those that it began with.
    progress, resume, overwrite
        As for `gram`.
    names : sequence of str, optional
        Of the columns of a table.

    Returns
    -------
    bool
        Whether the file was complete, with nothing left to do.

    Raises
    ------
    ValueError, FileExistsError, DiskSpaceError, BatchError
        As for `gram`.
    """
    path = Path(os.path.realpath(out))
    if path.suffix not in (".npy", ".csv"):
        raise ValueError(f"out: expected a path ending in .npy or .csv, got {out}")
    require_folder("out", path)
    with failures_explained(path, resumable=False):
        journal = Journal.locked(path)
    try:
        facts = job()
        header = {"job": {"version of ntkfast": __version__, **facts}, "probe": []}
        complete = journal.describes(path)
        other = differences(journal.header, header) if complete else []
        partial = Path(f"{path}.partial")
        if complete and resume and not other:
            partial.unlink(missing_ok=True)  # the array of a table, if a crash has left it
            return True
        if not overwrite:
            require_absent(path, other)
        if complete:
            journal.clear()
        known = journal.header if resume and partial.exists() else None
        if known is not None:
            compare(journal, known, header)
            goes_on(out, len(journal.done), "parts")
        else:
            if is_most:
                rows = _by_cost(compute, min(rows, count))
            _begin(journal, {**header, "tile": [rows, 1]}, partial, compute(slice(0, 1)), count)
        _fill(compute, partial, path, journal, progress)
        if job() != facts:
            journal.clear()
            partial.unlink()
            raise BatchError(
                f"{path}: the inputs changed while the job ran; its parts, of old and new numbers, "
                "are discarded: run it again when the inputs stay as they are"
            )
        if not overwrite:
            require_absent(path)  # somebody else may have made it in the meantime
        with failures_explained(path, resumable=True):
            whole = partial if path.suffix == ".npy" else _as_text(partial, path, names)
            sync_path(whole)
            journal.finish(whole)
            os.replace(whole, path)
            sync_folder(path.parent)
            partial.unlink(missing_ok=True)
    finally:
        journal.close()
    return False


def _by_cost(compute: Callable[[slice], NDArray[Any]], most: int) -> int:
    """Measure on more and more rows how many of them take the time of a part."""
    compute(slice(0, 1))  # what is done once, like compiling, does not count
    rows = 1
    while True:
        began = time.perf_counter()
        compute(slice(0, rows))
        elapsed = max(time.perf_counter() - began, 1e-9)
        fitting = int(rows * PART_SECONDS / elapsed)
        if elapsed >= TRIAL_SECONDS or rows == most or fitting >= most:
            return max(1, min(most, fitting))
        rows = min(2 * rows, most)


def _as_text(partial: Path, path: Path, names: Sequence[str] | None) -> Path:
    """Write an array as a table under a name of its own, or leave nothing behind."""
    text = Path(f"{path}.text")
    try:
        write_table(text, np.load(partial, mmap_mode="r", allow_pickle=False), names)
    except BaseException as error:
        text.unlink(missing_ok=True)
        if isinstance(error, KeyboardInterrupt):
            error.add_note(
                f"{path}: all parts are done and kept; the same job writes the table from them "
                "when it is run again"
            )
        raise
    return text


def _begin(
    journal: Journal, header: dict[str, Any], partial: Path, first: NDArray[Any], count: int
) -> None:
    """Make the file and begin the journal, or leave nothing behind."""
    journal.clear()  # first: lines of an older job must never describe the new file
    partial.unlink(missing_ok=True)
    try:
        require_space(partial, count * first.nbytes)
        shape = (count, *first.shape[1:])
        with failures_explained(partial, resumable=False):
            np.lib.format.open_memmap(partial, "w+", first.dtype, shape).flush()
            journal.begin(header)
    except BaseException:
        partial.unlink(missing_ok=True)
        journal.remove()
        raise


def _fill(
    compute: Callable[[slice], NDArray[Any]],
    partial: Path,
    path: Path,
    journal: Journal,
    progress: bool | None,
) -> None:
    """Compute the missing parts and write them by position."""
    target = np.load(partial, mmap_mode="r", allow_pickle=False)
    start, row_bytes, count = int(target.offset), target[:1].nbytes, len(target)
    shape, dtype = target.shape[1:], target.dtype
    del target
    rows = 1 if journal.header is None else int(journal.header["tile"][0])
    descriptor = os.open(partial, os.O_RDWR | getattr(os, "O_BINARY", 0))
    try:
        with (
            failures_explained(path, resumable=True),
            Bar(progress, path.name, count, "rows") as bar,
        ):
            for number, part in enumerate(panels(count, 1, rows)):
                size = part.stop - part.start
                if (number, 0) in journal.done:
                    bar.skip(size)
                    continue
                block = np.empty((size, *shape), dtype)
                block[...] = compute(part)
                os.lseek(descriptor, start + part.start * row_bytes, os.SEEK_SET)
                write_all(descriptor, memoryview(block.tobytes()))
                sync_data(descriptor)  # before the journal speaks of it
                journal.record(number, 0)
                bar.update(size)
    except KeyboardInterrupt as error:
        error.add_note(
            f"{path}: {len(journal.done)} parts of {rows} rows are done and kept; "
            "the same job goes on from there when it is run again"
        )
        raise
    finally:
        os.close(descriptor)
