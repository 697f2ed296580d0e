"""Derivatives by parameters of networks on images and sequences, whose pairs are walked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from mpmath import mp, mpf

import cases
import ntkfast as nf
import sequence_oracle
from image_oracle import Oracle
from ntkfast import places
from walked_cases import (
    CLOSE_IMAGES,
    CLOSE_SEQUENCES,
    EPS,
    IMAGES,
    SEQUENCES,
    Array,
    pairs,
    some,
)

WALKED = {  # networks, shapes, distances, and what is lost by a kink behind differences
    **{name: (*IMAGES[name], 1.0, 0) for name in ("gap", "strides", "wide pools", "head")},
    **{
        f"{name} at {d}": (CLOSE_IMAGES[name], (1, 3, 1), d, 0)
        for name in ("relu", "skip", "product", "norm", "step")
        for d in (1, 1e-8, 1e-12, 0)
    },
    **{
        f"{name} at {d}": (CLOSE_IMAGES[name], (1, 3, 1), d, 1e-12)
        for name in ("pool", "mixed", "joined", "behind")
        for d in (1e-2, 1e-5, 1e-9)
    },
}


def by_parameter(net: Any, name: str, of: Callable[[Any], Any]) -> Array:
    """Return the derivatives of functions of networks, by some values in many digits."""
    value = net.ntk.parameters()[name]
    nodes = tuple(value * (1 + k * 2.0**-22) for k in (-2, -1, 1, 2))
    with mp.workdps(60):
        values = [np.array(of(net.ntk._moved(name, node).network)) for node in nodes]
        return np.array(lagrange(value, nodes)) @ np.array(values)


@some(WALKED, {"relu at 1e-08"})
def test_parameters_of_images(case: Any) -> None:
    """One walk for all parameters has all digits: close ones, equal, opposite, multiples, zeros."""
    net, shape, distance, lost = case
    x, away = (np.random.default_rng(k).standard_normal(shape) for k in (4, 8))
    y = away if distance == 1 else x + distance * away
    allowed = 64 * EPS + lost
    if "Step" in repr(net) and distance:  # two halves cancel, of roots of angles each
        allowed *= 1 + distance**-0.5
    for other in (y, -2 * y, 0 * y) if shape == (1, 3, 1) else (y,):
        found, kernels = [], (net.nngp, net.ntk)
        for kernel in kernels:
            found.append(kernel.parameter_gradient(x[None], other[None], [[1.0]]))
            moved = kernel.parameter_jvp(x[None], other[None], dict.fromkeys(found[-1], 1.0))
            assert moved[0, 0] == pytest.approx(sum(found[-1].values()), rel=allowed, abs=allowed)
        for one, value in kernels[0].parameters().items():
            if value == 0:
                assert found[0][one] == found[1][one] == 0
                continue
            wanted = by_parameter(net, one, lambda net, y=other: Oracle().exact(net, x, y)["xy"])
            for moved, right in zip(found, wanted, strict=True):
                size = abs(right) + ("Norm" in repr(net))  # before it scales do nothing
                assert abs(moved[one] - right) <= allowed * size, (one, other)


@some(CLOSE_SEQUENCES, {"relu"})
def test_parameters_of_sequences(case: Any) -> None:
    """All digits, as of images."""
    net, dual = case
    found = pairs(np.random.default_rng(4).standard_normal((2, 2)))
    x, y = found[-1][1:]
    longer = np.vstack([[[0.7, -0.2]], x])
    found += [(1e-12, x, x + 1e-5 * (y - x)), (1e-7, longer, y), (1e-7, y, longer)]
    for distance, x, y in found[:: 4 if case is CLOSE_SEQUENCES["relu"] else 1]:
        step = "step" in net.activation.name  # two halves cancel, of roots of angles each
        allowed = 64 * EPS * (1 + step * distance**-0.5)
        for kind in ("ntk", "nngp"):
            kernel = getattr(net, kind)
            moved = kernel.parameter_gradient([x], [y], [[1.0]])
            for one in [one for one, value in kernel.parameters().items() if value]:
                (wanted,) = by_parameter(
                    net,
                    one,
                    lambda net, x=x, y=y, kind=kind: [
                        sequence_oracle.kernel(net, dual, x, y, kind)
                    ],
                )
                size = max(abs(wanted), 1e-30)  # what is 0 in all digits
                size += step * abs(kernel([x], [y])[0, 0])
                assert abs(moved[one] - wanted) <= allowed * size, (distance, kind, one)


def lagrange(p: float, nodes: tuple[float, ...]) -> list[mpf]:
    """Return weights of values at nodes that give the derivative of their polynomial at p."""
    z, found = [mpf(node) - mpf(p) for node in nodes], []
    for k, one in enumerate(z):
        others = z[:k] + z[k + 1 :]
        below = mp.fprod(one - other for other in others)
        rest = [others[:j] + others[j + 1 :] for j in range(len(others))]
        found.append(mp.fsum(mp.fprod(-b for b in part) for part in rest) / below)
    return found


PARAMETERS = ["pools", "circular pool", "wide pools", "branches", "gap", "lap", "head"]
SEVERAL = {
    **{name: IMAGES[name] for name in PARAMETERS},
    **{name: (nf.Recurrent(**SEQUENCES[name]), (5, 2)) for name in SEQUENCES},
}


@some(SEVERAL, {"gap", "first states"})
def test_parameters_in_both_ways(case: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many pairs, in one walk and by values at other parameters."""
    net, shape = case
    X, Y = (np.random.default_rng(k).standard_normal((n, *shape)) for k, n in enumerate((3, 2)))
    Y[0] = X[0]
    V, S = cases.rows(3, 2, seed=1), cases.rows(3, 3, seed=2)
    for kernel in (net.ntk, net.nngp):
        steps = {name: 0.5 + k for k, name in enumerate(kernel.parameters())}
        found = []
        for known in (True, False):
            if not known:
                monkeypatch.setattr(type(kernel), "_has_slopes", lambda _: False)
                monkeypatch.setattr(type(kernel), "_constant_rate", lambda *_: None)
            each = [
                kernel.parameter_gradient(*given)
                for given in ((X, Y, V), (X, None, S), (X, Y, (V, V[:2])), (X, None, (V, V)))
            ]
            moved = [kernel.parameter_jvp(*given, steps) for given in ((X, Y), (X, None))]
            found.append((each, moved))
        monkeypatch.undo()
        (walked, moved), (values, others) = found
        for one, other in zip(walked, values, strict=True):
            size = max(map(abs, other.values()))
            assert one == pytest.approx(other, rel=0, abs=1e-9 * size)
        for one, other in zip(moved, others, strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-9 * np.abs(other).max())
        total = sum(steps[name] * value for name, value in walked[0].items())
        assert np.sum(V * moved[0]) == pytest.approx(total, rel=1e-12)


C, D = nf.Conv, nf.Dense
FACTORS = {  # networks with parameters that multiply values of all pairs, and which do not
    "flatten": (nf.Convolutional(2), ()),
    "pools": (nf.ConvNet(C(3, 1.3), "relu", nf.AvgPool(2), C(1, 1.2), "leaky_relu(0.3)"), ()),
    "last bias": (nf.ConvNet(C(3, 1.3, 0.3), "erf", C(3, 1.2), "abs", nf.SumPool(2)), ("0.",)),
    "norm": (nf.ConvNet(C(3, 1.3), nf.LayerNorm(), "erf", C(3, 1.2, 0.2), "relu"), ("3.",)),
    "step": (nf.ConvNet(C(3, 1.3), "step", C(3, 1.2), "relu"), ()),
    "branches": (nf.ConvNet(C(3, 1.3), nf.Skip("relu", C(3, 1.2)), "relu"), ("1.",)),
    "product": (nf.ConvNet(C(3), nf.Multiply(("abs", C(2, 0.9)), ("relu", C(1, 1.2)))), ()),
    "head": (nf.ConvNet(C(3, 1.3), "relu", head=(D(1.1), D(1.2))), ()),
    "head with a kink": (nf.ConvNet(C(3, 1.3), "relu", head=("erf", D(1.1), "relu", D())), ("",)),
    "head with a bias": (
        nf.ConvNet(C(3, 1.3), "relu", head=("erf", D(1.1, 0.1), "gelu", D())),
        ("0.", "head.1."),
    ),
    "square": (nf.ConvNet(C(3, 0.5), "monomial(2)", C(3), "relu"), ()),  # which has no walk
}


@some(FACTORS, {"last bias", "head"})
def test_parameters_that_multiply_the_kernel(case: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """They take no walk, and a walk says the same."""
    net, others = case
    X, Y = (np.random.default_rng(k).standard_normal((3, 4, 4, 1)) for k in (0, 1))
    Y[0], Y[1], V = X[0], 0, cases.rows(3, 3, seed=1)
    for kernel in (net.ntk, net.nngp):
        moving = {name: 1.0 for name, value in kernel.parameters().items() if value}
        multiplying = [name for name in moving if not name.startswith(others)]
        left = kernel._inputs(places.HOST, X, None)[0]
        walked = [name for name in moving if kernel._constant_rate(name, left) is None]
        assert walked == [name for name in moving if name not in multiplying]
        if not multiplying:
            continue
        found = []
        for _ in range(2):
            each = [
                kernel.parameter_gradient(*given, names=multiplying)
                for given in ((X, Y, V), (X, None, V), (X, Y, (V, V[:3])))
            ]
            along = dict.fromkeys(multiplying, 0.5)
            moved = [kernel.parameter_jvp(*given, along) for given in ((X, Y), (X, None))]
            found.append((each, moved))
            monkeypatch.setattr(type(kernel), "_constant_rate", lambda *_: None)
        monkeypatch.undo()
        allowed = 64 * EPS if kernel._has_slopes() else 1e-11
        size = np.sum(np.abs(kernel(X, Y))) + np.sum(np.abs(kernel(X)))
        (each, moved), (wanted, along) = found
        for one, other in zip(each, wanted, strict=True):
            assert one == pytest.approx(other, rel=0, abs=allowed * size)
        for one, other in zip(moved, along, strict=True):
            np.testing.assert_allclose(one, other, rtol=allowed, atol=allowed)
