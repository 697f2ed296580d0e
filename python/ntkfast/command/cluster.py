"""The cluster that a command computes on."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ntkfast.support.optional import require

ANSWER = "10s"  # until a scheduler does


def add_options(parser: Any) -> None:
    """Add the options that name a cluster."""
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--scheduler", metavar="ADDRESS", help="compute on the workers of a Dask scheduler"
    )
    where.add_argument(
        "--local-cluster", type=int, metavar="N", help="compute on N processes of this machine"
    )


@contextmanager
def client_of(arguments: argparse.Namespace) -> Iterator[Any]:
    """Yield a client of the cluster that is asked for, or None.

    Raises
    ------
    ValueError
        If there is no scheduler, no worker, or an option is for one process alone.
    """
    address, count = arguments.scheduler, arguments.local_cluster
    if address is None and count is None:
        yield None
        return
    distributed = require("distributed", "dask")
    if arguments.threads is not None:
        raise ValueError(
            "--threads: workers compute on one thread for each of theirs, leave it out"
        )
    if count is not None and count < 1:
        raise ValueError(f"--local-cluster: expected a positive number of processes, got {count}")
    options: dict[str, Any] = {"address": address}
    if address is None:
        options = {"n_workers": count, "threads_per_worker": 1, "dashboard_address": ":0"}
    try:
        client = distributed.Client(timeout=ANSWER, **options)
    except (OSError, TimeoutError, ValueError) as error:
        raise ValueError(f"--scheduler: nobody answers at {address} ({error})") from None
    with client:
        if not client.nthreads():
            raise ValueError(f"--scheduler: {address} has no workers")
        yield client
