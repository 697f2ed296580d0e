"""Euclidean norms of rows."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ntkfast.arrays.collections import FloatArray
from ntkfast.engines import native


def measured_rows(X: object, Y: object) -> tuple[Any, ...] | None:
    """Return `measured_norms` of X, and then of Y unless that is None, as one tuple.

    None where they are no matrices of one type and width that the engines read as they are.
    """
    return None if native.unavailable() else native.measured_rows(X, Y)


def measured_norms(X: FloatArray) -> tuple[FloatArray, float, float]:
    """Euclidean norms of rows, the least and the largest one, NaN if a norm is."""
    if not native.unavailable():
        return native.measured_norms(X)
    norms = reference_row_norms(X)
    return norms, float(norms.min(initial=math.inf)), float(norms.max(initial=0.0))


def row_norms(X: FloatArray) -> FloatArray:
    """Euclidean norms of rows, by the best engine (all of them agree to rounding)."""
    return measured_norms(X)[0]


def reference_row_norms(X: FloatArray) -> FloatArray:
    """Euclidean norms of rows in NumPy, by blocks, summed in float64 and scaled if need be."""
    norms = np.empty(len(X), np.float64)
    for first in range(0, len(X), 4096):
        block = X[first : first + 4096].astype(np.float64, copy=False)
        with np.errstate(over="ignore", invalid="ignore"):
            squares = np.einsum("ij,ij->i", block, block)
            odd = ~((squares > 1e-280) & (squares < 1e300))
            if odd.any():
                largest = np.max(np.abs(block[odd]), axis=1)
                safe = np.where((largest > 0) & np.isfinite(largest), largest, 1)
                scaled = block[odd] / safe[:, None]
                squares[odd] = np.einsum("ij,ij->i", scaled, scaled)
                root = np.sqrt(squares)
                root[odd] *= safe
                norms[first : first + 4096] = root
                continue
        norms[first : first + 4096] = np.sqrt(squares)
    with np.errstate(over="ignore"):
        return norms.astype(X.dtype)


def norm_powers(norms: FloatArray, power: float) -> FloatArray:
    """Return powers by the C library, which all engines take, rounded to the dtype of the norms.

    A norm whose inverse overflows counts as zero, like zero itself, whose inverse is 0 here.
    """
    if power == 0:
        return np.ones_like(norms)
    if power == 1:
        return norms
    wide = norms.astype(np.float64)
    with np.errstate(divide="ignore", over="ignore"):
        if power < 0:
            result = (1 / wide if power == -1 else wide**power).astype(norms.dtype)
            return np.where(np.isfinite(result), result, 0)
        return np.array([math.pow(norm, power) for norm in wide], norms.dtype)
