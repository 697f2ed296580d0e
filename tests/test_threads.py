"""Threads, processes and signals: the same bits for any number of threads, and no deadlock."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import cases
import ntkfast as nf
from interrupting import assert_interrupted

KERNELS = {
    "profile": lambda: nf.FullyConnected(3).ntk,
    "layers": lambda: nf.FullyConnected(2, bias=0.5).ntk,
    "radial": lambda: nf.Laplace(0.5, inputs="euclidean"),
}


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("dimension", [3, 37])
def test_same_bits_for_any_number_of_threads(
    name: str, dimension: int, engine: dict[str, Any], dtype: Any
) -> None:
    kernel = KERNELS[name]()
    x, y = cases.rows(523, dimension, dtype, seed=1), cases.rows(311, dimension, dtype, seed=2)
    x[100:105] = x[:5]
    v, w = cases.rows(311, 5, dtype, seed=3), cases.rows(523, 2, dtype, seed=4)

    def everything(threads: int) -> list[np.ndarray]:
        options = engine | {"threads": threads}
        return [
            kernel(x, y, **options),
            kernel(x, **options),
            kernel.matmul(x, y, v, **options),
            kernel.matmul(x, None, w, **options),
        ]

    one = everything(1)
    for threads in (2, 7):
        for a, b in zip(one, everything(threads), strict=True):
            assert np.array_equal(a, b)


def test_both_has_the_same_bits(engine: dict[str, Any]) -> None:
    x = cases.rows(301, 9, seed=1)
    kernel = nf.FullyConnected(2, bias=0.5).ntk
    for a, b in zip(
        kernel.network.both(x, threads=1, **engine),
        kernel.network.both(x, threads=7, **engine),
        strict=True,
    ):
        assert np.array_equal(a, b)


def test_number_of_threads_can_be_set() -> None:
    before = nf.get_num_threads()
    try:
        nf.set_num_threads(3)
        assert nf.get_num_threads() == 3
        with nf.threadpool_limits(1):
            assert nf.get_num_threads() == 1
        assert nf.get_num_threads() == 3
    finally:
        nf.set_num_threads(before)
    with pytest.raises(RuntimeError), nf.threadpool_limits(1):
        raise RuntimeError
    assert nf.get_num_threads() == before


def test_limits_of_threadpoolctl_leave_nothing_behind() -> None:
    threadpoolctl = pytest.importorskip("threadpoolctl")
    before = nf.get_num_threads()
    with nf.threadpool_limits(1):
        with threadpoolctl.threadpool_limits(2):
            assert nf.get_num_threads() == 1
        assert nf.get_num_threads() == 1
    assert nf.get_num_threads() == before
    with threadpoolctl.threadpool_limits(before + 1):
        assert nf.get_num_threads() == before + 1
        with nf.threadpool_limits(1):
            assert nf.get_num_threads() == 1
        with threadpoolctl.threadpool_limits(before + 2), nf.threadpool_limits(None):
            assert nf.get_num_threads() == before + 2
        assert nf.get_num_threads() == before + 1
    assert nf.get_num_threads() == before


def test_the_environment_still_counts_after_threadpoolctl(monkeypatch: pytest.MonkeyPatch) -> None:
    threadpoolctl = pytest.importorskip("threadpoolctl")
    with threadpoolctl.threadpool_limits(1):
        pass
    monkeypatch.setenv("NTKFAST_NUM_THREADS", "3")
    assert nf.get_num_threads() == 3


@pytest.mark.parametrize("threads", [10**5, 2**31, 2**40, 2**70])
def test_any_number_of_threads(engine: dict[str, Any], threads: int) -> None:
    x = cases.rows(40, 3, seed=1)
    kernel = nf.FullyConnected(2).ntk
    assert np.array_equal(kernel(x, threads=threads, **engine), kernel(x, **engine))
    with nf.threadpool_limits(threads):
        assert np.array_equal(kernel(x, **engine), kernel(x, threads=1, **engine))


@pytest.mark.grid(1)
def test_many_python_threads(engine: dict[str, Any]) -> None:
    """Eight callers at once, each with its own kernel and dtype, all with a shared one."""

    def work(index: int) -> list[np.ndarray]:
        kind = (np.float32, np.float64)[index % 2]
        x = cases.rows(150 + 7 * index, 11, kind, seed=index)
        own = nf.FullyConnected(1 + index % 4, bias=0.25 * (index % 3)).ntk
        shared = nf.ResNet(3, alpha=0.5).ntk
        results = []
        for _ in range(3):
            results += [own(x, **engine), shared(x, x[:50], **engine)]
            results.append(own.matmul(x, x[:60], x[:60], threads=2, **engine))
        return results

    serial = [work(index) for index in range(8)]
    with ThreadPoolExecutor(8) as pool:
        parallel = list(pool.map(work, range(8)))
    for a, b in zip(serial, parallel, strict=True):
        assert all(np.array_equal(one, two) for one, two in zip(a, b, strict=True))


def test_compiling_in_many_threads() -> None:
    """A kernel that eight threads meet for the first time at once is compiled consistently."""

    def work(index: int) -> float:
        return float(nf.FullyConnected(77, activation="abs").ntk.profile(0.5))

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(work, range(8)))) == 1


def run_script(code: str, timeout: float = 120) -> str:
    """Output of a script in a fresh interpreter; a deadlock becomes a failure by timeout."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_fork_after_use(engine_name: str) -> None:
    """Children forked after the thread pool has run compute the same, with threads."""
    out = run_script(
        f"""
        import multiprocessing, warnings
        import numpy as np, ntkfast as nf
        warnings.simplefilter("ignore", DeprecationWarning)  # fork in a threaded process
        x = np.random.default_rng(0).standard_normal((600, 20))
        kernel = nf.FullyConnected(3, bias=0.5).ntk
        options = dict(engine={engine_name!r}, threads=2)
        wanted = kernel(x, **options)
        def work(index):
            return bool(np.array_equal(kernel(x, **options), wanted))
        with multiprocessing.get_context("fork").Pool(3) as pool:
            print(pool.map(work, range(6)))
        print(np.array_equal(kernel(x, **options), wanted))
        """
    )
    assert out.split("\n")[0] == str([True] * 6)
    assert out.split("\n")[1] == "True"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_fork_while_other_threads_compute() -> None:
    """Threads that wait between calls are no one's in a child, which makes its own."""
    out = run_script(
        """
        import os, signal, threading, warnings
        import numpy as np, ntkfast as nf
        warnings.simplefilter("ignore", DeprecationWarning)  # fork in a threaded process
        x = np.random.default_rng(0).standard_normal((400, 20))
        kernel = nf.FullyConnected(3).ntk
        wanted = kernel(x, threads=1)
        done = threading.Event()
        right = []
        def same():
            return np.array_equal(kernel(x, threads=3), wanted)
        def work():
            while not done.is_set():
                right.append(same())
        others = [threading.Thread(target=work) for _ in range(3)]
        for other in others:
            other.start()
        codes = []
        for _ in range(10):
            right.append(same())
            child = os.fork()
            if child == 0:
                signal.alarm(60)
                os._exit(0 if same() and same() else 1)
            codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        done.set()
        for other in others:
            other.join()
        print(set(codes), all(right))
        """
    )
    assert out.strip() == "{0} True"


def test_the_process_ends_while_a_daemon_thread_computes() -> None:
    out = run_script(
        """
        import threading
        import numpy as np, ntkfast as nf
        x = np.random.default_rng(0).standard_normal((600, 20))
        kernel = nf.FullyConnected(3).ntk
        kernel(x, threads=3)
        began = threading.Event()
        def work():
            while True:
                kernel(x, threads=3)
                began.set()
        threading.Thread(target=work, daemon=True).start()
        began.wait()
        print("over")
        """
    )
    assert out.strip() == "over"


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize("lock", ["compiler", "llvm"])
def test_fork_while_another_thread_compiles(lock: str) -> None:
    """A child must not wait for ever for a lock that another thread of its parent held."""
    out = run_script(
        f"""
        import os, signal, threading, time, warnings
        import numpy as np, ntkfast as nf
        from llvmlite.binding import ffi
        from numba.core.compiler_lock import global_compiler_lock
        warnings.simplefilter("ignore", DeprecationWarning)  # fork in a threaded process
        x = np.random.default_rng(0).standard_normal((20, 3))
        kernel = nf.FullyConnected(3).ntk
        wanted = kernel(x, engine="numba")
        held = threading.Event()
        def compile():
            with global_compiler_lock if {lock!r} == "compiler" else ffi.lib._lock:
                held.set()
                time.sleep(1)
        other = threading.Thread(target=compile)
        other.start()
        held.wait()
        child = os.fork()
        if child == 0:
            signal.alarm(60)
            import numba
            same = np.array_equal(kernel(x, engine="numba"), wanted)
            os._exit(0 if same and numba.njit(lambda n: n + 1)(1) == 2 else 1)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        other.join()
        print(global_compiler_lock.is_locked())
        """
    )
    assert out.split() == ["0", "False"]


def test_spawn(engine_name: str, tmp_path: Any) -> None:
    """Kernels travel to spawned processes by pickling."""
    script = tmp_path / "spawned.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import multiprocessing
            import numpy as np, ntkfast as nf

            def work(arguments):
                kernel, x = arguments
                return kernel(x, engine={engine_name!r})

            if __name__ == "__main__":
                x = np.random.default_rng(0).standard_normal((100, 5))
                kernels = [nf.FullyConnected(3).ntk, nf.Laplace(1.0)]
                with multiprocessing.get_context("spawn").Pool(2) as pool:
                    results = pool.map(work, [(k, x) for k in kernels])
                print([bool(np.array_equal(r, work((k, x)))) for k, r in zip(kernels, results)])
            """
        )
    )
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=120
    )
    assert done.stdout.strip() == "[True, True]", done.stderr


@pytest.mark.grid(1)
@pytest.mark.skipif(sys.platform == "win32", reason="sends a POSIX signal")
@pytest.mark.parametrize(
    "operation",
    ["matmul", *(pytest.param(one, marks=pytest.mark.slow) for one in ("gram", "symmetric"))],
)
def test_keyboard_interrupt(engine_name: str, operation: str) -> None:
    """Control-C in a computation of many seconds stops it at once; the engine works afterwards."""
    assert_interrupted(
        f"""
        import sys, time
        import numpy as np, ntkfast as nf
        x = np.random.default_rng(0).standard_normal((6000, 40))
        many = np.random.default_rng(0).standard_normal((200_000, 40))
        options = dict(engine={engine_name!r})
        deep, plain = nf.FullyConnected(1000, bias=0.5).ntk, nf.FullyConnected(3).ntk
        wanted = plain(x[:50], **options)
        deep(x[:4], **options)
        plain.matmul(x[:4], x[4:8], x[:4], **options)
        plain.matmul(x[:4], None, x[:4], **options)
        print("ready", flush=True)
        try:
            if {operation!r} == "gram":
                deep(x, **options)
            else:
                other = None if {operation!r} == "symmetric" else many.copy()
                plain.matmul(many, other, many[:, :2], **options)
            print("finished", flush=True)
        except KeyboardInterrupt:
            same = np.array_equal(plain(x[:50], **options), wanted)
            print("interrupted", same, flush=True)
        """,
        within=2.5,
    )
