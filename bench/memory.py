"""The peak memory of a task beyond its inputs and its result, in a process of its own.

python bench/memory.py gram 5000 100 float64
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np

from peers import gaussian_rows

TASKS = ("gram", "symmetric", "layers", "matmul", "symmetric matmul", "gradient", "parameters")


def beyond(task: str, n: int, d: int, dtype: str) -> float:
    """Return the megabytes that a fresh process needs on top; on the same cores."""
    command = [sys.executable, __file__, *map(str, (task, n, d, dtype))]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout)


def peak_megabytes(reset: bool = False) -> float:
    """Return the peak of the resident memory, on Linux since the last reset."""
    status = Path("/proc/self/status")
    if not status.exists():
        import resource  # here: Windows has neither

        unit = 1e6 if sys.platform == "darwin" else 1e3
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1.024e-3


def main(task: str, n: int, d: int, dtype: str) -> None:
    """Print how far the resident memory rises above input and output while a task runs."""
    import ntkfast as nf

    X, Y = (gaussian_rows(n, d, dtype, seed=seed) for seed in (1, 2))
    V = gaussian_rows(n, 10, dtype, seed=3)
    biases = {"parameterization": "ntk", "b_std": 0.1} if task == "layers" else {}
    kernel = nf.FullyConnected(3, **biases).ntk
    symmetric, multiplied = "symmetric" in task, "matmul" in task
    derived = task in ("gradient", "parameters")  # of sum_ij (V V^T)_ij K_ij
    out = np.ones((n, d if derived else V.shape[1] if multiplied else n), dtype)

    def run(rows: int) -> None:
        x, y, target = X[:rows], None if symmetric else Y[:rows], out[:rows]
        if task == "gradient":
            kernel.vjp(x, y, (V[:rows], V[:rows]), out=target)
        elif task == "parameters":
            kernel.parameter_gradient(x, y, (V[:rows], V[:rows]))
        elif multiplied:
            kernel.matmul(x, y, V[:rows], out=target)
        else:
            kernel(x, y, out=target if rows == n else None)

    run(64)  # libraries, thread stacks and the compiled profile are there once and for all
    before = peak_megabytes(reset=True)
    run(n)
    print(peak_megabytes() - before)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
