"""Ridge regression on features of more rows than memory: seconds, rows per second, memory.

    python bench/streaming.py fit --rows 10000000 --columns 10 --components 1024
    python bench/streaming.py transform --rows 1000000 --columns 100 --components 8192 --depth 2

Rows are float32 in a memory map that is made first, with targets that a network of one layer would
give. `fit` is one pass of `FeatureRidge`; beside it stands the time of its F^T F alone, measured on
a part. `transform` takes features part by part and drops them. Memory is the largest resident size
beyond that before, without the pages of the map, which the system may drop.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ntkfast.features import (
    DualActivationFeatures,
    FeatureRidge,
    NTKRandomFeatures,
    NystromFeatures,
    stream,
)
from ntkfast.networks.dense import FullyConnected

METHODS = ("DualActivation", "NTKRandomFeatures", "Nystrom")
WRITTEN = 1_000_000  # rows at a time
TEST_ROWS = 20_000


class Memory:
    """The largest anonymous memory of this process, looked at every few milliseconds."""

    def __init__(self) -> None:
        self.largest = self.before = self.now()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    @staticmethod
    def now() -> int:
        """Return anonymous memory in bytes: without pages of files."""
        resident, shared = Path("/proc/self/statm").read_text().split()[1:3]
        return (int(resident) - int(shared)) * resource.getpagesize()

    def _watch(self) -> None:
        while not self._done.wait(0.005):
            self.largest = max(self.largest, self.now())

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._done.set()
        self._thread.join()

    @property
    def mebibytes(self) -> float:
        """Return what came on top."""
        return (self.largest - self.before) / 2**20


def target(X: NDArray[Any]) -> NDArray[np.float32]:
    """Return a sum of absolute values of projections."""
    W = np.random.default_rng(7).normal(size=(X.shape[1], 8)).astype(np.float32)
    return np.abs(X @ W).sum(axis=1)


def data(folder: Path, rows: int, columns: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Write rows and targets and return them as memory maps."""
    X = np.lib.format.open_memmap(folder / "X.npy", "w+", np.float32, (rows, columns))
    y = np.lib.format.open_memmap(folder / "y.npy", "w+", np.float32, (rows,))
    generator = np.random.default_rng(0)
    for first in range(0, rows, WRITTEN):
        part = slice(first, min(first + WRITTEN, rows))
        X[part] = generator.standard_normal((part.stop - first, columns), np.float32)
        y[part] = target(X[part]) + generator.standard_normal(part.stop - first, np.float32)
    return np.load(folder / "X.npy", mmap_mode="r"), np.load(folder / "y.npy", mmap_mode="r")


def features(args: argparse.Namespace) -> Any:
    """Return the map asked for."""
    kernel, m = FullyConnected(args.depth).ntk, args.components
    if args.method == "Nystrom":
        return NystromFeatures(kernel, m, random_state=0)
    if args.method == "DualActivation":
        return DualActivationFeatures(kernel, m, random_state=0)
    return NTKRandomFeatures(depth=args.depth, n_components=m, random_state=0)


def gram_seconds(rows: int, m: int) -> float:
    """Return what F^T F of so many rows takes, from the best of some parts."""
    part = min(rows, 4 * m)
    F = np.random.default_rng(0).normal(size=(part, m))
    best = np.inf
    for _ in range(3):
        start = time.perf_counter()
        F.T @ F
        best = min(best, time.perf_counter() - start)
    return best * rows / part


def fit(args: argparse.Namespace, X: NDArray[Any], y: NDArray[Any]) -> None:
    """Fit in one pass and print."""
    model = FeatureRidge(features(args), alpha=list(np.logspace(-2, 4, 7)))
    model.fit(X[:1000], y[:1000])  # loads and compiles
    with Memory() as memory:
        start = time.perf_counter()
        model.fit(X, y)
        spent = time.perf_counter() - start
    start = time.perf_counter()
    alpha = model.alpha_
    solved = time.perf_counter() - start
    test = np.random.default_rng(1).standard_normal((TEST_ROWS, args.columns), np.float32)
    print(f"fit: {spent:.1f} s, {args.rows / spent:,.0f} rows/s, solve {solved:.1f} s")
    print(f"F^T F alone: {gram_seconds(args.rows, args.components):.1f} s")
    print(f"memory: {memory.mebibytes:.0f} MiB, of F^T F {args.components**2 / 2**17:.0f} MiB")
    print(f"R^2 on new rows without noise: {model.score(test, target(test)):.4f}, alpha {alpha:g}")


def transform(args: argparse.Namespace, X: NDArray[Any], y: NDArray[Any]) -> None:
    """Compute features part by part and print."""
    drawn = features(args).fit(X[:1000])
    drawn.transform(X[:1000])
    with Memory() as memory:
        start = time.perf_counter()
        for _ in stream(drawn, X):
            pass
        spent = time.perf_counter() - start
    print(f"transform: {spent:.1f} s, {args.rows / spent:,.0f} rows/s")
    print(f"memory: {memory.mebibytes:.0f} MiB, a part of features included")


def main() -> None:
    """Run one of the two."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("what", choices=("fit", "transform"))
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--columns", type=int, default=10)
    parser.add_argument("--components", type=int, default=1024)
    parser.add_argument("--depth", type=int, default=2)
    parser.add_argument("--method", choices=METHODS, default="NTKRandomFeatures")
    parser.add_argument("--folder", type=Path, help="for the rows; default: a temporary one")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        X, y = data(Path(folder), args.rows, args.columns)
        {"fit": fit, "transform": transform}[args.what](args, X, y)


if __name__ == "__main__":
    main()
