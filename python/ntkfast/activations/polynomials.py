"""Linear and polynomial activations, by powers or by Hermite polynomials."""

# ruff: noqa: D102 - the methods are documented once, in the base class

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ntkfast.activations.base import (
    Activation,
    Angle,
    Array,
    Code,
    Continuation,
    SphereMap,
    _arguments,
    _check_count,
    _check_finite,
    _column,
    _floats,
    _like,
    _linear_limit,
    _stack,
)
from ntkfast.activations.pairs import (
    _half_chords,
    _power_sum,
    inverse_root,
    monomial_weights,
    powers_defect,
)
from ntkfast.arrays import checks
from ntkfast.engines.codes import ActivationKind


@dataclass(frozen=True)
class Identity(Activation):
    """The linear activation s(x) = x."""

    is_arc_cosine = True
    is_smooth = True

    @property
    def name(self) -> str:
        return "identity"

    @property
    def degree(self) -> float | None:
        return 1.0

    @property
    def polynomial_degree(self) -> int | None:
        return 1

    @property
    def code(self) -> Code:
        return ActivationKind.IDENTITY, ()

    @property
    def continuation(self) -> Continuation | None:
        return lambda z: z, np.inf

    def __call__(self, x: ArrayLike) -> Array:
        return np.array(x)

    def derivative(self, x: ArrayLike) -> Array:
        return np.ones_like(_floats(x)[0])

    def dual(self, q: ArrayLike, p: ArrayLike, c: ArrayLike) -> Array:
        q, p, c = np.broadcast_arrays(*_floats(q, p, c))
        return np.array(c)

    def derivative_dual(self, q: ArrayLike, p: ArrayLike, c: ArrayLike) -> Array:
        return np.ones_like(self.dual(q, p, c))

    def hermite(self, q: ArrayLike, count: int) -> Array:
        _check_count(count)
        q, root = _column(q)
        return _stack([0 * root, root] + [0 * root] * max(count - 2, 0), count)

    def arc_cosine_map(self, angle: Angle) -> tuple[Any, Any]:
        return angle.D, 0 * angle.D + 1

    def _sphere_map(self, q: Array, v: Array, vc: Array) -> SphereMap:
        return _linear_limit(v)


@dataclass(frozen=True)
class Standardization(Activation):
    """The linear function x / sqrt(q) of signals of variance q: K = c / sqrt(qp).

    Signals of variance 0, of a row of zeros without biases before, have no direction: they count as
    orthogonal to others and equal to themselves. Where the network is homogeneous, that is the
    limit of short rows in both kernels; elsewhere the NTK lacks what is trained before.
    """

    is_arc_cosine = True
    is_smooth = True

    @property
    def name(self) -> str:
        return "layer normalization"

    @property
    def degree(self) -> float | None:
        return 0.0

    @property
    def polynomial_degree(self) -> int | None:
        return 1

    @property
    def is_odd(self) -> bool:
        return True

    def __call__(self, x: ArrayLike) -> Array:
        raise TypeError("activation: layer normalization is a function of all neurons of a layer")

    def derivative(self, x: ArrayLike) -> Array:
        return self(x)

    def dual(self, q: ArrayLike, p: ArrayLike, c: ArrayLike) -> Array:
        _, v, vc = _half_chords(*_floats(q, p, c))
        return np.asarray(vc - v)

    def derivative_dual(self, q: ArrayLike, p: ArrayLike, c: ArrayLike) -> Array:
        q, p, c = np.broadcast_arrays(*_floats(q, p, c))
        return np.asarray(inverse_root(q) * inverse_root(p))

    def variance(self, q: ArrayLike) -> Array:
        return np.ones_like(_floats(q)[0])

    def derivative_variance(self, q: ArrayLike) -> Array:
        (q,) = _floats(q)
        return np.where(q > 0, 1 / np.where(q > 0, q, 1), 0)

    def hermite(self, q: ArrayLike, count: int) -> Array:
        _check_count(count)
        q, _ = _column(q)
        return np.broadcast_to(np.arange(count) == 1, (*q.shape, count)).astype(q.dtype)

    def arc_cosine_map(self, angle: Angle) -> tuple[Any, Any]:
        return angle.D, 0 * angle.D + 1

    def _sphere_map(self, q: Array, v: Array, vc: Array) -> SphereMap:
        return _linear_limit(v)


@dataclass(frozen=True)
class Masking(Activation):
    """Masks that keep a share of the neurons, which are divided by it, drawn for each input.

    `dual` is that of two inputs, whose masks are independent, also where they are equal: it leaves
    covariances as they are. `variance` is that of an input with itself, of one mask. So nothing is
    missing from `dual` at the angle 0 that is not missing from `variance` too, and `on_sphere` does
    not begin with 0.
    """

    kept: float

    @property
    def name(self) -> str:
        return f"dropout of {1 - self.kept:g}"

    @property
    def degree(self) -> float | None:
        return 1.0

    @property
    def code(self) -> Code:
        return ActivationKind.DROPOUT, (self.kept,)

    def __call__(self, x: ArrayLike) -> Array:
        raise TypeError("activation: dropout is a function of random masks too")

    def derivative(self, x: ArrayLike) -> Array:
        return self(x)

    def dual(self, q: ArrayLike, p: ArrayLike, c: ArrayLike) -> Array:
        q, p, c = np.broadcast_arrays(*_floats(q, p, c))
        return np.array(c)

    def derivative_dual(self, q: ArrayLike, p: ArrayLike, c: ArrayLike) -> Array:
        return np.ones_like(self.dual(q, p, c))

    def variance(self, q: ArrayLike) -> Array:
        return np.asarray(_floats(q)[0] / self.kept)

    def derivative_variance(self, q: ArrayLike) -> Array:
        return np.full_like(_floats(q)[0], 1 / self.kept)

    def hermite(self, q: ArrayLike, count: int) -> Array:
        raise TypeError("activation: dropout has no Hermite series, which knows equal inputs only")

    def _sphere_map(self, q: Array, v: Array, vc: Array) -> SphereMap:
        kept = v.dtype.type(self.kept)
        one = np.ones_like(v)
        return (1 - kept) + 2 * kept * v, kept * one, (1 - kept) * one


@dataclass(frozen=True)
class _Series(Activation):
    """A finite sum of powers or Hermite polynomials; K = sum_l R_l(q) R_l(p) c^l.

    R_l(q) = sum_i w_{l+2i} m(l, i) (q - origin)^i: for powers of x the origin is 0; for Hermite
    polynomials it is 1, so that at unit variance every h_n stays exactly orthogonal to the others.
    """

    coefficients: tuple[float, ...]
    is_smooth = True

    def __post_init__(self) -> None:
        values = tuple(float(value) for value in self.coefficients)
        _check_finite("coefficients", *values)
        if not any(values):
            raise ValueError(f"coefficients: expected one other than 0, got {values}")
        while values[-1] == 0:
            values = values[:-1]
        checks.store(self, coefficients=values)

    @property
    def is_odd(self) -> bool:
        return not any(self.coefficients[::2])

    @property
    def polynomial_degree(self) -> int | None:
        return len(self.coefficients) - 1

    @abstractmethod
    def _moment(self, low: int, i: int, like: Array) -> Array:
        """Return the factor m(l, i) in the precision of `like`."""

    @property
    @abstractmethod
    def _origin(self) -> int:
        """The variance at which only i = 0 remains."""

    def _radial(self, q: Array) -> list[Array]:
        """Return [R_0(q), R_1(q), ...]."""
        size = len(self.coefficients)
        shifted = q - self._origin
        rows = []
        for low in range(size):
            total = np.zeros_like(q)
            for i in range((size - 1 - low) // 2, -1, -1):
                weight = _like(q, self.coefficients[low + 2 * i])[0]
                total = total * shifted + weight * self._moment(low, i, q)
            rows.append(total)
        return rows

    def dual(self, q: ArrayLike, p: ArrayLike, c: ArrayLike) -> Array:
        q, p, c = _floats(q, p, c)
        total = np.zeros_like(q * p * c)
        for left, right in zip(self._radial(q)[::-1], self._radial(p)[::-1], strict=True):
            total = total * c + left * right
        return total

    def derivative_dual(self, q: ArrayLike, p: ArrayLike, c: ArrayLike) -> Array:
        q, p, c = _floats(q, p, c)
        total = np.zeros_like(q * p * c)
        rows = list(enumerate(zip(self._radial(q), self._radial(p), strict=True)))
        for low, (left, right) in rows[:0:-1]:
            total = total * c + low * (left * right)
        return total

    def hermite(self, q: ArrayLike, count: int) -> Array:
        _check_count(count)
        q, root = _column(q)
        columns = [radial * root**low for low, radial in enumerate(self._radial(q))]
        return _stack(columns + [0 * q] * max(count - len(columns), 0), count)

    def _sphere_map(self, q: Array, v: Array, vc: Array) -> SphereMap:
        powers = np.arange(len(self.coefficients), dtype=v.dtype)
        weights = np.array(self._radial(q), v.dtype) ** 2 * q**powers
        total = weights.sum()
        if total == 0:
            return _linear_limit(v)
        weights = weights / total
        slopes = (powers * weights)[1:]
        return (
            powers_defect(weights, v, vc),
            _power_sum(slopes, vc - v),
            powers_defect(slopes, v, vc),
        )


@dataclass(frozen=True)
class Polynomial(_Series):
    """The polynomial s(x) = sum_j coefficients[j] x^j, for inputs of any variance."""

    @property
    def name(self) -> str:
        degree = self.degree
        if degree is not None and self.coefficients[-1] == 1:
            return f"monomial({degree:.0f})"
        return "polynomial" + _arguments(*self.coefficients)

    @property
    def degree(self) -> float | None:
        return None if any(self.coefficients[:-1]) else float(len(self.coefficients) - 1)

    @property
    def continuation(self) -> Continuation | None:
        return lambda z: np.polynomial.polynomial.polyval(z, self.coefficients), np.inf

    def __call__(self, x: ArrayLike) -> Array:
        (x,) = _floats(x)
        return _power_sum(np.array(self.coefficients, x.dtype), x)

    def derivative(self, x: ArrayLike) -> Array:
        (x,) = _floats(x)
        lowered = [j * value for j, value in enumerate(self.coefficients)]
        return _power_sum(np.array(lowered[1:], x.dtype), x)

    @property
    def _origin(self) -> int:
        return 0

    def _moment(self, low: int, i: int, like: Array) -> Array:
        whole = math.factorial(low + 2 * i) // (2**i * math.factorial(i))
        whole_like, factorial = _like(like, whole, math.factorial(low))
        return whole_like / np.sqrt(factorial)

    def _sphere_map(self, q: Array, v: Array, vc: Array) -> SphereMap:
        if self.degree is not None:  # the normalised map of a homogeneous s is the same at every q
            weights = monomial_weights(int(self.degree), v.dtype.char)
            weights = weights / weights.sum()
            slopes = (np.arange(len(weights), dtype=v.dtype) * weights)[1:]
            return (
                powers_defect(weights, v, vc),
                _power_sum(slopes, vc - v),
                powers_defect(slopes, v, vc),
            )
        if q == 0:  # only the lowest power counts
            lowest = next(j for j, value in enumerate(self.coefficients) if value)
            return Polynomial((0.0,) * lowest + (1.0,))._sphere_map(q, v, vc)
        return super()._sphere_map(q, v, vc)


@dataclass(frozen=True)
class HermiteSeries(_Series):
    """The sum s(x) = sum_j coefficients[j] h_j(x) of orthonormal Hermite polynomials.

    h_j = He_j / sqrt(j!) with the probabilists' He_j.  At unit variance the dual is
    sum_j coefficients[j]^2 c^j; other variances follow from the multiplication theorem.
    """

    @property
    def name(self) -> str:
        if self.coefficients[-1] == 1 and not any(self.coefficients[:-1]):
            return f"hermite({len(self.coefficients) - 1})"
        return "hermite_series" + _arguments(*self.coefficients)

    @property
    def degree(self) -> float | None:
        size = len(self.coefficients)
        return float(size - 1) if size == 1 or (size == 2 and not self.coefficients[0]) else None

    def __call__(self, x: ArrayLike) -> Array:
        return self._sum(self.coefficients, x)

    def derivative(self, x: ArrayLike) -> Array:
        lowered = [value * math.sqrt(j) for j, value in enumerate(self.coefficients)]
        return self._sum(lowered[1:], x)

    @staticmethod
    def _sum(weights: Sequence[float], x: ArrayLike) -> Array:
        (x,) = _floats(x)
        before, value, total = np.zeros_like(x), np.ones_like(x), np.zeros_like(x)
        for j, weight in enumerate(weights):
            total = total + _like(x, weight)[0] * value
            root, above = np.sqrt(_like(x, j, j + 1))
            before, value = value, (x * value - root * before) / above
        return total

    @property
    def _origin(self) -> int:
        return 1

    def _moment(self, low: int, i: int, like: Array) -> Array:
        ratio = math.factorial(low + 2 * i) // math.factorial(low)
        ratio_like, whole = _like(like, ratio, 2**i * math.factorial(i))
        return np.sqrt(ratio_like) / whole
