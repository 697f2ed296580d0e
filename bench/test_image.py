"""Convolutional kernels against the engine's layer rate, plain NumPy and neural-tangents.

Images are 32 x 32 x 3, networks have three layers of 3 x 3 filters; "lap" averages over 5 x 5
pixels, "pools" takes means of 2 x 2 behind the first two layers; "wide" is `wide_resnet(16)` on
images of 16 x 16 x 3, with the pairs of pixels that its ReLU steps see. The bound is pairs of
pixels x layers x the rate of the layer map (`test_sequence.py`). NumPy is the released algorithm of
Arora et al. 2019 on the full four-dimensional array, one pair at a time.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

import ntkfast as nf
import peers
from race import Race, Size, Times
from test_sequence import dense_pair, layer_rate

DEPTH = 3
DTYPES = ("float32", "float64")
WIDE_BLOCKS = 2  # of each of its three groups: 16 layers
PEER_GOAL = {
    ("gap", "float32"): 50,
    ("gap", "float64"): 20,
    ("flatten", None): 5,
    ("wide", "float32"): 20,
}
BOUND_GOAL = {"wide": 2.5}


def kernel_of(readout: str) -> Any:
    """Return the kernel to time."""
    if readout == "wide":
        return nf.wide_resnet(6 * WIDE_BLOCKS + 4).ntk
    if readout == "pools":
        layer = (nf.Conv(), "relu")
        return nf.ConvNet(*layer, nf.AvgPool(2), *layer, nf.AvgPool(2), *layer).ntk
    window = 5 if readout == "lap" else None
    return nf.Convolutional(DEPTH, readout=readout, window=window, parameterization="ntk").ntk


def pixel_pairs(readout: str, side: int) -> int:
    """Return the pairs of pixels on which all layers of the network work, times the layers."""
    if readout == "wide":  # strides leave displacements of 4, 2 and 1 pixels to the groups
        steps = 2 * WIDE_BLOCKS + np.array([1, 0, -1])
        return int(steps @ [(side**2 // 4) ** 2, (side**2 // 8) ** 2, (side**2 // 16) ** 2])
    if readout == "pools":
        return sum((side * side >> 2 * k) ** 2 for k in range(DEPTH))
    if readout == "lap":  # pixels up to 4 apart on each axis
        return DEPTH * (9 * side - 20) ** 2
    return DEPTH * (side**4 if readout == "gap" else side**2)


def side_of(readout: str, size: Size) -> int:
    """Return the rows and columns of the images."""
    return size(8, 16 if readout == "wide" else 32)


def images(count: int, side: int, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """Return two sets of images."""
    X, Y = np.random.default_rng(0).standard_normal((2, count, side, side, 3)).astype(dtype)
    return X, Y


def released(x: np.ndarray, y: np.ndarray) -> float:
    """Return CNTK-GAP as the released CuPy code computes it, on (h, w, h, w) arrays in NumPy."""

    def windows(a: np.ndarray) -> np.ndarray:
        total = a.copy()
        for i in (-1, 0, 1):
            for j in (-1, 0, 1):
                if i or j:
                    h, w = a.shape[:2]
                    to = slice(max(0, -i), h - max(0, i)), slice(max(0, -j), w - max(0, j))
                    at = slice(max(0, i), h + min(0, i)), slice(max(0, j), w + min(0, j))
                    total[(*to, *to)] += a[(*at, *at)]
        return total

    def own(a: np.ndarray) -> list[np.ndarray]:  # standard deviations per layer
        total = np.einsum("ijk,ijk->ij", a, a)
        found = []
        for layer in range(DEPTH):
            padded = np.pad(total, 1)
            h, w = total.shape
            total = sum(padded[i : i + h, j : j + w] for i in range(3) for j in range(3))
            total = total / 9 if layer else total
            found.append(np.sqrt(total))
        return found

    s = windows(np.einsum("ijk,abk->ijab", x, y))
    t = s.copy()
    for layer, (n, m) in enumerate(zip(own(x), own(y), strict=True)):
        scale = n[:, :, None, None] * m
        u = np.clip(s / scale, -1, 1)
        turn = np.pi - np.arccos(u)
        s = scale * (u * turn + np.sqrt(1 - u * u)) / (9 * np.pi)
        t = t * turn / (9 * np.pi) + s
        if layer < DEPTH - 1:
            s, t = windows(s), windows(t)
    return float(t.mean())


def own_call(readout: str, size: Size, dtype: str) -> tuple[Any, int]:
    """Return our call and its number of pairs of images."""
    count = size(2, 512 if readout == "flatten" else 32)
    return partial(kernel_of(readout), *images(count, side_of(readout, size), dtype)), count**2


@pytest.mark.parametrize("readout", ["gap", "flatten", "lap", "pools", "wide"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_images(race: Race, size: Size, dtype: str, readout: str) -> None:
    """Time per pair of images over the bound."""
    call, pairs = own_call(readout, size, dtype)
    flat, pairs_of_pixels = size(64, 2000), pixel_pairs(readout, side_of(readout, size))
    row = {"dtype": dtype, "read-out": readout}

    def facts(times: Times) -> dict[str, float]:
        each = times["own"].median / pairs
        return {
            "ms per pair": 1e3 * each,
            "pairs/s": 1 / each,
            "own / bound": each / (layer_rate(times, flat) * pairs_of_pixels),
            "50,000 images, days": each * 50_000 * 50_001 / 2 / 86400,
        }

    goal = {"own / bound": BOUND_GOAL.get(readout, 2.0)}
    beside = dense_pair(dtype, flat)
    race(call, "images", row, "own", beside=beside, facts=facts, at_most=goal)


@pytest.mark.parametrize("peer", ["NumPy", "neural-tangents"])
@pytest.mark.parametrize("readout", ["gap", "flatten", "wide"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_image_peers(race: Race, size: Size, dtype: str, readout: str, peer: str) -> None:
    """Time per pair of others over ours."""
    if peer == "NumPy":
        if readout != "gap":
            pytest.skip("written for global read-out")
        X, Y = images(1, size(8, 32), dtype)
        their, their_pairs = partial(released, X[0], Y[0]), 1
    else:
        pytest.importorskip("neural_tangents", exc_type=ImportError)
        count = size(2, {"gap": 4, "flatten": 32, "wide": 2}[readout])
        X, Y = images(count, side_of(readout, size), dtype)
        if readout == "wide":
            their = peers.neural_tangents_wide_resnet(X, Y, WIDE_BLOCKS)
        else:
            their = peers.neural_tangents_images(X, Y, readout)
        their_pairs = count**2
    mine, pairs = own_call(readout, size, dtype)
    cell = f"{peer} / own, per pair"
    goal = PEER_GOAL.get((readout, dtype)) or PEER_GOAL.get((readout, None))

    def facts(times: Times) -> dict[str, float]:
        return {cell: times["own"].median / their_pairs / (times["ntkfast"].median / pairs)}

    row = {"dtype": dtype, "read-out": readout}
    goals = {cell: goal} if goal and peer != "NumPy" else {}
    race(their, "images", row, peer, beside={"ntkfast": mine}, facts=facts, at_least=goals)
