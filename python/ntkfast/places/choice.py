"""Which place a call belongs to."""

from __future__ import annotations

from ntkfast.places.base import Place
from ntkfast.places.device import Device
from ntkfast.places.device_array import DeviceArray, lies_on_device
from ntkfast.places.host import Host

HOST, DEVICE = Host(), Device()


def of(array: object) -> Place:
    """Return the place of an argument, or of an array that a place has made."""
    some = array[0] if isinstance(array, (list, tuple)) and array else array  # of sequences
    return DEVICE if isinstance(some, DeviceArray) or lies_on_device(some) else HOST
