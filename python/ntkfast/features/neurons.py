"""f(w.x) for many directions w: the matrix product and the function of each entry in one pass."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from ntkfast import engines, places
from ntkfast.arrays.collections import FloatArray, Rows
from ntkfast.engines.maps import NeuronMap
from ntkfast.features.projections import Dense, Projection, Structured


def plain(kind: str, scale: float, dtype: Any) -> NeuronMap:
    """Return the map scale max(w.x, 0), "relu", or scale 1{w.x > 0}, "step", scale / 2 at 0."""
    return NeuronMap(kind, np.zeros((1, 2), dtype), scale)


def answer(
    plan: NeuronMap,
    projection: Projection,
    X: Any,
    norms: NDArray[Any],
    out: FloatArray,
    negative: FloatArray | None = None,
    place: NDArray[Any] | None = None,
) -> None:
    """Write the features of rows.

    Parameters
    ----------
    plan : NeuronMap
        Of the dtype of the rows; a table wants directions of unit length.
    projection : Projection
        The directions w.
    X : (n, d) array or sparse matrix
    norms : (n,) array
        Its row norms.
    out : (n, count) array
    negative : (n, up to count) array, optional
        For the first directions with opposite sign.
    place : (n,) array, optional
        Where each row lies between the rows of the table.
    """
    if isinstance(projection, Dense) and not sparse.issparse(X):
        series = None if place is None else place.astype(X.dtype)[:, None]
        left = Rows(X, norms, series)
        right = projection.rows(X.dtype)
        run, threads = places.of(X).engine(None), engines.count(None)
        both = 0 if negative is None else negative.shape[1]
        if both in (0, len(right)):
            run.run(plan, None, left, right, (out, negative), threads)
            return
        first, rest = slice(0, both), slice(both, None)  # an odd number: one has no partner
        run.run(plan, None, left, right[first], (out[:, first], negative), threads)
        run.run(plan, None, left, right[rest], (out[:, rest], None), threads)
        return
    if isinstance(projection, Structured) and plan.kind != "table" and negative is None:
        projection.answer(plan.kind, plan.scale, X, out)
        return
    projection(X, out)
    if plan.kind == "table":
        out /= np.where(norms == 0, 1, norms)[:, None].astype(out.dtype)
    if negative is not None:
        np.negative(out[:, : negative.shape[1]], out=negative)
    for part in (out, negative):
        if part is not None:
            _apply(plan, part, norms, place)


def _apply(plan: NeuronMap, X: FloatArray, norms: NDArray[Any], place: NDArray[Any] | None) -> None:
    """Replace products or cosines by the answers of the neurons."""
    number = X.dtype.type
    if plan.kind == "relu":
        np.maximum(X, number(0), out=X)
    elif plan.kind == "step":
        np.heaviside(X, number(0.5), out=X)
    if plan.kind != "table":
        X *= number(plan.scale)
        return
    factors = (plan.scale * norms.astype(np.float64) ** plan.degree).astype(X.dtype)
    places = np.zeros(len(X), X.dtype) if place is None else place.astype(X.dtype)
    _compiled()(plan.table, X, factors, places)


@cache
def _compiled() -> Callable[..., None]:
    """Compile once, at the first call: Numba takes its time to load."""
    from numba import njit

    try:
        return njit(cache=True, nogil=True)(_interpolate)  # type: ignore[no-any-return]
    except RuntimeError:  # neither __pycache__ nor the user's cache directory can be written
        return njit(nogil=True)(_interpolate)  # type: ignore[no-any-return]


def _interpolate(
    table: FloatArray, X: FloatArray, factors: NDArray[Any], places: NDArray[Any]
) -> None:
    knots, one = table.shape[1], X.dtype.type(1)
    half = X.dtype.type((knots - 1) / 2)
    for i in range(X.shape[0]):
        row = np.int64(places[i])
        share = places[i] - X.dtype.type(row)
        above = min(row + 1, table.shape[0] - 1)
        for j in range(X.shape[1]):
            position = (X[i, j] + one) * half
            knot = min(max(np.int64(position), 0), knots - 2)
            rest = position - X.dtype.type(knot)
            low = table[row, knot] + rest * (table[row, knot + 1] - table[row, knot])
            high = table[above, knot] + rest * (table[above, knot + 1] - table[above, knot])
            X[i, j] = factors[i] * (low + share * (high - low))
