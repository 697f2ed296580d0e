"""Functions of one variable in [-1, 1] as tables, evaluated in place by compiled loops."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ntkfast.maps import FloatArray


def apply(table: FloatArray, X: FloatArray, row_scale: NDArray[Any]) -> None:
    """Replace x by row_scale[i] f(x), linear between the equidistant knots in `table`.

    Parameters
    ----------
    table : (k,) array
        Values at linspace(-1, 1, k), of the type of X.
    X : (n, m) array
        Arguments, overwritten; beyond [-1, 1] by rounding they count as the end.
    row_scale : (n,) array
    """
    _compiled()(table, X, row_scale.astype(X.dtype, copy=False))


@cache
def _compiled() -> Callable[[FloatArray, FloatArray, FloatArray], None]:
    """Compile once, at the first call: Numba takes its time to load."""
    from numba import njit

    try:
        return njit(cache=True, nogil=True)(_interpolate)  # type: ignore[no-any-return]
    except RuntimeError:  # neither __pycache__ nor the user's cache directory can be written
        return njit(nogil=True)(_interpolate)  # type: ignore[no-any-return]


def _interpolate(table: FloatArray, X: FloatArray, row_scale: FloatArray) -> None:
    last = len(table) - 2
    half = X.dtype.type((len(table) - 1) / 2)
    for i in range(X.shape[0]):
        for j in range(X.shape[1]):
            position = (X[i, j] + X.dtype.type(1)) * half
            knot = min(max(np.int32(position), np.int32(0)), np.int32(last))
            low = table[knot]
            value = low + (position - X.dtype.type(knot)) * (table[knot + 1] - low)
            X[i, j] = row_scale[i] * value
