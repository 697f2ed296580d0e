"""Blocks of features, in memory of the host or of a CUDA device: what stands between products.

Results lie where the arguments do; numbers per row come from the host.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from ntkfast.arrays.collections import FloatArray
from ntkfast.places import device_memory
from ntkfast.places.device_array import DeviceArray


def empty(like: Any, width: int, count: int | None = None) -> FloatArray:
    """Return a block of `width` columns, in which anything may be."""
    shape = (len(like) if count is None else count), width
    if isinstance(like, DeviceArray):
        return cast(FloatArray, device_memory.scratch(like, shape))
    return np.empty(shape, like.dtype)


def ones(like: Any) -> FloatArray:
    """Return a column of ones."""
    if not isinstance(like, DeviceArray):
        return np.ones((len(like), 1), like.dtype)
    column = device_memory.scratch(like, (len(like), 1))
    device_memory.scale_rows(None, column)
    return cast(FloatArray, column)


def write(out: Any, block: Any, factors: Any = 1.0) -> None:
    """Write a block, which may be `out` itself, times a number or numbers per row."""
    per_row = np.ndim(factors) == 1
    if not isinstance(out, DeviceArray):
        np.multiply(block, factors[:, None] if per_row else out.dtype.type(factors), out=out)
    elif 0 in out.shape:
        return
    elif per_row:
        numbers = np.ascontiguousarray(np.broadcast_to(factors, len(out)), out.dtype)
        device_memory.scale_rows(block, out, factors=numbers)
    else:
        device_memory.scale_rows(block, out, scale=float(factors))


def divided(X: Any, divisors: NDArray[Any]) -> FloatArray:
    """Return rows over numbers per row."""
    if not isinstance(X, DeviceArray):
        return np.asarray(X / divisors[:, None])
    out = device_memory.scratch(X, X.shape)
    device_memory.scale_rows(X, out, divisors=np.ascontiguousarray(divisors, X.dtype))
    return cast(FloatArray, out)


def pair_products(X: Any, shift: float, factor: float) -> FloatArray:
    """Return the products of all pairs of columns i <= j.

    Those of a column with itself, less `shift`, times `factor`; the others times sqrt(2) more.
    """
    i, j = np.triu_indices(X.shape[1])
    shifts = np.where(i == j, shift, 0).astype(X.dtype)
    factors = (factor * np.where(i == j, 1, np.sqrt(2))).astype(X.dtype)
    if not isinstance(X, DeviceArray):
        return np.asarray((X[:, i] * X[:, j] - shifts) * factors)
    out = device_memory.scratch(X, (len(X), len(i)))
    device_memory.pair_products(X, i, j, shifts, factors, out)
    return cast(FloatArray, out)


def beside(parts: list[tuple[Any, FloatArray]], out: FloatArray | None = None) -> FloatArray:
    """Put multiples of blocks side by side; those that are in their place already stay there."""
    if len(parts) == 1 and np.ndim(parts[0][0]) == 0 and parts[0][0] == 1 and out is None:
        return parts[0][1]
    if out is None:
        out = empty(parts[0][1], sum(part.shape[1] for _, part in parts))
    at = 0
    for factor, part in parts:
        block = out[:, at : at + part.shape[1]]
        if _start(block) != _start(part):
            write(block, part, factor)
        at += part.shape[1]
    return out


def _start(block: Any) -> int:
    return int(block.pointer if isinstance(block, DeviceArray) else block.ctypes.data)
