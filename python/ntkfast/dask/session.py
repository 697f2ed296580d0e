"""A client of Dask, and how its workers are asked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

from ntkfast.dask.dispatch import Dispatch, one_by_one
from ntkfast.support.optional import require
from ntkfast.support.telling import warn

ANSWER = "10s"  # until a scheduler does


class ClusterWarning(UserWarning):
    """Workers compute with different engines or instruction sets: bits depend on who did what."""


class Session:
    """A client of ``dask.distributed``, and how its workers are asked.

    Parameters
    ----------
    client : distributed.Client or str, optional
        The address of a scheduler stands for the current client if that is its own, else for a new
        one. None: the current one of this process.

    Raises
    ------
    TypeError
        If it is something else, or an asynchronous client.
    ValueError
        If there is no client, or no scheduler.
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
        if isinstance(client, str):
            try:
                client = distributed.get_client(client, timeout=ANSWER)
            except (OSError, ValueError) as error:
                raise ValueError(f"client: nobody answers at {client} ({error})") from None
        if not isinstance(client, distributed.Client):
            raise TypeError(f"client: expected a distributed.Client, got {type(client).__name__}")
        if client.asynchronous:
            raise TypeError("client: expected a synchronous client, got an asynchronous one")
        self.client = client
        self._seen: set[str] = set()

    def ordered(
        self,
        function: Callable[..., Any],
        calls: Iterable[tuple[Any, ...]],
        seconds: float = 1.0,
        together: bool = False,
        costs: Sequence[float] | None = None,
        engine: str | None = None,
    ) -> Iterator[Any]:
        """Yield function(*arguments) for each tuple of arguments, in their order.

        With `together` a function takes several tuples, and returns a list of as many results.

        An argument that is a `Piece`, or a list of them, is sent as what it stands for, and again
        when it was lost with a worker. `costs` are those of calls beside each other (default: all
        1), `seconds` is what one of cost 1 may take, until it is measured, and `engine` what it is
        told to compute with.

        Raises
        ------
        RuntimeError
            If a worker has another version of the package, or workers are lost again and again.
        """
        work = function if together else partial(one_by_one, function)
        return iter(Dispatch(self.client, work, list(calls), costs, seconds, engine, self._told))

    def _told(self, engine: str) -> None:
        """Warn once of workers that do not compute like those before."""
        if engine in self._seen:
            return
        self._seen.add(engine)
        if len(self._seen) > 1:
            warn(
                f"workers compute with {' and '.join(sorted(self._seen))}: last bits depend on "
                "which of them did a tile; pass engine=, or set NTKFAST_ENGINE and NTKFAST_ISA on "
                "all of them",
                ClusterWarning,
            )
