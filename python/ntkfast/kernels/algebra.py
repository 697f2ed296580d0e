"""Sums, products, multiples and normalised kernels, of kernels of any inputs.

Each is a `Combined` kernel: the parts validate the inputs and write Gram matrices, and what they
write is combined panel by panel, beside the result in a few megabytes. Kernels of rows that one
profile serves are combined before anything is evaluated: see `ntkfast.kernels.algebra_rows`.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ntkfast import places
from ntkfast.arrays import checks
from ntkfast.arrays.collections import Collection, FloatArray, Joint
from ntkfast.arrays.foreign import host_array
from ntkfast.arrays.panels import PANEL_BYTES
from ntkfast.engines import Run
from ntkfast.kernels.base import LEAST_ROWS, Kernel
from ntkfast.kernels.combined import Named, Split, wrapped

CACHED = 1 << 17  # bytes of numbers that several operations pass over
MODERATE = 2.0**32  # a length within this of 1 takes no number out of range
MOST_PANELS = 16  # of one Gram matrix: what parts prepare for each of them is work too
Pair = tuple[Kernel, Any, Any]  # a part with its inputs on both sides


class Combined(Kernel, Named):
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

    def _require_host(self, array: Any) -> None:
        if places.of(array) is not places.HOST:
            raise TypeError(
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
        (kernel, left, right), *others = self._each(X, Y)
        kernel._product(left, right, V, out, run)
        part = np.empty(out.shape, out.dtype)
        for kernel, left, right in others:
            kernel._product(left, right, V, part, run)
            out += part

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

    def __repr__(self) -> str:
        return " * ".join(map(wrapped, self.kernels))


class Wrapped(Combined):
    """A kernel made of one other."""

    kernel: Kernel

    @property
    def kernels(self) -> tuple[Kernel]:  # type: ignore[override] # read only
        """The one kernel."""
        return (self.kernel,)


@dataclass(frozen=True, repr=False)
class Multiple(Wrapped):
    """factor * kernel, the factor not negative."""

    factor: float
    kernel: Kernel
    binds = 1
    word = "multiple"

    def _combine(self, values: Sequence[Any]) -> Any:
        return self._scale(np.array(values[0]))

    def split(self, parts: Sequence[Split]) -> Split:
        """Multiply both."""
        ((top, missing),) = parts
        return self.factor * top, self.factor * missing

    def _degree(self, degrees: Sequence[float]) -> float | None:
        return degrees[0]

    def _join(self, out: FloatArray, X: Any, Y: Any, others: Sequence[Pair], run: Run) -> None:
        self._scale(out)

    def _scale(self, values: Any) -> Any:
        """Multiply an array, in place, by a factor that its dtype need not hold."""
        mantissa, exponent = math.frexp(self.factor)
        if values.dtype == np.float32 and not -126 < exponent < 127:
            values *= mantissa
            np.ldexp(values, exponent, out=values)
        else:
            values *= self.factor
        return values

    def _product(
        self, X: Collection, Y: Collection | None, V: FloatArray, out: FloatArray, run: Run
    ) -> None:
        self._require_host(out)
        ((kernel, left, right),) = self._each(X, Y)
        kernel._product(left, right, V, out, run)
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            self._scale(out)

    def __repr__(self) -> str:
        return f"{self.factor!r} * {wrapped(self.kernel)}"


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

    @property
    def inverse(self) -> NDArray[np.float64]:
        """One over the lengths, as a column."""
        return np.asarray((self.power / np.sqrt(self.rest))[:, None])


def _within_range(values: FloatArray) -> FloatArray:
    """Return finite values, or raise an error."""
    if not places.HOST.finite(values):
        raise ValueError(
            f"X: the kernel, or a part of it, overflows {values.dtype}; scale the inputs or the "
            "kernel down, or pass float64"
        )
    return values
