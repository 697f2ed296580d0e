"""Features of more rows than memory: rows per second, and memory beyond that before.

Rows are float32 in a memory map, with targets that a network of one layer would give. `fit` is one
pass of `FeatureRidge`, beside F^T F alone of a part, extrapolated; `transform` takes features part
by part and drops them. Memory is anonymous, that is without the pages of the map.
"""

from __future__ import annotations

import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ntkfast.features import FeatureRidge, NTKRandomFeatures, stream
from race import Call, Race, Size, Times

WRITTEN = 1_000_000  # rows at a time
TEST_ROWS = 20_000
SHAPES = [  # rows, columns, features
    (1_000_000, 10, 1024),
    pytest.param(10_000_000, 10, 512, marks=pytest.mark.huge),
    pytest.param(1_000_000, 100, 8192, marks=pytest.mark.huge),
]


def anonymous() -> int:
    """Return the memory of this process in bytes, without pages of files."""
    resident, shared = Path("/proc/self/statm").read_text().split()[1:3]
    return (int(resident) - int(shared)) * resource.getpagesize()


@contextmanager
def watched(found: list[float]) -> Iterator[None]:
    """Append the mebibytes that came on top, looked at every few milliseconds."""
    before = largest = anonymous()
    done = threading.Event()

    def watch() -> None:
        nonlocal largest
        while not done.wait(0.005):
            largest = max(largest, anonymous())

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    yield
    done.set()
    thread.join()
    found.append((largest - before) / 2**20)


def target(X: np.ndarray) -> np.ndarray:
    """Return a sum of absolute values of projections."""
    W = np.random.default_rng(7).normal(size=(X.shape[1], 8)).astype(np.float32)
    return np.asarray(np.abs(X @ W).sum(axis=1))


def data(folder: Path, rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Write rows and targets and return them as memory maps."""
    X = np.lib.format.open_memmap(folder / "X.npy", "w+", np.float32, (rows, columns))
    y = np.lib.format.open_memmap(folder / "y.npy", "w+", np.float32, (rows,))
    generator = np.random.default_rng(0)
    for first in range(0, rows, WRITTEN):
        part = slice(first, min(first + WRITTEN, rows))
        X[part] = generator.standard_normal((part.stop - first, columns), np.float32)
        y[part] = target(X[part]) + generator.standard_normal(part.stop - first, np.float32)
    return np.load(folder / "X.npy", mmap_mode="r"), np.load(folder / "y.npy", mmap_mode="r")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
@pytest.mark.parametrize("what", ["fit", "transform"])
@pytest.mark.parametrize(("rows", "columns", "m"), SHAPES)
def test_streaming(
    race: Race, size: Size, tmp_path: Path, rows: int, columns: int, m: int, what: str
) -> None:
    """Ridge regression in one pass, and features part by part, NTKRandomFeatures of depth 2."""
    rows, m = size(2000, rows), size(32, m)
    X, y = data(tmp_path, rows, columns)
    map_ = NTKRandomFeatures(depth=2, n_components=m, random_state=0)
    model: Any = FeatureRidge(map_, alpha=list(np.logspace(-2, 4, 7)))
    drawn, memory = map_.fit(X[:1000]), []

    def fit() -> None:
        with watched(memory):
            model.fit(X, y)

    def transform() -> None:
        with watched(memory):
            for _ in stream(drawn, X):
                pass

    part = min(rows, 4 * m)
    F = np.random.default_rng(0).normal(size=(part, m))
    name = "F^T F of a part"

    def facts(times: Times) -> dict[str, float]:
        found = {f"{what}: rows/s": rows / times["own"].median, f"{what}: MiB": max(memory)}
        if what == "fit":
            test = np.random.default_rng(1).standard_normal((TEST_ROWS, columns), np.float32)
            found["F^T F alone, ms"] = 1e3 * times[name].median * rows / part
            found["F^T F, MiB"] = m * m / 2**17
            found["R^2"] = float(model.score(test, target(test)))
            found["penalty"] = float(model.alpha_)
        return found

    beside: dict[str, Call] = {name: lambda: F.T @ F} if what == "fit" else {}
    model.fit(X[:1000], y[:1000])  # loads and compiles
    row = {"rows": rows, "columns": columns, "features": m}
    call = {"fit": fit, "transform": transform}[what]
    rounds = 3 if rows <= WRITTEN and m <= 1024 else 1
    race(call, "streaming", row, what, beside=beside, facts=facts, rounds=rounds, warmup=False)
