"""Where the axis of channels lies in images and sequences; kernels compute with it last."""

from __future__ import annotations

from typing import Any

import numpy as np

from ntkfast.arrays import checks
from ntkfast.arrays.collections import Images, Shape
from ntkfast.arrays.foreign import host_array
from ntkfast.support.telling import warn


def checked_channels(channels: object) -> str | None:
    """Return "first", "last", or None for "last" with a warning where that looks wrong."""
    return None if channels is None else checks.choice("channels", channels, ("first", "last"))


def images_last(name: str, value: Any, channels: str | None, shape: Shape | None) -> Any:
    """Return images, or rows of `shape` (height, width, channels), with their channels last."""
    if isinstance(value, Images):
        return value
    if channels != "first":
        _warn(name, _images_look_first(getattr(value, "shape", ())), channels)
        return value
    array = _on_host(name, value)
    if array.ndim == 2 and shape is not None and array.shape[1] == shape[0] * shape[1] * shape[2]:
        array = array.reshape(-1, shape[2], *shape[:2])
    return np.moveaxis(array, 1, 3) if array.ndim == 4 else array


def sequences_last(name: str, value: Any, channels: str | None) -> Any:
    """Return an array of sequences, or a list of them, with their channels last."""
    listed = isinstance(value, (list, tuple))
    if channels != "first":
        shapes = [getattr(item, "shape", ()) for item in value] if listed else []
        alike = len(shapes) > 1 and len(set(shapes)) == 1
        shape = (len(shapes), *shapes[0]) if alike else getattr(value, "shape", ())
        _warn(name, len(shape) == 3 and shape[1] < shape[2], channels)
        return value
    if listed:
        items = [_on_host(f"{name}[{i}]", item) for i, item in enumerate(value)]
        return [item.T if item.ndim == 2 else item for item in items]
    array = _on_host(name, value)
    return array.swapaxes(1, 2) if array.ndim == 3 else array


def shape_last(shape: tuple[int, ...], channels: str | None, axes: int) -> tuple[int, ...]:
    """Return the shape of an array of so many axes, whose second one may count channels, so."""
    if channels != "first" or len(shape) != axes:
        return shape
    return (shape[0], *shape[2:], shape[1])


def _images_look_first(shape: tuple[int, ...]) -> bool:
    few = (1, 3, 4)
    return len(shape) == 4 and shape[1] in few and min(shape[2:]) > 4


def _on_host(name: str, value: Any) -> Any:
    if hasattr(value, "__cuda_array_interface__"):
        raise TypeError(
            f'{name}: expected an array of the host with channels="first", got one on a CUDA '
            "device; move its axis of channels to the end there"
        )
    return host_array(name, value)


def _warn(name: str, suspect: bool, channels: str | None) -> None:
    if suspect and channels is None:
        warn(
            f"{name}: its shape looks like channels first, and is read as channels last; "
            'channels="first" takes it as such, channels="last" says that all is well',
            UserWarning,
        )
