"""The journal of a batch job: what the job is, and which of its tiles are on the disk."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

from ntkfast.batch.disk import is_at, lock, stamp, sync_data, sync_folder, write_all
from ntkfast.batch.errors import BatchError

JOURNAL_MAGIC = "ntkfast gram journal 1"


class Journal:
    """Says which tiles are on the disk; locked against other processes while it is open."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor
        self.header: dict[str, Any] | None = None
        self.done: set[tuple[int, int]] = set()
        self._stamp: list[int] | None = None
        self._read()

    @classmethod
    def locked(cls, output: Path) -> Journal:
        """Open or make the journal of an output, as the only process to do so."""
        path = Path(f"{output}.journal")
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
            try:
                lock(descriptor)
                if is_at(descriptor, path):  # else it was removed between opening and locking
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
                    if not _is_header(value):
                        raise BatchError(
                            f"{self.path}: this journal is damaged; remove it and "
                            f"{self.path.stem}.partial, then run the job again"
                        )
                    self.header = value
                elif isinstance(value, dict):
                    self._stamp = value["complete"]
                elif _are_integers(value, 2):
                    self.done.add(tuple(value))
                else:
                    break
            except (ValueError, TypeError, KeyError):
                break
            good += len(line)
        if lines and self.header is None and lines[0].endswith(b"\n"):
            raise BatchError(f"{self.path}: this is not a journal of ntkfast")
        os.ftruncate(self._descriptor, good)  # or the next line would be glued to a torn one
        os.lseek(self._descriptor, good, os.SEEK_SET)

    def begin(self, header: dict[str, Any]) -> None:
        """Write what the job is."""
        self.header = {"magic": JOURNAL_MAGIC, **header}
        self._append(self.header)
        sync_folder(self.path.parent)

    def record(self, i: int, j: int) -> None:
        """Write that a tile is on the disk."""
        self._append([i, j])
        self.done.add((i, j))

    def finish(self, partial: Path) -> None:
        """Write that this file is the whole matrix, and how to know it under its final name."""
        self._stamp = stamp(partial)
        self._append({"complete": self._stamp})

    def describes(self, path: Path) -> bool:
        """Tell whether a file is the whole matrix of this job, and not touched since."""
        return self._stamp is not None and self._stamp == stamp(path)

    def _append(self, value: Any) -> None:
        write_all(self._descriptor, memoryview(json.dumps(value).encode() + b"\n"))
        sync_data(self._descriptor)

    def clear(self) -> None:
        """Forget the job and its tiles."""
        self.header, self.done, self._stamp = None, set(), None
        os.ftruncate(self._descriptor, 0)
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        os.fsync(self._descriptor)

    def remove(self) -> None:
        """Remove the file: the job has left nothing."""
        if sys.platform == "win32":
            self.close()  # an open file cannot be removed there
        self.path.unlink(missing_ok=True)
        sync_folder(self.path.parent)

    def close(self) -> None:
        """Give up the lock; a journal that says nothing goes away."""
        if self._descriptor < 0:
            return
        descriptor, self._descriptor = self._descriptor, -1
        idle = self.header is None and is_at(descriptor, self.path)
        if sys.platform == "win32":
            os.close(descriptor)  # first: an open file cannot be removed there
        if idle:
            self.path.unlink(missing_ok=True)
        if sys.platform != "win32":
            os.close(descriptor)


def header_of(partial: Path) -> dict[str, Any] | None:
    """Return what the job is whose tiles a file receives, as another process reads it."""
    try:
        with open(partial.with_suffix(".journal"), "rb") as file:
            header: dict[str, Any] = json.loads(file.readline())
    except (FileNotFoundError, ValueError):
        return None
    return header


def _is_header(value: dict[str, Any]) -> bool:
    """Tell whether the first line has all that a job says of itself."""
    probe = value.get("probe")
    return (
        isinstance(value.get("job"), dict)
        and _are_integers(value.get("tile"), 2)
        and min(value["tile"]) >= 1
        and type(value.get("step", 1)) is int
        and value.get("step", 1) >= 1
        and isinstance(probe, list)
        and all(isinstance(number, float) for number in probe)
    )


def _are_integers(value: Any, count: int) -> bool:
    return isinstance(value, list) and [type(item) for item in value] == [int] * count


def compare(journal: Journal, old: dict[str, Any], new: dict[str, Any]) -> None:
    """Refuse to mix two jobs in one file, and say what differs."""
    found = differences(old, new)
    if found:
        raise BatchError(
            f"{journal.path}: an interrupted job of another kind is in the way "
            f"({'; '.join(found)}). Repeat that job to finish it, or start afresh with "
            f"--no-resume (resume=False), which discards its {len(journal.done)} finished tiles"
        )


def differences(old: dict[str, Any] | None, new: dict[str, Any]) -> list[str]:
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
    probes = old["probe"], new["probe"]
    same = len(probes[0]) == len(probes[1]) and np.allclose(*probes, 1e-3, 0, equal_nan=True)
    if not words and not same:
        words.append("the kernel has other values on the first rows")
    return words
