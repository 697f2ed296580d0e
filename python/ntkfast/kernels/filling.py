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


SIDE = 724  # rows and columns of a panel of 4 MB: what depends on rows alone is done for each panel


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
    if Y is None:
        blocks = list(panels(len(out), SIDE * X.dtype.itemsize))
        for k, rows in enumerate(blocks):
            put(out[rows, rows], _panel(write, X[rows], None))
            for columns in blocks[k + 1 :]:
                block = out[rows, columns]
                put(block, _panel(write, X[rows], X[columns]))
                out[columns, rows] = block.T
        return
    for columns in panels(len(Y), min(len(X), SIDE) * X.dtype.itemsize):
        width = columns.stop - columns.start
        for rows in panels(len(X), width * X.dtype.itemsize):
            put(out[rows, columns], _panel(write, X[rows], Y[columns]))


def _panel(write: Writer, X: Collection, Y: Collection | None) -> FloatArray:
    """Return a part of a Gram matrix in an array of its own."""
    panel = np.empty((len(X), len(X if Y is None else Y)), X.dtype)
    write(X, Y, panel)
    return panel
