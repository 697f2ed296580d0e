"""Kernels as sums over spherical harmonics: sum_k sum_j f_kj(|x|) f_kj(|y|) P_k(u)."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ntkfast.arrays import checks
from ntkfast.features import radial
from ntkfast.features.base import FeatureMap, norms_of
from ntkfast.kernels.base import Kernel
from ntkfast.kernels.rows import checked_row_kernel, on_sphere
from ntkfast.networks.dense import FullyConnected
from ntkfast.spectrum import mercer
from ntkfast.support.telling import warn

Array = NDArray[np.float64]

ONE_NORM = 1e-5  # relative difference up to which norms count as equal
MUCH = 0.2  # of k(1): what is missing deserves a warning
NEGATIVE = 1e-9  # of k(1): negative masses up to here are rounding


@dataclass(frozen=True)
class Expansion:
    """K(x, y) / (r(|x|) r(|y|)) as a sum over degrees.

    Attributes
    ----------
    factors : list of (rows, rank) arrays
        f_kj, one array for each degree k; a single row if they do not depend on the norm.
    grid : (rows,) array or None
        The logarithms of the norms of the rows, equidistant, if there are several.
    truncated : float
        Part of the value at equal inputs that is missing.
    """

    factors: list[Array]
    grid: Array | None
    truncated: float

    @property
    def masses(self) -> Array:
        """Value of each degree at equal inputs, a mean over the norms."""
        return np.array([float(np.mean(np.sum(f**2, axis=1))) for f in self.factors])

    def place(self, norms: NDArray[Any]) -> Array | None:
        """Return where norms lie among the rows of the factors, if there are several.

        Those beyond the ends count as the ends.
        """
        if self.grid is None:
            return None
        with np.errstate(divide="ignore"):
            logs = np.log(norms.astype(np.float64))
        first, last = self.grid[0], len(self.grid) - 1
        place = (logs - first) / (self.grid[1] - first)
        return np.asarray(np.clip(place, 0, last * (1 - 1e-7)))

    def at(self, degree: int, place: Array | None) -> Array:
        """Return the factors of one degree for data rows, (1, rank) or (n, rank)."""
        factor = self.factors[degree]
        if place is None:
            return factor
        first = place.astype(np.intp)
        share = (place - first)[:, None]
        return np.asarray(factor[first] * (1 - share) + factor[first + 1] * share)


def tell_missing(what: str, missing: float) -> None:
    """Warn where an expansion leaves out much of a kernel at equal inputs."""
    if missing > MUCH:
        warn(
            f"{what} leave out up to {missing:.0%} of K(x, x): the kernel falls off within small "
            "angles; take more of them, or NTKRandomFeatures of the network, which have K(x, x) "
            "exactly"
        )


def masses(kernel: Kernel, dim: int, max_degree: int, radius: float | None) -> tuple[Array, float]:
    """Return a_0 ... a_max of k(u) = sum_k a_k P_k(u), all non-negative, and k(1).

    Raises
    ------
    ValueError
        If one is negative: the kernel is not positive definite in this dimension.
    """
    mass, top = _masses(kernel, dim, max_degree, radius)
    worst = int(np.argmin(mass))
    if mass[worst] < -NEGATIVE * top:
        raise ValueError(
            f"kernel: expected non-negative Mercer masses, degree {worst} has {mass[worst]:.3g} in "
            f"dimension {dim}: {kernel!r} is not positive definite there and has no features"
        )
    return np.maximum(mass, 0), top


@lru_cache(maxsize=64)
def _masses(kernel: Kernel, dim: int, max_degree: int, radius: float | None) -> tuple[Array, float]:
    """Compute once what several draws share."""
    if dim == 1:  # the sphere is {-1, 1} and has an even and an odd function
        curve = on_sphere(kernel, 1, radius)
        missing = float(curve.missing(np.ones(1), np.zeros(1))[0])
        return curve.top * np.array([1 - missing / 2, missing / 2]), curve.top
    spectrum = mercer(kernel, dim, max_degree, radius=radius)
    known = np.isfinite(spectrum.mass) & (spectrum.error < 1)
    return np.where(known, spectrum.mass, 0.0), spectrum.trace


def homogeneity(kernel: Kernel, dim: int) -> int:
    """Return p of the zonal kernel |x|^p |y|^p k(u), from its values at equal inputs."""
    rows = np.zeros((2, dim))
    rows[:, 0] = 1, 2
    one, two = kernel.diag(rows)
    if not 0 < one < math.inf or not 0 < two < math.inf:
        raise ValueError(
            f"kernel: expected positive numbers as the values at equal inputs of norms 1 and 2, "
            f"got {one:.3g} and {two:.3g} from {kernel!r}"
        )
    return round(math.log(two / one, 4))


@dataclass(eq=False, repr=False)
class SphereFeatures(FeatureMap):
    """Base of features of kernels of the cosine and the norms.

    A zonal kernel |x|^p |y|^p k(u), or any kernel on rows of one norm, is a function of the cosine
    times r(|x|) r(|y|); other kernels are sums of such products (`radial`).
    """

    kernel: Kernel | None = None
    n_components: int = 1024
    _: KW_ONLY
    radius: float | None = None
    random_state: Any = None

    def _prepare(self, X: Any) -> None:
        given = FullyConnected(1).ntk if self.kernel is None else self.kernel
        self.kernel_ = checked_row_kernel(given)
        zonal = self.kernel_.is_zonal
        self.power_ = float(homogeneity(self.kernel_, X.shape[1])) if zonal else 0.0
        self.radius_: float | None = None
        self._norms: NDArray[Any] | None = None  # those of the training rows, where they matter
        if self.radius is not None:
            self.radius_ = checks.number("radius", self.radius, above=0.0)
        elif not zonal:
            norms = norms_of(X).astype(np.float64)
            low, high = float(norms.min()), float(norms.max())
            if high == 0:
                raise ValueError(f"X: expected rows that are not all zero, for {self.kernel_!r}")
            if high - low <= ONE_NORM * low:
                self.radius_ = float(norms.mean())
            else:
                self._norms = norms

    def _expand(self, dim: int, max_degree: int) -> Expansion:
        """Return the expansion in zonal harmonics, degrees 0 ... max_degree."""
        if self._norms is None:
            mass, top = masses(self.kernel_, dim, max_degree, self.radius_)
            lost = max(0.0, 1 - float(mass.sum()) / top)
            return Expansion([np.full((1, 1), math.sqrt(a)) for a in mass], None, lost)
        logs, grid = radial.nodes(self._norms)
        powers = radial.power_series(self.kernel_, dim, logs)
        series = np.einsum("lk,lij->kij", radial.multiples(dim, max_degree + 1), powers)
        factors, _ = radial.functions(series, logs, grid)
        found = np.sum([np.sum(f**2, axis=1) for f in factors], axis=0)
        return Expansion(factors, grid, max(0.0, 1 - float(found.min())))

    def _lengths(self, norms: NDArray[Any]) -> Array:
        """Return r(|x|), which is |x|^power_ for rows of one norm; checks that these are right."""
        if self._norms is not None:
            diagonal = self.kernel_.diagonal_of(norms.astype(np.float64), self.n_features_in_)
            return np.sqrt(np.asarray(diagonal, np.float64))
        if self.radius_ is not None:
            wrong = np.flatnonzero(np.abs(norms - self.radius_) > ONE_NORM * self.radius_)
            if len(wrong):
                raise ValueError(
                    f"X: expected rows of norm {self.radius_:.6g}, "
                    f"row {wrong[0]} has {norms[wrong[0]]:.6g}"
                )
        elif self.power_ == 0 and not norms.all():
            raise ValueError(
                f"X: expected rows that are not zero, row {int(np.argmin(norms))} is, and "
                f"{self.kernel_!r} depends on directions only"
            )
        return np.asarray(norms.astype(np.float64) ** self.power_)
