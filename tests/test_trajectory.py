"""Growth of curves through random networks, against the formulas and independent numbers."""

from __future__ import annotations

import numpy as np
import pytest

from ntkfast.finite import MLP, Sparse, trajectory_growth


@pytest.mark.parametrize(
    ("law", "density", "measured"),
    [
        ("gaussian", 1.0, 1.409),
        ("gaussian", 0.5, 0.990),
        ("gaussian", 0.2, 0.632),
        ("sign", 0.5, 0.990),
        ("uniform", 1.0, 0.814),
        ("uniform", 0.2, 0.363),
    ],
)
def test_growth(law: str, density: float, measured: float) -> None:
    """Width 200, depth 6; weights that are not zero have deviation, or largest value, 2/sqrt k."""
    spread = 2 / np.sqrt(3) if law == "uniform" else 2.0
    net = MLP((200, *[200] * 6, 1), init=Sparse(density, law), w_std=spread * np.sqrt(density))
    direction = np.random.default_rng(0).normal(size=(2, 200)) / np.sqrt(200)

    def arc(t: np.ndarray) -> np.ndarray:
        return np.cos(t)[:, None] * direction[0] + np.sin(t)[:, None] * direction[1]

    found = trajectory_growth(net, arc, n_draws=8, rtol=2e-3)
    assert found.rate == pytest.approx(measured, rel=0.05)
    assert found.typical == pytest.approx(measured, rel=0.015)
    assert found.lower < found.rate
    assert found.discretisation <= 2e-3


def test_lower_bound_of_gaussian_weights() -> None:
    """Base = density s sqrt(k) / sqrt(2 pi) for deviation s of the weights that are not zero."""
    found = trajectory_growth(MLP((50, 50, 50, 1), init=Sparse(0.2), w_std=2 * np.sqrt(0.2)))
    assert found.lower == pytest.approx(0.160, abs=5e-4)
    assert np.all(found.mean[1:] >= found.lower ** np.arange(1, 3) * found.mean[0])


def test_length_of_a_circle_and_of_a_linear_image() -> None:
    net = MLP((2, 2, 1), "identity", init="orthogonal", w_std=3.0)
    found = trajectory_growth(net, rtol=1e-5)
    np.testing.assert_allclose(found.lengths, np.pi * np.array([[2, 6]] * 16), rtol=1e-5)
    assert np.isnan(found.lower)


def test_errors() -> None:
    with pytest.raises(ValueError, match="max_points: 64 are too few"):
        trajectory_growth(MLP((3, 4, 1)), max_points=64)
    with pytest.raises(ValueError, match="net: expected a hidden layer"):
        trajectory_growth(MLP((3, 1)))
