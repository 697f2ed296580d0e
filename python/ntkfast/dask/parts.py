"""Values that lie on the workers of a cluster, and calls that name them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, TypeAlias

import numpy as np

from ntkfast.arrays.ragged import joined
from ntkfast.dask.lending import Lender, Loan

GONE = "lost", "cancelled"  # of a future: what it stood for was lost with a worker
SENT_BYTES = 64 << 20  # of what is read and sent at a time
SHARED_BYTES = 64 << 20  # of inputs that all workers have all of
TRIES = 10  # to send it
WAIT = 0.5  # seconds between them

Calls: TypeAlias = Sequence[tuple[Any, ...]]  # their arguments


class Part:
    """A value on the cluster: a future, and how to make it again should it be lost.

    Parameters
    ----------
    read : callable, optional
        Returns the value; the memory may be another's.
    future : distributed.Future, optional
        Of what the cluster itself can make again.
    is_for_all : bool
        Whether every worker needs it: those of this machine read it where it lies, then.
    """

    def __init__(
        self, read: Callable[[], Any] | None, future: Any = None, is_for_all: bool = False
    ) -> None:
        self.read, self.future, self.is_for_all = read, future, is_for_all
        self._lender: Lender | None = None

    def is_missing(self, lends: bool) -> bool:
        """Whether it must be sent before it is used by workers who can read what is lent or not."""
        if self.read is None:
            return False
        is_gone = self.future is None or self.future.status in GONE
        return is_gone or (self._lender is not None and not lends)

    def value(self, lends: bool) -> Any:
        """Return what is to be sent: where the value is, if that is enough."""
        assert self.read is not None
        found, self._lender = self.read(), None
        if lends and self.is_for_all and type(found) is np.ndarray:
            with suppress(OSError):  # no memory, here
                self._lender = Lender(found)
                return self._lender.loan
        return joined([found])  # without the array that it may be a view of


@dataclass(frozen=True)
class Piece:
    """Rows of a part: an argument of calls."""

    part: Part
    rows: slice


def cut(make: Callable[[slice], Part], slices: Sequence[slice], size: int) -> list[Piece]:
    """Return rows as pieces: of one part if it has few bytes, since each key costs time, too."""
    if size <= SHARED_BYTES:
        whole = make(slice(0, slices[-1].stop))
        whole.is_for_all = True
        return [Piece(whole, rows) for rows in slices]
    return [Piece(make(rows), slice(0, rows.stop - rows.start)) for rows in slices]


def whole(pieces: Sequence[Piece]) -> Piece | None:
    """Return pieces that are all rows of one part, in their order, as one."""
    one = pieces[0].part
    if any(piece.part is not one for piece in pieces):
        return None
    return Piece(one, slice(0, pieces[-1].rows.stop))


def is_here(worker: str) -> bool:
    """Whether a worker is a process of this machine that needs no scheduler between, by address."""
    scheme, _, place = worker.partition("://")
    host = place.rpartition(":")[0].strip("[]")
    try:
        return scheme == "inproc" or ip_address(host).is_loopback
    except ValueError:  # a name
        return host == "localhost"


def send(
    client: Any, parts: Sequence[Part], direct: bool | None = None, lends: bool = False
) -> None:
    """Bring values to the cluster, many at a time: each to one worker, others fetch it.

    `direct`: past the scheduler, as for `distributed.Client.scatter`; `lends`: whether all workers
    can read what this process lends.
    """
    from dask.sizeof import sizeof

    missing = [part for part in parts if part.is_missing(lends)]
    while missing:
        values: list[Any] = []
        size = 0
        for part in missing:
            if values and size > SENT_BYTES:
                break
            values.append(part.value(lends))
            size += sizeof(values[-1])
        futures = _scattered(client, values, direct)
        for part, future in zip(missing, futures, strict=False):
            part.future = future
        missing = missing[len(values) :]


def without_scheduler() -> RuntimeError:
    """Return the error of a client that nobody answers."""
    return RuntimeError("client: the scheduler is gone; what is on a disk is kept")


def _scattered(client: Any, values: list[Any], direct: bool | None) -> list[Any]:
    for _ in range(TRIES):
        try:
            return list(client.scatter(values, hash=False, direct=direct))
        except OSError as error:  # the worker that was to have them died
            if client.status != "running":
                raise without_scheduler() from error
            time.sleep(WAIT)
    raise RuntimeError("client: no worker takes the inputs; have they memory enough?")


@dataclass(frozen=True)
class Slot:
    """Stands for a piece in the arguments of a call."""

    index: int
    rows: slice


def numbered(calls: Calls) -> tuple[Calls, list[Part]]:
    """Return calls with slots for their pieces, and the parts in the order of slots."""
    numbers: dict[Part, int] = {}

    def slot(value: Any) -> Any:
        if isinstance(value, list):
            return [slot(one) for one in value]
        if isinstance(value, Piece):
            return Slot(numbers.setdefault(value.part, len(numbers)), value.rows)
        return value

    return [tuple(map(slot, arguments)) for arguments in calls], list(numbers)


def filled(arguments: Sequence[Any], values: Sequence[Any]) -> list[Any]:
    """Return the arguments of a call with values in its slots."""

    def fill(value: Any) -> Any:
        if isinstance(value, list):
            return filled(value, values)
        if not isinstance(value, Slot):
            return value
        found = values[value.index]
        if isinstance(found, Loan):
            found = found.array
        # the same object, if all of it is meant
        return found if value.rows == slice(0, len(found)) else found[value.rows]

    return [fill(value) for value in arguments]
