"""Tasks on the workers of a client: in order, some at a time, with the package of this process."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError
from typing import Any, TypeVar

from ntkfast._version import __version__
from ntkfast.support.optional import require
from ntkfast.support.progress import Bar
from ntkfast.support.telling import warn

T = TypeVar("T")
LOSSES = 3  # times that arguments may be lost with their workers
AHEAD = 3  # tasks for each thread of the cluster that are under way: one computes, others travel


class ClusterWarning(UserWarning):
    """Workers compute with different engines or instruction sets: bits depend on who did what."""


class Part:
    """A value on the cluster: a future, and how to make it again should it be lost.

    Parameters
    ----------
    session : Session
    read : callable, optional
        Returns the value.
    future : distributed.Future, optional
        Of what the cluster itself can make again.
    """

    def __init__(
        self, session: Session, read: Callable[[], Any] | None, future: Any = None
    ) -> None:
        self._session, self._read, self._future = session, read, future

    def future(self) -> Any:
        """Return a future of the value; it lies on one worker, and goes to others once they ask."""
        gone = self._future is None or self._future.status in ("lost", "cancelled")
        if gone and self._read is not None:
            self._future = self._session.client.scatter([self._read()], hash=False)[0]
        return self._future


class Session:
    """A client of ``dask.distributed``, and how its workers are asked.

    Parameters
    ----------
    client : distributed.Client, optional
        None: the current one of this process.

    Raises
    ------
    TypeError
        If it is something else, or an asynchronous client.
    ValueError
        If there is no client.
    """

    def __init__(self, client: Any = None) -> None:
        distributed = require("distributed", "dask")
        if client is None:
            try:
                client = distributed.Client.current()
            except ValueError:
                raise ValueError(
                    "client: expected a distributed.Client, and there is none in this process; "
                    "for the processors of this machine: distributed.Client()"
                ) from None
        if not isinstance(client, distributed.Client):
            raise TypeError(f"client: expected a distributed.Client, got {type(client).__name__}")
        if client.asynchronous:
            raise TypeError("client: expected a synchronous client, got an asynchronous one")
        self.client = client
        self._seen: set[str] = set()

    def ordered(
        self, function: Callable[..., T], tasks: Iterable[tuple[Any, ...]], bar: Bar | None = None
    ) -> Iterator[T]:
        """Yield function(*arguments) for each tuple of arguments, in their order.

        A bounded number is under way, so that neither workers nor this process fill with results.
        An argument that is a `Part`, or a list of them, is sent as what it stands for, and again
        when it was lost with a worker.

        Raises
        ------
        RuntimeError
            If a worker has another version of the package, or workers are lost again and again.
        """
        waiting: deque[tuple[Any, tuple[Any, ...]]] = deque()
        threads = sum(self.client.nthreads().values())
        lost = 0

        def first() -> T:
            nonlocal lost
            while True:
                try:
                    result: T = self._result(waiting[0][0])
                except CancelledError:  # its arguments lay on a worker that is gone
                    lost += 1
                    if lost > LOSSES:
                        raise _lost(f"{lost} times") from None
                    again = [arguments for _, arguments in waiting]
                    waiting.clear()
                    waiting.extend((self._submit(function, one), one) for one in again)
                    continue
                waiting.popleft()
                if bar is not None:
                    bar.update()
                return result

        try:
            for arguments in tasks:
                waiting.append((self._submit(function, arguments), arguments))
                if len(waiting) >= AHEAD * max(threads, 1):
                    yield first()
            while waiting:
                yield first()
        finally:
            if waiting:  # an error, or Ctrl-C
                self.client.cancel([future for future, _ in waiting])

    def _submit(self, function: Callable[..., T], arguments: tuple[Any, ...]) -> Any:
        sent = [
            [part.future() for part in one]
            if isinstance(one, list)
            else one.future()
            if isinstance(one, Part)
            else one
            for one in arguments
        ]
        return self.client.submit(_run, __version__, function, *sent, pure=False)

    def _result(self, future: Any) -> Any:
        from distributed import KilledWorker

        try:
            result, engine = future.result()
        except KilledWorker as error:
            raise _lost(str(error)) from error
        if engine not in self._seen:
            self._seen.add(engine)
            if len(self._seen) > 1:
                warn(
                    f"workers compute with {' and '.join(sorted(self._seen))}: last bits depend on "
                    "which of them did a tile; pass engine=, or set NTKFAST_ISA on all of them",
                    ClusterWarning,
                )
        return result


def _lost(how: str) -> RuntimeError:
    return RuntimeError(
        f"workers were lost while they computed a tile ({how}); the usual reason is memory: give "
        "each worker more"
    )


def _run(version: str, function: Callable[..., T], *arguments: Any) -> tuple[T, str]:
    """Compute a task, on a worker; and say with what."""
    if version != __version__:
        raise RuntimeError(
            f"a worker has ntkfast {__version__}, the client {version}: their numbers may differ; "
            "install the same version everywhere"
        )
    return function(*arguments), _engine()


def _engine() -> str:
    """Return what computes here."""
    from ntkfast import engines
    from ntkfast.engines import native

    chosen = engines.select()
    name = next(name for name in engines.NAMES if engines.load(name) is chosen)
    return f"{name} {native.active_isa()}" if name == "native" else name
