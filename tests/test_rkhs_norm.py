"""Norms in an RKHS: exact ones, and bounds that are bounds."""

from __future__ import annotations

import numpy as np
import pytest

import ntkfast as nf
from ntkfast.finite import MLP
from ntkfast.statistics import rkhs_norm

NNGP = nf.FullyConnected(1).nngp  # |x| |y| kappa_1(u): its feature map is non-expansive
rng = np.random.default_rng(0)


def sphere(n: int, d: int) -> np.ndarray:
    X = rng.normal(size=(n, d))
    return X / np.linalg.norm(X, axis=1, keepdims=True)


def slope(f: rkhs_norm.KernelFunction, Z: np.ndarray) -> np.ndarray:
    """Gradient by central differences."""
    e = 1e-5 * np.eye(Z.shape[1])
    return np.stack([(f(Z + one) - f(Z - one)) / 2e-5 for one in e], axis=2)


def test_interpolant_and_ridge() -> None:
    X, y = sphere(40, 5), rng.normal(size=(40, 2))
    K = NNGP(X)
    f = rkhs_norm.interpolant(NNGP, X, y)
    np.testing.assert_allclose(f.norm**2, np.diag(y.T @ np.linalg.solve(K, y)), rtol=1e-7)
    assert f.residual < 1e-8
    g = rkhs_norm.interpolant(NNGP, X, y, ridge=0.1)
    alpha = np.linalg.solve(K + 0.1 * np.eye(40), y)
    np.testing.assert_allclose(g.norm**2, np.diag(alpha.T @ K @ alpha), rtol=1e-9)
    np.testing.assert_allclose(g(X), K @ alpha, rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(rkhs_norm.of_coefficients(NNGP, X, alpha), g.norm, rtol=1e-9)
    assert np.all(g.norm < f.norm)


def test_lower_bounds_of_a_known_norm() -> None:
    """Of a kernel function all bounds are below its norm; interpolation reaches it."""
    X = sphere(60, 4)
    f = rkhs_norm.interpolant(NNGP, X, rng.normal(size=60), ridge=0.01)
    found = rkhs_norm.lower_bounds(f, X, gradient=lambda Z: slope(f, Z), kernel=NNGP, radius=0.3)
    for bound in (found.gradient, found.perturbation, found.pairs):
        assert 0.1 * f.norm[0] < bound[0] <= f.norm[0]
    assert found.interpolation is not None
    assert found.interpolation[0] == pytest.approx(f.norm[0], rel=1e-6)
    others = rkhs_norm.lower_bounds(
        f, sphere(50, 4), gradient=lambda Z: slope(f, Z), kernel=NNGP, radius=0.3
    )
    assert np.all(others.best <= f.norm)


def test_the_feature_map_is_non_expansive() -> None:
    """|Phi(x) - Phi(y)| <= |x - y|, with equality in the limit of equal inputs."""
    X, Y = rng.normal(size=(200, 3)), rng.normal(size=(200, 3))
    squares = NNGP.diag(X) + NNGP.diag(Y) - 2 * np.einsum("ii->i", NNGP(X, Y))
    distance = np.linalg.norm(X - Y, axis=1)
    assert np.all(squares <= distance**2 * (1 + 1e-12))
    Y = X + 1e-3 * sphere(200, 3)
    squares = NNGP.diag(X) + NNGP.diag(Y) - 2 * np.einsum("ii->i", NNGP(X, Y))
    np.testing.assert_allclose(squares, 1e-6, rtol=2e-2)


@pytest.mark.parametrize("residual", [0.0, 0.5])
@pytest.mark.parametrize("activation", ["relu", "tanh", "gelu"])
def test_network_between_its_bounds(activation: str, residual: float) -> None:
    net = MLP((6, 30, 30, 30, 2), activation, residual=residual, b_std=0.3)
    X = rng.normal(size=(40, 6))
    low, high = rkhs_norm.lower_bounds(net, X), rkhs_norm.upper_bounds(net)
    assert high.spectral_norms.shape == (4,)
    assert np.all(low.best <= high.lipschitz)
    assert np.all(low.gradient > 0.01 * high.lipschitz)
    assert np.all(low.perturbation >= 0.5 * low.gradient)
    scaled = rkhs_norm.lower_bounds(net, X, lipschitz=2.0)
    np.testing.assert_allclose(scaled.best, low.best / 2)


def test_linear_network_reaches_its_bounds() -> None:
    net = MLP((5, 1))
    X = rng.normal(size=(300, 5))
    low, high = rkhs_norm.lower_bounds(net, X), rkhs_norm.upper_bounds(net)
    np.testing.assert_allclose(low.gradient, high.lipschitz)
    np.testing.assert_allclose(low.perturbation, high.lipschitz)
    assert 0.8 * high.lipschitz < low.pairs[0] <= high.lipschitz


def test_errors() -> None:
    X = np.ones((3, 2))
    with pytest.raises(ValueError, match="X: the Gram matrix is singular; take a ridge > 0"):
        rkhs_norm.interpolant(NNGP, np.zeros((3, 2)), [1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match=r"y: expected shape \(3,\), got \(2,\)"):
        rkhs_norm.interpolant(NNGP, X, [1.0, 2.0])
    with pytest.raises(ValueError, match="gradient: expected the gradient of a function"):
        rkhs_norm.lower_bounds(np.sin, X)
    with pytest.raises(ValueError, match="radius: expected a finite number > 0"):
        rkhs_norm.lower_bounds(MLP((2, 3, 1)), X, radius=0.0)
