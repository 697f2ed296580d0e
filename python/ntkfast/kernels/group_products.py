"""What two groups of inputs add to a symmetric product, for processes that share one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ntkfast import places
from ntkfast.arrays.collections import Collection, FloatArray, Values
from ntkfast.arrays.panels import PANEL_BYTES, panels
from ntkfast.engines import Groups, Run

if TYPE_CHECKING:
    from ntkfast.kernels.base import Kernel


def validated(kernel: Kernel, X: Any) -> Collection:
    """Return inputs as kernels compute with them."""
    return kernel._inputs(places.HOST, X, None)[0]


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
    kernel: Kernel, X: Collection, V: FloatArray, groups: Groups, out: Values, run: Run
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
