"""Finite networks: the empirical NTK beside its matrix products, and the two-sample test.

The products are those of the decomposition, in NumPy, on arrays that exist already: forward,
backward, F F^T and B B^T. PyTorch contracts Jacobians of batches, as the tutorial of torch.func
does; it is timed on few rows, and the facts give time per pair of rows.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

import ntkfast as nf
from ntkfast.finite import MLP, empirical_ntk
from race import Call, Race, Size, Times

DEPTH, COLUMNS, TORCH_ROWS, GOAL = 3, 100, 8, 1.5


def products(net: MLP, X: Any) -> Call:
    """Return a function that runs the bare matrix products."""
    rows = len(X)
    weights = [W.astype(X.dtype) for W in net.weights]
    F = [np.ascontiguousarray(one) for one in net.features(X)]
    B = [np.ascontiguousarray(one.reshape(rows, -1)) for one in net.backward(X)]

    def run() -> None:
        for f, W in zip(F, weights, strict=True):
            f @ W
        for b, W in zip(B[1:], weights[1:], strict=True):
            b @ W.T
        for f in F:
            f @ f.T
        for b in B[:-1]:
            b @ b.T

    return run


def network(size: Size) -> tuple[MLP, np.ndarray, dict[str, Any]]:
    """Return the network, rows for it, and the row of the table."""
    width, rows = size(32, 4096), size(50, 2000)
    net = MLP((COLUMNS, *[width] * DEPTH, 1), "relu", rng=0)
    X = np.random.default_rng(0).normal(size=(rows, COLUMNS)).astype(np.float32)
    return net, X, {"width": width, "rows": rows, "dtype": "float32"}


def test_ntk(race: Race, size: Size) -> None:
    """The kernel of a network of three hidden layers over its products."""
    net, X, row = network(size)

    def facts(times: Times) -> dict[str, float]:
        return {"ns per pair": 1e9 * times["own"].median / len(X) ** 2}

    against, goal = {"products": products(net, X)}, {"net.ntk / products": GOAL}
    call = partial(net.ntk, X)
    race(call, "finite", row, "net.ntk", against=against, facts=facts, at_most=goal)


def test_torch_func(race: Race, size: Size) -> None:
    """Jacobians by torch.func, per pair of rows, over ours."""
    torch = pytest.importorskip("torch")
    net, X, row = network(size)
    layers: list[Any] = []
    for W in net.weights:
        layers += [torch.nn.Linear(*W.shape, bias=False), torch.nn.ReLU()]
    model = torch.nn.Sequential(*layers[:-1])
    call = partial(empirical_ntk, model, X[:TORCH_ROWS], batch_size=TORCH_ROWS)

    def facts(times: Times) -> dict[str, float]:
        theirs = times["own"].median / TORCH_ROWS**2
        ours = times["net.ntk"].median / len(X) ** 2
        return {"torch.func, ns per pair": 1e9 * theirs, "torch.func / net.ntk": theirs / ours}

    beside = {"net.ntk": partial(net.ntk, X)}
    race(call, "finite", row, f"torch.func, {TORCH_ROWS} rows", beside=beside, facts=facts)


@pytest.mark.parametrize("what", ["one vector", "400 permutations"])
@pytest.mark.parametrize("name", ["NTK, 1 hidden layer", "finite NTK, 512 units"])
def test_mmd(race: Race, size: Size, name: str, what: str) -> None:
    """A two-sample test with 400 permutations, and one product with the kernel."""
    rows = size(50, 20_000)
    X, Y = np.random.default_rng(0).normal(size=(2, rows, COLUMNS)).astype(np.float32)
    if name.startswith("finite"):
        kernel: Any = nf.statistics.softplus_network(COLUMNS).ntk
    else:
        kernel = nf.FullyConnected(1).ntk
    if what == "one vector":
        Z, w = np.concatenate([X, Y]), np.ones(2 * rows, np.float32)
        call = partial(kernel.matmul, Z, None, w)
    else:
        call = partial(nf.statistics.ntk_mmd_test, X, Y, kernel=kernel)
    race(call, "two-sample test", {"kernel": name, "rows": f"{rows} + {rows}"}, what, rounds=3)
