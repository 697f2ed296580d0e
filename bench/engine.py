"""The goals of the native engine by processor seconds of one thread: `python bench/engine.py`.

On a shared machine the clock says little. Calls that are compared take turns, each has the least
processor time of its turns, and a ratio is that of two such times. `--only NAME` picks sections.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import product

for name in ("OPENBLAS_NUM_THREADS", "NTKFAST_NUM_THREADS"):
    os.environ[name] = "1"

import numpy as np  # noqa: E402

import ntkfast as nf  # noqa: E402

Line = tuple[str, float, float | None]  # what, how much, the goal
NTK, BIASES = (
    nf.FullyConnected(3, parameterization="ntk", b_std=b_std).ntk for b_std in (0.0, 0.1)
)
DTYPES = ("float32", "float64")
FIRST_CALL = """
import time, numpy as np, ntkfast as nf
X = np.random.default_rng(0).standard_normal((10, 10)).astype("{dtype}")
nf.FullyConnected(2).ntk(X)
start = time.process_time()
nf.FullyConnected({depth}).ntk(X)
print(time.process_time() - start)
"""


def rows(n: int, d: int, dtype: str, seed: int = 0) -> np.ndarray:
    """Return Gaussian rows."""
    return np.random.default_rng(seed).standard_normal((n, d)).astype(dtype)


def least(
    calls: Mapping[str, Callable[[], object]], turns: int, repeats: int = 1
) -> dict[str, float]:
    """Return the least processor seconds of each call, all in turns."""
    best = dict.fromkeys(calls, np.inf)
    for _ in range(turns):
        for name, call in calls.items():
            start = time.process_time()
            for _ in range(repeats):
                call()
            best[name] = min(best[name], (time.process_time() - start) / repeats)
    return best


def products(turns: int) -> Iterator[Line]:
    """Gram matrices of 4,000 rows over X @ Y.T, and of a set with itself over those of two."""
    for dtype in DTYPES:
        for d in (784, 100, 10):
            X, Y = rows(4000, d, dtype, 1), rows(4000, d, dtype, 2)
            out = np.zeros((4000, 4000), dtype)
            calls = {
                "product": partial(np.matmul, X, Y.T),
                "product, out=": partial(np.matmul, X, Y.T, out=out),
                "write": partial(np.full, out.shape, 1.0, out.dtype),
                "write, out=": partial(out.fill, 1.0),
                "two": partial(NTK, X, Y),
                "two, out=": partial(NTK, X, Y, out=out),
                "one": partial(NTK, X),
                "one, out=": partial(NTK, X, out=out),
            }
            best = least(calls, turns if d < 784 else max(turns // 3, 3))
            for way in ("", ", out="):
                two, over = best[f"two{way}"], "write" if d == 10 else "product"
                goal = 1.4 if d == 10 else 1.05
                yield f"{dtype} d={d}{way}: ms", 1e3 * two, None
                yield f"{dtype} d={d}{way}: over {over}", two / best[over + way], goal
                if d == 10:
                    yield f"{dtype} d={d}{way}: over product", two / best["product" + way], None
                share = {784: 0.55, 100: 0.6, 10: 0.75}[d]
                yield f"{dtype} d={d}{way}: symmetric", best[f"one{way}"] / two, share


def small(turns: int) -> Iterator[Line]:
    """Time calls on few rows, in microseconds."""
    X, Y = rows(10, 10, "float64", 1), rows(10, 10, "float64", 2)
    singles = X.astype("float32"), Y.astype("float32")
    calls = {
        "10 x 10, float32": (partial(NTK, *singles), 15.0),
        "10 x 10, float32, biases": (partial(BIASES, *singles), 25.0),
        "10 x 10": (partial(NTK, X, Y), 15.0),
        "10 x 10, symmetric": (partial(NTK, X), 15.0),
        "10 x 10, biases": (partial(BIASES, X, Y), 25.0),
        "diag": (partial(NTK.diag, X), 15.0),
        "diag, biases": (partial(BIASES.diag, X), 15.0),
    }
    best = least({name: call for name, (call, _) in calls.items()}, 20 * turns, 50)
    for name, (_, goal) in calls.items():
        yield f"{name}: us", 1e6 * best[name], goal
    for dtype in DTYPES:
        X, Y = rows(500, 10, dtype, 1), rows(500, 10, dtype, 2)
        best = least(
            {"ours": partial(NTK, X, Y), "product": partial(np.matmul, X, Y.T)}, 30 * turns
        )
        yield f"500 x 500, {dtype}: us", 1e6 * best["ours"], None
        yield f"500 x 500, {dtype}: over product", best["ours"] / best["product"], 2.5


def first_calls(turns: int) -> Iterator[Line]:
    """First calls of deep networks in a process of their own, in milliseconds."""
    for dtype in DTYPES:
        for depth, goal in ((3, 15.0), (30, 15.0), (200, 15.0), (1000, 100.0)):
            code = FIRST_CALL.format(dtype=dtype, depth=depth)
            run = partial(subprocess.run, [sys.executable, "-c", code], capture_output=True)
            best = min(float(run(check=True).stdout) for _ in range(max(turns // 3, 2)))
            yield f"depth {depth}, {dtype}: ms", 1e3 * best, goal


def biased(depth: int, activation: str) -> nf.Kernel:
    """Return the NTK of a network with biases."""
    network = nf.FullyConnected(depth, activation=activation, parameterization="ntk", b_std=0.1)
    return network.ntk


def layers(turns: int) -> Iterator[Line]:
    """One more layer with biases on rows too few for sectors, and depth on many, ns per pair."""
    for dtype in DTYPES:
        X, Y = rows(1500, 10, dtype, 1), rows(1500, 10, dtype, 2)
        for activation in ("relu", "erf", "gelu"):
            calls = {str(depth): partial(biased(depth, activation), X, Y) for depth in (3, 10)}
            best = least(calls, turns)
            yield f"{activation}, {dtype}: ns", 1e9 * (best["10"] - best["3"]) / 7 / 1500**2, None
    many = [("float32", "relu"), ("float32", "erf"), ("float32", "gelu"), ("float64", "relu")]
    for (dtype, activation), depth in product(many, (10, 30, 100)):
        X, Y = rows(6000, 10, dtype, 1), rows(6000, 10, dtype, 2)
        out = np.zeros((6000, 6000), dtype)
        call = partial(biased(depth, activation), X, Y, out=out)
        start = time.process_time()
        call()
        first = time.process_time() - start
        best = least({"": call}, max(turns // 5, 2))
        name = f"{activation}, {dtype}, {depth} layers"
        yield f"{name}: ns", 1e9 * best[""] / out.size, None
        yield f"{name}, compiled once: ms", 1e3 * (first - best[""]), None


def main() -> None:
    """Print what is asked for."""
    sections = (products, small, first_calls, layers)
    parser = argparse.ArgumentParser(description=__doc__)
    names = [section.__name__ for section in sections]
    parser.add_argument("--only", nargs="*", default=names, choices=names)
    parser.add_argument("--turns", type=int, default=15)
    asked = parser.parse_args()
    for section in sections:
        if section.__name__ not in asked.only:
            continue
        for what, value, goal in section(asked.turns):
            print(
                f"{what:<44}{value:10.3g}", "" if goal is None else f"   goal {goal:g}", flush=True
            )


if __name__ == "__main__":
    main()
