"""Kernels made of one other kernel: its multiples."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from ntkfast.arrays.collections import Collection, FloatArray, Weights
from ntkfast.engines import Run
from ntkfast.kernels.algebra import Combined, Pair
from ntkfast.kernels.base import Kernel
from ntkfast.kernels.by_parameters import Given
from ntkfast.kernels.combined import Split, steps_below, wrapped
from ntkfast.kernels.moving import contracted


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

    def parameters(self) -> dict[str, float]:
        """Return the factor, and those of the kernel; see `Kernel.parameters`."""
        return {"factor": self.factor, **super().parameters()}

    def _movable(self, X: Any, Y: Any) -> tuple[int, int]:
        ((kernel, left, right),) = self._each(X, Y)
        return kernel._movable(left, right)

    def _gradient(self, X: Any, Y: Any, V: Weights, out: FloatArray, run: Run) -> None:
        ((kernel, left, right),) = self._each(X, Y)
        kernel._gradient(left, right, V, out, run)
        self._scale(out)

    def _moving(self, X: Any, Y: Any, dX: FloatArray, out: FloatArray, run: Run) -> None:
        ((kernel, left, right),) = self._each(X, Y)
        kernel._moving(left, right, dX, out, run)
        self._scale(out)

    def _by_parameters(
        self, names: Sequence[str], given: Given, X: Any, Y: Any, V: Weights, run: Run
    ) -> dict[str, float]:
        values = self._of_parts(names, given, X, Y, V, run)
        found = {name: self.factor * value for name, value in values.items()}
        if "factor" in names:
            ((kernel, left, right),) = self._each(X, Y)
            ways = partial(kernel._gram, run=run), partial(kernel._product, run=run)
            found["factor"] = contracted(*ways, left, right, V)
        return {name: found[name] for name in names}

    def _add_slopes(
        self, steps: Mapping[str, float], given: Given, X: Any, Y: Any, out: FloatArray, run: Run
    ) -> None:
        self._require_host(out)
        ((kernel, left, right),) = self._each(X, Y)
        part = np.zeros(out.shape, out.dtype)
        if inner := steps_below("kernel", steps):
            kernel._add_slopes(inner, given, left, right, part, run)
            out += self._scale(part)
        if "factor" in steps:
            kernel._gram(left, right, part, run)
            part *= steps["factor"]
            out += part

    def __repr__(self) -> str:
        return f"{self.factor!r} * {wrapped(self.kernel)}"
