"""Finite networks of composed architectures: derivatives, kernels, and limits by Monte Carlo."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

import ntkfast as nf
from test_branches import NETWORKS as BRANCHES
from test_image_layers import NETWORKS as IMAGES
from test_image_layers import SHAPES

C, D = nf.Conv, nf.Dense
SMOOTH: dict[str, Any] = {
    "dense": nf.compose(
        *(D(1.5, 0.1), nf.Multiply((), ("erf", D(0.7, 0.2))), D(1.1), nf.LayerNorm()),
        *(nf.Concatenate("gelu", ("sin", D()), shares=(1, 2)), D(1.1, trained=False)),
        *(nf.Add(("erf", D()), ()), D(1.1)),
    ),
    "dropout": nf.compose(D(1.5), "erf", nf.Dropout(0.3), D(), "erf", nf.Dropout(0.2), D(1.1)),
    "recurrent": nf.compose(
        *[nf.RNN(1.2, 0.7, 0.1, 0.3, "erf")] * 2,
        D(0.8),
        direction="bidirectional",
        readout="average",
    ),
    "standard": nf.compose(
        *(D(1.5, 0.1, width=7), "erf", D(1.1, width=5), nf.LayerNorm(), "gelu", D(0.5, 0.5)),
        parameterization="standard",
    ),
    "images": nf.ConvNet(
        *(C(3, 1.1, 0.2), nf.AvgPool(2, stride=1)),
        nf.Skip(*("erf", C(3, 1.2, 0.1, stride=2), "erf", C((2, 3))), shortcut=C(1, stride=2)),
        *(nf.LayerNorm("all"), "gelu"),
        readout=nf.Readout("lap", 3, mean=False),
        head=("erf", D(1.1, 0.1)),
    ),
    "pools": nf.ConvNet(
        *(C(3, 1.1, 0.2), "erf", nf.SumPool(2, stride=1, padding=1), C(3, padding=(1, 0))),
        *(nf.LayerNorm(), "sin"),
        readout="flatten",
    ),
    "circular": nf.ConvNet(
        C(3, 1.1, 0.2, "circular"), "erf", C(3, padding="circular", stride=(1, 2)), "erf"
    ),
}
SIZES: dict[type, Any] = {nf.ConvNet: (5, 4, 2), nf.Recurrent: (4, 2)}


def inputs(net: Any) -> np.ndarray:
    shape = SIZES.get(type(net), (4,))
    return np.random.default_rng(len(shape)).normal(size=(3, *shape))


def realization(net: Any, width: int, outputs: int = 1) -> Any:
    shape = SIZES.get(type(net), 4)
    return nf.finite.Realization(net, width, shape=shape, outputs=outputs, rng=3)


@pytest.mark.parametrize("name", SMOOTH)
def test_gradients_by_finite_differences(name: str) -> None:
    net = SMOOTH[name]
    x, one, h = inputs(net), realization(net, 5, 2), 1e-6
    J, first = one.gradients(x), 0
    standard = getattr(net, "parameterization", "") == "standard"
    for layer, trained in enumerate(one.trained):
        for kind, scale in zip(("weights", "biases"), one.scales(layer), strict=True):
            if not trained or (kind == "biases" and not one.b_std[layer]):
                continue
            values = getattr(one, kind)[layer]
            for place in list(np.ndindex(values.shape))[:: max(1, values.size // 4)]:
                ends = []
                for step in (h, -h):
                    both = {k: [v.copy() for v in getattr(one, k)] for k in ("weights", "biases")}
                    both[kind][layer][place] += step
                    ends.append(one.with_parameters(**both)(x))
                wanted = (ends[0] - ends[1]) / (2 * h * (scale if standard else 1))
                found = J[:, :, first + np.ravel_multi_index(place, values.shape)]
                np.testing.assert_allclose(found, wanted, atol=1e-8 * max(1, np.abs(wanted).max()))
            first += values.size
    assert first == J.shape[2]
    np.testing.assert_allclose(one.ntk(x), np.einsum("iap,jap->ij", J, J) / 2, rtol=1e-13)
    V = np.ones((3, 2))
    pulled = [part.B.sum() for part in one._factors(x, V) if hasattr(part, "B")]
    assert np.all(np.isfinite(pulled))
    single = one.ntk(x.astype(np.float32))
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, one.ntk(x), rtol=1e-4, atol=1e-4)


def check_limit(net: Any, x: np.ndarray, one: Any, draws: int, bias: float) -> None:
    """Means over random networks, within their errors and what a finite width costs."""
    for kind in ("ntk", "nngp"):
        found = nf.finite.mean_kernel(one, x, kind=kind, n_draws=draws, rng=1)
        kernel = getattr(net, kind)
        own = np.sqrt(np.outer(kernel.diag(x), kernel.diag(x)))
        assert np.all(np.abs(found.mean - kernel(x)) < 4.5 * found.standard_error + bias * own)
        assert np.all(found.standard_error < 0.1 * own)  # or the test says nothing


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gated", "three", "nested", "concatenated", "standard", "norm"])
def test_dense_limits(name: str) -> None:
    x = np.random.default_rng(1).normal(size=(3, 3))
    if name in ("norm", "standard"):
        standard = {"parameterization": "standard"} if name == "standard" else {}
        first, second = (300, 200) if standard else (None, None)
        net = nf.compose(
            *(D(1.2, 0.3, width=first), nf.LayerNorm(), "relu", D(1.4, 0.2, width=second)),
            *("erf", D(1.1)),
            **standard,
        )
    else:
        net = nf.compose(*BRANCHES[name][0].elements, D(1.1))
    draws = 200 if name == "three" else 40  # products of three Gaussians scatter
    check_limit(net, x, nf.finite.Realization(net, 200, shape=3), draws, 0.03)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nested", "branches", "gates", "pools", "lap", "layernorm"])
def test_image_limits(name: str) -> None:
    net, shape = IMAGES[name], SHAPES.get(name, (4, 3))
    x = np.random.default_rng(3).standard_normal((2, *shape, 2))
    x[1] = 0.7 * x[0] + 0.5 * x[1]
    check_limit(net, x, nf.finite.Realization(net, 48, shape=(*shape, 2)), 30, 0.05)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["last", "average", "released", "bidirectional"])
def test_recurrent_limits(name: str) -> None:
    net = {
        "last": nf.Recurrent(2, b_std=0.1, h_std=0.5, fixed_layers=1),
        "average": nf.Recurrent(1, w_std=1.1, b_std=0.2, activation="gelu", readout="average"),
        "released": nf.Recurrent(1, u_std=0.7, v_std=1.3, readout="average_released"),
        "bidirectional": SMOOTH["recurrent"],
    }[name]
    x = np.random.default_rng(3).normal(size=(3, 4, 2))
    x[1] = 0.7 * x[0] + 0.5 * x[1]
    check_limit(net, x, nf.finite.Realization(net, 200, shape=(4, 2)), 30, 0.03)


def test_recurrent_inputs() -> None:
    """Arrays of sequences in either order, rows, and the initial states that they choose."""
    net = nf.Recurrent(1, h_std=1.0, channels="first")
    one = nf.finite.Realization(net, 7, shape=(4, 2), rng=1)
    x = inputs(SMOOTH["recurrent"])
    np.testing.assert_array_equal(one(x.swapaxes(1, 2)), one(x.reshape(3, 8)))
    np.testing.assert_allclose(one(x.reshape(3, 8)[1:2]), one(x.reshape(3, 8))[1:2], rtol=1e-13)
    single = nf.finite.Realization(nf.Recurrent(1), 7, shape=8)
    assert single(x.reshape(3, 8)).shape == (3, 1)
    assert not np.array_equal(pickle.loads(pickle.dumps(one)).redraw(2).weights[0], one.weights[0])
    with pytest.raises(ValueError, match="X: expected sequences of 4 steps and 2 channels"):
        one(x)
    with pytest.raises(ValueError, match=r"shape: expected \(steps, channels\), got \(4, 2, 1\)"):
        nf.finite.Realization(net, shape=(4, 2, 1))
    with pytest.raises(ValueError, match=r"shape: expected \(steps, channels\), got None"):
        nf.finite.Realization(net)


def test_bad_input() -> None:
    with pytest.raises(TypeError, match="network: expected one made by compose"):
        nf.finite.Realization(nf.FullyConnected(2), shape=3)
    with pytest.raises(ValueError, match="shape: expected the number of columns of X, got None"):
        nf.finite.Realization(nf.compose(D()))
    with pytest.raises(ValueError, match=r"shape: expected \(height, width, channels\), which"):
        nf.finite.Realization(nf.ConvNet(C()))
    with pytest.raises(ValueError, match="network: expected a Dense at its end, got GELU"):
        nf.finite.Realization(nf.compose(D(), "gelu"), shape=3)
    wide = nf.compose(D(), nf.Add(D(), nf.Concatenate(D(), D())), D())
    with pytest.raises(ValueError, match=r"neurons in all branches of a sum, got \[5, 10\]"):
        nf.finite.Realization(wide, 5, shape=3)
    with pytest.raises(ValueError, match=r"X: expected shape \(\*, 4\), got \(3, 5\)"):
        realization(SMOOTH["dense"], 5)(np.ones((3, 5)))
