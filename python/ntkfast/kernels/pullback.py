"""What libraries of automatic differentiation ask of a kernel: values, and gradients of arrays."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ntkfast.arrays import checks
from ntkfast.arrays.collections import FloatArray, Values
from ntkfast.kernels.base import Kernel, checked_kernel

TWICE = "kernel: second derivatives are not known; first ones need no create_graph or nested grad"


def chosen(value: Any, kind: str) -> Kernel:
    """Return a kernel, or that one of the two of a network."""
    found = getattr(value, checks.choice("kind", kind, ("ntk", "nngp")), None)
    return found if isinstance(found, Kernel) else checked_kernel(value)


@dataclass(frozen=True)
class Pullback:
    """A kernel with parameters that are given at each call, in arrays of the host or of a device.

    Attributes
    ----------
    kernel : Kernel
    names : tuple of str
        Of the parameters that are given.
    engine, threads
        As for calling the kernel.
    """

    kernel: Kernel
    names: tuple[str, ...] = ()
    engine: str | None = None
    threads: int | None = None

    @property
    def how(self) -> dict[str, Any]:
        """The engine and the threads, as keywords."""
        return {"engine": self.engine, "threads": self.threads}

    def at(self, values: Values | None) -> Kernel:
        """Return the kernel with these values of its parameters."""
        numbers = () if values is None else (float(value) for value in values)
        return self.kernel.with_parameters(dict(zip(self.names, numbers, strict=True)))

    def gram(self, X: Any, Y: Any, values: Values | None) -> FloatArray:
        """Return K(X, Y)."""
        return self.at(values)(X, Y, **self.how)

    def product(self, X: Any, Y: Any, values: Values | None, V: Any) -> FloatArray:
        """Return K(X, Y) V."""
        return self.at(values).matmul(X, Y, V, **self.how)

    def gradients(
        self, X: Any, Y: Any, values: Values | None, V: Any, wanted: Iterable[bool]
    ) -> list[Any]:
        """Return the gradients of sum_ij V_ij K_ij by X, Y and the values; None if not wanted.

        V is a matrix, or a pair of factors.
        """
        by_x, by_y, by_values = wanted
        kernel = self.at(values)
        found: list[Any] = [None, None, None]
        other = V[::-1] if isinstance(V, tuple) else V.T
        if by_y and hasattr(other, "contiguous"):  # a tensor: rows have unit stride
            other = other.contiguous()
        if by_x:
            found[0] = kernel.vjp(X, Y, V, **self.how)
        if by_y:
            found[1] = kernel.vjp(Y, X, other, **self.how)
        if by_values:
            slopes = kernel.parameter_gradient(X, Y, V, names=self.names, **self.how)
            found[2] = np.array([slopes[name] for name in self.names])
        return found
