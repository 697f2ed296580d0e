"""What the host does in a call with arrays on a device, on a machine without one.

    NTKFAST_CUDA_MODULE=ntkfast._cuda_emulated NTKFAST_CUDA_IDLE=1 python bench/gpu_host.py

On Linux with MALLOC_MMAP_THRESHOLD_=131072, or malloc clears what plays memory of the device.
Kernels are not run, memory is not filled: what is left is the time of Python, of the bindings and
of what stands beside kernels in C++. The driver's calls, which are counted, come on top.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import ntkfast as nf
from cuda_runtime import HostDevice
from ntkfast.engines import cuda
from ntkfast.places import device_memory

UNEQUAL = (0.5, 0.5, 2.0, 1.0)  # norms lie between, which no kernel has measured


def least(call: Callable[[], object], calls: int) -> float:
    """Return the least processor time of many calls, in milliseconds."""
    times = []
    for _ in range(calls):
        start = time.process_time_ns()
        call()
        times.append(time.process_time_ns() - start)
    return min(times) / 1e6


def main() -> None:
    """Print a line per call."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=16384)
    parser.add_argument("--columns", type=int, default=784)
    parser.add_argument("--calls", type=int, default=500)
    options = parser.parse_args()
    module, measure = cuda.module(), device_memory.measure
    device_memory.measure = lambda *given: [(norms, UNEQUAL) for norms, _ in measure(*given)]
    device = HostDevice(module)
    n, d = options.rows, options.columns
    X, V = device.empty((n, d), np.float32), device.empty((n, 10), np.float32)
    out, product = device.empty((n, n), np.float32), device.empty((n, 10), np.float32)
    kernel = nf.FullyConnected(3).ntk
    biases = nf.FullyConnected(3, parameterization="ntk", b_std=0.1).ntk
    calls: dict[str, Callable[[], Any]] = {
        "ntk(X)": lambda: kernel(X, out=out),
        "ntk(X), with biases": lambda: biases(X, out=out),
        "ntk.matmul(X, None, V)": lambda: kernel.matmul(X, None, V, out=product),
    }
    print(f"{n} rows of {d} columns, least of {options.calls} calls")
    for name, call in calls.items():
        call()
        before = module.counts()
        call()
        counts = {key: value - before[key] for key, value in module.counts().items() if value}
        asked = ", ".join(f"{value} {key}" for key, value in counts.items() if value)
        print(f"{name:24} {least(call, options.calls):7.3f} ms of the host; {asked}")


if __name__ == "__main__":
    main()
