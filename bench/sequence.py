"""Recurrent kernels against their arithmetic bound and the scheme of the released code, in one run.

    python bench/sequence.py

`over the bound` divides our time for all pairs of two sets by T products of (n, m) with (m, n) plus
T x depth maps of a layer at the engine's measured rate; `symmetric` is our time for one set over
half of that bound. `NumPy over it` divides the time of the released algorithm (arrays of all pairs
at every step, arc cosines and square roots, written anew from the formulas) by ours for one set.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import ntkfast as nf
from ntkfast.command.bench import SETTLE, limited

W2, U2, B2 = 2.0, 1.0, 0.01  # squared scales of the recurrent weights, the input and the biases
SIZES = {"one channel": (128, 1, 1), "16 channels": (128, 16, 3)}  # steps, channels, depth


def seconds(works: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Return medians of some calls that take turns, after one round for warming up."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(repeats + 1):
        for name, work in works.items():
            time.sleep(SETTLE)
            start = time.perf_counter()
            work()
            if turn:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def dense(X: np.ndarray, depth: int) -> Callable[[], Any]:
    """Return the kernel of a network with biases, whose 20 more layers tell the rate of one."""
    kernel = nf.FullyConnected(depth, parameterization="ntk", b_std=0.1).ntk
    Y = X[::-1].copy()
    return lambda: kernel(X, Y)


def products(X: np.ndarray) -> Callable[[], Any]:
    """Return T products of all pairs of inputs of a step."""
    steps = np.ascontiguousarray(X.swapaxes(0, 1))
    out = np.empty((len(X), len(X)), X.dtype)

    def work() -> None:
        for step in steps:
            np.matmul(step, step.T, out=out)

    return work


def dual(c: np.ndarray, size: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return E[phi phi] and E[phi' phi'] of ReLU for covariances and products of deviations."""
    u = np.clip(c / size, -1, 1)
    angle = np.arccos(u)
    slope = (np.pi - angle) / (2 * np.pi)
    return size * (np.sqrt(1 - u * u) / (2 * np.pi) + slope * u), slope


def released(X: np.ndarray, depth: int) -> np.ndarray:
    """Return the tangent kernel by arrays of all pairs at every step."""
    count, steps, channels = X.shape
    own = np.zeros((depth, count), X.dtype)  # variances after the activation
    past = [(np.zeros((count, count), X.dtype), np.zeros((count, count), X.dtype))] * depth
    for t in range(steps):
        x = X[:, t]
        value, tangent = x @ x.T / channels, np.zeros((count, count), X.dtype)
        size = np.einsum("ij,ij->i", x, x) / channels
        for layer in range(depth):
            c = W2 * past[layer][0] + U2 * value + B2
            theta = c + W2 * past[layer][1] + U2 * tangent
            q = W2 * own[layer] + U2 * size + B2
            value, slope = dual(c, np.sqrt(np.outer(q, q)))
            tangent = slope * theta
            past[layer] = value, tangent
            size = own[layer] = q / 2
    return value + tangent


def row(
    name: str, count: int, shape: tuple[int, int, int], dtype: str, threads: int, repeats: int
) -> str:
    """Measure one line of the table."""
    steps, channels, depth = shape
    random = np.random.default_rng(0)
    X = random.standard_normal((count, steps, channels)).astype(dtype)
    flat = random.standard_normal((2000, 16)) * random.uniform(0.5, 2, (2000, 1))
    flat = flat.astype(dtype)
    kernel = nf.Recurrent(depth, w_std=W2**0.5, u_std=U2**0.5, b_std=B2**0.5).ntk
    Y = X[::-1].copy()
    with limited(threads):
        error = np.abs(released(X[:50].astype(float), depth) / kernel(X[:50]) - 1).max()
        found = seconds(
            {
                "all": lambda: kernel(X, Y),
                "half": lambda: kernel(X),
                "products": products(X),
                "20": dense(flat, 20),
                "40": dense(flat, 40),
            },
            repeats,
        )
        plain = seconds({"plain": lambda: released(X, depth)}, 2)["plain"]
    rate = (found["40"] - found["20"]) / 20 / len(flat) ** 2
    bound = found["products"] + steps * depth * count**2 * rate
    half = (found["products"] + steps * depth * count * (count + 1) * rate) / 2
    each = found["half"] / (steps * depth * count * (count + 1) / 2)
    return (
        f"| {name}, depth {depth} | {dtype} | {threads} | {1e3 * found['half']:.1f} | "
        f"{1e9 * each:.2f} | {1e9 * rate:.2f} | {found['all'] / bound:.2f} | "
        f"{found['half'] / half:.2f} | {plain / found['half']:.1f} | {error:.0e} |"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=500, help="sequences (default: 500)")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--dtypes", nargs="+", default=["float32", "float64"])
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    print(
        "| sequences | dtype | threads | Gram, ms | ns per step, layer, pair | layer map, ns | "
        "over the bound | symmetric | NumPy over it | largest difference |"
    )
    print("|" + "---|" * 10)
    for name, shape in SIZES.items():
        for dtype in options.dtypes:
            for threads in options.threads:
                line = row(name, options.count, shape, dtype, threads, options.repeats)
                print(line, flush=True)
    print(f"\n{options.count} sequences, NumPy {np.__version__}, Python {sys.version.split()[0]}")


if __name__ == "__main__":
    main()
