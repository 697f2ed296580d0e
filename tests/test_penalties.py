"""Penalties for models in PyTorch, against the estimators for NumPy networks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ntkfast.finite import MLP
from ntkfast.statistics import penalties, rkhs_norm

torch = pytest.importorskip("torch")
rng = np.random.default_rng(0)
NET = MLP((5, 16, 12, 3), "tanh", b_std=0.2)
X = rng.normal(size=(10, 5))


def model_of(net: MLP) -> Any:
    """Return the same network in PyTorch."""
    layers: list[Any] = []
    for layer, (W, b) in enumerate(zip(net.weights, net.biases, strict=True)):
        scale, offset = net.scales(layer)
        dense = torch.nn.Linear(*W.shape, dtype=torch.float64)
        with torch.no_grad():
            dense.weight.copy_(torch.from_numpy(scale * W.T))
            dense.bias.copy_(torch.from_numpy(offset * b))
        layers += [dense, torch.nn.Tanh()]
    return torch.nn.Sequential(*layers[:-1])


def test_values() -> None:
    model, points = model_of(NET), torch.from_numpy(X)
    np.testing.assert_allclose(model(points).detach(), NET(X), rtol=1e-12)
    low, high = rkhs_norm.lower_bounds(NET, X, radius=0.5), rkhs_norm.upper_bounds(NET)
    gradient = penalties.gradient(model, points).item()
    assert gradient == pytest.approx(np.sum(low.gradient**2), rel=1e-10)
    perturbation = penalties.perturbation(model, points, radius=0.5).item()
    assert perturbation <= np.sum(low.perturbation**2) * (1 + 1e-9)
    assert perturbation > 0.5 * np.sum(low.perturbation**2)
    spectral = penalties.spectral(model).item()
    assert spectral == pytest.approx(np.sum(high.spectral_norms**2), rel=1e-10)


@pytest.mark.parametrize("name", ["gradient", "perturbation", "spectral"])
def test_they_can_be_minimised(name: str) -> None:
    """Steps along the gradient make the penalty smaller."""
    model, points = model_of(NET), torch.from_numpy(X)

    def value() -> Any:
        penalty = getattr(penalties, name)
        return penalty(model) if name == "spectral" else penalty(model, points)

    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    before = value()
    for _ in range(20):
        optimizer.zero_grad()
        loss = value()
        loss.backward()
        optimizer.step()
    assert value() < 0.95 * before


def test_project() -> None:
    model = model_of(NET)
    penalties.project(model, 0.7)
    for layer in (0, 2, 4):
        values = torch.linalg.svdvals(model[layer].weight)
        assert values.max().item() == pytest.approx(0.7)
    filters = torch.nn.Conv2d(3, 4, 3)
    penalties.project(filters, 0.2)
    assert torch.linalg.svdvals(filters.weight.flatten(1)).max() < 0.2001


def test_images_and_errors() -> None:
    model = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.Flatten())
    images = torch.randn(4, 1, 5, 5)
    # The model is affine: both lower bounds are the largest singular rows.
    a, b = penalties.gradient(model, images), penalties.perturbation(model, images)
    assert a.item() == pytest.approx(b.item(), rel=1e-3)
    with pytest.raises(ValueError, match="radius: expected a finite number > 0"):
        penalties.perturbation(model, images, radius=0.0)
    with pytest.raises(ValueError, match="model: expected at least one weight"):
        penalties.spectral(torch.nn.ReLU())
