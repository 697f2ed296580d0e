"""Results that are rounded once to types of fewer bytes than they are computed in."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ntkfast.arrays.collections import FloatArray

# Digits and highest power of two; numpy knows bfloat16 once ml_dtypes is imported.
_FORMATS = {"float32": (24, 127), "float16": (11, 15), "bfloat16": (8, 127)}


def result_type(dtype: DTypeLike | None, computed: np.dtype[Any]) -> np.dtype[Any]:
    """Return the type of a result: that which it is computed in, or a smaller one.

    Raises
    ------
    TypeError
        If `dtype` is neither.
    """
    if dtype is None:
        return computed
    known = [name for name in _FORMATS if name != "float32" or computed.itemsize > 4]
    try:
        found = np.dtype(dtype)
    except TypeError:
        found = None
    if found == computed or (found is not None and found.name in known and found.isnative):
        return found
    raise TypeError(
        f"dtype: expected {computed}, {', '.join(known[:-1])} or {known[-1]}, which numpy knows "
        f"once ml_dtypes is imported, got {dtype!r}; inputs are {computed}"
    )


def rounded(values: FloatArray, dtype: np.dtype[Any]) -> FloatArray:
    """Return numbers in their type or a smaller one; see `put`."""
    if values.dtype == dtype:
        return values
    out = np.empty(values.shape, dtype)
    put(out, values)
    return out


def put(out: FloatArray, values: FloatArray) -> None:
    """Write numbers to an array of their type or a smaller one: to nearest, ties to even.

    Raises
    ------
    ValueError
        If one is too large: none becomes infinite.
    """
    if out.dtype == values.dtype:
        out[...] = values
        return
    digits, power = _FORMATS[out.dtype.name]
    largest = max(float(values.max()), -float(values.min()))
    if not largest < (2 - 0.5**digits) * 2.0**power:  # which rounds to infinity
        raise ValueError(
            f"dtype: a value of the kernel is {largest:.3g} in size, but {out.dtype} ends at "
            f"{(2 - 0.5 ** (digits - 1)) * 2.0**power:.5g}; scale the rows or the weights down, or "
            f"pass {'a longer type' if power > 15 else 'bfloat16 or a longer type'}"
        )
    if out.dtype.name == "bfloat16" and values.dtype == np.float64:
        values = _odd(values)  # ml_dtypes goes by float32
    with np.errstate(under="ignore"):
        out[...] = values


def _odd(values: NDArray[Any]) -> NDArray[np.float32]:
    """Return float32 such that rounding to fewer digits gives what it gives of float64.

    Numbers that are not exact go towards zero and end in an odd bit (S. Boldo, G. Melquiond,
    Emulation of FMA and correctly rounded sums: proved algorithms using rounding to odd, IEEE
    Transactions on Computers 57, 2008).
    """
    near = values.astype(np.float32)
    exact, bits = near.astype(np.float64), near.view(np.int32)
    bits -= np.abs(exact) > np.abs(values)
    bits |= exact != values
    return near
