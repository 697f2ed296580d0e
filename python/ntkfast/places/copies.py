"""Calls with arrays of a device that only the host serves: copies there, and results back."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from inspect import signature
from typing import Any, ParamSpec, TypeVar, cast

import numpy as np
from numpy.typing import DTypeLike

from ntkfast.arrays import rounding
from ntkfast.arrays.collections import FloatArray
from ntkfast.places import device_memory
from ntkfast.places.base import Place
from ntkfast.places.choice import DEVICE
from ntkfast.places.device import _check_dtype, _together
from ntkfast.places.device_array import DeviceArray, dense, empty_like, view

Given = ParamSpec("Given")
Found = TypeVar("Found")
MOVED = ("X", "Y", "V", "dX", "dY")


class HostOnlyError(TypeError):
    """An array of a device was given to what the host alone computes."""


def through_host(method: Callable[Given, Found]) -> Callable[Given, Found]:
    """Make a method that raises `HostOnlyError` go on with copies of its arrays on the host.

    The arguments in `MOVED` are arrays, or pairs and lists of them, and ``out`` is where the result
    goes.
    """
    names = signature(method)

    @wraps(method)
    def served(*args: Given.args, **kwargs: Given.kwargs) -> Found:
        try:
            return method(*args, **kwargs)
        except HostOnlyError:
            given = names.bind(*args, **kwargs)
        DEVICE.run(given.arguments.pop("engine", None))  # says what it is no choice of
        out = given.arguments.pop("out", None)
        if given.arguments.get("Y") is given.arguments["X"]:
            given.arguments["Y"] = None
        arrays = {name: given.arguments.get(name) for name in MOVED}
        X, copies = on_host(**arrays)
        result_type(DEVICE, given.arguments.get("dtype"), X.dtype)
        given.arguments.update({k: v for k, v in copies.items() if v is not arrays[k]})
        result = method(*given.args, **given.kwargs)
        if isinstance(result, (list, tuple)):  # gradients of sequences, or both kernels
            return cast(Found, type(result)(placed_beside(X, one) for one in result))
        return placed_beside(X, result, out) if isinstance(result, np.ndarray) else result

    return served


def result_type(place: Place, dtype: DTypeLike | None, computed: np.dtype[Any]) -> np.dtype[Any]:
    """Return the type of a result: that which it is computed in, or on the host a smaller one.

    Raises
    ------
    TypeError
        If `dtype` is neither.
    """
    kept = rounding.result_type(dtype, computed)
    if kept != computed and place is DEVICE:
        raise TypeError(
            f"dtype: results on a CUDA device have the type of the inputs, {computed}, got {kept}; "
            "convert the result there, or pass arrays of the host"
        )
    return kept


def on_host(**given: Any) -> tuple[DeviceArray, dict[str, Any]]:
    """Return the view of the first array, and all of them copied to the host.

    They are arrays of one device and type, pairs or lists of such, or None, which stays.

    Raises
    ------
    TypeError, ValueError
        Naming the argument that is none.
    """
    views = {name: _views(name, value) for name, value in given.items()}
    _together(**dict(pair for found in views.values() for pair in found))
    copied: dict[str, Any] = {}
    for name, value in given.items():
        copies = [_copy(each, array) for each, array in views[name]]
        parts = isinstance(value, (tuple, list))
        copied[name] = None if value is None else type(value)(copies) if parts else copies[0]
    return next(iter(views.values()))[0][1], copied


def _views(name: str, value: Any) -> list[tuple[str, DeviceArray]]:
    """Return the views of an argument, and their names."""
    if value is None:
        return []
    if isinstance(value, (tuple, list)):
        return [(f"{name}[{k}]", view(f"{name}[{k}]", one)) for k, one in enumerate(value)]
    return [(name, view(name, value))]


def _copy(name: str, array: DeviceArray) -> FloatArray:
    """Return a copy on the host: rows may have gaps between them, numbers of a row none."""
    _check_dtype(name, array)
    if array.strides == dense(array.shape, array.itemsize) or 0 in array.shape:
        return device_memory.numbers(array)
    rows = array.column() if array.ndim == 1 else array.flat(name)
    whole = device_memory.scratch(rows, rows.shape)
    device_memory.scale_rows(rows, whole)
    return device_memory.numbers(whole).reshape(array.shape)


def placed_beside(X: Any, result: FloatArray, out: Any = None) -> Any:
    """Return a result of the host in `out`, or in an array of the library of X."""
    X = view("X", X)
    if out is None:
        found = empty_like("out", X, result.shape)
        device_memory.put(np.ascontiguousarray(result), found)
        return found.source
    rows = result.reshape(len(result), -1)
    there = DEVICE.product_output(out, rows.shape, cast(Any, X), False)
    whole = device_memory.scratch(X, rows.shape)
    device_memory.put(np.ascontiguousarray(rows), whole)
    device_memory.scale_rows(whole, cast(DeviceArray, there.target))
    return there.finish()
