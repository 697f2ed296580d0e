"""Kernel ridge regression on many rows: products, seconds and memory of `regression.solve`.

    NTKFAST_DATA=folder python bench/regression.py --size small
    NTKFAST_DATA=folder python bench/regression.py --rows 60000 --memory 520  # below 1 GB in all
    NTKFAST_DATA=folder python bench/regression.py --rows 60000 --memory 520 --max-iter 2  # peak
    python bench/regression.py --data synthetic --rows 25000 50000 100000 200000 --picture cost.png

MNIST: the folder holds ``mnist/mnist.npz`` with X_train, y_train, X_test and y_test; the targets
are the ten classes, the ridge is 1e-4 K_ii and the score is the accuracy on the test images.
Synthetic: 100 normal columns, the target is a network of 20 neurons, a tenth of its variance is
noise, the ridge is 0.1 K_ii (the best is near K_ii at 5,000 rows), and the score is R^2 on rows
that were not seen. Rows have unit norm, the kernel is the NTK of three hidden layers, and residuals
are those of the float64 matrix. `cpu` are seconds of processors, which other work on the machine
changes less than seconds of the clock. Every line is a process of its own, so that its peak of
memory is.
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
RIDGES = {"mnist": 1e-4, "synthetic": 0.1}  # times the diagonal; what is noisy wants more
NAMES = "n rank storage steps products seconds cpu precond share residual score kept_MB peak_MB"


def mnist(part: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return images as rows of unit norm in float32, and their classes as ones and zeros."""
    with np.load(Path(os.environ["NTKFAST_DATA"]) / "mnist" / "mnist.npz") as file:
        X, y = file[f"X_{part}"][:count], file[f"y_{part}"][:count]
    return unit(X.reshape(len(X), -1)), np.eye(10)[y]


def synthetic(part: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return normal rows of 100 columns, scaled to unit norm, and what a small network says."""
    X = unit(np.random.default_rng(part == "test").standard_normal((count, 100), np.float32))
    rng = np.random.default_rng(2)
    inner, outer = rng.standard_normal((100, 20)), rng.standard_normal((20, 1))
    y = np.tanh(3 * X @ inner) @ outer
    return X, y + np.std(y) * (0.1 / 0.9) ** 0.5 * rng.standard_normal(y.shape)


def unit(X: np.ndarray) -> np.ndarray:
    """Scale rows to unit norm, in float32."""
    rows = X.astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def measure(
    data: str, n: int, rank: int | None, memory: int | None, threads: int, max_iter: int
) -> dict[str, Any]:
    """Solve once, and predict rows that were not seen."""
    kernel = nf.FullyConnected(3).ntk
    draw = {"mnist": mnist, "synthetic": synthetic}[data]
    X, Y = draw("train", n)
    ridge = RIDGES[data] * float(kernel.diag(X[:1])[0])
    kernel.matmul(X[:500], None, np.ones(500, np.float32), threads=threads)  # compiles the profile
    cpu = time.process_time()
    found = nf.regression.solve(
        kernel,
        X,
        Y,
        ridge,
        method="cg",
        rank=rank,
        memory=memory,
        max_iter=max_iter,
        threads=threads,
    )
    cpu = time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1.024e-3  # of KiB on Linux
    Z, T = draw("test", 10_000)
    began = time.perf_counter()
    F = kernel.matmul(Z, X, found.coefficients.astype(np.float32), threads=threads)
    score = (
        np.mean(np.argmax(F, axis=1) == np.argmax(T, axis=1))
        if data == "mnist"
        else 1 - np.sum((F - T) ** 2) / np.sum((T - T.mean()) ** 2)
    )
    return {
        "n": n,
        "rank": found.rank,
        "storage": found.storage,
        "steps": found.iterations,
        "products": found.products,
        "seconds": round(found.seconds, 2),
        "cpu": round(cpu, 2),
        "precond": round(found.seconds_of_preconditioner, 2),
        "share": round(1 - found.seconds_of_products / found.seconds, 3),
        "residual": float(np.max(found.residuals)),
        "score": round(float(score), 4),
        "kept_MB": round(found.memory / 1e6, 1),
        "peak_MB": round(peak, 1),
        "predict": round(time.perf_counter() - began, 2),
    }


def picture(rows: list[dict[str, Any]], path: str) -> None:
    """Draw time and score against the number of rows, with the law of cost a n^b."""
    from matplotlib.figure import Figure

    n, cpu, score = (np.array([row[name] for row in rows]) for name in ("n", "cpu", "score"))
    power, level = np.polyfit(np.log(n), np.log(cpu), 1)
    print(f"cpu = {np.exp(level):.3g} n^{power:.3f}; a million rows, extrapolated: ", end="")
    print(f"{np.exp(level + power * np.log(1e6)) / 3600:.1f} core hours")
    figure = Figure(figsize=(9, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.loglog(n, cpu, "o", label="measured")
    left.loglog(n, np.exp(level) * n**power, "-", label=f"$n^{{{power:.2f}}}$")
    left.set(xlabel="rows", ylabel="processor seconds to a true residual of 1e-6")
    left.legend()
    right.semilogx(n, score, "o-")
    right.set(xlabel="rows", ylabel="score on rows that were not seen")
    figure.savefig(path, dpi=150)


def main() -> None:
    """Print a table, one line per size, rank and budget of memory."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", choices=("mnist", "synthetic"), default="mnist")
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--rows", type=int, nargs="+", help="numbers of rows, in place of a size")
    parser.add_argument("--ranks", type=int, nargs="+", default=[0], help="0: the solver's choice")
    parser.add_argument("--memory", type=int, nargs="+", default=[0], help="MB; 0: the default")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--max-iter", type=int, default=1000, help="a few suffice for the peak")
    parser.add_argument("--picture", help="draw seconds and score against rows, two sizes or more")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        n, rank, memory = map(int, options.one.split(","))
        budget = memory * 10**6 or None
        settings = rank or None, budget, options.threads, options.max_iter
        print(json.dumps(measure(options.data, n, *settings)))
        return
    print("  ".join(f"{name:>10}" for name in NAMES.split()))
    rows = []
    for n in options.rows or SIZES[options.size]:
        for rank in options.ranks:
            for memory in options.memory:
                command = [sys.executable, __file__, "--one", f"{n},{rank},{memory}"]
                command += ["--data", options.data, "--threads", str(options.threads)]
                command += ["--max-iter", str(options.max_iter)]
                text = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
                row = json.loads(text)
                rows.append(dict(row))
                row["residual"] = f"{row['residual']:.1e}"
                print("  ".join(f"{row[name]!s:>10}" for name in NAMES.split()), flush=True)
    if options.picture:
        picture(rows, options.picture)


if __name__ == "__main__":
    main()
