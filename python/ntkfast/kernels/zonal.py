"""Zonal kernels that are given by a function of the angle: the base of kernels of one's own."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import lru_cache
from typing import Any, Self, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ntkfast.arrays import checks
from ntkfast.arrays.collections import FloatArray, Rows
from ntkfast.engines.maps import Map, ProfileMap
from ntkfast.kernels.curve import Curve
from ntkfast.kernels.profile import Reals, compile_profile
from ntkfast.kernels.rows import RowKernel, at_equal_rows


class ZonalKernel(RowKernel):
    """``K(x, y) = top |x|^degree |y|^degree k(u)`` with u the cosine and k(1) = 1.

    Subclasses, immutable and hashable like frozen dataclasses, write `missing`, and `top` and
    `degree` where these are not 1 and 0. Rows of zeros count as equal to each other and orthogonal
    to every other row.
    """

    is_zonal = True

    @property
    def top(self) -> float:
        """The value at two equal inputs of norm 1."""
        return 1.0

    @property
    def degree(self) -> float:
        """Degree of homogeneity in each input."""
        return 0.0

    @property
    def homogeneity(self) -> float:
        """The degree."""
        return self.degree

    @abstractmethod
    def missing(self, v: Reals, vc: Reals) -> Reals:
        """Return 1 - k in the precision of `v`, without a difference of nearly equal numbers.

        Parameters
        ----------
        v, vc : arrays
            sin^2 and cos^2 of half the angle: 1 - u = 2 v and 1 + u = 2 vc.
        """

    def parameters(self) -> dict[str, float]:
        """Return the fields of a dataclass that are floats; see `Kernel.parameters`."""
        own: Any = self
        names = [field.name for field in fields(own)] if is_dataclass(own) else []
        return {name: getattr(own, name) for name in names if isinstance(getattr(own, name), float)}

    def _moved(self, name: str, value: float) -> Self:
        return cast(Self, replace(cast(Any, self), **{name: value}))

    def profile(self, u: ArrayLike, radius: float = 1.0) -> NDArray[np.float64]:
        """Evaluate the kernel between two inputs of norm `radius` with cosines `u`."""
        cosine = checks.cosines("u", u).astype(np.longdouble)
        scale = self.top * checks.number("radius", radius, above=0.0) ** (2 * self.degree)
        flat = np.atleast_1d(cosine).ravel()
        missing = self.missing((1 - flat) / 2, (1 + flat) / 2)
        return np.asarray((scale * (1 - missing)).reshape(cosine.shape), np.float64)

    def curve(self, dim: int, radius: float) -> Curve:
        """Return the kernel on one sphere; see `RowKernel.curve`."""
        return ZonalCurve(self, self.top * radius ** (2 * self.degree))

    def diagonal_of(self, norms: FloatArray, dim: int) -> NDArray[np.float64]:
        """Return the values at pairs of equal inputs with these norms."""
        return np.asarray(self.top * norms.astype(np.float64) ** (2 * self.degree))

    def _at_equal(self, X: Rows) -> FloatArray:
        return at_equal_rows(_compiled(self, X.data.dtype), X)

    def _profile(self, X: Rows, Y: Rows) -> ProfileMap:
        return _compiled(self, X.data.dtype)

    def _map(self, X: Rows, Y: Rows) -> tuple[Map, Rows, Rows]:
        return self._profile(X, Y), X, Y

    def _slopes(self, X: Rows, Y: Rows) -> tuple[Map, ProfileMap, Rows, Rows]:
        return _compiled(self, X.data.dtype), _compiled_slope(self, X.data.dtype), X, Y


@dataclass(frozen=True)
class ZonalCurve(Curve):
    """A zonal kernel on one sphere."""

    kernel: ZonalKernel
    top: float

    def missing(self, v: Reals, vc: Reals) -> Reals:
        """Return 1 - k."""
        return self.kernel.missing(v, vc)


@lru_cache(maxsize=64)
def _compiled(kernel: ZonalKernel, dtype: np.dtype[Any]) -> ProfileMap:
    return compile_profile(kernel.missing, dtype, degree=kernel.degree, scale=kernel.top)


@lru_cache(maxsize=64)
def _compiled_slope(kernel: ZonalKernel, dtype: np.dtype[Any]) -> ProfileMap:
    from ntkfast.kernels.slopes import compile_slope  # rarely needed

    return compile_slope(kernel.missing, dtype, degree=kernel.degree, scale=kernel.top)
