"""Networks by sectors of angles: the form of many pairs, without a walk along layers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
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
from ntkfast.kernels import sector_choice, sectors
from ntkfast.kernels.sectors import DOUBLE, SINGLE, Digits

PAYS, SERVES = sector_choice.pays, sector_choice.serves
SPAN, SHORT = sector_choice.span_of, sector_choice.is_short


def eps(digits: Digits) -> float:
    return float(np.finfo(digits.dtype).eps)


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


@pytest.fixture
def digits(dtype: type[np.floating]) -> Digits:
    """Both precisions."""
    return SINGLE if dtype is np.float32 else DOUBLE


@pytest.fixture(autouse=True)
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let calls of any size and any rows take sectors of one range, in all accuracy layers have."""
    sector_choice._refused.cache_clear()
    monkeypatch.setattr(sector_choice, "pays", lambda layers, pairs, digits: True)
    monkeypatch.setattr(sector_choice, "is_short", lambda plan, work, digits: True)
    monkeypatch.setattr(sector_choice, "serves", lambda plan, X, Y: True)
    monkeypatch.setattr(sector_choice, "span_of", lambda layers, X, Y, digits: span(layers, digits))
    accepted = sectors.accepted
    monkeypatch.setattr(
        sectors, "accepted", lambda n, digits: (1 + (digits is DOUBLE)) * accepted(n, digits)
    )


def span(layers: Any, digits: Digits) -> tuple[float, float]:
    return sectors.whole_span(layers) if digits is SINGLE else (-2.0, 3.0)


def map_of(kernel: Any, dim: int, digits: Digits) -> LayerMap | None:
    """Return what calls take."""
    return sectors.sector_map(kernel, dim, digits, span(kernel.network.layers(dim), digits))


def layers_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sector_choice, "pays", lambda layers, pairs, digits: False)


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
def test_against_the_recursion(name: str, digits: Digits, engine: dict[str, Any]) -> None:
    """Within what the layers are allowed, in and between the sectors and beside them."""
    kernel, wanted = ORACLES[name][0](), expected(name)
    assert map_of(kernel, 5, digits) is not None
    if digits is DOUBLE:  # the tolerance is so many eps
        wanted = replace(wanted, tolerance=wanted.tolerance * (eps(DOUBLE) / eps(SINGLE)))
    wanted.check(kernel(*(side.astype(digits.dtype) for side in rows()), **engine))


def many(count: int, seed: int = 5, columns: int = 6, digits: Digits = SINGLE) -> np.ndarray:
    """Rows with copies among them, and short and long ones."""
    x = np.random.default_rng(seed).standard_normal((count, columns)).astype(digits.dtype)
    x[3::50] *= 1e-4
    x[7::31] = x[5]
    return x


@pytest.mark.parametrize("kernel", [relu(), ntk(12, "erf")], ids=["relu", "erf"])
def test_values_depend_on_their_pair_alone(
    kernel: Any, digits: Digits, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not on other rows, threads, the place in a tile, or whether the matrix is symmetric."""
    x, y = many(303, digits=digits), many(501, 6, digits=digits)
    x[40], y[90] = y[80], x[30]
    whole, own = kernel(x, y), kernel(x)
    with pytest.MonkeyPatch.context() as patch:
        layers_alone(patch)
        assert not np.array_equal(kernel(x, y), whole)  # so sectors are at work
    assert np.array_equal(kernel(x[11:130], y[201:]), whole[11:130, 201:])
    assert np.array_equal(kernel(x, y, threads=2), whole)
    assert np.array_equal(kernel(np.asfortranarray(x), y, out=np.empty_like(whole)), whole)
    assert np.array_equal(np.triu(own), np.triu(kernel(x, x.copy())))
    assert np.array_equal(own, own.T)
    assert np.array_equal(kernel.diag(x), np.diag(own))
    assert np.array_equal(kernel(x, y, dtype=np.float16), whole.astype(np.float16))


@pytest.mark.parametrize("symmetric", [False, True])
def test_products(symmetric: bool, digits: Digits) -> None:
    """A product with the matrix that is not stored is that with the one that is."""
    kernel, x, y = relu(), many(303, digits=digits), many(501, 6, digits=digits)
    v = np.random.default_rng(7).standard_normal((303 if symmetric else 501, 3))
    v = v.astype(digits.dtype)
    gram = kernel(x, None if symmetric else y)
    found = kernel.matmul(x, None if symmetric else y, v)
    size = np.abs(gram) @ np.abs(v)
    assert np.all(np.abs(found - gram.astype(np.longdouble) @ v) <= 8 * eps(digits) * size)


def test_one_column(digits: Digits, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only biases make angles other than 0 and pi."""
    kernel, x = ntk(12, "relu", 1.0), many(90, columns=1, digits=digits)
    found, own = kernel(x), np.sqrt(kernel.diag(x))
    layers_alone(monkeypatch)
    wanted = kernel(x)
    assert not np.array_equal(found, wanted)
    assert np.all(np.abs(found - wanted) <= 3 * sectors.accepted(13, digits) * np.outer(own, own))


def walked(kernel: Any, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return what the layers say in float64."""
    with pytest.MonkeyPatch.context() as patch:
        layers_alone(patch)
        return kernel(x.astype(np.float64), y.astype(np.float64))


@pytest.mark.parametrize("depth", [10, 40])
@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "abs", "gelu"])
@pytest.mark.parametrize("kind", ["ntk", "nngp"])
def test_error_is_measured(kind: str, activation: str, depth: int, digits: Digits) -> None:
    """What a map says of its error holds at other pairs, against the layers in float64."""
    kernel = getattr(ntk(depth, activation, 1.0).network, kind)
    plan = map_of(kernel, 6, digits)
    assert plan is not None and plan.sectors is not None
    x, y = many(200, 8, digits=digits), many(300, 9, digits=digits)
    scale = np.sqrt(np.outer(*(kernel.diag(side.astype(np.float64)) for side in (x, y))))
    error = np.max(np.abs(kernel(x, y) - walked(kernel, x, y)) / scale)
    # The cosine of a pair is rounded, too, and the layers of near pairs have errors of their own.
    assert error <= plan.sectors.error + (4 + depth / 2) * eps(digits)


@pytest.mark.parametrize("activation", ["relu", "rbf(0.5)", "erf"])
def test_error_of_equal_norms(activation: str, digits: Digits) -> None:
    """It is largest there, where angles are least."""
    kernel = ntk(9, activation, 1.0)
    plan = map_of(kernel, 2, digits)
    assert plan is not None and plan.sectors is not None
    angles = np.linspace(0, np.pi, 4000)
    y = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(digits.dtype)
    for norm in (0.8, 1.0, 3.0):
        x, other = digits.dtype.type(norm) * np.array([[1, 0]], digits.dtype), norm * y
        other = other.astype(digits.dtype)
        error = np.max(np.abs(kernel(x, other) - walked(kernel, x, other)))
        most = plan.sectors.error + (4 + 9 / 2) * eps(digits)
        assert error <= most * kernel.diag(x.astype(float))[0]


@pytest.mark.parametrize(("activation", "b_std"), [("relu", 1.0), ("relu", 0.1), ("gelu", 1.0)])
def test_a_hundred_layers(activation: str, b_std: float) -> None:
    """In float64 by both ways, whose errors add up."""
    kernel = ntk(100, activation, b_std)
    plan = map_of(kernel, 6, DOUBLE)
    assert plan is not None and plan.sectors is not None
    assert plan.sectors.error <= 50 * eps(DOUBLE)
    x, y = many(60, 8, digits=DOUBLE), many(70, 9, digits=DOUBLE)
    scale = np.sqrt(np.outer(kernel.diag(x), kernel.diag(y)))
    assert np.max(np.abs(kernel(x, y) - walked(kernel, x, y)) / scale) <= 100 * eps(DOUBLE)


def test_kernels_that_vanish_for_some_norms() -> None:
    """Only layers keep digits of values far below the diagonal."""
    sine = nf.FullyConnected(10, activation="sin", parameterization="ntk", w_std=1.5, b_std=1e-4)
    assert sectors.sector_map(sine.ntk, 10) is None


def test_no_form(digits: Digits) -> None:
    """Kernels that vanish beside their diagonals, and those that overflow."""
    chaotic = nf.FullyConnected(40, activation="erf", parameterization="ntk", w_std=3.0, b_std=0.1)
    assert map_of(chaotic.ntk, 6, digits) is None
    exponential = activations.Exp(1.0, 1.0)
    overflows = nf.FullyConnected(3, activation=exponential, parameterization="ntk", b_std=0.1)
    assert map_of(overflows.nngp, 6, digits) is None
    x, y = many(20, digits=digits), many(30, digits=digits)
    found = chaotic.ntk(x, y)
    with pytest.MonkeyPatch.context() as patch:
        layers_alone(patch)
        assert np.array_equal(found, chaotic.ntk(x, y))


def test_who_takes_it(digits: Digits, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many pairs at angles and of norms in range."""
    asked: list[bool] = []
    run = native.engine.run

    def watched(plan: LayerMap, *others: Any) -> None:
        asked.append(plan.sectors is not None)
        run(plan, *others)

    kernel, x = relu(), np.random.default_rng(3).standard_normal((200, 6)).astype(digits.dtype)
    monkeypatch.setattr(sector_choice, "serves", SERVES)
    monkeypatch.setattr(sector_choice, "span_of", SPAN)
    plan = map_of(kernel, 6, digits)
    assert plan is not None
    kernel(x), kernel(digits.dtype.type(1e4) * x), kernel(x + 9)  # compiled
    monkeypatch.setattr(native.engine, "run", watched)
    kernel(x), kernel(digits.dtype.type(1e4) * x), kernel(x + 9)
    with np.errstate(all="raise"):  # rows of zeros have no angle, of which users need no warning
        assert not SERVES(plan, *2 * [Rows(0 * x, np.zeros(len(x)))])
        huge = digits.dtype.type(1e30 if digits is SINGLE else 1e100) * x
        assert not SERVES(plan, *2 * [Rows(huge, np.ones(len(x)))])
    monkeypatch.setattr(sector_choice, "is_short", lambda plan, work, digits: False)
    kernel(x)
    layers_alone(monkeypatch)
    kernel(x)
    assert asked == [True, False, False, False, False]


@pytest.mark.parametrize(
    ("digits", "depth", "pairs", "does"),
    [
        (SINGLE, 3, 10**9, False),
        (SINGLE, 10, 10**7, False),
        (SINGLE, 10, 10**8, True),
        (SINGLE, 100, 2 * 10**7, True),
        (DOUBLE, 10, 10**9, False),
        (DOUBLE, 30, 10**7, False),
        (DOUBLE, 30, 3 * 10**7, False),
        (DOUBLE, 30, 5 * 10**7, True),
    ],
)
def test_pays(digits: Digits, depth: int, pairs: int, does: bool) -> None:
    """Shallow networks never, deep ones with millions of pairs."""
    assert PAYS(nf.FullyConnected(depth, bias=0.5).layers(6), pairs, digits) == does


def test_refused_ranges_are_not_compiled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor are wider ones; others are."""
    asked: list[tuple[float, float]] = []
    spans = iter([(-1.0, 1.0), (-1.0, 1.0), (-2.0, 1.0), (0.0, 2.0)])
    x = np.random.default_rng(5).standard_normal((50, 6))
    rows = Rows(x, np.linalg.norm(x, axis=1))

    def none(kernel: Any, dim: int, digits: Digits, span: tuple[float, float]) -> None:
        asked.append(span)

    monkeypatch.setattr(sector_choice, "span_of", lambda *rest: next(spans))
    monkeypatch.setattr(sector_choice, "sector_map", none)
    for _ in range(4):
        assert sector_choice.quicker(relu(), rows, rows, 10**9) is None
    assert asked == [(-1.0, 1.0), (0.0, 2.0)]


def test_a_short_form() -> None:
    """Many products are dearer than few layers."""
    plan = map_of(relu(), 6, DOUBLE)
    assert plan is not None
    assert SHORT(plan, 40, DOUBLE) and not SHORT(plan, 4, DOUBLE)


def test_the_range_of_norms() -> None:
    """In float64 that of nearly all rows, to powers of two of the variance; else of any data."""
    layers = nf.FullyConnected(8, parameterization="ntk", b_std=0.5).layers(4)

    def found(*sides: list[float], digits: Digits = DOUBLE) -> tuple[float, float]:
        both = [Rows(np.zeros((len(side), 4)), np.array(side)) for side in sides]
        return SPAN(layers, *both, digits)

    assert layers[0].w == 0.5  # the variance is |x|^2 / 2
    assert found([1.0, 1.9], [1.0]) == (-1.0, 1.0)
    assert found([1.0], [1.0]) == (-1.0, 0.0)
    assert found([1.0] * 3000 + [0.0, 900.0], [1.9] * 3000) == (-1.0, 1.0)
    assert found([0.0, 1.0], [1e9]) == (-1.0, 12.0)
    assert found([0.0], [0.0]) == (-8.0, 12.0)
    assert found([1e9], [1e9]) == found([1.0], [1.0], digits=SINGLE) == (-8.0, 12.0)


def test_evaluation_agrees_with_the_engine(digits: Digits) -> None:
    """The form in NumPy, by which the error is measured, is the one that engines evaluate."""
    kernel = relu()
    plan = map_of(kernel, 2, digits)
    assert plan is not None and plan.sectors is not None
    q, p, angles = np.array([0.5, 2.0]), np.array([1.0, 3.0]), np.array([0.3, 0.6, 1.5, 3.0])
    left = sectors._rows(q, np.zeros(1))
    right = sectors._rows(p, angles)
    sides = [
        Rows(side.data.astype(digits.dtype), side.norms.astype(digits.dtype))
        for side in (left, right)
    ]
    out = np.empty((2, 8), digits.dtype)
    native.engine.run(plan, None, *sides, (out, None), 1)
    found = sectors.evaluate(plan.sectors, q, p, angles).reshape(2, 8)
    assert np.all(np.abs(out - found) <= 16 * eps(digits) * np.abs(out).max())
