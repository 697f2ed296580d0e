"""The oracle itself: published golden numbers, direct integration of every dual, shared values."""

from __future__ import annotations

import json
from pathlib import Path

import mpmath
import numpy as np
import pytest
import scipy.special
from mpmath import mp, mpf

import make_reference
import oracle

UNIT_HALF = ([1.0, 0.0], [0.5, float(np.sqrt(0.75))])


def at_cosine(kernel: oracle.Kernel, u: str) -> float:
    with mp.workdps(oracle.DIGITS):
        return float(kernel.profile(mp.acos(mpf(u))))


@pytest.mark.parametrize(
    ("u", "bias", "depth", "expected"),
    [
        ("0.5", 0, 1, 0.94233111437756),
        ("0.5", 0, 2, 1.3514795611235),
        ("0.5", 0, 3, 1.7378446792153),
        ("0.5", 0, 10, 4.1083515264227),
        ("-0.3", 0, 1, 0.061840289041691),
        ("-0.3", 0, 2, 0.44954970510074),
        ("-0.3", 0, 10, 3.310192049579),
        ("0.5", 1, 1, 2.6089977810442),
        ("0.5", 1, 3, 4.3509622019841),
        ("-0.3", 1, 2, 2.2331298949445),
    ],
)
def test_fully_connected_golden(u: str, bias: float, depth: int, expected: float) -> None:
    assert at_cosine(oracle.fully_connected(depth, bias=bias), u) == pytest.approx(
        expected, rel=3e-14
    )


@pytest.mark.parametrize(
    ("alpha", "depth", "residual", "everything"),
    [
        (0.5, 1, 0.23558277859439, 1.4711655571888),
        (0.5, 3, 1.072731323881, 2.9668957279826),
        (0.5, 10, 15.745684736643, 24.44933794441),
        (1.0, 1, 0.94233111437756, 2.8846622287551),
        (1.0, 10, 3967.6424370525, 4909.5457814518),
    ],
)
def test_resnet_golden(alpha: float, depth: int, residual: float, everything: float) -> None:
    assert at_cosine(oracle.resnet(depth, alpha), "0.5") == pytest.approx(residual, rel=3e-13)
    whole = oracle.resnet(depth, alpha, trained="all")
    assert at_cosine(whole, "0.5") == pytest.approx(everything, rel=3e-13)


@pytest.mark.parametrize("trained", ["residual", "last", "all"])
def test_normalised_resnet_is_one_at_one(trained: str) -> None:
    kernel = oracle.resnet(7, 0.6, trained=trained, normalize=True)
    assert abs(kernel.profile(0) - 1) < mpf(10) ** -90


def test_one_block_resnet_is_the_two_layer_network() -> None:
    """r_1 = (u kappa0 + kappa1)/2 for any alpha."""
    plain = oracle.fully_connected(1)
    for alpha in (0.1, 1.0, 3.0):
        one_block = oracle.resnet(1, alpha, normalize=True)
        for theta in (0.01, 1.0, 3.0):
            with mp.workdps(oracle.DIGITS):
                assert abs(one_block.profile(theta) - plain.profile(theta) / 2) < mpf(10) ** -90


def test_tirer_is_the_variant_with_all_layers_trained() -> None:
    """Two independent recursions: theirs with w_std, v_std equals ours with a rescaled alpha."""
    x, y = np.array([1.0, -2.0, 0.5]), np.array([0.25, 1.0, 1.5])
    theirs = oracle.tirer(5, 0.3, dimension=3, w_std=1.5, v_std=0.5)
    ours = oracle.resnet(5, 0.3 * 0.75 / float(mp.sqrt(2)), trained="all")
    assert float(theirs(x, y)) == pytest.approx(float(ours(x, y)) / 3, rel=1e-14)


@pytest.mark.parametrize(
    ("dual", "values"),
    [
        (oracle.relu, (1.0086869531433, 2.0049668399544, 2.340625, 6.746875)),
        (oracle.erf, (0.48298732986327, 1.2520125568179, 0.83336629076804, 3.2274756791365)),
        (oracle.gelu, (0.75099166554307, 1.6724366325331, 2.1486991670716, 6.4999250772725)),
    ],
    ids=["relu", "erf", "gelu"],
)
def test_ntk_parameterisation_golden(
    dual: oracle.Dual, values: tuple[float, float, float, float]
) -> None:
    x, y = np.array([1.0, 2.0]), np.array([-0.5, 1.0])
    computed = []
    for second in (y, x):
        for which in ("nngp", "ntk"):
            kernel = oracle.fully_connected_ntk(
                2,
                dual,
                dimension=2,
                w_std=float(np.sqrt(1.5)),
                b_std=float(np.sqrt(0.1)),
                which=which,
            )
            computed.append(float(kernel(x, second)))
    assert computed == pytest.approx(list(values), rel=3e-13)


HERMITE_THREE = [float(a) for a in oracle.hermite_coefficients(3)]
INTEGRATED = {
    "relu": (oracle.relu, lambda x: np.maximum(x, 0), lambda x: 1.0 * (x > 0), (0,)),
    "leaky": (
        oracle.leaky_relu(0.2),
        lambda x: np.where(x > 0, x, np.longdouble(0.2) * x),
        lambda x: np.where(x > 0, 1, np.longdouble(0.2)),
        (0,),
    ),
    "abs": (oracle.absolute, np.abs, np.sign, (0,)),
    "sign": (oracle.sign, np.sign, np.zeros_like, (0,)),
    "step": (oracle.step, lambda x: 1.0 * (x > 0), np.zeros_like, (0,)),
    "sin": (oracle.sin, np.sin, np.cos, ()),
    "cos": (oracle.cos, np.cos, lambda x: -np.sin(x), ()),
    "shifted": (
        oracle.sine(1.5, 0.75, 0.5),
        lambda x: 1.5 * np.sin(0.75 * x + 0.5),
        lambda x: 1.125 * np.cos(0.75 * x + 0.5),
        (),
    ),
    "exp": (
        oracle.exp(0.5, 0.75),
        lambda x: 0.5 * np.exp(0.75 * x),
        lambda x: 0.375 * np.exp(0.75 * x),
        (),
    ),
    "gaussian": (
        oracle.gaussian(2, -0.5),
        lambda x: 2 * np.exp(-x * x / 2),
        lambda x: -2 * x * np.exp(-x * x / 2),
        (),
    ),
    "cubic": (oracle.monomial(3), lambda x: x**3, lambda x: 3 * x**2, ()),
    "rectified square": (
        oracle.rectified_monomial(2),
        lambda x: np.maximum(x, 0) ** 2,
        lambda x: 2 * np.maximum(x, 0),
        (0,),
    ),
    "rectified cube": (
        oracle.rectified_monomial(3),
        lambda x: np.maximum(x, 0) ** 3,
        lambda x: 3 * np.maximum(x, 0) ** 2,
        (0,),
    ),
    "hermite": (
        oracle.polynomial(HERMITE_THREE),
        lambda x: sum(np.longdouble(a) * x**j for j, a in enumerate(HERMITE_THREE)),
        lambda x: sum(
            j * np.longdouble(a) * x ** (j - 1) for j, a in enumerate(HERMITE_THREE) if j
        ),
        (),
    ),
}


@pytest.mark.parametrize("name", INTEGRATED)
@pytest.mark.parametrize(("q", "p", "rho"), [(1.0, 1.0, 0.5), (0.5, 2.0, -0.75), (3.0, 0.25, 0.9)])
def test_closed_form_against_integration(name: str, q: float, p: float, rho: float) -> None:
    """Each dual and derivative dual is what it claims: an expectation over a Gaussian pair."""
    closed, function, derivative, kinks = INTEGRATED[name]
    c = rho * float(np.sqrt(q * p))
    with mp.workdps(oracle.DIGITS):
        value, slope = closed(mpf(q), mpf(p), mpf(c))
        size = mp.sqrt(closed(mpf(q), mpf(q), mpf(q))[0] * closed(mpf(p), mpf(p), mpf(p))[0])
    assert abs(float(oracle.expectation(function, q, p, c, kinks)) - float(value)) < 1e-15 * float(
        size
    ) * (1 + q + p)
    assert float(oracle.expectation(derivative, q, p, c, kinks)) == pytest.approx(
        float(slope), rel=1e-14, abs=1e-14
    )


@pytest.mark.parametrize("name", ["relu", "leaky", "erf", "gelu", "sin", "cubic", "hermite"])
def test_derivative_dual_is_the_derivative_of_the_dual(name: str) -> None:
    """Price's theorem: dK/dc = Kd."""
    dual = {"erf": oracle.erf, "gelu": oracle.gelu, **{n: e[0] for n, e in INTEGRATED.items()}}[
        name
    ]
    with mp.workdps(60):
        q, p, c, h = mpf("0.75"), mpf("1.5"), mpf("-0.5"), mpf(10) ** -20
        numeric = (dual(q, p, c + h)[0] - dual(q, p, c - h)[0]) / (2 * h)
        assert abs(numeric - dual(q, p, c)[1]) < mpf(10) ** -30


@pytest.mark.parametrize(
    ("dual", "function", "derivative"),
    [
        (
            oracle.erf,
            scipy.special.erf,
            lambda x: 2 / np.sqrt(np.pi) * np.exp(-x * x),
        ),
        (
            oracle.gelu,
            lambda x: x * scipy.special.ndtr(x),
            lambda x: scipy.special.ndtr(x) + x * np.exp(-x * x / 2) / np.sqrt(2 * np.pi),
        ),
    ],
    ids=["erf", "gelu"],
)
def test_error_functions_against_integration(dual: oracle.Dual, function, derivative) -> None:
    """The two activations that NumPy lacks, integrated in float64."""
    q, p, c = 0.75, 1.5, 0.5
    value, slope = dual(mpf(q), mpf(p), mpf(c))

    def double(f):
        return lambda x: f(np.asarray(x, dtype=np.float64))

    assert float(oracle.expectation(double(function), q, p, c)) == pytest.approx(
        float(value), rel=1e-14
    )
    assert float(oracle.expectation(double(derivative), q, p, c)) == pytest.approx(
        float(slope), rel=1e-14
    )


@pytest.mark.slow
def test_rule_against_nested_quadrature() -> None:
    """The long-double rule for a callable agrees with mpmath's own quadrature."""
    q, p, c = 1.0, 1.5, 0.5
    exact = oracle.quad_dual(mpmath.tanh, q, p, c)
    assert abs(float(oracle.expectation(np.tanh, q, p, c)) - float(exact)) < 3e-16


def test_numeric_dual_on_the_diagonal_and_off() -> None:
    """The integration rule meets the closed form also at u = +-1, where it is one-dimensional."""
    numeric = oracle.numeric_dual(lambda x: np.maximum(x, 0), lambda x: 1.0 * (x > 0), (0,))
    for c in (2.0, 1.0, -2.0):
        for a, b in zip(
            numeric(mpf(2), mpf(2), mpf(c)), oracle.relu(mpf(2), mpf(2), mpf(c)), strict=True
        ):
            assert abs(a - b) < mpf(10) ** -15


@pytest.mark.parametrize(("order", "peak"), [(0, 1), (1, 1), (2, 3), (3, 15)])
def test_arc_cosine_on_the_diagonal(order: int, peak: int) -> None:
    assert abs(oracle.arc_cosine(order).profile(0) - peak) < mpf(10) ** -90


def test_condition_of_a_known_case() -> None:
    """K = x.y: half a unit from each norm, the angle through tan(theta) with its amplification."""
    linear = oracle.fully_connected(0)
    x, y = np.array([2.0, 0.0]), np.array([3.0, 3.0])
    assert float(linear.condition(x, y)) == pytest.approx(6 + 6 * np.sqrt(2), rel=1e-6)


def test_committed_values_still_agree() -> None:
    """tests/data/kernel_values.json is what make_reference.py would write, on some samples."""
    stored = json.loads(make_reference.PATH.read_text())["records"]
    assert [entry["spec"] for entry in stored] == make_reference.SPECS
    for index, entry in enumerate(stored):
        if entry["spec"].get("L", 0) <= 50:
            samples = make_reference.INPUTS[index % 3 :: 5]
            assert make_reference.agrees(entry, samples), entry["label"]


def test_against_reference_directory(reference_files: Path) -> None:
    """All shared 50-digit values, where NTKFAST_REFERENCE names their directory."""
    records = json.loads((reference_files / "kernel_values.json").read_text())["records"]
    assert len(records) >= 20
    worst = mpf(0)
    with mp.workdps(oracle.DIGITS):
        for record in records:
            kernel, deep = make_reference.kernel(record["spec"]), record["spec"].get("L", 1) > 30
            for kind, text, value, _ in record["values"][:: 6 if deep else 1]:
                difference = kernel.profile(make_reference.angle(kind, text)) - mpf(value)
                worst = max(worst, abs(difference) / mpf(record["kappa1"]))
    assert worst < mpf(10) ** -48
