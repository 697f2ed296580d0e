"""Gram matrices where an engine cannot write: of other strides, or of a smaller type."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ntkfast.arrays import checks
from ntkfast.arrays.collections import Collection, FloatArray
from ntkfast.arrays.panels import panels
from ntkfast.arrays.rounding import put

if TYPE_CHECKING:
    from ntkfast.kernels.pace import Writer


def fill(write: Writer, X: Collection, Y: Collection | None, out: FloatArray) -> None:
    """Write a Gram matrix to an array of any strides, with the same bits for all of them.

    `write` takes inputs and a matrix of their type whose rows have unit stride, as the engines want
    it; where `out` has a smaller type, panel by panel is rounded.

    Raises
    ------
    ValueError
        If a value does not fit that type.
    """
    if out.dtype == X.dtype:
        if checks.unit_stride(out):
            write(X, Y, out)
            return
        if Y is None and checks.unit_stride(out.T):
            write(X, None, out.T)
            return
    for rows in panels(len(out), out.shape[1] * X.dtype.itemsize):
        part = X[rows]
        if Y is not None:
            put(out[rows], _panel(write, part, Y))
            continue
        put(out[rows, rows], _panel(write, part, None))
        if rows.stop < len(out):
            rest = slice(rows.stop, None)
            block = out[rows, rest]
            put(block, _panel(write, part, X[rest]))
            out[rest, rows] = block.T


def _panel(write: Writer, X: Collection, Y: Collection | None) -> FloatArray:
    """Return a part of a Gram matrix in an array of its own."""
    panel = np.empty((len(X), len(X if Y is None else Y)), X.dtype)
    write(X, Y, panel)
    return panel
