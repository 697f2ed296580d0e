"""Combined kernels of norms and an angle: one profile, one pass over tiles, where it can be.

The parts tell what is missing from their values at equal inputs; so does a combination, without a
difference of nearly equal numbers. Its profile is compiled from that, like the one of any kernel.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, ClassVar, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ntkfast.activations.base import Complex
from ntkfast.arrays import checks
from ntkfast.arrays.collections import Collection, FloatArray, Rows, Weights
from ntkfast.engines import Run
from ntkfast.engines.maps import Map, ProfileMap
from ntkfast.kernels.algebra import Combined, Folded, Product, Sum
from ntkfast.kernels.algebra_curves import CombinedCurve, ProductCurve, SumCurve, WrappedCurve
from ntkfast.kernels.arithmetic import maker
from ntkfast.kernels.base import Kernel, checked_kernel
from ntkfast.kernels.multiples import Multiple
from ntkfast.kernels.normalized import Normalized
from ntkfast.kernels.profile import compile_profile
from ntkfast.kernels.rows import PROFILE_ERROR, RowKernel, at_equal_rows, common_norm
from ntkfast.kernels.slopes import compile_slope

LOST = 2.0  # the error of a combined profile beside that of its worst part


class CombinedRows(RowKernel, Combined):
    """A combination of kernels of norms and an angle, which is one too."""

    kernels: tuple[RowKernel, ...]
    curves: ClassVar[type[CombinedCurve]]

    @property
    def is_zonal(self) -> bool:
        """Whether K(x, y) = |x|^p |y|^p k(u) for all rows."""
        return self.homogeneity is not None

    @property
    def by_angle(self) -> bool:
        """Whether the directions of short rows count in any part."""
        return any(kernel.by_angle for kernel in self.kernels)

    @property
    def homogeneity(self) -> float | None:
        """The power p of the norms, from those of the parts."""
        degrees = [kernel.homogeneity for kernel in self.kernels]
        known = [degree for degree in degrees if degree is not None]
        return self._degree(known) if len(known) == len(degrees) else None

    def profile(self, u: ArrayLike, radius: float = 1.0) -> NDArray[np.float64]:
        """Evaluate the kernel between two inputs of norm `radius` with cosines `u`."""
        cosine = checks.cosines("u", u).astype(np.longdouble)
        flat = np.atleast_1d(cosine).ravel()
        curve = self.curve(1, checks.number("radius", radius, above=0.0))
        with np.errstate(all="ignore"):
            top, missing = curve.split((1 - flat) / 2, (1 + flat) / 2)
            values = np.asarray((top - missing).reshape(cosine.shape), np.float64)
        if not np.all(np.isfinite(values)):
            raise ValueError(
                f"radius: the kernel of a row with norm {radius:.3g}, or a part of it, overflows "
                "float64 or vanishes"
            )
        return values

    def curve(self, dim: int, radius: float) -> CombinedCurve:
        """Return the combination of the curves; see `RowKernel.curve`."""
        return self.curves(self, tuple(kernel.curve(dim, radius) for kernel in self.kernels))

    def diagonal_of(self, norms: FloatArray, dim: int) -> NDArray[np.float64]:
        """Return the values at pairs of equal inputs with these norms."""
        parts = [kernel.diagonal_of(norms, dim) for kernel in self.kernels]
        return np.asarray(self._combine(parts))

    def at_complex_cosines(
        self, dim: int, p: NDArray[np.float64], q: NDArray[np.float64], u: Complex
    ) -> Complex:
        """Return the kernel at complex cosines; see `RowKernel.at_complex_cosines`."""
        parts = [kernel.at_complex_cosines(dim, p, q, u) for kernel in self.kernels]
        return np.asarray(self._combine(parts))

    def _profile(self, X: Rows, Y: Rows) -> ProfileMap | None:
        dim, dtype = X.data.shape[1], X.data.dtype
        radius = 1.0 if self.is_zonal else common_norm(X, Y)
        if radius is None:
            return None
        worst = PROFILE_ERROR * float(np.finfo(dtype).eps)
        for kernel in self.kernels:
            part = kernel._profile(X, Y)  # which also says what is wrong with it
            if part is None:
                return None
            worst = max(worst, LOST * part.error)
        profile = _compiled(self, dtype, radius, dim)
        return profile if profile.error <= worst else None  # not if it is NaN

    def _at_equal(self, X: Rows) -> FloatArray:
        profile = self._profile(X, X)
        return super(RowKernel, self)._values(X) if profile is None else at_equal_rows(profile, X)

    def _map(self, X: Rows, Y: Rows) -> tuple[Map, Rows, Rows]:
        profile = self._profile(X, Y)
        assert profile is not None  # or nobody asks
        return profile, X, Y

    def _gram(self, X: Collection, Y: Collection | None, out: FloatArray, run: Run) -> None:
        if self._has_profile(X, Y):
            super()._gram(X, Y, out, run)
        else:  # part by part
            super(RowKernel, self)._gram(X, Y, out, run)

    def _rounded(self, X: Collection, Y: Collection | None, out: FloatArray, run: Run) -> None:
        if self._has_profile(X, Y):
            super()._rounded(X, Y, out, run)
        else:  # panels of parts that are joined before they are rounded
            super(RowKernel, self)._rounded(X, Y, out, run)

    def _product(
        self, X: Collection, Y: Collection | None, V: FloatArray, out: FloatArray, run: Run
    ) -> None:
        if self._has_profile(X, Y):
            super()._product(X, Y, V, out, run)
        else:
            super(RowKernel, self)._product(X, Y, V, out, run)

    def _slopes(self, X: Rows, Y: Rows) -> tuple[Map, ProfileMap, Rows, Rows]:
        profile = self._profile(X, Y)
        assert profile is not None  # or nobody asks
        return profile, _compiled(self, X.data.dtype, 1.0, X.data.shape[1], compile_slope), X, Y

    def _movable(self, X: Any, Y: Any) -> tuple[int, int]:
        if self._has_slope(X, Y):
            return super()._movable(X, Y)
        self._require_host(X.memory)
        return super(RowKernel, self)._movable(X, Y)

    def _gradient(self, X: Any, Y: Any, V: Weights, out: FloatArray, run: Run) -> None:
        if self._has_slope(X, Y):
            super()._gradient(X, Y, V, out, run)
        else:
            super(RowKernel, self)._gradient(X, Y, V, out, run)

    def _moving(self, X: Any, Y: Any, dX: FloatArray, out: FloatArray, run: Run) -> None:
        if self._has_slope(X, Y):
            super()._moving(X, Y, dX, out, run)
        else:
            super(RowKernel, self)._moving(X, Y, dX, out, run)

    def _has_slope(self, X: Collection, Y: Collection | None) -> bool:
        """Whether the profile says how values change: one of rows of one norm does not."""
        return self.is_zonal and self._has_profile(X, Y)

    def _has_profile(self, X: Collection, Y: Collection | None) -> bool:
        left, right = cast(Rows, X), cast("Rows | None", Y)
        self._check_range(left, right)
        return self._profile(left, left if right is None else right) is not None


@lru_cache(maxsize=256)
def _compiled(
    kernel: CombinedRows, dtype: np.dtype[Any], radius: float, dim: int, how: Any = compile_profile
) -> ProfileMap:
    curve, degree = kernel.curve(dim, radius), kernel.homogeneity or 0.0
    with np.errstate(all="ignore"):  # what is not finite has no profile
        return cast(ProfileMap, how(curve.missing, dtype, degree=degree, scale=curve.top))


class RowSum(CombinedRows, Sum):
    """A sum of kernels of norms and an angle."""

    curves = SumCurve


class RowProduct(CombinedRows, Product):
    """A product of kernels of norms and an angle."""

    curves = ProductCurve


class RowMultiple(CombinedRows, Multiple):  # type: ignore[misc] # has its kernels from one
    """A multiple of a kernel of norms and an angle."""

    curves = WrappedCurve


class RowNormalized(CombinedRows, Normalized):  # type: ignore[misc] # the same
    """A kernel of norms and an angle with ones on the diagonal."""

    curves = WrappedCurve

    def at_complex_cosines(
        self, dim: int, p: NDArray[np.float64], q: NDArray[np.float64], u: Complex
    ) -> Complex:
        """Return the kernel at complex cosines; see `RowKernel.at_complex_cosines`."""
        (kernel,) = self.kernels
        size = [np.sqrt(kernel.diagonal_of(norm.ravel(), dim))[:, None] for norm in (p, q)]
        return np.asarray(kernel.at_complex_cosines(dim, p, q, u) / size[0] / size[1])

    @property
    def _across(self) -> float:
        """The value at right angles, where that is the limit of all rows that shrink."""
        return float(self.profile(0.0)) if self.is_zonal else 0.0

    def _has_length(self, X: Any, values: FloatArray) -> NDArray[np.bool_]:
        return np.asarray(cast(Rows, X).norms > 0)


VARIANTS: dict[type[Combined], type[CombinedRows]] = {
    Sum: RowSum,
    Product: RowProduct,
    Multiple: RowMultiple,
    Normalized: RowNormalized,
}


def _variant(kind: type[Combined], *kernels: Kernel) -> type[Any]:
    """Return the class for these parts."""
    of_rows = all(isinstance(checked_kernel(kernel), RowKernel) for kernel in kernels)
    return VARIANTS[kind] if of_rows else kind


def _folded(kind: type[Folded], kernels: dict[str, Kernel]) -> Any:
    """Join kernels; those of a sum in a sum, or of a product in a product, one by one."""
    if len(kernels) < 2:
        raise TypeError(f"{kind.word}: expected at least two kernels, got {len(kernels)}")
    flat: list[Kernel] = []
    for kernel in kernels.values():
        flat += kernel.kernels if isinstance(kernel, kind) else (kernel,)
    return _variant(kind, *flat)(tuple(flat))


@maker(Sum.word)
def _sum(**kernels: Kernel) -> Any:
    return _folded(Sum, kernels)


@maker(Product.word)
def _product(**kernels: Kernel) -> Any:
    return _folded(Product, kernels)


@maker(Multiple.word)
def _multiple(factor: float, kernel: Kernel) -> Any:
    size = checks.number("factor", factor, least=0.0)
    if isinstance(kernel, Multiple):
        return _multiple(size * kernel.factor, kernel.kernel)
    return _variant(Multiple, kernel)(size, kernel)


@maker(Normalized.word)
def _normalized(kernel: Kernel) -> Any:
    return kernel if isinstance(kernel, Normalized) else _variant(Normalized, kernel)(kernel)
