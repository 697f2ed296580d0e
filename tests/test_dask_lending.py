"""Arrays that workers of this machine read in the memory of the client, and groups of calls."""

from __future__ import annotations

import gc
import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ntkfast as nf
from ntkfast.dask import dispatch, lending
from ntkfast.dask.parts import Part
from ntkfast.dask.session import Session

distributed = pytest.importorskip("distributed")

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="no anonymous files")
KERNEL = nf.FullyConnected(2).ntk


def rows(n: int) -> np.ndarray:
    return np.random.default_rng(n).normal(size=(n, 5))


@pytest.fixture(scope="module")
def processes() -> Iterator[Any]:
    with distributed.Client(n_workers=2, threads_per_worker=1, dashboard_address=":0") as client:
        yield client


def other_process(code: str, loan: lending.Loan, folder: Path) -> str:
    """Return what code prints in another process that has been given a loan."""
    file = folder / "loan"
    file.write_bytes(pickle.dumps(loan))
    begin = f"import pickle; loan = pickle.load(open({str(file)!r}, 'rb'))\n"
    done = subprocess.run([sys.executable, "-c", begin + code], capture_output=True, text=True)
    return done.stdout.strip() or done.stderr.strip().splitlines()[-1]


@linux
def test_another_process_reads_what_is_lent(tmp_path: Path) -> None:
    X = np.asfortranarray(rows(300).astype(np.float32))[::2]
    lender = lending.Lender(X)
    code = "print(float(loan.array.max()), loan.array.flags.writeable, loan.array.flags.aligned)"
    assert other_process(code, lender.loan, tmp_path) == f"{float(X.max())} False True"
    np.testing.assert_array_equal(lender.loan.array, X)
    assert len(pickle.dumps(lender.loan)) < 500  # also once the array has been read


@linux
def test_what_is_not_there_is_out_of_reach(tmp_path: Path) -> None:
    """A file that is closed, another one in its place, and a process that has gone."""
    lender = lending.Lender(rows(10))
    loan = lender.loan
    with pytest.raises(lending.OutOfReachError, match="another"):
        _ = lending.Loan(loan.process, loan.file, b"x" * 16, loan.shape, loan.dtype).array
    del lender
    gc.collect()
    assert "OutOfReachError" in other_process("loan.array", loan, tmp_path)
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    with pytest.raises(lending.OutOfReachError):
        _ = lending.Loan(child.pid, loan.file, loan.token, loan.shape, loan.dtype).array


@linux
def test_memory_comes_back() -> None:
    """Files are closed with what they are lent for."""

    def files() -> int:
        open_ = (Path("/proc/self/fd") / number for number in os.listdir("/proc/self/fd"))
        return sum("memfd:ntkfast" in os.readlink(one) for one in open_ if one.is_symlink())

    part = Part(lambda: rows(1000), is_for_all=True)
    gc.collect()
    before = files()
    assert isinstance(part.value(True), lending.Loan)
    assert files() == before + 1
    assert part.value(False).shape == (1000, 5)  # takes the place of the first
    gc.collect()
    assert files() == before


@linux
def test_inputs_do_not_travel(processes: Any) -> None:
    def sent() -> int:
        totals = processes.run(lambda dask_worker: dask_worker.transfer_outgoing_bytes_total)
        return int(sum(totals.values()))

    X = rows(4000)
    V = X[:, :1]
    known = KERNEL.matmul(X, None, V)
    for Y in None, X.copy():
        nf.dask.matmul(KERNEL, X, Y, V, client=processes)
        before = sent()
        found = nf.dask.matmul(KERNEL, X, Y, V, client=processes)
        assert sent() - before < X.nbytes
        np.testing.assert_array_equal(found, known if Y is None else KERNEL.matmul(X, Y, V))


@linux
def test_a_worker_that_cannot_read_gets_the_numbers(
    processes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that joined after the client had asked; the same names stand for other processes then."""
    X = rows(2000)
    asked = []

    def at_first(client: Any, workers: list[str]) -> bool:
        asked.append(workers)
        return len(asked) == 1

    monkeypatch.setattr(dispatch, "can_read", at_first)
    init = lending.Lender.__init__

    def elsewhere(lender: lending.Lender, array: np.ndarray) -> None:
        init(lender, array)
        loan = lender.loan
        lender.loan = lending.Loan(1, loan.file, loan.token, loan.shape, loan.dtype)

    monkeypatch.setattr(lending.Lender, "__init__", elsewhere)
    found = nf.dask.matmul(KERNEL, X, None, X, client=processes)
    np.testing.assert_array_equal(found, KERNEL.matmul(X, None, X))
    assert len(asked) > 1


def test_workers_may_come_late() -> None:
    """A queue of jobs starts them when it can: until then the scheduler keeps what is sent."""
    X = rows(2000)
    options = {"n_workers": 0, "threads_per_worker": 1, "dashboard_address": ":0"}
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster) as client:
        timer = threading.Timer(0.5, cluster.scale, [1])
        timer.start()
        found = nf.dask.matmul(KERNEL, X, None, X, client=client)
        timer.join()
    np.testing.assert_array_equal(found, KERNEL.matmul(X, None, X))


@linux
def test_workers_are_asked_once(processes: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    workers = list(processes.nthreads())
    assert lending.can_read(processes, workers)
    monkeypatch.setattr(processes, "run", None)
    assert lending.can_read(processes, workers)
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not lending.can_read(processes, workers)


@linux
def test_without_memory_to_lend_inputs_travel(
    processes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(name: str) -> int:
        raise OSError(12, "Cannot allocate memory", name)

    X = rows(2000)
    lending.can_read(processes, list(processes.nthreads()))
    monkeypatch.setattr(os, "memfd_create", refused)
    found = nf.dask.matmul(KERNEL, X, None, X, client=processes)
    np.testing.assert_array_equal(found, KERNEL.matmul(X, None, X))
    lending._readers.clear()
    assert not lending.can_read(processes, list(processes.nthreads()))


def test_groups_have_equal_costs(processes: Any) -> None:
    """Ten long calls for one worker, and as many seconds of short ones for the other."""
    calls = [(i,) for i in range(50)]
    costs = [4.0] * 10 + [1.0] * 40
    work = dispatch.Dispatch(processes, list, calls, costs, 0.001, None, lambda engine: None)
    work._even = 0.040
    first = work._group(0.001, 1.0)
    second = work._group(0.001, 1.0)
    assert (len(first.calls), first.cost) == (10, 40.0)
    assert (len(second.calls), second.cost) == (40, 40.0)
    work = dispatch.Dispatch(processes, list, calls, costs, 0.001, None, lambda engine: None)
    work._even = 0.040
    assert len(work._group(0.001, 0.013).calls) == 3  # no longer than groups may be
    assert len(work._group(0.001, 0.001).calls) == 1  # but one at least


def test_workers_compute_in_order(processes: Any) -> None:
    """What comes first is long; what is short then evens out who ends first."""
    found = list(Session(processes).ordered(_now, [(i,) for i in range(24)], 0.01))
    for worker in {worker for worker, _ in found}:
        times = [when for who, when in found if who == worker]
        assert times == sorted(times)


def _now(_: int) -> tuple[str, float]:
    time.sleep(0.01)
    return distributed.get_worker().address, time.time()
