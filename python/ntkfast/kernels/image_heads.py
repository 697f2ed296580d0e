"""Dense layers behind the read-out of a convolutional network: from its kernels to theirs.

The kernels of a read-out are those of a dense layer on inputs that nobody sees: NNGP and NTK of all
pairs of images, and of images with themselves. Cosines are differences here, so that nearly equal
images keep their angle to the root of the rounding of the kernels; equal ones are told by their
data.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ntkfast.activations.polynomials import Masking
from ntkfast.arrays.collections import FloatArray, Images
from ntkfast.arrays.decimals import rounded
from ntkfast.arrays.panels import panels
from ntkfast.kernels.close_pairs import inverse, told_apart
from ntkfast.kernels.image_pairs import rough
from ntkfast.kernels.layers import Diagonal, Layer, Layers, carry, diagonal
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
    masked = any(isinstance(one.activation, Masking) for one in layers)
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
        w[i, j], co[i, j] = 0, 2
        if masked:  # equal images have masks of their own
            itself = (i + part.start == j) & (Y is None)
            i, j = i[itself], j[itself]
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


# ---- derivatives ---------------------------------------------------------------------------------


class Moving(NamedTuple):
    """Pairs on their way through dense layers, and how they move.

    Attributes
    ----------
    q, p : (n,) arrays
        NNGP of the first and of the second inputs with themselves.
    c, t : (n,) arrays
        NNGP and NTK of pairs.
    by_q, by_c, by_t : (k, n) arrays
        Derivatives of q, c and t: see `head_slopes`.
    """

    q: Doubles
    p: Doubles
    c: Doubles
    t: Doubles
    by_q: Doubles
    by_c: Doubles
    by_t: Doubles


def head_slopes(
    layers: Layers,
    q: Doubles,
    p: Doubles,
    c: Doubles,
    t: Doubles,
    same: NDArray[np.bool_],
    *,
    nngp: bool,
    counts: bool,
    jumps: bool,
) -> tuple[Doubles, Doubles]:
    """Return the derivatives of a kernel behind dense layers by what stands before them.

    Parameters
    ----------
    q, p, c, t : (n,) arrays
        NNGP of the first and of the second inputs with themselves, NNGP and NTK of pairs.
    same : (n,) array of bool
        Which pairs are equal up to a factor; with masks, which are an image with itself.
    nngp : bool
        Whether it is the NNGP, not the NTK.
    counts : bool
        Whether the constants of layers move.
    jumps : bool
        Whether what stands before them has a jump.

    Returns
    -------
    slopes : (k, n) array
        By c, by t and by q; if they are counted, by the logarithms of the halves of w, e, x and y
        of each layer that the first images have.
    lost : (n,) array
        The share of them at most that is lost where a kink meets a small angle.
    """
    lost = np.zeros(len(c))
    places = iter(range(3, 3 + 4 * len(layers), 4))

    def activate(layer: Layer, state: Moving) -> Moving:
        one, (q, p, c, t, by_q, by_c, by_t) = layer.activation, state
        if isinstance(one, Masking):
            gain, grown = np.where(same, 1 / one.kept, 1.0), 1 / one.kept
            shared = gain * c, gain * t
            return Moving(grown * q, grown * p, *shared, grown * by_q, gain * by_c, gain * by_t)
        roots = np.sqrt(q) * np.sqrt(p)
        u = np.where(same, 1, np.maximum(np.minimum(c * inverse(roots), 1), -1))
        least = rough(u)
        v, vc = told_apart((1 - u) / 2, least), told_apart((1 + u) / 2, least)
        if one.degree == 0 or (one.degree == 1 and (jumps or not nngp)):
            near = np.maximum(4 * rounded(np.minimum(v, vc)), least)
            here = least / (np.sqrt(near) if one.degree and nngp else near)  # of a bend, of a pole
            lost[:] = np.where(same, 0, np.maximum(lost, here))
        by = one.dual_slopes(q, p, v, vc)
        # Of functions with a kink by the angle that they have: a difference has a root of rounding.
        slope = by.by_c if one.degree == 1 else one.derivative_dual(q, p, c)
        whole = one.dual_slopes(q, q, np.zeros_like(q), np.ones_like(q))
        return Moving(
            np.asanyarray(one.variance(q)),
            np.asanyarray(one.variance(p)),
            np.asanyarray(one.dual(q, p, c)),
            slope * t,
            (2 * whole.by_q + whole.by_c) * by_q,
            by.by_c * by_c + by.by_q * by_q,
            slope * by_t + t * (by.slope_by_c * by_c + by.slope_by_q * by_q),
        )

    def affine(layer: Layer, state: Moving) -> Moving:
        q, p, c, t, by_q, by_c, by_t = state
        w, e, x, y = layer.w, layer.e, layer.x, layer.y
        by_q, by_c, by_t = w * by_q, w * by_c, w * by_t + x * by_c
        if counts:
            k = next(places)
            by_q[k] += w * q
            by_q[k + 1] += e
            by_c[k] += w * c / 2
            by_c[k + 1] += e / 2
            by_t[k] += w * t / 2
            by_t[k + 2] += x * c / 2
            by_t[k + 3] += y / 2
        return Moving(w * q + e, w * p + e, w * c + e, w * t + x * c + y, by_q, by_c, by_t)

    def join(a: Moving, b: Moving) -> Moving:
        return Moving(*(one + two for one, two in zip(a, b, strict=True)))

    def multiply(a: Moving, b: Moving) -> Moving:
        return Moving(
            *(a.q * b.q, a.p * b.p, a.c * b.c, a.t * b.c + a.c * b.t),
            a.by_q * b.q + a.q * b.by_q,
            a.by_c * b.c + a.c * b.by_c,
            a.by_t * b.c + a.t * b.by_c + a.by_c * b.t + a.c * b.by_t,
        )

    start = np.where(same, np.sqrt(q) * np.sqrt(p), c)
    directions = 3 + 4 * len(layers) * counts
    of_c, of_t, of_q = np.eye(3, directions)[:, :, None] * np.ones_like(c)
    found = carry(
        layers, Moving(q, p, start, t, of_q, of_c, of_t), activate, affine, join, multiply
    )
    return (found.by_c if nngp else found.by_t), lost
