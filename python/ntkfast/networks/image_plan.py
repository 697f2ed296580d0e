"""From the steps of a convolutional network to what an engine must know of them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ntkfast.arrays.collections import Shape
from ntkfast.engines.codes import IMAGE_LEVEL, IMAGE_STEP, ImageOperation
from ntkfast.engines.maps import ImagePlan
from ntkfast.networks.steps import AvgPool, Conv, Readout, Skip, Step, convolutions, is_circular

CONV, RELU, POOL, SAVE, ADD = ImageOperation


class _Table:
    """Rows of numbers, one per step, and the shapes between them."""

    def __init__(self, height: int, width: int) -> None:
        self.rows: list[tuple[float, ...]] = []
        self.shapes = [(height, width)]

    def add(self, steps: Sequence[Step], slot: int = 0) -> None:
        for step in steps:
            shape = self.shapes[-1]
            if isinstance(step, Skip):
                self._put(SAVE, slot=slot)
                self.add(step.branch, slot + 1)
                if self.shapes[-1] != shape:
                    raise ValueError(
                        f"Skip: expected a branch that keeps the shape {shape}, "
                        f"got {self.shapes[-1]}"
                    )
                self._put(ADD, slot=slot)
            elif isinstance(step, Conv):
                self._convolve(step)
            elif isinstance(step, AvgPool):
                if any(size % step.size for size in shape):
                    raise ValueError(
                        f"AvgPool: expected a size that divides the image, "
                        f"got {step.size} for {shape[0]} x {shape[1]} pixels"
                    )
                after = shape[0] // step.size, shape[1] // step.size
                self._put(POOL, size=step.size, shape=after)
            else:
                self._put(RELU)

    def _convolve(self, step: Conv) -> None:
        q, shape = step.filter_size, self.shapes[-1]
        if step.padding != "zero" and q > min(shape):
            raise ValueError(
                f"filter_size: expected at most {min(shape)} for images of {shape[0]} x {shape[1]} "
                f"pixels and padding={step.padding!r}, got {q}"
            )
        valid = step.padding == "valid"
        after = (shape[0] - q + 1, shape[1] - q + 1) if valid else shape
        self._put(
            CONV,
            size=q,
            valid=valid,
            gain=step.w_std**2 / q**2,
            bias=step.b_std**2,
            trained=float(step.trained),
            shape=after,
        )

    def _put(
        self,
        op: int,
        *,
        size: int = 1,
        slot: int = 0,
        valid: bool = False,
        gain: float = 1.0,
        bias: float = 0.0,
        trained: float = 0.0,
        shape: tuple[int, int] | None = None,
    ) -> None:
        self.rows.append((op, size, slot, valid, gain, bias, trained))
        self.shapes.append(shape or self.shapes[-1])


def _reaches(table: _Table, last: tuple[int, int], end: int) -> list[tuple[int, int]]:
    """Return the largest displacements at each level that `last` at level `end` asks for."""
    found = [(-1, -1)] * len(table.shapes)
    found[end] = last
    for k in range(end - 1, -1, -1):
        size = int(table.rows[k][1]) if table.rows[k][0] == POOL else 1
        h, w = (
            min(size * reach + size - 1, limit - 1)
            for reach, limit in zip(found[k + 1], table.shapes[k], strict=True)
        )
        found[k] = h, w
    return found


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


@lru_cache(maxsize=256)
def image_plan(
    steps: tuple[Step, ...], readout: Readout, divides_by_channels: bool, shape: Shape
) -> ImagePlan:
    """Return the constants of a network for images of one shape (height, width, channels)."""
    height, width, channels = shape
    table = _Table(height, width)
    table.add(steps)
    end = len(table.rows)
    reach = {"gap": 1 << 30, "flatten": 0, "lap": (readout.window or 1) - 1}[readout.kind]
    sizes = table.shapes[-1]
    reaches = _reaches(table, (min(reach, sizes[0] - 1), min(reach, sizes[1] - 1)), end)
    pools = [k + 1 for k, row in enumerate(table.rows) if row[0] == POOL]
    own = _reaches(table, (0, 0), pools[-1]) if pools else [(-1, -1)] * (end + 1)
    levels = [(*a, *b, *c) for a, b, c in zip(table.shapes, reaches, own, strict=True)]
    circular = is_circular(steps)
    return ImagePlan(
        steps=np.array(table.rows, IMAGE_STEP),
        levels=np.array(levels, IMAGE_LEVEL),
        channels=channels,
        circular=circular,
        weight_h=_weights(readout, sizes[0]) * readout.w_std**2,
        weight_w=_weights(readout, sizes[1]),
        trained=float(readout.trained),
        bias=readout.b_std**2,
        input_scale=1.0 / channels if divides_by_channels else 1.0,
        homogeneous=not readout.b_std and not any(conv.b_std for conv in convolutions(steps)),
    )
