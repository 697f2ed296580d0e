"""Derivatives of kernels made of kernels, against those of their parts and the product rule."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import ntkfast as nf

NTK, ARC = nf.FullyConnected(3).ntk, nf.ArcCosine(2)
BIASED, GAUSSIAN = nf.FullyConnected(2, bias=0.5).ntk, nf.Gaussian(0.7)
SUMS = {
    "one profile": (NTK, nf.ResNet(2, alpha=0.5).nngp),
    "two degrees": (NTK, ARC),
    "no profile": (BIASED, GAUSSIAN),
}


def inputs() -> tuple[Any, ...]:
    rng = np.random.default_rng(0)
    X, Y = rng.standard_normal((7, 4)), rng.standard_normal((5, 4))
    X[1], Y[2] = 2 * Y[0], 0
    X[2] = X[3]
    return X, Y, rng.standard_normal((7, 5)), rng.standard_normal((7, 4))


def close(found: Any, expected: Any, tolerance: float = 1e-12) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * np.max(np.abs(expected)))


@pytest.mark.parametrize("parts", SUMS.values(), ids=SUMS)
def test_sums(parts: Any) -> None:
    X, Y, V, dX = inputs()
    total = parts[0] + 3 * parts[1]
    for Z, W in ((Y, V), (None, V @ V.T)):
        expected = parts[0].vjp(X, Z, W) + 3 * parts[1].vjp(X, Z, W)
        close(total.vjp(X, Z, W), expected)
        expected = parts[0].jvp(X, Z, dX) + 3 * parts[1].jvp(X, Z, dX)
        close(total.jvp(X, Z, dX), expected)


def test_products() -> None:
    X, Y, V, dX = inputs()
    product = NTK * ARC
    close(product.vjp(X, Y, V), NTK.vjp(X, Y, V * ARC(X, Y)) + ARC.vjp(X, Y, V * NTK(X, Y)))
    expected = NTK.jvp(X, Y, dX) * ARC(X, Y) + NTK(X, Y) * ARC.jvp(X, Y, dX)
    close(product.jvp(X, Y, dX), expected)


def test_normalised() -> None:
    """K = |x| |y| n, so that dn = (dK - n |y| d|x|) / (|x| |y|), up to the value at angle 0."""
    X, _, _, dX = inputs()
    Y = np.random.default_rng(1).standard_normal((5, 4))
    r, s = np.linalg.norm(X, axis=1)[:, None], np.linalg.norm(Y, axis=1)
    top = float(NTK.diag(np.eye(1))[0])
    moved = np.sum(X * dX, axis=1)[:, None] / r
    expected = (NTK.jvp(X, Y, dX) / top - NTK.normalized()(X, Y) * s * moved) / (r * s)
    close(NTK.normalized().jvp(X, Y, dX), expected)


def test_parameters() -> None:
    X, Y, V, _ = inputs()
    total = 2 * NTK + GAUSSIAN.on([0, 1])
    found = total.parameter_gradient(X, Y, V)
    assert list(found) == list(total.parameters())
    first, second = (
        NTK.parameter_gradient(X, Y, V),
        GAUSSIAN.parameter_gradient(X[:, :2], Y[:, :2], V),
    )
    assert found["k1.factor"] == pytest.approx(np.sum(V * NTK(X, Y)), rel=1e-10)
    assert found["k1.kernel.w_std"] == pytest.approx(2 * first["w_std"], rel=1e-9)
    assert found["k2.kernel.c"] == pytest.approx(second["c"], rel=1e-9)
    product = (NTK * nf.Laplace(0.5, inputs="sphere")).parameter_gradient(X[:2], Y[:2], V[:2, :2])
    other = nf.Laplace(0.5, inputs="sphere")
    expected = NTK.parameter_gradient(X[:2], Y[:2], V[:2, :2] * other(X[:2], Y[:2]))
    assert product["k1.w_std"] == pytest.approx(expected["w_std"], rel=1e-9)
    moved = total.with_parameters({"k1.kernel.w_std": 1.0, "k2.kernel.c": 0.2})
    assert moved == 2 * nf.FullyConnected(3, w_std=1.0).ntk + nf.Gaussian(0.2).on([0, 1])


@pytest.mark.parametrize(
    "kernel", [BIASED * GAUSSIAN, BIASED.normalized(), NTK.on([0, 1])], ids=repr
)
def test_what_is_not_known(kernel: Any) -> None:
    X, Y, V, dX = inputs()
    X = X + np.arange(1, 8)[:, None]
    with pytest.raises(TypeError, match="kernel: derivatives by inputs are known of"):
        kernel.vjp(X, Y, V)
    with pytest.raises(TypeError, match="kernel: derivatives by inputs are known of"):
        kernel.jvp(X, Y, dX)
