"""Kernels of some columns of a matrix, or of all of them with a length scale each."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from ntkfast import places
from ntkfast.arrays import checks
from ntkfast.arrays.collections import Collection, FloatArray
from ntkfast.engines import Run
from ntkfast.kernels.arithmetic import maker
from ntkfast.kernels.base import Kernel, checked_kernel
from ntkfast.kernels.combined import Named, wrapped

Item = TypeVar("Item")


class OfColumns(Named, Kernel):
    """A kernel of what becomes of the columns of a matrix: the inputs are those of the kernel."""

    kernel: Kernel
    of_rows = True

    @abstractmethod
    def _checked(self, name: str, shape: tuple[int, ...]) -> tuple[int, int]:
        """Return the shape that the kernel gets, or raise an error naming the matrix."""

    @abstractmethod
    def _changed(self, X: FloatArray) -> FloatArray:
        """Return a matrix for the kernel."""

    def check_shapes(self, X: tuple[int, ...], Y: tuple[int, ...] | None = None) -> None:
        """Raise an error naming the array that is no matrix with the columns that are needed."""
        checks.matrix_shape("X", X)
        shape = self._checked("X", X)
        if Y is not None:
            checks.matrix_shape("Y", Y, X[1])
        self.kernel.check_shapes(shape, None if Y is None else (Y[0], shape[1]))

    def collect(self, X: ArrayLike) -> FloatArray:
        """Validate a matrix once, for many calls; see `Kernel.collect`."""
        matrix = checks.matrix("X", X)
        self._inputs(places.HOST, matrix, None)
        return matrix

    def normalized(self) -> Any:
        """Return the normalised kernel of the same columns; see `Kernel.normalized`."""
        return self.with_parts({"kernel": self.kernel.normalized()})

    def _inputs(self, place: places.Place, X: Any, Y: Any) -> tuple[Collection, Collection | None]:
        if place is not places.HOST:
            raise TypeError(
                f"X: {self!r} takes arrays of the host, got one on a CUDA device; change the "
                "columns there, and pass what comes out to the kernel without .on or .ard"
            )
        left, right = checks.matrix("X", X), None if Y is None else checks.matrix("Y", Y)
        self._checked("X", left.shape)
        if right is not None:
            checks.same_features(left, right)
        return self.kernel._inputs(
            place, self._changed(left), None if right is None else self._changed(right)
        )

    def _values(self, X: Collection) -> FloatArray:
        return self.kernel._values(X)

    def _gram(self, X: Collection, Y: Collection | None, out: FloatArray, run: Run) -> None:
        self.kernel._gram(X, Y, out, run)

    def _product(
        self, X: Collection, Y: Collection | None, V: FloatArray, out: FloatArray, run: Run
    ) -> None:
        self.kernel._product(X, Y, V, out, run)


@dataclass(frozen=True, repr=False)
class OnColumns(OfColumns):
    """The kernel of some columns; see `Kernel.on`."""

    kernel: Kernel
    columns: tuple[int, ...]
    word = "columns"

    def _checked(self, name: str, shape: tuple[int, ...]) -> tuple[int, int]:
        if max(self.columns) >= shape[1]:
            raise ValueError(
                f"{name}: expected at least {max(self.columns) + 1} columns for {self!r}, "
                f"got shape {shape}"
            )
        return shape[0], len(self.columns)

    def _changed(self, X: FloatArray) -> FloatArray:
        return np.asarray(np.take(X, self.columns, axis=1))

    def __repr__(self) -> str:
        columns = self.columns[0] if len(self.columns) == 1 else list(self.columns)
        return f"{wrapped(self.kernel)}.on({columns})"


@dataclass(frozen=True, repr=False)
class ARD(OfColumns):
    """The kernel of columns over length scales; see `Kernel.ard`."""

    kernel: Kernel
    length_scales: tuple[float, ...]
    word = "ard"

    def _checked(self, name: str, shape: tuple[int, ...]) -> tuple[int, int]:
        if shape[1] != len(self.length_scales):
            raise ValueError(
                f"{name}: expected shape (*, {len(self.length_scales)}) for as many length scales, "
                f"got {shape}"
            )
        return shape[0], shape[1]

    def _changed(self, X: FloatArray) -> FloatArray:
        with np.errstate(over="ignore", under="ignore"):
            return np.asarray(X / np.array(self.length_scales), X.dtype)

    def __repr__(self) -> str:
        return f"{wrapped(self.kernel)}.ard({list(self.length_scales)})"


@maker(OnColumns.word)
def _on(kernel: Kernel, columns: int | Iterable[int]) -> OnColumns:
    listed = [columns] if isinstance(columns, (int, np.integer)) else _list("columns", columns)
    numbers = tuple(checks.count("columns", column) for column in listed)
    if not numbers or len(set(numbers)) < len(numbers):
        raise ValueError(f"columns: expected at least one, and each at most once, got {listed}")
    return OnColumns(checked_kernel(kernel), numbers)


@maker(ARD.word)
def _ard(kernel: Kernel, length_scales: Iterable[float]) -> ARD:
    listed = _list("length_scales", length_scales)
    if not listed:
        raise ValueError("length_scales: expected one for each column, got none")
    scales = tuple(checks.number("length_scales", scale, above=0.0) for scale in listed)
    return ARD(checked_kernel(kernel), scales)


def _list(name: str, values: Iterable[Item]) -> list[Item]:
    try:
        return list(values)
    except TypeError as error:
        raise TypeError(f"{name}: expected numbers in a list, got {values!r}") from error
