"""Dense layers behind the read-out of a convolutional network: from its kernels to theirs.

The kernels of a read-out are those of a dense layer on inputs that nobody sees: NNGP and NTK of all
pairs of images, and of images with themselves. Cosines are differences here, so that nearly equal
images keep their angle to the root of the rounding of the kernels; equal ones are told by their
data.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np

from ntkfast.arrays.collections import FloatArray, Images
from ntkfast.arrays.panels import panels
from ntkfast.kernels.layers import Diagonal, Layers, diagonal
from ntkfast.kernels.pairwise import Doubles, Pairs, walk

Outs: TypeAlias = tuple[FloatArray | None, FloatArray | None]  # NTK and NNGP
PANEL_BYTES = 1 << 24
EQUAL = 64.0  # units of rounding of 1 - u below which images are compared


def carry_diagonal(layers: Layers, own: Diagonal, outs: Outs) -> None:
    """Write the kernels of images with themselves behind dense layers, as one column.

    Parameters
    ----------
    own : Diagonal
        The kernels of the read-out.
    """
    found = diagonal(layers, own.nngp, own.ntk)
    for out, value in zip(outs, (found.ntk, found.nngp), strict=True):
        if out is not None:
            out[:, 0] = value


def carry_pairs(
    layers: Layers,
    X: Images,
    Y: Images | None,
    own: Diagonal,
    p: Doubles,
    kernels: tuple[FloatArray, FloatArray],
    outs: Outs,
) -> None:
    """Write the kernels of all pairs of images behind dense layers.

    Parameters
    ----------
    own : Diagonal
        The kernels of the read-out of the images of X with themselves.
    p : (m,) array
        The NNGP of those of Y with themselves.
    kernels : pair of (n, m) arrays
        Its NTK and NNGP; may be `outs`.
    """
    q, (tangents, values) = own.nngp, kernels
    equal = diagonal(layers, own.nngp, own.ntk)
    other = X if Y is None else Y
    for part in panels(len(X), 64 * len(other), PANEL_BYTES):
        roots = np.sqrt(q[part])[:, None] * np.sqrt(p)
        # A vanishing variance is orthogonal to all others.
        u = np.divide(values[part], roots, out=np.zeros_like(roots), where=roots > 0)
        u = np.clip(u, -1, 1)
        w, co = 1 - u, 1 + u
        i, j = np.nonzero(w < EQUAL * float(np.finfo(X.dtype).eps))
        same = np.all(X.data[part.start + i] == other.data[j], axis=1)
        i, j = i[same], j[same]
        pairs = Pairs(q[part], p, w, co, tangents[part].astype(np.float64), 0.0)
        found = walk(layers, pairs)
        tops = equal.ntk[part.start + i], equal.nngp[part.start + i]
        for out, value, top in zip(outs, (found.t, found.nngp), tops, strict=True):
            if out is None:
                continue
            value[i, j] = top
            out[part] = value
            if Y is None:  # the other half by its mirror image, to the last bit
                out[part, : part.start] = out[: part.start, part].T
                block = out[part, part]
                block[:] = np.triu(block) + np.triu(block, 1).T
