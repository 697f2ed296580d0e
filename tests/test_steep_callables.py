"""Functions that change within a small part of the deviation of their inputs."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from scipy.special import erf

import ntkfast as nf
from interrupting import assert_interrupted
from ntkfast.activations import CallableActivation


class Steep(NamedTuple):
    """A function of rate b, its derivative, the place where it changes."""

    function: Callable[[Any, float], Any]
    slope: Callable[[Any, float], Any]
    place: float = 0.0


def tanh_slope(x: Any, b: float) -> Any:
    return b / np.cosh(np.clip(b * x, -300, 300)) ** 2


CASES = {
    "tanh": Steep(lambda x, b: np.tanh(b * x), tanh_slope),
    "shifted": Steep(
        lambda x, b: np.tanh(b * (x - 1)), lambda x, b: tanh_slope(x - 1, b), place=1.0
    ),
    "raised": Steep(lambda x, b: 100 + np.tanh(b * x), tanh_slope),
    "bump": Steep(
        lambda x, b: np.exp(-((b * x) ** 2)), lambda x, b: -2 * b * b * x * np.exp(-((b * x) ** 2))
    ),
    "sin": Steep(lambda x, b: np.sin(b * x), lambda x, b: b * np.cos(b * x)),
}


def graded(center: Any, width: float) -> np.ndarray:
    """Edges of panels over [-9, 9] that halve towards centers, the shortest of half a width."""
    steps = width * 2.0 ** np.arange(-1, max(0, np.log2(20 / width)))
    steps = np.concatenate([-steps[::-1], [0.0], steps])
    around = np.asarray(center)[..., None] + steps
    uniform = np.broadcast_to(np.arange(-9.0, 10.0), (*around.shape[:-1], 19))
    return np.sort(np.clip(np.concatenate([around, uniform], axis=-1), -9, 9), axis=-1)


def rule(edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gauss-Legendre nodes and weights of the Gaussian density on panels."""
    points, weights = np.polynomial.legendre.leggauss(20)
    half = np.diff(edges, axis=-1)[..., None] / 2
    x = edges[..., :-1, None] + half + half * points
    shape = (*edges.shape[:-1], -1)
    density = half * weights * np.exp(-x * x / 2) / np.sqrt(2 * np.pi)
    return x.reshape(shape), density.reshape(shape)


def average(
    f: Callable[[Any], Any], width: float, place: float, theta: float, first: float, second: float
) -> float:
    """E[f(first a) f(second b)] of the formula: over a, and over b given a, in graded panels."""
    c, s = np.cos(theta), np.sin(theta)
    edges = [
        graded(place / first, width / first),
        graded(place / (second * c), max(s, width / second) / abs(c)),
    ]
    x, w = rule(np.unique(np.concatenate(edges)))
    given = np.empty_like(x)
    for i in range(0, x.size, 64):
        near = x[i : i + 64]
        z, density = rule(graded((place / second - c * near) / s, width / (second * s)))
        given[i : i + 64] = (f(second * (c * near[:, None] + s * z)) * density).sum(axis=-1)
    return float((f(first * x) * w) @ given)


def errors(name: str, b: float, first: float, second: float, theta: float) -> tuple[float, float]:
    """Return the true error of both normalised duals, the larger one, and the stated one."""
    steep = CASES[name]
    one = CallableActivation(lambda x: steep.function(x, b))
    q, p = np.array([first**2]), np.array([second**2])
    v, vc = (np.array([[part(theta / 2) ** 2]]) for part in (np.sin, np.cos))
    defect, slope, stated = one.pair_duals(q, p, v, vc)
    size, slopes = (
        float(np.sqrt(moment(q) * moment(p))[0])
        for moment in (one.variance, one.derivative_variance)
    )
    value, derivative = (
        average(lambda x, f=f: f(x, b), 1 / b, steep.place, theta, first, second)  # type: ignore
        for f in (steep.function, steep.slope)
    )
    true = abs((1 - defect[0, 0]) - value / size)
    of_slope = abs(slope[0, 0] - derivative) / max(slopes, size / (first * second))
    return max(true, of_slope), stated


PAIRS = [(1.0, 1.0), (1.0, 1.3), (0.7, 6.0), (0.01, 1.0), (2.0, 2.3)]
ANGLES = [1e-6, 1e-3, 0.02, 0.3, 1.2, 2.0, 3.0]


@pytest.mark.parametrize(
    ("name", "b", "pair", "theta"),
    [
        ("tanh", 300, (1.0, 1.3), 0.02),
        ("tanh", 10, (0.01, 1.0), 1e-6),
        ("sin", 3, (0.7, 6.0), 3.0),
        ("raised", 100, (2.0, 2.3), 0.3),
    ],
)
def test_stated_errors_are_no_smaller_than_true_ones(
    name: str, b: float, pair: tuple[float, float], theta: float
) -> None:
    """Against nested quadrature of the formulas, which shares neither mesh nor interpolant."""
    true, stated = errors(name, b, *pair, theta)
    assert true <= stated < 1e-11


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "b"),
    [("tanh", 1), ("tanh", 300), ("shifted", 100), ("raised", 1), ("bump", 100), ("sin", 3)],
)
def test_stated_errors_of_many_pairs(name: str, b: float) -> None:
    for k, (theta, pair) in enumerate(itertools.product(ANGLES, PAIRS)):
        if k % 3 == 0:
            true, stated = errors(name, b, *pair, theta)
            assert true <= stated < 1e-11, (pair, theta)


def test_oracle_against_closed_forms() -> None:
    """E[exp(-(b x)^2 - (b r y)^2)] of any variances and angle, and that of sines."""
    b, r, theta = 30.0, 1.3, 0.7
    found = average(lambda x: np.exp(-((b * x) ** 2)), 1 / b, 0.0, theta, 1.0, r)
    q, p, c = 2 * b * b, 2 * b * b * r * r, 2 * b * b * r * np.cos(theta)
    assert found == pytest.approx(((1 + q) * (1 + p) - c * c) ** -0.5, rel=1e-13)
    found = average(lambda x: np.sin(4 * x), 1 / 4, 0.0, theta, 1.0, r)
    c = 16 * r * np.cos(theta)
    assert found == pytest.approx(np.exp(-8 * (1 + r * r)) * np.sinh(c), abs=1e-15)


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
