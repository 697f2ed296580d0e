"""The worked examples of CONTRIBUTING.md: an activation and a kernel, each in one class."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import ntkfast as nf
from ntkfast.activations import CallableActivation

TEXT = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")


def example(heading: str) -> dict[str, Any]:
    """Run the code of a section."""
    section = TEXT.split(f"## {heading}\n")[1].split("\n## ")[0]
    (code,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    names: dict[str, Any] = {"__name__": __name__}
    exec(compile(code, "CONTRIBUTING.md", "exec"), names)
    return names


Cosh = example("Add an activation")["Cosh"]
RationalQuadratic = example("Add a kernel")["RationalQuadratic"]


def rows(n: int, d: int) -> NDArray[np.float64]:
    return np.random.default_rng(0).normal(size=(n, d)) / np.sqrt(d)


def by_quadrature(b: float) -> CallableActivation:
    return CallableActivation(lambda x: np.cosh(b * x), lambda x: b * np.sinh(b * x), ())


def test_the_activation_agrees_with_quadrature() -> None:
    one, other = Cosh(0.8), by_quadrature(0.8)
    q, p, c = np.array([0.5, 1.0, 2.0]), np.array([1.5, 1.0, 0.3]), np.array([-0.4, 0.9, 0.1])
    np.testing.assert_allclose(one.dual(q, p, c), other.dual(q, p, c), rtol=1e-11)
    np.testing.assert_allclose(
        one.derivative_dual(q, p, c), other.derivative_dual(q, p, c), rtol=1e-11
    )
    np.testing.assert_allclose(one.hermite(q, 12), other.hermite(q, 12), atol=1e-12)
    v = np.array([1e-8, 0.01, 0.3, 0.5, 0.9, 1.0])
    for got, want in zip(one.on_sphere(1.3, v, 1 - v), other.on_sphere(1.3, v, 1 - v), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-13)
    exact = v.astype(np.longdouble)
    for got, want in zip(
        one.on_sphere(1.3, v, (1 - exact).astype(float)),
        one.on_sphere(1.3, exact, 1 - exact),
        strict=True,
    ):
        np.testing.assert_allclose(got, want.astype(float), rtol=1e-13, atol=1e-30)


@pytest.mark.parametrize("norm", ["one norm", "any norms"])
def test_networks_take_the_activation(norm: str) -> None:
    X = rows(12, 5)
    if norm == "one norm":
        X /= np.linalg.norm(X, axis=1)[:, None]
    one, other = (nf.FullyConnected(2, activation=a) for a in (Cosh(0.4), by_quadrature(0.4)))
    np.testing.assert_allclose(one.ntk(X), other.ntk(X), rtol=1e-10)
    np.testing.assert_allclose(one.nngp(X), other.nngp(X), rtol=1e-10)


def test_the_activation_has_a_spectrum() -> None:
    one, other = (nf.FullyConnected(1, activation=a) for a in (Cosh(1.5), by_quadrature(1.5)))
    found = nf.spectrum.mercer(one.ntk, 4, 30, radius=1.0)
    numeric = nf.spectrum.mercer(other.ntk, 4, 30, radius=1.0)
    known = numeric.error < 1e-6
    assert known.sum() >= 4
    np.testing.assert_allclose(found.mass[known], numeric.mass[known], rtol=1e-5)
    assert np.all(found.mass[1::2] == 0)  # the kernel is even
    assert np.all(found.error[::2] < 1e-10)  # by the power series: all degrees are exact
    assert found.mass.sum() == pytest.approx(found.trace, rel=1e-12)


def cosines(X: NDArray[np.float64], Y: NDArray[np.float64]) -> NDArray[np.float64]:
    return X @ Y.T / np.outer(np.linalg.norm(X, axis=1), np.linalg.norm(Y, axis=1))


def test_the_kernel_has_matrices_and_products() -> None:
    kernel, X, Y = RationalQuadratic(3.0), rows(30, 6), rows(20, 6)[::-1].copy()
    want = 1 / (1 + 3 * (1 - cosines(X, Y)))
    np.testing.assert_allclose(kernel(X, Y), want, rtol=1e-13)
    np.testing.assert_array_equal(kernel.diag(X), np.ones(30))
    np.testing.assert_array_equal(np.diagonal(kernel(X)), np.ones(30))
    V = np.random.default_rng(1).normal(size=(20, 2))
    np.testing.assert_allclose(kernel.matmul(X, Y, V), want @ V, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(kernel.profile([1.0, 0.5, -1.0]), [1, 0.4, 1 / 7], rtol=1e-15)


def test_the_kernel_has_a_spectrum() -> None:
    u, weights = np.polynomial.legendre.leggauss(200)
    P = np.polynomial.legendre.legvander(u, 10)
    want = (np.arange(11) + 0.5) * (weights / (1 + 3 * (1 - u)) @ P)
    found = nf.spectrum.mercer(RationalQuadratic(3.0), 3, 10)
    np.testing.assert_allclose(found.mass, want, rtol=1e-9)


def test_the_kernel_has_features() -> None:
    features = pytest.importorskip("ntkfast.features", exc_type=ImportError)
    kernel, X = RationalQuadratic(3.0), rows(40, 4)
    K = kernel(X)
    for one in (
        features.DualActivationFeatures(kernel, 4096, random_state=0),
        features.NTKSketch(kernel, 1024, random_state=0),
        features.NystromFeatures(kernel, 40, random_state=0),
    ):
        F = one.fit_transform(X)
        assert np.linalg.norm(F @ F.T - K) < 0.1 * np.linalg.norm(K), one
