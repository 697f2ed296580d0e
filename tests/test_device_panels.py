"""Gram matrices by panels of products that a library forms; the host may play it and the device."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import ntkfast as nf
from ntkfast.engines import cuda
from test_cuda_device import (
    EPS,
    PRODUCTS,
    ROWS,
    assert_kernel,
    kernel_of,
    module,  # noqa: F401
    rows,
)

N, M, D = 150, 141, 70  # panels serve rows of 64 columns and more


@pytest.fixture(params=["f32-3xtf32", "f32-tf32"])
def error(module: Any, request: pytest.FixtureRequest) -> Iterator[float]:  # noqa: F811
    """Multiply by a library, two panels for all rows; gives the error of a cosine."""
    _, _, precision, error = PRODUCTS[request.param]
    with cuda.precision(precision):
        module.set_chunk(128 * M)
        yield error


@pytest.mark.parametrize("name", ROWS)
def test_panels(error: float, name: str) -> None:
    kernel, X, Y = kernel_of(ROWS[name]), rows(N, D, np.float32), rows(M, D, np.float32, seed=1)
    Y[:5] = X[:5] * (1 + np.float32(1e-4))
    wide = np.full((N, M + 5), np.nan, np.float32)
    kernel(X, Y, out=wide[:, 2 : M + 2], engine="cuda")
    assert_kernel(kernel, X, Y, wide[:, 2 : M + 2], error)
    assert np.isnan(wide[:, :2]).all() and np.isnan(wide[:, M + 2 :]).all()


@pytest.mark.parametrize("name", ROWS)
def test_panels_of_a_symmetric_matrix(error: float, name: str) -> None:
    kernel, X = kernel_of(ROWS[name]), rows(N, D, np.float32)
    square = kernel(X, engine="cuda")
    assert_kernel(kernel, X, X, square, error)
    np.testing.assert_array_equal(square, square.T)
    exact = kernel(X, engine="native").diagonal()
    np.testing.assert_allclose(square.diagonal(), exact, rtol=8 * EPS[np.float32])


@pytest.mark.parametrize("b_std", [0.0, 0.1])
def test_panels_of_both_kernels(error: float, b_std: float) -> None:
    network, X = nf.FullyConnected(2, b_std=b_std, parameterization="ntk"), rows(N, D, np.float32)
    nngp, ntk = network.both(X, engine="cuda")
    np.testing.assert_array_equal(ntk, network.ntk(X, engine="cuda"))
    np.testing.assert_array_equal(nngp, network.nngp(X, engine="cuda"))


def test_panels_are_formed(
    module: Any,  # noqa: F811
    error: float,
    request: pytest.FixtureRequest,
) -> None:
    """Another order of sums than that of tiles, which serve what is less than a panel."""
    if "emulated" not in request.node.name:
        pytest.skip("whether there is a library depends on the machine")
    kernel, X = nf.FullyConnected(1).ntk, rows(N, D, np.float32)
    panels = kernel(X, engine="cuda")
    module.set_chunk(1 << 27)
    tiles = kernel(X, engine="cuda")
    assert (panels != tiles).any()
    assert_kernel(kernel, X, X, tiles, error)
