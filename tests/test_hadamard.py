"""The fast Walsh-Hadamard transform: against dense matrices, its properties, and bad input."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.linalg import hadamard

pytest.importorskip("sklearn", reason="the features need scikit-learn")
from ntkfast.features import fwht

# Of tests that need Numba's values, which are compiled for either precision.
EITHER = pytest.mark.parametrize(
    "dtype",
    [pytest.param(np.float32, marks=pytest.mark.slow), np.float64],
    ids=["float32", "float64"],
)
POWERS = range(17)
DENSE = 10  # powers up to which the dense matrix is formed


def rows(n: int, width: int, dtype: Any, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, width)).astype(dtype)


def random_signs(width: int) -> np.ndarray:
    return np.random.default_rng(width).choice([-1, 1], width)


def reference(X: np.ndarray) -> np.ndarray:
    """Textbook transform in long double, stage by stage."""
    result = X.astype(np.longdouble)
    h = 1
    while h < X.shape[1]:
        blocks = result.reshape(len(X), -1, 2, h)
        a, b = blocks[:, :, 0], blocks[:, :, 1]
        result = np.stack([a + b, a - b], axis=2).reshape(X.shape)
        h *= 2
    return result


def bound(X: np.ndarray, roundings: int) -> np.ndarray:
    """Error bound of the docstring, for each row."""
    unit = np.finfo(X.dtype).eps / 2
    total = np.abs(X.astype(np.longdouble)).sum(axis=1, keepdims=True)
    return roundings * unit / (1 - roundings * unit) * total


@pytest.mark.parametrize("power", range(DENSE + 1))
def test_reference_is_dense_product(power: int) -> None:
    X = rows(3, 1 << power, np.float64)
    exact = X.astype(np.longdouble) @ hadamard(1 << power)
    np.testing.assert_allclose(reference(X).astype(float), exact.astype(float), atol=1e-13)


@pytest.mark.grid(2)
@pytest.mark.parametrize("power", POWERS)
def test_values(power: int, engine: dict[str, Any], dtype: Any) -> None:
    width = 1 << power
    X, signs = rows(3, width, dtype), random_signs(width)
    plain = fwht(X, **engine)
    assert plain.dtype == dtype
    assert np.all(np.abs(plain - reference(X)) <= bound(X, power))
    scaled = fwht(X, signs=signs, normalize=True, **engine)
    exact = reference(X * signs.astype(dtype)) / np.sqrt(np.longdouble(width))
    assert np.all(np.abs(scaled - exact) <= bound(X, power + 2) / width**0.5)


@pytest.mark.grid(2)
@EITHER
@pytest.mark.parametrize("power", [*range(14), 16, 19])
def test_every_isa_has_the_same_bits(power: int, engine: dict[str, Any], dtype: Any) -> None:
    """Engines, instruction sets, threads, in place or not: every sum has the same order."""
    X, signs = rows(37 if power < 12 else 3, 1 << power, dtype), random_signs(1 << power)
    expected = fwht(X, signs=signs, normalize=True, engine="numba", threads=1)
    for threads in (1, 7):
        options: dict[str, Any] = {"normalize": True, "threads": threads, **engine}
        assert np.array_equal(fwht(X, signs=signs, **options), expected)
        Y = X.copy()
        assert fwht(Y, signs=signs, out=Y, **options) is Y
        assert np.array_equal(Y, expected)


@pytest.mark.grid(2)
@pytest.mark.parametrize("width", [1, 2, 8, 64, 4096])
@pytest.mark.parametrize("n", [1, 2, 3, 50, 401])
def test_numbers_of_rows(n: int, width: int, engine: dict[str, Any], dtype: Any) -> None:
    X = rows(n, width, dtype)
    assert np.all(np.abs(fwht(X, **engine) - reference(X)) <= bound(X, width.bit_length()))


@pytest.mark.parametrize("width", [1, 4, 32, 256])
def test_strides(width: int, engine: dict[str, Any], dtype: Any) -> None:
    X = rows(9, width, dtype)
    expected = fwht(X, **engine)
    padded, spread = np.zeros((9, width + 3), dtype), np.zeros((9, 2 * width), dtype)
    views = [padded[:, 1:-2], spread[:, ::2], np.zeros((18, width), dtype)[::-2]]
    for view in [*views, np.zeros((9, width), dtype, order="F")]:
        view[...] = X
        assert np.array_equal(fwht(view, **engine), expected)
        assert fwht(view, out=view, **engine) is view
        assert np.array_equal(view, expected)
        view[...] = 0
        fwht(X, out=view, **engine)
        assert np.array_equal(view, expected)
    assert np.all(padded[:, [0, -2, -1]] == 0)
    assert np.all(spread[:, 1::2] == 0)


def test_vector(engine: dict[str, Any], dtype: Any) -> None:
    x, out = rows(1, 64, dtype)[0], np.empty(64, dtype)
    result = fwht(x, **engine)
    assert result.shape == (64,)
    assert np.array_equal(result, fwht(x[None], **engine)[0])
    assert fwht(x, out=out, **engine) is out
    assert np.array_equal(result, out)


def test_overlap_is_as_if_copied(engine: dict[str, Any]) -> None:
    memory = rows(6, 16, np.float64)
    expected = fwht(memory[:-1], **engine)
    fwht(memory[:-1], out=memory[1:], **engine)
    assert np.array_equal(memory[1:], expected)


def test_read_only_input_stays(engine: dict[str, Any], dtype: Any) -> None:
    X = rows(5, 32, dtype)
    kept = X.copy()
    X.flags.writeable = False
    signs = random_signs(32).astype(dtype)
    signs.flags.writeable = False
    fwht(X, signs=signs, **engine)
    assert np.array_equal(X, kept)


def test_integers_are_exact(engine: dict[str, Any]) -> None:
    X = np.random.default_rng(0).integers(-100, 100, (4, 512))
    result = fwht(X, **engine)
    assert result.dtype == np.float64
    assert np.array_equal(result, X @ hadamard(512))
    assert np.array_equal(fwht(X.astype(">f4"), **engine), (X @ hadamard(512)).astype(np.float32))


def test_nan_and_infinity_stay_in_their_row(engine: dict[str, Any]) -> None:
    X = np.ones((3, 128))
    X[1, 5], X[2, 7] = np.nan, np.inf
    result = fwht(X, **engine)
    assert np.array_equal(result[0], 128.0 * (np.arange(128) == 0))
    assert np.isnan(result[1]).all()
    assert np.isinf(result[2]).all()


@pytest.mark.parametrize("power", [0, 1, 3, 5, 9, 13, 17])
def test_involution_and_isometry(power: int, engine: dict[str, Any], dtype: Any) -> None:
    X = rows(4, 1 << power, dtype)
    once = fwht(X, normalize=True, **engine)
    tolerance = 4 * (power + 1) * float(np.finfo(dtype).eps)
    norms = np.linalg.norm(X.astype(float), axis=1)
    np.testing.assert_allclose(np.linalg.norm(once.astype(float), axis=1), norms, tolerance)
    twice = fwht(once, normalize=True, **engine)
    errors = np.linalg.norm((twice - X).astype(float), axis=1)
    assert np.all(errors <= tolerance * norms)


integers = st.integers(-(2**20), 2**20).map(float)


@pytest.mark.slow
@given(data=st.data(), power=st.integers(0, 8), scalar=st.integers(-8, 8))
def test_linearity(data: st.DataObject, power: int, scalar: int) -> None:
    """On integers that are transformed without error."""
    shape = (2, 1 << power)
    X, Y = (data.draw(arrays(np.float64, shape, elements=integers)) for _ in range(2))
    assert np.array_equal(fwht(X + scalar * Y), fwht(X) + scalar * fwht(Y))


@given(power=st.integers(0, 12), data=st.data())
def test_columns_are_walsh_functions(power: int, data: st.DataObject) -> None:
    i, j = (data.draw(st.integers(0, 2**power - 1)) for _ in range(2))
    unit = np.zeros(1 << power, np.float32)
    unit[i] = 1
    assert fwht(unit)[j] == (-1) ** (i & j).bit_count()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"X": np.ones((2, 3))}, ValueError, "X: expected a power of two of columns, got 3"),
        ({"X": np.ones((2, 0))}, ValueError, "X: expected at least one row and one feature"),
        ({"X": np.ones((0, 4))}, ValueError, "X: expected at least one row and one feature"),
        ({"X": np.ones((2, 2, 2))}, ValueError, "X: expected shape (rows, features)"),
        ({"X": 1.0}, ValueError, "X: expected shape (rows, features)"),
        ({"X": np.ones((2, 4), np.float16)}, TypeError, "X: expected float32 or float64"),
        ({"X": np.ones((2, 4), complex)}, TypeError, "X: expected float32 or float64"),
        ({"X": [["a", "b"]]}, TypeError, "X: expected float32 or float64"),
        ({"signs": np.ones(3)}, ValueError, "signs: expected shape (4,), got (3,)"),
        ({"signs": np.ones((2, 4))}, ValueError, "signs: expected shape (4,), got (2, 4)"),
        ({"signs": [1, 1, 0, 1]}, ValueError, "signs: expected only +1 and -1"),
        ({"signs": [1, 1, np.nan, 1]}, ValueError, "signs: expected only +1 and -1"),
        ({"signs": [True] * 4}, TypeError, "signs: expected numbers, got bool"),
        ({"out": np.ones((2, 4), np.float32)}, TypeError, "out: expected dtype float64"),
        ({"out": np.ones((4, 2))}, ValueError, "out: expected shape (2, 4), got (4, 2)"),
        ({"out": [[0] * 4] * 2}, TypeError, "out: expected a NumPy array"),
        ({"threads": 0}, ValueError, "threads: expected an integer >= 1"),
        ({"engine": "abacus"}, ValueError, "engine: expected one of"),
    ],
)
def test_bad_input(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        fwht(**{"X": np.ones((2, 4)), **arguments})


def test_read_only_output() -> None:
    out = np.ones((2, 4))
    out.flags.writeable = False
    with pytest.raises(ValueError, match="out: expected a writable array"):
        fwht(np.ones((2, 4)), out=out)


@pytest.mark.grid(2)
@pytest.mark.parametrize(("left", "right", "m"), [(1, 1, 1), (5, 64, 33), (100, 3, 257)])
@pytest.mark.parametrize("shared", [False, True])
def test_sketches(
    left: int, right: int, m: int, shared: bool, engine: dict[str, Any], dtype: Any
) -> None:
    """Products of two rotations against dense matrices; a single row stands for all."""
    from ntkfast import engines
    from ntkfast.engines.maps import Rotation

    generator = np.random.default_rng(m)
    X, Y = rows(7, left, dtype), rows(1 if shared else 7, right, dtype, seed=1)

    def factor(A: np.ndarray) -> tuple[Rotation, np.ndarray]:
        size = 1 << (A.shape[1] - 1).bit_length()
        signs, index = generator.choice([-1.0, 1.0], size), generator.integers(size, size=m)
        padded = np.zeros((len(A), size), np.longdouble)
        padded[:, : A.shape[1]] = A
        exact = ((padded * signs) @ hadamard(size))[:, index]
        return Rotation(
            signs.astype(dtype), index.astype(np.int32 if dtype == np.float32 else np.int64)
        ), exact

    (one, first), (two, second) = factor(X), factor(Y)
    wide = np.full((7, m + 3), np.nan, dtype)
    run = engines.load(engine["engine"])
    tolerance = 30 * np.finfo(dtype).eps
    run.sketch(X, Y, wide[:, :m], one, two, 0.5, 2)
    assert np.isnan(wide[:, m:]).all()
    size = np.abs(X).sum(axis=1).max() * np.abs(Y).sum(axis=1).max()
    np.testing.assert_allclose(wide[:, :m], 0.5 * first * second, atol=tolerance * size)
    run.sketch(X, None, wide[:, :m], one, None, 2.0, 2)
    np.testing.assert_allclose(wide[:, :m], 2 * first, atol=tolerance * np.abs(X).sum())
    other = np.empty_like(wide)
    run.sketch(X, (Y > 0).astype(dtype), other[:, :m], one, two, 0.5, 2)
    run.sketch(X, Y, wide[:, :m], one, two, 0.5, 2, True)
    np.testing.assert_array_equal(wide[:, :m], other[:, :m])


@pytest.mark.grid(2)
@EITHER
@pytest.mark.parametrize(("dim", "count"), [(1, 3), (5, 20), (33, 64), (100, 1000), (300, 700)])
@pytest.mark.parametrize("answer", ["product", "relu", "step"])
def test_structured_neurons(
    dim: int, count: int, answer: str, engine: dict[str, Any], dtype: Any
) -> None:
    """Against dense matrices, with a row of zeros; both engines have the same bits."""
    from ntkfast import engines
    from ntkfast.engines.maps import StructuredMap

    size = 1 << (dim - 1).bit_length()
    blocks = -(-count // size)
    generator = np.random.default_rng(count)
    flips = generator.choice([-1.0, 1.0], (blocks, 3, size)).astype(dtype)
    lengths = generator.uniform(1, 2, (blocks, size)).astype(dtype)
    X = rows(40, 2 * dim, dtype)[::2, :dim]
    X[3] = 0
    H = hadamard(size).astype(np.longdouble) / np.sqrt(np.longdouble(size))
    padded = np.zeros((len(X), size), np.longdouble)
    padded[:, :dim] = X
    turned = [((((padded * f[0]) @ H) * f[1]) @ H * f[2]) @ H for f in flips]
    products = (np.hstack(turned) * lengths.ravel())[:, :count]
    wanted = {
        "product": products,
        "relu": np.maximum(products, 0),
        "step": (np.sign(products) + 1) / 2,
    }[answer]
    out = np.full((len(X), count + 3), np.nan, dtype)
    plan = StructuredMap(flips, lengths, answer, 0.25)
    engines.load(engine["engine"]).structured(plan, X, out[:, :count], 2)
    assert np.isnan(out[:, count:]).all()
    clear = np.abs(products) > 1e-4  # of steps: the side of others is rounding
    clear[3] = True
    assert clear.mean() > 0.9
    atol = 40 * np.finfo(dtype).eps * np.abs(X).sum(axis=1).max()
    np.testing.assert_allclose(out[:, :count][clear], 0.25 * wanted[clear], atol=atol)
    mirror = np.empty((len(X), count), dtype)
    engines.load("numba").structured(plan, X, mirror, 1)
    np.testing.assert_array_equal(out[:, :count], mirror)
