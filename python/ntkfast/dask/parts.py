"""Values that lie on the workers of a cluster, and calls that name them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, TypeAlias

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
        Returns the value.
    future : distributed.Future, optional
        Of what the cluster itself can make again.
    """

    def __init__(self, read: Callable[[], Any] | None, future: Any = None) -> None:
        self.read, self.future = read, future

    @property
    def is_missing(self) -> bool:
        """Whether it must be sent before it is used."""
        return self.read is not None and (self.future is None or self.future.status in GONE)


@dataclass(frozen=True)
class Piece:
    """Rows of a part: an argument of calls."""

    part: Part
    rows: slice


def cut(make: Callable[[slice], Part], slices: Sequence[slice], size: int) -> list[Piece]:
    """Return rows as pieces: of one part if it has few bytes, since each key costs time, too."""
    if size <= SHARED_BYTES:
        whole = make(slice(0, slices[-1].stop))
        return [Piece(whole, rows) for rows in slices]
    return [Piece(make(rows), slice(0, rows.stop - rows.start)) for rows in slices]


def whole(pieces: Sequence[Piece]) -> Piece | None:
    """Return pieces that are all rows of one part, in their order, as one."""
    one = pieces[0].part
    if any(piece.part is not one for piece in pieces):
        return None
    return Piece(one, slice(0, pieces[-1].rows.stop))


def is_here(worker: str | None) -> bool:
    """Whether a worker is a process of this machine that needs no scheduler between, by address."""
    if worker is None:
        return False
    scheme, _, place = worker.partition("://")
    host = place.rpartition(":")[0].strip("[]")
    try:
        return scheme == "inproc" or ip_address(host).is_loopback
    except ValueError:  # a name
        return host == "localhost"


def send(client: Any, parts: Sequence[Part], direct: bool | None = None) -> None:
    """Bring values to the cluster, many at a time: each to one worker, others fetch it.

    `direct`: past the scheduler, as for `distributed.Client.scatter`.
    """
    from dask.sizeof import sizeof

    missing = [part for part in parts if part.is_missing]
    while missing:
        values: list[Any] = []
        size = 0
        for part in missing:
            if values and size > SENT_BYTES:
                break
            assert part.read is not None
            values.append(part.read())
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
        found = values[value.index]  # the same object, if all of it is meant
        return found if value.rows == slice(0, len(found)) else found[value.rows]

    return [fill(value) for value in arguments]
