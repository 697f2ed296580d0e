"""Kernels of some columns of a matrix, or of all of them with a length scale each."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ntkfast import places
from ntkfast.arrays import checks
from ntkfast.arrays.collections import Changed, Collection, FloatArray, Weights
from ntkfast.arrays.panels import panels
from ntkfast.engines import Run
from ntkfast.kernels.arithmetic import maker
from ntkfast.kernels.base import Kernel, checked_kernel
from ntkfast.kernels.by_parameters import Given
from ntkfast.kernels.combined import Named, steps_below, wrapped

Item = TypeVar("Item")
SCALES = "length_scales."  # before the number of a column, as a parameter


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
            raise places.HostOnlyError(
                f"X: {self!r} takes arrays of the host, got one on a CUDA device; change the "
                "columns there, and pass what comes out to the kernel without .on or .ard"
            )
        left, right = checks.matrix("X", X), None if Y is None else checks.matrix("Y", Y)
        self._checked("X", left.shape)
        if right is not None:
            checks.same_features(left, right)
        inner, other = self.kernel._inputs(
            place, self._changed(left), None if right is None else self._changed(right)
        )
        width = left.shape[1]
        return Changed(inner, width), None if other is None else Changed(other, width)

    def _values(self, X: Any) -> FloatArray:
        return self.kernel._values(X.inner)

    def _gram(self, X: Any, Y: Any, out: FloatArray, run: Run) -> None:
        self.kernel._gram(X.inner, _inner(Y), out, run)

    def _rounded(self, X: Any, Y: Any, out: FloatArray, run: Run) -> None:
        self.kernel._rounded(X.inner, _inner(Y), out, run)

    def _product(self, X: Any, Y: Any, V: FloatArray, out: FloatArray, run: Run) -> None:
        self.kernel._product(X.inner, _inner(Y), V, out, run)

    # ---- derivatives -----------------------------------------------------------------------------

    @abstractmethod
    def _spread(self, gradient: FloatArray, out: FloatArray) -> None:
        """Write the gradient by a matrix from that by what the kernel gets of it."""

    def _movable(self, X: Any, Y: Any) -> tuple[int, int]:
        return self.kernel._movable(X.inner, _inner(Y))[0], X.width

    def _gradient(self, X: Any, Y: Any, V: Weights, out: FloatArray, run: Run) -> None:
        self._spread(self._inner_gradient(X, Y, V, run), out)

    def _inner_gradient(self, X: Any, Y: Any, V: Weights, run: Run) -> FloatArray:
        inner, other = X.inner, _inner(Y)
        part = np.empty(self.kernel._movable(inner, other), X.dtype)
        self.kernel._gradient(inner, other, V, part, run)
        return part

    def _moving(self, X: Any, Y: Any, dX: FloatArray, out: FloatArray, run: Run) -> None:
        self.kernel._moving(X.inner, Y.inner, self._changed(dX), out, run)

    def _by_parameters(
        self, names: Sequence[str], given: Given, X: Any, Y: Any, V: Weights, run: Run
    ) -> dict[str, float]:
        X_given, Y_given = (None if one is None else self._changed(one) for one in given)
        inner = [name.partition(".")[2] for name in names]
        found = self.kernel._by_parameters(inner, (X_given, Y_given), X.inner, _inner(Y), V, run)
        return {f"kernel.{name}": value for name, value in found.items()}

    def _add_slopes(
        self, steps: Mapping[str, float], given: Given, X: Any, Y: Any, out: FloatArray, run: Run
    ) -> None:
        X_given, Y_given = (None if one is None else self._changed(one) for one in given)
        inner = steps_below("kernel", steps)
        self.kernel._add_slopes(inner, (X_given, Y_given), X.inner, _inner(Y), out, run)


def _products(A: FloatArray, B: FloatArray) -> NDArray[np.float64]:
    return np.asarray(np.einsum("ij,ij->j", A, B, dtype=np.float64))


def _inner(side: Any) -> Any:
    return None if side is None else side.inner


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

    def _spread(self, gradient: FloatArray, out: FloatArray) -> None:
        out[...] = 0
        out[:, self.columns] = gradient

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

    def _spread(self, gradient: FloatArray, out: FloatArray) -> None:
        with np.errstate(over="ignore", under="ignore"):
            out[...] = gradient / np.array(self.length_scales)

    def parameters(self) -> dict[str, float]:
        """Return those of the kernel, and the length scales; see `Kernel.parameters`."""
        scales = {f"{SCALES}{k}": scale for k, scale in enumerate(self.length_scales)}
        return {**super().parameters(), **scales}

    def _moved(self, name: str, value: float) -> Self:
        if not name.startswith(SCALES):
            return super()._moved(name, value)
        scales = list(self.length_scales)
        scales[int(name.removeprefix(SCALES))] = value
        return self.with_parts({"length_scales": scales})

    def _by_parameters(
        self, names: Sequence[str], given: Given, X: Any, Y: Any, V: Weights, run: Run
    ) -> dict[str, float]:
        scales = [name for name in names if name.startswith(SCALES)]
        rest = [name for name in names if name not in scales]
        found = super()._by_parameters(rest, given, X, Y, V, run)
        if scales and self._has_gradient(X, Y):
            moves = self._moves_of_columns(given, X, Y, V, run)
            for name in scales:  # a column z over its length scale l moves by -z / l
                k = int(name.removeprefix(SCALES))
                found[name] = float(-moves[k] / self.length_scales[k])
        else:
            found |= Kernel._by_parameters(self, scales, given, X, Y, V, run)
        return {name: found[name] for name in names}

    def _has_gradient(self, X: Any, Y: Any) -> bool:
        """Whether the kernel has derivatives by its inputs; if not length scales take values."""
        try:
            self.kernel._movable(X.inner, _inner(Y))
        except TypeError:
            return False
        return True

    def _moves_of_columns(
        self, given: Given, X: Any, Y: Any, V: Weights, run: Run
    ) -> NDArray[np.float64]:
        """Return for each column the sum of its gradient times itself, in both places."""
        sides = [self._changed(one) for one in given if one is not None]
        if Y is None and V.left is not None and V.right is not None:  # as for `vjp`
            V = Weights(None, np.hstack([V.left, V.right]), np.hstack([V.right, V.left]))
        sums = _products(sides[0], self._inner_gradient(X, Y, V, run))
        for rows in panels(len(Y), len(X) * X.dtype.itemsize) if Y is not None else ():
            matrix = None if V.matrix is None else np.ascontiguousarray(V.matrix[:, rows].T)
            right = None if V.right is None else V.right[rows]
            turned = Weights(matrix, right, V.left)
            sums += _products(sides[1][rows], self._inner_gradient(Y[rows], X, turned, run))
        return sums

    def _add_slopes(
        self, steps: Mapping[str, float], given: Given, X: Any, Y: Any, out: FloatArray, run: Run
    ) -> None:
        super()._add_slopes(steps, given, X, Y, out, run)
        scales = {name: step for name, step in steps.items() if name.startswith(SCALES)}
        if not scales or not self._has_gradient(X, Y):
            Kernel._add_slopes(self, scales, given, X, Y, out, run)
            return
        inner, other, rates = X.inner, _inner(Y), np.zeros(X.width)
        for name, step in scales.items():
            k = int(name.removeprefix(SCALES))
            rates[k] = -step / self.length_scales[k]
        ways = [(self._changed(one) * rates).astype(X.dtype) for one in given if one is not None]
        part = np.empty(out.shape, out.dtype)
        self.kernel._moving(inner, inner if other is None else other, ways[0], part, run)
        if other is None:
            places.HOST.add_mirrored(part)
        out += part
        for rows in panels(len(other), len(inner) * out.itemsize) if other is not None else ():
            part = np.empty((len(other[rows]), len(inner)), out.dtype)
            self.kernel._moving(other[rows], inner, ways[1][rows], part, run)
            out[:, rows] += part.T

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
