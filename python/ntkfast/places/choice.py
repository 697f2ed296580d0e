"""Which place a call belongs to."""

from __future__ import annotations

from ntkfast.places.base import Place
from ntkfast.places.device import Device
from ntkfast.places.device_array import DeviceArray, lies_on_device
from ntkfast.places.host import Host

HOST, DEVICE = Host(), Device()


def of(array: object) -> Place:
    """Return the place of an argument, or of an array that a place has made."""
    return DEVICE if isinstance(array, DeviceArray) or lies_on_device(array) else HOST
