"""Symmetric products on a device: each pair of rows once, in every precision.

``emulated`` runs where the CUDA engine is played by the host, ``device`` on a device.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import ntkfast as nf
from ntkfast.engines import cuda
from test_cuda_device import (  # noqa: F401
    ROWS,
    assert_close,
    kernel_of,
    module,
    product,
)
from test_cuda_device import rows as rows_with_duplicates
from tolerances import PRODUCT

SMALL, LARGE = 64, 128  # rows of tiles, whose pairs with themselves are evaluated both ways


def evaluated(kernel: Any, X: np.ndarray, square: int) -> np.ndarray:
    """Return the values that a symmetric product takes: those before a square are turned."""
    values = kernel(X, X.copy(), engine="cuda").astype(float)
    place = np.arange(len(X)) // square
    return np.where(place[:, None] > place, values.T, values)


def assert_product(found: np.ndarray, values: np.ndarray, V: np.ndarray) -> None:
    """Within the rounding of sums."""
    exact, bound = values @ V.astype(float), np.abs(values) @ np.abs(V.astype(float))
    assert_close(found, exact.astype(V.dtype), bound, PRODUCT)


@pytest.mark.parametrize(("n", "columns"), [(1, 1), (70, 130), (300, 7)])
@pytest.mark.parametrize("name", ["profile", "biases", "laplace"])
def test_symmetric(
    module: Any,  # noqa: F811
    product: tuple[Any, float],  # noqa: F811
    name: str,
    n: int,
    columns: int,
) -> None:
    """Strips by themselves, ranges of columns, and passes over V; the same bits again."""
    dtype, _ = product
    module.set_chunk(300)
    kernel, rng = kernel_of(ROWS[name]), np.random.default_rng(0)
    X = rng.standard_normal((n, 9)).astype(dtype)
    V = rng.standard_normal((n, columns + 2)).astype(dtype)[:, 1:-1]
    values = evaluated(kernel, X, SMALL)
    found = kernel.matmul(X, None, V, engine="cuda")
    assert_product(found, values, V)
    np.testing.assert_array_equal(kernel.matmul(X, None, V, engine="cuda"), found)
    module.set_chunk(1 << 27)
    assert_product(kernel.matmul(X, None, V, engine="cuda"), values, V)


@pytest.mark.parametrize("name", ["profile", "biases"])
def test_each_pair_is_evaluated_once(
    module: Any,  # noqa: F811
    product: tuple[Any, float],  # noqa: F811
    name: str,
) -> None:
    """Both of its places get the same bits, which two evaluations of it do not."""
    dtype, _ = product
    kernel, unit = kernel_of(ROWS[name]), np.eye(300, dtype=dtype)[:, :: 300 // 12]
    X = np.random.default_rng(0).standard_normal((300, 33)).astype(dtype)
    taken = np.arange(300)[:: 300 // 12]
    apart = taken[:, None] // SMALL != taken // SMALL
    once = kernel.matmul(X, None, unit, engine="cuda")[taken]
    twice = kernel.matmul(X, X.copy(), unit, engine="cuda")[taken]
    assert (once == once.T)[apart].all()
    assert not (twice == twice.T)[apart].all()


def test_symmetric_of_large_tiles(module: Any, product: tuple[Any, float]) -> None:  # noqa: F811
    """As many tiles of 128 rows as they are used for, the last ones partly filled."""
    dtype, _ = product
    kernel, rng = nf.FullyConnected(2).ntk, np.random.default_rng(0)
    X, V = (rng.standard_normal((1500, d)).astype(dtype) for d in (5, 2))
    assert_product(kernel.matmul(X, None, V, engine="cuda"), evaluated(kernel, X, LARGE), V)


@pytest.mark.parametrize("name", ROWS)
def test_symmetric_against_the_host(module: Any, name: str, dtype: Any) -> None:  # noqa: F811
    """Zeros, duplicates and antipodes among the rows, wherever they lie."""
    kernel = kernel_of(ROWS[name])
    X = rows_with_duplicates(280, 5, dtype)[np.random.default_rng(3).permutation(280)]
    V = np.random.default_rng(1).standard_normal((280, 3)).astype(dtype)
    norms = np.sqrt(kernel.diag(X.astype(float)))[:, None]
    found = kernel.matmul(X, None, V, engine="cuda")
    wanted = kernel.matmul(X, None, V, engine="native")
    assert_close(found, wanted, norms * (norms.T @ np.abs(V)), PRODUCT + 64 * np.sqrt(5))


@pytest.mark.parametrize("name", ["profile", "biases"])
def test_symmetric_of_rows_beyond_the_memory(
    module: Any,  # noqa: F811
    name: str,
    dtype: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Blocks of rows go there, and each pair of blocks once."""
    kernel, rng = kernel_of(ROWS[name]), np.random.default_rng(0)
    X, V = (rng.standard_normal((n, d)).astype(dtype) for n, d in ((230, 5), (230, 3)))
    values = np.abs(kernel(X, engine="native").astype(float))
    wanted = kernel.matmul(X, None, V, engine="cuda")
    monkeypatch.setattr(cuda, "ALWAYS", 0)
    monkeypatch.setattr(cuda, "_room", lambda: 2 * 2 * 5 * np.dtype(dtype).itemsize * 100)
    found = kernel.matmul(X, None, V, engine="cuda")
    assert_close(found, wanted, values @ np.abs(V), PRODUCT)
