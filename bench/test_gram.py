"""Gram matrices and products with vectors against the matrix product of the same shape."""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

import numpy as np
import pytest

import ntkfast as nf
from memory import TASKS, beyond
from ntkfast.engines import native
from ntkfast.engines.interface import load
from peers import gaussian_rows
from race import Call, Race, Size

DTYPES = ("float32", "float64")
DIMS = (10, 100, 784)
PRODUCT_GOAL = {784: 1.15, 100: 1.5, 10: 2.5}
SYMMETRIC_GOAL, ENGINE_GOAL = 0.65, 2.0
ONCE_GOAL = {784: 0.55, 100: 0.65}
MATMUL_GOAL, MATMUL_MEGABYTES, MEMORY_GOAL = 1.3, 200.0, 0.05
NTK = nf.FullyConnected(3).ntk
MAPS = {"profile": NTK, "layers": nf.FullyConnected(3, parameterization="ntk", b_std=0.1).ntk}
PRODUCT = "X @ Y.T"


def pair(n: int, d: int, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the X and Y of every table."""
    return gaussian_rows(n, d, dtype, seed=1), gaussian_rows(n, d, dtype, seed=2)


def product(X: np.ndarray, Y: np.ndarray) -> Call:
    """Return the call that everything is compared with."""
    return lambda: X @ Y.T


@pytest.mark.parametrize("depth", [None, 1, 3, 10, 100], ids=lambda depth: str(depth or PRODUCT))
@pytest.mark.parametrize("d", DIMS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_product(race: Race, size: Size, dtype: str, d: int, depth: int | None) -> None:
    """Kernels of bias-free ReLU networks, whose cost does not grow with depth."""
    X, Y = pair(size(64, 4000), d, dtype)
    row = {"dtype": dtype, "columns": d}
    base = product(X, Y)
    if depth is None:
        race(base, "gram", row, PRODUCT)
        return
    name = f"depth {depth}"
    call = partial(nf.FullyConnected(depth).ntk, X, Y)
    goal = {f"{name} / {PRODUCT}": PRODUCT_GOAL[d]}
    race(call, "gram", row, name, against={PRODUCT: base}, at_most=goal)


@pytest.mark.parametrize("d", DIMS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_symmetric(race: Race, size: Size, dtype: str, d: int) -> None:
    """A set with itself, depth 3, against two sets."""
    X, Y = pair(size(64, 4000), d, dtype)
    against = {"rectangular": partial(NTK, X, Y), PRODUCT: product(X, Y)}
    goal = {"symmetric / rectangular": SYMMETRIC_GOAL} if d == 784 else {}
    row = {"dtype": dtype, "columns": d}
    race(partial(NTK, X), "symmetric", row, "symmetric", against=against, at_most=goal)


@pytest.mark.parametrize("rows", ["a twin of each", "100 of each", "all one cluster"])
@pytest.mark.parametrize("d", DIMS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_near_duplicates(race: Race, size: Size, dtype: str, d: int, rows: str) -> None:
    """Pairs of near-duplicate rows, which are recomputed from differences."""
    n = size(64, 4000)
    X, Y = pair(n, d, dtype)
    noise = np.array(1e-4, dtype) * Y
    groups = X[: max(n // 100, 1)].repeat(-(-n // max(n // 100, 1)), axis=0)[:n]
    data = {
        "a twin of each": (X, X + noise),
        "100 of each": (groups, groups + noise),
        "all one cluster": (X[:1] + noise[::-1], X[:1] + noise),
    }
    row = {"dtype": dtype, "columns": d}
    call = partial(NTK, *data[rows])
    race(call, "near-duplicates", row, rows, against={"distinct rows": partial(NTK, X, Y)})


def forced(kernel: Any, isa: str, X: np.ndarray, Y: np.ndarray) -> np.ndarray:
    """Evaluate with one instruction set."""
    with native.force_isa(isa):
        return np.asarray(kernel(X, Y, engine="native"))


@pytest.mark.parametrize("engine", [*native.available_isas(), "numba"])
@pytest.mark.parametrize("map_", MAPS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_engines(race: Race, size: Size, dtype: str, map_: str, engine: str) -> None:
    """Every engine and instruction set against the best one, 100 columns, depth 3."""
    if not native.available_isas():
        pytest.skip("the native engine is not built")
    if engine == "numba" and (reason := load("numba").unavailable()):
        pytest.skip(reason)
    X, Y = pair(size(64, 4000), 100, dtype)
    kernel, best = MAPS[map_], native.active_isa()
    if engine == "numba":
        call = partial(kernel, X, Y, engine="numba")
    else:
        call = partial(forced, kernel, engine, X, Y)
    against = {best: partial(forced, kernel, best, X, Y)} if engine != best else {}
    goal = {f"numba / {best}": ENGINE_GOAL} if engine == "numba" else {}
    row = {"dtype": dtype, "map": map_}
    race(call, "engines", row, engine, against={**against, PRODUCT: product(X, Y)}, at_most=goal)


def tiled_product(X: np.ndarray, Y: np.ndarray, V: np.ndarray, tile: int = 2048) -> np.ndarray:
    """Return X Y' V by BLAS on tiles: the flops of a matrix-free product with no kernel in it."""
    out = np.zeros((len(X), V.shape[1]), V.dtype)
    buffer = np.empty((tile, tile), V.dtype)
    for i in range(0, len(X), tile):
        rows = X[i : i + tile]
        for j in range(0, len(Y), tile):
            columns = Y[j : j + tile]
            block = buffer.ravel()[: len(rows) * len(columns)].reshape(len(rows), len(columns))
            np.matmul(rows, columns.T, out=block)
            out[i : i + tile] += block @ V[j : j + tile]
    return out


@pytest.mark.parametrize("dtype", DTYPES)
def test_matmul(race: Race, size: Size, dtype: str) -> None:
    """A matrix-free product, 100 columns, 10 vectors, against the same flops by BLAS on tiles."""
    n, d = size(200, 100_000), 100
    X, Y = pair(n, d, dtype)
    V = gaussian_rows(n, 10, dtype, seed=3)
    extra = beyond("matmul", n, d, dtype)
    race(
        partial(NTK.matmul, X, Y, V),
        "matmul",
        {"dtype": dtype, "n = m": n},
        "matmul",
        against={"BLAS on tiles": partial(tiled_product, X, Y, V)},
        facts={"peak MB beyond input, output": extra},
        at_most={
            "matmul / BLAS on tiles": MATMUL_GOAL,
            "peak MB beyond input, output": MATMUL_MEGABYTES,
        },
        warmup=n <= 20_000,
    )


@pytest.mark.parametrize("map_", MAPS)
@pytest.mark.parametrize("d", ONCE_GOAL)
@pytest.mark.parametrize("dtype", DTYPES)
def test_symmetric_matmul(race: Race, size: Size, dtype: str, d: int, map_: str) -> None:
    """K(X, X) V with 10 vectors, each pair once, against K(X, Y) V."""
    n, kernel = size(200, 20_000), MAPS[map_]
    X, Y = pair(n, d, dtype)
    V = gaussian_rows(n, 10, dtype, seed=3)
    peak = {}
    if map_ == "profile":
        peak["peak MB beyond input, output"] = beyond("symmetric matmul", n, d, dtype)
    race(
        partial(kernel.matmul, X, None, V),
        "symmetric matmul",
        {"dtype": dtype, "columns": d, "map": map_},
        "symmetric",
        against={"rectangular": partial(kernel.matmul, X, Y, V)},
        facts=peak,
        at_most={"symmetric / rectangular": ONCE_GOAL[d]},
        warmup=False,
    )


@pytest.mark.skipif(sys.platform == "win32", reason="no peak of the resident memory is at hand")
@pytest.mark.parametrize("task", [task for task in TASKS if "matmul" not in task])
@pytest.mark.parametrize("dtype", DTYPES)
def test_memory(race: Race, size: Size, dtype: str, task: str) -> None:
    """The peak memory of a Gram matrix beyond its inputs and itself, in a process of its own."""
    n, d = size(200, 5000), 100
    result = n * n * np.dtype(dtype).itemsize / 1e6
    extra = beyond(task, n, d, dtype)
    facts = {"result, MB": result, "beyond, MB": extra, "share": extra / result}
    biases = {"parameterization": "ntk", "b_std": 0.1} if task == "layers" else {}
    X, Y = pair(n, d, dtype)
    call = partial(nf.FullyConnected(3, **biases).ntk, X, None if task == "symmetric" else Y)
    goal = {"share": MEMORY_GOAL}
    race(call, "memory", {"dtype": dtype, "task": task}, "time", facts=facts, at_most=goal)
