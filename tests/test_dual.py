"""Activations that state their dual kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import special

import cases
import ntkfast as nf
from ntkfast.features import NTKRandomFeatures

EPS = np.finfo(np.float64).eps


def erf_nngp(cov: Any, x_var: Any, y_var: Any) -> Any:
    return np.arcsin(2 * cov / np.sqrt((1 + 2 * x_var) * (1 + 2 * y_var))) * 2 / np.pi


def erf_slope(cov: Any, x_var: Any, y_var: Any) -> Any:
    return 4 / np.pi / np.sqrt((1 + 2 * x_var) * (1 + 2 * y_var) - 4 * cov**2)


def relu_nngp(u: Any) -> Any:
    return (np.sqrt(1 - u * u) + u * (np.pi - np.arccos(u))) / (2 * np.pi)


def relu_slope(u: Any) -> Any:
    return (np.pi - np.arccos(u)) / (2 * np.pi)


def in_float64(function: Any) -> Any:
    """Refuse wider numbers, as the functions of SciPy do."""
    return lambda *arguments: function(*(special.expit(0 * a) * 2 * a for a in arguments))


ERF, RELU = nf.Dual(erf_nngp, erf_slope), nf.Dual(relu_nngp, relu_slope, degree=1)
NARROW = nf.Dual(in_float64(relu_nngp), in_float64(relu_slope), degree=1)
BIASED = {"parameterization": "ntk", "b_std": 0.3}
CASES = [
    pytest.param(ERF, "erf", {}, 16 * EPS, id="erf"),
    pytest.param(ERF, "erf", BIASED, 16 * EPS, id="erf-biased"),
    pytest.param(RELU, "relu", {}, 200 * EPS, id="relu"),
    pytest.param(RELU, "relu", BIASED, 200 * EPS, id="relu-biased"),
    pytest.param(NARROW, "relu", {}, 1e-10, id="relu-float64"),
]


@pytest.mark.parametrize(("dual", "name", "options", "bound"), CASES)
@pytest.mark.grid(2)
@pytest.mark.parametrize("sphere", [True, False], ids=["sphere", "rows"])
def test_as_the_closed_form(
    dual: Any, name: str, options: Any, bound: float, sphere: bool, engine: dict[str, Any]
) -> None:
    """Profiles in both engines, and pairs that are walked, against the activation itself."""
    x = cases.rows(20, 4, seed=1)
    x[3], x[5], x[6], x[7] = x[4] * (1 + 1e-9), x[4], -x[4], x[4] + 1e-8
    x /= np.linalg.norm(x, axis=1)[:, None] if sphere else 1
    for kind in ("ntk", "nngp"):
        kernel = getattr(nf.FullyConnected(3, activation=dual, **options), kind)
        wanted = getattr(nf.FullyConnected(3, activation=name, **options), kind)
        own = wanted.diag(x)
        size = np.sqrt(np.outer(own, own))
        found = kernel(x, **engine)
        assert np.max(np.abs(found - wanted(x)) / size) <= bound
        product = kernel.matmul(x, None, np.eye(20), **engine)
        np.testing.assert_allclose(product, found, atol=4 * bound * size.max())
        assert found[4, 5] == found[4, 4]
        single = kernel(x.astype(np.float32), **engine)
        assert np.max(np.abs(single - wanted(x)) / size) <= max(bound, 60 * 2.0**-24)


def test_in_composed_networks() -> None:
    x = cases.rows(6, 3, seed=2)
    made = []
    for one in (ERF, "erf"):
        branch = nf.Multiply((), (one, nf.Dense(0.7, 0.2)))
        made.append(nf.compose(nf.Dense(1.2, 0.1), branch, nf.Dense(), one, nf.Dense()))
    one, two = (network.ntk(x) for network in made)
    np.testing.assert_allclose(one, two, rtol=1e-13)
    assert made[0] == made[0] and hash(made[0]) != hash(made[1])
    mean = nf.Dual(
        lambda *s: (erf_nngp(*s) + s[0]) / 2, lambda *s: (erf_slope(*s) + 1) / 2
    )  # half of the neurons have erf, half are linear
    shared = nf.compose(nf.Dense(1.2), nf.Concatenate("erf", ()), nf.Dense(1.1, 0.3))
    same = nf.compose(nf.Dense(1.2), mean, nf.Dense(1.1, 0.3))
    np.testing.assert_allclose(same.ntk(x), shared.ntk(x), rtol=1e-13)


@pytest.mark.parametrize("kind", ["ntk", "nngp"])
def test_derivatives_of_homogeneous_networks(kind: str) -> None:
    """They ask for the angle alone, near 0 and pi too: those of the closed form."""
    x, y, V = cases.rows(6, 4, seed=1), cases.rows(5, 4, seed=2), cases.rows(6, 5, seed=3)
    x[1], y[2], y[3] = -2 * x[0], x[3] + 1e-8, x[4]
    found, wanted = (
        getattr(nf.FullyConnected(2, activation=one), kind) for one in (NARROW, "relu")
    )
    for a, b in (
        (found.vjp(x, y, V), wanted.vjp(x, y, V)),
        (found.vjp(x, None, V @ V.T), wanted.vjp(x, None, V @ V.T)),
        (found.jvp(x, y, x[::-1]), wanted.jvp(x, y, x[::-1])),
    ):
        np.testing.assert_allclose(a, b, atol=1e-12 * np.abs(b).max())
    name = "w_std"
    slopes = [kernel.parameter_gradient(x, y, V)[name] for kernel in (found, wanted)]
    assert slopes[0] == pytest.approx(slopes[1], rel=1e-12)


def test_what_is_near_and_not_known() -> None:
    x = cases.rows(6, 3, seed=2)
    x[1] = x[0] * (1 + 1e-9) + 1e-9

    def sizes(q: Any, p: Any) -> Any:
        return np.sqrt(q * p)

    kinked = nf.Dual(
        lambda c, q, p: sizes(q, p) * relu_nngp(np.clip(c / sizes(q, p), -1, 1)),
        lambda c, q, p: relu_slope(np.clip(c / sizes(q, p), -1, 1)),
    )
    biased = nf.FullyConnected(2, activation=kinked, **BIASED).ntk
    exact = nf.FullyConnected(2, activation="relu", **BIASED).ntk(x)
    with pytest.warns(RuntimeWarning, match="averages of Dual.<lambda>. over pairs .*e-08"):
        found = biased(x)
    assert np.max(np.abs(found - exact)) < 1e-7 * exact.max()
    with pytest.raises(TypeError, match=r"not known for Dual.*with degree= and without biases"):
        biased.vjp(x, None, np.ones((6, 6)))
    with pytest.raises(TypeError, match=r"Dual\(relu_nngp\) states kernels"):
        NTKRandomFeatures(nf.FullyConnected(1, activation=RELU)).fit_transform(x)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nf.Dual(3, erf_slope), "nngp: expected a function of NumPy arrays, got int"),
        (lambda: nf.Dual(erf_nngp, erf_slope, degree=1), "nngp: expected an elementwise .* cosine"),
        (lambda: nf.Dual(relu_nngp, relu_slope), "nngp: expected an elementwise .*cov, x_var"),
        (
            lambda: nf.Dual(lambda u: relu_nngp(u).astype("f4"), relu_slope, degree=1),
            "nngp: expected numbers in float64, got float32",
        ),
        (
            lambda: nf.Dual(erf_nngp, lambda *s: 1.01 * erf_slope(*s)),
            "derivative: expected that of nngp by the covariance; between cosines -0.9 and -0.3",
        ),
        (
            lambda: nf.Dual(relu_nngp, lambda u: relu_slope(u) / 2, degree=1),
            "derivative: expected that of nngp",
        ),
        (
            lambda: nf.Dual(
                lambda u: 1 - np.arccos(u) / np.pi, lambda u: (1 - u * u) ** -0.5 / np.pi, degree=0
            ),
            "derivative: expected finite numbers, got inf at cosine 1; without a derivative",
        ),
        (lambda: nf.Dual(lambda c, q, p: c * q, lambda c, q, p: q), "a symmetric function"),
        (lambda: nf.Dual(lambda c, q, p: c - 2 * q, erf_slope), "positive values at equal inputs"),
        (
            lambda: nf.Dual(lambda u: 1.2 - 0.2 * u**30, lambda u: -6 * u**29, degree=0),
            r"sqrt\(nngp\(q, q, q\) nngp\(p, p, p\)\), got 1.2 times that",
        ),
        (
            lambda: nf.Dual(lambda u: 1.5 * u * u - 0.5, lambda u: 3 * u, degree=1),
            r"no negative coefficients, got -0.5 for u\^0",
        ),
        (
            lambda: nf.Dual(lambda u: 1.2 * u - 0.2 * u**9, lambda u: 1.2 - 1.8 * u**8, degree=1),
            "derivative: expected positive values at equal inputs",
        ),
        (
            lambda: nf.Dual(
                lambda u: u + 0.5 * u**6 - 0.1 * u**9,
                lambda u: 1 + 3 * u**5 - 0.9 * u**8,
                degree=1,
            ),
            "Legendre coefficient of degree [0-9]+ is negative",
        ),
        (lambda: nf.Dual(relu_nngp, relu_slope, degree=-1), "degree: expected"),
    ],
)
def test_what_is_refused(make: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        make()
