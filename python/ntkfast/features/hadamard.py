"""The fast Walsh-Hadamard transform of rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from ntkfast import engines, places
from ntkfast.arrays.collections import FloatArray

__all__ = ["fwht"]


def fwht(
    X: ArrayLike,
    *,
    signs: ArrayLike | None = None,
    out: NDArray[Any] | None = None,
    normalize: bool = False,
    engine: str | None = None,
    threads: int | None = None,
) -> NDArray[Any]:
    """Multiply rows by the Hadamard matrix, in m log2 m additions each.

    The result is ``X @ H``, or ``(X * signs) @ H``, with the symmetric matrix H of order m = 2^p in
    natural order: H[i, j] = (-1)^(number of ones that i and j share in binary), which is
    ``scipy.linalg.hadamard(m)``. H H = m I, so that twice the normalized transform is the identity.

    Parameters
    ----------
    X : (n, m) or (m,) array
        Rows to transform, m a power of two. NaN and infinity spread over their row. A matrix may
        lie on a CUDA device: the result is an array of the same library there.
    signs : (m,) array of +1 and -1, optional
        Multiplies the columns first, at no cost: a random diagonal, for example.
    out : array shaped like X, optional
        Where to write the result, with any strides. May be X itself; X is copied if it overlaps
        `out` otherwise.
    normalize : bool
        Divide by sqrt(m), which makes the transform orthogonal.
    engine : {"native", "numba", "cuda"}, optional
        Default: the fastest one installed, see `ntkfast.show_config`. All give the same bits.
    threads : int, optional
        Default: `ntkfast.get_num_threads`. Rows are shared among threads.

    Returns
    -------
    array shaped like X
        `out` if it was given. float32 and float64 are kept, integers become float64.

    Raises
    ------
    TypeError, ValueError
        If m is no power of two, or another argument has the wrong type, shape or value.

    Notes
    -----
    An entry is a sum along a tree of depth p: its error is at most p eps / (1 - p eps) times the
    sum of the magnitudes in its row, with eps = 2^-24 or 2^-53, plus two roundings if normalized.
    In practice it grows like sqrt(p). Small integers are transformed without error.

    References
    ----------
    B. J. Fino and V. R. Algazi, Unified matrix treatment of the fast Walsh-Hadamard transform,
    IEEE Transactions on Computers C-25 (1976) 1142-1146.

    Examples
    --------
    >>> from ntkfast.features import fwht
    >>> fwht([[1, 2, 3, 4], [1, 0, 0, 0]])
    array([[10., -2., -4.,  0.],
           [ 1.,  1.,  1.,  1.]])
    >>> fwht([1, 2, 3, 4], signs=[1, -1, 1, -1], normalize=True)
    array([-1.,  5.,  0., -2.])
    """
    place = places.of(X)
    run = place.engine(engine)
    rows, result = place.transformed(X, out)
    width = rows.shape[1]
    if width & (width - 1):
        raise ValueError(f"X: expected a power of two of columns, got {width}")
    diagonal = None if signs is None else _diagonal(signs, width, rows.dtype)
    scale = width**-0.5 if normalize else 1.0
    run.hadamard(rows, result.target, diagonal, scale, engines.count(threads))
    transform: NDArray[Any] = result.finish()
    return transform


def _diagonal(signs: ArrayLike, width: int, dtype: DTypeLike) -> FloatArray:
    """Return the signs as a vector of the type of the rows."""
    array = np.asarray(signs)
    if array.dtype.kind not in "iuf":
        raise TypeError(f"signs: expected numbers, got {array.dtype}")
    if array.shape != (width,):
        raise ValueError(f"signs: expected shape ({width},), got {array.shape}")
    if not np.all(np.abs(array) == 1):
        raise ValueError("signs: expected only +1 and -1")
    return np.ascontiguousarray(array, dtype)
