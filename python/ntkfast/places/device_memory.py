"""Memory of a device: copies, scratch, and the small kernels that stand between products."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ntkfast.arrays.collections import FloatArray
from ntkfast.engines import cuda
from ntkfast.engines.cuda import device_of
from ntkfast.places.device_array import DeviceArray, dense

__all__ = [
    "add_turned",
    "device_of",
    "multiply",
    "numbers",
    "pair_products",
    "put",
    "row_norms",
    "scale_rows",
    "scratch",
]


def row_norms(X: DeviceArray) -> FloatArray:
    """Return the Euclidean norms of rows, on the host."""
    with cuda.on_device_of([X]):
        norms: FloatArray = cuda.call("row_norms", X.dtype, X.described(), cuda.here())
    return norms


def put(array: FloatArray, to: DeviceArray) -> None:
    """Copy an array without gaps to a device, between arrays of one size."""
    with cuda.on_device_of([to]):
        cuda.module().copy(to.described(), array, cuda.here())


def numbers(array: DeviceArray) -> FloatArray:
    """Return a copy on the host of an array without gaps."""
    result = np.empty(array.shape, array.dtype)
    with cuda.on_device_of([array]):
        cuda.module().copy(result, array.described(), cuda.here())
    return result


def scratch(like: DeviceArray, shape: tuple[int, ...]) -> DeviceArray:
    """Return memory on the device and in the stream of an array; anything may be in it."""
    size = max(1, math.prod(shape)) * like.itemsize
    with cuda.on_device_of([like]):
        memory = cuda.module().Memory(size, cuda.here())
    return replace(
        like,
        pointer=memory.pointer,
        shape=shape,
        strides=dense(shape, like.itemsize),
        writeable=True,
        source=memory,
        owner=memory,
    )


def multiply(
    A: DeviceArray, V: DeviceArray, out: DeviceArray, diagonal: FloatArray | None, shift: int
) -> None:
    """Write A V, sums in float64; entries (i, i + shift) of A are those of `diagonal`, if given."""
    arrays = [A, V, out]
    with cuda.on_device_of(arrays):
        seen = (array.described() for array in arrays)
        cuda.call("multiply", A.dtype, *seen, diagonal, shift, cuda.here())


def add_turned(out: DeviceArray, part: DeviceArray | None) -> None:
    """Add the transpose of `part` to `out`; None: that of `out` itself, which is square."""
    with cuda.on_device_of([out] if part is None else [out, part]):
        given = None if part is None else part.described()
        cuda.call("add_turned", out.dtype, given, out.described(), cuda.here())


def scale_rows(
    X: DeviceArray | None,
    out: DeviceArray,
    *,
    factors: FloatArray | None = None,
    divisors: FloatArray | None = None,
    scale: float = 1.0,
) -> None:
    """Write scale factors X / divisors, numbers per row of the host; X = None stands for ones."""
    with cuda.on_device_of([out] if X is None else [out, X]):
        given = None if X is None else X.described()
        rows = (given, divisors, factors, out.described())
        cuda.call("scale_rows", out.dtype, *rows, scale, cuda.here())


def pair_products(
    X: DeviceArray,
    left: NDArray[np.intp],
    right: NDArray[np.intp],
    shifts: FloatArray,
    factors: FloatArray,
    out: DeviceArray,
) -> None:
    """Write (X[:, left] X[:, right] - shifts) factors."""
    with cuda.on_device_of([X, out]):
        columns = (left.astype(np.int64), right.astype(np.int64), shifts, factors)
        cuda.call("pair_products", X.dtype, X.described(), *columns, out.described(), cuda.here())
