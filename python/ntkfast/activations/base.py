"""The interface of activations: a function, its dual kernels, and a view of them by angles.

`Activation.on_sphere` takes both inputs with the same variance and describes their angle ``theta``
by ``v = sin(theta/2)**2`` and ``vc = cos(theta/2)**2``. It returns ``1 - K/K(v=0)`` without a
difference of nearly equal numbers, because a deep network amplifies precisely that.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ntkfast.arrays.decimals import is_decimal, number
from ntkfast.engines.codes import ActivationKind

Array: TypeAlias = NDArray[np.floating[Any]]
Complex: TypeAlias = NDArray[np.complex128]
SphereMap: TypeAlias = tuple[Array, Array, Array]
Code: TypeAlias = tuple[ActivationKind, tuple[float, ...]]
Continuation: TypeAlias = tuple[Callable[[Complex], Any], float]
TERMS = 256  # Hermite coefficients of duals without a closed form for complex covariances


def _floats(*values: ArrayLike) -> tuple[Array, ...]:
    """Convert to arrays of one common floating type; integers become float64."""
    arrays: list[Any] = [value if is_decimal(value) else np.asarray(value) for value in values]
    dtype = arrays[0].dtype
    if dtype.kind == "f" and all(array.dtype is dtype for array in arrays):
        return tuple(arrays)  # deep networks would spend their time here
    if any(map(is_decimal, arrays)):
        return tuple(arrays)
    dtype = np.result_type(*arrays)
    if dtype.kind != "f":
        dtype = np.result_type(dtype, np.float64)
    return tuple(array.astype(dtype, copy=False) for array in arrays)


def _like(x: Array, *values: float) -> tuple[Array, ...]:
    """Scalars in the precision of `x`, so that longdouble formulas stay longdouble."""
    if is_decimal(x):
        return tuple(number(value, x.dtype) for value in values)
    scalar: Any = x.dtype.type  # its numbers do all that arrays do here, and are made sooner
    return tuple(map(scalar, values))


def _linear_limit(v: Array) -> SphereMap:
    """Return the map of s(x) = x, the limit of every s with s(0) = 0, s'(0) != 0 as q -> 0."""
    return 2 * v, np.ones_like(v), np.zeros_like(v)


class Angle(Protocol):
    """An angle of any kind, complex or a power series, that knows its arc-cosine functions.

    Attributes
    ----------
    D, E
        1 - u and 1 + u, u the cosine.
    """

    D: Any
    E: Any

    def ramps(self, order: int) -> list[tuple[Any, Any]]:
        """Return (kappa_m, 1 - kappa_m) for m = 0 ... order, kappa_m = J_m(theta) / J_m(0)."""

    def choose(self, near: Any, far: Any) -> Any:
        """Return the form that is accurate at this angle, of two that are equal."""


class DualSlopes(NamedTuple):
    """Derivatives of E[s(a) s(b)] and of E[s'(a) s'(b)], with c the covariance and q = E[a^2]."""

    by_c: Array
    by_q: Array
    slope_by_c: Array
    slope_by_q: Array


class Activation(ABC):
    """A scalar function together with its dual kernels.

    Instances are immutable, hashable and picklable.  Subclasses give the name, the function, its
    derivative, `dual`, `derivative_dual` and `hermite`; the others have defaults in terms of these,
    or that say that nothing more is known.

    Attributes
    ----------
    name : str
        The text from which `resolve` makes the activation again.
    degree : float or None
        The ``k`` of ``s(t x) = t**k s(x)`` for all ``t > 0``; None if there is none.
    code : tuple
        ``(kind, parameters)`` for compiled code; its default stands for "through `hermite`".
    polynomial_degree : int or None
        Of a polynomial, whose Hermite series ends there; None for any other function.
    is_arc_cosine : bool
        Whether the duals are made of arc-cosine functions, see `arc_cosine_map`.
    is_odd : bool
        Whether s(-x) = -s(x), so that what holds near equal directions holds near opposite ones.
    is_smooth : bool
        Whether kernels are looked for as power series: `hermite` is a closed form whose
        coefficients mostly decrease geometrically.
    has_series : bool
        Whether `hermite` is known; without it pairs of rows are walked one by one.
    """

    is_arc_cosine: bool = False
    is_smooth: bool = False
    has_series: bool = True

    @property
    @abstractmethod
    def name(self) -> str:
        """The text from which `resolve` makes the activation again."""

    @property
    def degree(self) -> float | None:
        """Degree of positive homogeneity, or None."""
        return None

    @property
    def polynomial_degree(self) -> int | None:
        """Degree of a polynomial, or None."""
        return None

    @property
    def code(self) -> Code:
        """Kind and parameters for compiled layer maps."""
        return ActivationKind.HERMITE, ()

    @property
    def is_compiled(self) -> bool:
        """Whether compiled code knows the duals, and needs no Hermite coefficients."""
        return self.code[0] != ActivationKind.HERMITE

    @property
    def has_slopes(self) -> bool:
        """Whether `dual_slopes` is known."""
        return type(self).dual_slopes is not Activation.dual_slopes

    @property
    def is_odd(self) -> bool:
        """Whether s(-x) = -s(x)."""
        return False

    @property
    def continuation(self) -> Continuation | None:
        """The function at complex arguments and its radius of convergence about zero, if known."""
        return None

    def pair_numbers(self, q: Array, after: Array, slope: Array) -> list[Array]:
        """Return what compiled code asks of either input of a pair (csrc/host/row_stats.hpp).

        Parameters
        ----------
        q, after, slope : (n,) arrays
            Variances before the activation and after it, and that of the derivative.
        """
        return []

    @abstractmethod
    def __call__(self, x: ArrayLike) -> Array:
        """Evaluate the function elementwise."""

    @abstractmethod
    def derivative(self, x: ArrayLike) -> Array:
        """Evaluate the derivative elementwise (one of the one-sided values at a kink)."""

    @abstractmethod
    def dual(self, q: ArrayLike, p: ArrayLike, c: ArrayLike) -> Array:
        """Return E[s(a) s(b)] for variances `q`, `p` and covariance `c`, which broadcast."""

    @abstractmethod
    def derivative_dual(self, q: ArrayLike, p: ArrayLike, c: ArrayLike) -> Array:
        """Return E[s'(a) s'(b)] for variances `q`, `p` and covariance `c`, which broadcast."""

    def pair_duals(self, q: Array, p: Array, v: Array, vc: Array) -> tuple[Array, Array, float]:
        """Return the duals of all pairs of variances, divided by the roots of both variances.

        Parameters
        ----------
        q, p : (n,) and (m,) arrays
            Variances.
        v, vc : (n, m) arrays
            sin^2 and cos^2 of half the angles.

        Returns
        -------
        defect, slope : (n, m) arrays
            1 - K(q, p, c) / sqrt(K(q, q, q) K(p, p, p)), and the derivative dual itself.
        error : float
            Estimate for both, relative to the roots of their values at equal inputs; 0 for a
            closed form.
        """
        roots = np.sqrt(q)[:, None] * np.sqrt(p)
        sizes = np.sqrt(self.variance(q))[:, None] * np.sqrt(self.variance(p))
        if self.degree is not None:  # only the angle counts, and small angles keep their digits
            defect, slope, _ = self.on_sphere(1.0, v, vc)
            return defect, slope * (sizes / np.where(roots > 0, roots, 1)), 0.0
        c = roots * np.where(v < vc, 1 - 2 * v, 2 * vc - 1)
        value, slope = self._both_duals(*np.broadcast_arrays(q[:, None], p, c))
        safe = np.where(sizes > 0, sizes, 1)
        return np.where(sizes > 0, (sizes - value) / safe, 1), slope, 0.0

    def sides(self, q: Array, p: Array) -> tuple[Any, Array, Array]:
        """Return what `between` asks of pixels of two sets of images.

        Parameters
        ----------
        q, p : (n, height, width) and (m, height, width) arrays
            Variances.

        Returns
        -------
        shared : object
            Of both sets.
        left, right : (n, k, height, width) and (m, k, height, width) arrays
        """
        return None, q[:, None], p[:, None]

    def between(
        self, shared: Any, left: Array, right: Array, v: Array, vc: Array
    ) -> tuple[Array, Array]:
        """Return both duals of pairs of pixels.

        Parameters
        ----------
        shared, left, right
            What `sides` returned, in the shapes (n, 1, k, height, width) and
            (n or 1, m, k, height, width).
        v, vc : (n, m, height, width) arrays
            sin^2 and cos^2 of half the angles.
        """
        q, p = left[:, :, 0], right[:, :, 0]
        c = np.sqrt(q) * np.sqrt(p) * (vc - v)
        return self._both_duals(*np.broadcast_arrays(q, p, c))

    def _both_duals(self, q: ArrayLike, p: ArrayLike, c: ArrayLike) -> tuple[Array, Array]:
        return self.dual(q, p, c), self.derivative_dual(q, p, c)

    def dual_slopes(self, q: Array, p: Array, v: Array, vc: Array) -> DualSlopes:
        """Return the derivatives of both duals by the covariance and by the variance `q`.

        Parameters
        ----------
        q, p : arrays
            Variances.
        v, vc : arrays
            sin^2 and cos^2 of half the angle; all four broadcast.

        Returns
        -------
        DualSlopes
            Of parallel inputs what has a pole there is 0: the derivative across them has a jump,
            and 0 is its mean.

        Raises
        ------
        TypeError
            If they have no closed form.
        """
        raise TypeError(f"activation: derivatives of the duals of {self!r} are not known")

    @abstractmethod
    def hermite(self, q: ArrayLike, count: int) -> Array:
        """Return the orthonormal Hermite coefficients a_j = E[s(sqrt(q) Z) h_j(Z)].

        Parameters
        ----------
        q : (n,) array
            Variances.
        count : int
            Number of coefficients, j = 0 ... count - 1.

        Returns
        -------
        (n, count) array
            With them K(q, p, rho sqrt(qp)) = sum_j a_j(q) a_j(p) rho^j.
        """

    def gain(self) -> float:
        """Return the weight variance that keeps a unit variance: 1 / E[s(Z)^2], 2 for ReLU.

        Raises
        ------
        ValueError
            If the function is zero.
        """
        second_moment = float(self.variance(np.ones(1))[0])
        if not second_moment > 0:
            raise ValueError(f"activation: expected a function that is not zero, got {self!r}")
        return 1.0 / second_moment

    def variance(self, q: ArrayLike) -> Array:
        """Return E[s(a)^2] for variance `q`."""
        return self.dual(q, q, q)

    def derivative_variance(self, q: ArrayLike) -> Array:
        """Return E[s'(a)^2] for variance `q`."""
        return self.derivative_dual(q, q, q)

    def hermite_tail(self, q: ArrayLike, count: int) -> Array:
        """Return E[s^2] - sum_{j < count} a_j(q)^2, which bounds the error of truncation.

        By Cauchy-Schwarz the series of K(q, p, rho) cut after `count` terms is wrong by at most
        sqrt(tail(q) tail(p)) at any rho.
        """
        (q,) = _floats(q)
        rest = self.variance(q) - np.sum(self.hermite(q, count) ** 2, axis=-1)
        return np.asarray(np.maximum(rest, 0))

    def complex_duals(self, q: Array, p: Array, c: Complex) -> tuple[Complex, Complex]:
        """Return `dual` and `derivative_dual` at complex covariances inside the unit circle.

        Parameters
        ----------
        q, p : (n, 1) arrays
            Variances.
        c : (n, m) array
        """
        norm = np.sqrt(q) * np.sqrt(p)
        z = c / norm
        left = self.hermite(q.ravel(), TERMS).T[:, :, None]
        right = self.hermite(p.ravel(), TERMS).T[:, :, None]
        value, slope = np.zeros_like(z), np.zeros_like(z)
        for a, b in zip(left[::-1], right[::-1], strict=True):
            slope *= z
            slope += value
            value *= z
            value += a * b
        return value, np.asarray(slope / norm)

    def arc_cosine_map(self, angle: Angle) -> tuple[Any, Any]:
        """Return 1 - K/K1 and Kd q/K1 (None for 0), as `on_sphere`, at an angle of any kind."""
        raise TypeError(f"activation: expected one made of arc-cosine functions, got {self!r}")

    def on_sphere(self, q: ArrayLike, v: ArrayLike, vc: ArrayLike) -> SphereMap:
        """Describe the dual between inputs of one variance by its distance from the diagonal.

        Parameters
        ----------
        q : float
            The common variance.
        v, vc : arrays
            sin(theta/2)^2 and cos(theta/2)^2 of the angle; their dtype is kept.

        Returns
        -------
        defect, slope, slope_defect : arrays
            1 - K/K1, Kd q/K1 and slope(v=0) - slope, where K1 = K(q, q, q) and c = q (vc - v).
            At a variance for which K1 vanishes they are the limits for q -> 0.
        """
        scale, v, vc = _sphere(q, v, vc)
        return self._sphere_map(scale, v, vc)

    def _sphere_map(self, q: Array, v: Array, vc: Array) -> SphereMap:
        c = q * (vc - v)
        top = self.variance(q)
        if top == 0:
            return _linear_limit(v)
        slope = self.derivative_dual(q, q, c) * (q / top)
        return (
            1 - self.dual(q, q, c) / top,
            slope,
            self.derivative_variance(q) * (q / top) - slope,
        )


def _sphere(q: ArrayLike, v: ArrayLike, vc: ArrayLike) -> tuple[Array, Array, Array]:
    """Bring the arguments of `on_sphere` to the precision of v and vc."""
    v, vc = _floats(v, vc)
    variance = np.asarray(q)
    if variance.ndim:
        raise ValueError(f"q: expected a scalar, got shape {variance.shape}")
    if not variance >= 0:
        raise ValueError(f"q: expected a variance >= 0, got {variance}")
    return _like(v, float(variance))[0] if is_decimal(v) else variance.astype(v.dtype), v, vc


def _column(q: ArrayLike) -> tuple[Array, Array]:
    """Return q as a floating (n,) array and its square root."""
    (q,) = _floats(q)
    return q, np.sqrt(q)


def _stack(columns: Sequence[Array], count: int) -> Array:
    """Put coefficient columns side by side, cut to `count`."""
    return np.stack(columns[:count], axis=-1)


def _check_count(count: int) -> None:
    if count < 1:
        raise ValueError(f"count: expected a positive integer, got {count}")


def _check_finite(name: str, *values: float) -> None:
    if not all(math.isfinite(value) for value in values):
        raise ValueError(f"{name}: expected finite numbers, got {values}")


def _arguments(*values: float) -> str:
    """Write call arguments as short as round-tripping allows."""
    return "(" + ", ".join(f"{float(value)!r}".removesuffix(".0") for value in values) + ")"


def _check_nonzero(**values: float) -> None:
    for name, value in values.items():
        if value == 0:
            raise ValueError(f"{name}: expected a number other than 0, got {value}")
