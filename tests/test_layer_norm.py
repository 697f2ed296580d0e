"""Dense networks with layer normalization, the standard parameterization, layers that differ."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

import cases
import ntkfast as nf
import oracle
from ntkfast.kernels.parameters import changed

ERF, RELU = ("activation", oracle.erf), ("activation", oracle.relu)
NORM = ("activation", oracle.layer_norm)
NETWORKS: dict[str, tuple[Any, list[tuple[Any, ...]]]] = {
    "norms": (
        nf.compose(
            nf.Dense(1.3), nf.LayerNorm(), "relu", nf.Dense(1.1), nf.LayerNorm(), "relu", nf.Dense()
        ),
        [
            ("dense", 1.3, 0, True),
            NORM,
            RELU,
            ("dense", 1.1, 0, True),
            NORM,
            RELU,
            ("dense", 1, 0, True),
        ],
    ),
    "biases": (
        nf.compose(nf.Dense(1.3, 0.2), nf.LayerNorm(), "erf", nf.Dense(1.1, 0.3)),
        [("dense", 1.3, 0.2, True), NORM, ERF, ("dense", 1.1, 0.3, True)],
    ),
    "residual": (
        nf.compose(
            nf.Dense(2.0, 0.1),
            nf.Residual(nf.LayerNorm(), "relu", nf.Dense(0.5, 0.1)),
            nf.LayerNorm(),
        ),
        [("dense", 2, 0.1, True), ("residual", [NORM, RELU, ("dense", 0.5, 0.1, True)]), NORM],
    ),
    "standard": (
        nf.compose(
            nf.Dense(1.3, 0.2, width=64),
            "relu",
            nf.Dense(0.7, width=32, trained=False),
            "erf",
            nf.Dense(1.1, 0.1),
            parameterization="standard",
        ),
        [
            ("dense", 1.3, 0.2, True, 3),
            RELU,
            ("dense", 0.7, 0, False, 64),
            ERF,
            ("dense", 1.1, 0.1, True, 32),
        ],
    ),
}


@pytest.mark.parametrize("which", ["ntk", "nngp"])
@pytest.mark.parametrize("name", NETWORKS)
def test_against_the_oracle(name: str, which: str, dtype: Any) -> None:
    network, parts = NETWORKS[name]
    x, y = cases.special_pairs(dtype, 3, 1.0)
    exact = oracle.composed(parts, which=which, dimension=3)
    kernel = getattr(network, which)
    cases.compare(exact, x, y).check(kernel(x, y))
    assert np.array_equal(np.diagonal(kernel(x)), kernel.diag(x))


@pytest.mark.parametrize("engine", ["numba"])
def test_engines_agree(engine: str) -> None:
    x, y = cases.special_pairs(np.float64, 3, 1.0)
    for network, _ in NETWORKS.values():
        np.testing.assert_allclose(
            network.ntk(x, y, engine=engine), network.ntk(x, y), rtol=1e-12, atol=1e-12
        )


def test_norms_are_gone() -> None:
    network, rng = NETWORKS["norms"][0], np.random.default_rng(0)
    x = rng.normal(size=(4, 3))
    assert network.nngp.homogeneity == 0
    np.testing.assert_allclose(network.ntk(1e3 * x, 1e-3 * x), network.ntk(x), rtol=1e-13)
    assert nf.spectrum.mercer(network.ntk, 3).decay.exponent == 3


def test_a_row_of_zeros_has_no_direction() -> None:
    network = nf.compose(nf.Dense(2.0), nf.LayerNorm(), nf.Dense(1.0, 0.5))
    for engine in ("numba", None):
        ntk, nngp = (
            getattr(network, kind)(np.eye(3)[:2] * [[0], [1]], engine=engine)
            for kind in ("ntk", "nngp")
        )
        np.testing.assert_allclose(nngp, [[1.25, 0.25], [0.25, 1.25]], rtol=1e-15)
        np.testing.assert_allclose(ntk, [[1.25, 0.25], [0.25, 2.25]], rtol=1e-15)


def test_layers_that_differ() -> None:
    x = np.random.default_rng(2).normal(size=(5, 3))
    network = nf.FullyConnected(
        2,
        activation=["relu", "erf"],
        parameterization="ntk",
        w_std=[1.2, 1.3, 0.7],
        b_std=[0.1, 0.2, 0.3],
        trained=[True, False, True],
    )
    same = nf.compose(
        nf.Dense(1.2, 0.1), "relu", nf.Dense(1.3, 0.2, trained=False), "erf", nf.Dense(0.7, 0.3)
    )
    for kind in ("ntk", "nngp"):
        assert np.array_equal(getattr(network, kind)(x), getattr(same, kind)(x))
    assert pickle.loads(pickle.dumps(network)) == network
    assert eval(repr(network), {"FullyConnected": nf.FullyConnected}) == network
    alike = nf.FullyConnected(2, w_std=[1.5, 1.5, 1.5], parameterization="ntk")
    assert alike == nf.FullyConnected(2, w_std=1.5, parameterization="ntk")
    gains = nf.FullyConnected(2, activation=("relu", "erf"))
    ones = np.eye(3)[:1]
    assert gains.nngp(ones)[0, 0] == pytest.approx(1, abs=1e-15)
    others = {"activation": ["gelu", "sin"]}
    assert changed(gains, others) == nf.FullyConnected(2, **others)
    assert "w_std" not in gains.ntk.parameters()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nf.compose(nf.LayerNorm(), nf.Dense()), "a Dense before LayerNorm, got a signal"),
        (lambda: nf.compose(nf.Dense(), "relu", nf.LayerNorm()), "a Dense before LayerNorm"),
        (lambda: nf.compose(nf.Dense(), nf.LayerNorm("all")), "over: expected LayerNorm()"),
        (lambda: nf.compose(nf.Dense(width=3)), 'width: belongs to parameterization="standard"'),
        (
            lambda: nf.compose(nf.Dense(), "relu", nf.Dense(), parameterization="standard"),
            "width: expected a number of neurons for each Dense",
        ),
        (
            lambda: nf.compose(
                nf.Dense(width=5),
                nf.Residual("relu", nf.Dense(width=6)),
                parameterization="standard",
            ),
            "width: expected one for all branches of Residual.*, got 5 and 6",
        ),
        (
            lambda: nf.FullyConnected(2, w_std=[1, 2, 3]),
            "w_std: expected one value, or 2 for depth",
        ),
        (lambda: nf.FullyConnected(2, activation=["relu"]), "activation: expected one value, or 2"),
        (lambda: nf.FullyConnected(2, trained=False), 'trained: belongs to parameterization="ntk"'),
    ],
)
def test_errors(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
