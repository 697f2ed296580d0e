"""Measure what a cluster costs beside threads of one process.

    python bench/cluster.py --rows 20000
    python bench/cluster.py --rows 2000 --workers 8  # does it run

Workers are processes of this machine with one thread each, compared with as many threads of one
process in the same run. The last line simulates a large cluster: tasks that sleep as long as a tile
takes, real messages.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from distributed import Client

import ntkfast as nf
from ntkfast.dask.session import Session

KERNEL = nf.FullyConnected(3).ntk


def least(function: Callable[[], object], repeats: int) -> float:
    """Return the least time of a call."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        function()
        times.append(time.perf_counter() - began)
    return min(times)


def nothing() -> None:
    """Do nothing, on a worker."""


def sent(client: Any) -> int:
    """Return the bytes that workers have sent to each other."""
    totals = client.run(lambda dask_worker: dask_worker.transfer_outgoing_bytes_total)
    return int(sum(totals.values()))


def compare(X: np.ndarray, V: np.ndarray, workers: int, repeats: int) -> float:
    """Print times and ratios; returns the seconds of a task."""
    n = len(X)
    with (
        tempfile.TemporaryDirectory() as folder,
        Client(n_workers=workers, threads_per_worker=1, dashboard_address=":0") as client,
    ):
        out = Path(folder)

        def local() -> None:
            nf.batch.gram(
                KERNEL, X, out=out / "a.zarr", threads=workers, overwrite=True, resume=False
            )

        def cluster() -> None:
            nf.dask.gram(KERNEL, X, out=out / "b.zarr", client=client, overwrite=True, resume=False)

        pairs: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
            "matmul": (
                lambda: KERNEL.matmul(X, None, V, threads=workers),
                lambda: nf.dask.matmul(KERNEL, X, None, V, client=client),
            ),
            "gram to zarr": (local, cluster),
        }
        print(f"{'':14} {'threads':>9} {'workers':>9} {'ratio':>7}")
        for name, (one, many) in pairs.items():
            one(), many()  # compiled, imported
            before, after = least(one, repeats), least(many, repeats)
            print(f"{name:14} {before:9.3f} {after:9.3f} {after / before:7.2f}")
        moved = sent(client)
        nf.dask.matmul(KERNEL, X, None, V, client=client)
        moved = sent(client) - moved
        half = X.nbytes * (workers - 1) // workers * workers  # each needs what the others hold
        print(f"between workers {moved / 1e6:.1f} MB, least possible {half / 1e6:.1f} MB")
        session, count = Session(client), 2000
        seconds = least(lambda: list(session.ordered(nothing, [()] * count)), 1)
        print(f"a task that does nothing: {seconds / count * 1e3:.2f} ms")
    tasks = -(-n // 1280) * (-(-n // 1280) + 1) / 2
    return before * workers / tasks


def simulate(workers: int, seconds: float) -> None:
    """Print how busy many workers are whose tasks sleep."""
    options = {"processes": False, "threads_per_worker": 1, "dashboard_address": ":0"}
    with Client(n_workers=workers, **options) as client:
        session, count = Session(client), 20 * workers
        tasks = [(seconds,)] * count
        list(session.ordered(nothing, [()] * workers))
        spent = least(lambda: list(session.ordered(time.sleep, tasks)), 1)
    efficiency = seconds * count / workers / spent
    print(f"{workers} simulated workers, tiles of {seconds:.2f} s: {100 * efficiency:.0f} % busy")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--rows", type=int, default=20000)
    parser.add_argument("--columns", type=int, default=100)
    parser.add_argument("--workers", type=int, default=64, help="of the simulated cluster")
    parser.add_argument("--local", type=int, default=2, help="processes of this machine")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    X = rng.normal(size=(arguments.rows, arguments.columns)).astype(np.float32)
    V = rng.normal(size=(arguments.rows, 10)).astype(np.float32)
    seconds = compare(X, V, arguments.local, arguments.repeats)
    simulate(arguments.workers, max(seconds, 0.05))


if __name__ == "__main__":
    main()
