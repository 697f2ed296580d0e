"""Tasks on the workers of a client: in order, some at a time, with the package of this process."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from ntkfast._version import __version__
from ntkfast.support.optional import require
from ntkfast.support.progress import Bar

T = TypeVar("T")
AHEAD = 3  # tasks for each thread of the cluster that are under way: one computes, others travel


class ClusterWarning(UserWarning):
    """Workers compute with different engines or instruction sets: bits depend on who did what."""


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

    def scatter(self, value: Any) -> Any:
        """Return a future of a value, which lies on one worker and goes to others once they ask."""
        return self.client.scatter([value], hash=False)[0]

    def ordered(
        self, function: Callable[..., T], tasks: Iterable[tuple[Any, ...]], bar: Bar | None = None
    ) -> Iterator[T]:
        """Yield function(*arguments) for each tuple of arguments, in their order.

        A bounded number is under way, so that neither workers nor this process fill with results.

        Raises
        ------
        RuntimeError
            If a worker has another version of the package, or was lost again and again.
        """
        waiting: deque[Any] = deque()
        try:
            threads = sum(self.client.nthreads().values())
            for arguments in tasks:
                waiting.append(
                    self.client.submit(_run, __version__, function, *arguments, pure=False)
                )
                if len(waiting) >= AHEAD * max(threads, 1):
                    yield self._result(waiting.popleft(), bar)
            while waiting:
                yield self._result(waiting.popleft(), bar)
        finally:
            if waiting:  # an error, or Ctrl-C
                self.client.cancel(list(waiting))

    def _result(self, future: Any, bar: Bar | None) -> Any:
        from distributed import KilledWorker

        try:
            result, engine = future.result()
        except KilledWorker as error:
            raise RuntimeError(
                f"workers died while they computed a tile ({error}); the usual reason is memory: "
                "give each worker more, or pass smaller tiles"
            ) from error
        if engine not in self._seen:
            self._seen.add(engine)
            if len(self._seen) > 1:
                warnings.warn(
                    f"workers compute with {' and '.join(sorted(self._seen))}: last bits depend on "
                    "which of them did a tile; pass engine=, or set NTKFAST_ISA on all of them",
                    ClusterWarning,
                    stacklevel=4,
                )
        if bar is not None:
            bar.update()
        return result


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
