"""Expansions of a kernel on the sphere at the two ends of its range, u = 1 and u = -1.

With s = sin(theta/2) and c = cos(theta/2), u = 1 - 2 s^2 = 2 c^2 - 1, the kernels of ReLU-like
networks are power series in s at u = 1 and in c at u = -1. Even powers are polynomials in u and
leave no trace in the eigenvalues of high degree; the others decide their decay (Bietti & Bach
2021, "Deep equals shallow for ReLU networks in kernel regimes").
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.floating[Any]]
SAME = 1e-14  # coefficients that agree to this are equal: the two ends mirror each other


@dataclass(frozen=True, eq=False)
class Ends:
    """Non-analytic terms sum_j right_j s^(2 nu_j) at u = 1 and sum_j left_j c^(2 nu_j) at u = -1.

    Attributes
    ----------
    nu : (n,) array
        Half exponents, increasing, none of them an integer.
    right, left : (n,) arrays
        Coefficients, for the kernel normalised to k(1) = 1, in extended precision.
    """

    nu: NDArray[np.float64]
    right: Array
    left: Array

    def parity(self, odd: bool) -> Array:
        """Coefficients that act on the odd or the even degrees; exactly zero where they cancel."""
        total = self.right - self.left if odd else self.right + self.left
        return np.where(self._cancels[int(odd)], np.zeros_like(total), total)

    @cached_property
    def _cancels(self) -> tuple[bool, bool]:
        """Whether all even (odd) coefficients vanish: then so do the eigenvalues, almost all."""
        if not len(self.nu):
            return True, True
        size = np.abs(self.right) + np.abs(self.left)
        found = [bool(np.all(np.abs(self.right + s * self.left) <= SAME * size)) for s in (1, -1)]
        return found[0], found[1]

    def vanishes(self, odd: bool) -> bool:
        """Whether the kernel has no singular part of this parity."""
        return self._cancels[int(odd)]


class Jet:
    """A truncated power series in z with the arithmetic of numbers.

    Attributes
    ----------
    a : (n,) array
        Coefficients of z^0, ..., z^(n-1), in extended precision.
    """

    __array_ufunc__ = None  # NumPy scalars leave the operations to this class
    __slots__ = ("a",)

    def __init__(self, a: Array) -> None:
        self.a = a

    def __add__(self, other: Any) -> Jet:
        if isinstance(other, Jet):
            return Jet(self.a + other.a)
        a = self.a.copy()
        a[0] += other
        return Jet(a)

    __radd__ = __add__

    def __neg__(self) -> Jet:
        return Jet(-self.a)

    def __sub__(self, other: Any) -> Jet:
        return self.__add__(-other)

    def __rsub__(self, other: Any) -> Jet:
        return (-self).__add__(other)

    def __mul__(self, other: Any) -> Jet:
        if isinstance(other, Jet):
            return Jet(np.convolve(self.a, other.a)[: len(self.a)])
        return Jet(self.a * other)

    __rmul__ = __mul__

    def __truediv__(self, number: Any) -> Jet:
        return Jet(self.a / number)

    def derivative(self) -> Jet:
        """Return the derivative, with a last coefficient of zero."""
        n = np.arange(1, len(self.a))
        return Jet(np.append(self.a[1:] * n, 0))

    def integral(self, constant: Any) -> Jet:
        """Return the antiderivative with this value at z = 0."""
        n = np.arange(1, len(self.a))
        return Jet(np.append(constant, self.a[:-1] / n))

    def order(self) -> int:
        """Return the index of the first coefficient that is not zero."""
        nonzero = np.flatnonzero(self.a)
        return int(nonzero[0]) if len(nonzero) else len(self.a)

    def shift(self, places: int) -> Jet:
        """Multiply by z^places; negative powers must have vanished."""
        a = np.zeros_like(self.a)
        if places >= 0:
            a[places:] = self.a[: len(a) - places]
        else:
            a[:places] = self.a[-places:]
        return Jet(a)

    def inverse_root(self) -> Jet:
        """Return self^(-1/2) for a positive constant term.

        The coefficients follow from a y' = -a' y / 2 (Euler; Knuth, TAOCP 2, section 4.7).
        """
        a, n = self.a, len(self.a)
        y = np.zeros_like(a)
        y[0] = 1 / np.sqrt(a[0])
        i = np.arange(1, n)
        weighted, plain = a[1:] * (-0.5 * i), a[1:]
        for m in range(1, n):
            # m a_0 y_m = sum_i (-i/2 - (m - i)) a_i y_{m-i}
            tail = y[m - 1 :: -1] if m > 1 else y[:1]
            total = np.dot(weighted[:m], tail) - np.dot(plain[:m] * (m - i[:m]), tail)
            y[m] = total / (m * a[0])
        return Jet(y)
