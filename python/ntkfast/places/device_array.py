"""Arrays that lie on a CUDA device: what their library says of them, without reading them.

Any object with ``__cuda_array_interface__`` (CuPy, PyTorch, Numba and others) or with
``__dlpack__`` on a CUDA device is one. Nothing is copied; work is queued on the current stream of
their library.
"""

from __future__ import annotations

import ctypes
import math
import sys
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

_DLPACK_CUDA = (2, 13)  # device types: CUDA, and CUDA managed memory
_DLPACK_KINDS = {0: "i", 1: "u", 2: "f", 5: "c", 6: "b"}


@dataclass(frozen=True, eq=False)
class DeviceArray:
    """A view of memory of a device, with the attributes of an array that need no look into it.

    Attributes
    ----------
    pointer : int
    shape, strides : tuples of int
        Strides in bytes, as NumPy counts them.
    dtype : dtype
    stream : int or None
        The CUDA stream that the library works on; None: it does not say.
    writeable : bool
    source : object
        The array of the library, whose memory it is.
    owner : object
        Kept as long as this is: what keeps the memory alive.
    """

    pointer: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: np.dtype[Any]
    stream: int | None
    writeable: bool
    source: Any
    owner: Any = None

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, *_: object, **__: object) -> NDArray[Any]:
        raise TypeError("an array on a CUDA device has no numbers for the host")

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def itemsize(self) -> int:
        """Bytes of a number."""
        return self.dtype.itemsize

    @property
    def bytes(self) -> int:
        """Bytes from the first number to the end of the last one."""
        if 0 in self.shape:
            return 0
        last = sum((n - 1) * step for n, step in zip(self.shape, self.strides, strict=True))
        return last + self.itemsize

    def __getitem__(self, part: slice | tuple[slice, slice]) -> DeviceArray:
        if isinstance(part, tuple):
            rows, columns = part
            first, stop, step = columns.indices(self.shape[1])
            found = self[rows]
            return replace(
                found,
                pointer=found.pointer + first * self.strides[1],
                shape=(len(found), len(range(first, stop, step))),
                strides=(found.strides[0], step * self.strides[1]),
            )
        first, stop, step = part.indices(len(self))
        return replace(
            self,
            pointer=self.pointer + first * self.strides[0],
            shape=(len(range(first, stop, step)), *self.shape[1:]),
            strides=(step * self.strides[0], *self.strides[1:]),
        )

    def column(self) -> DeviceArray:
        """Return a vector as a matrix of one column."""
        return replace(self, shape=(len(self), 1), strides=(self.strides[0], self.itemsize))

    def flat(self, name: str) -> DeviceArray:
        """Return an array of images as one of rows.

        Raises
        ------
        ValueError
            If the numbers of an image do not lie one after the other.
        """
        if self.strides[1:] != dense(self.shape[1:], self.itemsize):
            raise ValueError(f"{name}: expected images without gaps, got strides {self.strides}")
        shape = len(self), math.prod(self.shape[1:])
        return replace(self, shape=shape, strides=(self.strides[0], self.itemsize))

    def described(self) -> NDArray[Any]:
        """Return an array for C++ code that takes shape and pointer from it: nobody may read it."""
        size = self.bytes
        if size == 0:
            return np.empty(self.shape, self.dtype)
        buffer: Any = (ctypes.c_char * size).from_address(self.pointer)  # no type of NumPy's stubs
        array: NDArray[Any] = _Described(self.shape, self.dtype, buffer, 0, self.strides)
        array.flags.writeable = self.writeable
        return array

    def overlaps(self, other: DeviceArray) -> bool:
        """Whether the two may share memory."""
        return (
            self.pointer < other.pointer + other.bytes and other.pointer < self.pointer + self.bytes
        )


class _Described(np.ndarray[Any, Any]):
    """An array of numbers that the host cannot read: errors print the arguments of a call."""

    def __repr__(self) -> str:
        return f"<{self.dtype} array of shape {self.shape} on a CUDA device>"

    __str__ = __repr__


def lies_on_device(value: object) -> bool:
    """Whether an argument is an array on a CUDA device."""
    if isinstance(value, np.ndarray):
        return False
    if hasattr(value, "__cuda_array_interface__"):
        return True
    device = getattr(value, "__dlpack_device__", None)
    return device is not None and device()[0] in _DLPACK_CUDA


def view(name: str, value: Any) -> DeviceArray:
    """Return the view of an array of a library.

    Raises
    ------
    TypeError, ValueError
        If it is none, has a mask, strides against the order, or another byte order.
    """
    if isinstance(value, DeviceArray):
        return value
    facts = getattr(value, "__cuda_array_interface__", None)  # asked once: it takes some time
    if facts is not None:
        return _from_interface(name, value, facts)
    if not lies_on_device(value):
        raise TypeError(f"{name}: expected an array on a CUDA device, got {_kind(value)}")
    return _from_dlpack(name, value)


def _kind(value: object) -> str:
    return "a NumPy array" if isinstance(value, np.ndarray) else type(value).__name__


def _from_interface(name: str, value: Any, facts: dict[str, Any]) -> DeviceArray:
    """Read the CUDA array interface, versions 2 and 3."""
    if facts.get("mask") is not None:
        raise TypeError(f"{name}: expected an array without a mask")
    dtype, shape = np.dtype(facts["typestr"]), tuple(facts["shape"])
    if not dtype.isnative:
        raise TypeError(f"{name}: expected native byte order, got {dtype}")
    strides = facts.get("strides")
    pointer, read_only = facts["data"]
    return DeviceArray(
        pointer,
        shape,
        dense(shape, dtype.itemsize) if strides is None else _rising(name, strides),
        dtype,
        _stream(value, facts.get("stream")),
        not read_only,
        value,
        value,
    )


class _Tensor(ctypes.Structure):
    """The DLTensor of the DLPack header."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


def _from_dlpack(name: str, value: Any) -> DeviceArray:
    """Read a DLPack capsule, which stays unconsumed and keeps the memory while it lives."""
    stream = _stream(value, None)
    capsule = value.__dlpack__(stream=stream or 1)
    kind = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)
    pointer = kind(("PyCapsule_GetPointer", ctypes.pythonapi))
    tensor = _Tensor.from_address(pointer(capsule, b"dltensor"))
    if tensor.lanes != 1 or tensor.code not in _DLPACK_KINDS:
        raise TypeError(f"{name}: expected float32 or float64, got DLPack type {tensor.code}")
    dtype = np.dtype(f"{_DLPACK_KINDS[tensor.code]}{tensor.bits // 8}")
    shape = tuple(tensor.shape[k] for k in range(tensor.ndim))
    strides = dense(shape, dtype.itemsize)
    if tensor.strides:
        strides = _rising(name, [tensor.strides[k] * dtype.itemsize for k in range(tensor.ndim)])
    start = (tensor.data or 0) + tensor.byte_offset
    return DeviceArray(start, shape, strides, dtype, stream, True, value, capsule)


def dense(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """Return the strides of an array without gaps, in C order."""
    return tuple(itemsize * math.prod(shape[k + 1 :]) for k in range(len(shape)))


def _rising(name: str, strides: Any) -> tuple[int, ...]:
    found = tuple(int(step) for step in strides)
    if min(found, default=0) < 0:
        raise ValueError(f"{name}: expected strides that are not negative, got {found}")
    return found


def _stream(value: Any, said: int | None) -> int | None:
    """Return the stream that a library works on, or the one that the array itself names, if any.

    The default stream has two numbers, 0 and 1: here it is 0.
    """
    found = _current(value)
    found = said if found is None else found
    return 0 if found == 1 else found


def _current(value: Any) -> int | None:
    """Return the current stream of the library of an array, if it is known to have one."""
    if _is(value, "torch", "Tensor"):
        return int(sys.modules["torch"].cuda.current_stream(value.device).cuda_stream)
    if _is(value, "cupy", "ndarray"):
        with value.device:  # every device has a current stream
            return int(sys.modules["cupy"].cuda.get_current_stream().ptr)
    return None


def _is(value: object, library: str, kind: str) -> bool:
    """Whether a value is of a class of a library, which is not imported for that."""
    return library in sys.modules and isinstance(value, getattr(sys.modules[library], kind))


def empty_like(name: str, array: DeviceArray, shape: tuple[int, ...]) -> DeviceArray:
    """Return a new array of the same library on the same device.

    Raises
    ------
    TypeError
        If the library says of no function that makes one.
    """
    source = array.source
    if _is(source, "torch", "Tensor"):
        return view(name, source.new_empty(shape))
    if _is(source, "cupy", "ndarray"):  # whose arrays have no namespace before version 14
        with source.device:
            return view(name, sys.modules["cupy"].empty(shape, source.dtype))
    if hasattr(source, "__array_namespace__"):
        make = source.__array_namespace__().empty
        result = view(name, make(shape, dtype=source.dtype, device=source.device))
        if result.writeable:
            return result
    raise TypeError(
        f"{name}: {type(source).__module__}.{type(source).__name__} has no __array_namespace__ "
        "that makes an array for the result which may be written to; pass out="
    )
