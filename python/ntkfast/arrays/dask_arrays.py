"""Dask arrays of rows: functions applied block by block, on as many workers as dask has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np


def is_dask(X: object) -> bool:
    """Whether this is a dask array."""
    return type(X).__module__.split(".")[0] == "dask"


def head(X: Any, rows: int) -> Any:
    """Return the first rows of a dask array, computed."""
    return whole_rows(X)[:rows].compute()


def map_rows(
    X: Any, function: Callable[[Any], Any], width: int | None, dtype: Any = np.float64
) -> Any:
    """Apply a function to blocks of whole rows.

    Parameters
    ----------
    X : dask array
    function : callable
        From (n, d) arrays to (n, width) arrays, or (n,) arrays if `width` is None.
    dtype : dtype, default float64
        Of the result.
    """
    rows = whole_rows(X)
    if width is None:
        return rows.map_blocks(function, dtype=dtype, meta=np.empty(0, dtype), drop_axis=1)
    chunks = rows.chunks[0], (width,)
    return rows.map_blocks(function, dtype=dtype, meta=np.empty((0, width), dtype), chunks=chunks)


def whole_rows(X: Any) -> Any:
    """Return the array with blocks that hold whole rows."""
    if X.ndim != 2:
        raise ValueError(f"X: expected shape (rows, features), got {X.shape}")
    check_length("X", X)
    return X if X.numblocks[1] == 1 else X.rechunk({1: -1})


def check_length(name: str, X: Any) -> None:
    """Raise an error where dask does not know how many rows there are."""
    if np.isnan(X.shape).any():
        raise ValueError(
            f"{name}: expected known numbers of rows, got {X.shape}; "
            "call X.compute_chunk_sizes() first"
        )
