"""Gram matrices rounded once to float32, float16 and bfloat16 on their way out."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest

import ntkfast as nf
from ntkfast.arrays import rounding

DIGITS = {"float32": (24, -149), "float16": (11, -24), "bfloat16": (8, -133)}
SHORTER = [("float64", name) for name in DIGITS] + [("float32", n) for n in ("float16", "bfloat16")]
BOTH = pytest.mark.parametrize(("dtype", "kept"), SHORTER)


def a_type(name: str) -> np.dtype[Any]:
    """Return the type of a name; bfloat16 if ml_dtypes is there."""
    if name == "bfloat16":
        pytest.importorskip("ml_dtypes")
    return np.dtype(name)


def nearest(values: Any, name: str) -> Any:
    """Return the nearest numbers of a type, ties to even, as float64: scaled to whole numbers."""
    digits, least = DIGITS[name]
    wide = np.asarray(values, np.float64)
    unit = np.maximum(np.frexp(wide)[1] - digits, least)
    return np.ldexp(np.rint(np.ldexp(wide, -unit)), unit)


def rows(n: int, d: int, dtype: str, seed: int = 0) -> Any:
    """Return rows of several norms."""
    made = np.random.default_rng(seed)
    return (made.standard_normal((n, d)) * made.uniform(0.5, 2, (n, 1))).astype(dtype)


KERNELS = {
    "profile": nf.FullyConnected(3).ntk,
    "layers": nf.FullyConnected(2, bias=0.3).ntk,
    "second output": nf.FullyConnected(2, bias=0.3).nngp,
    "radial": nf.Gaussian(0.7),
}
OTHERS = {
    "sum": nf.FullyConnected(1).ntk + nf.Gaussian(0.5),
    "one profile": nf.FullyConnected(1).ntk + nf.FullyConnected(2).ntk,
    "columns": nf.FullyConnected(2).ntk.on([0, 2]),
    "dropout": nf.compose(nf.Dense(), "relu", nf.Dropout(0.5), nf.Dense()).ntk,
}


@pytest.mark.grid(2)
@BOTH
@pytest.mark.parametrize("name", KERNELS)
def test_values_are_the_nearest(engine, name, dtype, kept):
    kernel, to = KERNELS[name], a_type(kept)
    for n, m, d in ((1, 1, 1), (97, 391, 3), (131, 200, 10)):
        X, Y = rows(n, d, dtype), rows(m, d, dtype, 1)
        for right in (Y, None):
            plain = kernel(X, right, **engine)
            found = kernel(X, right, dtype=to, **engine)
            assert found.dtype == to
            assert found.shape == plain.shape
            np.testing.assert_array_equal(found.astype(np.float64), nearest(plain, kept))
            if kept != "bfloat16":
                assert found.tobytes() == plain.astype(to).tobytes()
    diagonal = kernel.diag(X, dtype=to)
    np.testing.assert_array_equal(diagonal, np.diagonal(found))


@pytest.mark.parametrize("name", OTHERS)
def test_every_kernel_of_rows(name):
    kernel, X, Y = OTHERS[name], rows(37, 3, "float64"), rows(20, 3, "float64", 1)
    for right in (Y, None):
        found = kernel(X, right, dtype="float16")
        assert found.tobytes() == kernel(X, right).astype(np.float16).tobytes()


def test_images_and_sequences():
    made = np.random.default_rng(3)
    images, steps = made.standard_normal((7, 6, 6, 2)), made.standard_normal((9, 5, 2))
    for kernel, X in (
        (nf.Convolutional(2).ntk, images),
        (nf.Convolutional(1).nngp, images.astype(np.float32)),
        (nf.Recurrent(1).ntk, steps),
    ):
        for right in (X[:4], None):
            found = kernel(X, right, dtype=np.float16)
            assert found.tobytes() == kernel(X, right).astype(np.float16).tobytes()


def test_many_panels(engine):
    """Of 4 MB in the wider type, where an engine does not round by itself."""
    X, kernel = rows(900, 3, "float64"), KERNELS["profile"]
    plain = kernel(X, **engine).astype(np.float16)
    assert kernel(X, dtype="float16", **engine).tobytes() == plain.tobytes()
    out = np.zeros((1800, 2701), np.float16)[::2, 1::3]  # which none writes by itself
    assert kernel(X, out=out, dtype="float16", **engine) is out
    np.testing.assert_array_equal(out, plain)
    rectangle = kernel(X, X.copy(), **engine).astype(np.float16)
    np.testing.assert_array_equal(kernel(X, X.copy(), dtype="float16", **engine), rectangle)


@BOTH
def test_numbers_of_all_sizes(engine, dtype, kept):
    """Subnormal numbers, ties and both sides of them; nothing is lost, nothing grows."""
    to, kernel = a_type(kept), nf.FullyConnected(1, w_std=2**0.5).nngp
    digits, least = DIGITS[kept]
    low = max(least, -60) - 3 if dtype == "float64" else max(least, -30) - 3
    made = np.random.default_rng(5)
    ties = 1 + (2 * np.arange(33) + 1) / 2.0**digits  # between two neighbours
    X = np.ldexp(np.concatenate([ties, np.nextafter(ties, 0), np.nextafter(ties, 2)]), 1)[:, None]
    Y = np.ldexp(made.choice([1, 1, 1.5, 1.75], 60), np.linspace(low, 8, 60).astype(int))[:, None]
    X, Y = X.astype(dtype), Y.astype(dtype)
    plain = kernel(X, Y, **engine)
    found = kernel(X, Y, dtype=to, **engine).astype(np.float64)
    np.testing.assert_array_equal(found, nearest(plain, kept))
    assert np.any(found != plain)


@pytest.mark.parametrize("layout", ["fortran", "strided", "unaligned", "memmap"])
def test_out(engine, layout, tmp_path):
    X, kernel = rows(60, 3, "float64"), KERNELS["layers"]
    out = {
        "fortran": lambda: np.zeros((60, 60), np.float16, order="F"),
        "strided": lambda: np.zeros((120, 200), np.float16)[1::2, 7:187:3],
        "unaligned": lambda: np.zeros(7201, np.uint8)[1:].view(np.float16).reshape(60, 60),
        "memmap": lambda: np.memmap(tmp_path / "K", np.float16, "w+", shape=(60, 60)),
    }[layout]()
    assert kernel(X, out=out, dtype=np.float16, **engine) is out
    np.testing.assert_array_equal(out, kernel(X, **engine).astype(np.float16))


def test_no_wider_matrix(engine):
    """Beside the result there are panels of 4 MB, and what they are rounded with."""
    X, kernel = rows(2500, 2, "float64"), KERNELS["profile"]
    out = np.empty((2500, 2500), np.float16)  # 50 MB in float64
    kernel(X[:300], dtype=np.float16, **engine)
    tracemalloc.start()
    kernel(X, out=out, dtype=np.float16, **engine)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16e6


def test_a_value_that_does_not_fit(engine):
    kernel, X = nf.FullyConnected(1, w_std=1.0).nngp, np.eye(3)
    top = float(kernel(X[:1])[0, 0])
    long = X * np.sqrt(np.array([1, 65519 / top, 1]))[:, None]  # rounds to the largest number
    for right in (None, long.copy()):
        assert kernel(long, right, dtype=np.float16, **engine).max() == 65504
        for factor in (1.001, 1e4):
            with pytest.raises(ValueError, match=r"dtype: a value.*float16 ends at 65504.*scale"):
                kernel(factor * long, right, dtype=np.float16, **engine)
    with pytest.raises(ValueError, match="dtype: a value"):
        kernel.diag(2 * long, dtype=np.float16)
    with pytest.raises(ValueError, match=r"dtype: a value.*float32 ends at 3.4028e"):
        kernel(1e30 * long, dtype=np.float32, **engine)


def test_a_wrong_type():
    X, kernel = rows(3, 2, "float32"), KERNELS["profile"]
    for wrong in (np.float64, np.int16, ">f2", "no type", np.longdouble):
        with pytest.raises(TypeError, match="dtype: expected float32, float16 or bfloat16"):
            kernel(X, dtype=wrong)
    with pytest.raises(TypeError, match="dtype: expected float64, float32, float16 or bfloat16"):
        kernel(X.astype(float), dtype=np.int8)
    with pytest.raises(TypeError, match="out: expected dtype float16, got float32"):
        kernel(X, dtype=np.float16, out=np.empty((3, 3), np.float32))
    assert kernel(X, dtype=np.float32).tobytes() == kernel(X).tobytes()


def test_with_a_bar(monkeypatch):
    monkeypatch.setattr("ntkfast.support.progress.DELAY", 0.0)
    X, kernel = rows(80, 3, "float64"), KERNELS["profile"]
    found = kernel(X, dtype=np.float16, progress=True)
    np.testing.assert_array_equal(found, kernel(X).astype(np.float16))


def test_rounding_to_odd():
    """bfloat16 of float64 by way of float32 would round twice."""
    to = a_type("bfloat16")
    made = np.random.default_rng(0)
    tie = 1 + 2.0**-8
    values = np.concatenate(
        [
            [tie, tie + 2.0**-40, tie - 2.0**-40, -tie - 2.0**-40, 0.0, 3.3e38, 1e-40, -1e-300],
            made.standard_normal(4000) * 2.0 ** made.integers(-140, 120, 4000),
        ]
    )
    found = rounding.rounded(values, to).astype(np.float64)
    np.testing.assert_array_equal(found, nearest(values, "bfloat16"))
    assert found[1] == 1 + 2.0**-7
