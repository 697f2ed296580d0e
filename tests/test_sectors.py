"""Networks by sectors of angles: the form of many pairs in float32, without a walk along layers."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import pytest

import cases
import ntkfast as nf
import oracle
from ntkfast import activations
from ntkfast.arrays.collections import Rows
from ntkfast.engines import native
from ntkfast.engines.maps import LayerMap
from ntkfast.kernels import sectors

PAYS, SERVES = sectors.pays, sectors.serves
EPS = float(np.finfo(np.float32).eps)


def relu(kind: str = "ntk", depth: int = 8) -> Any:
    return getattr(nf.FullyConnected(depth, bias=0.5), kind)


def ntk(depth: int, activation: Any, b_std: float = 0.5) -> Any:
    network = nf.FullyConnected(depth, activation=activation, parameterization="ntk", b_std=b_std)
    return network.ntk


ORACLES: dict[str, tuple[Callable[[], Any], oracle.Kernel]] = {
    "relu": (relu, oracle.fully_connected(8, bias=0.5)),
    "relu-nngp": (
        lambda: ntk(9, "relu").network.nngp,
        oracle.fully_connected_ntk(
            9, oracle.relu, dimension=5, w_std=2**0.5, b_std=0.5, which="nngp"
        ),
    ),
    "relu-ntk": (
        lambda: ntk(12, "relu", 0.25),
        oracle.fully_connected_ntk(12, oracle.relu, dimension=5, w_std=2**0.5, b_std=0.25),
    ),
    "erf": (
        lambda: (
            nf.FullyConnected(4, activation="erf", parameterization="ntk", w_std=1.5, b_std=0.5).ntk
        ),
        oracle.fully_connected_ntk(4, oracle.erf, dimension=5, w_std=1.5, b_std=0.5),
    ),
    "gelu-nngp": (
        lambda: (
            nf.FullyConnected(
                6, activation="gelu", parameterization="ntk", w_std=1.5, b_std=0.5
            ).nngp
        ),
        oracle.fully_connected_ntk(6, oracle.gelu, dimension=5, w_std=1.5, b_std=0.5, which="nngp"),
    ),
}


@pytest.fixture(autouse=True)
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let calls of any size and any rows take sectors."""
    monkeypatch.setattr(sectors, "pays", lambda layers, pairs: True)
    monkeypatch.setattr(sectors, "serves", lambda plan, X, Y: True)


def layers_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sectors, "pays", lambda layers, pairs: False)


@lru_cache(maxsize=2)
def rows() -> tuple[np.ndarray, np.ndarray]:
    """Rows at all angles, of norms in and out of the range; zeros, parallel and opposite ones."""
    x, y = cases.rows(12, 5, np.float32, 71), cases.rows(14, 5, np.float32, 72)
    x[1], x[2], x[3] = 0, 1e-5 * x[2], 3000 * x[3]
    y[:4] = x[4:8]
    y[4], y[5], y[6], y[7] = -x[4], 2 * x[5], x[6] + np.float32(1e-3) * x[7], x[3]
    y[8] = x[8] + np.float32(0.3) * x[9]
    return x, y


@lru_cache(maxsize=8)
def expected(name: str) -> cases.Expected:
    return cases.compare(ORACLES[name][1], *rows())


@pytest.mark.parametrize("name", ORACLES)
def test_against_the_recursion(name: str, engine: dict[str, Any]) -> None:
    """Within what the layers are allowed, in and between the sectors and beside them."""
    kernel = ORACLES[name][0]()
    assert sectors.sector_map(kernel, 5) is not None
    expected(name).check(kernel(*rows(), **engine))


def many(count: int, seed: int = 5, columns: int = 6) -> np.ndarray:
    """Rows with copies among them, and short and long ones."""
    x = np.random.default_rng(seed).standard_normal((count, columns)).astype(np.float32)
    x[3::50] *= 1e-4
    x[7::31] = x[5]
    return x


@pytest.mark.parametrize("kernel", [relu(), ntk(12, "erf")], ids=["relu", "erf"])
def test_values_depend_on_their_pair_alone(kernel: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not on other rows, threads, the place in a tile, or whether the matrix is symmetric."""
    x, y = many(303), many(501, 6)
    x[40], y[90] = y[80], x[30]
    whole, own = kernel(x, y), kernel(x)
    with pytest.MonkeyPatch.context() as patch:
        layers_alone(patch)
        assert not np.array_equal(kernel(x, y), whole)  # so sectors are at work
    assert np.array_equal(kernel(x[11:130], y[201:]), whole[11:130, 201:])
    assert np.array_equal(kernel(x, y, threads=2), whole)
    assert np.array_equal(np.triu(own), np.triu(kernel(x, x.copy())))
    assert np.array_equal(own, own.T)
    assert np.array_equal(kernel.diag(x), np.diag(own))
    assert np.array_equal(kernel(x, y, dtype=np.float16), whole.astype(np.float16))


@pytest.mark.parametrize("symmetric", [False, True])
def test_products(symmetric: bool) -> None:
    """A product with the matrix that is not stored is that with the one that is."""
    kernel, x, y = relu(), many(303), many(501, 6)
    v = np.random.default_rng(7).standard_normal((303 if symmetric else 501, 3)).astype(np.float32)
    gram = kernel(x, None if symmetric else y)
    found = kernel.matmul(x, None if symmetric else y, v)
    size = np.abs(gram) @ np.abs(v)
    assert np.all(np.abs(found - gram.astype(np.float64) @ v) <= 8 * EPS * size)


@pytest.mark.parametrize("depth", [10, 40])
@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "abs", "gelu"])
@pytest.mark.parametrize("kind", ["ntk", "nngp"])
def test_error_is_measured(kind: str, activation: str, depth: int) -> None:
    """What a map says of its error holds at other pairs, against the layers in float64."""
    kernel = getattr(ntk(depth, activation, 1.0).network, kind)
    plan = sectors.sector_map(kernel, 6)
    assert plan is not None and plan.sectors is not None
    x, y = many(200, 8), many(300, 9)
    wide = [side.astype(np.float64) for side in (x, y)]
    scale = np.sqrt(np.outer(*(kernel.diag(side) for side in wide)))
    error = np.max(np.abs(kernel(x, y) - kernel(*wide)) / scale)
    # The cosine of a pair is rounded, too, and the layers of near pairs have errors of their own.
    assert error <= plan.sectors.error + (4 + depth / 2) * EPS


@pytest.mark.parametrize("activation", ["relu", "rbf(0.5)", "erf"])
def test_error_of_equal_norms(activation: str) -> None:
    """It is largest there, where angles are least."""
    kernel = ntk(9, activation, 1.0)
    plan = sectors.sector_map(kernel, 2)
    assert plan is not None and plan.sectors is not None
    angles = np.linspace(0, np.pi, 4000)
    y = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    for norm in (0.4, 1.0, 3.0):
        x = np.float32(norm) * np.array([[1, 0]], np.float32)
        other = np.float32(norm) * y
        found, wanted = kernel(x, other), kernel(*(side.astype(float) for side in (x, other)))
        error = np.max(np.abs(found - wanted) / kernel.diag(x.astype(float)))
        assert error <= plan.sectors.error + (4 + 9 / 2) * EPS


def test_kernels_that_vanish_for_some_norms() -> None:
    """Only layers keep digits of values far below the diagonal."""
    sine = nf.FullyConnected(10, activation="sin", parameterization="ntk", w_std=1.5, b_std=1e-4)
    assert sectors.sector_map(sine.ntk, 10) is None


def test_no_form() -> None:
    """Kernels that vanish beside their diagonals, and those that overflow."""
    chaotic = nf.FullyConnected(40, activation="erf", parameterization="ntk", w_std=3.0, b_std=0.1)
    assert sectors.sector_map(chaotic.ntk, 6) is None
    exponential = activations.Exp(1.0, 1.0)
    overflows = nf.FullyConnected(3, activation=exponential, parameterization="ntk", b_std=0.1)
    assert sectors.sector_map(overflows.nngp, 6) is None
    x, y = many(20), many(30)
    found = chaotic.ntk(x, y)
    with pytest.MonkeyPatch.context() as patch:
        layers_alone(patch)
        assert np.array_equal(found, chaotic.ntk(x, y))


def test_who_takes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many pairs in float32, at angles and of norms in range."""
    asked: list[bool] = []
    run = native.engine.run

    def watched(plan: LayerMap, *others: Any) -> None:
        asked.append(plan.sectors is not None)
        run(plan, *others)

    kernel, x = relu(), np.random.default_rng(3).standard_normal((200, 6)).astype(np.float32)
    sectors.sector_map(kernel, 6)
    monkeypatch.setattr(native.engine, "run", watched)
    monkeypatch.setattr(sectors, "serves", SERVES)
    kernel(x), kernel(x.astype(np.float64)), kernel(np.float32(1e4) * x), kernel(x + 9)
    with np.errstate(all="raise"):  # rows of zeros have no angle, of which users need no warning
        assert not SERVES(sectors.sector_map(kernel, 6), *2 * [Rows(0 * x, np.zeros(len(x)))])
    layers_alone(monkeypatch)
    kernel(x)
    assert asked == [True, False, False, False, False]


@pytest.mark.parametrize(
    ("depth", "pairs", "does"),
    [(3, 10**9, False), (10, 10**7, False), (10, 10**8, True), (100, 2 * 10**7, True)],
)
def test_pays(depth: int, pairs: int, does: bool) -> None:
    """Shallow networks never, deep ones with millions of pairs."""
    assert PAYS(nf.FullyConnected(depth, bias=0.5).layers(6), pairs) == does


def test_evaluation_agrees_with_the_engine() -> None:
    """The form in NumPy, by which the error is measured, is the one that engines evaluate."""
    kernel = relu()
    plan = sectors.sector_map(kernel, 2)
    assert plan is not None and plan.sectors is not None
    q, p, angles = np.array([0.5, 2.0]), np.array([1.0, 3.0]), np.array([0.3, 0.6, 1.5, 3.0])
    left = sectors._rows(q, np.zeros(1))
    right = sectors._rows(p, angles)
    sides = [
        Rows(side.data.astype(np.float32), side.norms.astype(np.float32)) for side in (left, right)
    ]
    out = np.empty((2, 8), np.float32)
    native.engine.run(plan, None, *sides, (out, None), 1)
    found = sectors.evaluate(plan.sectors, q, p, angles).reshape(2, 8)
    assert np.all(np.abs(out - found) <= 16 * EPS * np.abs(out).max())
