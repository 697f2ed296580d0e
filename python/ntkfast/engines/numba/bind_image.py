"""Prepares kernels of convolutional networks for compiled code; mirrors bind_image.cpp."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ntkfast.arrays.collections import FloatArray
from ntkfast.engines.codes import LAYER_ROW, LEVEL, SLOTS
from ntkfast.engines.maps import ImagePlan, ScaledImages
from ntkfast.engines.numba.cpu.image.deviations import pick_image, read_images
from ntkfast.engines.numba.cpu.image.geometry import (
    ACTIVATE,
    CONV,
    LANES,
    POOL,
    SAVE,
    Net,
    Pixels,
    Planes,
    Work,
)
from ntkfast.engines.numba.cpu.image.gram import run_pair
from ntkfast.engines.numba.formulas.row_stats import activation_stats
from ntkfast.engines.numba.memory import zeros
from ntkfast.engines.numba.problem import EQUAL, ROWS, WIDTH
from ntkfast.engines.parallel import Task, share


def images(
    plan: ImagePlan,
    X: ScaledImages,
    Y: ScaledImages | None,
    outs: tuple[FloatArray | None, FloatArray | None],
    diagonal: bool,
    threads: int,
) -> None:
    """Write NTK and NNGP of images, or of images with themselves as one column."""
    dtype, other = X.data.dtype, X if Y is None else Y
    net, cancelled = _net(plan, dtype), np.zeros(1, np.uint8)
    smooth = True if ACTIVATE in plan.steps["operation"] else None
    rows, columns = LANES, 1 if diagonal else -(-len(other) // LANES)
    while rows > 1 and not diagonal and -(-len(X) // rows) * columns < 8 * threads:
        rows //= 2
    blocks = -(-len(X) // rows)

    def write(scratch: Work, i: Any, j: slice) -> None:
        """Write the results in the lanes to row i, or rows i of the diagonal."""
        count = j.stop - j.start
        tangent, total = np.split(scratch.total, 2)
        total = total[:count] + plan.bias
        values = tangent[:count] + plan.trained * total, total
        factors = X.factor[i].astype(np.float64) * other.factor[j].astype(np.float64)
        for out, value in zip(outs, values, strict=True):
            if out is None:
                continue
            if diagonal:
                out[j, 0] = factors * value
                continue
            first = max(i - j.start, 0) if Y is None else 0
            out[i, j.start + first : j.stop] = (factors * value)[first:]
            if Y is None:
                out[j.start + first : j.stop, i] = out[i, j.start + first : j.stop]

    def prepare(
        scratch: Work, to: Pixels, side: ScaledImages, part: slice, whole: bool = False
    ) -> None:
        """Read images and find their deviations; with `whole` their own kernels too."""
        read_images(net, scratch, to, side.data, side.scale, part.start, part.stop)
        run_pair(net, scratch, to, to, True, whole, cancelled, smooth)

    def thread() -> Task:
        scratch, packed = _scratch(plan, dtype), -1

        def task(number: int) -> None:
            nonlocal packed
            tile, begin = number // blocks, number % blocks * rows
            ours = slice(begin, min(begin + rows, len(X)))
            if diagonal:
                prepare(scratch, scratch.left, X, ours, True)
                write(scratch, ours, ours)
                return
            theirs = slice(tile * LANES, min(tile * LANES + LANES, len(other)))
            if Y is None and begin >= theirs.stop:
                return
            if packed != tile:
                prepare(scratch, scratch.right, other, theirs)
                packed = tile
            prepare(scratch, scratch.left, X, ours)
            for i in range(ours.start, ours.stop):
                if cancelled[0] or (Y is None and i >= theirs.stop):
                    break
                pick_image(net, scratch, i - begin)
                run_pair(net, scratch, scratch.one, scratch.right, False, True, cancelled, smooth)
                write(scratch, i, theirs)

        return task

    pairs = float(len(X)) * (1 if diagonal else len(other))
    cost = 16.0 * pairs * _pairs(plan, 0, 2) * len(plan.steps)
    share(thread, cancelled, blocks * columns, threads, cost)


def _net(plan: ImagePlan, dtype: np.dtype[Any]) -> Net:
    """Return the plan as compiled code wants it."""
    steps, levels = plan.steps, plan.levels
    areas = levels["height"] * levels["width"]
    layers = np.zeros(len(steps), LAYER_ROW)
    layers["kind"], layers["parameter"] = steps["kind"], steps["parameter"]
    count = _counts(plan)
    numbers = np.cumsum([0, *(count * areas[:-1])])
    return Net(
        steps["operation"].astype(np.int64),
        steps["slot"].astype(np.int64),
        steps["window"].astype(np.int64),
        steps["stride"].astype(np.int64),
        steps["before"].astype(np.int64),
        steps["whole"].astype(np.int64),
        layers,
        count,
        steps["gain"].astype(dtype),
        steps["bias"].astype(dtype),
        steps["trained"].astype(dtype),
        np.column_stack([*(levels[name] for name in LEVEL), np.cumsum(areas) - areas, numbers]),
        plan.channels,
        plan.circular,
        plan.weight_h.astype(dtype),
        plan.weight_w.astype(dtype),
    )


def _counts(plan: ImagePlan) -> NDArray[np.int64]:
    """Numbers per pixel of each step: those of its activation, and the root of E[s'^2]."""
    steps = plan.steps
    return np.array(
        [
            activation_stats(int(kind), 0) + 1 if operation == ACTIVATE else 0
            for operation, kind in zip(steps["operation"], steps["kind"], strict=True)
        ],
        np.int64,
    )


def _pairs(plan: ImagePlan, level: int, reach: int) -> int:
    """At least the pixel pairs of all planes at a level; `reach` is the column of `levels`."""
    row = [int(plan.levels[name][level]) for name in LEVEL]
    return int(np.prod([row[a] * min(2 * max(row[reach + a], 0) + 1, 2 * row[a]) for a in (0, 1)]))


def _scratch(plan: ImagePlan, dtype: np.dtype[Any]) -> Work:
    """Return scratch memory of one thread."""
    heights, widths = plan.levels["height"], plan.levels["width"]
    areas = heights * widths
    area, pixels, counts = int(areas.max()), int(np.sum(areas)), _counts(plan)
    numbers = int(np.sum(counts * areas[:-1]))
    kinds, steps = plan.steps["operation"], plan.steps
    conv = kinds == CONV
    widest = int(steps["window"][conv].max())
    row = np.maximum(
        widths[:-1] + steps["before"][:, 1],
        (widths[1:] - 1) * steps["stride"][:, 1] + steps["window"][:, 1],
    )
    longest = int(row[conv].max())
    levels = np.flatnonzero(kinds == POOL) + 1
    pooled = max(
        (_pairs(plan, int(level), reach) for level in levels for reach in (2, 4)), default=0
    )

    def lanes(*sizes: int) -> list[Any]:
        return [zeros(size * LANES, dtype) for size in sizes]

    def side() -> Pixels:
        return Pixels(*lanes(int(areas[0]) * plan.channels, pixels, pixels, numbers))

    most = int(counts.max())
    return Work(
        left=side(),
        one=side(),
        right=side(),
        plane=Planes(*lanes(*3 * [area])),
        spare=Planes(*lanes(*3 * [area])),
        saved=Planes(*lanes(*3 * [SLOTS * area if SAVE in kinds else 0])),
        ring=Planes(*lanes(*3 * [2 * widest * longest])),
        sums=zeros(longest * LANES, dtype),
        tangents=zeros(longest * LANES, dtype),
        store=(zeros(2 * pooled * LANES, dtype), zeros(2 * pooled * LANES, dtype)),
        differ=zeros(LANES, dtype),
        columns=zeros(most * WIDTH, dtype),
        rows=zeros(most * ROWS, dtype),
        state=zeros(EQUAL + WIDTH, dtype),
        total=np.zeros(2 * LANES),
    )
