"""The engines' map of random features, f(w.x), against NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ntkfast import engines
from ntkfast.arrays.collections import Rows
from ntkfast.engines.maps import NeuronMap

Array = NDArray[Any]
SHAPES = [(1, 1, 1), (3, 400, 2), (203, 301, 17), (97, 65, 300)]


def rows(X: Array, place: Array | None = None) -> Rows:
    return Rows(X, engines.row_norms(X), place)


def run(
    plan: NeuronMap, X: Array, W: Array, engine: str, place: Array | None = None, threads: int = 2
) -> tuple[Array, Array]:
    """Return the features of W and of -W, written into one wide array."""
    out = np.full((len(X), 2 * len(W) + 3), np.nan, X.dtype)
    first, second = out[:, : len(W)], out[:, len(W) + 3 :]
    engines.load(engine).run(plan, None, rows(X, place), rows(W), (first, second), threads)
    assert np.isnan(out[:, len(W) : len(W) + 3]).all()
    return first, second


def data(shape: tuple[int, int, int], dtype: Any) -> tuple[Array, Array]:
    n, m, d = shape
    generator = np.random.default_rng(n)
    X, W = generator.normal(size=(n, d)).astype(dtype), generator.normal(size=(m, d))
    if n > 2:
        X[2] = 0
        X[1] = W[0]
    return X, (W / np.linalg.norm(W, axis=1)[:, None]).astype(dtype)


@pytest.mark.grid(2)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("kind", ["relu", "step"])
def test_relu_and_step(
    engine: dict[str, Any], dtype: Any, kind: str, shape: tuple[int, int, int]
) -> None:
    X, W = data(shape, dtype)
    p = X.astype(np.float64) @ W.T.astype(np.float64)
    size = np.linalg.norm(X.astype(np.float64), axis=1)[:, None]
    eps = np.finfo(dtype).eps
    found = run(NeuronMap(kind, np.zeros((1, 2), dtype), 3.0), X, W, engine["engine"])
    for sign, F in zip((1, -1), found, strict=True):
        if kind == "relu":
            assert np.all(np.abs(F - 3 * np.maximum(sign * p, 0)) <= 4 * shape[2] * eps * size)
        else:
            sure = (np.abs(p) > shape[2] * eps * size) | (size == 0)
            np.testing.assert_array_equal(F[sure], 3 * np.heaviside(sign * p, 0.5)[sure])


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("placed", [False, True], ids=["one row", "rows"])
def test_tables(
    engine: dict[str, Any], dtype: Any, placed: bool, shape: tuple[int, int, int]
) -> None:
    """A table of straight lines is exact, so that rounding is all there is to allow for."""
    X, W = data(shape, dtype)
    norms = np.linalg.norm(X.astype(np.float64), axis=1)
    u = X.astype(np.float64) @ W.T.astype(np.float64) / np.where(norms == 0, 1, norms)[:, None]
    knots = np.linspace(-1, 1, 129)
    lines = np.array([2 + 3 * knots, 1 - knots, 4 * knots]).astype(dtype)
    place = np.random.default_rng(1).uniform(0, 2, size=(len(X), 1)).astype(dtype)
    place[0] = 0
    plan = NeuronMap("table", lines if placed else lines[:1], 0.5, 1.0)
    found = run(plan, X, W, engine["engine"], place if placed else None)
    k = place.astype(np.float64)
    for sign, F in zip((1, -1), found, strict=True):
        first, second, third = 2 + 3 * sign * u, 1 - sign * u, 4 * sign * u
        between = np.where(k < 1, first + k * (second - first), second + (k - 1) * (third - second))
        expected = 0.5 * norms[:, None] * (between if placed else first)
        bound = 64 * shape[2] * np.finfo(dtype).eps * np.maximum(norms, 1e-30)[:, None]
        assert np.all(np.abs(F - expected) <= bound)


def test_the_ends_of_a_table(engine: dict[str, Any], dtype: Any) -> None:
    """Cosines of exactly 1 and -1, and beyond by rounding."""
    generator = np.random.default_rng(0)
    W = generator.normal(size=(50, 7))
    W = (W / np.linalg.norm(W, axis=1)[:, None]).astype(dtype)
    table = np.array([[5.0, 1.0, 2.0]], dtype)
    first, second = run(NeuronMap("table", table), 3 * W, W, engine["engine"])
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(np.diagonal(first), 2, rtol=64 * eps)
    np.testing.assert_allclose(np.diagonal(second), 5, rtol=64 * eps)


def test_threads_give_the_same_bits(engine_name: str, dtype: Any) -> None:
    X, W = data((2000, 700, 33), dtype)
    plan = NeuronMap("table", np.random.default_rng(0).random((1, 65), dtype), 1.0, 1.0)
    expected = run(plan, X, W, engine_name, threads=1)
    for threads in (2, 7):
        for one, other in zip(expected, run(plan, X, W, engine_name, threads=threads), strict=True):
            assert np.array_equal(one, other)


@pytest.mark.parametrize(
    "dtype", [pytest.param(np.float32, marks=pytest.mark.slow), np.float64]
)  # Numba would compile for the second as well
def test_engines_agree(dtype: Any) -> None:
    if engines.load("native").unavailable():
        pytest.skip("the compiled extension ntkfast._core is not installed")
    X, W = data((203, 301, 17), dtype)
    table = np.random.default_rng(0).random((1, 65)).astype(dtype)
    for kind in ("relu", "table"):
        plan = NeuronMap(kind, table)
        pairs = zip(run(plan, X, W, "native"), run(plan, X, W, "numba"), strict=True)
        for one, other in pairs:
            np.testing.assert_allclose(one, other, atol=2000 * np.finfo(dtype).eps)


def test_places_beyond_the_table_are_refused() -> None:
    if engines.load("native").unavailable():
        pytest.skip("the compiled extension ntkfast._core is not installed")
    X, W = data((3, 4, 2), np.float64)
    with pytest.raises(ValueError, match="beyond the table"):
        run(NeuronMap("table", np.ones((2, 3))), X, W, "native", np.ones((3, 1)))
