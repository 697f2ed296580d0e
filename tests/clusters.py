"""Clusters of real processes on the loopback interface."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def workers(**environments: dict[str, str]) -> Iterator[Any]:
    """Yield a client of workers of these names, with one thread each and their own environments."""
    import distributed

    def nanny(env: dict[str, str]) -> dict[str, Any]:
        options = {"nthreads": 1, "env": env, "dashboard_address": ":0"}
        return {"cls": distributed.Nanny, "options": options}

    specification = {name: nanny(env) for name, env in environments.items()}
    scheduler = {"cls": distributed.Scheduler, "options": {"dashboard_address": ":0"}}
    with (
        distributed.SpecCluster(workers=specification, scheduler=scheduler) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        yield client
