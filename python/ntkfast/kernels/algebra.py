"""Sums, products and multiples of kernels of any inputs.

Each is a `Combined` kernel: the parts validate the inputs and write Gram matrices, and what they
write is combined panel by panel, beside the result in a few megabytes. Kernels of rows that one
profile serves are combined before anything is evaluated: see `ntkfast.kernels.algebra_rows`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from ntkfast import places
from ntkfast.arrays import checks
from ntkfast.arrays.collections import Collection, FloatArray, Joint, Weights
from ntkfast.arrays.foreign import host_array
from ntkfast.arrays.panels import PANEL_BYTES, panels
from ntkfast.engines import Run
from ntkfast.kernels.base import LEAST_ROWS, Kernel
from ntkfast.kernels.by_parameters import Given
from ntkfast.kernels.combined import Named, Split, below, steps_below, wrapped
from ntkfast.kernels.moving import add_block, beside, blocks, gradient_weights, weight

MOST_PANELS = 16  # of one Gram matrix: what parts prepare for each of them is work too
Pair = tuple[Kernel, Any, Any]  # a part with its inputs on both sides


class Combined(Named, Kernel):
    """A kernel made of others.

    Attributes
    ----------
    kernels : tuple of Kernel
    """

    kernels: tuple[Kernel, ...]

    @abstractmethod
    def _combine(self, values: Sequence[Any]) -> Any:
        """Return the values at pairs from those of the parts."""

    @abstractmethod
    def split(self, parts: Sequence[Split]) -> Split:
        """Return the value at equal inputs and what is missing from it, without cancellation."""

    @abstractmethod
    def _degree(self, degrees: Sequence[float]) -> float | None:
        """Return the homogeneity of a combination of homogeneous kernels; None if it has none."""

    @property
    def of_rows(self) -> bool:  # type: ignore[override] # read only
        """Whether inputs of all parts are rows of a matrix."""
        return all(kernel.of_rows for kernel in self.kernels)

    def check_shapes(self, X: tuple[int, ...], Y: tuple[int, ...] | None = None) -> None:
        """Raise an error naming the array that cannot hold inputs of all parts, by its shape."""
        for kernel in self.kernels:
            kernel.check_shapes(X, Y)

    def collect(self, X: ArrayLike) -> Any:
        """Validate inputs once, for many calls; see `Kernel.collect`."""
        found = [kernel.collect(X) for kernel in self.kernels]
        if len({type(one) for one in found}) == 1:
            return found[0]
        return checks.real_array("X", host_array("X", X))  # which every part reads in its own way

    def _inputs(self, place: places.Place, X: Any, Y: Any) -> tuple[Collection, Collection | None]:
        self._require_host(X)
        sides = [kernel._inputs(place, X, Y) for kernel in self.kernels]
        left = Joint(tuple(side[0] for side in sides))
        return left, None if Y is None else Joint(tuple(side[1] for side in sides))

    def _each(self, X: Any, Y: Any) -> Iterator[Pair]:
        """Yield the parts with their inputs, which is all that a walk over them needs."""
        count = len(self.kernels)
        left, right = (
            side.parts if isinstance(side, Joint) else (side,) * count for side in (X, Y)
        )
        return zip(self.kernels, left, right, strict=True)

    def _like(self, X: Any, gradient: FloatArray) -> Any:
        return self.kernels[0]._like(X, gradient)

    def _steps(self, name: str, value: Any, side: Any, columns: int) -> FloatArray:
        first = side.parts[0] if isinstance(side, Joint) else side
        return self.kernels[0]._steps(name, value, first, columns)

    def _values(self, X: Collection) -> FloatArray:
        values = [kernel._values(left) for kernel, left, _ in self._each(X, None)]
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            found: FloatArray = self._combine(values)
        return _within_range(found)

    def _gram(self, X: Collection, Y: Collection | None, out: FloatArray, run: Run) -> None:
        self._require_host(out)
        (kernel, left, right), *others = self._each(X, Y)
        kernel._gram(left, right, out, run)
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            self._join(out, X, Y, others, run)
        _within_range(out)

    @abstractmethod
    def _join(self, out: FloatArray, X: Any, Y: Any, others: Sequence[Pair], run: Run) -> None:
        """Make the Gram matrix of the first part that of all of them."""

    def _product(
        self, X: Collection, Y: Collection | None, V: FloatArray, out: FloatArray, run: Run
    ) -> None:
        self._require_host(out)
        Kernel._product(self, X, Y, V, out, run)

    def _of_parts(
        self, names: Sequence[str], given: Given, X: Any, Y: Any, V: Weights, run: Run
    ) -> dict[str, float]:
        """Return the derivatives of each part by its own parameters."""
        found: dict[str, float] = {}
        for label, (kernel, left, right) in zip(
            self.named_kernels(), self._each(X, Y), strict=True
        ):
            inner = below(label, names)
            if inner:
                values = kernel._by_parameters(inner, given, left, right, V, run)
                found |= {f"{label}.{name}": value for name, value in values.items()}
        return found

    def _blocks(
        self, given: Given, X: Any, Y: Any
    ) -> Iterator[tuple[slice, slice | None, Given, Any, Any]]:
        """Yield `blocks` with their inputs, as they were collected and in the form for engines."""
        self._require_host(X.memory)
        right, others = (X, given[0]) if Y is None else (Y, given[1])
        for rows, columns in blocks(X, Y):
            sides = given[0][rows], None if columns is None else others[columns]
            yield rows, columns, sides, X[rows], None if columns is None else right[columns]

    def _require_host(self, array: Any) -> None:
        if places.of(array) is not places.HOST:
            raise places.HostOnlyError(
                f"X: {self!r} takes arrays of the host here, got one on a CUDA device; there it "
                "takes rows whose values have one profile, as for zonal kernels of one degree"
            )


def _panels(out: FloatArray, other: Pair, run: Run) -> Iterator[tuple[FloatArray, FloatArray]]:
    """Yield blocks of a Gram matrix and the same blocks of another one, of a kernel.

    Of a symmetric matrix those on and above the diagonal; what becomes of them is copied below.
    """
    kernel, X, Y = other
    most, start = max(PANEL_BYTES, out.nbytes // MOST_PANELS), 0
    least = min(LEAST_ROWS, len(out)) * out.shape[1]
    memory = np.empty(max(least, min(most // out.itemsize, out.size)), out.dtype)
    while start < len(out):
        first = 0 if Y is not None else start
        width = out.shape[1] - first
        height = max(LEAST_ROWS, most // (width * out.itemsize))
        rows, columns = slice(start, start + height), slice(first, None)
        part, block = X[rows], out[rows, columns]
        panel = memory[: len(part) * width].reshape(len(part), width)
        if Y is not None:
            kernel._gram(part, Y, panel, run)
        else:
            own = len(part)
            kernel._gram(part, None, panel[:, :own], run)
            if own < width:
                kernel._gram(part, X[start + own :], panel[:, own:], run)
        yield block, panel
        if Y is None:
            out[start + height :, rows] = block[:, height:].T
        start += height


@dataclass(frozen=True, repr=False)
class Folded(Combined):
    """Kernels joined by an operation; in a combination with others they count one by one.

    Attributes
    ----------
    kernels : tuple of Kernel
    operation : ufunc
    """

    kernels: tuple[Kernel, ...]
    operation: ClassVar[np.ufunc]

    def named(self) -> dict[str, Any]:
        """Return the kernels as k1, k2, ..."""
        return {f"k{number}": kernel for number, kernel in enumerate(self.kernels, 1)}

    def _combine(self, values: Sequence[Any]) -> Any:
        return reduce(self.operation, values)

    def _join(self, out: FloatArray, X: Any, Y: Any, others: Sequence[Pair], run: Run) -> None:
        for other in others:
            self._fold(out, other, run)

    def _fold(self, out: FloatArray, other: Pair, run: Run) -> None:
        for block, panel in _panels(out, other, run):
            self.operation(block, panel, out=block)


class Sum(Folded):
    """k1 + k2 + ...; `sum` of Python takes kernels too."""

    binds = 0
    word, operation = "sum", np.add

    def split(self, parts: Sequence[Split]) -> Split:
        """Add both."""
        return sum(top for top, _ in parts), reduce(np.add, [missing for _, missing in parts])

    def _degree(self, degrees: Sequence[float]) -> float | None:
        return degrees[0] if len(set(degrees)) == 1 else None

    def _product(
        self, X: Collection, Y: Collection | None, V: FloatArray, out: FloatArray, run: Run
    ) -> None:
        self._require_host(out)
        self._add(X, Y, out, lambda k, x, y, to: k._product(x, y, V, to, run))

    def _add(self, X: Any, Y: Any, out: FloatArray, write: Callable[..., None]) -> None:
        """Write the sum of what the parts write for their inputs."""
        (kernel, left, right), *others = self._each(X, Y)
        write(kernel, left, right, out)
        part = np.zeros(out.shape, out.dtype)  # of which a product of groups writes some rows
        for kernel, left, right in others:
            write(kernel, left, right, part)
            out += part

    def _movable(self, X: Any, Y: Any) -> tuple[int, int]:
        shape, *_ = [kernel._movable(left, right) for kernel, left, right in self._each(X, Y)]
        return shape

    def _gradient(self, X: Any, Y: Any, V: Weights, out: FloatArray, run: Run) -> None:
        self._add(X, Y, out, lambda k, x, y, to: k._gradient(x, y, V, to, run))

    def _moving(self, X: Any, Y: Any, dX: FloatArray, out: FloatArray, run: Run) -> None:
        (kernel, left, right), *others = self._each(X, Y)
        kernel._moving(left, right, dX, out, run)
        for kernel, left, right in others:
            for rows in panels(len(left), len(right) * out.itemsize):
                for columns, other in beside(rows, left, None if Y is X else right):
                    one, block = left[rows], out[rows, columns]
                    part = np.empty(block.shape, out.dtype)
                    kernel._moving(one, one if other is None else other, dX[rows], part, run)
                    block += part

    def _by_parameters(
        self, names: Sequence[str], given: Given, X: Any, Y: Any, V: Weights, run: Run
    ) -> dict[str, float]:
        found = self._of_parts(names, given, X, Y, V, run)
        return {name: found[name] for name in names}

    def _add_slopes(
        self, steps: Mapping[str, float], given: Given, X: Any, Y: Any, out: FloatArray, run: Run
    ) -> None:
        self._require_host(out)
        for label, part in zip(self.named_kernels(), self._each(X, Y), strict=True):
            if inner := steps_below(label, steps):
                kernel, left, right = part
                kernel._add_slopes(inner, given, left, right, out, run)

    def __repr__(self) -> str:
        return " + ".join(map(repr, self.kernels))


class Product(Folded):
    """k1 * k2 * ..., for each pair of inputs (not the product of two matrices)."""

    binds = 1
    word, operation = "product", np.multiply

    def split(self, parts: Sequence[Split]) -> Split:
        """Multiply values, and add what is missing."""

        def step(one: Split, other: Split) -> Split:
            (a, lost), (b, gone) = one, other  # ab - (a - lost) (b - gone)
            return a * b, lost * b + (a - lost) * gone

        return reduce(step, parts)

    def _degree(self, degrees: Sequence[float]) -> float | None:
        return float(sum(degrees))

    def _others(self, k: int, X: Any, Y: Any, run: Run) -> FloatArray:
        """Return the product of all Gram matrices but that of part k."""
        found = np.ones((len(X), len(X if Y is None else Y)), X.dtype)
        part = np.empty_like(found)
        for number, (kernel, left, right) in enumerate(self._each(X, Y)):
            if number != k:
                kernel._gram(left, right, part, run)
                with np.errstate(over="ignore", under="ignore", invalid="ignore"):
                    found *= part
        return found

    def _movable(self, X: Any, Y: Any) -> tuple[int, int]:
        shape, *_ = [kernel._movable(left, right) for kernel, left, right in self._each(X, Y)]
        return shape

    def _gradient(self, X: Any, Y: Any, V: Weights, out: FloatArray, run: Run) -> None:
        for rows, weights in gradient_weights(X, Y, V):
            part, total = np.empty(out[rows].shape, out.dtype), np.zeros(out[rows].shape)
            for columns, right in beside(rows, X, Y):
                some, left = weights[:, columns], X[rows]
                for k, (kernel, one, other) in enumerate(self._each(left, right)):
                    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
                        scaled = some * self._others(k, left, right, run)
                    if other is None:  # both places move
                        scaled /= 2
                    kernel._gradient(one, other, Weights(scaled), part, run)
                    total += part
            out[rows] = total

    def _moving(self, X: Any, Y: Any, dX: FloatArray, out: FloatArray, run: Run) -> None:
        for rows in panels(len(X), len(Y) * out.itemsize):
            for columns, right in beside(rows, X, None if Y is X else Y):
                block, left = out[rows, columns], X[rows]
                part = np.empty(block.shape, out.dtype)
                block[:] = 0
                for k, (kernel, one, other) in enumerate(self._each(left, right)):
                    kernel._moving(one, one if other is None else other, dX[rows], part, run)
                    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
                        block += part * self._others(k, left, right, run)

    def _by_parameters(
        self, names: Sequence[str], given: Given, X: Any, Y: Any, V: Weights, run: Run
    ) -> dict[str, float]:
        found = dict.fromkeys(names, 0.0)
        for rows, columns, sides, X_part, Y_part in self._blocks(given, X, Y):
            weights, parts = weight(V, rows, columns, Y), self._each(X_part, Y_part)
            for k, (label, (kernel, one, two)) in enumerate(
                zip(self.named_kernels(), parts, strict=True)
            ):
                inner = below(label, names)
                if not inner:
                    continue
                scaled = Weights(weights * self._others(k, X_part, Y_part, run))
                for name, value in kernel._by_parameters(
                    inner, sides, one, two, scaled, run
                ).items():
                    found[f"{label}.{name}"] += value
        return found

    def _add_slopes(
        self, steps: Mapping[str, float], given: Given, X: Any, Y: Any, out: FloatArray, run: Run
    ) -> None:
        for rows, columns, sides, X_part, Y_part in self._blocks(given, X, Y):
            parts = self._each(X_part, Y_part)
            for k, (label, (kernel, one, two)) in enumerate(
                zip(self.named_kernels(), parts, strict=True)
            ):
                if inner := steps_below(label, steps):
                    others = self._others(k, X_part, Y_part, run)
                    slope = np.zeros_like(others)
                    kernel._add_slopes(inner, sides, one, two, slope, run)
                    add_block(out, slope * others, rows, columns, Y)

    def __repr__(self) -> str:
        return " * ".join(map(wrapped, self.kernels))


def _within_range(values: FloatArray) -> FloatArray:
    """Return finite values, or raise an error."""
    if not places.HOST.finite(values):
        raise ValueError(
            f"X: the kernel, or a part of it, overflows {values.dtype}; scale the inputs or the "
            "kernel down, or pass float64"
        )
    return values
