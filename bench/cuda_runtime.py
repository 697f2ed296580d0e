"""A CUDA device without a framework: memory, events and cuBLAS by ctypes.

`Device` speaks to the driver, `Cublas` to the library of products. `HostDevice` and `HostProduct`
have the same functions where ``ntkfast._cuda_emulated`` plays the device, with its clock
and NumPy: what is measured there means nothing, but every line of a benchmark runs.
"""

from __future__ import annotations

import ctypes
import glob
import importlib.util
import os
import sys
import time
from collections.abc import Iterator, Sequence
from ctypes import POINTER, byref, c_char_p, c_float, c_int, c_size_t, c_uint, c_uint64, c_void_p
from pathlib import Path
from typing import Any

import numpy as np

Shape = Sequence[int]


class CudaError(RuntimeError):
    """A call of the driver or of cuBLAS that failed."""


# ---- libraries -----------------------------------------------------------------------------------


def package_folders() -> Iterator[Path]:
    """Yield the folders of packages of the package index that hold libraries of CUDA."""
    for package, pattern in (("nvidia", "*/lib"), ("torch", "lib")):
        spec = importlib.util.find_spec(package)
        for place in (spec.submodule_search_locations if spec else None) or ():
            yield from sorted(Path(place).glob(pattern), reverse=True)


def library_folders() -> Iterator[Path]:
    """Yield where libraries of CUDA may lie besides the places that the system searches."""
    for name in ("CUDA_HOME", "CUDA_PATH"):
        if os.environ.get(name):
            yield Path(os.environ[name], "lib64")
    for root in ("/usr/local/cuda", *sorted(glob.glob("/usr/local/cuda-*"), reverse=True)):
        yield Path(root, "lib64")
    yield from package_folders()


def load(names: Sequence[str]) -> ctypes.CDLL:
    """Load the first library that can be, by its name or out of the folders of CUDA.

    Raises
    ------
    CudaError
        If there is none.
    """
    reasons = []
    here = [str(folder / name) for folder in library_folders() for name in names]
    for path in (*names, *filter(os.path.exists, here)):
        try:
            return ctypes.CDLL(path)
        except OSError as error:
            reasons.append(str(error))
    raise CudaError(f"no {names[0]}: {'; '.join(reasons[:2])}")


# ---- the device ----------------------------------------------------------------------------------

ATTRIBUTES = {"multiprocessors": 16, "l2_bytes": 38, "major": 75, "minor": 76}  # of the driver


class Device:
    """One NVIDIA device, through its driver.

    Parameters
    ----------
    ordinal : int

    Raises
    ------
    CudaError
        If there is no driver or no such device.
    """

    emulated = False

    def __init__(self, ordinal: int = 0) -> None:
        self._driver = load(["libcuda.so.1"])
        self._driver.cuGetErrorString.argtypes = (c_int, POINTER(c_char_p))
        self._call("cuInit", c_uint(0))
        device, context = c_int(), c_void_p()
        self._call("cuDeviceGet", byref(device), c_int(ordinal))
        self._call("cuDevicePrimaryCtxRetain", byref(context), device)
        self._call("cuCtxSetCurrent", context)
        self._device = device
        self.l2_bytes = self._attribute("l2_bytes")

    def _call(self, name: str, *arguments: Any) -> None:
        status = getattr(self._driver, name)(*arguments)
        if status:
            text = c_char_p()
            self._driver.cuGetErrorString(status, byref(text))
            raise CudaError(f"{name}: {(text.value or b'unknown error').decode()} ({status})")

    def _attribute(self, name: str) -> int:
        value = c_int()
        self._call("cuDeviceGetAttribute", byref(value), c_int(ATTRIBUTES[name]), self._device)
        return value.value

    def facts(self) -> dict[str, Any]:
        """Return what the device is."""
        name, total, version = ctypes.create_string_buffer(256), c_size_t(), c_int()
        self._call("cuDeviceGetName", name, c_int(len(name)), self._device)
        self._call("cuDeviceTotalMem_v2", byref(total), self._device)
        self._call("cuDriverGetVersion", byref(version))
        return {
            "device": name.value.decode(),
            "compute_capability": f"{self._attribute('major')}.{self._attribute('minor')}",
            "memory_bytes": total.value,
            "l2_bytes": self.l2_bytes,
            "multiprocessors": self._attribute("multiprocessors"),
            "driver_cuda": f"{version.value // 1000}.{version.value % 1000 // 10}",
        }

    def free_bytes(self) -> int:
        """Return how much memory of the device is free."""
        free, total = c_size_t(), c_size_t()
        self._call("cuMemGetInfo_v2", byref(free), byref(total))
        return free.value

    def empty(self, shape: Shape, dtype: Any) -> DeviceArray:
        """Return an array on the device whose numbers are anything."""
        array = DeviceArray(self, tuple(shape), np.dtype(dtype))
        pointer = c_uint64()
        self._call("cuMemAlloc_v2", byref(pointer), c_size_t(array.nbytes))
        array.pointer = pointer.value
        return array

    def release(self, array: DeviceArray) -> None:
        """Free the memory of an array."""
        self._call("cuMemFree_v2", c_uint64(array.pointer))

    def put(self, array: np.ndarray) -> DeviceArray:
        """Copy an array of the host to the device."""
        source = np.ascontiguousarray(array)
        to = self.empty(source.shape, source.dtype)
        data = c_void_p(source.ctypes.data)
        self._call("cuMemcpyHtoD_v2", c_uint64(to.pointer), data, c_size_t(to.nbytes))
        return to

    def get(self, array: DeviceArray) -> np.ndarray:
        """Copy an array to the host."""
        to = np.empty(array.shape, array.dtype)
        data = c_void_p(to.ctypes.data)
        self._call("cuMemcpyDtoH_v2", data, c_uint64(array.pointer), c_size_t(array.nbytes))
        return to

    def fill(self, array: DeviceArray, word: int = 0) -> None:
        """Queue the filling of an array with a word of four bytes."""
        count = c_size_t(array.nbytes // 4)
        self._call("cuMemsetD32Async", c_uint64(array.pointer), c_uint(word), count, None)

    def copy(self, to: DeviceArray, source: DeviceArray) -> None:
        """Queue a copy between arrays of one size."""
        pointers = c_uint64(to.pointer), c_uint64(source.pointer)
        self._call("cuMemcpyDtoDAsync_v2", *pointers, c_size_t(to.nbytes), None)

    def mark(self) -> Any:
        """Queue an event."""
        event = c_void_p()
        self._call("cuEventCreate", byref(event), c_uint(0))
        self._call("cuEventRecord", event, None)
        return event

    def seconds(self, start: Any, stop: Any) -> float:
        """Return the time between two events, which it waits for and destroys."""
        elapsed = c_float()
        self._call("cuEventSynchronize", stop)
        self._call("cuEventElapsedTime", byref(elapsed), start, stop)
        for event in (start, stop):
            self._call("cuEventDestroy_v2", event)
        return 1e-3 * elapsed.value

    def finish(self) -> None:
        """Wait for all work, and raise what went wrong in it."""
        self._call("cuCtxSynchronize")


class DeviceArray:
    """An array of C order on a device, known by the CUDA array interface."""

    def __init__(self, device: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.device, self.shape, self.dtype = device, shape, dtype
        self.nbytes = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        self.pointer = 0
        self.memory: Any = None  # what owns it, if not the device

    def __del__(self) -> None:
        if self.pointer and not sys.is_finalizing():
            self.device.release(self)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """Tell where the array is: on the default stream, in C order."""
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (self.pointer, False),
            "strides": None,
            "stream": 1,  # the default one: without it every call would wait
            "version": 3,
        }


class HostDevice:
    """The host that plays a device: memory of ``ntkfast._cuda_emulated``, the clock of the host."""

    emulated = True
    l2_bytes = 1 << 16

    def __init__(self, module: Any) -> None:
        self._module = module

    def facts(self) -> dict[str, Any]:
        """Return that this is no device."""
        return {"device": "the host, playing a device", "l2_bytes": self.l2_bytes}

    def free_bytes(self) -> int:
        """Return how much memory there is to play with."""
        return 1 << 28

    def empty(self, shape: Shape, dtype: Any) -> DeviceArray:
        """Return an array of NaN."""
        array = DeviceArray(self, tuple(shape), np.dtype(dtype))
        array.memory = self._module.Memory(array.nbytes, "0")
        array.pointer = array.memory.pointer
        return array

    def release(self, array: DeviceArray) -> None:
        """Leave the memory to its owner."""

    def put(self, array: np.ndarray) -> DeviceArray:
        """Copy an array to what plays memory of a device."""
        source = np.ascontiguousarray(array)
        to = self.empty(source.shape, source.dtype)
        ctypes.memmove(to.pointer, source.ctypes.data, to.nbytes)
        return to

    def get(self, array: DeviceArray) -> np.ndarray:
        """Copy an array back."""
        to = np.empty(array.shape, array.dtype)
        ctypes.memmove(to.ctypes.data, array.pointer, array.nbytes)
        return to

    def fill(self, array: DeviceArray, word: int = 0) -> None:
        """Fill an array with a word of four bytes."""
        words = (c_uint * (array.nbytes // 4)).from_address(array.pointer)
        np.ctypeslib.as_array(words)[...] = word

    def copy(self, to: DeviceArray, source: DeviceArray) -> None:
        """Copy between arrays of one size."""
        ctypes.memmove(to.pointer, source.pointer, to.nbytes)

    def mark(self) -> Any:
        """Look at the clock."""
        return time.perf_counter()

    def seconds(self, start: Any, stop: Any) -> float:
        """Return the time between two looks, never zero."""
        return max(float(stop - start), 1e-9)

    def finish(self) -> None:
        """Return at once: work is done when it is asked for."""


# ---- products ------------------------------------------------------------------------------------

# Names of products: the type of numbers, the type for computation of cublasGemmEx.
COMPUTE = {
    ("float32", "strict"): (0, 68),  # CUDA_R_32F, CUBLAS_COMPUTE_32F
    ("float32", "tf32"): (0, 77),  # CUBLAS_COMPUTE_32F_FAST_TF32
    ("float64", "strict"): (1, 70),  # CUDA_R_64F, CUBLAS_COMPUTE_64F
}


class Cublas:
    """Products X Y^T on a device by cuBLAS.

    Raises
    ------
    CudaError
        If the library is not found or does not start.
    """

    name = "cuBLAS"

    def __init__(self) -> None:
        versions = ("13", "12", "11")
        self._library = load([f"libcublas.so.{v}" for v in versions])
        self._handle = c_void_p()
        self._check("cublasCreate_v2", self._library.cublasCreate_v2(byref(self._handle)))

    @staticmethod
    def _check(name: str, status: int) -> None:
        if status:
            raise CudaError(f"{name}: status {status}")

    def version(self) -> int:
        """Return the version as one number."""
        value = c_int()
        status = self._library.cublasGetVersion_v2(self._handle, byref(value))
        self._check("cublasGetVersion_v2", status)
        return value.value

    def multiply(self, X: DeviceArray, Y: DeviceArray, out: DeviceArray, precision: str) -> None:
        """Queue out = X Y^T; what is of C order here is, to cuBLAS, the transpose by columns."""
        (n, d), m = X.shape, Y.shape[0]
        kind, compute = COMPUTE[X.dtype.name, precision]
        real = c_float if kind == 0 else ctypes.c_double
        one, zero = real(1), real(0)
        side = [(c_uint64(a.pointer), c_int(kind), c_int(d)) for a in (Y, X)]
        status = self._library.cublasGemmEx(
            self._handle, c_int(1), c_int(0), c_int(m), c_int(n), c_int(d), byref(one), *side[0],
            *side[1], byref(zero), c_uint64(out.pointer), c_int(kind), c_int(m), c_int(compute),
            c_int(-1),
        )  # fmt: skip
        self._check("cublasGemmEx", status)


class HostProduct:
    """The products of NumPy in what plays memory of a device."""

    name = "NumPy"

    def version(self) -> int:
        """Return zero."""
        return 0

    def multiply(self, X: DeviceArray, Y: DeviceArray, out: DeviceArray, precision: str) -> None:
        """Write out = X Y^T."""
        assert (X.dtype.name, precision) in COMPUTE
        product = np.ascontiguousarray(X.device.get(X) @ Y.device.get(Y).T)
        ctypes.memmove(out.pointer, product.ctypes.data, product.nbytes)
