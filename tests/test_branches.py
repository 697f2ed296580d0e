"""Sums, products and concatenations of branches in dense networks."""

from __future__ import annotations

import pickle
from functools import lru_cache
from typing import Any

import numpy as np
import pytest

import cases
import gradient_oracle
import ntkfast as nf
import oracle
from ntkfast.features import NTKRandomFeatures
from ntkfast.regression.description import described, rebuilt

D = nf.Dense
ERF, RELU, GELU = (("activation", dual) for dual in (oracle.erf, oracle.relu, oracle.gelu))


def d(w: float = 1.0, b: float = 0.0) -> tuple[Any, ...]:
    """Return a dense layer of the oracle."""
    return ("dense", w, b, True)


NETWORKS: dict[str, tuple[Any, list[tuple[Any, ...]]]] = {
    "gated": (
        nf.compose(D(1.5, 0.1), nf.Multiply(D(1.2, 0.3), ("erf", D(0.7, 0.2))), D(1.1)),
        [d(1.5, 0.1), ("product", [[d(1.2, 0.3)], [ERF, d(0.7, 0.2)]]), d(1.1)],
    ),
    "homogeneous": (
        nf.compose(D(1.5), nf.Multiply((), ("relu", D(1.3))), D(), nf.Residual("relu", D())),
        [d(1.5), ("product", [[], [RELU, d(1.3)]]), d(), ("residual", [RELU, d()])],
    ),
    "three": (
        nf.compose(
            D(1.2), nf.Multiply("relu", (D(0.8, 0.2), "relu"), D(1.1)), D(), nf.Add((), D(), D(0.5))
        ),
        [
            d(1.2),
            ("product", [[RELU], [d(0.8, 0.2), RELU], [d(1.1)]]),
            d(),
            ("sum", [[], [d()], [d(0.5)]]),
        ],
    ),
    "nested": (
        nf.compose(
            D(1.5, 0.2),
            nf.Residual(D(), nf.Multiply((), ("gelu", D(0.9, 0.1))), D(1.2)),
            "erf",
            D(),
        ),
        [
            d(1.5, 0.2),
            ("residual", [d(), ("product", [[], [GELU, d(0.9, 0.1)]]), d(1.2)]),
            ERF,
            d(),
        ],
    ),
    "concatenated": (
        nf.compose(
            D(1.5, 0.2),
            nf.Concatenate("relu", ("erf", D(1.3)), (), shares=(1, 3, 4)),
            D(1.2),
            nf.Add(("relu", D()), ("erf", D(0.4, 0.1))),
        ),
        [
            d(1.5, 0.2),
            ("mean", [[RELU], [ERF, d(1.3)], []], [0.125, 0.375, 0.5]),
            d(1.2),
            ("sum", [[RELU, d()], [ERF, d(0.4, 0.1)]]),
        ],
    ),
    "standard": (
        nf.compose(
            D(1.5, width=8),
            nf.Concatenate("relu", ("erf", D(1.3, 0.5, width=24))),
            D(1.2, width=5),
            nf.Multiply("relu", D(0.7, width=5)),
            D(1.1),
            parameterization="standard",
        ),
        [
            ("dense", 1.5, 0, True, 3),
            ("mean", [[RELU], [ERF, ("dense", 1.3, 0.5, True, 8)]], [0.25, 0.75]),
            ("dense", 1.2, 0, True, 32),
            ("product", [[RELU], [("dense", 0.7, 0, True, 5)]]),
            ("dense", 1.1, 0, True, 5),
        ],
    ),
}


@lru_cache(maxsize=64)
def expected(name: str, which: str, dtype: Any) -> cases.Expected:
    x, y = cases.special_pairs(dtype, 3, 1.5)
    return cases.compare(oracle.composed(NETWORKS[name][1], which=which, dimension=3), x, y)


@pytest.mark.grid(1)
@pytest.mark.parametrize("which", ["ntk", "nngp"])
@pytest.mark.parametrize("name", NETWORKS)
def test_against_the_oracle(name: str, which: str, engine: dict[str, Any], dtype: Any) -> None:
    x, y = cases.special_pairs(dtype, 3, 1.5)
    kernel = getattr(NETWORKS[name][0], which)
    expected(name, which, dtype).check(kernel(x, y, **engine))
    cases.check_diagonal(kernel, kernel(x, **engine), x, 12)


@pytest.mark.parametrize("engine", ["native", pytest.param("numba", marks=pytest.mark.slow)])
@pytest.mark.parametrize("which", ["ntk", "nngp"])
@pytest.mark.parametrize("name", ["gated", "three", "concatenated"])
def test_gradients(name: str, which: str, engine: str) -> None:
    network, parts = NETWORKS[name]
    exact = oracle.composed(parts, which=which, dimension=3)
    x, y = cases.rows(3, 3, seed=1), cases.rows(2, 3, seed=2)
    wanted = [
        [float(v) for v in sum(np.array(gradient_oracle.gradient(exact, a, b)) for b in y)]
        for a in x
    ]
    found = getattr(network, which).vjp(x, y, np.ones((3, 2)), engine=engine)
    np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-13 * np.abs(wanted).max())


@pytest.mark.parametrize("engine", ["native", pytest.param("numba", marks=pytest.mark.slow)])
@pytest.mark.parametrize("which", ["ntk", "nngp"])
def test_gradients_by_parameters(which: str, engine: str) -> None:
    """Half of a factor belongs to either side, also where branches meet."""

    def network(p: list[float]) -> nf.Network:
        gate = nf.Multiply((D(*p[2:4]), "erf", D(*p[4:6])), (D(*p[6:8]), "gelu", D(*p[8:10])))
        return nf.compose(D(*p[:2]), "relu", gate, D(*p[10:12]), "relu", D(*p[12:]))

    here = [1.3, 0.4, 1.1, 0.3, 0.9, 0.2, 1.2, 0.1, 1.0, 0.3, 1.1, 0.2, 1.2, 0.2]
    x, y = cases.rows(4, 3, seed=1), cases.rows(3, 3, seed=2)
    kernel = getattr(network(here), which)
    found = list(kernel.parameter_gradient(x, y, np.ones((4, 3)), engine=engine).values())
    for i, value in enumerate(found):
        ends = []
        for step in (1e-5, -1e-5):
            moved = here.copy()
            moved[i] += step
            ends.append(getattr(network(moved), which)(x, y).sum())
        assert value == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-6)


def test_spectra_and_scales() -> None:
    """Powers add in products: the continuation and the ends of the curve, rows of any size."""
    kernel = NETWORKS["homogeneous"][0].ntk
    assert kernel.homogeneity == 2
    x = cases.rows(4, 3, seed=3)
    huge = kernel(x * 2.0**250) / 2.0**1000
    np.testing.assert_allclose(huge, kernel(x), rtol=1e-15)
    found = nf.spectrum.mercer(kernel, 4, 60)
    assert abs(found.sum_rule_residual) < 1e-13
    curve, v = kernel.curve(4, 1.0), np.linspace(0.01, 0.99, 9)
    np.testing.assert_allclose(curve.complex(v + 0j, 1 - v + 0j).real, 1 - curve.missing(v, 1 - v))
    smooth = nf.compose(D(1.5), nf.Multiply((), ("erf", D())), D())
    powers = smooth.ntk.curve(3, 1.0).powers()
    assert powers is not None
    u = np.linspace(-0.9, 0.9, 5)
    series = sum(np.exp(log) * u**k for k, log in enumerate(powers.log_b))
    profile = smooth.ntk.profile(u, 3**-0.5) / smooth.ntk.profile([1.0], 3**-0.5)
    np.testing.assert_allclose(series, profile, rtol=1e-12, atol=1e-13)


def test_as_values() -> None:
    for network, _ in NETWORKS.values():
        assert pickle.loads(pickle.dumps(network)) == network
        assert rebuilt(described(network.ntk)) == network.ntk
    network = NETWORKS["concatenated"][0]
    names = network.ntk.parameters()
    assert names["1.branches.1.1.w_std"] == 1.3
    other = network.ntk.with_parameters({"1.branches.1.1.w_std": 1.4})
    assert other.parameters()["1.branches.1.1.w_std"] == 1.4
    branches = nf.Concatenate(D(), (D(), nf.LayerNorm(), D()), (), shares=(1, 2, 3))
    assert eval(repr(branches), vars(nf)) == branches


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nf.Add(D()), "branches: expected two or more, got 1"),
        (lambda: nf.Concatenate(D(), D(), shares=(1,)), "shares: expected one for each of 2"),
        (lambda: nf.Concatenate(D(), D(), shares=(1, 0)), "shares: expected"),
        (lambda: nf.compose(nf.Multiply(D(), D())), "a Dense before the first Multiply"),
        (lambda: nf.compose(D(), nf.Multiply((), "erf"), D()), "is correlated with another way"),
        (lambda: nf.compose(D(), nf.Multiply(D(), ()), "erf"), "the product of Multiply and is"),
        (lambda: nf.compose(D(), nf.Concatenate(D(), ()), "erf"), "the concatenation of Conc"),
        (lambda: nf.compose(D(), nf.Add((D(), "erf"), (D(), "relu"))), "products of their means"),
        (
            lambda: nf.compose(
                D(width=3),
                nf.Multiply("erf", D(width=4)),
                D(),
                parameterization="standard",
            ),
            "width: expected one for all branches of Multiply.*, got 3 and 4",
        ),
        (
            lambda: nf.compose(
                D(width=3),
                nf.Concatenate("erf", "relu", shares=(1, 2)),
                D(),
                parameterization="standard",
            ),
            "shares: follow from widths",
        ),
        (
            lambda: nf.compose(
                D(), nf.Add(D(), (nf.Add(D(), (nf.Add(D(), D(2.0)), D())), D())), D()
            ),
            "Add: expected at most 4 nested branches, of which this one counts twice",
        ),
    ],
)
def test_errors(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_what_has_no_features() -> None:
    with pytest.raises(TypeError, match="network: expected one without Multiply"):
        NTKRandomFeatures(NETWORKS["homogeneous"][0]).fit(np.eye(3))
    features = NTKRandomFeatures(NETWORKS["concatenated"][0], n_components=4096, random_state=0)
    x = cases.rows(4, 3, seed=5)
    z, exact = features.fit_transform(x), NETWORKS["concatenated"][0].ntk(x)
    assert np.abs(z @ z.T - exact).max() < 0.2 * exact.max()
