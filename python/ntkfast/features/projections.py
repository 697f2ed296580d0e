"""Random directions: Gaussian, orthogonal in blocks, or products of Hadamard and sign matrices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.random import Generator
from numpy.typing import DTypeLike, NDArray
from scipy import sparse

from ntkfast import engines, places
from ntkfast.arrays.collections import FloatArray, Rows
from ntkfast.engines.maps import StructuredMap
from ntkfast.features.sketches import power_of_two, signs

WEIGHTS = ("gaussian", "orthogonal", "structured")


class Dense:
    """X W with a stored matrix, whose columns are contiguous."""

    def __init__(self, matrix: NDArray[np.float64]) -> None:
        self.matrix = np.asfortranarray(matrix)
        self.count = int(self.matrix.shape[1])
        self._rows: Rows | None = None  # what was returned last

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_rows": None}

    def rows(self, dtype: DTypeLike) -> Rows:
        """Return the directions as an engine takes them."""
        rows = self._rows
        if rows is None or rows.data.dtype != dtype:
            directions = np.ascontiguousarray(self.matrix.T, dtype)
            self._rows = rows = Rows(directions, engines.row_norms(directions))
        return rows

    def __call__(self, X: Any, out: FloatArray | None = None) -> FloatArray:
        """Return (n, count) for (n, d), which may be sparse."""
        matrix = self.matrix.astype(X.dtype, copy=False)
        if not sparse.issparse(X):
            return np.matmul(X, matrix, out=out)
        result: FloatArray = X @ matrix
        if out is None:
            return result
        out[...] = result
        return out


@dataclass(frozen=True, eq=False)
class Structured:
    """Rows of H D3 H D2 H D1, orthogonal in blocks, in O(log d) operations per direction."""

    flips: NDArray[np.float64]
    lengths: NDArray[np.float64]
    count: int

    def __call__(self, X: Any, out: FloatArray | None = None) -> FloatArray:
        """Return (n, count) for (n, d), which may be sparse."""
        result = np.empty((X.shape[0], self.count), X.dtype) if out is None else out
        self.answer("product", 1.0, X, result)
        return result

    def answer(self, kind: str, scale: float, X: Any, out: FloatArray) -> None:
        """Write scale f(w.x), with f of `StructuredMap`, in one pass."""
        X = X.toarray() if sparse.issparse(X) else X
        plan = StructuredMap(self.flips.astype(X.dtype), self.lengths.astype(X.dtype), kind, scale)
        places.of(X).engine(None).structured(plan, X, out, engines.count(None))


Projection: TypeAlias = Dense | Structured


def haar_blocks(dim: int, count: int, generator: Generator) -> NDArray[np.float64]:
    """Return (dim, count): unit columns, orthogonal within blocks of `dim`, each block Haar.

    LAPACK's Q has signs that depend on the matrix: only Q sign(diag R) is uniformly distributed.
    """
    blocks = []
    for first in range(0, count, dim):
        q, r = np.linalg.qr(generator.normal(size=(dim, min(dim, count - first))))
        blocks.append(q * np.sign(np.diagonal(r)))
    return np.hstack(blocks)


def draw(
    kind: str, dim: int, count: int, generator: Generator, *, length: str = "gaussian"
) -> Projection:
    """Draw `count` directions in `dim` dimensions.

    Parameters
    ----------
    kind : {"gaussian", "orthogonal", "structured"}
    dim, count : int
    generator : numpy.random.Generator
    length : {"gaussian", "root", "unit"}
        Lengths distributed like those of Gaussian vectors, all equal to their root mean square
        sqrt(dim), or 1. Structured directions have them in the next power of two dimensions, of
        which the rows fill `dim`.
    """
    if kind == "structured":
        size = power_of_two(dim)
        blocks = -(-count // size)
        flips = signs(generator, blocks, 3, size)
        lengths = _lengths(length, size, blocks * size, generator)
        return Structured(flips, lengths.reshape(blocks, size), count)
    if kind == "gaussian":
        columns = generator.normal(size=(dim, count))
        if length == "gaussian":
            return Dense(columns)
        columns /= np.linalg.norm(columns, axis=0)
    else:
        columns = haar_blocks(dim, count, generator)
    return Dense(columns * _lengths(length, dim, count, generator))


def _lengths(kind: str, dim: int, count: int, generator: Generator) -> NDArray[np.float64]:
    if kind == "gaussian":
        return np.sqrt(generator.chisquare(dim, size=count))
    return np.full(count, np.sqrt(dim) if kind == "root" else 1.0)
