"""Derivatives of kernels of images and sequences by their inputs: pair after pair, in NumPy."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ntkfast import places
from ntkfast.arrays.collections import FloatArray, Weights
from ntkfast.arrays.panels import panels
from ntkfast.engines import Run
from ntkfast.kernels.base import KernelOfNetwork
from ntkfast.kernels.moving import gradient_weights

PANEL_BYTES = 1 << 23  # of what a walk keeps of its pairs


class EachPair(KernelOfNetwork):
    """A kernel whose pairs are walked forth and back, one input against some others at a time."""

    @abstractmethod
    def _collected(self, place: places.Place, X: Any, Y: Any) -> tuple[Any, Any]:
        """Return inputs of one dtype as they were collected; None for Y: the symmetric matrix."""

    @abstractmethod
    def _walks(self, X: Any) -> Any:
        """Return what walks ask of inputs by themselves; it can be indexed like them."""

    @abstractmethod
    def _pair_bytes(self, X: Any) -> int:
        """How much a walk keeps of a pair, about."""

    @abstractmethod
    def _each_gradient(self, x: Any, Y: Any, own: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Return the gradients of the kernels of one input and some others by the one.

        Parameters
        ----------
        x, Y
            As `_walks` returned them.
        own : (m,) array
            Which of the others are the very input, of a symmetric matrix.

        Returns
        -------
        (m, numbers of the input) array
        """

    @abstractmethod
    def _rows_of(self, X: Any) -> list[slice]:
        """Return the rows of a gradient that belong to each input."""

    def _differentiated(self, place: places.Place, X: Any, Y: Any) -> tuple[Any, Any]:
        return self._collected(place, X, Y)

    def _gradient(self, X: Any, Y: Any, V: Weights, out: FloatArray, run: Run) -> None:
        weights = (row for _, part in gradient_weights(X, Y, V) for row in part)
        for (i, rows, each), row in zip(self._gradients(X, Y), weights, strict=True):
            total = sum(row[columns].astype(np.float64) @ some for columns, some in each)
            out[rows] = np.asarray(total).reshape(out[rows].shape)

    def _moving(self, X: Any, Y: Any, dX: Any, out: FloatArray, run: Run) -> None:
        ways = self._ways(dX)
        for i, rows, each in self._gradients(X, None if Y is X else Y):
            for columns, some in each:
                out[i, columns] = some @ ways[rows].ravel().astype(np.float64)

    @abstractmethod
    def _ways(self, dX: Any) -> FloatArray:
        """Return directions as the rows of a gradient lie."""

    def _gradients(self, X: Any, Y: Any) -> Any:
        """Yield each input, its rows, and an iterator of columns and their gradients."""
        left, number = self._walks(X), np.arange(len(X if Y is None else Y))
        right = left if Y is None else self._walks(Y)

        def each(i: int) -> Any:
            for columns in panels(len(number), self._pair_bytes(X), PANEL_BYTES):
                own = (number[columns] == i) & (Y is None)
                yield columns, self._each_gradient(left[i : i + 1], right[columns], own)

        for i, rows in enumerate(self._rows_of(X)):
            yield i, rows, each(i)
