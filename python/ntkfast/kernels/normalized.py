"""The normalised kernel of a kernel of any inputs; that of rows has a profile in `algebra_rows`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ntkfast.arrays.collections import Collection, FloatArray, Weights
from ntkfast.arrays.panels import panels
from ntkfast.engines import Run
from ntkfast.kernels.algebra import Pair
from ntkfast.kernels.base import LEAST_ROWS, Kernel
from ntkfast.kernels.by_parameters import Given
from ntkfast.kernels.combined import Split, below, steps_below, wrapped
from ntkfast.kernels.moving import add_block, beside, gradient_weights, weight
from ntkfast.kernels.multiples import Wrapped

CACHED = 1 << 17  # bytes of numbers that several operations pass over
MODERATE = 2.0**32  # a length within this of 1 takes no number out of range


@dataclass(frozen=True, repr=False)
class Normalized(Wrapped):
    """K(x, y) / sqrt(K(x, x) K(y, y)); see `Kernel.normalized`."""

    kernel: Kernel
    word = "normalized"

    def _combine(self, values: Sequence[Any]) -> Any:
        return np.ones_like(values[0])

    def split(self, parts: Sequence[Split]) -> Split:
        """Divide both."""
        ((top, missing),) = parts
        return 1.0, missing / top

    def _degree(self, degrees: Sequence[float]) -> float | None:
        return 0.0

    def _values(self, X: Collection) -> FloatArray:
        self._lengths("X", X)
        return np.ones(len(X), X.dtype)

    def _join(self, out: FloatArray, X: Any, Y: Any, others: Sequence[Pair], run: Run) -> None:
        left = self._lengths("X", X)
        right = left if Y is None else self._lengths("Y", Y)
        some_zero = left.has_zero or right.has_zero
        height = max(1, CACHED // (8 * out.shape[1]))
        for start in range(0, len(out), height):
            rows = slice(start, start + height)
            wide = out[rows].astype(np.float64, copy=False)
            wide *= left.power[rows, None]
            wide *= right.power
            # The root of a square is exact: pairs of equal inputs come out as 1.
            wide /= np.sqrt(left.rest[rows, None] * right.rest)
            if some_zero:
                wide[left.is_zero[rows]] = self._across
                wide[:, right.is_zero] = self._across
                wide[np.ix_(left.is_zero[rows], right.is_zero)] = 1
            np.clip(wide, -1, 1, out=out[rows])
        if Y is None:
            np.einsum("ii->i", out)[:] = 1

    def _product(
        self, X: Collection, Y: Collection | None, V: FloatArray, out: FloatArray, run: Run
    ) -> None:
        self._require_host(out)
        left = self._lengths("X", X)
        right = left if Y is None else self._lengths("Y", Y)
        if left.has_zero or right.has_zero or not (left.is_moderate and right.is_moderate):
            super()._product(X, Y, V, out, run)  # panels of the normalised matrix
            return
        ((kernel, one, other),) = self._each(X, Y)
        kernel._product(one, other, (V * right.inverse).astype(V.dtype), out, run)
        out *= left.inverse

    # ---- derivatives: those of K / (|x| |y|), of which |x|^2 = K(x, x) moves too -----------------

    def _movable(self, X: Any, Y: Any) -> tuple[int, int]:
        ((kernel, one, other),) = self._each(X, Y)
        return kernel._movable(one, other)

    def _gradient(self, X: Any, Y: Any, V: Weights, out: FloatArray, run: Run) -> None:
        left, *others = self._over(X) if Y is None else self._over(X, Y)
        right = others[0] if others else left
        for rows, weights in gradient_weights(X, Y, V):
            ((kernel, one, _),) = self._each(X[rows], None)
            found = out[rows]
            part, own = np.empty(found.shape, X.dtype), np.zeros(len(found))
            found[:] = 0
            for columns, there in beside(rows, X, Y):
                ((*_, other),) = self._each(X[rows], there)
                scaled = (weights[:, columns] * left[rows] * right[columns].T).astype(X.dtype)
                panel = np.empty(scaled.shape, scaled.dtype)
                kernel._gram(one, other, panel, run)
                own += left[rows, 0] ** 2 * np.einsum("ij,ij->i", scaled, panel, dtype=np.float64)
                if other is None:  # both places move
                    scaled /= 2
                kernel._gradient(one, other, Weights(scaled), part, run)
                found += part
            for few in panels(len(one), 1, LEAST_ROWS):
                half = Weights(np.diag(own[few] / 2).astype(X.dtype))
                kernel._gradient(one[few], None, half, part[few], run)
            found -= part

    def _moving(self, X: Any, Y: Any, dX: FloatArray, out: FloatArray, run: Run) -> None:
        left, right = self._over(X, Y)
        for rows in panels(len(X), len(Y) * out.itemsize):
            ((kernel, one, _),) = self._each(X[rows], None)
            own, steps = np.empty(len(one)), dX[rows]
            for few in panels(len(one), 1, LEAST_ROWS):
                at, block = one[few], np.empty((len(one[few]),) * 2, X.dtype)
                kernel._moving(at, at, steps[few], block, run)
                own[few] = np.diagonal(block)
            shares = (left[rows, 0] ** 2 * own)[:, None].astype(X.dtype)
            for columns, there in beside(rows, X, None if Y is X else Y):
                ((*_, other),) = self._each(X[rows], there)
                panel = np.empty(out[rows, columns].shape, X.dtype)
                part = np.empty_like(panel)
                kernel._gram(one, other, panel, run)
                kernel._moving(one, one if other is None else other, steps, part, run)
                part -= panel * shares
                out[rows, columns] = part * left[rows] * right[columns].T

    def _by_parameters(
        self, names: Sequence[str], given: Given, X: Any, Y: Any, V: Weights, run: Run
    ) -> dict[str, float]:
        self._require_host(X.memory)
        sides = [X] if Y is None else [X, Y]
        lengths = self._over(*sides)
        moved = [np.zeros(len(side)) for side in sides]  # by logarithms of squared lengths
        found = dict.fromkeys(names, 0.0)

        def add(given: Given, one: Any, other: Any, weights: FloatArray) -> None:
            ((kernel, left, right),) = self._each(one, other)
            scaled = Weights(weights.astype(one.dtype))
            inner = kernel._by_parameters(below("kernel", names), given, left, right, scaled, run)
            for name, value in inner.items():
                found[f"kernel.{name}"] += value

        for rows, columns, part, one, other in self._blocks(given, X, Y):
            there = rows if columns is None else columns
            weights = weight(V, rows, columns, Y) * lengths[0][rows] * lengths[-1][there].T
            add(part, one, other, weights)
            ((kernel, left, right),) = self._each(one, other)
            panel = np.empty(weights.shape, X.dtype)
            kernel._gram(left, right, panel, run)
            values = weights * panel
            moved[0][rows] -= values.sum(axis=1) / 2
            moved[-1][there] -= values.sum(axis=0) / 2
        for side, length, number, one in zip(sides, lengths, moved, given, strict=False):
            for few in panels(len(side), 1, LEAST_ROWS):
                add((one[few], None), side[few], None, np.diag(number[few] * length[few, 0] ** 2))
        return found

    def _add_slopes(
        self, steps: Mapping[str, float], given: Given, X: Any, Y: Any, out: FloatArray, run: Run
    ) -> None:
        self._require_host(out)
        sides, inner = [X] if Y is None else [X, Y], steps_below("kernel", steps)
        lengths, moved = self._over(*sides), []  # by logarithms of lengths
        for side, length, number in zip(sides, lengths, given, strict=False):
            moved.append(self._own_slopes(inner, number, side, run)[:, None] * length**2 / 2)
        for rows, columns, part, one, other in self._blocks(given, X, Y):
            there = rows if columns is None else columns
            ((kernel, left, right),) = self._each(one, other)
            slope = np.zeros((len(left), len(left if right is None else right)), out.dtype)
            kernel._add_slopes(inner, part, left, right, slope, run)
            panel = np.empty_like(slope)
            kernel._gram(left, right, panel, run)
            total = slope - panel * (moved[0][rows] + moved[-1][there].T)
            total *= lengths[0][rows] * lengths[-1][there].T
            if Y is None and columns is None:
                np.fill_diagonal(total, 0)  # of ones
            add_block(out, total, rows, columns, Y)

    def _own_slopes(
        self, steps: Mapping[str, float], given: Any, X: Any, run: Run
    ) -> NDArray[np.float64]:
        """Return the derivatives along steps of the kernel at pairs of equal inputs."""
        found = np.empty(len(X))
        for few in panels(len(X), 1, LEAST_ROWS):
            ((kernel, inputs, _),) = self._each(X[few], None)
            block = np.zeros((len(inputs),) * 2, X.dtype)
            kernel._add_slopes(steps, (given[few], None), inputs, None, block, run)
            found[few] = np.diagonal(block)
        return found

    def _over(self, *sides: Any) -> list[NDArray[np.float64]]:
        """Return one over the lengths of each side."""
        return [self._lengths(name, side).over() for name, side in zip("XY", sides, strict=False)]

    @property
    def _across(self) -> float:
        """What an input without a direction has with others."""
        return 0.0

    def _lengths(self, name: str, X: Any) -> Lengths:
        """Return what is divided by.

        Raises
        ------
        ValueError
            If a value at equal inputs has lost digits.
        """
        ((kernel, inputs, _),) = self._each(X, None)
        values = kernel._values(inputs)
        lost = np.flatnonzero((values < np.finfo(values.dtype).tiny) & self._has_length(X, values))
        if len(lost):
            raise ValueError(
                f"{name}: the kernel of input {lost[0]} with itself, {values[lost[0]]:.3g}, "
                f"vanishes in {values.dtype} and cannot be normalised; scale the inputs or the "
                "kernel up, or pass float64"
            )
        half = (np.frexp(values.astype(np.float64))[1] + 1) // 2
        rest = np.ldexp(values.astype(np.float64), -2 * half)
        is_zero = values == 0
        return Lengths(np.ldexp(1.0, -half), np.where(is_zero, 1, rest), is_zero)

    def _has_length(self, X: Any, values: FloatArray) -> NDArray[np.bool_]:
        """Whether the values should not vanish."""
        return np.asarray(values != 0)

    def __repr__(self) -> str:
        return f"{wrapped(self.kernel)}.normalized()"


@dataclass(frozen=True, eq=False)
class Lengths:
    """Squared lengths of features as rest / power^2, where they are not zero.

    Attributes
    ----------
    power, rest : (n,) arrays
        A power of two, and numbers in [1/4, 1).
    is_zero : (n,) array of bool
    """

    power: NDArray[np.float64]
    rest: NDArray[np.float64]
    is_zero: NDArray[np.bool_]

    @property
    def has_zero(self) -> bool:
        """Whether there is an input without length."""
        return bool(self.is_zero.any())

    @property
    def is_moderate(self) -> bool:
        """Whether numbers of any type may be divided by all lengths."""
        return bool(1 / MODERATE < self.power.min() and self.power.max() < MODERATE)

    def over(self) -> NDArray[np.float64]:
        """Return one over the lengths, as a column, and 0 where they are 0."""
        return np.where(self.is_zero[:, None], 0, self.inverse)

    @property
    def inverse(self) -> NDArray[np.float64]:
        """One over the lengths, as a column."""
        return np.asarray((self.power / np.sqrt(self.rest))[:, None])
