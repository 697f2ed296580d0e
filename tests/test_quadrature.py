"""Quadrature duals of arbitrary functions against closed forms, mpmath and Hermite series."""

from __future__ import annotations

import math
import pickle
import warnings
from typing import Any

import mpmath
import numpy as np
import pytest

from ntkfast import activations
from ntkfast.activations.functions import NAMED
from ntkfast.activations.quadrature import CallableActivation


def relu(x: Any) -> Any:
    return np.maximum(x, 0)


def relu6(x: Any) -> Any:
    return np.clip(x, 0, 6)


def hard_tanh(x: Any) -> Any:
    return np.clip(x, -1, 1)


def elu(x: Any) -> Any:
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


def shifted_abs(x: Any) -> Any:
    return np.abs(x - 0.3)


def softplus(x: Any) -> Any:
    return np.logaddexp(0, x)


def hard_swish(x: Any) -> Any:
    return x * np.clip(x + 3, 0, 6) / 6


ANGLES = np.concatenate([np.logspace(-15, -2, 14), np.linspace(0.03, np.pi, 17)])
V, VC = np.sin(ANGLES / 2) ** 2, np.cos(ANGLES / 2) ** 2


@pytest.mark.parametrize(
    ("function", "kinks"),
    [
        (relu, (0.0,)),
        (relu6, (0.0, 6.0)),
        (hard_tanh, (-1.0, 1.0)),
        (elu, (0.0,)),
        (shifted_abs, (0.3,)),
        (hard_swish, (-3.0, 3.0)),
        (np.tanh, ()),
        (np.sin, ()),
        (softplus, ()),
        (NAMED["silu"], ()),
        (lambda x: np.tanh(300 * x), ()),
    ],
)
def test_kinks_are_found(function: Any, kinks: tuple[float, ...]) -> None:
    assert CallableActivation(function).found_kinks() == kinks


def test_kinks_at_odd_places() -> None:
    places = (-math.e, 1 / 3, math.sqrt(2))
    found = CallableActivation(lambda x: sum(np.abs(x - k) for k in places)).found_kinks()
    np.testing.assert_allclose(found, places, rtol=0, atol=1e-13)


@pytest.mark.parametrize(
    ("closed", "q"),
    [
        (activations.relu, 1.0),
        (activations.relu, 30.0),
        (activations.leaky_relu(0.3), 0.05),
        (activations.abs, 1.0),
        (activations.step, 1.0),
        (activations.erf, 1.0),
        (activations.erf, 8.0),
        (activations.gelu, 1.0),
        (activations.exp, 1.0),
        (activations.hermite(3), 1.0),
        (activations.rectified_monomial(2), 2.0),
    ],
    ids=lambda value: getattr(value, "name", str(value)),
)
def test_sphere_map_against_closed_forms(closed: activations.Activation, q: float) -> None:
    one = CallableActivation(closed.__call__, closed.derivative)
    got, want = one.on_sphere(q, V, VC), closed.on_sphere(q, V, VC)
    np.testing.assert_allclose(got[0][V < 0.9], want[0][V < 0.9], rtol=1e-12)
    np.testing.assert_allclose(got[0], want[0], rtol=0, atol=1e-13)
    np.testing.assert_allclose(got[1], want[1], rtol=0, atol=1e-30 + 1e-12 * want[1].max())
    floor = np.maximum(want[2], want[0] / 10)
    assert np.max(np.abs(got[2] - want[2]) / floor) < 1e-12


def test_relu_found_by_itself_agrees_with_the_closed_form() -> None:
    got, want = (
        CallableActivation(relu).on_sphere(1.0, V, VC),
        activations.relu.on_sphere(1.0, V, VC),
    )
    np.testing.assert_allclose(got[0], want[0], rtol=1e-12)
    np.testing.assert_allclose(got[1], want[1], rtol=0, atol=1e-12)
    np.testing.assert_allclose(got[2], want[2], rtol=1e-12)


def test_numerical_derivative() -> None:
    x = np.linspace(-15, 15, 2001)
    for function, name in ((np.tanh, "tanh"), (softplus, "softplus"), (elu, "elu")):
        got = CallableActivation(function).derivative(x)
        want = NAMED[name].derivative(x)
        away = np.abs(x) > 1e-9
        np.testing.assert_allclose(got[away], want[away], rtol=0, atol=1e-11)


@pytest.mark.parametrize("name", NAMED)
def test_named_derivatives(name: str) -> None:
    x, h = np.array([-30.0, -3.0, -0.4, 0.2, 1.7, 25.0]), 1e-5
    one = activations.resolve(name)
    slope = (one(x + h) - one(x - h)) / (2 * h)
    np.testing.assert_allclose(one.derivative(x), slope, rtol=0, atol=1e-9)
    assert np.isfinite(one([-1e4, 1e4])).all()
    assert np.isfinite(one.derivative([-1e4, 1e4])).all()


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize("c", [-0.8, 0.1, 0.5, 0.97])
def test_price(name: str, c: float) -> None:
    one, h = NAMED[name], 2e-3
    q, p = 1.1, 0.9
    values = one.dual(q, p, c + h * np.array([-2.0, -1.0, 1.0, 2.0]))
    slope = (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * h)
    assert slope == pytest.approx(float(one.derivative_dual(q, p, c)), abs=2e-7)


def test_tanh_against_mpmath() -> None:
    """The plain definition by mpmath, q = p = 1 and c = 0.5."""
    rho, sigma = mpmath.mpf("0.5"), mpmath.sqrt(mpmath.mpf("0.75"))
    nodes = mpmath.linspace(-9, 9, 109)  # the trapezoidal rule converges exponentially here
    step = nodes[1] - nodes[0]
    bell = [mpmath.exp(-z * z / 2) for z in nodes]
    total = sum(
        wx * wy * mpmath.tanh(x) * mpmath.tanh(rho * x + sigma * y)
        for x, wx in zip(nodes, bell, strict=True)
        for y, wy in zip(nodes, bell, strict=True)
    )
    want = float(total * step**2 / (2 * mpmath.pi))
    assert NAMED["tanh"].dual(1.0, 1.0, 0.5) == pytest.approx(want, rel=2e-14)


@pytest.mark.parametrize("function", [np.tanh, relu6, shifted_abs, NAMED["silu"]])
def test_dual_equals_its_hermite_series(function: Any) -> None:
    one = CallableActivation(function)
    q, p, rho = 1.7, 0.4, -0.5
    rows = one.hermite(np.array([q, p]), 60)
    series = np.sum(rows[0] * rows[1] * rho ** np.arange(60))
    assert one.dual(q, p, rho * math.sqrt(q * p)) == pytest.approx(series, abs=1e-13)


@pytest.mark.parametrize(
    "closed", [activations.relu, activations.gelu, activations.exp, activations.step], ids=str
)
def test_hermite_coefficients(closed: activations.Activation) -> None:
    one = CallableActivation(closed.__call__)
    q = np.array([0.2, 1.0, 5.0])
    size = np.sqrt(closed.variance(q))[:, None]
    got, want = one.hermite(q, 200), closed.hermite(q, 200)
    assert np.max(np.abs(got - want) / size) < 5e-14
    np.testing.assert_allclose(
        one.hermite_tail(q, 9),
        closed.hermite_tail(q, 9),
        rtol=0,
        atol=1e-12 * float(size.max()) ** 2,
    )


@pytest.mark.parametrize("function", [np.tanh, relu6, elu])
def test_symmetric_positive_and_exact_on_the_diagonal(function: Any) -> None:
    one = CallableActivation(function)
    q = np.array([0.0, 0.3, 1.0, 4.0])
    points = np.array([[0.0, 0.0], [0.5, math.sqrt(0.05)], [-1.0, 0.0], [0.0, 2.0]])
    gram = one.dual(q[:, None], q[None, :], points @ points.T)
    np.testing.assert_allclose(gram, gram.T, rtol=0, atol=1e-13)
    np.testing.assert_allclose(np.diag(gram), one.variance(q), rtol=1e-12, atol=1e-15)
    assert np.linalg.eigvalsh(gram).min() > -1e-13


@pytest.mark.parametrize("rho", [-1.0, -1 + 1e-12, -1 + 1e-6, 0.0, 1 - 1e-6, 1 - 1e-12, 1.0])
def test_unequal_variances_at_all_angles(rho: float) -> None:
    q, p = 2.0, 0.5
    one = CallableActivation(relu)
    got, want = one.dual(q, p, rho), activations.relu.dual(q, p, rho)
    assert got == pytest.approx(float(want), abs=1e-13)
    got, want = one.derivative_dual(q, p, rho), activations.relu.derivative_dual(q, p, rho)
    assert got == pytest.approx(float(want), abs=1e-12)


def test_monte_carlo() -> None:
    z = np.random.default_rng(3).standard_normal((2, 400_000))
    q, p, rho = 2.0, 0.6, 0.7
    a = math.sqrt(q) * z[0]
    b = math.sqrt(p) * (rho * z[0] + math.sqrt(1 - rho**2) * z[1])
    products = shifted_abs(a) * shifted_abs(b)
    want = CallableActivation(shifted_abs).dual(q, p, rho * math.sqrt(q * p))
    assert abs(products.mean() - want) < 5 * products.std() / math.sqrt(products.size)


def test_sphere_map_agrees_with_the_duals() -> None:
    for function in (np.tanh, relu6, elu):
        one, q = CallableActivation(function), 1.5
        v = np.array([0.02, 0.3, 0.5, 0.8, 1.0])
        defect, slope, lost = one.on_sphere(q, v, 1 - v)
        top, c = one.variance(q), q * (1 - 2 * v)
        np.testing.assert_allclose(1 - defect, one.dual(q, q, c) / top, rtol=0, atol=1e-12)
        np.testing.assert_allclose(
            slope, one.derivative_dual(q, q, c) * q / top, rtol=0, atol=1e-11
        )
        np.testing.assert_allclose(slope + lost, one.derivative_variance(q) * q / top, rtol=1e-12)


def test_defect_is_smooth_across_the_small_angle_switch() -> None:
    """Defect / v tends to twice the slope at 0 (Price); no digit is lost on the way."""
    for name in ("tanh", "softplus", "elu"):
        v = np.logspace(-30, -2, 57)
        defect, slope, lost = NAMED[name].on_sphere(1.0, v, 1 - v)
        start = slope[0] + lost[0]
        np.testing.assert_allclose(defect[v < 1e-16] / v[v < 1e-16], 2 * start, rtol=1e-12)
        ratio = lost / v
        assert np.all(np.abs(np.diff(ratio[v < 1e-8]) / ratio[0]) < 1e-3)
        assert np.all(np.diff(defect) > 0)


def test_many_angles_share_the_values_of_the_function() -> None:
    def evaluations(count: int) -> int:
        sizes: list[int] = []

        def function(x: Any) -> Any:
            sizes.append(np.size(x))
            return np.tanh(x)

        v = np.sin(np.linspace(0.01, np.pi, count) / 2) ** 2
        activations.resolve(function).on_sphere(1.0, v, 1 - v)
        return sum(sizes)

    assert 0 < evaluations(300) == evaluations(3) < 10_000


def test_large_variance() -> None:
    """tanh(100 z) is close to its limit, the sign function, and still resolved."""
    v = np.array([0.01, 0.2, 0.5, 0.9])
    defect = NAMED["tanh"].on_sphere(1e4, v, 1 - v)[0]
    limit = activations.sign.on_sphere(1.0, v, 1 - v)[0]
    np.testing.assert_allclose(defect, limit, rtol=0, atol=2e-2)
    sharp = CallableActivation(lambda x: np.tanh(100 * x))
    np.testing.assert_allclose(sharp.on_sphere(1.0, v, 1 - v)[0], defect, rtol=1e-10)


@pytest.mark.slow
def test_missed_tolerance_is_told() -> None:
    noisy = CallableActivation(lambda x: np.tanh(x) + 1e-4 * np.sin(1e5 * x), kinks=())
    with pytest.warns(RuntimeWarning, match="relative error"):
        noisy.dual(1.0, 1.0, 0.3)


def test_no_warning_and_no_nan_at_the_ends() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for function in (np.tanh, relu6, shifted_abs):
            one = CallableActivation(function)
            ends = np.array([0.0, 0.5, 1.0])
            for q in (0.0, 1e-12, 1.0):
                maps = one.on_sphere(q, ends, 1 - ends)
                assert all(np.isfinite(part).all() for part in maps)
                assert maps[0][0] == 0
                assert maps[2][0] == 0
            assert one.dual(0.0, 0.0, 0.0) == pytest.approx(float(one([0.0])[0] ** 2), abs=1e-15)
            assert one.dual(np.zeros(0), np.zeros(0), np.zeros(0)).shape == (0,)


def test_given_kinks_and_derivative_are_used() -> None:
    calls = []

    def slope(x: Any) -> Any:
        calls.append(1)
        return (x > 0.3) * 2.0 - 1.0

    one = CallableActivation(shifted_abs, slope, [0.3])
    got = one.derivative_dual(1.0, 1.0, 0.2)
    assert calls
    assert got == pytest.approx(
        float(CallableActivation(shifted_abs).derivative_dual(1.0, 1.0, 0.2)), rel=1e-12
    )


def test_functions_of_one_number_work() -> None:
    one = CallableActivation(lambda x: max(x, 0.0))
    assert one.dual(1.0, 1.0, 0.5) == pytest.approx(
        float(activations.relu.dual(1, 1, 0.5)), rel=1e-12
    )


def test_dtype_equality_hash_and_pickle() -> None:
    one = CallableActivation(relu6)
    assert one == CallableActivation(relu6)
    assert hash(one) == hash(CallableActivation(relu6))
    assert one != CallableActivation(hard_tanh)
    assert one != CallableActivation(relu6, kinks=(0.0, 6.0))
    copy = pickle.loads(pickle.dumps(CallableActivation(np.tanh)))
    assert copy == CallableActivation(np.tanh)
    for named in NAMED.values():
        assert pickle.loads(pickle.dumps(named)) == named
    v = np.array([0.1, 0.4], np.longdouble)
    assert all(part.dtype == np.longdouble for part in one.on_sphere(1.0, v, 1 - v))
    assert one.dual(np.float32(1), np.float32(1), np.float32(0.5)).dtype == np.float32
    assert one(np.float32([1.0])).dtype == np.float32


def test_resolve_knows_callables_and_names() -> None:
    assert activations.resolve(np.tanh) == CallableActivation(np.tanh)
    assert activations.resolve("tanh") is NAMED["tanh"]
    assert activations.resolve("silu").name == "silu"
    assert activations.resolve("elu").degree is None


def test_errors() -> None:
    with pytest.raises(TypeError, match="callable"):
        CallableActivation(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="positive"):
        CallableActivation(np.tanh, tolerance=0.0)
    with pytest.raises(ValueError, match="finite values"):
        with np.errstate(all="ignore"):
            CallableActivation(np.log).dual(1.0, 1.0, 0.5)
