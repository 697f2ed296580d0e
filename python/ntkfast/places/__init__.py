"""Where a call computes: in the memory of the host, or on the CUDA device that holds its arrays.

``of(X)`` looks once per call. The `Place` validates the arrays, makes the results, and hands them
back; what lies between is the same in both. Nothing outside this folder knows device arrays::

    place = places.of(X)
    left, right = place.rows(X, Y)          validated, on the same device, of one dtype
    out = place.output(None, shape, left)   an array of the library of X
    engine.run(plan, None, left, right, (out.target, None), threads)
    return out.finish()
"""

from __future__ import annotations

from ntkfast.places.base import Output, Place
from ntkfast.places.choice import HOST, of
from ntkfast.places.copies import (
    HostOnlyError,
    on_host,
    placed_beside,
    result_type,
    through_host,
)

__all__ = [
    "HOST",
    "HostOnlyError",
    "Output",
    "Place",
    "of",
    "on_host",
    "placed_beside",
    "result_type",
    "through_host",
]
