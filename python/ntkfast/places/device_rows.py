"""Rows on a CUDA device, whose norms stay there: the host is told what they lie between."""

from __future__ import annotations

from functools import cached_property
from typing import cast

import numpy as np

from ntkfast.arrays.collections import FloatArray, Rows
from ntkfast.places import device_memory
from ntkfast.places.device_array import DeviceArray


class DeviceRows(Rows):
    """Rows and their norms on a device.

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
        return device_memory.numbers(self.measured)

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
    found = device_memory.measure(list(arrays.values()))
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
