"""Prepares Hadamard transforms and what is made of them; mirrors bind_transform.cpp."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ntkfast.arrays.collections import FloatArray
from ntkfast.engines.codes import Answer
from ntkfast.engines.maps import Rotation, StructuredMap
from ntkfast.engines.numba.cpu.hadamard import Factor, sketch_rows, structured_rows, transform_rows
from ntkfast.engines.numba.memory import flat_rows, zeros
from ntkfast.engines.parallel import Task, share

TASK = 1 << 16  # entries


def hadamard(
    X: FloatArray, out: FloatArray, signs: FloatArray | None, scale: float, threads: int
) -> None:
    """Write scale (X * signs) H to `out`, which may be X."""
    dtype, (height, width) = X.dtype, X.shape
    diagonal = np.ones(width, dtype) if signs is None else np.array(signs)
    arguments = (flat_rows(X), flat_rows(out), width, diagonal, dtype.type(scale))
    _share_rows(transform_rows, arguments, dtype, height, width, 8.0, threads)


def sketch(
    X: FloatArray,
    Y: FloatArray | None,
    out: FloatArray,
    left: Rotation,
    right: Rotation | None,
    scale: float,
    threads: int,
    step: bool = False,
) -> None:
    """Write scale times the rotation of the rows of X, or its product with that of Y, to `out`."""
    dtype, (height, width) = X.dtype, out.shape
    none = Rotation(np.empty(0, dtype), np.empty(0, np.int32 if dtype == np.float32 else np.int64))
    one, two = _factor(X, left), _factor(np.empty((1, 0), dtype) if Y is None else Y, right or none)
    sizes = len(one.signs), len(two.signs)
    ones = np.ones(max(sizes), dtype)
    arguments = (one, two, step, flat_rows(out), ones, dtype.type(scale))
    _share_rows(sketch_rows, arguments, dtype, height, sum(sizes) + width, 8.0, threads, sum(sizes))


def _factor(rows: FloatArray, rotation: Rotation) -> Factor:
    x = flat_rows(rows)
    if len(rows) == 1:  # stands for all
        x = x._replace(stride=0)
    return Factor(x, rows.shape[1], np.array(rotation.signs), rotation.index)


def structured(plan: StructuredMap, X: FloatArray, out: FloatArray, threads: int) -> None:
    """Write the answers of structured neurons."""
    dtype, (height, width), size = X.dtype, out.shape, plan.flips.shape[2]
    scale, unit = dtype.type(plan.scale), dtype.type(1) / np.sqrt(dtype.type(size))
    lengths = np.asarray(plan.lengths * scale).ravel()
    flips = np.ascontiguousarray(plan.flips).reshape(-1, size)
    views = flat_rows(X), X.shape[1], flat_rows(out), width
    numbers = np.ones(size, dtype), scale, unit, int(Answer[plan.answer.upper()])
    arguments = (*views, flips, lengths, *numbers)
    _share_rows(structured_rows, arguments, dtype, height, width, 24.0, threads, size)


def _share_rows(
    compute: Callable[..., None],
    arguments: tuple[Any, ...],
    dtype: np.dtype[Any],
    height: int,
    width: int,
    cost: float,
    threads: int,
    scratch: int = 0,
) -> None:
    """Compute a few rows per task, given cost and number of the entries of a row."""
    rows = max(1, TASK // width)

    def thread() -> Task:
        memory = [zeros(scratch, dtype)] if scratch else []

        def task(number: int) -> None:
            begin = number * rows
            compute(*arguments, *memory, begin, min(begin + rows, height))

        return task

    cancelled = np.zeros(1, np.uint8)
    share(thread, cancelled, -(-height // rows), threads, cost * height * width)
