"""Dask arrays: features and regression block by block, on as many workers as dask has.

Dask is imported only where a dask array was passed in, so that it is there.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from ntkfast.features.normal import NormalEquations
from ntkfast.support.progress import dask_bar

if TYPE_CHECKING:
    from ntkfast.features.streaming import FeatureRidge

Ridge = TypeVar("Ridge", bound="FeatureRidge")
FAN_IN = 4  # sums that are added at a time


def is_dask(X: object) -> bool:
    """Whether this is a dask array."""
    return type(X).__module__.split(".")[0] == "dask"


def head(X: Any, rows: int) -> Any:
    """Return the first rows of a dask array, computed."""
    return whole_rows(X)[:rows].compute()


def map_rows(X: Any, function: Callable[[Any], Any], width: int | None, dtype: Any = None) -> Any:
    """Apply a function to blocks of whole rows.

    Parameters
    ----------
    X : dask array
    function : callable
        From (n, d) arrays to (n, width) arrays, or (n,) arrays if `width` is None.
    dtype : dtype, optional
        Of the result; default float64.
    """
    rows = whole_rows(X)
    dtype = np.dtype(np.float64 if dtype is None else dtype)
    shape = (0,) if width is None else (0, width)
    options: dict[str, Any] = {"dtype": dtype, "meta": np.empty(shape, dtype)}
    if width is None:
        options["drop_axis"] = 1
    else:
        options["chunks"] = (rows.chunks[0], (width,))
    return rows.map_blocks(function, **options)


def whole_rows(X: Any) -> Any:
    """Return the array with blocks that hold whole rows."""
    if X.ndim != 2:
        raise ValueError(f"X: expected shape (rows, features), got {X.shape}")
    if np.isnan(X.shape).any():
        raise ValueError(
            f"X: expected known numbers of rows, got {X.shape}; call X.compute_chunk_sizes() first"
        )
    return X if X.numblocks[1] == 1 else X.rechunk({1: -1})


def fit_blocks(model: Ridge, X: Any, y: Any) -> Ridge:
    """Fit a `FeatureRidge` to a dask array: sums of each block, added in a tree of fixed shape."""
    dask = import_module("dask")
    rows = whole_rows(X)
    targets = _targets(y, rows)
    model._start(*dask.compute(rows.blocks[0], targets.blocks[0]))
    # Workers get the model without its sums, which are large.
    light = copy(model)
    del light.sums_
    shared, shape = dask.delayed(light, pure=False), model.sums_.cross.shape
    blocks = zip(rows.to_delayed().ravel(), targets.to_delayed().ravel(), strict=True)
    firsts = np.cumsum((0, *rows.chunks[0])).tolist()
    sums = [
        dask.delayed(_sums)(shared, shape, block, some, at)
        for (block, some), at in zip(blocks, firsts, strict=False)
    ]
    while len(sums) > 1:
        groups = [sums[k : k + FAN_IN] for k in range(0, len(sums), FAN_IN)]
        sums = [dask.delayed(_added)(group) for group in groups]
    with dask_bar(model.progress, "FeatureRidge"):
        (model.sums_,) = dask.compute(sums[0])
    return model


def _targets(y: Any, rows: Any) -> Any:
    """Return the targets as a dask array with the blocks of the rows."""
    if y is not None and not is_dask(y):
        y = import_module("dask.array").from_array(np.asarray(y), chunks=-1)
    if y is None or y.ndim not in (1, 2) or y.shape[0] != rows.shape[0]:
        got = None if y is None else y.shape
        raise ValueError(f"y: expected shape ({rows.shape[0]},) or ({rows.shape[0]}, *), got {got}")
    return y.rechunk((rows.chunks[0], *((-1,) * (y.ndim - 1))))


def _sums(model: FeatureRidge, shape: tuple[int, int], X: Any, y: Any, at: int) -> NormalEquations:
    """Return the sums over one block, whose first row has the number `at`."""
    own = copy(model)
    own.sums_ = NormalEquations.empty(*shape)
    own._add(X, y, at)
    return own.sums_


def _added(sums: list[NormalEquations]) -> NormalEquations:
    total = NormalEquations.empty(*sums[0].cross.shape)
    for one in sums:
        total.merge(one)
    return total
