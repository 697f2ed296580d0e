"""CUDA devices: results lie there too, and are computed in the stream of their library."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from ntkfast import engines
from ntkfast.arrays import checks, ragged
from ntkfast.arrays.collections import Collection, FloatArray, Images, Rows, Shape
from ntkfast.arrays.ragged import Sequences
from ntkfast.places import device_memory
from ntkfast.places.base import Output, Place
from ntkfast.places.device_array import DeviceArray, dense, empty_like, view


class Device(Place):
    """The device of the arrays of a call; see `Place`."""

    panel_bytes = 1 << 26
    feature_bytes = 1 << 28

    def engine(self, name: str | None) -> engines.Engine:
        """Return the CUDA engine, which is no matter of choice."""
        if name not in (None, "cuda"):
            raise ValueError(f"engine: {name!r} cannot read an array on a CUDA device")
        return engines.select("cuda")

    def matrix(self, name: str, value: Any) -> FloatArray:
        """Return the view of a matrix."""
        return cast(FloatArray, _matrix(name, value))

    def rows(self, X: Any, Y: Any) -> tuple[Rows, Rows | None]:
        """Return rows with their norms, which stay there."""
        self.engine(None)  # says what is missing, where something is
        left = _matrix("X", X)
        if Y is None:
            return device_memory.measured(X=left)[0], None
        right = _matrix("Y", Y)
        _together(X=left, Y=right)
        checks.matrix_shape("Y", right.shape, left.shape[1])
        rows, columns = device_memory.measured(X=left, Y=right)
        return rows, columns

    def images(
        self, X: Any, Y: Any, wanted: Shape | None, fits: Callable[[Shape], object]
    ) -> tuple[Images, Images | None]:
        """Return images without gaps, one per row."""
        one, other = view("X", X), None if Y is None else view("Y", Y)
        shape = checks.image_shape("X", one.shape, wanted)
        if other is not None:
            checks.image_shape("Y", other.shape, shape)
        fits(shape)
        left, right = self.rows(one.flat("X"), None if other is None else other.flat("Y"))

        def images(rows: Rows) -> Images:
            return Images(rows.data, shape, rows.norms.astype(np.float64))

        return images(left), None if right is None else images(right)

    def sequences(self, X: Any, Y: Any) -> list[tuple[Sequences, NDArray[Any]]]:
        """Return copies on the host, which computes the variances of all steps."""
        self.engine(None)
        found: list[tuple[Sequences, NDArray[Any]]] = []
        first: dict[str, DeviceArray] = {}
        for name, value in {"X": X}.items() if Y is None else {"X": X, "Y": Y}.items():
            listed = isinstance(value, (list, tuple))  # of different lengths
            named = (
                {f"{name}[{i}]": one for i, one in enumerate(value)} if listed else {name: value}
            )
            arrays = {place: view(place, one) for place, one in named.items()}
            if not listed:
                ragged.check_shape(name, arrays[name].shape)
            first = first or arrays
            _together(**(first | arrays))
            copies: Any = [_copy(place, array) for place, array in arrays.items()]
            sequences = ragged.checked(name, copies if listed else copies[0])
            if found:
                ragged.matched(found[0][0], sequences)
            found.append((sequences, cast("NDArray[Any]", next(iter(arrays.values())))))
        return found

    def factor(
        self, V: Any, count: int, like: Collection, name: str = "V"
    ) -> tuple[FloatArray, bool]:
        """Return the view of V."""
        given = view(name, V)
        vector = given.ndim == 1
        factor = _matrix(name, given.column() if vector else given)
        _together(**{"X": _memory(like), name: factor})
        if len(factor) != count:
            wanted = f"({count},)" if vector else f"({count}, *)"
            raise ValueError(f"{name}: expected shape {wanted}, got {given.shape}")
        device_memory.measured(**{name: factor})  # finite?
        return cast(FloatArray, factor), vector

    def output(
        self,
        out: Any,
        shape: tuple[int, int],
        like: Collection,
        dtype: np.dtype[Any] | None = None,
        **read: Collection | None,
    ) -> Output:
        """Return an array of the library of the inputs."""
        return self._output(out, shape, _memory(like), read)

    def product_output(
        self, out: Any, shape: tuple[int, int], like: Collection, vector: bool, **read: Any
    ) -> Output:
        """Return the same for a product, which is a vector if V was one."""
        target = out
        if vector:
            first = empty_like("out", _memory(like), shape[:1]) if out is None else view("out", out)
            target = first.column() if first.ndim == 1 else first
        return self._output(target, shape, _memory(like), read)

    def _output(
        self, out: Any, shape: tuple[int, int], like: DeviceArray, read: dict[str, Any]
    ) -> Output:
        if out is None:
            result = empty_like("out", like, shape)
        else:
            result = _matrix("out", out)
            _together(X=like, out=result)
            if result.shape != shape:
                raise ValueError(f"out: expected shape {shape}, got {result.shape}")
            if not result.writeable:
                raise ValueError("out: expected a writable array, got a read-only one")
            if len(result) > 1 and result.strides[0] < result.shape[1] * result.itemsize:
                raise ValueError(f"out: expected rows of their own, got strides {result.strides}")
            for name, array in read.items():
                if array is not None and result.overlaps(_memory(array)):
                    raise ValueError(f"out: expected memory of its own, it overlaps {name}")
        target = cast(FloatArray, result)
        return Output(target, target, result.source)

    def transformed(self, X: Any, out: Any) -> tuple[FloatArray, Output]:
        """Return the view of a matrix, and an array of its library."""
        array = _matrix("X", X)
        given = None if out is None else _matrix("out", out)
        same = given is not None and (given.pointer, given.strides) == (
            array.pointer,
            array.strides,
        )
        read = {} if same else {"X": array}
        return cast(FloatArray, array), self._output(
            given, (len(array), array.shape[1]), array, read
        )

    def values(self, values: FloatArray, like: Collection) -> Any:
        """Return a vector of the library of the inputs."""
        result = empty_like("X", _memory(like), values.shape)
        device_memory.put(np.ascontiguousarray(values), result)
        return result.source

    def row_norms(self, X: Any) -> FloatArray:
        """Return the norms by a kernel."""
        return device_memory.numbers(device_memory.measure([X])[0][0])

    def finite(self, array: Any) -> bool:
        """Whether all numbers of a matrix are finite, by means of their squares in each row."""
        scale = 0.5 / math.sqrt(max(1, array.shape[1]))  # norms overflow before numbers do
        _, (*_, top, _) = device_memory.measure([array], scale)[0]
        return math.isfinite(top)

    def empty(self, like: Any, shape: tuple[int, int]) -> FloatArray:
        """Return memory on the device and in the stream of `like`."""
        return cast(FloatArray, device_memory.scratch(like, shape))

    def clear(self, array: Any) -> None:
        """Write zeros."""
        device_memory.scale_rows(None, array, scale=0.0)

    def beside(self, left: Any, right: Any) -> FloatArray:
        """Return the columns of both matrices in one."""
        width = left.shape[1]
        both = device_memory.scratch(left, (len(left), width + right.shape[1]))
        device_memory.scale_rows(left, both[:, :width])
        device_memory.scale_rows(right, both[:, width:])
        return cast(FloatArray, both)

    def add_turned(self, matrix: Any, part: Any) -> None:
        """Add the transpose of `part` to a matrix."""
        device_memory.add_turned(matrix, part)

    def add_mirrored(self, matrix: Any) -> None:
        """Add its transpose to a square matrix."""
        device_memory.add_turned(matrix, None)

    def multiply(self, A: Any, V: Any, out: Any, diagonal: FloatArray | None, shift: int) -> None:
        """Write A V by a kernel."""
        own = None if diagonal is None else np.ascontiguousarray(diagonal)
        device_memory.multiply(A, V, out, own, shift)


def _memory(array: Any) -> DeviceArray:
    """Return the array that holds a collection, or the array itself."""
    return cast(DeviceArray, getattr(array, "memory", array))


def _check_dtype(name: str, array: DeviceArray) -> None:
    if array.dtype not in (np.float32, np.float64):
        raise TypeError(f"{name}: expected float32 or float64 on a CUDA device, got {array.dtype}")


def _matrix(name: str, value: Any) -> DeviceArray:
    """Return the view of a float32 or float64 matrix whose rows have unit stride."""
    array = view(name, value)
    _check_dtype(name, array)
    checks.matrix_shape(name, array.shape)
    if array.shape[1] == 1:  # has any stride
        array = array.column()
    if array.strides[1] != array.itemsize or array.strides[0] % array.itemsize:
        raise ValueError(
            f"{name}: expected rows with unit stride on a CUDA device, got strides {array.strides}"
        )
    return array


def _copy(name: str, array: DeviceArray) -> FloatArray:
    """Return a copy on the host of an array without gaps."""
    _check_dtype(name, array)
    if array.strides != dense(array.shape, array.itemsize):
        raise ValueError(f"{name}: expected an array without gaps, got strides {array.strides}")
    return device_memory.numbers(array)


def _together(**arrays: DeviceArray) -> None:
    """Check that arrays lie on one device and have one type."""
    (first, one), *rest = arrays.items()
    place = device_memory.device_of(one)
    for name, array in rest:
        if array.dtype != one.dtype:
            raise TypeError(f"{name}: expected dtype {one.dtype} as {first}, got {array.dtype}")
        if device_memory.device_of(array) != place:
            raise ValueError(
                f"{name}: expected an array on CUDA device {place} as {first}, "
                f"got one on device {device_memory.device_of(array)}"
            )
