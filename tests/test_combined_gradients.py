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


COMBINED = {
    "product": BIASED * GAUSSIAN,
    "three factors": ARC * GAUSSIAN * (0.5 * BIASED),
    "normalised": BIASED.normalized(),
    "of a sum": (NTK + GAUSSIAN).normalized(),
    "columns": NTK.on([3, 0]),
    "length scales": GAUSSIAN.ard([0.5, 1.0, 2.0, 4.0]),
    "additive": nf.Laplace(0.5).on([0, 1]) + BIASED.ard([1.0, 3.0, 2.0, 0.7]) * GAUSSIAN.on(2),
}


def pieces(X: Any, Y: Any, dX: Any, of: Any) -> Any:
    """Return central differences of sixth order of a function of X along a direction."""
    h = 1e-3
    steps = ((1, 45), (-1, -45), (2, -9), (-2, 9), (3, 1), (-3, -1))
    return sum(c * of(X + k * h * dX, Y) for k, c in steps) / (60 * h)


@pytest.mark.parametrize("kernel", COMBINED.values(), ids=COMBINED)
def test_inputs_of_any_combination(kernel: Any) -> None:
    """Differences of the kernel itself: truncated at 1e-14, rounded at 1e-13."""
    _, Y, V, dX = inputs()
    X = np.random.default_rng(2).standard_normal((7, 4))
    Y = np.where(Y == 0, 0.5, Y)
    A, B = np.random.default_rng(3).standard_normal((2, 7, 2))
    slope = pieces(X, Y, dX, kernel)
    close(kernel.jvp(X, Y, dX), slope, 1e-10)
    close(np.sum(kernel.vjp(X, Y, V) * dX), np.sum(V * slope), 1e-10)
    whole = pieces(X, None, dX, lambda Z, _: kernel(Z))
    close(kernel.jvp(X, None, dX), whole, 1e-10)
    W = A @ B.T
    close(np.sum(kernel.vjp(X, None, W) * dX), np.sum(W * whole), 1e-10)
    close(kernel.vjp(X, None, (A, B)), kernel.vjp(X, None, W), 1e-13)
    close(kernel.vjp(X, Y, (A, B[:5])), kernel.vjp(X, Y, A @ B[:5].T), 1e-13)
    single = kernel.vjp(X.astype(np.float32), Y.astype(np.float32), V.astype(np.float32))
    close(single, kernel.vjp(X, Y, V), 1e-5)
    assert single.dtype == np.float32


@pytest.mark.slow
@pytest.mark.parametrize("kernel", COMBINED.values(), ids=COMBINED)
def test_parameters_of_any_combination(kernel: Any) -> None:
    """Differences in the logarithm of each parameter, and the two directions against each other."""
    X, Y, V, _ = inputs()
    for Z, W in ((Y, V), (None, V @ np.ones((5, 7)))):
        found = kernel.parameter_gradient(X, Z, W)
        assert list(found) == list(kernel.parameters())
        size = np.sum(np.abs(W * kernel(X, Z)))
        for name, value in kernel.parameters().items():
            if value == 0:
                assert found[name] == 0
                continue

            def at(logs: Any, _: Any, name: str = name, value: float = value, Z: Any = Z) -> Any:
                return kernel.with_parameters({name: value * float(np.exp(logs))})(X, Z)

            slope = pieces(0.0, None, 1.0, at) / value
            assert abs(found[name] - np.sum(W * slope)) < 1e-10 * size * max(1, 1 / value), name
            moved = kernel.parameter_jvp(X, Z, {name: 1.0})
            assert abs(found[name] - np.sum(W * moved)) < 1e-10 * size * max(1, 1 / value), name


def test_names_of_parameters() -> None:
    X, Y, V, _ = inputs()
    kernel = GAUSSIAN.ard([1.0, 2.0, 3.0, 4.0])
    some = kernel.parameter_gradient(X, Y, V, names=["length_scales.2"])
    assert list(some) == ["length_scales.2"]
    assert some.items() <= kernel.parameter_gradient(X, Y, V).items()
    with pytest.raises(ValueError, match=r"names: expected some of 'kernel.c', .*; got 'c'"):
        kernel.parameter_gradient(X, Y, V, names=["c"])
    with pytest.raises(ValueError, match=r"steps: expected some of .*; got 'c'"):
        kernel.parameter_jvp(X, Y, {"c": 1.0})


def test_length_scales_of_sequences() -> None:
    kernel = nf.Recurrent(1, b_std=0.1).ntk.ard([1.0, 2.0, 0.5])
    X = np.random.default_rng(4).standard_normal((4, 3))
    V = np.ones((4, 4))
    found = kernel.parameter_gradient(X, None, V, names=["length_scales.1"])

    def at(value: float, _: Any) -> Any:
        return kernel.with_parameters({"length_scales.1": value})(X)

    assert found["length_scales.1"] == pytest.approx(np.sum(pieces(2.0, None, 1.0, at)), rel=1e-9)


DROPOUT = nf.compose(nf.Dense(1.1, 0.2), "erf", nf.Dropout(0.3), nf.Dense(1.2, 0.3), "gelu").ntk
MASKED = nf.ConvNet(nf.Conv(3, 1.2, 0.1), "relu", nf.Dropout(0.3), nf.Conv(2, 1.1), "gelu").ntk


@pytest.mark.parametrize(
    ("kernel", "shape"),
    [
        (GAUSSIAN + DROPOUT * GAUSSIAN, (6, 3)),
        (DROPOUT.normalized(), (6, 3)),
        pytest.param(MASKED * MASKED + MASKED.normalized(), (3, 3, 3, 1), marks=pytest.mark.slow),
    ],
    ids=["rows", "normalised", "images"],
)
def test_inputs_that_are_more_than_equal_with_themselves(kernel: Any, shape: Any) -> None:
    """With dropout an input with itself has a value of its own, in combinations too."""
    rng = np.random.default_rng(0)
    X, dX = rng.standard_normal((2, *shape))
    V = rng.standard_normal((len(X), len(X)))
    slope = pieces(X, None, dX, lambda Z, _: kernel(Z))
    close(kernel.jvp(X, None, dX), slope, 1e-10)
    for weights in (V, (V, np.eye(len(X)))):
        close(np.sum(kernel.vjp(X, None, weights) * dX), np.sum(V * slope), 1e-10)
