"""Kernels of images walked in NumPy, where the dual of an activation has no compiled form.

The walk is the one that gradients take (`image_forth`), a block of pairs at a time, in float64 and
on the host, whatever the engine. Activations say what they make of pixels between each other:
`Activation.between`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ntkfast.arrays.collections import FloatArray
from ntkfast.arrays.panels import panels
from ntkfast.engines.parallel import share
from ntkfast.kernels.close_pairs import Doubles
from ntkfast.kernels.image_forth import Forth
from ntkfast.kernels.image_gradients import Alone

BLOCK_BYTES = 1 << 24  # of what a walk keeps of its pairs, in each thread
FIRST = 4  # images on the left of a block: those on the right share what is asked of their pixels


def write(
    X: Alone,
    Y: Alone | None,
    outs: tuple[FloatArray | None, FloatArray | None],
    pair_bytes: int,
    threads: int,
) -> None:
    """Write the NTK and the NNGP of all pairs, each where an array for it is given.

    Parameters
    ----------
    X, Y : Alone
        What walks ask of images by themselves; without Y those of X with each other.
    outs : pair of (n, m) arrays or None
    pair_bytes : int
        How much a walk keeps of a pair.
    threads : int
        How many take blocks, which do not depend on it.
    """
    other = X if Y is None else Y
    blocks = [
        (rows, columns)
        for columns in panels(len(other), FIRST * pair_bytes, BLOCK_BYTES)
        for rows in panels(len(X), pair_bytes * (columns.stop - columns.start), BLOCK_BYTES)
        if Y is not None or rows.start < columns.stop  # else the mirror image of one before
    ]

    def do(number: int) -> None:
        rows, columns = blocks[number]
        own = np.arange(rows.start, rows.stop)[:, None] == np.arange(columns.start, columns.stop)
        with np.errstate(all="ignore"):  # of this thread; results that are not finite are told
            found = _block(X[rows], other[columns], own & (Y is None))
        for out, values in zip(outs, found, strict=True):
            if out is not None:
                out[rows, columns] = values

    share(lambda: do, np.zeros(1), len(blocks), threads, len(blocks) * BLOCK_BYTES)
    for out in outs if Y is None else ():
        if out is not None:
            below = np.tril_indices(len(X), -1)
            out[below] = out.T[below]


def write_diagonal(
    X: Alone, outs: tuple[FloatArray | None, FloatArray | None], pair_bytes: int
) -> None:
    """Write the kernels of images with themselves, as one column."""
    for rows in panels(len(X), pair_bytes, BLOCK_BYTES):
        one = X[rows]
        with np.errstate(all="ignore"):  # as above
            found = _values(one, one, np.ones(len(one), bool), len(one))
        for out, values in zip(outs, found, strict=True):
            if out is not None:
                out[rows, 0] = values


def _block(x: Alone, y: Alone, own: NDArray[np.bool_]) -> tuple[Doubles, Doubles]:
    """Return the NTK and NNGP of all pairs of two sets of images; own: an image with itself."""
    n, m = len(x), len(y)
    one, two = x[np.repeat(np.arange(n), m)], y[np.tile(np.arange(m), n)]
    same = own.ravel()
    if not x.geometry.masked:
        same = (one.images.data == two.images.data).all(axis=(1, 2, 3))
    ntk, nngp = _values(one, two, same, n)
    return ntk.reshape(n, m), nngp.reshape(n, m)


def _values(x: Alone, y: Alone, same: NDArray[np.bool_], rows: int) -> tuple[Doubles, Doubles]:
    """Return the NTK and NNGP of pairs, `rows` distinct ones on the left one after the other."""
    at = x.geometry
    walk = Forth(at, x.images, y.images, same, rows)
    walk.pool_all()
    s, t = walk.read()
    s = s + at.plan.bias
    size = x.size * y.size if at.plan.homogeneous else np.ones_like(s)
    return size * (t + at.plan.trained * s), size * s
