"""Closed-form dual kernels against quadrature in polar coordinates, mpmath and each other."""

from __future__ import annotations

import itertools
import math
import pickle
import warnings
from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest

from ntkfast import activations
from ntkfast.activations.pairs import arc

ACTIVATIONS = [
    activations.identity,
    activations.relu,
    activations.leaky_relu(0.2),
    activations.abs,
    activations.ABReLU(0.3, -2.0),
    activations.step,
    activations.sign,
    activations.Step(0.3, 2.0),
    activations.rectified_monomial(2),
    activations.rectified_monomial(3),
    activations.rectified_monomial(5),
    activations.erf,
    activations.sigmoid_like,
    activations.Erf(2.0, 0.7, 0.3),
    activations.gelu,
    activations.sin,
    activations.cos,
    activations.Sine(1.3, 0.8, 0.4),
    activations.rbf(0.6),
    activations.exp,
    activations.Exp(0.5, 0.6),
    activations.gaussian,
    activations.Gaussian(2.0, -0.5),
    activations.monomial(0),
    activations.monomial(1),
    activations.monomial(4),
    activations.polynomial([1.0, 0.0, -0.5, 0.3]),
    activations.hermite(3),
    activations.hermite(6),
    activations.HermiteSeries((0.1, 0.5, 0.0, 0.3)),
]
SMOOTH = [one for one in ACTIVATIONS if not isinstance(one, activations.Step)]


def by_name(activation: activations.Activation) -> str:
    return activation.name


every = pytest.mark.parametrize("activation", ACTIVATIONS, ids=by_name)
every_smooth = pytest.mark.parametrize("activation", SMOOTH, ids=by_name)


def polar_average(function: Callable[[Any], Any], q: float, p: float, c: float) -> float:
    """E[f(a) f(b)] in polar coordinates, split at the rays where a or b changes its sign."""
    angle = math.acos(c / math.sqrt(q * p))
    rays = np.sort([-math.pi / 2, math.pi / 2, angle - math.pi / 2, angle + math.pi / 2])
    rays = np.append(rays, rays[0] + 2 * math.pi)
    x, weights = np.polynomial.legendre.leggauss(160)
    radius = 8 * (x + 1)
    radial = 8 * weights * radius * np.exp(-radius * radius / 2) / (2 * math.pi)
    x, weights = np.polynomial.legendre.leggauss(40)
    total = 0.0
    for low, high in itertools.pairwise(rays):
        phi = (low + high) / 2 + (high - low) / 2 * x
        a = math.sqrt(q) * np.outer(np.cos(phi), radius)
        b = math.sqrt(p) * np.outer(np.cos(phi - angle), radius)
        total += (high - low) / 2 * float(weights @ (function(a) * function(b)) @ radial)
    return total


@every
@pytest.mark.parametrize("c", [-0.9, -0.3, 0.0, 0.4, 0.95])
def test_dual_is_the_gaussian_average(activation: activations.Activation, c: float) -> None:
    q, p = 1.3, 0.8
    size = math.sqrt(activation.variance(q) * activation.variance(p))
    assert abs(activation.dual(q, p, c) - polar_average(activation, q, p, c)) < 2e-13 * size


@every_smooth
@pytest.mark.parametrize("c", [-0.9, 0.0, 0.4, 0.95])
def test_derivative_dual_is_the_gaussian_average(
    activation: activations.Activation, c: float
) -> None:
    q, p = 1.3, 0.8
    size = math.sqrt(activation.derivative_variance(q) * activation.derivative_variance(p))
    expected = polar_average(activation.derivative, q, p, c)
    assert abs(activation.derivative_dual(q, p, c) - expected) <= 2e-13 * size


@every_smooth
@pytest.mark.parametrize("c", [-0.5, 0.1, 0.6])
def test_price(activation: activations.Activation, c: float) -> None:
    """The derivative dual is dK/dc (central differences of order 4 in extended precision)."""
    q, p, c, h = (np.longdouble(x) for x in (1.3, 0.8, c, 1e-3))
    near = activation.dual(q, p, c + h) - activation.dual(q, p, c - h)
    far = activation.dual(q, p, c + 2 * h) - activation.dual(q, p, c - 2 * h)
    slope = (8 * near - far) / (12 * h)
    scale = activation.derivative_variance(1.3)
    assert abs(slope - activation.derivative_dual(q, p, c)) <= 1e-9 * scale


@every
def test_derivative_is_the_slope(activation: activations.Activation) -> None:
    x = np.array([-2.1, -0.4, 0.7, 1.9])
    h = 1e-5
    slope = (activation(x + h) - activation(x - h)) / (2 * h)
    np.testing.assert_allclose(activation.derivative(x), slope, rtol=1e-8, atol=1e-8)


@every
def test_sphere_map_agrees_with_the_duals(activation: activations.Activation) -> None:
    q = 1.3
    v = np.array([0.0, 1e-3, 0.1, 0.3, 0.5, 0.7, 0.95, 1.0])
    defect, slope, lost = activation.on_sphere(q, v, 1 - v)
    c, top = q * (1 - 2 * v), activation.variance(q)
    kernel = activation.dual(q, q, c) / top
    steep = activation.derivative_dual(q, q, c) * q / top
    start = activation.derivative_variance(q) * q / top
    np.testing.assert_allclose(defect, 1 - kernel, rtol=0, atol=5e-15)
    np.testing.assert_allclose(slope, steep, rtol=0, atol=2e-14)
    np.testing.assert_allclose(lost, start - steep, rtol=0, atol=2e-14)


@every
@pytest.mark.parametrize("q", [1e-3, 1.0, 30.0])
def test_defects_keep_relative_accuracy(activation: activations.Activation, q: float) -> None:
    """Double precision agrees with extended precision down to v = 1e-30."""
    v = np.logspace(-30, -0.01, 200)
    exact = v.astype(np.longdouble)
    got = activation.on_sphere(q, v, (1 - exact).astype(np.float64))
    want = activation.on_sphere(np.longdouble(q), exact, 1 - exact)
    assert all(part.dtype == np.float64 for part in got)
    assert all(part.dtype == np.longdouble for part in want)
    np.testing.assert_allclose(got[0], want[0].astype(float), rtol=3e-14)
    np.testing.assert_allclose(got[1], want[1].astype(float), rtol=1e-13, atol=1e-15 * q)
    np.testing.assert_allclose(got[2], want[2].astype(float), rtol=2e-13)
    assert np.all(got[0] >= 0)


@pytest.mark.parametrize("v", ["1e-30", "1e-12", "0.03", "0.2", "0.5", "0.8", "0.97"])
def test_relu_defect_against_mpmath(v: str) -> None:
    with mpmath.workdps(60):
        value = mpmath.mpf(v)
        theta = 2 * mpmath.asin(mpmath.sqrt(value))
        kappa1 = (mpmath.sin(theta) + (mpmath.pi - theta) * mpmath.cos(theta)) / mpmath.pi
        defect, kappa0 = 1 - kappa1, 1 - theta / mpmath.pi
        lost = theta / mpmath.pi
        x = np.longdouble(v)
        got = activations.relu.on_sphere(1.0, x, 1 - x)
        for part, want in zip(got, (defect, kappa0, lost), strict=True):
            ratio = mpmath.mpf(str(part)) / want
            assert abs(ratio - 1) < 2e-18 / min(1, float(1 - value))


@pytest.mark.parametrize("order", [2, 3, 4])
def test_rectified_monomials_against_mpmath(order: int) -> None:
    """The recursion of Cho and Saul, J_n = (-1)^n sin^(2n+1) ((1/sin) d/dt)^n ((pi-t)/sin t)."""
    one = activations.rectified_monomial(order)
    with mpmath.workdps(60):

        def shape(t: Any) -> Any:
            def inner(n: int, s: Any) -> Any:
                if n == 0:
                    return (mpmath.pi - s) / mpmath.sin(s)
                return mpmath.diff(lambda r: inner(n - 1, r), s) / mpmath.sin(s)

            return (-1) ** order * mpmath.sin(t) ** (2 * order + 1) * inner(order, t)

        top = mpmath.pi * math.prod(range(1, 2 * order, 2))
        theta = mpmath.mpf("0.9")
        v = float(mpmath.sin(theta / 2) ** 2)
        want = float(shape(2 * mpmath.asin(mpmath.sqrt(mpmath.mpf(v)))) / top)
    assert one.on_sphere(1.0, v, 1 - v)[0] == pytest.approx(1 - want, rel=1e-12)


def test_arc_cosine_closed_forms() -> None:
    t = np.linspace(0.0, np.pi, 41)
    sin, cos, rest = np.sin(t), np.cos(t), np.pi - t
    second = 3 * sin * cos + rest * (1 + 2 * cos**2)
    third = rest * (9 * sin**2 * cos + 15 * cos**3) + 4 * sin**3 + 15 * sin * cos**2
    for order, shape in ((2, second), (3, third)):
        got = activations.rectified_monomial(order).dual(1.0, 1.0, cos)
        np.testing.assert_allclose(got, shape / (2 * np.pi), rtol=0, atol=1e-14)


def test_kappa1_near_the_antipode() -> None:
    """K ~ phi^3 / (3 pi) at theta = pi - phi: the subtraction in the textbook form loses it."""
    vc = np.logspace(-30, -8, 12)
    phi = 2 * np.sqrt(vc)
    steep = activations.relu.on_sphere(1.0, 1 - vc, vc)[1]
    np.testing.assert_allclose(steep, phi / np.pi, rtol=1e-8)
    got = arc(1, phi) / np.pi
    np.testing.assert_allclose(got, phi**3 / (3 * np.pi), rtol=1e-8)


def recursion(
    activation: activations.Activation, x: list[float], y: list[float]
) -> tuple[float, float]:
    """General recursion with two hidden layers, w^2 = 1.5, b^2 = 0.1: (NNGP, NTK)."""
    weight, bias, d = 1.5, 0.1, len(x)
    products = [np.dot(x, x), np.dot(y, y), np.dot(x, y)]
    q, p, c = (weight * value / d + bias for value in products)
    ntk = c
    for _ in range(2):
        inner = weight * activation.dual(q, p, c) + bias
        ntk = inner + weight * activation.derivative_dual(q, p, c) * ntk
        q = weight * activation.variance(q) + bias
        p = weight * activation.variance(p) + bias
        c = inner
    return float(c), float(ntk)


GOLDEN = {
    "relu": (1.0086869531433, 2.0049668399544, 2.340625, 6.746875),
    "erf": (0.48298732986327, 1.2520125568179, 0.83336629076804, 3.2274756791365),
    "gelu": (0.75099166554307, 1.6724366325331, 2.1486991670716, 6.4999250772725),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_recursions(name: str) -> None:
    x, y = [1.0, 2.0], [-0.5, 1.0]
    got = recursion(activations.resolve(name), x, y) + recursion(activations.resolve(name), x, x)
    assert got == pytest.approx(GOLDEN[name], rel=2e-13)


@pytest.mark.parametrize(
    ("u", "depth", "want"),
    [(0.5, 1, 0.94233111437756), (0.5, 10, 4.1083515264227), (-0.3, 3, 0.83965714307935)],
)
def test_golden_relu_ntk(u: float, depth: int, want: float) -> None:
    value, ntk = u, u
    for _ in range(depth):
        slope = 2 * activations.relu.derivative_dual(1.0, 1.0, value)
        value = 2 * activations.relu.dual(1.0, 1.0, value)
        ntk = ntk * slope + value
    assert ntk == pytest.approx(want, rel=1e-13)


@every
def test_hermite_coefficients_sum_to_the_dual(activation: activations.Activation) -> None:
    q, p, rho = 1.3, 0.8, 0.3
    rows = activation.hermite(np.array([q, p]), 60)
    assert rows.shape == (2, 60)
    total = np.sum(rows[0] * rows[1] * rho ** np.arange(60))
    assert total == pytest.approx(float(activation.dual(q, p, rho * math.sqrt(q * p))), rel=2e-13)


@every
def test_hermite_coefficients_are_averages(activation: activations.Activation) -> None:
    """The definition, E[s(sqrt(q) Z) h_j(Z)], with the integral split at the origin."""
    q, count = 0.7, 9
    x, weights = np.polynomial.legendre.leggauss(200)
    z = np.concatenate([7.5 * (x - 1), 7.5 * (x + 1)])
    density = 7.5 * np.tile(weights, 2) * np.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    table = np.polynomial.hermite_e.hermevander(z, count - 1)
    table /= [math.sqrt(math.factorial(j)) for j in range(count)]
    want = (density * activation(math.sqrt(q) * z)) @ table
    np.testing.assert_allclose(activation.hermite([q], count)[0], want, rtol=0, atol=1e-13)


def test_hermite_tail_bounds_the_truncation() -> None:
    q = np.array([0.5, 2.0])
    tail = activations.relu.hermite_tail(q, 40)
    rows = activations.relu.hermite(q, 40)
    rho = 0.9
    cut = np.sum(rows[0] * rows[1] * rho ** np.arange(40))
    error = abs(cut - activations.relu.dual(0.5, 2.0, rho))
    assert 0 < error < math.sqrt(tail[0] * tail[1])
    assert np.all(activations.hermite(3).hermite_tail(q, 4) < 1e-13)


def test_hermite_polynomials_are_orthonormal() -> None:
    for n in range(8):
        for m in range(8):
            total = activations.HermiteSeries((0.0,) * n + (1.0,)).hermite([1.0], 8)[0, m]
            assert total == float(n == m)
    assert activations.hermite(5).dual(1.0, 1.0, 0.5) == pytest.approx(0.5**5, rel=1e-15)


def test_known_forms() -> None:
    assert activations.monomial(2).dual(2.0, 3.0, 0.7) == pytest.approx(2 * 3 + 2 * 0.49)
    assert activations.monomial(3).dual(2.0, 3.0, 0.7) == pytest.approx(9 * 6 * 0.7 + 6 * 0.343)
    want = math.exp(-0.6 * (2 + 3 - 2 * 0.7))
    assert activations.rbf(0.6).dual(2.0, 3.0, 0.7) == pytest.approx(want, rel=1e-15)
    assert activations.rbf(1.0).dual(40.0, 40.0, -40.0) == pytest.approx(math.exp(-160), rel=1e-13)
    assert activations.exp.dual(1.0, 2.0, 0.3) == pytest.approx(math.exp(1.8))
    tiny = activations.sin.dual(3.0, 3.0, 1e-20)
    assert tiny == pytest.approx(1e-20 * math.exp(-3), rel=1e-14)


@every
@pytest.mark.parametrize("q", [0.0, 1e-300, 0.7, 1e8])
def test_ends_and_vanishing_variance(activation: activations.Activation, q: float) -> None:
    if isinstance(activation, activations.Exp) and q > 1e3:
        pytest.skip("the variance of an exponential overflows")
    ends = np.array([0.0, 0.5, 1.0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        maps = activation.on_sphere(q, ends, ends[::-1])
        assert all(np.isfinite(part).all() for part in maps)
        assert maps[0][0] == 0
        assert maps[2][0] == 0
        assert activation.dual(q, q, q) == activation.variance(q)
        for other in (0.0, q, 1.0):
            assert np.isfinite(activation.dual(q, other, 0.0))
            assert np.isfinite(activation.derivative_dual(q, other, 0.0))


def test_exact_ends_of_the_relu() -> None:
    for q in (0.3, 1.0, 7.7, 1e-200, 1e200):
        assert activations.relu.dual(q, q, q) == q / 2
        assert activations.relu.derivative_dual(q, q, q) == 0.5
        assert activations.relu.dual(q, q, -q) == 0
        assert activations.relu.derivative_dual(q, q, -q) == 0
    assert activations.relu.dual(0.0, 1.0, 0.0) == 0
    assert activations.step.dual(1.0, 1.0, 1.0) == 0.5


@every
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.longdouble])
def test_dtype_is_kept(activation: activations.Activation, dtype: Any) -> None:
    x = np.array([0.3, 0.9], dtype)
    assert activation(x).dtype == dtype
    assert activation.derivative(x).dtype == dtype
    assert activation.dual(x, x, x / 2).dtype == dtype
    assert activation.derivative_dual(x, x, x / 2).dtype == dtype
    assert activation.hermite(x, 5).dtype == dtype
    assert all(part.dtype == dtype for part in activation.on_sphere(0.7, x, 1 - x))


@every
def test_longdouble_is_longdouble_inside(activation: activations.Activation) -> None:
    if np.finfo(np.longdouble).eps > 1e-18:
        pytest.skip("no extended precision on this platform")
    q = np.longdouble(1.3)
    v = np.array([0.05, 0.3, 0.6, 0.9], np.longdouble)
    defect = activation.on_sphere(q, v, 1 - v)[0]
    other = 1 - activation.dual(q, q, q * (1 - 2 * v)) / activation.variance(q)
    assert np.max(np.abs(defect - other)) < 3e-18


@every
def test_broadcasting(activation: activations.Activation) -> None:
    q, p = np.array([[0.5], [1.0], [2.0]]), np.array([0.4, 1.5])
    c = 0.3 * np.sqrt(q * p)
    full = activation.dual(q, p, c)
    assert full.shape == activation.derivative_dual(q, p, c).shape == (3, 2)
    assert full[2, 1] == pytest.approx(float(activation.dual(2.0, 1.5, c[2, 1])), rel=1e-14)


@every
def test_immutable_hashable_picklable_and_named(activation: activations.Activation) -> None:
    copy = pickle.loads(pickle.dumps(activation))
    assert copy == activation
    assert hash(copy) == hash(activation)
    assert activations.resolve(activation.name) == activation
    with pytest.raises(AttributeError):
        activation.anything = 1  # type: ignore[attr-defined]


def test_degree_is_homogeneity() -> None:
    x = np.array([-1.3, 0.4, 2.0])
    for activation in ACTIVATIONS:
        degree = activation.degree
        if degree is not None:
            np.testing.assert_allclose(activation(3 * x), 3**degree * activation(x), rtol=1e-14)


def test_codes_reproduce_the_relu_family() -> None:
    kind, (fold, line) = activations.leaky_relu(0.2).code
    q, p, c = 1.3, 0.8, 0.4
    norm = math.sqrt(q * p)
    theta = math.acos(c / norm)
    kappa1 = (math.sin(theta) + (math.pi - theta) * math.cos(theta)) / math.pi
    assert kind == 1
    want = norm * fold * kappa1 + line * c
    assert activations.leaky_relu(0.2).dual(q, p, c) == pytest.approx(want, rel=1e-14)
    kind, (alpha, beta) = activations.step.code
    assert kind == 2
    assert activations.step.dual(q, p, c) == pytest.approx(alpha + beta * (1 - 2 * theta / math.pi))


@pytest.mark.parametrize("name", ["relu", "gelu", "erf", "step", "cos"])
def test_monte_carlo(name: str) -> None:
    activation = activations.resolve(name)
    random = np.random.default_rng(7)
    z = random.standard_normal((2, 400_000))
    q, p, rho = 1.3, 0.8, 0.6
    a = math.sqrt(q) * z[0]
    b = math.sqrt(p) * (rho * z[0] + math.sqrt(1 - rho**2) * z[1])
    products = activation(a) * activation(b)
    error = products.std() / math.sqrt(products.size)
    want = activation.dual(q, p, rho * math.sqrt(q * p))
    assert abs(products.mean() - want) < 5 * error


def test_names_and_errors() -> None:
    assert activations.resolve("relu") is activations.relu
    assert activations.resolve(" leaky_relu( 0.1 ) ") == activations.leaky_relu(0.1)
    assert activations.resolve("monomial(3)") == activations.monomial(3)
    assert activations.resolve(activations.gelu) is activations.gelu
    assert activations.rectified_monomial(0) == activations.step
    assert activations.rectified_monomial(1) == activations.relu
    with pytest.raises(ValueError, match=r"expected one of .*relu.*, got 'rleu'"):
        activations.resolve("rleu")
    with pytest.raises(ValueError, match="cannot make 'monomial"):
        activations.resolve("monomial(-1)")
    with pytest.raises(TypeError, match="got float"):
        activations.resolve(1.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="negative number"):
        activations.Gaussian(1.0, 0.5)
    with pytest.raises(ValueError, match="function other than 0"):
        activations.ABReLU(0.0, 0.0)
    with pytest.raises(ValueError, match="variance >= 0"):
        activations.relu.on_sphere(-1.0, 0.1, 0.9)
    with pytest.raises(ValueError, match="scalar"):
        activations.relu.on_sphere([1.0, 2.0], 0.1, 0.9)
    with pytest.raises(ValueError, match="positive integer"):
        activations.relu.hermite([1.0], 0)


@pytest.mark.parametrize("q", [1e30, 1e130, 1e300])
def test_large_variances_are_limits(q: float) -> None:
    """GELU is ReLU there and erf the sign, but within an angle of 1/sqrt(q)."""
    theta = np.array([0.1, 0.7, 1.5, 2.5, np.pi])
    v, vc = np.sin(theta / 2) ** 2, np.cos(theta / 2) ** 2
    vc[-1] = 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lost, slope, _ = activations.gelu.on_sphere(q, v, vc)
        turned, *_ = activations.erf.on_sphere(q, v, vc)
    ramp = (np.sin(theta) + (np.pi - theta) * np.cos(theta)) / np.pi
    np.testing.assert_allclose(lost, 1 - ramp, rtol=1e-12)
    np.testing.assert_allclose(slope, 1 - theta / np.pi, rtol=1e-12, atol=4 / q**0.5 + 1e-15)
    np.testing.assert_allclose(turned, 2 * theta / np.pi, rtol=1e-12)
