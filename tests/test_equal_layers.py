"""Powers of equal layers against the walk through all of them, and where they may not be used."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import ntkfast as nf
from ntkfast.activations.rectified import ABReLU, RectifiedMonomial, Step
from ntkfast.kernels import dense
from ntkfast.kernels.equal_layers import LEAST, Run, runs
from ntkfast.kernels.layers import Layer

RELU = ABReLU(0.0, 1.0)
DEEP = {
    "relu 17": nf.FullyConnected(17),
    "relu 100": nf.FullyConnected(100, parameterization="ntk"),
    "relu 1000": nf.FullyConnected(1000),
    "leaky 63": nf.FullyConnected(63, activation=ABReLU(-0.5, 1.0)),
    "nearly linear 64": nf.FullyConnected(64, activation=ABReLU(0.9, 1.0)),
    "abs 200": nf.FullyConnected(200, activation=ABReLU(-1.0, 1.0)),
    "quadratic 20": nf.FullyConnected(20, activation=RectifiedMonomial(2)),
    "small weights 300": nf.FullyConnected(300, w_std=0.5, parameterization="ntk"),
    "resnet 40": nf.ResNet(40, alpha=0.5),
    "resnet 200": nf.ResNet(200, alpha=1.0),  # its variance doubles: several runs
    "two kinds": nf.FullyConnected(
        48, activation=(RELU, *[ABReLU(0.2, 1.0)] * 24, *[RELU] * 23), parameterization="ntk"
    ),
}


def angles(dtype: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return sin^2 and cos^2 of half of angles down to 1e-9 from either end, and both ends."""
    s, c = np.geomspace(1e-9, 0.7, 60, dtype=dtype), np.geomspace(1e-7, 0.7, 40, dtype=dtype)
    v = np.concatenate([[0.0], s * s, 1 - c * c, [1.0]]).astype(dtype)
    return v, np.concatenate([[1.0], 1 - s * s, c * c, [0.0]]).astype(dtype)


@pytest.mark.parametrize("kind", ["ntk", "nngp"])
@pytest.mark.parametrize("name", DEEP)
def test_powers_give_what_the_walk_gives(name: str, kind: str, dtype: Any) -> None:
    """Within an eighth of an ulp of k, and of 1 - k, in which each layer rounds once besides."""
    curve = getattr(DEEP[name], kind).curve(5, 1.0)
    wide = np.dtype(np.longdouble if dtype == np.float64 else np.float64)
    fast = curve.missing_for(np.dtype(dtype))
    if np.finfo(wide).eps < np.finfo(dtype).eps:
        assert fast != curve.missing
    v, vc = angles(wide)
    found, exact = fast(v, vc), curve.missing(*(x.astype(np.longdouble) for x in (v, vc)))
    allowed = np.finfo(dtype).eps / 8
    assert found[0] == exact[0] == 0
    assert np.max(np.abs(found - exact)) <= allowed
    near = (v < 0.5) & (v > 0)
    size = exact + (0.1 * np.sqrt(v) if "quadratic" in name else 0.0)  # series are of 1 - k over s
    allowed += DEEP[name].depth * np.finfo(wide).eps
    assert np.all(np.abs(found - exact)[near] <= allowed * size[near])


def test_runs_are_the_layers() -> None:
    layer, other = Layer(RELU, w=2.0, x=2.0), Layer(RELU, w=1.0, x=1.0)
    pair = (Layer(w=2.0, x=2.0, save=0), Layer(RELU, w=0.5, x=0.5, add=0))
    layers = (other, *[layer] * 30, other, *pair * 20, other)
    found = runs(layers)
    assert found == [
        Run((other,), 1),
        Run((layer,), 30),
        Run((other,), 1),
        Run(pair, 20),
        Run((other,), 1),
    ]
    assert runs([layer] * LEAST) == [Run((layer,) * LEAST, 1)]


def test_no_saved_state_crosses_a_run() -> None:
    layer = Layer(RELU, w=2.0, x=2.0)
    layers = (Layer(save=0), *[layer] * 40, Layer(add=0), *[layer] * 40)
    assert runs(layers) == [Run(layers[:42], 1), Run((layer,), 40)]


def test_what_series_do_not_follow_is_walked() -> None:
    """Steps behave like a root of the angle, and roots of roots."""
    curve = nf.FullyConnected(40, activation=Step(-1.0, 1.0)).nngp.curve(5, 1.0)
    assert curve.missing_for(np.dtype(np.float64)) == curve.missing
    assert nf.FullyConnected(3).ntk.curve(5, 1.0).missing_for(np.dtype(np.float64))


def test_noise_asks_for_a_walk() -> None:
    """Nearly linear layers: powers are exact enough, but not for the shortest polynomial."""
    kernel = nf.FullyConnected(600, activation="leaky_relu(0.999)").ntk
    assert dense._compiled(kernel, np.dtype(np.float64), 1.0, 3).error < 4 * np.finfo(float).eps
