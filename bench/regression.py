"""Kernel ridge regression on all of MNIST: products, seconds and memory of `regression.solve`.

    NTKFAST_DATA=folder python bench/regression.py --size small
    NTKFAST_DATA=folder python bench/regression.py --rows 60000 --memory 600  # below 1 GB in all

The folder holds ``mnist/mnist.npz`` with X_train, y_train, X_test and y_test. Rows have unit norm,
the kernel is the NTK of three hidden layers, the targets are the ten classes, the ridge is 1e-4
K_ii, and residuals are those of the float64 matrix. Every line is a process of its own, so that its
peak of memory is.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

import ntkfast as nf

SIZES = {"small": (2000, 5000), "medium": (5000, 10_000), "full": (10_000, 30_000, 60_000)}
RIDGE = 1e-4  # times the diagonal
NAMES = "n rank storage steps products seconds precond share residual accuracy kept_MB peak_MB"


def images(part: str, count: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return images as rows of unit norm in float32, and their classes."""
    with np.load(Path(os.environ["NTKFAST_DATA"]) / "mnist" / "mnist.npz") as file:
        X, y = file[f"X_{part}"][:count], file[f"y_{part}"][:count]
    rows = X.reshape(len(X), -1).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows, y


def measure(n: int, rank: int | None, memory: int | None, threads: int) -> dict[str, Any]:
    """Solve once, and predict the test images."""
    kernel = nf.FullyConnected(3).ntk
    X, y = images("train", n)
    ridge = RIDGE * float(kernel.diag(X[:1])[0])
    kernel.matmul(X[:500], None, np.ones(500, np.float32), threads=threads)  # compiles the profile
    found = nf.regression.solve(
        kernel, X, np.eye(10)[y], ridge, method="cg", rank=rank, memory=memory, threads=threads
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3  # kB on Linux
    Z, truth = images("test")
    began = time.perf_counter()
    scores = kernel.matmul(Z, X, found.coefficients.astype(np.float32), threads=threads)
    return {
        "n": n,
        "rank": found.rank,
        "storage": found.storage,
        "steps": found.iterations,
        "products": found.products,
        "seconds": round(found.seconds, 2),
        "precond": round(found.seconds_of_preconditioner, 2),
        "share": round(1 - found.seconds_of_products / found.seconds, 3),
        "residual": float(np.max(found.residuals)),
        "accuracy": float(np.mean(np.argmax(scores, axis=1) == truth)),
        "kept_MB": round(found.memory / 1e6, 1),
        "peak_MB": round(peak, 1),
        "predict": round(time.perf_counter() - began, 2),
    }


def main() -> None:
    """Print a table, one line per size, rank and budget of memory."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--rows", type=int, nargs="+", help="numbers of rows, in place of a size")
    parser.add_argument("--ranks", type=int, nargs="+", default=[0], help="0: the solver's choice")
    parser.add_argument("--memory", type=int, nargs="+", default=[0], help="MB; 0: the default")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        n, rank, memory = map(int, options.one.split(","))
        print(json.dumps(measure(n, rank or None, memory * 10**6 or None, options.threads)))
        return
    print("  ".join(f"{name:>10}" for name in NAMES.split()))
    for n in options.rows or SIZES[options.size]:
        for rank in options.ranks:
            for memory in options.memory:
                one = f"{n},{rank},{memory}"
                command = [sys.executable, __file__, "--one", one]
                command += ["--threads", str(options.threads)]
                text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
                row = json.loads(text)
                row["residual"] = f"{row['residual']:.1e}"
                print("  ".join(f"{row[name]!s:>10}" for name in NAMES.split()), flush=True)


if __name__ == "__main__":
    main()
