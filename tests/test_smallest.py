"""Smallest eigenvalues at finite width, against the Jacobian and independent numbers."""

from __future__ import annotations

import numpy as np
import pytest

from ntkfast.finite import MLP, smallest_eigenvalues

X = np.random.default_rng(0).normal(size=(12, 6))


def test_against_the_jacobian() -> None:
    net = MLP((6, 20, 15, 1), "tanh", b_std=0.1)
    found = smallest_eigenvalues(net, X)
    J = net.gradients(X)[:, 0]
    assert found.n_parameters == J.shape[1]
    assert found.total == pytest.approx(np.linalg.svd(J, compute_uv=False)[-1] ** 2, rel=1e-8)
    for layer, value in enumerate(found.layers):
        assert value == pytest.approx(np.linalg.eigvalsh(net.layer_ntks(X)[layer])[0], abs=1e-12)
    assert found.total >= found.layers.sum() - found.rounding
    F = net.features(X)[1:]
    wanted = [np.linalg.svd(one, compute_uv=False)[-1] for one in F]
    np.testing.assert_allclose(found.features, wanted, rtol=1e-9)


def test_standard_scaling() -> None:
    """Derivatives by the stored weights, w_std / sqrt(fan_in) times those of variance 1."""
    net = MLP((6, 20, 15, 1), w_std=(1, 2, 3))
    parts = net.layer_ntks(X) * np.array([6, 20, 15])[:, None, None]
    parts /= np.array([1, 4, 9])[:, None, None]
    found = smallest_eigenvalues(net, X, scaling="standard")
    assert found.total == pytest.approx(np.linalg.eigvalsh(parts.sum(axis=0))[0], rel=1e-8)
    with pytest.raises(ValueError, match='scaling: "standard" is for networks without biases'):
        smallest_eigenvalues(MLP((6, 5, 1), b_std=0.1), X, scaling="standard")


@pytest.mark.parametrize("residual", [0.0, 0.5])
def test_lipschitz_estimates(residual: float) -> None:
    """Spectral norms of the derivatives of the features, by finite differences."""
    net, found = MLP((6, 9, 9, 9, 1), "tanh", residual=residual), np.zeros(3)
    for row in X[:8]:
        e = 1e-6 * np.eye(6)
        ahead, behind = net.features(row + e), net.features(row - e)
        slopes = [(a - b) / 2e-6 for a, b in zip(ahead[1:], behind[1:], strict=True)]
        found = np.maximum(found, [np.linalg.norm(one, 2) for one in slopes])
    np.testing.assert_allclose(smallest_eigenvalues(net, X).lipschitz, found, rtol=1e-6)


def test_more_rows_than_parameters() -> None:
    many = np.random.default_rng(1).normal(size=(60, 3))
    found = smallest_eigenvalues(MLP((3, 4, 4, 1)), many)
    assert found.n_parameters == 32
    assert abs(found.total) <= found.rounding
    np.testing.assert_array_equal(found.features, 0)


@pytest.mark.parametrize(("d", "measured"), [(140, 8.3e-5), (200, 8.5e-5)])
def test_scaling_of_bombari(d: int, measured: float) -> None:
    """lambda_min / d^2 of the full kernel, 300 rows, as replicated independently; 3 deviations."""
    found = []
    for seed in range(6):
        points = np.random.default_rng(seed).normal(size=(300, d))
        net = MLP((d, d, d, 1), "sigmoid", w_std=(1, 1, np.sqrt(d)), rng=seed)
        found.append(smallest_eigenvalues(net, points, scaling="standard", n_probes=1).total / d**2)
    assert abs(np.mean(found) - measured) < 3 * np.std(found, ddof=1) * np.sqrt(1 + 1 / 6)
