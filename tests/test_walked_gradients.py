"""Gradients by the pixels of images and the steps of sequences, whose pairs are walked in NumPy."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from mpmath import mp, mpf

import cases
import ntkfast as nf
import oracle
import sequence_oracle
from image_oracle import Oracle
from ntkfast import AvgPool, Conv, ConvNet, Dense, LayerNorm, Skip, SumPool

EPS, LONG = (float(np.finfo(dtype).eps) for dtype in (np.float64, np.longdouble))
Array = np.ndarray
SEQUENCES: dict[str, dict[str, Any]] = {
    "plain": {"depth": 1},
    "first states": {"depth": 2, "b_std": 0.3, "h_std": 0.5, "u_std": 0.8},
    "erf": {"depth": 2, "activation": "erf", "readout": "average", "w_std": 1.1},
    "gelu": {
        "depth": 2,
        "activation": "gelu",
        "direction": "bidirectional",
        "readout": "average_normalized",
        "b_std": 0.1,
    },
    "sin": {"depth": 2, "activation": "sin", "fixed_layers": 1, "readout": "average_released"},
    "gaussian": {"depth": 1, "activation": "gaussian"},
    "exp": {"depth": 1, "activation": "exp(1,0.5)", "w_std": 0.5, "u_std": 0.5},
    "step": {"depth": 2, "activation": "step", "b_std": 0.4},
}
PLAIN, WIDE = (Conv(3), "relu"), Conv(3, padding="circular")
IMAGES: dict[str, tuple[Any, tuple[int, int, int]]] = {
    "flatten": (nf.Convolutional(2), (4, 3, 2)),
    "gap": (nf.Convolutional(2, readout="gap", parameterization="ntk", b_std=0.3), (3, 3, 1)),
    "lap": (nf.Convolutional(2, readout="lap", window=3, padding="circular"), (4, 3, 2)),
    "valid": (nf.Convolutional(2, padding="valid", readout="gap"), (5, 5, 1)),
    "skip": (ConvNet(Conv(3), Skip("relu", Conv(3, 1.0, 0.2)), "relu", Conv(3)), (3, 3, 2)),
    "pools": (
        ConvNet(*PLAIN, AvgPool(2), *PLAIN, AvgPool(2), Conv(1, 1, 0.1), "relu", readout="flatten"),
        (4, 4, 2),
    ),
    "circular pool": (ConvNet(WIDE, "relu", AvgPool(2), WIDE, Skip("relu", WIDE)), (6, 6, 1)),
    "strides": (
        ConvNet(
            *(Conv((2, 3), 1.3, 0.2, ((1, 2), (0, 3)), stride=(1, 2)), "leaky_relu(0.3)"),
            *(Skip(Conv(2, 1.0, stride=2), shortcut=(Conv(1, stride=2), "abs", Conv(1))), "gelu"),
            readout=nf.Readout("lap", 3, b_std=0.2),
        ),
        (4, 5, 2),
    ),
    "grows": (
        ConvNet(Conv(2, 1.3, 0.2, 4), "step", Conv(1, 1.2, 0.1, 1), "relu", readout="flatten"),
        (3, 3, 1),
    ),
    "wide pools": (
        ConvNet(
            *(
                Conv(2, 1.2, 0.2),
                LayerNorm("all"),
                "relu",
                AvgPool((2, 3), 1, "zero"),
                Conv(3, stride=2),
            ),
            *("erf", SumPool((2, 1), 1), Conv(1), LayerNorm(), "sin"),
        ),
        (3, 4, 1),
    ),
    "circular strides": (
        ConvNet(WIDE, "cos", Conv(3, 1.2, 0.1, "circular", stride=(2, 3)), "gaussian"),
        (4, 6, 1),
    ),
    "branches": (
        ConvNet(
            Conv(2, 1.2, 0.2),
            nf.Multiply(("relu", Conv(2, 0.9, 0.1)), ("erf", Conv(1)), ()),
            nf.Concatenate((Conv(1), "gelu"), (Conv(1), "abs"), shares=(0.3, 0.7)),
            *(Conv(2, 1.1, 0.1), nf.Add((), ("relu", Conv(1), nf.Multiply((), Conv(1)))), Conv(1)),
        ),
        (3, 2, 2),
    ),
    "head": (
        ConvNet(
            *(Conv(3), "exp(1, 0.3)", Conv(2), "relu"),
            readout="flatten",
            head=("relu", Dense(1.1, 0.2), nf.Residual("erf", Dense(0.9)), Dense(1.1)),
        ),
        (3, 3, 1),
    ),
}


def some(found: dict[str, Any], quick: set[str]) -> Any:
    """Parametrise over cases, all but some of them slow."""
    return pytest.mark.parametrize(
        "case",
        [
            pytest.param(case, id=name, marks=() if name in quick else pytest.mark.slow)
            for name, case in found.items()
        ],
    )


def moved(X: Any, step: float, dX: Any) -> Any:
    return [x + step * dx for x, dx in zip(X, dX, strict=True)]


def slope(of: Callable[[Any], float], X: Any, dX: Any) -> float:
    """Return the central difference of sixth order along a direction."""
    h, total = 1e-3, 0.0
    for k, c in ((1, 45), (-1, -45), (2, -9), (-2, 9), (3, 1), (-3, -1)):
        total += c * of(moved(X, k * h, dX))
    return total / (60 * h)


def check(kernel: Any, X: Any, Y: Any, dX: Any, give: Callable[[Any], Any]) -> None:
    """Compare sums over pairs with differences; both directions of differentiation."""
    rng = np.random.default_rng(5)
    for other in (Y, None):
        count = len(X if other is None else other)
        V = rng.standard_normal((len(X), count))
        right = None if other is None else give(other)

        def value(Z: Any, V: Array = V, right: Any = right) -> float:
            return float(np.sum(V * kernel(give(Z), right)))

        wanted, size = slope(value, X, dX), np.sum(np.abs(V * kernel(give(X), right)))
        parts = zip(kernel.vjp(give(X), right, V), dX, strict=True)
        assert abs(sum(np.sum(a * b) for a, b in parts) - wanted) < 1e-11 * size
        whole = kernel.jvp(give(X), right, give(dX))
        assert abs(np.sum(whole * V) - wanted) < 1e-11 * size
        factors = rng.standard_normal((len(X), 1)), rng.standard_normal((count, 1))
        pair = zip(
            kernel.vjp(give(X), right, factors),
            kernel.vjp(give(X), right, factors[0] @ factors[1].T),
            strict=True,
        )
        assert all(np.allclose(a, b, rtol=1e-12, atol=1e-13) for a, b in pair)


@some(SEQUENCES, {"plain", "first states"})
def test_sequences(case: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    X, Y, dX = (
        [rng.standard_normal((k, 2)) for k in lengths] for lengths in ((3, 5, 4), (4, 2), (3, 5, 4))
    )
    for kernel in (nf.Recurrent(**case).ntk, nf.Recurrent(**case).nngp):
        check(kernel, X, Y, dX, lambda parts: parts)


@some(IMAGES, {"flatten", "gap"})
def test_images(case: Any) -> None:
    net, shape = case
    X, Y, dX = (
        np.random.default_rng(k).standard_normal((n, *shape)) for k, n in enumerate((3, 2, 3))
    )
    for kernel in (net.ntk, net.nngp):
        check(kernel, X, Y, dX, np.array)


def exact(of: Callable[[Any], mpf], x: Array) -> Array:
    """Return the gradient by central differences in many digits."""
    h, found = mpf(10) ** -25, np.empty(x.shape)
    for at in np.ndindex(*x.shape):
        ends = []
        for sign in (1, -1):
            z = np.array([mpf(float(one)) for one in x.ravel()], object).reshape(x.shape)
            z[at] += sign * h
            ends.append(of(z))
        found[at] = float((ends[0] - ends[1]) / (2 * h))
    return found


def pairs(x: Array) -> list[tuple[float, Array, Array]]:
    """Return distances and pairs; infinity where images lose no digits.

    Where parts of inputs are 0 the derivative is the mean of those of both sides.
    """
    away = np.random.default_rng(8).standard_normal(x.shape)
    empty, other = x.copy(), away.copy()
    empty[1:], other[0] = 0, 0
    special = [(np.inf, *pair) for pair in ((x, x), (x, -2 * x), (empty, away), (empty, other))]
    return special + [(d, x, away if d == 1 else x + d * away) for d in (1.0, 1e-3, 1e-7)]


CLOSE_SEQUENCES = {
    "relu": (nf.Recurrent(1, b_std=0.3), oracle.relu),
    "leaky": (
        nf.Recurrent(2, activation="leaky_relu(0.2)", h_std=0.5, b_std=0.4, readout="average"),
        oracle.leaky_relu(0.2),
    ),
    "step": (nf.Recurrent(2, activation="step", b_std=0.4), oracle.step),
    "erf": (nf.Recurrent(2, activation="erf"), oracle.erf),
    "no biases": (nf.Recurrent(2, w_std=1.2), oracle.relu),
}


@some(CLOSE_SEQUENCES, {"relu"})
def test_close_sequences(case: Any) -> None:
    """All digits at small angles; equal and opposite sequences have a derivative."""
    net, dual = case
    found = pairs(np.random.default_rng(4).standard_normal((2, 2)))
    x, y = found[-1][1:]
    found += [(1e-11, x, x + 1e-4 * (y - x)), (1e-9, x, -3.7 * (x + 1e-2 * (y - x)))]
    if case is not CLOSE_SEQUENCES["relu"]:  # of other lengths: all but the first steps are close
        longer = np.vstack([[[0.7, -0.2]], x])
        found += [(1e-7, longer, y), (1e-7, y, longer)]
    for distance, x, y in found:
        if distance == np.inf and np.array_equal(x, y) and "step" in net.activation.name:
            continue  # its derivative is not bounded there, and counts as 0
        with mp.workdps(110):
            wanted = exact(lambda z, y=y: sequence_oracle.kernel(net, dual, z, y, "ntk"), x)
        moved = net.ntk.vjp([x], [y], [[1.0]])[0]
        assert np.linalg.norm(moved - wanted) <= 64 * EPS * np.linalg.norm(wanted), distance


CLOSE_IMAGES = {
    "relu": nf.Convolutional(2, readout="gap"),
    "skip": ConvNet(
        Conv((1, 2), 1.2, 0.1),
        Skip("abs", Conv(2, 0.9, 0.2, stride=(1, 2)), shortcut=(Conv(1, stride=(1, 2)))),
        *("leaky_relu(0.3)", Conv((1, 2)), "relu"),
    ),
    "norm": ConvNet(
        *(Conv((1, 2), 1.2), LayerNorm("all"), "relu"),
        *(Conv((1, 2), 1.0, 0.3), LayerNorm(), "relu"),
    ),
    "product": ConvNet(
        Conv((1, 2), 1.2, 0.1),
        nf.Multiply(("abs", Conv(2, 0.9, 0.2)), ("leaky_relu(0.3)", Conv(1))),
        *(Conv((1, 2)), "relu"),
    ),
    "step": ConvNet(Conv(3, 1.2, 0.1), "step", Conv(3, 1.1, 0.2), "relu"),
    "pool": ConvNet(Conv(3, 1.2, 0.1), "relu", AvgPool((1, 3)), Conv(1, 1.1, 0.3), "relu"),
    "mixed": ConvNet(Conv(3, 1.2, 0.1), "erf", Conv(3, 1.1, 0.2), "relu"),
    "gelu": ConvNet(Conv(3), "gelu", AvgPool((1, 3)), Conv(1, 1.1, 0.3), "abs"),
    "waves": ConvNet(Conv(3, 1.5), "sin", Conv(3), "exp(1, 0.8)", Conv(3), "leaky_relu(0.2)"),
    "behind": ConvNet(Conv(3, 1.2, 0.1), "relu", head=("relu", Dense(1.1, 0.2), "relu", Dense())),
}
ROUGH = {"pool", "mixed", "gelu", "waves", "behind"}  # a kink behind differences


def close_images(rough: bool) -> list[tuple[float, Array, Array]]:
    """Return distances and pairs of images; infinity where no digits are lost."""
    x, away = (np.random.default_rng(k).standard_normal((1, 3, 1)) for k in (4, 8))
    empty = x.copy()
    empty[:, 1:] = 0
    found = [(np.inf, *pair) for pair in ((x, x), (x, -2 * x), (4 * x, x), (empty, away))]
    for d in (1.0, 1e-3, 1e-5, 1e-7, 1e-8) if rough else (1.0, 1e-4, 1e-8, 1e-12):
        found += [(d, x, x + d * away), (d, x, -3.7 * (x + d * away)), (d, empty, empty + d * away)]
    flat = np.ones(x.shape)  # pixels of different places are close
    return [
        *found,
        (1e-3, flat + 1e-3 * x, flat),
        *([] if rough else [(1e-9, flat, flat + 1e-9 * x)]),
    ]


@pytest.mark.filterwarnings("ignore:X. gradients of images lose:RuntimeWarning")
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name == "relu" else pytest.mark.slow) for name in CLOSE_IMAGES],
)
def test_close_images(name: str) -> None:
    """All digits of small angles; where cosines are differences, those of extended precision."""
    net, rough = CLOSE_IMAGES[name], name in ROUGH
    for distance, x, y in close_images(rough)[:: 3 if name == "relu" else 1]:
        if name == "step" and x is y:
            continue  # its derivative is not bounded there, and counts as 0
        with mp.workdps(110):
            wanted = exact(lambda z, y=y: Oracle().exact(net, z, y)["xy"][1], x)
        found = net.ntk.vjp(x[None], y[None], [[1.0]])[0]
        allowed = 64 * EPS * (1 + rough / distance) + 64 * rough * (LONG / distance**2 + 1e-11)
        assert np.linalg.norm(found - wanted) <= allowed * np.linalg.norm(wanted), (distance, x, y)


def warned(call: Callable[[], Any]) -> tuple[Any, float]:
    """Return what a call returns, and the share of it that a warning says is lost."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = call()
    match = [re.search(r"X: gradients of images lose up to (\S+) of", str(w.message)) for w in said]
    return found, max((float(one[1]) for one in match if one), default=0.0)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pool", "mixed", "relu"])
def test_gradients_of_close_images_say_what_they_lose(name: str) -> None:
    """And of images of which some parts are nearly equal: no less than they do."""
    net, random = CLOSE_IMAGES[name], np.random.default_rng(4)
    x, y = random.standard_normal((2, 1, 9, 1))
    for distance in (1e-7, 1e-8) if LONG < EPS else (1e-6, 1e-8):
        close = y.copy()
        close[:, :6] = x[:, :6] + distance * y[:, :6]
        for other in (close, x * 2 + distance):
            found, lost = warned(lambda z=other: net.ntk.vjp(x[None], z[None], [[1.0]])[0])
            if name == "relu":
                assert lost == 0
                continue
            with mp.workdps(60):
                wanted = exact(lambda z, y=other: Oracle().exact(net, z, y)["xy"][1], x)
            error = np.linalg.norm(found - wanted) / np.linalg.norm(wanted)
            assert error <= max(lost, 1e-5) and lost <= 1  # less is not said
            assert lost > 0 or other is not close
    equal = y.copy()
    equal[:, :6] = x[:, :6]
    for kernel, other in ((net.ntk, equal), (net.ntk, x * 2), (net.nngp, close)):
        assert warned(lambda k=kernel, z=other: k.vjp(x[None], z[None], [[1.0]]))[1] == 0


@pytest.mark.slow
def test_gradients_behind_a_read_out_say_what_they_lose() -> None:
    head = ("relu", Dense(1.1, 0.2), "relu", Dense())
    net, x = (
        ConvNet(Conv(3), "relu", head=head),
        np.random.default_rng(4).standard_normal((1, 3, 3, 1)),
    )
    for distance, least in ((1e-7, 1e-5), (1e-10, 1), (0, 0)):
        _, lost = warned(lambda d=distance: net.ntk.vjp(x, x * 2 + d, [[1.0]]))
        assert lost >= least and (distance > 0 or lost == 0)
        assert warned(lambda d=distance: net.nngp.vjp(x, x * 2 + d, [[1.0]]))[1] == 0


WALKED = {
    **{name: (*IMAGES[name], 1.0) for name in ("gap", "pools", "strides", "wide pools", "head")},
    **{
        f"{name} at {d}": (CLOSE_IMAGES[name], (1, 3, 1), d)
        for name in ("relu", "skip", "product", "norm", "step")
        for d in (1, 1e-3, 1e-8, 1e-12, 0)
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
    net, shape, distance = case
    x, away = (np.random.default_rng(k).standard_normal(shape) for k in (4, 8))
    y = away if distance == 1 else x + distance * away
    allowed = 64 * EPS
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


@pytest.mark.filterwarnings("ignore:X. gradients of images lose:RuntimeWarning")
def test_images_without_a_derivative() -> None:
    """What has none is 0 or a mean, and never NaN."""
    x = np.random.default_rng(0).standard_normal((1, 3, 3, 1))
    sides = np.concatenate(
        [x, 0 * x, -x, 3 * x, x + 1e-14, np.pad(x[:, :1], [(0, 0), (0, 2), (0, 0), (0, 0)])]
    )
    V = np.ones((6, 6))
    for net in (*CLOSE_IMAGES.values(), IMAGES["head"][0]):
        for kernel in (net.ntk, net.nngp):
            assert np.isfinite(kernel.vjp(sides, None, V)).all()
            assert np.isfinite(kernel.jvp(sides, sides[::-1].copy(), sides)).all()
    assert not nf.Convolutional(2).ntk.vjp(0 * x, x, [[1.0]]).any()
    with pytest.raises(TypeError, match="closed form; got rectified_monomial"):
        other = ConvNet(Conv(), "relu", head=("rectified_monomial(2)", Dense()))
        other.ntk.vjp(x, x, [[1.0]])


def test_forms_of_inputs() -> None:
    """Gradients have the form of what they are by."""
    rng, net = np.random.default_rng(0), nf.Recurrent(1, b_std=0.1)
    rows, V = rng.standard_normal((3, 4)), np.ones((3, 3))
    whole = net.ntk.vjp(rows, None, V)
    assert whole.shape == (3, 4)
    for given in (list(rows), [row[:, None] for row in rows], rows[:, :, None]):
        found = net.ntk.vjp(given, None, V)
        assert [np.shape(one) for one in found] == [np.shape(one) for one in given]
        assert np.array_equal(np.reshape(np.array(found), (3, 4)), whole)
    collected = nf.sequences(rows)
    assert np.array_equal(net.ntk.vjp(collected, None, V).values.reshape(3, 4), whole)
    some_rows = collected[[2, 0]]
    assert np.array_equal(
        net.ntk.vjp(some_rows, collected, V[:2]).values.reshape(2, 4),
        net.ntk.vjp(rows[[2, 0]], rows, V[:2]),
    )
    first = nf.Recurrent(1, b_std=0.1, channels="first")
    wide = rng.standard_normal((3, 2, 5))
    turned = nf.Recurrent(1, b_std=0.1, channels="last").ntk.vjp(wide.swapaxes(1, 2), None, V)
    assert np.array_equal(first.ntk.vjp(wide, None, V), turned.swapaxes(1, 2))
    parts = first.ntk.vjp(list(wide), None, V)
    assert np.array_equal(np.array(parts), turned.swapaxes(1, 2))
    moved_ = first.ntk.jvp(wide, None, wide)
    assert np.array_equal(moved_, moved_.T)

    net2 = nf.Convolutional(1, shape=(2, 2, 3))
    images = rng.standard_normal((3, 2, 2, 3))
    gradient = net2.ntk.vjp(images, None, V)
    assert gradient.shape == images.shape
    flat = net2.ntk.vjp(images.reshape(3, -1), None, V)
    assert np.array_equal(flat, gradient.reshape(3, -1))
    first2 = nf.Convolutional(1, channels="first")
    swapped = first2.ntk.vjp(np.moveaxis(images, 3, 1), None, V)
    assert np.array_equal(swapped, np.moveaxis(gradient, 3, 1))
    narrow = net2.ntk.vjp(images.astype(np.float32), None, V)
    assert narrow.dtype == np.float32
    np.testing.assert_allclose(narrow, gradient, rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match=r"dX: expected 3 images of shape \(2, 2, 3\), got"):
        net2.ntk.jvp(images, None, images[:2])
    with pytest.raises(ValueError, match="dX: expected sequences like"):
        net.ntk.jvp(rows, None, rows[:, :2])


def test_size_of_inputs() -> None:
    """Homogeneous kernels have derivatives of one shape, however small or large inputs are."""
    rng, V = np.random.default_rng(6), np.ones((2, 2))
    sequence, image = nf.Recurrent(1).ntk, nf.ConvNet(Conv(), "relu", head=("relu", Dense())).ntk
    for kernel, X in (
        (sequence, rng.normal(size=(2, 3, 1))),
        (image, rng.normal(size=(2, 3, 3, 1))),
    ):
        gradient, moved = kernel.vjp(X, None, V), kernel.parameter_gradient(X, None, V)
        for scale in (2.0**-460, 2.0**-200, 2.0**200):
            np.testing.assert_allclose(kernel.vjp(scale * X, None, V) / scale, gradient, rtol=1e-13)
            for name, value in kernel.parameter_gradient(scale * X, None, V).items():
                assert value / scale**2 == pytest.approx(moved[name], rel=1e-13)


def test_algebra_of_walked_kernels() -> None:
    """Kernels of kernels of sequences and images have gradients as well."""
    rng = np.random.default_rng(1)
    rows, dX, V = rng.standard_normal((4, 4)), rng.standard_normal((4, 4)), np.ones((4, 4))
    recurrent, image = nf.Recurrent(1, b_std=0.1).ntk, nf.Convolutional(1, shape=(2, 2, 1)).ntk
    dense = nf.FullyConnected(2, b_std=0.2, parameterization="ntk").ntk
    for kernel in (
        recurrent + 0.5 * image,
        recurrent * dense,
        image.normalized(),
        recurrent.normalized(),
        recurrent.ard([1.0, 2.0, 0.5, 1.5]),
    ):
        wanted = slope(lambda Z, k=kernel: float(np.sum(k(np.array(Z)))), rows, dX)
        found = np.sum(kernel.vjp(rows, None, V) * dX)
        assert found == pytest.approx(wanted, rel=1e-9)
        assert np.sum(kernel.jvp(rows, None, dX)) == pytest.approx(wanted, rel=1e-9)
        known = {name: value for name, value in kernel.parameters().items() if value}
        moved, step = kernel.parameter_gradient(rows, None, V), 1e-4
        for name, value in known.items():
            ends = [kernel.with_parameters({name: value + s})(rows) for s in (step, -step)]
            wanted = np.sum(ends[0] - ends[1]) / (2 * step)
            assert moved[name] == pytest.approx(wanted, rel=1e-6, abs=1e-9)
