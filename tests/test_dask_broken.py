"""Clusters broken on purpose: numbers stay right, finished tiles are kept, or an error says why.

Processes are really started on the loopback interface, and killed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ntkfast as nf
from clusters import workers
from ntkfast.batch.journal import Journal
from ntkfast.dask import files, leases
from ntkfast.dask.session import Session

dask = pytest.importorskip("dask")
distributed = pytest.importorskip("distributed")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL"),
]
KERNEL = nf.FullyConnected(100, bias=0.1).ntk  # slow enough to be interrupted
JOB = """
import sys
import numpy as np
import ntkfast as nf
from distributed import Client

kernel = nf.FullyConnected(100, bias=0.1).ntk
with Client(sys.argv[1]) as client:
    nf.dask.gram(kernel, np.load(sys.argv[2]), out=sys.argv[3], tile=100, client=client)
"""


HELD = """
import time
from ntkfast.dask import files

def held(*arguments, written=files._written):
    for tile in written(*arguments):
        time.sleep(60)  # alive, and not done before others have come
        yield tile

files._written = held
"""


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": ":0"}
    with distributed.Client(**options) as found:
        yield found


def rows(n: int) -> np.ndarray:
    return np.random.default_rng(n).normal(size=(n, 5))


def until(condition: Callable[[], Any], seconds: float = 25.0) -> None:
    """Wait for something that another process does."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def tiles_in(out: Path) -> int:
    """Count the tiles that a journal speaks of."""
    journal = Path(f"{out}.journal")
    return max(len(journal.read_text().splitlines()) - 1, 0) if journal.exists() else 0


def recorded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Return the tiles that are recorded from here on."""
    seen, record = [], Journal.record

    def also(journal: Journal, i: int, j: int) -> None:
        seen.append((i, j))
        record(journal, i, j)

    monkeypatch.setattr(Journal, "record", also)
    return seen


def napping(i: int) -> int:
    time.sleep(0.05)
    return i * i


def test_killed_worker(client: Any) -> None:
    """The calls of a worker that dies are made by others, and inputs that it had are sent again."""
    X, kernel = rows(2500), nf.FullyConnected(2).ntk
    known = nf.dask.matmul(kernel, X, None, X, client=client)
    results = Session(client).ordered(napping, [(i,) for i in range(40)], 0.05)
    first = next(results)
    os.kill(next(iter(client.run(os.getpid).values())), signal.SIGKILL)
    assert [first, *results] == [i * i for i in range(40)]
    np.testing.assert_array_equal(nf.dask.matmul(kernel, X, None, X, client=client), known)


def test_worker_killed_in_a_tile(
    client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tiles that are done stay, the one under way is computed by another worker."""
    X, seen, record = rows(1100), [], Journal.record

    def kill(journal: Journal, i: int, j: int) -> None:
        record(journal, i, j)
        seen.append((i, j))
        if len(seen) == 3:
            os.kill(next(iter(client.run(os.getpid).values())), signal.SIGKILL)

    monkeypatch.setattr(Journal, "record", kill)
    K = nf.dask.gram(KERNEL, X, out=tmp_path / "K.npy", tile=100, client=client)
    assert sorted(seen) == [(i, j) for i in range(11) for j in range(i, 11)]  # each once
    np.testing.assert_allclose(K[::100], KERNEL(X[::100], X), rtol=1e-12)


def limit_files(size: int) -> None:
    """Let this process write no larger files: what is beyond is an error as on a full disk."""
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def test_full_disk_on_one_worker(
    client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("resource")
    X, out = rows(1100), tmp_path / "K.npy"  # of 9.7 MB
    one = list(client.nthreads())[:1]
    client.run(limit_files, 6_000_000, workers=one)
    try:
        with pytest.raises(nf.batch.DiskSpaceError, match=r"disk became full .* tiles are kept"):
            nf.dask.gram(KERNEL, X, out=out, tile=100, client=client)
    finally:
        client.run(limit_files, -1, workers=one)
    kept = tiles_in(out)
    seen = recorded(monkeypatch)
    K = nf.dask.gram(KERNEL, X, out=out, tile=100, client=client)
    assert 0 < kept < 66 and len(seen) == 66 - kept
    np.testing.assert_allclose(K[::100], KERNEL(X[::100], X), rtol=1e-12)


def test_a_tile_that_raises(client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its error comes here, and what others have done stays."""
    X, out = rows(1100), tmp_path / "K.npy"
    X[1050] *= 1e160  # too long, in the last column of tiles
    gram = partial(nf.dask.gram, KERNEL, X, out=out, tile=100, client=client)
    with pytest.raises(ValueError, match=r"has norm 2\.58e\+160"):
        gram()
    kept = tiles_in(out)
    seen = recorded(monkeypatch)
    with pytest.raises(ValueError, match=r"has norm 2\.58e\+160"):
        gram()
    assert kept >= 1 and len(seen) < 66 - kept


def pretend(version: str) -> None:
    """Be a worker with another version of the package."""
    from ntkfast.dask import dispatch

    dispatch.__version__ = version


def test_another_version_is_refused(client: Any) -> None:
    X, one = rows(4700), list(client.nthreads())[:1]
    client.run(pretend, "0.0.1", workers=one)
    try:
        told = rf"a worker has ntkfast 0\.0\.1, the client {nf.__version__}"
        with pytest.raises(RuntimeError, match=told):
            nf.dask.matmul(nf.FullyConnected(2).ntk, X, None, X, client=client)
    finally:
        client.run(pretend, nf.__version__, workers=one)


def test_client_that_ends(client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C, then kill -9: the next run goes on with the tiles that are missing."""
    X, out = rows(1100), tmp_path / "K.npy"
    np.save(tmp_path / "X.npy", X)
    address = client.scheduler.address
    command = [sys.executable, "-c", JOB, address, str(tmp_path / "X.npy"), str(out)]
    kept = 0
    for how in signal.SIGINT, signal.SIGKILL:
        job = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        until(lambda before=kept: tiles_in(out) > before + 2)
        job.send_signal(how)
        told = job.communicate(timeout=20)[1]
        assert job.returncode != 0 and not out.exists()
        kept = tiles_in(out)
        assert how == signal.SIGKILL or "of 66 tiles are done and kept" in told
    seen = recorded(monkeypatch)
    K = nf.dask.gram(KERNEL, X, out=out, tile=100, client=client)
    assert len(seen) == 66 - kept
    np.testing.assert_array_equal(K, K.T)
    np.testing.assert_allclose(K[::100], KERNEL(X[::100], X), rtol=1e-12)


def test_two_clients_and_one_store(
    client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second is refused as long as the first lives; killed, it is waited for and replaced."""
    pytest.importorskip("zarr")
    monkeypatch.setattr(leases, "PATIENCE", 4.0)
    X, url = rows(1100), f"file://{tmp_path}/K.zarr"
    np.save(tmp_path / "X.npy", X)
    arguments = client.scheduler.address, str(tmp_path / "X.npy"), url
    command = [sys.executable, "-c", HELD + JOB, *arguments]
    gram = partial(nf.dask.gram, KERNEL, X, out=url, tile=100, client=client)
    job = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        until(lambda: list(tmp_path.glob("K.zarr/c/*/*")))
        with pytest.raises(nf.batch.BatchError, match=rf"another job \(process {job.pid} on"):
            gram()
    finally:
        job.kill()
        job.wait()
    assert (tmp_path / "K.zarr.lock").exists()
    written, missing = files._written, []

    def counted(*arguments: Any) -> Iterator[tuple[int, int]]:
        missing.extend(arguments[3])
        return written(*arguments)

    monkeypatch.setattr(files, "_written", counted)
    K = gram()
    assert 0 < len(missing) < 66
    assert not (tmp_path / "K.zarr.lock").exists()
    np.testing.assert_allclose(K[::100], KERNEL(X[::100], X), rtol=1e-12)


def test_killed_scheduler(client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its clients are told, and another cluster goes on."""
    file, out, X = tmp_path / "scheduler.json", tmp_path / "K.npy", rows(1100)

    def start(kind: str, *options: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", f"distributed.cli.dask_{kind}", *options]
        quiet = subprocess.DEVNULL
        return subprocess.Popen([*command, f"--scheduler-file={file}"], stdout=quiet, stderr=quiet)

    scheduler = start("scheduler", "--port=0", "--dashboard-address=:0")
    until(file.exists)
    worker = start("worker", "--nthreads=1", "--no-nanny", "--no-dashboard")
    quick = dask.config.set({"distributed.comm.timeouts.connect": "3s"})  # to give up
    try:
        with quick, distributed.Client(scheduler_file=str(file), set_as_default=False) as other:
            other.wait_for_workers(1, timeout=20)
            seen, record = [], Journal.record

            def kill(journal: Journal, i: int, j: int) -> None:
                record(journal, i, j)
                seen.append((i, j))
                if len(seen) == 3:
                    scheduler.kill()

            with monkeypatch.context() as patch:
                patch.setattr(Journal, "record", kill)
                with pytest.raises(RuntimeError, match="the scheduler is gone; what is on a disk"):
                    nf.dask.gram(KERNEL, X, out=out, tile=100, client=other)
        kept = tiles_in(out)
        assert kept >= 3
        seen = recorded(monkeypatch)
        nf.dask.gram(KERNEL, X, out=out, tile=100, client=client)
        assert len(seen) == 66 - kept
    finally:
        scheduler.kill()
        worker.kill()
        scheduler.wait()
        worker.wait()


def hoard(_: int) -> int:
    held = [np.ones(1 << 24) for _ in range(16)]  # 2 GB
    time.sleep(10)
    return len(held)


def test_too_little_memory() -> None:
    with dask.config.set({"distributed.scheduler.allowed-failures": 0}):
        with distributed.Client(
            n_workers=1, memory_limit="600MB", dashboard_address=":0", set_as_default=False
        ) as small:
            with pytest.raises(RuntimeError, match="the usual reason is memory"):
                list(Session(small).ordered(hoard, [(0,)]))


@pytest.fixture(scope="module")
def mixed() -> Iterator[Any]:
    """Yield a client of two workers, one of which has no native engine."""
    with workers(native={"NTKFAST_ENGINE": "native"}, numba={"NTKFAST_ENGINE": "numba"}) as found:
        yield found


def test_worker_without_the_native_engine(mixed: Any, tmp_path: Path) -> None:
    """Each worker has its own engine and a warning says so; with engine= all compute alike."""
    X, kernel = rows(3200), nf.FullyConnected(2).ntk  # three groups
    V = np.random.default_rng(0).normal(size=(3200, 2))
    unlike = r"workers compute with native .* and numba"
    with pytest.warns(nf.dask.ClusterWarning, match=unlike):
        found = nf.dask.matmul(kernel, X, None, V, client=mixed)
    for engine in ("native", "numba"):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            told = nf.dask.matmul(kernel, X, None, V, client=mixed, engine=engine)
        known = kernel.matmul(X, None, V, engine=engine)
        np.testing.assert_array_equal(told, known)
        bound = 16 * np.finfo(float).eps * kernel.matmul(X, None, np.abs(V))  # K is positive
        assert np.all(np.abs(found - known) <= bound)
    with pytest.warns(nf.dask.ClusterWarning, match=unlike):
        K = nf.dask.gram(kernel, X[:600], out=tmp_path / "K.npy", tile=200, client=mixed)
    np.testing.assert_array_equal(K, K.T)
    np.testing.assert_allclose(K, kernel(X[:600]), rtol=1e-13)


def paced(_: int, times: int) -> str:
    """Take so many times as long on one of two workers."""
    name = str(distributed.get_worker().name)
    time.sleep(0.01 if name == "native" else 0.01 * times)
    return name


@pytest.mark.filterwarnings("ignore::ntkfast.dask.ClusterWarning")
@pytest.mark.parametrize(("times", "most"), [(4, 100), (20, 25)])
def test_a_slow_worker_does_less(mixed: Any, times: int, most: int) -> None:
    """By measured speed: 60 and 15 calls where the machine has nothing else to do."""
    found = list(Session(mixed).ordered(paced, [(i, times) for i in range(300)], 0.1))
    slow = found.count("numba")
    assert 0 < slow < most and slow + found.count("native") == 300
