"""Inputs so short that their numbers leave the dtype: right down to a limit, refused below it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import ntkfast as nf
from test_fuzz import ENGINES
from tolerances import epsilon

RNG = np.random.default_rng(5)
ROWS, IMAGES, SERIES = (RNG.standard_normal(shape) for shape in ((3, 4), (3, 4, 4, 2), (3, 5, 2)))
ERF = nf.ConvNet(nf.Conv(), "erf", nf.Conv(), "erf", readout="gap")
# kernel, inputs, sizes that are right and that are refused in float32, the same in float64
CASES: dict[str, tuple[Any, np.ndarray, tuple[float, float], tuple[float, float]]] = {
    "relu": (nf.FullyConnected(2).ntk, ROWS, (1e-37, 1e-40), (1e-306, 1e-310)),
    "residual": (nf.ResNet(2, alpha=1.0).nngp, ROWS, (1e-37, 1e-40), (1e-306, 1e-310)),
    "images": (nf.Convolutional(2).ntk, IMAGES, (1e-37, 1e-40), (1e-306, 1e-310)),
    "pooled": (
        nf.Convolutional(1, readout="gap").nngp,
        IMAGES,
        (1e-37, 1e-40),
        (1e-306, 1e-310),
    ),
    "erf images": (ERF.ntk, IMAGES, (1e-17, 1e-22), (1e-150, 1e-160)),
    "sequences": (nf.Recurrent(1).ntk, SERIES, (1e-37, 0), (1e-149, 1e-160)),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("name", "engine"),
    [
        pytest.param(name, engine, marks=[pytest.mark.slow] * (engine == "numba"))
        for name in CASES
        for engine in ENGINES
    ],
)
def test_short_inputs_are_right_or_refused(name: str, dtype: Any, engine: str) -> None:
    if (name, dtype, engine) == ("erf images", np.float32, "numba"):
        pytest.skip("compiled for float64, see test_image_layers.py")
    kernel, inputs, *sizes = CASES[name]
    right, refused = sizes[dtype is np.float64]
    others = inputs[::-1].astype(dtype)
    # All are homogeneous of degree 1 in short inputs, erf in the limit.
    wanted = kernel(inputs * 1e-12, inputs[::-1]) / 1e-12
    found = kernel((inputs * right).astype(dtype), others, engine=engine).astype(float) / right
    size = np.sqrt(np.outer(kernel.diag(inputs), kernel.diag(inputs)))
    assert np.all(np.abs(found - wanted) <= 64 * epsilon(dtype) * size)
    if refused:
        short = (inputs * refused).astype(dtype)
        with pytest.raises(ValueError, match=r"X: .* 0 has size .*scale it up"):
            kernel(short, others, engine=engine)
        with pytest.raises(ValueError, match=r"Y: .* 1 has size .*scale it up"):
            kernel(others, np.concatenate([0 * short[:1], short[1:]]), engine=engine)


@pytest.mark.parametrize(
    "kernel",
    [
        nf.FullyConnected(1, activation="sign").nngp,
        nf.FullyConnected(2).ntk.normalized(),
        nf.Laplace(inputs="sphere"),
        nf.FullyConnected(1, bias=1.0).ntk + nf.Gaussian(),
    ],
)
def test_directions_without_size(kernel: Any) -> None:
    """Values of order 1, where a lost direction would be a wrong number."""
    y = np.array([[1.0, 1.0], [1.0, 0.0]])
    with pytest.raises(ValueError, match="X: row 0 has size 1e-310"):
        kernel(np.array([[1e-310, 0.0]]), y)
    with pytest.raises(ValueError, match="X: row 0 has size 1e-310"):
        kernel.vjp(np.array([[1e-310, 0.0]]), y, np.ones((1, 2)))


@pytest.mark.parametrize("kernel", [nf.Gaussian(), nf.Laplace(), nf.Gaussian() + nf.Laplace()])
def test_distances_want_no_direction(kernel: Any) -> None:
    x, y = np.array([[1e-310, 0.0]]), np.array([[1.0, 1.0], [1.0, 0.0], [0.0, 2e-310]])
    np.testing.assert_allclose(kernel(x, y), kernel(0 * x, y), rtol=1e-15)


@pytest.mark.parametrize("activation", ["relu", "erf"])
def test_variances_of_pixels_that_vanish_on_the_way(activation: str) -> None:
    """Right in float64, where they are numbers; a product with 1e20 hides it in float32."""
    steps = [step for _ in range(25) for step in (nf.Conv(w_std=0.1), activation)]
    kernel = nf.ConvNet(*steps, nf.Conv(w_std=1e20)).nngp
    with pytest.raises(ValueError, match=r"X: a layer vanishes in float32 .* pass float64"):
        kernel(IMAGES.astype(np.float32))
    ordinary = [step for _ in range(25) for step in (nf.Conv(), activation)]
    if activation == "relu":  # whose weights are factors
        wanted = nf.ConvNet(*ordinary, nf.Conv()).nngp(IMAGES) * (0.1**2 / 2) ** 25 * 1e40 / 2
        np.testing.assert_allclose(kernel(IMAGES), wanted, rtol=1e-11)
