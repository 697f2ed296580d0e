"""Which calls take sectors (`ntkfast.kernels.sectors`): those that are sooner done, of fit rows."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from ntkfast.arrays.collections import Rows
from ntkfast.engines.maps import LayerMap
from ntkfast.kernels.layer_rows import OfLayers, facts_of
from ntkfast.kernels.layers import Layers
from ntkfast.kernels.sectors import DOUBLE, NARROW, SINGLE, Array, Digits, sector_map, whole_span

SEEN, FEW = 32, 1 / 128  # rows of either side that are looked at, and pairs that may walk
BEYOND = 1 / 2048  # of the rows at either end, which need not be in the range of norms of a call
AROUND = 2.5  # layers, in the time of packing and angles
SMOOTH = 3  # layers with a smooth activation, over those with ReLU and its relatives, in float64


def quicker(kernel: OfLayers, X: Rows, Y: Rows, pairs: int) -> LayerMap | None:
    """Return the layers of a kernel with sectors where so many pairs take less time by them."""
    dim, digits = X.data.shape[1], SINGLE if X.dtype == SINGLE.dtype else DOUBLE
    layers = facts_of(kernel, dim).layers
    if not pays(layers, pairs, digits):
        return None
    span, refused = span_of(layers, X, Y, digits), _refused(kernel, dim, digits)
    if any(span[0] <= low and high <= span[1] for low, high in refused):
        return None
    found = sector_map(kernel, dim, digits, span)
    if found is None or not is_short(found, _work(layers, digits), digits):
        refused.add(span)
        return None
    return found if serves(found, X, Y) else None


@lru_cache(maxsize=256)
def _refused(kernel: OfLayers, dim: int, digits: Digits) -> set[tuple[float, float]]:
    """Return the ranges of norms that have no form, or none that is short: nor have wider ones."""
    return set()


def pays(layers: Layers, pairs: int, digits: Digits = SINGLE) -> bool:
    """Whether so many pairs take longer without the form than with it, its compilation included."""
    work = _work(layers, digits)
    return pairs * (work - digits.cost) >= digits.sampled * work


def _work(layers: Layers, digits: Digits) -> int:
    """Return how many layers with ReLU cost as much."""
    smooth = 1 if digits is SINGLE else SMOOTH
    return sum(1 if layer.activation.degree == 1 else smooth for layer in layers)


def is_short(plan: LayerMap, work: int, digits: Digits) -> bool:
    """Whether products of wide angles, and all around them, take less than so many layers."""
    assert plan.sectors is not None
    return 2 * sum(plan.sectors.sectors[-1].terms) / digits.products + AROUND <= 0.85 * work


def span_of(layers: Layers, X: Rows, Y: Rows, digits: Digits) -> tuple[float, float]:
    """Return the one that nearly all rows of a call are in; in float32 always the whole."""
    whole = whole_span(layers)
    if digits is SINGLE or layers[0].w <= 0:
        return whole
    norms = np.concatenate([X.norms, Y.norms])
    norms = norms[norms > 0]
    if not len(norms):
        return whole
    ends = np.quantile(norms, (BEYOND, 1 - BEYOND), method="nearest")
    low, high = np.floor(np.log2(layers[0].w) + 2 * np.log2(ends))
    low, high = max(low, whole[0]), min(high + 1, whole[1])
    return (float(low), float(high)) if low < high else whole


def serves(plan: LayerMap, X: Rows, Y: Rows) -> bool:
    """Whether nearly all pairs are in sectors: of some rows of X with others of Y.

    One pair that is not makes a strip of them walk along the layers.
    """
    assert plan.sectors is not None
    weight, bias = plan.sectors.first
    low, high = np.exp2(plan.sectors.range)
    left, right = _some(X, 0), _some(Y, 1)
    q, p = (weight * (side * side).sum(axis=1) + bias for side in (left, right))
    # Rows of zeros without a bias have no angles, nor have those of 1e100; they have no sectors.
    with np.errstate(invalid="ignore", over="ignore"):
        cosines = (weight * left @ right.T + bias) / np.sqrt(np.outer(q, p))
    angles = np.arccos(np.clip(cosines, -1, 1))
    known = [(low <= side) & (side < high) for side in (q, p)]
    inside = (angles > NARROW) & known[0][:, None] & known[1]
    return bool(np.count_nonzero(~inside) <= FEW * inside.size)


def _some(X: Rows, first: int) -> Array:
    """Return rows from all of X, those with even or with odd numbers."""
    at = np.unique(np.linspace(0, (len(X) - 1) // 2, SEEN).astype(int)) * 2 + first
    return np.asarray(X.data[np.minimum(at, len(X) - 1)], np.float64)
