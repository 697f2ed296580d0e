"""Shape and smoothness of kernels: slopes, depth limits, interpolants on the circle."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import ntkfast as nf
from ntkfast import spectrum

ANGLES = np.pi * np.array([0.25, 0.5, 0.75, 1.0])


def difference_quotient(kernel: Any) -> float:
    """(1 - k) / |x - x'| in the limit, by extrapolation of values."""
    distance = 2.0 ** -np.arange(9, 12)
    u = 1 - distance**2 / 2
    one, two, three = (1 - kernel.profile(u) / kernel.profile(1.0)) / distance
    first, second = 2 * two - one, 2 * three - two
    return float((4 * second - first) / 3)


@pytest.mark.parametrize("depth", [1, 2, 5, 20])
def test_fully_connected_rate(depth: int) -> None:
    kernel = nf.FullyConnected(depth).ntk
    rate = spectrum.shape(kernel).rate
    assert rate == pytest.approx(spectrum.fully_connected_rate(depth), rel=1e-14)
    assert rate == pytest.approx(difference_quotient(kernel), rel=1e-5 * depth**2)


@pytest.mark.parametrize("trained", ["residual", "all"])
@pytest.mark.parametrize(("depth", "alpha"), [(1, 0.7), (5, 0.1), (10, 1.0), (60, 0.4)])
def test_residual_rate(depth: int, alpha: float, trained: str) -> None:
    kernel = nf.ResNet(depth, alpha=alpha, trained=trained).ntk
    closed = spectrum.residual_rate(depth, alpha, trained=trained)
    assert spectrum.shape(kernel).rate == pytest.approx(closed, rel=1e-13)
    assert difference_quotient(kernel) == pytest.approx(closed, rel=1e-3)


@pytest.mark.parametrize(("gamma", "limit"), [(1.0, 0.5), (0.5, 1.0), (0.25, math.inf)])
def test_dichotomy_of_the_rate(gamma: float, limit: float) -> None:
    """With alpha = L^-gamma: 1/(2 pi) for gamma > 1/2, 1/pi at 1/2, growing with L below."""
    L = 10**8
    rate = spectrum.residual_rate(L, float(L) ** -gamma) * math.pi
    if math.isinf(limit):
        assert rate == pytest.approx(0.5 * L**0.5, rel=1e-3)
    else:
        assert rate == pytest.approx(limit, rel=1e-3)


# L, alpha and r_L at pi/4, pi/2, 3 pi/4 and pi: golden numbers of an independent computation.
TABLE = [
    (1, 1.0, (0.6429, 0.1592, -0.0642, 0.0)),
    (10, 1.0, (0.4847, 0.2672, 0.1937, 0.1786)),
    (100, 1.0, (0.3002, 0.2745, 0.2683, 0.2670)),
    *(
        pytest.param(1000, alpha, golden, marks=pytest.mark.slow)
        for alpha, golden in (
            (1.0, (0.2564, 0.2539, 0.2533, 0.2532)),
            (1000**-0.25, (0.3185, 0.2730, 0.2607, 0.2578)),
            (1000**-0.5, (0.5917, 0.1928, 0.0094, -0.0219)),
            (1000**-1.0, (0.6428, 0.1592, -0.0642, -0.0047)),
        )
    ),
]


@pytest.mark.parametrize(("depth", "alpha", "golden"), TABLE)
def test_shape_table(depth: int, alpha: float, golden: tuple[float, ...]) -> None:
    found = spectrum.shape(nf.ResNet(depth, alpha=alpha).ntk)
    assert found.angles == pytest.approx(ANGLES)
    assert found.values == pytest.approx(golden, abs=6e-5)


@pytest.mark.slow
def test_residual_limits() -> None:
    """Limits in the depth, against networks so deep that they are close."""
    u = np.cos(ANGLES)
    for gamma, depth, allowed in ((1.0, 2000, 6e-3), (0.5, 2000, 1e-4), (0.5, 8000, 2e-5)):
        deep = nf.ResNet(depth, alpha=depth**-gamma, normalize=True).ntk.profile(u)
        np.testing.assert_allclose(spectrum.residual_limit(gamma, u), deep, atol=allowed)
    np.testing.assert_array_equal(spectrum.residual_limit(0.25, [1.0, 0.9, -1.0]), [1, 0.25, 0.25])
    assert spectrum.residual_limit(0.5, 1.0) == pytest.approx(1.0, abs=1e-11)
    deep = nf.FullyConnected(4000).ntk
    assert np.max(np.abs(deep.profile(u) / deep.profile(1.0) - 0.25)) < 2e-3


def test_width() -> None:
    """The angle at half height solves k(theta) = (k(0) + min k) / 2."""
    kernel = nf.Laplace(2.0, inputs="sphere")
    level = (1 + math.exp(-4)) / 2
    assert spectrum.shape(kernel).width == pytest.approx(2 * math.asin(-math.log(level) / 4))
    widths = [spectrum.shape(nf.FullyConnected(depth).ntk).width for depth in (1, 3, 10, 30, 100)]
    assert widths == sorted(widths, reverse=True)


def test_rates_of_other_kernels() -> None:
    assert spectrum.shape(nf.Laplace(3.0), radius=2.0).rate == pytest.approx(6.0, rel=1e-14)
    assert spectrum.shape(nf.Gaussian(3.0, inputs="sphere")).rate == 0.0
    assert spectrum.shape(nf.ExponentialPower(0.5, inputs="sphere")).rate == math.inf
    smooth = nf.FullyConnected(2, activation="tanh").ntk
    assert spectrum.shape(smooth, radius=1.0).rate < 1e-5
    with pytest.raises(ValueError, match="kernel: expected a zonal kernel"):
        spectrum.shape(smooth)


# ------------------------------------------------------------------------------- Tirer et al.


def residual(alpha: float) -> Any:
    """Residual network of the experiment: five blocks, unit weights, inputs over sqrt(d)."""
    options = {"parameterization": "ntk", "w_std": 1.0, "v_std": 1.0}
    return nf.ResNet(5, alpha=alpha, trained="all", **options).ntk


def test_residual_kernels_are_smoother() -> None:
    """Slope and high-frequency energy grow with alpha and stay below those of the plain network."""
    kernels = [residual(alpha) for alpha in (0.05, 0.1, 0.3, 0.5, 1.0)]
    kernels.append(nf.FullyConnected(5).ntk)
    slopes = [spectrum.shape(kernel).rate for kernel in kernels]
    energies = [spectrum.high_frequency_energy(kernel) for kernel in kernels]
    assert slopes == sorted(slopes)
    assert energies == sorted(energies)
    half = 0.1 * 2**-0.5  # alpha^2 sigma_w^2 sigma_v^2 / 2 in the unit parameterization
    assert slopes[1] == pytest.approx(spectrum.residual_rate(5, half, trained="all"), rel=1e-12)
    assert energies[1] == pytest.approx(7e-7, rel=0.1)
    assert energies[2] == pytest.approx(4e-5, rel=0.1)


def test_high_frequency_energy_is_a_fourier_share() -> None:
    kernel = nf.FullyConnected(3).ntk
    theta = 2 * np.pi * np.arange(1 << 17) / (1 << 17)
    coefficients = np.abs(np.fft.fft(kernel.profile(np.cos(theta)))) ** 2
    frequency = np.abs(np.fft.fftfreq(len(theta), 1 / len(theta)))
    share = coefficients[frequency >= 6].sum() / coefficients.sum()
    assert spectrum.high_frequency_energy(kernel, 6) == pytest.approx(share, rel=1e-6)


@pytest.mark.parametrize(("count", "golden"), [(5, 4.46), (8, 2.00), (12, 47.2)])
def test_interpolant_of_the_experiment(count: int, golden: float) -> None:
    """Variation of the derivative for alpha = 0.1; data 0.5 cos x + sin 4x."""
    angles = np.linspace(-np.pi, np.pi, count, endpoint=False)
    targets = 0.5 * np.cos(angles) + np.sin(4 * angles)
    found = spectrum.interpolate_on_circle(residual(0.1), angles, targets)
    assert found.variation == pytest.approx(golden, rel=5e-3)
    at_data = np.interp(angles[1:], found.angles, found.values)
    np.testing.assert_allclose(at_data, targets[1:], atol=2e-2)


def test_plain_interpolant_is_rougher() -> None:
    angles = np.linspace(-np.pi, np.pi, 5, endpoint=False)
    targets = 0.5 * np.cos(angles) + np.sin(4 * angles)
    plain = spectrum.interpolate_on_circle(nf.FullyConnected(5).ntk, angles, targets).variation
    assert plain > 2 * spectrum.interpolate_on_circle(residual(0.1), angles, targets).variation


def test_bad_interpolation_input() -> None:
    kernel = nf.FullyConnected(2).ntk
    with pytest.raises(ValueError, match=r"y: .*\(3,\), got \(2,\)"):
        spectrum.interpolate_on_circle(kernel, [0.0, 1.0, 2.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="angles: expected finite numbers"):
        spectrum.interpolate_on_circle(kernel, [[0.0]], [1.0])
    with pytest.raises(TypeError, match="kernel: expected a Kernel"):
        spectrum.interpolate_on_circle(lambda u: u, [0.0], [1.0])
    with pytest.raises(ValueError, match="frequency: expected an integer >= 1"):
        spectrum.high_frequency_energy(kernel, 0)
