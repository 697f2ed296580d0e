"""One `compose` for networks on rows, images and sequences, told by their steps."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

import ntkfast as nf
from ntkfast import activations
from ntkfast.networks import Composed
from ntkfast.regression.description import described, rebuilt

C, D, R = nf.Conv, nf.Dense, nf.RNN
BRANCHED = C(), nf.Add(("relu", C()), ()), nf.Concatenate("relu", "erf"), C()
SAME: dict[str, tuple[Any, Any]] = {
    "rows": (nf.compose(D(1.2, 0.1), "relu", D()), Composed((D(1.2, 0.1), "relu", D()))),
    "images": (
        nf.compose(C(), "relu", nf.AvgPool(), nf.Skip(C()), channels="first", shape=(4, 4, 3)),
        nf.ConvNet(C(), "relu", nf.AvgPool(), nf.Skip(C()), channels="first", shape=(4, 4, 3)),
    ),
    "head": (
        nf.compose(C(), "erf", nf.Readout("flatten", w_std=1.2), "relu", D(0.7), "erf", D()),
        nf.ConvNet(
            *(C(), "erf"),
            readout=nf.Readout("flatten", w_std=1.2),
            head=("relu", D(0.7), "erf", D()),
        ),
    ),
    "branches": (
        nf.compose(
            *BRANCHED, parameterization="unit"
        ),
        nf.ConvNet(
            *BRANCHED, parameterization="unit"
        ),
    ),
    "sequences": (
        nf.compose(
            *(R(1.2, 0.7, 0.1, 0.2, "erf", trained=False), R(1.2, 0.7, 0.1, 0.2, "erf"), D(0.5)),
            direction="bidirectional",
            readout="average",
        ),
        nf.Recurrent(
            2, w_std=1.2, u_std=0.7, b_std=0.1, h_std=0.2, activation="erf", v_std=0.5,
            fixed_layers=1, direction="bidirectional", readout="average",
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", SAME)
def test_the_same_network(kind: str) -> None:
    found, wanted = SAME[kind]
    assert found == wanted and hash(found) == hash(wanted) and type(found) is type(wanted)
    assert repr(found) == repr(wanted)
    assert eval(repr(found), vars(nf) | vars(activations)) == wanted
    assert pickle.loads(pickle.dumps(found)) == rebuilt(described(wanted)) == wanted
    assert described(found.ntk) == described(wanted.ntk)


def test_branches_on_images_are_those_on_rows() -> None:
    """Convolutions of one pixel are dense layers, and Skip is a sum with the identity."""

    def steps(dense: Any) -> list[Any]:
        return [
            dense(1.2, 0.1),
            nf.Concatenate("relu", ("relu", dense(1.3), "erf"), (), shares=(1, 2, 3)),
            *(dense(1.1), nf.Multiply((), ("relu", dense(0.8, 0.1)), dense()), dense(0.9)),
            *(nf.Add(("relu", dense()), (), ("erf", dense(0.5, 0.2))), "relu"),
        ]

    x = np.random.default_rng(1).normal(size=(4, 3))
    rows = nf.compose(*steps(D), D())
    images = nf.compose(*steps(lambda w=1.0, b=0.0: C(1, w, b)), nf.Readout("flatten"))
    for kind in ("ntk", "nngp"):
        found = getattr(images, kind)(x[:, None, None])
        np.testing.assert_allclose(found, getattr(rows, kind)(x), rtol=1e-14)
    x = np.random.default_rng(2).normal(size=(3, 5, 4, 2))
    skip, add = (
        nf.compose(C(), one, "relu") for one in (nf.Skip("relu", C()), nf.Add(("relu", C()), ()))
    )
    np.testing.assert_array_equal(skip.ntk(x), add.ntk(x))
    assert add.ntk.parameters()["1.branches.0.1.w_std"] == 2**0.5


@pytest.mark.parametrize(
    "block",
    [
        nf.Add(("relu", C(3, 0.8, stride=2)), C(1, 0.5, stride=2), ("erf", C(2, stride=2))),
        nf.Skip("relu", C(2), shortcut=("gelu", C(1, 0.7))),
        nf.Multiply(C(2), ("erf", C(3)), (C(1), "relu")),
        nf.Concatenate("relu", ("erf", C(), nf.Add("sin", C(2, 0.5))), shares=(1, 3)),
    ],
)
def test_derivatives_where_branches_meet(block: Any) -> None:
    net, rng = nf.compose(C(3, 1.1, 0.2), block, C(2), "relu"), np.random.default_rng(0)
    x, y, step = (rng.normal(size=(2, 4, 3, 2)) for _ in range(3))
    V = rng.normal(size=(2, 2))
    for kernel in (net.ntk, net.nngp):
        ends = [np.sum(V * kernel(x + h * step, y)) for h in (1e-5, -1e-5)]
        found = np.sum(kernel.vjp(x, y, V) * step)
        assert found == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-6)


@pytest.mark.parametrize(
    ("error", "make", "message"),
    [
        (ValueError, lambda: nf.compose(), "at least one layer"),
        (TypeError, lambda: nf.compose(C(), D()), "on images, and Dense.*stand behind the Readout"),
        (TypeError, lambda: nf.compose(D(), nf.Readout()), "on rows, and Readout"),
        (TypeError, lambda: nf.compose(R(), C()), r"got RNN\(\), on sequences, and Conv"),
        (TypeError, lambda: nf.compose(D(), nf.Add(C(), ())), "on rows, and Conv"),
        (TypeError, lambda: nf.compose(D(), shape=(2, 2, 1)), "shape: no option of .* rows"),
        (TypeError, lambda: nf.compose(C(), direction="forward"), "those are shape, channels"),
        (ValueError, lambda: nf.compose("relu", C()), "expected a Conv first"),
        (ValueError, lambda: nf.compose(C(), parameterization="standard"), "parameterization"),
        (ValueError, lambda: nf.compose(R(), "relu"), "RNN layers, which have their activations"),
        (ValueError, lambda: nf.compose(R(), nf.LayerNorm(), R()), "got LayerNorm"),
        (ValueError, lambda: nf.compose(R(), D(), "relu", D()), "one Dense at their end"),
        (ValueError, lambda: nf.compose(R(), R(2.0)), "equal scales and activations"),
        (ValueError, lambda: nf.compose(R(), R(trained=False)), "below all others"),
        (ValueError, lambda: nf.compose(R(), D(1.0, 0.1)), "trained weights alone"),
        (ValueError, lambda: nf.compose(R(), parameterization="unit"), "leave it out"),
        (ValueError, lambda: R(activation="identity"), "closed form"),
        (ValueError, lambda: nf.ConvNet(C(), nf.Multiply(C(), ()), "relu"), "the product of Mul"),
        (ValueError, lambda: nf.ConvNet(C(), nf.Add(nf.AvgPool(), C())), "Add: expected no pool"),
        (ValueError, lambda: nf.ConvNet(C(), nf.Add(D(), C())), r"Conv\(1\) is one at every"),
        (ValueError, lambda: nf.ConvNet(C(), R()), "one on sequences"),
        (ValueError, lambda: nf.ConvNet(C(), nf.Add("relu", "erf")), "correlated"),
        (ValueError, lambda: nf.ConvNet(C(), nf.Concatenate("relu", ()), "relu"), "concatenation"),
        (TypeError, lambda: nf.Residual(C()), "dense network, got Conv"),
        (
            ValueError,
            lambda: nf.ConvNet(C(), nf.Add(C(), nf.Add(C(), C(), nf.Add(C(), C(), C())))),
            "nested branches, of which three ways or more count twice",
        ),
        (
            ValueError,
            lambda: nf.compose(C(), nf.Add(C(3, stride=2), C())).ntk(np.ones((1, 4, 4, 1))),
            "the pixels that another one makes",
        ),
    ],
)
def test_errors(error: Any, make: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        make()


def test_arguments_of_neural_tangents_are_noticed() -> None:
    """Its layers take a number of neurons first, which would be a standard deviation here."""
    with pytest.warns(UserWarning, match="w_std: got 512; layers of infinite width have no number"):
        nf.Dense(512)
    with pytest.warns(UserWarning, match="filter_size: got 64; layers of infinite width"):
        nf.Conv(64)
    with (
        pytest.warns(UserWarning, match="w_std: got 512"),
        pytest.raises(TypeError, match=r"trained: expected True or False, got 0\.1"),
    ):
        nf.Dense(512, 1.5, 0.1)
    with pytest.raises(TypeError, match="trained: expected True or False, got 'yes'"):
        nf.FullyConnected(1, parameterization="ntk", trained=("yes", True))
    nf.Dense(15), nf.Dense(512.0), nf.Conv((1, 80)), nf.Dense(trained=np.bool_(False))
