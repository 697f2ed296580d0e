"""Finite convolutional networks: forward pass, derivatives, kernels, limits."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import ntkfast as nf
from image_oracle import geometry, pair
from ntkfast.finite import CNN

rng = np.random.default_rng(0)
X, Y = rng.normal(size=(5, 6, 5, 2)), rng.normal(size=(3, 6, 5, 2))
EPS = np.finfo(np.float64).eps
PADDINGS, READOUTS = ("zero", "valid", "circular"), ("gap", "flatten")

NETS = {
    f"{padding} {readout}": CNN(
        (6, 5, 2), (4, 3), 2, "tanh", padding=padding, readout=readout, b_std=[0.3, 0, 0.2]
    )
    for padding, readout in itertools.product(PADDINGS, READOUTS)
} | {
    "relu": CNN((6, 5, 2), (4, 3, 5)),
    "one pixel": CNN((6, 5, 2), (4,), 1, "erf", filter_size=1, rng=3),
    "wide filter": CNN((6, 5, 2), (4,), activation="erf", filter_size=5, init="orthogonal"),
    "strides": CNN((6, 5, 2), (4, 3), 2, "tanh", stride=[2, (1, 2)], b_std=0.2),
    "even filter": CNN((6, 5, 2), (4, 3), 1, "gelu", filter_size=(2, 4), padding=((0, 1), (2, 2))),
    "circular stride": CNN((6, 5, 2), (4,), 1, "erf", padding="circular", stride=(2, 1)),
    "valid stride": CNN((6, 5, 2), (4,), 1, "erf", padding="valid", stride=2, readout="flatten"),
    "second layer only": CNN((6, 5, 2), (4, 3), activation="gelu", trained=[False, True, False]),
}
every_net = pytest.mark.parametrize("net", NETS.values(), ids=NETS)


def plain_forward(net: CNN, image: np.ndarray) -> np.ndarray:
    """Loops over pixels and taps, written from the definition."""
    z, size = image, pair(net.filter_size)
    for layer in range(net.depth):
        W = net.weights[layer].reshape(*size, z.shape[2], -1)
        shape = z.shape[:2]
        stride = pair(net.stride[layer] if isinstance(net.stride, list) else net.stride)
        (rows, top), (columns, left) = (
            geometry(shape[a], size[a], stride[a], net.padding, a) for a in (0, 1)
        )
        h = np.zeros((rows, columns, W.shape[3]))
        for (i, j), (a, b) in itertools.product(np.ndindex(rows, columns), np.ndindex(*size)):
            r, c = stride[0] * i + a - top, stride[1] * j + b - left
            if net.padding == "circular":
                r, c = r % shape[0], c % shape[1]
            if 0 <= r < shape[0] and 0 <= c < shape[1]:
                h[i, j] += z[r, c] @ W[a, b]
        h *= net.w_std[layer] / np.sqrt(size[0] * size[1] * z.shape[2])
        z = net.activation(h + net.b_std[layer] * net.biases[layer])
    last = z.ravel() if net.readout == "flatten" else z.mean(axis=(0, 1))
    out = net.w_std[-1] / np.sqrt(len(last)) * last @ net.weights[-1]
    return np.asarray(out + net.b_std[-1] * net.biases[-1])


@every_net
def test_outputs(net: CNN) -> None:
    wanted = np.array([plain_forward(net, image) for image in X])
    np.testing.assert_allclose(net(X), wanted, atol=1e-13)
    np.testing.assert_array_equal(net(X.reshape(5, -1)), net(X))


@every_net
def test_gradients_by_finite_differences(net: CNN) -> None:
    g = np.random.default_rng(1)
    moved, flat = [], []
    for W, b, trained, s in zip(net.weights, net.biases, net.trained, net.b_std, strict=True):
        dW, db = g.normal(size=W.shape) * trained, g.normal(size=b.shape) * (trained and s > 0)
        moved.append((dW, db))
        if trained:
            flat += [dW.ravel(), db if s else []]

    def at(step: float) -> Any:
        return net.with_parameters(
            [W + step * d for W, (d, _) in zip(net.weights, moved, strict=True)],
            [b + step * d for b, (_, d) in zip(net.biases, moved, strict=True)],
        )(X)

    slope = (at(1e-6) - at(-1e-6)) / 2e-6
    found = net.gradients(X) @ np.concatenate(flat)
    np.testing.assert_allclose(found, slope, atol=1e-8 * np.abs(found).max())


@every_net
def test_kernel_is_that_of_the_jacobian(net: CNN) -> None:
    full = np.einsum("iap,jbp->ijab", net.gradients(X), net.gradients(Y))
    scale = 256 * EPS * np.abs(full).max()
    np.testing.assert_allclose(net.output_ntk(X, Y), full, atol=scale)
    mean = np.einsum("ijaa->ij", full) / net.outputs
    np.testing.assert_allclose(net.ntk(X, Y), mean, atol=scale)
    np.testing.assert_allclose(net.layer_ntks(X, Y).sum(axis=0), mean, atol=scale)
    np.testing.assert_array_equal(net.ntk.diag(X), np.diag(net.ntk(X)))
    np.testing.assert_array_equal(net.ntk(X), net.ntk(X).T)


def test_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    net = NETS["circular gap"]
    for kernel in (net.ntk, net.nngp):
        monkeypatch.undo()
        whole, V = kernel(X), rng.normal(size=5)
        monkeypatch.setattr("ntkfast.finite.cnn.TILE_BYTES", 1)
        assert net.tile_rows == 1
        np.testing.assert_allclose(kernel(X), whole, rtol=1e-12)
        np.testing.assert_allclose(kernel.matmul(X, None, V), whole @ V, rtol=1e-11, atol=1e-12)
        single = kernel(X.astype(np.float32))
        assert single.dtype == np.float32
        np.testing.assert_allclose(single, whole, rtol=2e-5, atol=2e-5)


def check_limit(net: CNN, images: np.ndarray) -> None:
    """Compare means over 40 draws of a network of width 64 with both exact kernels."""
    for kind in ("ntk", "nngp"):
        found = nf.finite.mean_kernel(net, images, kind=kind, n_draws=40, rng=5)
        exact = getattr(net.limit, kind)(images)
        size = np.sqrt(np.outer(np.diag(exact), np.diag(exact)))
        assert np.all(np.abs(found.mean - exact) < 4 * found.standard_error + 2 / 64 * size)


@pytest.mark.grid(1)
@pytest.mark.parametrize("init", ["gaussian", "orthogonal"])
@pytest.mark.parametrize(("padding", "readout"), list(itertools.product(PADDINGS, READOUTS)))
def test_limit(padding: str, readout: str, init: str) -> None:
    """Means over draws meet the exact kernels, for both laws of the weights (Huang, Du, Xu).

    Four standard errors of 40 draws, for 9 pairs of images and two kernels in each of 12 cases, and
    twice the O(1/width) bias that a width of 64 leaves.
    """
    net = CNN(
        (5, 6, 2), (64, 64), padding=padding, readout=readout, init=init, b_std=[0.3, 0.2, 0.1]
    )
    images = rng.normal(size=(3, 5, 6, 2))
    check_limit(net, images)


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["gelu", "leaky_relu"])
def test_limit_with_strides(activation: str) -> None:
    """NTK and NNGP of networks with a stride and other activations meet the exact kernels."""
    options: dict[str, Any] = {"stride": [1, (2, 1)], "filter_size": (2, 3), "b_std": 0.2}
    net = CNN((4, 5, 2), (64, 64), activation=activation, **options)
    images = rng.normal(size=(2, 4, 5, 2))
    check_limit(net, images)


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="channels: expected at least one convolution, got none"):
        CNN((4, 4, 1), ())
    with pytest.raises(ValueError, match="filter_size: expected odd numbers for padding"):
        CNN((4, 4, 1), (2,), filter_size=2, padding="circular")
    with pytest.raises(ValueError, match="stride: expected one value or 1, one per"):
        CNN((4, 4, 1), (2,), stride=[1, 2])
    with pytest.raises(ValueError, match="Conv: expected windows of at most 2 rows"):
        CNN((4, 4, 1), (2, 2), padding="valid")
    with pytest.raises(ValueError, match="w_std: expected one value or 2, got 3"):
        CNN((4, 4, 1), (2,), w_std=[1, 1, 1])
    net = CNN((4, 4, 1), (2,), activation="tanh")
    with pytest.raises(ValueError, match="X: expected images of shape"):
        net.ntk(np.ones((2, 4, 4, 3)))
    with pytest.raises(ValueError, match="X: expected finite numbers"):
        net.ntk(np.full((2, 4, 4, 1), np.nan))
