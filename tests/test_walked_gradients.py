"""Gradients by the pixels of images and the steps of sequences, whose pairs are walked in NumPy."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from mpmath import mp, mpf

import ntkfast as nf
import sequence_oracle
from image_oracle import Oracle
from ntkfast import AvgPool, Conv, ConvNet, Dense
from ntkfast.kernels import image_gradients
from ntkfast.kernels.lost_digits import tell_decimals
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


ROUGH = {"pool", "mixed", "gelu", "waves", "behind", "joined", "jump"}  # behind differences


def close_images(rough: bool) -> list[tuple[float, Array, Array]]:
    """Return distances and pairs of images; infinity where no digits are lost."""
    x, away = (np.random.default_rng(k).standard_normal((1, 3, 1)) for k in (4, 8))
    empty, part = x.copy(), x.copy()
    empty[:, 1:] = 0
    found = [(np.inf, *pair) for pair in ((x, x), (x, -2 * x), (4 * x, x), (empty, away))]
    for d in (1.0, 0.1, 1e-2, 1e-3, 1e-6, 1e-9, 1e-12) if rough else (1.0, 1e-4, 1e-8, 1e-12):
        part[:, 2] = x[:, 2] + d
        found += [(d, x, x + d * away), (d, x, -3.7 * (x + d * away)), (d, empty, empty + d * away)]
        found += [(d, x, part.copy())] if rough else []
    flat = np.ones(x.shape)  # pixels of different places are close
    return [*found, (1e-3, flat + 1e-3 * x, flat), (1e-9, flat, flat + 1e-9 * x)]


@pytest.mark.filterwarnings("error:X. gradients of images lose:RuntimeWarning")
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in ("relu", "pool") else pytest.mark.slow)
        for name in CLOSE_IMAGES
    ],
)
def test_close_images(name: str) -> None:
    """All digits of small angles; where cosines are differences, the twelve that are promised."""
    net, rough = CLOSE_IMAGES[name], name in ROUGH
    for distance, x, y in close_images(rough)[:: {"relu": 3, "pool": 7}.get(name, 1)]:
        if "Step" in repr(net) and x is y:
            continue  # its derivative is not bounded there, and counts as 0
        with mp.workdps(110):
            wanted = exact(lambda z, y=y: Oracle().exact(net, z, y)["xy"][1], x)
        found = net.ntk.vjp(x[None], y[None], [[1.0]])[0]
        allowed = 1e-12 if rough else 64 * EPS
        assert np.linalg.norm(found - wanted) <= allowed * np.linalg.norm(wanted), (distance, x, y)


@pytest.mark.parametrize("near", [1e-8, 1e-6])
@pytest.mark.parametrize("name", ["mixed", "behind"])
def test_close_images_among_others(name: str, near: float) -> None:
    """Pairs that are walked again take the places of what they were."""
    kernel, random = CLOSE_IMAGES[name].ntk, np.random.default_rng(4)
    X, Y, V = (random.standard_normal(shape) for shape in ((3, 1, 3, 1), (2, 1, 3, 1), (3, 2)))
    Y[1], X[2] = X[0] + near * Y[1], -2 * Y[0] + 1e-4 * Y[1]
    each = np.array([[kernel.vjp(x[None], y[None], [[1.0]])[0] for y in Y] for x in X])
    found = kernel.vjp(X, Y, V)
    np.testing.assert_allclose(found, np.einsum("ij,ijabc->iabc", V, each), rtol=0, atol=1e-12)
    moved = kernel.jvp(X, Y, X)
    np.testing.assert_allclose(
        moved, np.einsum("ijabc,iabc->ij", each, X), rtol=0, atol=1e-12 * np.abs(each).max()
    )
    whole = kernel.parameter_gradient(X, Y, V)
    parts = [
        [kernel.parameter_gradient(x[None], y[None], [[v]]) for y, v in zip(Y, row, strict=True)]
        for x, row in zip(X, V, strict=True)
    ]
    for one, value in whole.items():
        assert value == pytest.approx(sum(part[one] for row in parts for part in row), rel=1e-12)


def test_parallel_patches_lose_nothing(recwarn: pytest.WarningsRecorder) -> None:
    """Blank parts of images, each of a number of its own, count as parallel."""
    kernel = ConvNet(Conv((1, 3)), "relu", AvgPool((1, 2)), Conv((1, 3)), "relu").ntk
    x, y = np.random.default_rng(0).standard_normal((2, 1, 1, 6, 1))
    x[:, :, :4], y[:, :, :4] = 0.37, 0.41
    kernel.vjp(x, y, [[1.0]])
    assert not recwarn.list


def test_long_decimals_are_told() -> None:
    with pytest.warns(RuntimeWarning, match=r"40 pairs .* some 9 minutes"):
        tell_decimals(40, 256)


def test_directions_must_be_finite() -> None:
    x = np.ones((2, 3, 3, 1))
    steps = np.array([x[0], np.nan * x[0]])
    with pytest.raises(ValueError, match="dX: expected finite numbers, image 1"):
        IMAGES["gap"][0].ntk.jvp(x, x, steps)


def test_close_images_of_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are walked again only where float32 would show it, and float64 then shows no more."""
    net, walked = CLOSE_IMAGES["pool"], []
    again = image_gradients.widened
    monkeypatch.setattr(
        image_gradients, "widened", lambda *given: walked.append(1) or again(*given)
    )
    x, away = np.random.default_rng(4).standard_normal((2, 1, 1, 3, 1)).astype(np.float32)
    for distance, often in ((1e-3, (False, True)), (1e-4, (True, True))):
        y = (x + distance * away).astype(np.float32)
        found = []
        for dtype, more in zip((np.float32, np.float64), often, strict=True):
            walked.clear()
            found.append(net.ntk.vjp(x.astype(dtype), y.astype(dtype), [[1.0]]))
            assert bool(walked) == more
        np.testing.assert_allclose(*found, rtol=0, atol=2e-7 * np.abs(found[1]).max())


def warned(call: Callable[[], Any]) -> tuple[Any, float]:
    """Return what a call returns, and the share of it that a warning says is lost."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = call()
    match = [re.search(r"X: gradients of images lose up to (\S+) of", str(w.message)) for w in said]
    return found, max((float(one[1]) for one in match if one), default=0.0)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pool", "mixed", "relu"])
def test_what_close_images_lose(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is reckoned of images in float64 is no less than they lose."""
    net, random = CLOSE_IMAGES[name], np.random.default_rng(4)
    x, y = random.standard_normal((2, 1, 9, 1))
    monkeypatch.setattr(image_gradients, "NUMBERS", ())
    for distance in (1e-6, 1e-7, 1e-8):
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
            assert lost > 0 or distance == 1e-6 or other is not close
    monkeypatch.undo()
    equal = y.copy()
    equal[:, :6] = x[:, :6]
    for kernel, other in ((net.ntk, equal), (net.ntk, x * 2), (net.ntk, close), (net.nngp, close)):
        assert warned(lambda k=kernel, z=other: k.vjp(x[None], z[None], [[1.0]]))[1] == 0


@pytest.mark.slow
def test_what_is_lost_behind_a_read_out(monkeypatch: pytest.MonkeyPatch) -> None:
    head = ("relu", Dense(1.1, 0.2), "relu", Dense())
    net, x = (
        ConvNet(Conv(3), "relu", head=head),
        np.random.default_rng(4).standard_normal((1, 3, 3, 1)),
    )
    for numbers in (image_gradients.NUMBERS, ()):
        monkeypatch.setattr(image_gradients, "NUMBERS", numbers)
        for distance, least in ((1e-7, 1e-5), (1e-10, 1), (0, 0)):
            _, lost = warned(lambda d=distance: net.ntk.vjp(x, x * 2 + d, [[1.0]]))
            assert lost == 0 if numbers or not distance else lost >= least
            assert warned(lambda d=distance: net.nngp.vjp(x, x * 2 + d, [[1.0]]))[1] == 0


@some({**CLOSE_IMAGES, "head": IMAGES["head"][0]}, {"skip", "mixed"})
def test_images_without_a_derivative(case: Any) -> None:
    """What has none is 0 or a mean, and never NaN."""
    x = np.random.default_rng(0).standard_normal((1, 3, 3, 1))
    sides = np.concatenate(
        [x, 0 * x, -x, 3 * x, x + 1e-14, np.pad(x[:, :1], [(0, 0), (0, 2), (0, 0), (0, 0)])]
    )
    for kernel in (case.ntk, case.nngp):
        assert np.isfinite(kernel.vjp(sides, None, np.ones((6, 6)))).all()
        assert np.isfinite(kernel.jvp(sides, sides[::-1].copy(), sides)).all()
    assert not nf.Convolutional(2).ntk.vjp(0 * x, x, [[1.0]]).any()


def test_images_without_slopes() -> None:
    x = np.random.default_rng(0).standard_normal((1, 3, 3, 1))
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
