"""Regression on dask arrays: sums over their blocks, added in a tree of fixed shape.

Dask is imported only where a dask array was passed in, so that it is there.
"""

from __future__ import annotations

from copy import copy
from importlib import import_module
from typing import Any, Protocol, TypeVar

import numpy as np

from ntkfast.arrays.dask_arrays import is_dask, whole_rows
from ntkfast.features.normal import NormalEquations
from ntkfast.support.progress import dask_bar

FAN_IN = 4  # sums that are added at a time


class Summing(Protocol):
    """A model that is fitted by sums over rows (`FeatureRidge`)."""

    sums_: NormalEquations
    progress: Any

    def _start(self, X: Any, y: Any) -> None:
        """Fit what does not depend on all rows to some of them, and begin with empty sums."""

    def _add(self, X: Any, y: Any, first: int) -> None:
        """Add rows, the first of which has the number `first`."""


Model = TypeVar("Model", bound=Summing)


def fit_blocks(model: Model, X: Any, y: Any) -> Model:
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


def _sums(model: Summing, shape: tuple[int, int], X: Any, y: Any, at: int) -> NormalEquations:
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
