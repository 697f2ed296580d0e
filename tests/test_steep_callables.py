"""Functions that change within a small part of the deviation of their inputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from mpmath import mp, mpf
from scipy.special import erf

import ntkfast as nf
from interrupting import assert_interrupted
from ntkfast.activations import CallableActivation

CASES: dict[str, tuple[Callable[..., Any], Callable[..., Any], Callable[..., Any], float]] = {
    "tanh": (
        lambda x, b: np.tanh(b * x),
        lambda x, b: mp.tanh(b * x),
        lambda x, b: b * mp.sech(b * x) ** 2,
        0.0,
    ),
    "shifted": (
        lambda x, b: np.tanh(b * (x - 1)),
        lambda x, b: mp.tanh(b * (x - 1)),
        lambda x, b: b * mp.sech(b * (x - 1)) ** 2,
        1.0,
    ),
    "bump": (
        lambda x, b: np.exp(-((b * x) ** 2)),
        lambda x, b: mp.exp(-((b * x) ** 2)),
        lambda x, b: -2 * b * b * x * mp.exp(-((b * x) ** 2)),
        0.0,
    ),
}


def average(
    f: Callable[[mpf], mpf], b: int, place: float, theta: float, ratio: float = 1.0
) -> float:
    """E[f(x) f(ratio y)] by nested quadrature over x, and over y given x, graded to the place."""
    c, s = mp.cos(theta), mp.sin(theta)

    def edges(center: mpf, scale: mpf) -> list[mpf]:
        steps = [mpf(3) ** k / scale for k in range(-1, 14)]
        found = [center - h for h in steps] + [center] + [center + h for h in steps]
        found += [mpf(k) for k in range(-7, 9, 2)]  # the density wants short panels too
        return [mpf(-9), *sorted({x for x in found if -9 < x < 9}), mpf(9)]

    def rule(ends: list[mpf]) -> tuple[np.ndarray, np.ndarray]:
        nodes, weights = np.polynomial.legendre.leggauss(16)
        e = np.array([float(x) for x in ends])
        half = np.diff(e)[:, None] / 2
        return (e[:-1, None] + half + half * nodes).ravel(), (half * weights).ravel()

    def conditional(x: float) -> float:
        z, w = rule(edges((place / ratio - c * x) / s, b * s * ratio))
        values = np.array([float(f(ratio * (c * x + s * mpf(t)))) for t in z])
        return float(values @ (w * np.exp(-z * z / 2))) / np.sqrt(2 * np.pi)

    x, w = rule(sorted({*edges(mpf(place), mpf(b)), *edges(place / ratio / c, 1 / s)}))
    outside = np.array([float(f(mpf(t))) for t in x]) * w * np.exp(-x * x / 2)
    big = np.flatnonzero(np.abs(outside) > 1e-18 * np.abs(outside).max())
    return sum(outside[k] * conditional(float(x[k])) for k in big) / float(np.sqrt(2 * np.pi))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "theta"),
    [*zip(CASES, (0.003, 0.3, 2.0), strict=True)],  # the oracle takes long
)
def test_duals_against_nested_quadrature(name: str, theta: float) -> None:
    ours, exact, slope, place = CASES[name]
    b = 100
    one = CallableActivation(lambda x: ours(x, b))
    v = np.sin(theta / 2) ** 2
    defect, steep, _ = one.on_sphere(1.0, np.array([v]), np.array([1 - v]))
    top = float(one.variance(1.0))
    found = (1 - defect[0]) * top, steep[0] * top
    sizes = top, float(one.derivative_variance(1.0))
    with mp.workdps(17):
        for value, size, f in zip(found, sizes, (exact, slope), strict=True):
            want = average(lambda x, f=f: f(x, b), b, place, theta)  # type: ignore[misc]
            assert abs(value - want) < 1e-11 * size


@pytest.mark.slow
def test_many_angles_are_those_of_one() -> None:
    """A table and single averages agree on both sides of a boundary layer of width 1/300."""
    one = CallableActivation(lambda x: np.tanh(300 * x))
    v = np.sin(np.geomspace(1e-6, np.pi / 2, 60) / 2) ** 2
    v = np.concatenate([v, 1 - v])
    few = np.arange(0, v.size, 13)
    many = np.array(one.on_sphere(1.0, v, 1 - v))[:, few]
    single = np.array(one.on_sphere(1.0, v[few], 1 - v[few]))
    scale = np.maximum(np.abs(single), [[0.0], [160.0], [0.0]])
    assert np.max(np.abs(many - single) / scale) < 1e-11


def test_narrow_bump_is_seen() -> None:
    """E[exp(-2 (b x)^2)] = 1 / sqrt(1 + 4 b^2)."""
    for b in (30.0, 1e3, 1e4):
        one = CallableActivation(lambda x, b=b: np.exp(-((b * x) ** 2)))
        assert float(one.variance(1.0)) == pytest.approx((1 + 4 * b * b) ** -0.5, rel=1e-12)


@pytest.mark.slow
def test_bumps_kernel_has_a_closed_form() -> None:
    """E[exp(-(b x)^2 - (b y)^2)] = 1 / sqrt((1 + 2 b^2)^2 - (2 b^2 c)^2), to rounding of 1 - c."""
    b = 1000.0
    angle = np.array([0.0, 1e-4, 0.01, 0.5, 1.5, 3.0])
    rows = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    net = nf.FullyConnected(
        1, activation=lambda x: np.exp(-((b * x) ** 2)), parameterization="ntk", w_std=2**0.5
    )
    found = net.nngp(rows)
    ratio = found / found[0, 0]
    q = 2 * b * b  # inputs have the variance w_std^2 / 2 = 1
    cosine_defect = 2 * np.sin((angle[:, None] - angle) / 2) ** 2
    inverse = (1 + 2 * q) + q * q * cosine_defect * (2 - cosine_defect)
    np.testing.assert_allclose(ratio, np.sqrt((1 + 2 * q) / inverse), rtol=1e-8, atol=1e-14)


@pytest.mark.slow
def test_steep_functions_have_kernels() -> None:
    rows = np.random.default_rng(0).normal(size=(6, 3))
    rows /= np.linalg.norm(rows, axis=1)[:, None]
    net = nf.FullyConnected(1, activation=lambda x: np.tanh(300 * x))
    k = net.ntk(rows)
    np.testing.assert_array_equal(k, k.T)
    assert np.linalg.eigvalsh(k).min() > 0
    np.testing.assert_allclose(np.diag(k), net.ntk.diag(rows), rtol=1e-12)


def test_what_would_take_minutes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ntkfast.activations.quadrature.MOST_EVALUATIONS", 1e3)
    one = CallableActivation(lambda x: np.tanh(301 * x), name="steep")
    with pytest.raises(ValueError, match=r"steep takes .* pass what it resembles"):
        one.on_sphere(1.0, np.array([0.3]), np.array([0.7]))


STEEP: dict[str, tuple[Callable[..., Any], Any]] = {
    "sin": (lambda x: np.sin(40 * x), "sine(1, 40, 0)"),
    "bell": (lambda x: np.exp(-((100 * x) ** 2)), "gaussian(1, -10000)"),
    "cdf": (lambda x: 3 * erf(200 * x), "erf(3, 200, 0)"),
}


@pytest.mark.parametrize("name", STEEP)
def test_unequal_norms_have_closed_forms(name: str) -> None:
    """Parallel, opposite, close and other rows, of which none has the norm of another one."""
    function, closed = STEEP[name]
    x = np.array([[1.0, 0.2], [-1.7, 0.6], [1.3, 0.26]])
    kernels = [
        nf.FullyConnected(1, activation=one, parameterization="ntk", w_std=1.0)
        for one in (function, closed)
    ]
    for kind in ("ntk", "nngp"):
        found, wanted = (getattr(kernel, kind)(x) for kernel in kernels)
        size = np.sqrt(np.outer(np.diag(wanted), np.diag(wanted)))
        np.testing.assert_allclose(found / size, wanted / size, rtol=0, atol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["shifted"])
def test_unequal_norms_against_nested_quadrature(name: str) -> None:
    """s(r a) of a unit Gaussian is the function with another rate and place."""
    ours, exact, slope, _ = CASES[name]
    one, theta = CallableActivation(lambda x: ours(x, 100)), 0.3
    v, ratio = np.array([[np.sin(theta / 2) ** 2]]), 1.5
    defect, steep, _ = one.pair_duals(np.array([1.0]), np.array([ratio**2]), v, 1 - v)
    variances = (
        one.variance(np.array([1.0, ratio**2])),
        one.derivative_variance(np.array([1.0, ratio**2])),
    )
    sizes = [float(np.sqrt(np.prod(two))) for two in variances]
    place = 0.0 if name == "tanh" else 1.0
    with mp.workdps(17):
        for value, size, f in zip(
            ((1 - defect[0, 0]) * sizes[0], steep[0, 0]), sizes, (exact, slope), strict=True
        ):
            want = average(lambda x, f=f: f(x, 100), 100, place, theta, ratio)  # type: ignore[misc]
            assert abs(value - want) < 1e-11 * size


def test_pairs_that_would_take_minutes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ntkfast.activations.pair_tables.MOST_EVALUATIONS", 1e5)
    with pytest.raises(ValueError, match=r"values, found that steep takes .*; pass what it res"):
        nf.FullyConnected(
            1, activation=CallableActivation(lambda x: np.tanh(302 * x), name="steep")
        ).ntk(np.array([[1.0], [2.0], [-3.0]]))


@pytest.mark.slow
def test_control_c_ends_averages() -> None:
    assert_interrupted(
        """
        import numpy as np, ntkfast as nf
        x = np.random.default_rng(0).normal(size=(60, 3))
        kernel = nf.FullyConnected(1, activation=lambda x: np.tanh(300 * x)).ntk
        print("ready", flush=True)
        try:
            kernel(x)
        except KeyboardInterrupt:
            print("interrupted", kernel(x[:2]).shape == (2, 2))
        """
    )
