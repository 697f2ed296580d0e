"""Times `spectrum.mercer` to degree 10,000 and 100,000, beside quadrature with SciPy.

    python bench/spectrum.py
    python bench/spectrum.py --json spectrum.json

The peer computes the same numbers the usual way: Gauss-Jacobi nodes for the weight of the sphere
(`scipy.special.roots_jacobi`) and the three-term recurrence, for as many degrees as there are
digits left. Its error is measured against `mercer`, whose own errors are a few units of rounding
(tests/test_mercer.py): the column says up to which degree the quadrature has three digits.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import roots_jacobi

import ntkfast as nf
from ntkfast import spectrum

KERNELS: dict[str, Callable[[], Any]] = {
    "FC-NTK, depth 3": lambda: nf.FullyConnected(3).ntk,
    "FC-NTK, depth 10": lambda: nf.FullyConnected(10).ntk,
    "FC-NTK, depth 100": lambda: nf.FullyConnected(100).ntk,
    "ResNTK, depth 10, alpha 0.1": lambda: nf.ResNet(10, alpha=0.1).ntk,
    "Laplace, c 1": lambda: nf.Laplace(1.0, inputs="sphere"),
}
DIMENSIONS = (3, 10, 100)
DEGREES = (10_000, 100_000)
REPEATS = 5
PEER_DEGREES, PEER_NODES = 500, 2000


def seconds(run: Callable[[], Any]) -> float:
    """Return the best of several times; caches of earlier runs are cleared in `run`."""
    best = np.inf
    for _ in range(REPEATS):
        start = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - start)
    return float(best)


def ours(kernel: Any, dim: int, degree: int) -> spectrum.MercerSpectrum:
    """Eigenvalues and their logarithms from scratch."""
    found = spectrum.mercer(kernel, dim, degree)
    _ = found.eigenvalues, found.log_eigenvalues
    return found


def peer(kernel: Any, dim: int) -> np.ndarray:
    """Eigenvalues by Gauss-Jacobi quadrature in u."""
    power = (dim - 3) / 2
    u, weights = roots_jacobi(PEER_NODES, power, power)
    values = kernel.profile(u) * weights / weights.sum()
    before, p = np.ones_like(u), u
    found = [values.sum(), values @ p]
    for k in range(1, PEER_DEGREES - 1):
        before, p = p, ((2 * k + dim - 2) * u * p - k * before) / (k + dim - 2)
        found.append(values @ p)
    return np.array(found)


def measure(name: str, dim: int) -> dict[str, Any]:
    """One row of the table."""
    kernel = KERNELS[name]()
    row: dict[str, Any] = {"kernel": name, "dim": dim}
    for degree in DEGREES:
        row[f"ms to {degree}"] = 1e3 * seconds(lambda d=degree: ours(kernel, dim, d))
    found = ours(kernel, dim, DEGREES[0])
    row["error estimate"] = float(found.error.max())
    row["sum rule"] = found.sum_rule_residual
    row["ms quadrature"] = 1e3 * seconds(lambda: peer(kernel, dim))
    with np.errstate(divide="ignore", invalid="ignore"):
        wrong = np.abs(peer(kernel, dim) / found.eigenvalues[:PEER_DEGREES] - 1) > 1e-3
    row["quadrature good to degree"] = int(np.argmax(wrong)) - 1 if wrong.any() else PEER_DEGREES
    return row


def main() -> None:
    """Measure everything and print a Markdown table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="also write the records here")
    options = parser.parse_args()
    rows = [measure(name, dim) for name in KERNELS for dim in DIMENSIONS]
    print("| " + " | ".join(rows[0]) + " |")
    print("|" + " --- |" * len(rows[0]))
    for row in rows:
        cells = [
            f"{value:.2g}" if isinstance(value, float) else str(value) for value in row.values()
        ]
        print("| " + " | ".join(cells) + " |")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
