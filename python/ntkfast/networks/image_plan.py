"""From the steps of a convolutional network to what an engine must know of them.

All pairs of a pixel p of x and the pixel p + d of y form a plane. A convolution of stride s makes
the plane of displacement d of that of s d, so that up to the next pool planes are followed one by
one, and the displacements before a convolution are multiples of its stride: `scale`. A pool mixes
those that differ by less than its window.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ntkfast.activations.base import Activation
from ntkfast.activations.names import relu, resolve
from ntkfast.arrays.collections import Shape
from ntkfast.engines.codes import IMAGE_LEVEL, IMAGE_STEP, ActivationKind, ImageOperation
from ntkfast.engines.maps import ImagePlan
from ntkfast.kernels.layers import IDENTITY
from ntkfast.networks.gaussian import Branches
from ntkfast.networks.neurons import Dropout, LayerNorm
from ntkfast.networks.steps import (
    RELU,
    AvgPool,
    Conv,
    Pair,
    Readout,
    Skip,
    Windowed,
    is_circular,
    is_homogeneous,
    slots_of,
)

Op = ImageOperation


def order_of(ways: Sequence[tuple[Any, ...]]) -> list[int]:
    """Return in which order a plan has ways of branches: the last one first, identities last."""
    return sorted(reversed(range(len(ways))), key=lambda k: not ways[k])


def activations_of(steps: Sequence[Any]) -> Iterator[Activation]:
    """Yield the activations of a network in the order of its plan."""
    for step in steps:
        if isinstance(step, Branches):
            for k in order_of(step.ways):
                yield from activations_of(step.ways[k])
        elif isinstance(step, Dropout):
            yield step.masking
        elif isinstance(step, (str, Activation)) and resolve(step) != IDENTITY:
            yield resolve(step)


def _shares(step: Branches) -> tuple[float, ...]:
    """Return what the kernels of branches are multiplied by before they are joined."""
    if step.joined != "concatenation":
        return (1.0,) * len(step.ways)
    parts = getattr(step, "shares", None) or (1.0,) * len(step.ways)
    return tuple(one / sum(parts) for one in parts)


class _Table:
    """Rows of numbers, one per step, and the shapes between them."""

    def __init__(self, height: int, width: int) -> None:
        self.rows: list[dict[str, Any]] = []
        self.shapes: list[Pair] = [(height, width)]

    def add(self, steps: Sequence[Any], slot: int = 0) -> None:
        for step in steps:
            if isinstance(step, Branches):
                self._join(step, slot)
            elif isinstance(step, Conv):
                gain = step.w_std**2 / (step.window[0] * step.window[1])
                trained = float(step.trained)
                self._windows(Op.CONV, step, gain=gain, bias=step.b_std**2, trained=trained)
            elif isinstance(step, AvgPool):
                self._windows(Op.POOL, step, gain=step.gain)
            elif isinstance(step, LayerNorm):
                self._put(Op.NORMALIZE, whole=step.over == "all")
            elif step in (RELU, relu):
                self._put(Op.RELU)
            else:
                self._activate(step.masking if isinstance(step, Dropout) else step)

    def _activate(self, activation: Activation) -> None:
        kind, parameters = activation.code
        if kind != ActivationKind.IDENTITY:
            self._put(Op.ACTIVATE, kind=kind, parameter=(*parameters, 0.0, 0.0, 0.0)[:3])

    def _join(self, step: Branches, slot: int) -> None:
        """Walk the ways of branches, the identity last; what they began with waits in a slot."""
        start, ends = self.shapes[-1], list[Pair]()
        shares = _shares(step)
        ways = [(step.ways[k], shares[k]) for k in order_of(step.ways)]
        inner, other = slot + slots_of(step), slot + 1
        self._put(Op.SAVE, slot=slot)
        for k, (way, share) in enumerate(ways):
            plain = not way and share == 1  # the identity is what waits
            if k and not (plain and k == len(ways) - 1):
                self._put(Op.SWAP, slot=slot, shape=start)
                if k < len(ways) - 1:
                    self._put(Op.SAVE, slot=other)
            self.add(way, inner)
            if share != 1:
                self._windows(Op.CONV, Conv(1), gain=share, trained=0.0)
            ends.append(start if plain else self.shapes[-1])
            if ends[k] != ends[0]:
                short = "the identity has" if plain else "another one makes"
                if isinstance(step, Skip) and step.shortcut:
                    short = "the shortcut makes"
                (height, width), (rows, columns) = ends[0], ends[k]
                raise ValueError(
                    f"{type(step).__name__}: expected a branch that makes the pixels that {short}, "
                    f"got {height} x {width} beside {rows} x {columns}"
                )
            if k:
                self._put(Op.MULTIPLY if step.joined == "product" else Op.ADD, slot=slot)
                slot, other = other, slot

    def _windows(self, op: Op, step: Windowed, **numbers: float) -> None:
        rows, columns = (step.along(axis, size) for axis, size in enumerate(self.shapes[-1]))
        self._put(
            op,
            window=step.window,
            # One window has no next one, and needs no multiples of a stride.
            stride=tuple(
                stride if windows[0] > 1 else 1
                for stride, windows in zip(step.strides, (rows, columns), strict=True)
            ),
            before=(rows[1], columns[1]),
            shape=(rows[0], columns[0]),
            **numbers,
        )

    def _put(self, op: Op, *, shape: Pair | None = None, **numbers: Any) -> None:
        given = {"window": (1, 1), "stride": (1, 1), "gain": 1.0, "operation": op} | numbers
        self.rows.append(given)
        self.shapes.append(shape or self.shapes[-1])


def _displacements(table: _Table, axis: int, reach: int) -> list[tuple[int, int, int]]:
    """Return reach, own reach and scale of each level, where the read-out asks for `reach`."""
    end = len(table.rows)
    sizes = [shape[axis] for shape in table.shapes]
    found = [(0, 0, 1)] * (end + 1)
    asked, own = min(reach, sizes[end] - 1), -1
    while True:
        start = max((k + 1 for k in range(end) if table.rows[k]["operation"] == Op.POOL), default=0)
        scales = _scales(table, axis, start, end) if asked else [1] * (end - start + 1)
        own = max(own, 0) if start else own
        for k, scale in enumerate(scales, start):
            found[k] = asked, own, scale
        if start == 0:
            return found
        end = start - 1
        window, stride = (table.rows[end][name][axis] for name in ("window", "stride"))
        asked, own = (
            min(stride * scales[0] * one + window - 1, sizes[end] - 1) for one in (asked, own)
        )


def _scales(table: _Table, axis: int, start: int, end: int) -> list[int]:
    """Return the products of strides from the levels `start` to `end` on to the last of them."""
    scale, scales, waiting = 1, [1], {}
    for k in range(end - 1, start - 1, -1):
        row = table.rows[k]
        slot = row.get("slot", 0)
        if row["operation"] == Op.CONV:
            scale *= row["stride"][axis]
        elif row["operation"] in (Op.ADD, Op.MULTIPLY):
            waiting[slot] = scale
        elif row["operation"] == Op.SWAP:
            scale, waiting[slot] = waiting[slot], scale
        elif row["operation"] == Op.SAVE and waiting[slot] != scale:
            raise ValueError(
                f"Skip: expected equal strides on both ways, got {scale} in the branch and "
                f"{waiting[slot]} in the shortcut"
            )
        scales.append(scale)
    return scales[::-1]


def _weights(readout: Readout, size: int) -> NDArray[np.float64]:
    """Weights of the read-out along one axis, for each pair of pixels."""
    if readout.kind == "gap":
        return np.full((size, size), 1.0 / size**2)
    share = 1.0 / size if readout.mean else 1.0
    if readout.kind == "flatten":
        return np.eye(size) * share
    assert readout.window is not None
    distance = np.abs(np.subtract.outer(np.arange(size), np.arange(size)))
    inside = (distance <= readout.window // 2).astype(np.float64) / readout.window
    return np.asarray(inside.T @ inside) * share


def image_plan(
    steps: tuple[Any, ...], readout: Readout, divides_by_channels: bool, shape: Shape
) -> ImagePlan:
    """Return the constants of a network for images of one shape (height, width, channels)."""
    height, width, channels = shape
    table = _Table(height, width)
    table.add(steps)
    reach = {"gap": 1 << 30, "flatten": 0, "lap": (readout.window or 1) - 1}[readout.kind]
    rows, columns = (_displacements(table, axis, reach) for axis in (0, 1))
    levels = np.zeros(len(table.shapes), IMAGE_LEVEL)
    levels["height"], levels["width"] = np.transpose(table.shapes)
    levels["reach_h"], levels["own_h"], levels["scale_h"] = np.transpose(rows)
    levels["reach_w"], levels["own_w"], levels["scale_w"] = np.transpose(columns)
    numbers = np.zeros(len(table.rows), IMAGE_STEP)
    for row, given in zip(numbers, table.rows, strict=True):
        for name, value in given.items():
            row[name] = value
    return ImagePlan(
        steps=numbers,
        levels=levels,
        channels=channels,
        circular=is_circular(steps),
        weight_h=_weights(readout, table.shapes[-1][0]) * readout.w_std**2,
        weight_w=_weights(readout, table.shapes[-1][1]),
        trained=float(readout.trained),
        bias=readout.b_std**2,
        input_scale=1.0 / channels if divides_by_channels else 1.0,
        homogeneous=not readout.b_std and is_homogeneous(steps),
    )


def least_variance(steps: Sequence[Any], q: float) -> float:
    """Return the smallest variance of pixels on the way of one that begins with `q`.

    That of constant images: those that vary lose more in windows.
    """
    return _variances(steps, q)[1]


def _variances(steps: Sequence[Any], q: float) -> tuple[float, float]:
    """Return the variance behind the steps, and the smallest one on the way."""
    least = q
    for step in steps:
        if isinstance(step, Branches):
            ends, lows = zip(*(_variances(way, q) for way in step.ways), strict=True)
            least = min(least, *lows)
            if step.joined == "product":
                q = prod(ends)
            else:
                q = sum(share * end for share, end in zip(_shares(step), ends, strict=True))
        elif isinstance(step, Conv):
            q = step.w_std**2 * q + step.b_std**2
        elif isinstance(step, AvgPool):
            q *= step.gain * (step.window[0] * step.window[1]) ** 2
        elif isinstance(step, LayerNorm):
            q = float(q > 0)
        elif isinstance(step, Dropout):
            q /= 1 - step.rate
        else:
            q = q / 2 if step in (RELU, relu) else float(step.variance(q))
        least = min(least, q)
    return q, least
