"""Derivatives by inputs and parameters over one Gram matrix of the same shape, and over peers.

Sums over all pairs, V a matrix: `bench/requirements-peers.txt` says how to set the peers up; one
that does not import is skipped.
"""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import numpy as np
import pytest

import ntkfast as nf
from memory import beyond
from peers import GRADIENTS, gaussian_rows, versions_of
from race import Call, Race, Size

DTYPES = ("float32", "float64")
DIMS = (100, 784)
GOAL, MEGABYTES = 3.0, 200.0
DEPTH = 3
BIASED = nf.FullyConnected(DEPTH, parameterization="ntk", b_std=0.1).ntk
KERNELS = {
    "profile": nf.FullyConnected(DEPTH).ntk,
    "ResNet": nf.ResNet(DEPTH, alpha=0.5).ntk,
    "layers": BIASED,
    "Laplace": nf.Laplace(0.01),
}


def inputs(n: int, d: int, dtype: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return X, Y and the weights of their pairs."""
    X, Y = (gaussian_rows(n, d, dtype, seed=seed) for seed in (1, 2))
    return X, Y, gaussian_rows(n, n, dtype, seed=3)


@pytest.mark.parametrize("what", ["vjp", "factors", "both places", "jvp", "parameters"])
@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("d", DIMS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_gradients(race: Race, size: Size, dtype: str, d: int, name: str, what: str) -> None:
    """Against K(X, Y); both places of X against K(X, X) too."""
    X, Y, V = inputs(size(64, 4000), d, dtype)
    kernel: Any = KERNELS[name]
    factors = V[:, :10].copy(), V[:, 10:20].copy()
    calls: dict[str, Call] = {
        "vjp": partial(kernel.vjp, X, Y, V),
        "factors": partial(kernel.vjp, X, Y, factors),
        "both places": partial(kernel.vjp, X, None, V),
        "jvp": partial(kernel.jvp, X, Y, X),
        "parameters": partial(kernel.parameter_gradient, X, Y, V),
    }
    against = {"gram": partial(kernel, X, Y)}
    if what == "both places":
        against["symmetric"] = partial(kernel, X)
    goal = {"vjp": True, "factors": True, "parameters": kernel.is_zonal}.get(what, False)
    race(
        calls[what],
        "gradients",
        {"dtype": dtype, "columns": d, "kernel": name, "what": what},
        "gradient",
        against=against,
        at_most={"gradient / gram": GOAL} if goal else {},
    )


@pytest.mark.parametrize("d", DIMS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", GRADIENTS)
def test_peers(race: Race, size: Size, name: str, dtype: str, d: int) -> None:
    """The gradient by X of 4000 by 4000 pairs, by another package over ours."""
    X, Y, V = inputs(size(32, 4000), d, dtype)
    build, packages = GRADIENTS[name]
    start = time.perf_counter()
    try:
        their = build(X, Y, V, DEPTH)
    except ImportError as error:
        pytest.skip(f"{name}: {error}")
    result = np.asarray(their())
    first = time.perf_counter() - start
    own = KERNELS["profile"].vjp(X, Y, V)
    versions = versions_of(packages)
    race(
        their,
        "gradients of peers",
        {"peer": name, "dtype": dtype, "columns": d},
        "peer",
        against={"ntkfast": partial(KERNELS["profile"].vjp, X, Y, V)},
        facts={
            "first call, s": first,
            "largest difference": float(np.max(np.abs(result - own)) / np.max(np.abs(own))),
            "versions": " ".join(f"{package} {number}" for package, number in versions.items()),
        },
    )


@pytest.mark.parametrize("task", ["gradient", "parameters"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_memory(race: Race, size: Size, dtype: str, task: str) -> None:
    """V of ten columns: what a process needs beyond inputs and result does not grow with pairs."""
    n, d = size(200, 20_000), 100
    X, Y, V = (gaussian_rows(n, k, dtype, seed=k) for k in (d, d + 1, 10))
    Y = Y[:, :d]
    kernel: Any = KERNELS["profile"]
    calls: dict[str, Call] = {
        "gradient": partial(kernel.vjp, X, Y, (V, V)),
        "parameters": partial(kernel.parameter_gradient, X, Y, (V, V)),
    }
    race(
        calls[task],
        "memory of gradients",
        {"dtype": dtype, "what": task, "n = m": n},
        "seconds",
        facts={"peak MB beyond input, output": beyond(task, n, d, dtype)},
        at_most={"peak MB beyond input, output": MEGABYTES},
        rounds=1,
        warmup=False,
    )
