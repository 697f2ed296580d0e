"""Times convolutional kernels against the engine's layer rate, neural-tangents and plain NumPy.

From the repository root, on an idle machine::

    python bench/image.py [--peers-python peers/bin/python] [--threads 2]

Everything runs in one go, in turns, and the table holds medians of ratios:

- the bound: pairs of pixels x layers x the time that the layer map of dense networks takes per
  layer and pair of rows (depth 40 over depth 20, with biases, on rows of unequal norms);
- neural-tangents 0.6.5 (`bench/requirements-peers.txt`), one process per precision;
- the released algorithm of Arora et al. 2019 in NumPy on the full four-dimensional array, one pair
  at a time, in float32 as theirs and in float64.

Images are 32 x 32 x 3, networks have three layers of 3 x 3 filters; "lap" averages over 5 x 5
pixels, "pools" takes means of 2 x 2 behind the first two layers.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

SHAPE = (32, 32, 3)
DEPTH = 3
PEER = """
import json, sys, time, types
import jax, numpy as np
sys.modules["neural_tangents.experimental"] = types.ModuleType("neural_tangents.experimental")
jax.config.update("jax_enable_x64", sys.argv[1] == "float64")
from neural_tangents import stax
last = stax.GlobalAvgPool() if sys.argv[2] == "gap" else stax.Flatten()
layers = [stax.Conv(1, (3, 3), padding="SAME", W_std=2**0.5), stax.Relu()] * 3
kernel = jax.jit(stax.serial(*layers, last, stax.Dense(1))[2], static_argnums=2)
n = int(sys.argv[3])
x, y = np.random.default_rng(0).standard_normal((2, n, 32, 32, 3)).astype(sys.argv[1])
times = []
for _ in range(int(sys.argv[4])):
    start = time.perf_counter()
    jax.block_until_ready(kernel(x, y, "ntk"))
    times.append((time.perf_counter() - start) / n**2)
print(json.dumps(times[1:]))
"""


def seconds(work: Callable[[], Any], repeats: int) -> list[float]:
    """Time `work` after one call for warming up."""
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return times


def layer_rate(dtype: str, threads: int) -> float:
    """Return the seconds that one more layer costs per pair of rows, all threads together."""
    import ntkfast as nf

    random = np.random.default_rng(0)
    X = (random.standard_normal((2000, 16)) * random.uniform(0.5, 2, (2000, 1))).astype(dtype)
    Y = X[::-1].copy()
    times = []
    for depth in (20, 40):
        net = nf.FullyConnected(depth, parameterization="ntk", b_std=0.1)
        times.append(statistics.median(seconds(lambda net=net: net.ntk(X, Y, threads=threads), 5)))
    return (times[1] - times[0]) / 20 / len(X) ** 2


def kernel_of(readout: str) -> Any:
    """Return the kernel to time."""
    import ntkfast as nf

    if readout == "pools":
        layer = (nf.Conv(), "relu")
        return nf.ConvNet(*layer, nf.AvgPool(2), *layer, nf.AvgPool(2), *layer).ntk
    window = 5 if readout == "lap" else None
    return nf.Convolutional(DEPTH, readout=readout, window=window, parameterization="ntk").ntk


def pixel_pairs(readout: str) -> int:
    """Return the pairs of pixels on which all layers of the network work."""
    h, w, _ = SHAPE
    if readout == "pools":
        return sum((h * w >> 2 * k) ** 2 for k in range(DEPTH))
    if readout == "lap":  # pixels up to 4 apart on each axis
        return DEPTH * (9 * h - 20) * (9 * w - 20)
    return DEPTH * ((h * w) ** 2 if readout == "gap" else h * w)


def per_pair(dtype: str, readout: str, threads: int, repeats: int) -> float:
    """Return seconds per pair of images."""
    count = 512 if readout == "flatten" else 32
    random = np.random.default_rng(0)
    X, Y = random.standard_normal((2, count, *SHAPE)).astype(dtype)
    kernel = kernel_of(readout)
    kernel(X[:2], Y[:2])
    return statistics.median(seconds(lambda: kernel(X, Y, threads=threads), repeats)) / count**2


def released(x: np.ndarray, y: np.ndarray) -> float:
    """Return CNTK-GAP as the released CuPy code computes it, on (h, w, h, w) arrays in NumPy."""

    def windows(a: np.ndarray) -> np.ndarray:
        total = a.copy()
        for i in (-1, 0, 1):
            for j in (-1, 0, 1):
                if i or j:
                    h, w = a.shape[:2]
                    to = slice(max(0, -i), h - max(0, i)), slice(max(0, -j), w - max(0, j))
                    at = slice(max(0, i), h + min(0, i)), slice(max(0, j), w + min(0, j))
                    total[(*to, *to)] += a[(*at, *at)]
        return total

    def own(a: np.ndarray) -> list[np.ndarray]:  # standard deviations per layer
        total = np.einsum("ijk,ijk->ij", a, a)
        found = []
        for layer in range(DEPTH):
            padded = np.pad(total, 1)
            h, w = total.shape
            total = sum(padded[i : i + h, j : j + w] for i in range(3) for j in range(3))
            total = total / 9 if layer else total
            found.append(np.sqrt(total))
        return found

    s = windows(np.einsum("ijk,abk->ijab", x, y))
    t = s.copy()
    for layer, (n, m) in enumerate(zip(own(x), own(y), strict=True)):
        scale = n[:, :, None, None] * m
        u = np.clip(s / scale, -1, 1)
        turn = np.pi - np.arccos(u)
        s = scale * (u * turn + np.sqrt(1 - u * u)) / (9 * np.pi)
        t = t * turn / (9 * np.pi) + s
        if layer < DEPTH - 1:
            s, t = windows(s), windows(t)
    return float(t.mean())


def peer(python: str, dtype: str, readout: str) -> float:
    """Return the seconds per pair that neural-tangents takes, on all cores."""
    count, repeats = (4, 4) if readout == "gap" else (32, 6)
    command = [python, "-c", PEER, dtype, readout, str(count), str(repeats)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return statistics.median(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--peers-python", help="interpreter with neural-tangents")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    print(
        "| dtype | read-out | ms per pair | pairs/s | over the bound | 50,000 images | "
        "NumPy over it | neural-tangents over it |"
    )
    print("|" + "---|" * 8)
    random = np.random.default_rng(1)
    for dtype in ("float32", "float64"):
        rate = layer_rate(dtype, options.threads)
        x, y = random.standard_normal((2, *SHAPE)).astype(dtype)
        plain = statistics.median(seconds(lambda x=x, y=y: released(x, y), 2))
        for readout in ("gap", "flatten", "lap", "pools"):
            own = per_pair(dtype, readout, options.threads, options.repeats)
            bound = rate * pixel_pairs(readout)
            days = own * 50_000 * 50_001 / 2 / 86400
            other = "-"
            if options.peers_python and readout in ("gap", "flatten"):
                other = f"{peer(options.peers_python, dtype, readout) / own:.3g}"
            first = f"{plain / own:.3g}" if readout == "gap" else "-"
            print(
                f"| {dtype} | {readout} | {1e3 * own:.4g} | {1 / own:.4g} | {own / bound:.2f} | "
                f"{days:.3g} days | {first} | {other} |",
                flush=True,
            )
    print(f"\n{options.threads} threads, NumPy {np.__version__}, Python {sys.version.split()[0]}")


if __name__ == "__main__":
    main()
