"""Times the Walsh-Hadamard transform against a copy of the same array, and against its peers.

    python bench/hadamard.py
    python bench/hadamard.py --powers 8,10 --megabytes 256 --threads 2 --json hadamard.json

Every transform reads an array once and writes it once if it is as fast as the memory; so does the
copy, and the columns are multiples of its time: medians of interleaved runs.  Peers are fht-cpu
(out of place and in place), pyfwht (in place, float64), the stages in NumPy, and the product with
`scipy.linalg.hadamard`.  Those that do not import are left out.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from scipy.linalg import hadamard

from ntkfast.command.bench import Timing, format_table, limited, measure
from ntkfast.engines import native
from ntkfast.features import fwht

POWERS = (1, 3, 4, 6, 8, 10, 12, 16, 20)
SHORT = 1024  # entries of a row up to which NumPy is timed
LONG = 4096  # entries of a row from which on pyfwht, which takes single rows, is timed
GOAL, LARGEST = 2.0, 10  # times the copy, up to this power
COPY = "copy"

Function = Callable[[], object]


def numpy_stages(X: np.ndarray, out: np.ndarray) -> None:
    """Transform with NumPy: one pass over memory for each stage."""
    np.copyto(out, X)
    h = 1
    while h < X.shape[1]:
        blocks = out.reshape(len(X), -1, 2, h)
        a, b = blocks[:, :, 0], blocks[:, :, 1]
        difference = a - b
        a += b
        b[...] = difference
        h *= 2


def peers(X: np.ndarray, out: np.ndarray, threads: int) -> dict[str, Function]:
    """Other ways to the same numbers, by name."""
    functions: dict[str, Function] = {}
    width = X.shape[1]
    if width <= SHORT:
        H = hadamard(width, dtype=X.dtype)
        functions["NumPy stages"] = lambda: numpy_stages(X, out)
        functions["X @ H"] = lambda: np.matmul(X, H, out=out)
    if find_spec("fht_cpu"):
        fht = import_module("fht_cpu").fht
        functions["fht-cpu"] = lambda: fht(X, out=out, num_threads=threads)
        check(functions["fht-cpu"], X, out)
        functions["fht-cpu in place"] = lambda: fht(out, num_threads=threads)
    if find_spec("pyfwht") and X.dtype == np.float64 and width >= LONG:
        pyfwht = import_module("pyfwht")
        functions["pyfwht in place"] = lambda: [
            pyfwht.transform(row, backend=pyfwht.Backend.CPU) for row in out
        ]
        out[...] = X
        check(functions["pyfwht in place"], X, out)
    return functions


def check(function: Function, X: np.ndarray, out: np.ndarray) -> None:
    """Stop if a peer computes something else."""
    function()
    np.testing.assert_allclose(out[:1], fwht(X[:1]), rtol=1e-3, atol=1e-3 * X.shape[1] ** 0.5)


def times(power: int, dtype: str, options: argparse.Namespace) -> dict[str, Timing]:
    """Time everybody on rows of 2^power entries."""
    width = 1 << power
    n = max(1, options.megabytes * 2**20 // (width * np.dtype(dtype).itemsize))
    X = np.random.default_rng(power).standard_normal((n, width), dtype)
    out = np.empty_like(X)
    functions: dict[str, Function] = {
        COPY: lambda: np.copyto(out, X),  # before transforms in place: they cannot overflow then
        "in place": lambda: fwht(out, out=out, normalize=True, engine=options.engine),
        "into out": lambda: fwht(X, out=out, engine=options.engine),
    }
    if not options.no_peers:
        functions |= peers(X, out, options.threads)
    return measure(functions, repeats=options.repeats)


def table_row(power: int, dtype: str, options: argparse.Namespace) -> dict[str, Any]:
    """One row of the table: the rate of the copy, multiples of its time for the others."""
    timings = times(power, dtype, options)
    base = timings.pop(COPY)
    moved = 2e-9 * options.megabytes * 2**20
    row: dict[str, Any] = {"p": power, "copy, GB/s": round(moved / base.median, 1)}
    return row | {name: round(timing.ratio(base), 2) for name, timing in timings.items()}


def main() -> None:
    """Print one table per dtype."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--powers", help="comma-separated", default=",".join(map(str, POWERS)))
    parser.add_argument("--dtypes", default="float32,float64")
    parser.add_argument("--megabytes", type=int, default=64, help="of the array")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--engine", choices=("native", "numba"))
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    print(f"{options.megabytes} MB, {options.threads} threads, {native.active_isa()}")
    results = {}
    with limited(options.threads):
        for dtype in options.dtypes.split(","):
            rows = [table_row(int(p), dtype, options) for p in options.powers.split(",")]
            head = list(dict.fromkeys(name for row in rows for name in row))
            print(f"\n{dtype}\n")
            print(format_table(head, [[str(row.get(name, "")) for name in head] for row in rows]))
            results[dtype] = rows
    worst = max(row["into out"] for rows in results.values() for row in rows if row["p"] <= LARGEST)
    print(f"\nworst ratio up to 2^{LARGEST}: {worst} (goal {GOAL})")
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
