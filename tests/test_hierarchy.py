"""The tangent hierarchy: explicit K_3, differences, truncated training against real training."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ntkfast.finite import MLP, gradient_flow, hierarchy

rng = np.random.default_rng(0)
X, y = rng.normal(size=(4, 3)), rng.normal(size=4)
TIMES = np.array([0.0, 1.0, 4.0])


def of_huang_and_yau(width: int, hidden: int = 2, seed: int = 0) -> MLP:
    """x_l = tanh(W x_(l-1)) / sqrt m with standard normal weights, the first layer unscaled."""
    gains = (np.sqrt(3), *[1.0] * hidden)
    return MLP((3, *[width] * hidden, 1), "tanh", w_std=gains, rng=seed)


def explicit_third(net: MLP) -> Any:
    """K_3 of one hidden layer in closed form."""
    m, w, a = net.widths[1], net.weights[0], net.weights[1][:, 0]
    h = X @ w
    s, d, dd = np.tanh(h), 1 - np.tanh(h) ** 2, -2 * np.tanh(h) * (1 - np.tanh(h) ** 2)
    G, K = X @ X.T, np.empty((4, 4, 4))
    for x, q, z in np.ndindex(4, 4, 4):
        first = dd[x] * d[q] * d[z] * G[x, z] + d[x] * dd[q] * d[z] * G[q, z]
        rest = d[x] * s[q] * d[z] * G[x, z] + s[x] * d[q] * d[z] * G[q, z]
        rest = rest + 2 * G[x, q] * d[x] * d[q] * s[z]
        K[x, q, z] = np.sum(a * (a**2 * G[x, q] * first + rest)) / m**1.5
    return K


def test_third_order_in_closed_form() -> None:
    pytest.importorskip("torch")
    net = of_huang_and_yau(50, hidden=1)
    found = hierarchy(net, X, order=3)
    np.testing.assert_allclose(found.kernels[0], net.ntk(X), rtol=1e-12)
    np.testing.assert_allclose(found.kernels[1], explicit_third(net), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    "net",
    [of_huang_and_yau(12), MLP((3, 8, 8, 1), "erf", b_std=0.3, residual=0.5, trained=[1, 1, 0])],
    ids=["plain", "residual, partly trained"],
)
def test_each_order_is_a_derivative_of_the_one_below(net: MLP) -> None:
    pytest.importorskip("torch")
    found = hierarchy(net, X)
    step = 1e-5
    for z in range(len(X)):
        W, b = net.pull_back(X[z : z + 1], np.ones((1, 1)))
        ahead, behind = (
            net.with_parameters(
                [old + sign * step * new for old, new in zip(net.weights, W, strict=True)],
                [old + sign * step * new for old, new in zip(net.biases, b, strict=True)],
            )
            for sign in (1, -1)
        )
        slope = (ahead.ntk(X) - behind.ntk(X)) / (2 * step)
        np.testing.assert_allclose(found.kernels[1][..., z], slope, atol=1e-8)
        upper = (hierarchy(ahead, X, order=3), hierarchy(behind, X, order=3))
        slope = (upper[0].kernels[1] - upper[1].kernels[1]) / (2 * step)
        np.testing.assert_allclose(found.kernels[2][..., z], slope, atol=1e-8)


@pytest.mark.slow
def test_truncation_errors_fall_with_the_width() -> None:
    """Like 1/m for p = 2 and 1/m^2 for p = 4; K_3 and K_4 themselves like 1/m. Medians of 12."""
    pytest.importorskip("torch")
    errors, sizes = np.empty((2, 12, 2)), np.empty((2, 12, 2))
    for row, width in enumerate((32, 256)):
        for seed in range(12):
            net = of_huang_and_yau(width, seed=seed)
            exact, found = gradient_flow(net, X, y, [1.0])[0], hierarchy(net, X)
            ends = [found.train(y, [1.0], p)[0] for p in (2, 4)]
            errors[row, seed] = [np.linalg.norm(end - exact) for end in ends]
            sizes[row, seed] = [width * np.sqrt(np.mean(K**2)) for K in found.kernels[1:]]
    second, fourth = np.median(errors[0], axis=0) / np.median(errors[1], axis=0)
    assert 8 / 2.5 < second < 8 * 2.5
    assert 64 / 6 < fourth < 64 * 6
    ratio = np.median(sizes[0], axis=0) / np.median(sizes[1], axis=0)
    assert np.all((ratio > 1 / 3) & (ratio < 3))


def test_a_linear_network_needs_two_orders() -> None:
    pytest.importorskip("torch")
    net = MLP((3, 1), "identity")
    found = hierarchy(net, X, order=3)
    np.testing.assert_allclose(found.kernels[1], 0, atol=1e-15)
    wanted = gradient_flow(net, X, y, TIMES)
    np.testing.assert_allclose(found.train(y, TIMES, 2), wanted, atol=1e-6)


def test_errors() -> None:
    with pytest.raises(ValueError, match=r"y: expected shape \(4,\), got \(3,\)"):
        gradient_flow(of_huang_and_yau(5), X, y[:3], TIMES)
    with pytest.raises(ValueError, match="times: expected increasing numbers"):
        gradient_flow(of_huang_and_yau(5), X, y, [1.0, 0.5])
    pytest.importorskip("torch")
    with pytest.raises(ValueError, match="net: expected one of the activations"):
        hierarchy(MLP((3, 5, 1)), X)
    with pytest.raises(ValueError, match="order: expected at most 3, got 4"):
        hierarchy(of_huang_and_yau(5), X, order=3).train(y, TIMES, 4)
