"""Rows of the host that lie on a device too, for work that multiplies them again and again."""

from __future__ import annotations

from typing import Any

import numpy as np

from ntkfast.arrays.collections import FloatArray
from ntkfast.engines import cuda
from ntkfast.places import device_memory
from ntkfast.places.device_array import DeviceArray, view

KEPT = 3  # inputs that stay there: of fast, exact and rectangular products


class Resident:
    """Rows that were given last stay on the device as long as this lives: they must not change."""

    def __init__(self) -> None:
        self._kept: list[tuple[FloatArray, DeviceArray]] = []

    def keep(self, X: FloatArray, there: Any) -> None:
        """Say that these rows lie on the device already."""
        self._kept.append((X, view("X", there)))
        del self._kept[:-KEPT]

    def has_room(self, *sides: FloatArray) -> bool:
        """Whether rows fit into memory beside those that are there."""
        new = [side for side in sides if all(side is not known for known, _ in self._kept)]
        return cuda.has_room(sum(side.nbytes for side in new))

    def rows(self, X: FloatArray, beside: Any = None) -> Any:
        """Return rows on the device, that of others; large ones stay: they may come again."""
        for place, (known, there) in enumerate(self._kept):
            if known is X:
                self._kept.append(self._kept.pop(place))
                return there
        there = device_memory.placed(np.ascontiguousarray(X), beside)
        if all(len(X) >= len(known) for known, _ in self._kept):
            self.keep(X, there)
        return there

    def placed(self, V: FloatArray, beside: Any) -> Any:
        """Return a copy of columns, or of a vector as one."""
        return device_memory.placed(np.ascontiguousarray(V.reshape(len(V), -1)), beside)

    def empty(self, like: Any, shape: tuple[int, int]) -> Any:
        """Return memory for a result."""
        return device_memory.scratch(like, shape)

    def numbers(self, array: Any) -> FloatArray:
        """Return a copy on the host."""
        return device_memory.numbers(array)
