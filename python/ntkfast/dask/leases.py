"""Keeps two jobs on one store apart: an object beside the array that its job writes all the time.

Stores have no locks that a dead process gives back. So a job that finds the object of another one
looks at it for a while: if it changes, the other job is alive; if not, its place is free. No clock
of one machine is compared with that of another.
"""

from __future__ import annotations

import json
import os
import platform
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from ntkfast.batch.errors import BatchError

BEAT = 2.0  # seconds between two writes
PATIENCE = 10.0  # after which a job that does not write is dead


class Lease:
    """The right to write to a store.

    Parameters
    ----------
    url : str
        Of the array.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._system, root = system_of(url)
        self._path = f"{root.rstrip('/')}.lock"
        self._id, self._beats = uuid.uuid4().hex, 0
        self._ended = threading.Event()
        self._lost = False
        self._thread = threading.Thread(target=self._beat, name="ntkfast-lease", daemon=True)

    def take(self) -> None:
        """Become the only job.

        Raises
        ------
        BatchError
            If another one is at work.
        """
        seen = self._read()
        end = time.monotonic() + PATIENCE
        while seen is not None and time.monotonic() < end:
            time.sleep(BEAT / 8)
            now = self._read()
            if now != seen and now is not None:
                raise self._refusal(now)
            seen = now
        self._write(create=seen is None)
        if not self._is_mine(now := self._read()):  # both saw that it was free
            raise self._refusal(now)
        self._thread.start()

    def check(self) -> None:
        """Make sure that this job still is the only one.

        Raises
        ------
        BatchError
            If another one took its place: this process could not write for long.
        """
        if self._lost:
            raise BatchError(
                f"{self._url}: another job took this store over, or {self._path} was removed; "
                "finished tiles are kept"
            )

    def give_back(self) -> None:
        """Make place for others."""
        self._ended.set()
        self._thread.join()
        with suppress(OSError):  # what stays there is found to be dead
            if not self._lost and self._is_mine(self._read()):
                self._system.rm_file(self._path)

    def _beat(self) -> None:
        while not self._ended.wait(BEAT):
            try:
                self._lost = not self._is_mine(self._read())
                if self._lost:
                    return
                self._write()
            except Exception:  # of any store, which may answer next time
                continue

    def _read(self) -> Any:
        try:
            return json.loads(self._system.cat_file(self._path))
        except FileNotFoundError:
            return None
        except ValueError:  # another process writes it just now
            return "?"

    def _write(self, create: bool = False) -> None:
        self._beats += 1
        where = {"host": platform.node(), "process": os.getpid()}
        value = json.dumps({"job": self._id, "beat": self._beats, **where}).encode()
        if not create:
            self._system.pipe_file(self._path, value)
            return
        try:
            self._system.pipe_file(self._path, value, mode="create")
        except FileExistsError:
            raise self._refusal(self._read()) from None

    def _is_mine(self, found: Any) -> bool:
        return found == "?" or (isinstance(found, dict) and found.get("job") == self._id)

    def _refusal(self, found: Any) -> BatchError:
        who = ""
        if isinstance(found, dict):
            who = f" (process {found.get('process')} on {found.get('host')})"
        return BatchError(f"{self._url}: another job{who} is writing to this store")


@contextmanager
def leased(url: str) -> Iterator[Lease]:
    """Keep other jobs away inside a ``with`` block.

    Raises
    ------
    BatchError
        If another job is at work.
    """
    lease = Lease(url)
    lease.take()
    try:
        yield lease
    finally:
        lease.give_back()


def system_of(url: str) -> tuple[Any, str]:
    """Return the file system of fsspec that has this URL, and the path there."""
    from fsspec.core import url_to_fs

    found: tuple[Any, str] = url_to_fs(url, **options_of(url))
    return found


def options_of(url: str) -> dict[str, Any]:
    """Return what is asked of the file system beside the URL."""
    return {"auto_mkdir": True} if url.startswith("file:") else {}
