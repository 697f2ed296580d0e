"""Parts of products, for processes that share one: what two groups of inputs add, and rows."""

from __future__ import annotations

import weakref
from typing import Any, TypeAlias

import numpy as np

from ntkfast import places
from ntkfast.arrays.collections import Collection, FloatArray, Rows, Values
from ntkfast.arrays.panels import PANEL_BYTES, panels
from ntkfast.engines import Run
from ntkfast.engines.groups import Groups

Kernel: TypeAlias = Any  # whose room this is


# Of rows, as long as these live: norms, and a copy where engines cannot read them as they lie.
_kept: dict[tuple[Kernel, int], tuple[FloatArray | None, FloatArray]] = {}


def validated(kernel: Kernel, X: Any) -> Collection:
    """Return inputs as kernels compute with them; an array of rows is looked through once.

    It must not change as long as it lives, as what lies on a cluster does not.
    """
    key = kernel, id(X)
    if key in _kept:
        data, norms = _kept[key]
        return Rows(X if data is None else data, norms)
    found: Collection = kernel._inputs(places.HOST, X, None)[0]
    if isinstance(found, Rows) and isinstance(X, np.ndarray):
        _kept[key] = None if np.may_share_memory(found.data, X) else found.data, found.norms
        weakref.finalize(X, _kept.pop, key, None).atexit = False
    return found


def product(kernel: Kernel, X: Any, Y: Any, V: FloatArray, engine: str | None) -> FloatArray:
    """Return K(X, Y) V on one thread, to the bit; Y is one that `validated` keeps, if it can."""
    left, right = (validated(kernel, side) for side in (X, Y))
    if not (isinstance(left, Rows) and isinstance(right, Rows) and _alike(left, right)):
        found: FloatArray = kernel.matmul(X, Y, V, engine=engine, threads=1)
        return found
    out = np.empty((len(X), V.shape[1]), V.dtype)
    kernel._product(left, right, V, out, places.HOST.run(engine, 1))
    return out


def _alike(X: Rows, Y: Rows) -> bool:
    return X.dtype == Y.dtype and X.data.shape[1] == Y.data.shape[1]


def of_groups(
    kernel: Kernel, X: Collection, V: FloatArray, groups: Groups, engine: str | None
) -> Values:
    """Return what two groups of inputs add to K(X, X) V, on one thread: zeros for other inputs.

    The sums of all pairs of groups, added in their order (see `ntkfast.engines.groups`) and
    rounded, are the product: to the bit, if an engine evaluates the kernel in one pass.

    Parameters
    ----------
    kernel : Kernel
    X : collection
        As `validated` returns it.
    V : (n, c) array of the dtype of X
    groups : Groups
    engine : str or None
    """
    out = np.zeros(V.shape)
    run = places.HOST.run(engine, 1)
    kernel._product(X, None, V, out, run._replace(groups=groups))
    return out


def write_by_panels(
    kernel: Kernel, X: Collection, V: FloatArray, groups: Groups, out: FloatArray, run: Run
) -> None:
    """Write the same to `out`, for kernels without a product in an engine."""
    rows, others, _ = groups
    if rows == others:
        out[rows] = kernel._each_pair_once(X[rows], V[rows], run)
        return
    left, right = X[rows], X[others]
    ahead, below, factor = out[rows], out[others], V.astype(np.float64, copy=False)
    below[...] = 0
    for part in panels(len(left), len(right) * V.itemsize, PANEL_BYTES):
        panel = np.empty((len(left[part]), len(right)), V.dtype)
        kernel._gram(left[part], right, panel, run)
        values = panel.astype(np.float64, copy=False)
        ahead[part] = values @ factor[others]
        below += values.T @ factor[rows][part]
