"""Measure what a cluster costs beside threads of one process.

    python bench/cluster.py
    python bench/cluster.py --rows 2000 --sizes 500 --workers 8 --tiles 4  # does it run
    python bench/cluster.py --large 100000

Workers are processes of this machine with one thread each, compared in turns with as many threads
of one process: the least seconds of the clock, and of all processors together, which other work on
the machine moves less. The last lines simulate a large cluster: calls that sleep as long as a tile
takes, real messages. In one process 64 workers share one interpreter, and that is what is measured
there; with two, this process has scheduler and client alone, as on a cluster.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from distributed import Client

import ntkfast as nf
from ntkfast.dask.session import Session

KERNEL = nf.FullyConnected(3).ntk


def spent(client: Any = None) -> float:
    """Return the processor seconds of this process, and of the workers."""
    own = time.process_time()
    return own if client is None else own + sum(client.run(time.process_time).values())


class Least:
    """The least seconds of the clock and of all processors that a call has taken."""

    def __init__(self) -> None:
        self.clock = self.cpu = float("inf")

    @contextmanager
    def timed(self, client: Any = None) -> Iterator[None]:
        """Time what is inside."""
        cpu, clock = spent(client), time.perf_counter()
        yield
        clock = time.perf_counter() - clock
        self.clock, self.cpu = min(self.clock, clock), min(self.cpu, spent(client) - cpu)


def in_turns(
    one: Callable[[], object], many: Callable[[], object], client: Any, repeats: int
) -> tuple[Least, Least]:
    """Time two ways of doing the same."""
    alone, there = Least(), Least()
    one(), many()  # compiled, imported
    for _ in range(repeats):
        with alone.timed():
            one()
        with there.timed(client):
            many()
    return alone, there


def show(name: str, alone: Least, there: Least) -> None:
    """Print one line of the table."""
    clock, cpu = there.clock / alone.clock, there.cpu / alone.cpu
    print(
        f"{name:24} {alone.clock:8.3f} {there.clock:8.3f} {clock:6.2f} "
        f"{alone.cpu:8.3f} {there.cpu:8.3f} {cpu:6.2f}",
        flush=True,
    )


HEAD = f"{'':24} {'threads':>8} {'workers':>8} {'ratio':>6} {'cpu':>8} {'cpu':>8} {'ratio':>6}"


def nothing() -> None:
    """Do nothing, on a worker."""


def sent(client: Any) -> int:
    """Return the bytes that workers have sent: to each other, and results."""
    totals = client.run(lambda dask_worker: dask_worker.transfer_outgoing_bytes_total)
    return int(sum(totals.values()))


def local(workers: int) -> Any:
    """Return a client of processes of this machine."""
    return Client(n_workers=workers, threads_per_worker=1, dashboard_address=":0")


def data(rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Return inputs and ten right-hand sides."""
    rng = np.random.default_rng(0)
    return tuple(rng.normal(size=(rows, k)).astype(np.float32) for k in (columns, 10))


def compare(X: np.ndarray, V: np.ndarray, workers: int, repeats: int) -> None:
    """Print times and ratios."""
    with tempfile.TemporaryDirectory() as folder, local(workers) as client:
        out = Path(folder)
        again = {"overwrite": True, "resume": False}
        print(HEAD)
        pair = in_turns(
            lambda: KERNEL.matmul(X, None, V, threads=workers),
            lambda: nf.dask.matmul(KERNEL, X, None, V, client=client),
            client,
            repeats,
        )
        show("K(X, X) V", *pair)
        pair = in_turns(
            lambda: KERNEL.matmul(X, X.copy(), V, threads=workers),
            lambda: nf.dask.matmul(KERNEL, X, X.copy(), V, client=client),
            client,
            repeats,
        )
        show("K(X, Y) V", *pair)
        pair = in_turns(
            lambda: nf.batch.gram(KERNEL, X, out=out / "a.zarr", threads=workers, **again),
            lambda: nf.dask.gram(KERNEL, X, out=out / "b.zarr", client=client, **again),
            client,
            max(repeats // 3, 1),
        )
        show("Gram matrix to zarr", *pair)
        moved = sent(client)
        nf.dask.matmul(KERNEL, X, None, V, client=client)
        moved = sent(client) - moved
        inputs = (X.nbytes + V.nbytes) * (workers - 1)  # if they travel: what the others hold
        print(f"workers sent {moved / 1e6:.1f} MB; inputs have {inputs / 1e6:.1f} MB")
        for count in (1, 20, 2000):
            least = Least()
            for _ in range(repeats):
                with least.timed(client):
                    list(Session(client).ordered(nothing, [()] * count, 0.05))
            clock, cpu = (1e3 * seconds / count for seconds in (least.clock, least.cpu))
            print(f"{count} calls that do nothing: {clock:.2f} ms each, of processors {cpu:.2f}")
        least = Least()
        with least.timed(client):
            client.gather(client.map(lambda _: None, range(1000), pure=False))
        print(f"Dask alone: {least.clock:.2f} ms for each of 1000 tasks, cpu {least.cpu:.2f}")


def scale(sizes: list[int], columns: int, repeats: int) -> None:
    """Print products of the same rows, and of the same pairs for each worker, on 1 and 2."""
    for n in sizes:
        found = {}
        for workers, rows in ((1, n), (2, n), (2, int(n * 2**0.5))):
            X, V = data(rows, columns)
            least = Least()
            with local(workers) as client:
                nf.dask.matmul(KERNEL, X, None, V, client=client)
                for _ in range(repeats):
                    with least.timed(client):
                        nf.dask.matmul(KERNEL, X, None, V, client=client)
            found[workers, rows] = least.clock
        one, strong, weak = found.values()
        print(
            f"{n} rows: 1 worker {one:.2f} s, 2 workers {strong:.2f} s "
            f"({100 * one / strong / 2:.0f} %), twice the pairs {weak:.2f} s "
            f"({100 * one / weak:.0f} %)"
        )


def large(rows: int, columns: int, workers: int) -> None:
    """Print the time of one product of many rows, and the memory of workers."""
    X, V = data(rows, columns)
    with local(workers) as client:
        least = Least()
        with least.timed(client):
            found = nf.dask.matmul(KERNEL, X, None, V, client=client)
        peaks = client.run(lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
    wanted = KERNEL.matmul(X[:50], X, V)
    error = np.max(np.abs(found[:50] - wanted)) / np.max(np.abs(wanted))
    print(
        f"{rows} x {columns} rows, 10 columns: {least.clock:.1f} s, of processors {least.cpu:.1f}, "
        f"{rows * (rows + 1) / 2 / least.clock / 1e6:.0f} million pairs a second; at most "
        f"{max(peaks.values()) / 1e6:.0f} MB in a worker; {error:.1e} from one process"
    )


def simulate(workers: int, processes: int, seconds: float, tiles: int) -> None:
    """Print how busy many workers are whose calls sleep."""
    options = {"n_workers": workers, "processes": False}
    if processes:  # workers with many threads
        options = {"n_workers": processes, "threads_per_worker": workers // processes}
    with Client(dashboard_address=":0", **{"threads_per_worker": 1, **options}) as client:
        session, count = Session(client), tiles * workers
        list(session.ordered(nothing, [()] * workers))
        least = Least()
        with least.timed():
            list(session.ordered(time.sleep, [(seconds,)] * count, 0.05))
    efficiency = seconds * count / workers / least.clock
    where = f"in {processes} processes" if processes else "in the process of the scheduler"
    print(
        f"{workers} simulated workers {where}, {count} tiles of {seconds:.2f} s: "
        f"{100 * efficiency:.0f} % busy; {least.cpu:.1f} s of processors in this process"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--rows", type=int, default=20000)
    parser.add_argument("--columns", type=int, default=100)
    parser.add_argument("--local", type=int, default=2, help="processes of this machine")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--sizes", type=int, nargs="*", default=[], help="rows, for scaling")
    parser.add_argument("--large", type=int, help="rows of one product, and nothing else")
    parser.add_argument("--workers", type=int, default=64, help="of the simulated cluster")
    parser.add_argument("--tile", type=float, nargs="*", default=[0.05, 0.2], help="seconds")
    parser.add_argument("--tiles", type=int, default=40, help="of each simulated worker")
    arguments = parser.parse_args()
    if arguments.large is not None:
        large(arguments.large, arguments.columns, arguments.local)
        return
    compare(*data(arguments.rows, arguments.columns), arguments.local, repeats=arguments.repeats)
    scale(arguments.sizes, arguments.columns, arguments.repeats)
    for seconds in arguments.tile:
        for processes in (0, 2):
            simulate(arguments.workers, processes, seconds, arguments.tiles)


if __name__ == "__main__":
    main()
