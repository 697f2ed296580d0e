"""Memory of a device: copies, scratch, norms, and the small kernels that stand between products."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cached_property
from typing import cast

import numpy as np
from numpy.typing import NDArray

from ntkfast.arrays.collections import FloatArray, Rows
from ntkfast.engines import cuda
from ntkfast.engines.cuda import device_of
from ntkfast.places.device_array import DeviceArray, dense

__all__ = [
    "DeviceRows",
    "add_turned",
    "device_of",
    "measure",
    "measured",
    "multiply",
    "numbers",
    "pair_products",
    "placed",
    "put",
    "scale_rows",
    "scratch",
]


def measure(
    matrices: list[DeviceArray], scale: float = 1.0
) -> list[tuple[DeviceArray, tuple[float, float, float, float]]]:
    """Return norms of rows times a number, there, and what they lie between, of each matrix.

    That is their least one, the least above 0, the largest, NaN if one is, and the mean.
    """
    first = matrices[0]
    with cuda.on_device_of(matrices) as where:
        seen = [matrix.described() for matrix in matrices]
        memory, between = cuda.call("measure", first.dtype, seen, scale, where)
    pointer, result = memory.pointer, []
    for matrix, (least, positive, top, mean) in zip(matrices, between, strict=True):
        shape, step = (len(matrix),), (first.itemsize,)
        norms = DeviceArray(pointer, shape, step, first.dtype, first.stream, True, memory, memory)
        result.append((norms, (least, positive, top, mean)))
        pointer += len(matrix) * first.itemsize
    return result


class DeviceRows(Rows):
    """Rows whose norms stay on the device: the host is told what they lie between.

    Attributes
    ----------
    data : (n, d) DeviceArray
    measured : (n,) DeviceArray
        The norms, as engines take them.
    norms : (n,) array
        A copy on the host, once one is asked for.
    """

    measured: DeviceArray

    def __init__(self, data: DeviceArray, measured: DeviceArray) -> None:
        self.__dict__.update(data=data, measured=measured)  # they are frozen

    @cached_property
    def norms(self) -> FloatArray:
        """The norms, on the host."""
        return numbers(self.measured)

    def __getitem__(self, part: slice) -> Rows:
        return DeviceRows(cast(DeviceArray, self.data[part]), self.measured[part])


def measured(**arrays: DeviceArray) -> list[Rows]:
    """Return matrices of one type as rows, after one wait for what lies between their norms.

    Raises
    ------
    ValueError
        Naming the argument and the row that holds NaN or infinity, or is too long.
    """
    result: list[Rows] = []
    found = measure(list(arrays.values()))
    for (name, array), (norms, between) in zip(arrays.items(), found, strict=True):
        rows = DeviceRows(array, norms)
        rows.__dict__.update(zip(("least", "least_positive", "top", "mean"), between, strict=True))
        if not rows.top < 1e150:
            row = int(np.argmax(~(rows.norms < 1e150)))
            raise ValueError(
                f"{name}: expected finite numbers and norms below 1e150, row {row} has "
                f"{rows.norms[row]:.3g}"
            )
        result.append(rows)
    return result


def put(array: FloatArray, to: DeviceArray) -> None:
    """Copy an array without gaps to a device, between arrays of one size."""
    with cuda.on_device_of([to]) as where:
        cuda.module().copy(to.described(), array, where)


def numbers(array: DeviceArray) -> FloatArray:
    """Return a copy on the host of an array without gaps."""
    result = np.empty(array.shape, array.dtype)
    with cuda.on_device_of([array]) as where:
        cuda.module().copy(result, array.described(), where)
    return result


def placed(array: FloatArray, beside: DeviceArray | None = None) -> DeviceArray:
    """Return a copy on the device and in the stream of another array, or where the call computes.

    The array has no gaps.
    """
    with cuda.on_device_of([] if beside is None else [beside]) as where:
        memory = cuda.module().Memory(max(1, array.nbytes), where)
    stream = 0 if beside is None else beside.stream
    steps = dense(array.shape, array.itemsize)
    there = DeviceArray(
        memory.pointer, array.shape, steps, array.dtype, stream, True, memory, memory
    )
    put(array, there)
    return there


def scratch(like: DeviceArray, shape: tuple[int, ...]) -> DeviceArray:
    """Return memory on the device and in the stream of an array; anything may be in it."""
    size = max(1, math.prod(shape)) * like.itemsize
    with cuda.on_device_of([like]) as where:
        memory = cuda.module().Memory(size, where)
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
    with cuda.on_device_of(arrays) as where:
        seen = (array.described() for array in arrays)
        cuda.call("multiply", A.dtype, *seen, diagonal, shift, where)


def add_turned(out: DeviceArray, part: DeviceArray | None) -> None:
    """Add the transpose of `part` to `out`; None: that of `out` itself, which is square."""
    with cuda.on_device_of([out] if part is None else [out, part]) as where:
        given = None if part is None else part.described()
        cuda.call("add_turned", out.dtype, given, out.described(), where)


def scale_rows(
    X: DeviceArray | None,
    out: DeviceArray,
    *,
    factors: FloatArray | None = None,
    divisors: FloatArray | None = None,
    scale: float = 1.0,
) -> None:
    """Write scale factors X / divisors, numbers per row of the host; X = None stands for ones."""
    with cuda.on_device_of([out] if X is None else [out, X]) as where:
        given = None if X is None else X.described()
        rows = (given, divisors, factors, out.described())
        cuda.call("scale_rows", out.dtype, *rows, scale, where)


def pair_products(
    X: DeviceArray,
    left: NDArray[np.intp],
    right: NDArray[np.intp],
    shifts: FloatArray,
    factors: FloatArray,
    out: DeviceArray,
) -> None:
    """Write (X[:, left] X[:, right] - shifts) factors."""
    with cuda.on_device_of([X, out]) as where:
        columns = (left.astype(np.int64), right.astype(np.int64), shifts, factors)
        cuda.call("pair_products", X.dtype, X.described(), *columns, out.described(), where)
