"""Mercer spectra against 50-digit values, quadrature in mpmath, closed forms and the sum rule."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mpmath import mp, mpf

import cases
import ntkfast as nf
import oracle
from ntkfast import activations, spectrum
from ntkfast.kernels.rows import RowKernel
from ntkfast.spectrum.sphere.harmonics import log_multiplicities

DATA = Path(__file__).parent / "data" / "mercer.json"

# The promises of the documentation: relative errors of eigenvalues.
SHALLOW, DEEP = 1e-12, 1e-10


def check_record(record: dict, column: int) -> int:
    """Compare a record with the package and its error estimates; return the number of values."""
    exact = {row[0]: mpf(row[column]) for row in record["values"]}
    found = spectrum.mercer(
        cases.record_kernel(record["spec"]), record["d"], max(exact), radius=1.0
    )
    deep = record["spec"]["name"] == "resntk" or record["spec"].get("L", 1) > 10
    for k, value in exact.items():
        if value == 0:
            assert found.mass[k] == 0
            assert found.zeros[k]
            assert found.error[k] == 0
            continue
        error = abs(float(mpf(float(found.mass[k])) / value - 1))
        where = (record["label"], record["d"], k, error, found.error[k])
        assert error <= (DEEP if deep else SHALLOW), where
        # rounded parameters (alpha, c / sqrt 2) move a sharp kernel by more than the algorithm
        assert error <= found.error[k] + 1e-14, where
    return len(exact)


@pytest.fixture(autouse=True)
def digits() -> Any:
    """50 digits for everything compared here."""
    with mp.workdps(50):
        yield


@pytest.mark.slow
def test_committed_reference_values() -> None:
    """Dimensions 2 ... 1000, degrees to a million: ReLU with and without bias, ResNTK, Laplace."""
    records = json.loads(DATA.read_text())["records"]
    assert sum(check_record(record, 1) for record in records) > 300


def _reference_files() -> list[str]:
    directory = os.environ.get("NTKFAST_REFERENCE")
    return sorted(path.name for path in Path(directory).glob("eig_*.json")) if directory else []


@pytest.mark.parametrize("name", _reference_files() or ["eig_*.json"])
def test_reference_directory(name: str, reference_files: Path) -> None:
    """All values of the larger reference, where NTKFAST_REFERENCE names its directory."""
    text = (reference_files / name).read_text()
    assert sum(check_record(record, 2) for record in json.loads(text)["records"]) >= 12


# ---------------------------------------------------------------------- quadrature of the oracle


@cache
def harmonic(dim: int, degree: int, theta: mpf) -> mpf:
    """Zonal harmonic of an angle, one at zero."""
    u, lam = mp.cos(theta), mpf(dim - 2) / 2
    if dim == 2:
        return mp.chebyt(degree, u)
    return mp.gegenbauer(degree, lam, u) / mp.gegenbauer(degree, lam, 1)


def quadrature(profile: Callable[[mpf], mpf], dim: int, degree: int) -> mpf:
    """mu_k by mpmath: integral of k P_k over the sphere, from the oracle's profile."""

    def integrand(theta: mpf) -> mpf:
        value = profile(theta) * harmonic(dim, degree, theta)
        return value * mp.sin(theta) ** (dim - 2)

    points = [0, mp.pi / 4, mp.pi / 2, 3 * mp.pi / 4, mp.pi]
    weight = mp.beta(mpf(1) / 2, mpf(dim - 1) / 2)
    with mp.workdps(25):
        return mp.quad(integrand, points) / weight


FAMILIES = [
    "leaky3",
    "abs3",
    "step2-nngp",
    "sign2",
    "rectified-square2",
    "square2",
    "resnet5-all",
    "resnet5-last",
    "resnet5-nngp",
    "arccos0",
    "arccos2",
    "arccos3",
    "laplace-homogeneous",
    "exponential-power-sphere",
    "gaussian-sphere",
    "bias3",
    "leaky2-bias",
    "erf2",
    "gelu2",
    "sin2-nngp",
    "cos1",
    "hermite3",
    "exponential-power-euclidean",
    "gaussian-euclidean",
]
# Their oracles take longest, and are the composition of others.
LONG = ("leaky3", "abs3", "resnet5-last", "resnet5-nngp", "bias3", "leaky2-bias", "square2")


@pytest.mark.grid(1)
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (n in LONG)) for n in FAMILIES]
)
@pytest.mark.parametrize("dim", [3, 6])
def test_against_quadrature(name: str, dim: int) -> None:
    """Every family of kernels at low degrees, on a sphere of radius 1.25."""
    case, radius = cases.BY_NAME[name], 1.25
    found = spectrum.mercer(case.kernel, dim, 9, radius=radius)
    exact = case.oracle(dim)
    profile = cache(lambda theta: exact.profile(theta, radius))  # the nodes are those of all k
    for k in (0, 1, 4, 9):
        value = quadrature(profile, dim, k)
        error = float(abs(mpf(float(found.eigenvalues[k])) - value))
        assert error <= (1e-12 + found.error[k]) * abs(float(value)) + 1e-20, (k, error)


@pytest.mark.slow
def test_laplace_too_sharp_for_its_tail() -> None:
    """Eigenvalues of e^-1110 and below, whose masses underflow: they are no exact zeros."""
    s = spectrum.mercer(nf.Laplace(1000.0), 1000, 50, radius=1.0)
    density = mp.beta(mpf(1) / 2, mpf(999) / 2)
    for degree in (0, 7):

        def integrand(theta: mpf, degree: int = degree) -> mpf:
            p = mp.gegenbauer(degree, 499, mp.cos(theta)) / mp.gegenbauer(degree, 499, 1)
            return mp.exp(-2000 * mp.sin(theta / 2)) * p * mp.sin(theta) ** 998

        with mp.workdps(25):  # one narrow peak: many panels
            wanted = mp.log(mp.quad(integrand, mp.linspace(0, mp.pi, 161)) / density)
        assert s.log_eigenvalues[degree] == pytest.approx(float(wanted), rel=2e-15)
    assert not np.any(s.zeros)


def test_quadrature_fallback() -> None:
    """A kernel without closed form: errors stay below their estimate, and grow with the degree."""
    kernel = nf.FullyConnected(2, activation="tanh").ntk
    found = spectrum.mercer(kernel, 3, 40, radius=1.0)
    assert found.method == "quadrature"
    assert found.error[1] < 1e-11 < found.error[40]
    exact = oracle.fully_connected(2, oracle.relu)  # the same route on a kernel that is known
    relu = spectrum.mercer(OnlyProfile(nf.FullyConnected(2).ntk), 3, 9)
    for k in (0, 1, 4, 9):
        value = quadrature(cache(exact.profile), 3, k)
        assert abs(float(relu.eigenvalues[k] / value - 1)) <= relu.error[k]


def test_fallback_stops_where_it_must() -> None:
    """Degrees that quadrature does not reach are NaN with an infinite error, not noise."""
    found = spectrum.mercer(OnlyProfile(nf.FullyConnected(2).ntk), 2, 5000)
    assert np.isnan(found.mass[4096:]).all()
    assert np.isinf(found.error[4096:]).all()
    assert np.isfinite(found.mass[:4096]).all()


class OnlyProfile(RowKernel):
    """A kernel of which only the profile is known."""

    def __init__(self, kernel: Any = None) -> None:
        self.kernel = kernel

    is_zonal = True  # type: ignore[assignment]

    def profile(self, u: Any, radius: float = 1.0) -> Any:
        """Another kernel's, or P_0 - P_1 / 2 + P_2 / 4 for d = 3."""
        if self.kernel is not None:
            return self.kernel.profile(u, radius)
        u = np.asarray(u)
        return 1 - u / 2 + (3 * u * u - 1) / 8

    def diagonal_of(self, norms: Any, dim: int) -> Any:
        """Nobody asks for it here."""
        raise NotImplementedError

    def _map(self, X: Any, Y: Any) -> Any:
        raise NotImplementedError


def test_negative_eigenvalues_are_reported() -> None:
    found = spectrum.mercer(OnlyProfile(), 3, 6)
    np.testing.assert_allclose(found.mass[:3], [1, -0.5, 0.25], rtol=1e-12)
    np.testing.assert_array_equal(found.negative, [1])
    assert found.eigenvalues[1] == pytest.approx(-1 / 6)


# ------------------------------------------------------------------------------- closed forms


def test_circle_fourier_coefficients() -> None:
    """Arc-cosine kernels of order 0 and 1: integrate by parts."""
    k = np.arange(2001.0)
    step = np.where(k % 2 == 1, 2 / (np.pi * np.maximum(k, 1)) ** 2, 0)
    step[0] = 0.5
    found = spectrum.mercer(nf.ArcCosine(0), 2, 2000)
    np.testing.assert_allclose(found.eigenvalues, step, rtol=1e-13)
    ramp = np.where(k % 2 == 0, 4 / (np.pi * (k**2 - 1 + (k == 1))) ** 2, 0)
    ramp[1] = 0.25
    found = spectrum.mercer(nf.ArcCosine(1), 2, 2000)
    np.testing.assert_allclose(found.eigenvalues, ramp, rtol=1e-13)


def test_laplace_on_the_circle_near_zero_rate() -> None:
    """To first order in c, exp(-c r) is 1 - 2 c sin(theta/2): mu_k = 4 c / (pi (4 k^2 - 1))."""
    c = 1e-9
    found = spectrum.mercer(nf.Laplace(c), 2, 50, radius=1.0)
    k = np.arange(1, 51)
    np.testing.assert_allclose(found.eigenvalues[1:], 4 * c / (np.pi * (4 * k**2 - 1)), rtol=1e-7)


def test_gaussian_is_a_bessel_function() -> None:
    """On S^2, exp(x (u - 1)) has mu_k = e^-x sqrt(pi / 2x) I_{k+1/2}(x), for tiny ones as well."""
    x = 3.0
    found = spectrum.mercer(nf.Gaussian(x / 2), 3, 400, radius=1.0)
    for k in (0, 1, 7, 60, 400):
        exact = mp.log(mp.sqrt(mp.pi / (2 * x)) * mp.besseli(k + mpf(1) / 2, x)) - x
        assert abs(found.log_eigenvalues[k] - float(exact)) <= found.error[k] + 1e-13
    assert found.eigenvalues[400] == 0.0  # underflows; its logarithm does not
    assert math.isinf(found.decay.exponent)


def test_linear_kernel() -> None:
    found = spectrum.mercer(nf.FullyConnected(0).ntk, 5, 4)
    np.testing.assert_allclose(found.eigenvalues, [0, 0.2, 0, 0, 0], rtol=1e-14)
    np.testing.assert_array_equal(found.zeros, [True, False, True, True, True])


@pytest.mark.parametrize("dim", [2, 3, 4, 32, 1000])
def test_multiplicities(dim: int) -> None:
    degrees = np.array([0, 1, 2, 3, 10, 100, 5000])
    exact = [spectrum.multiplicity(dim, int(k)) for k in degrees]
    logs = np.array([float(mp.log(n)) for n in exact])
    np.testing.assert_allclose(
        np.asarray(log_multiplicities(dim, degrees), float), logs, rtol=1e-15, atol=4e-16
    )
    assert exact[:3] == [1, dim, dim * (dim + 1) // 2 - 1]


# ------------------------------------------------------------------------- structure and decay

NETWORKS = [
    nf.FullyConnected(1).ntk,
    nf.FullyConnected(4).ntk,
    nf.FullyConnected(4).nngp,
    nf.FullyConnected(3, activation="leaky_relu(0.3)").ntk,
    nf.ResNet(6, alpha=0.2).ntk,
    nf.ArcCosine(0),
    nf.ArcCosine(2),
    nf.Laplace(3.0, inputs="sphere"),
    nf.ExponentialPower(1.5, 2.0, inputs="sphere"),
]


@pytest.mark.grid(1)
@pytest.mark.parametrize("kernel", NETWORKS, ids=repr)
@pytest.mark.parametrize("dim", [2, 3, 100, 1000])
def test_sum_rule(kernel: Any, dim: int) -> None:
    """The masses add up to k(1), the tail in closed form."""
    found = spectrum.mercer(kernel, dim, 500)
    assert "quadrature" not in found.method
    assert abs(found.sum_rule_residual) <= (1e-13 if dim < 1000 else 5e-13)
    assert found.trace == pytest.approx(float(kernel.profile(1.0)), rel=1e-14)
    # what the closed tail stands for is really there
    assert found.mass.sum() < found.trace * (1 + 1e-13)


@pytest.mark.parametrize("dim", [2, 3, 7])
def test_parity(dim: int) -> None:
    """Odd degrees from 3 on vanish for two-layer networks without bias, and only there."""
    zeros = spectrum.mercer(nf.FullyConnected(1).ntk, dim, 200).zeros
    expected = np.arange(201) % 2 == 1
    expected[1] = False
    np.testing.assert_array_equal(zeros, expected)
    assert not spectrum.mercer(nf.FullyConnected(2).ntk, dim, 200).zeros.any()
    assert not spectrum.mercer(nf.FullyConnected(1, bias=0.1).ntk, dim, 200, radius=1.0).zeros.any()
    even = spectrum.mercer(nf.FullyConnected(2, activation="abs").ntk, dim, 200)
    np.testing.assert_array_equal(even.zeros, np.arange(201) % 2 == 1)
    assert even.method.startswith("contour")


@pytest.mark.parametrize("dim", [2, 3, 10, 100])
@pytest.mark.parametrize("depth", [2, 5])
def test_decay_constants(dim: int, depth: int) -> None:
    """The leading constants of Bietti and Bach's expansion for FC-NTK, from kappa_0 alone."""
    u, product = -1.0, 1.0
    for _ in range(depth - 1):
        u = float(nf.ArcCosine(1).profile(u))
        product *= float(nf.ArcCosine(0).profile(u))
    right, left = -depth * (depth + 1) / (2 * np.pi), -product / np.pi
    found = spectrum.mercer(nf.FullyConnected(depth).ntk, dim, 2000)
    scale = (dim - 2) * math.log(2) + 2 * math.lgamma(dim / 2) - math.log(np.pi)
    for branch, sign in ((found.decay.even, 1), (found.decay.odd, -1)):
        assert branch is not None
        assert branch.exponent == dim
        assert branch.sign == 1
        constant = scale + math.log(-(right + sign * left))
        assert branch.log_constant == pytest.approx(constant, rel=1e-13, abs=1e-12)
    assert found.decay.exponent == dim
    assert found.decay.fitted == pytest.approx(dim, abs=1e-3 if dim <= 10 else 0.1)
    lam, even = (dim - 2) / 2, found.decay.even
    limit = even.log_constant - dim * math.log(2000 + lam)  # type: ignore[union-attr]
    assert found.log_eigenvalues[2000] == pytest.approx(limit, abs=(dim + depth**2) ** 3 / 2000**2)


@pytest.mark.parametrize(
    ("kernel", "exponent"),
    [
        (nf.FullyConnected(3).nngp, 5.0),
        (nf.ResNet(5, alpha=0.3).ntk, 3.0),
        (nf.ArcCosine(2), 7.0),
        (nf.FullyConnected(2, activation="step").nngp, 2.5),
        (nf.ExponentialPower(0.5, inputs="sphere"), 2.5),
        (nf.Gaussian(inputs="sphere"), math.inf),
    ],
    ids=repr,
)
def test_decay_exponents(kernel: Any, exponent: float) -> None:
    found = spectrum.mercer(kernel, 3, 20000)
    assert found.decay.exponent == exponent
    if math.isfinite(exponent):
        assert found.decay.fitted == pytest.approx(exponent, abs=2e-2)


def test_gram_eigenvalues_converge() -> None:
    """Eigenvalues of K(X, X) / n for uniform points come in groups of N(d, k) around mu_k."""
    n, dim = 1500, 3
    X = np.random.default_rng(0).standard_normal((n, dim))
    X /= np.linalg.norm(X, axis=1)[:, None]
    kernel = nf.FullyConnected(2).ntk
    values = np.linalg.eigvalsh(kernel(X))[::-1] / n
    found = spectrum.mercer(kernel, dim, 3)
    groups = [np.mean(values[k * k : (k + 1) ** 2]) for k in range(4)]
    np.testing.assert_allclose(groups, found.eigenvalues, rtol=0.05)


@pytest.mark.parametrize("dim", [2, 3, 50])
def test_reconstruction(dim: int) -> None:
    kernel, u = nf.FullyConnected(2).ntk, np.linspace(-1, 1, 41)
    found = spectrum.mercer(kernel, dim, 300)
    values, bound = spectrum.reconstruct(found, u)
    error = np.abs(values - kernel.profile(u))
    assert np.all(error <= bound)
    assert np.max(error) > 1e-3 * bound[0]  # the bound is not idle: it is attained at u = 1


@pytest.mark.parametrize("dim", [2, 3, 10])
def test_zonal_harmonics(dim: int) -> None:
    u = np.array([-1.0, -0.3, 0.0, 0.7, 1 - 1e-9, 1.0])
    found = spectrum.zonal_harmonics(dim, 400, u)
    exact = [[mpf(1)] * len(u), [mpf(x) for x in u]]
    for k in range(1, 400):
        step = [
            ((2 * k + dim - 2) * mpf(x) * p - k * q) / (k + dim - 2)
            for x, p, q in zip(u, exact[-1], exact[-2], strict=True)
        ]
        exact.append(step)
    assert np.max(np.abs(oracle.error(found, np.array(exact)))) < 1e-13


def test_parameterization_and_radius() -> None:
    """A kernel of degree p grows like radius^(2p); with 1/d in the first layer like 1/d^p."""
    unit = spectrum.mercer(nf.FullyConnected(2).ntk, 4, 30)
    np.testing.assert_allclose(
        spectrum.mercer(nf.FullyConnected(2).ntk, 4, 30, radius=3.0).mass, 9 * unit.mass, rtol=1e-14
    )
    scaled = nf.FullyConnected(2, parameterization="ntk").ntk
    np.testing.assert_allclose(
        4 * spectrum.mercer(scaled, 4, 30).mass,
        spectrum.mercer(scaled, 4, 30, radius=2.0).mass,
        rtol=1e-14,
    )
    top = scaled.diag(np.eye(4))[0]
    assert spectrum.mercer(scaled, 4, 30).trace == pytest.approx(top, rel=1e-14)


def test_composed_network() -> None:
    """A network written by hand has the spectrum of the same network by name."""
    by_hand = nf.compose(
        nf.Dense(), "relu", nf.Dense(2**0.5), "relu", nf.Dense(), parameterization="unit"
    )
    relu = nf.FullyConnected(2).nngp
    a, b = (spectrum.mercer(kernel, 5, 300).eigenvalues for kernel in (by_hand.nngp, relu))
    np.testing.assert_allclose(a / a[0], b / b[0], rtol=1e-13)


def test_inner_singularities() -> None:
    """Biases move the kink of a later layer inside: the end-point series alone would miss it."""
    branch = nf.Residual("relu", nf.Dense(0.5, 0.2))
    network = nf.compose(nf.Dense(1.2, 0.3), "relu", nf.Dense(), branch, "abs", nf.Dense(1.0, 0.1))
    found = spectrum.mercer(network.ntk, 4, 200, radius=2.0)
    assert abs(found.sum_rule_residual) < 1e-14
    slow = spectrum.mercer(OnlyProfile(AtRadius(network.ntk, 2.0 / 4**0.5)), 4, 60)
    np.testing.assert_allclose(slow.mass, found.mass[:61], rtol=1e-9)


class AtRadius:
    """A profile on a sphere of its own radius."""

    def __init__(self, kernel: Any, radius: float) -> None:
        self.kernel, self.radius = kernel, radius

    def profile(self, u: Any, radius: float) -> Any:
        """Ignore the radius asked for."""
        return self.kernel.profile(u, self.radius)


@pytest.mark.parametrize("c", [0.01, 1.0, 1000.0])
def test_gaussian_sum_rule(c: float) -> None:
    found = spectrum.mercer(nf.Gaussian(c), 3, 600, radius=1.0)
    assert abs(found.sum_rule_residual) <= max(found.error[0], 1e-14)


# ---------------------------------------------------------------------------------- same RKHS


def test_same_rkhs() -> None:
    """ResNTK, FC-NTK and Laplace have one RKHS on the sphere; two layers without bias do not."""
    laplace = nf.Laplace(1.0, inputs="sphere")
    for kernel in (nf.FullyConnected(3).ntk, nf.ResNet(5, alpha=0.3).ntk):
        found = spectrum.same_rkhs(kernel, laplace, 3, 1000)
        assert found.verdict is True
        assert 0 < found.lower <= found.upper < math.inf
        assert found.ratio[1000] == pytest.approx(found.even_limit, rel=1e-4)
        assert found.ratio[999] == pytest.approx(found.odd_limit, rel=1e-4)
        assert found.lower <= np.min(found.ratio) <= np.max(found.ratio) <= found.upper
    shallow = spectrum.same_rkhs(nf.FullyConnected(1).ntk, laplace, 3, 100)
    assert shallow.verdict is False
    assert "degree 3" in shallow.reason
    smoother = spectrum.same_rkhs(nf.FullyConnected(3).nngp, laplace, 3, 100)
    assert smoother.verdict is False
    assert "k^-5 and k^-3" in smoother.reason
    assert smoother.lower == 0
    gaussian = nf.Gaussian(1.0, inputs="sphere")
    assert spectrum.same_rkhs(gaussian, laplace, 3, 100).verdict is False
    assert spectrum.same_rkhs(gaussian, nf.Gaussian(2.0, inputs="sphere"), 3, 30).verdict is None


# ----------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((nf.FullyConnected(2, bias=1.0).ntk, 3, 5), ValueError, r"kernel: .*radius=1\.0"),
        ((nf.Laplace(1.0), 3, 5), ValueError, "kernel: expected a zonal kernel"),
        ((nf.FullyConnected(2), 3, 5), TypeError, r"kernel: .*\.ntk and \.nngp"),
        ((np.eye(3), 3, 5), TypeError, "kernel: expected a Kernel, got ndarray"),
        ((nf.ArcCosine(1), 1, 5), ValueError, "dim: expected an integer >= 2, got 1"),
        ((nf.ArcCosine(1), 3.0, 5), TypeError, "dim: expected an integer, got float"),
        ((nf.ArcCosine(1), 3, -1), ValueError, "max_degree: expected an integer >= 0, got -1"),
        ((nf.ArcCosine(1), 3, "10"), TypeError, "max_degree: expected an integer, got str"),
    ],
)
def test_bad_input(arguments: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        spectrum.mercer(*arguments)


def test_bad_radius() -> None:
    with pytest.raises(ValueError, match="radius: expected a finite number > 0"):
        spectrum.mercer(nf.Laplace(1.0), 3, 5, radius=0.0)


def test_result_is_complete() -> None:
    found = spectrum.mercer(nf.FullyConnected(2, activation=activations.leaky_relu(0.1)).ntk, 3, 0)
    assert found.mass.shape == found.error.shape == found.log_mass.shape == (1,)
    assert found.max_degree == 0
    assert found.degrees.tolist() == [0]
    assert found.multiplicity(7) == 15
    assert "dim=3" in repr(found)
    assert math.isnan(found.decay.fitted)
