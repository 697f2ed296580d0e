"""Kernels of rows of a matrix, which enter by their norms and their angle."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ntkfast import engines, places
from ntkfast.arrays import checks
from ntkfast.arrays.collections import Collection, FloatArray, Rows, Weights
from ntkfast.engines import Run, cuda
from ntkfast.engines.maps import Map, ProfileMap, RadialMap
from ntkfast.kernels.base import Kernel, checked_kernel
from ntkfast.kernels.by_parameters import Given
from ntkfast.kernels.curve import Curve, ProfileCurve
from ntkfast.kernels.filling import fill
from ntkfast.kernels.moving import contracted, parameter_profile, proportional

if TYPE_CHECKING:  # loaded when it is asked for
    from ntkfast.kernels.layer_parameters import Walk

# Norms that differ by rounding only count as equal: the kernel is then a profile.
EQUAL_NORMS = 4.0
PROFILE_ERROR = 16.0  # a profile worse than this many eps is not used


class RowKernel(Kernel):
    """A kernel whose inputs are rows of a matrix and enter by their norms and their angle."""

    of_rows = True
    _on_devices = True

    @property
    def by_angle(self) -> bool:
        """Whether the directions of rows count, however short these are."""
        return True

    @property
    def homogeneity(self) -> float | None:
        """The p of K(x, y) = abs(x)^p abs(y)^p k(u); None if there is none, or it is not known."""
        return None

    @abstractmethod
    def profile(self, u: ArrayLike, radius: float = 1.0) -> NDArray[np.float64]:
        """Evaluate the kernel between two inputs of one norm as a function of their cosine.

        Parameters
        ----------
        u : array
            Cosines in [-1, 1].
        radius : float, default 1
            Norm of both inputs; with ``parameterization="ntk"`` their norm over sqrt(d).

        Returns
        -------
        array of the shape of `u`, float64
        """

    def curve(self, dim: int, radius: float) -> Curve:
        """Return the kernel on the sphere of a radius in `dim` dimensions; see `on_sphere`."""
        return ProfileCurve(self, radius)

    def at_complex_cosines(
        self, dim: int, p: NDArray[np.float64], q: NDArray[np.float64], u: NDArray[np.complex128]
    ) -> NDArray[np.complex128]:
        """Return the kernel of inputs with norms `p` and `q`, (n, 1) arrays, at cosines (n, m).

        Raises
        ------
        TypeError
            If the kernel's continuation to complex cosines, abs(u) < 1, is not known.
        """
        raise TypeError(
            f"kernel: expected a network's kernel, an exponential one, or rows of one norm, "
            f"got {self!r} and rows of different norms"
        )

    @abstractmethod
    def diagonal_of(self, norms: FloatArray, dim: int) -> NDArray[np.float64]:
        """Return the values at pairs of equal inputs with these norms."""

    @abstractmethod
    def _map(self, X: Rows, Y: Rows) -> tuple[Map, Rows, Rows]:
        """Return what the engine needs: the map, and the rows with what it needs of them."""

    def _profile(self, X: Rows, Y: Rows) -> ProfileMap | None:
        """Return a profile as good as the map, if there is one for these rows."""
        return None

    def check_shapes(self, X: tuple[int, ...], Y: tuple[int, ...] | None = None) -> None:
        """Raise an error naming the array that is no matrix, or has other columns than X."""
        checks.matrix_shape("X", X)
        if Y is not None:
            checks.matrix_shape("Y", Y, X[1])

    def collect(self, X: ArrayLike) -> FloatArray:
        """Validate a matrix once, for many calls; see `Kernel.collect`."""
        return places.HOST.rows(X, None)[0].data

    def _inputs(self, place: places.Place, X: Any, Y: Any) -> tuple[Rows, Rows | None]:
        return place.rows(X, Y)

    def _values(self, X: Collection) -> FloatArray:
        rows = cast(Rows, X)
        self._check_range(rows, None)
        return self._at_equal(rows)

    def _at_equal(self, X: Rows) -> FloatArray:
        """Return the values at pairs of equal rows, those of Gram matrices to the bit."""
        return self.diagonal_of(X.norms, X.data.shape[1]).astype(X.dtype)

    def _gram(self, X: Collection, Y: Collection | None, out: FloatArray, run: Run) -> None:
        self._write(*self._plan(X, Y), Y is None, out, run)

    def _write(
        self, plan: Map, left: Rows, right: Rows, symmetric: bool, out: FloatArray, run: Run
    ) -> None:
        """Write the Gram matrix of a plan."""
        plan = self._quicker(plan, left, right, symmetric, run)
        other = None if symmetric else right
        if out.dtype != left.dtype and engines.rounded(run, plan, left, other, out):
            return
        fill(partial(engines.gram, run, plan), left, other, out)

    def _rounded(self, X: Collection, Y: Collection | None, out: FloatArray, run: Run) -> None:
        self._gram(X, Y, out, run)

    def _product(
        self, X: Collection, Y: Collection | None, V: FloatArray, out: FloatArray, run: Run
    ) -> None:
        plan, left, right = self._plan(X, Y)
        plan = self._quicker(plan, left, right, Y is None, run)
        if run.groups is None:
            run.engine.matmul(plan, left, None if Y is None else right, V, out, run.threads)
        else:
            run.engine.products(plan, left, V, run.groups, out, run.threads)

    def _quicker(self, plan: Map, X: Rows, Y: Rows, symmetric: bool, run: Run) -> Map:
        """Return the map, or one with the same values within rounding if that is sooner done."""
        return plan

    def _slopes(self, X: Rows, Y: Rows) -> tuple[Map, ProfileMap | None, Rows, Rows]:
        """Return what an engine needs for derivatives: beside a profile that by the angle.

        Raises
        ------
        TypeError
            If there are none.
        """
        raise TypeError(f"kernel: derivatives by inputs are not known of {self!r}")

    def _movable(self, X: Any, Y: Any) -> tuple[int, int]:
        self._check_range(X, Y)
        self._check_powers(X, Y)
        self._slopes(X, X if Y is None else Y)
        return cast("tuple[int, int]", X.data.shape)

    def _gradient(self, X: Any, Y: Any, V: Weights, out: FloatArray, run: Run) -> None:
        plan, slope, left, right = self._slopes(X, X if Y is None else Y)
        run.engine.vjp(plan, slope, left, None if Y is None else right, V, out, run.threads)

    def _moving(self, X: Any, Y: Any, dX: FloatArray, out: FloatArray, run: Run) -> None:
        plan, slope, left, right = self._slopes(X, Y)
        run.engine.jvp(plan, slope, left, right, dX, out, run.threads)

    def _by_parameters(
        self, names: Sequence[str], given: Given, X: Any, Y: Any, V: Weights, run: Run
    ) -> dict[str, float]:
        found: dict[str, float] = {}
        for slope, shares in self._along_profiles(names, X, Y):
            if places.of(X.memory) is not places.HOST:
                total = cuda.engine.weighed(slope, X, X if Y is None else Y, V, run.threads)
            else:

                def product(X: Any, Y: Any, V: Any, out: Any, slope: ProfileMap = slope) -> None:
                    run.engine.matmul(slope, X, Y, V, out, run.threads)

                total = contracted(partial(engines.gram, run, slope), product, X, Y, V)
            found |= {name: share * total for name, share in shares.items()}
        moving = [name for name in names if name not in found and self._moves(name)]
        if walk := self._moving_layers(moving, X, Y):
            found |= walk.sums(V, run)
        rest = [name for name in names if name not in found]
        found |= super()._by_parameters(rest, given, X, Y, V, run)
        return {name: found[name] for name in names}

    def _add_slopes(
        self, steps: Mapping[str, float], given: Given, X: Any, Y: Any, out: FloatArray, run: Run
    ) -> None:
        left = {name: step for name, step in steps.items() if self._moves(name)}
        for slope, shares in self._along_profiles(list(left), X, Y):
            part = np.empty(out.shape, out.dtype)
            engines.gram(run, slope, X, Y, part)
            part *= sum(share * left.pop(name) for name, share in shares.items())
            out += part
        if walk := self._moving_layers(list(left), X, Y):
            walk.add({name: left.pop(name) for name in walk.steps}, out, run)
        super()._add_slopes(left, given, X, Y, out, run)

    def _along_profiles(
        self, names: Sequence[str], X: Rows, Y: Rows | None
    ) -> Iterator[tuple[ProfileMap, dict[str, float]]]:
        """Yield derivatives by parameters that are profiles, and of which, times which numbers."""
        moving = tuple(name for name in names if self._moves(name)) if self.is_zonal else ()
        shares: dict[str, dict[str, float]] = {}
        for name, (first, share) in proportional(self, moving, X.data.shape[1]).items():
            shares.setdefault(first, {})[name] = share
        for first, some in shares.items():
            if slope := self._parameter_profile(first, X, Y):
                yield slope, some

    def _moving_layers(self, names: Sequence[str], X: Rows, Y: Rows | None) -> Walk | None:
        self._check_range(X, Y)
        return self._along_layers(names, X, Y) if names else None

    def _along_layers(self, names: Sequence[str], X: Rows, Y: Rows | None) -> Walk | None:
        """Return the walk along layers that gives derivatives by some parameters, if one does."""
        return None

    def _parameter_profile(self, name: str, X: Any, Y: Any) -> ProfileMap | None:
        """Return the derivative of a zonal kernel by a parameter, if a profile is accurate."""
        self._check_range(X, Y)
        if not self._moves(name):
            return None
        degree = self.homogeneity or 0.0
        found = parameter_profile(self, name, X.dtype, X.data.shape[1], degree)
        return found if found.error <= PROFILE_ERROR * float(np.finfo(X.dtype).eps) else None

    def _plan(self, X: Collection, Y: Collection | None) -> tuple[Map, Rows, Rows]:
        left, right = cast(Rows, X), cast("Rows | None", Y)
        self._check_range(left, right)
        self._check_powers(left, right)
        return self._map(left, left if right is None else right)

    def _check_range(self, X: Rows, Y: Rows | None) -> None:
        """Raise an error where the largest values do not fit the dtype, or directions are lost."""
        for name, side in (("X", X), ("Y", Y)):
            if side is None:
                continue
            tiny = float(np.finfo(side.dtype).tiny)
            if self.by_angle and side.least_positive < tiny:
                checks.directions(name, "row", side.norms, tiny)
            top, dim = side.top, side.data.shape[1]
            limit = float(np.finfo(side.data.dtype).max)  # float64 compared in float32 overflows
            # The next power of two settles nearly every call, and its value is remembered.
            if at_power(self, math.frexp(top)[1], dim) <= limit:
                continue
            if not at_equal(self, top, dim) <= limit:
                raise ValueError(
                    f"{name}: the kernel of a row with norm {top:.3g} overflows "
                    f"{side.data.dtype}; scale the rows or the weights down"
                )

    def _power_of_norms(self, dim: int) -> float | None:
        """Return `homogeneity`, where it is known of rows of so many columns."""
        return self.homogeneity

    def _check_powers(self, X: Rows, Y: Rows | None) -> None:
        """Raise an error where a long row makes up for a power of a short one that is subnormal."""
        degree, other = self._power_of_norms(X.data.shape[1]), X if Y is None else Y
        if degree is None or degree <= 1:
            return
        tiny, unit = math.log2(np.finfo(X.data.dtype).tiny), at_power(self, 0, X.data.shape[1])
        for name, side, facing in (("X", X, other), ("Y", other, X)):
            least, top = side.least_positive, facing.top
            if least == math.inf:
                return
            power = degree * math.log2(least)
            if power >= tiny or top == 0 or unit == 0:
                continue
            if power + degree * math.log2(top) + math.log2(unit) >= tiny:
                raise ValueError(
                    f"{name}: a row has norm {least:.3g}, whose power {degree:g} vanishes in "
                    f"{X.data.dtype}, and faces one with norm {top:.3g}; pass float64, or scale "
                    "the rows up"
                )


def at_equal_rows(plan: ProfileMap | RadialMap, X: Rows) -> FloatArray:
    """Return what engines write where both rows are the same, to the bit."""
    factors = engines.norm_powers(X.norms, plan.degree)
    scale = plan.scale if isinstance(plan, ProfileMap) else 1.0
    return np.asarray(factors * (factors * X.dtype.type(scale)))


def common_norm(*sides: Rows) -> float | None:
    """Return the norm that all rows share up to rounding, if it is not zero."""
    low, high = sides[0].least, sides[0].top
    for side in sides[1:]:
        low, high = min(low, side.least), max(high, side.top)
    if low == 0 or high - low > 1e-6 * high:  # more than in any type
        return None
    if high - low > EQUAL_NORMS * float(np.finfo(sides[0].dtype).eps) * high:
        return None
    if low == high:
        return high
    # A few ulps coarser than the mean, so that parts of one data set share a compiled profile.
    mean = sum(side.mean for side in sides) / len(sides)
    mantissa, exponent = math.frexp(mean)
    grid = 2.0 ** (np.finfo(sides[0].dtype).nmant - 1)
    return math.ldexp(round(mantissa * grid) / grid, exponent)


def checked_row_kernel(kernel: object) -> RowKernel:
    """Return `kernel`, or raise an error saying why it has no profile or angles."""
    found = checked_kernel(kernel)
    if not isinstance(found, RowKernel):
        raise TypeError(
            f"kernel: expected a kernel of rows of a matrix, which depends on norms and an angle; "
            f"got {found!r}"
        )
    return found


def on_sphere(kernel: object, dim: int, radius: float | None) -> Curve:
    """Return a kernel restricted to the sphere of a radius in `dim` dimensions.

    Raises
    ------
    TypeError
        If `kernel` is not a Kernel.
    ValueError
        If it is not zonal and no radius is given.
    """
    kernel = checked_row_kernel(kernel)
    if radius is None and not kernel.is_zonal:
        raise ValueError(
            f"kernel: expected a zonal kernel, K(x, y) = |x|^p |y|^p k(cos), got {kernel!r}; "
            "inputs of one norm make it one: give that norm as radius, for example radius=1.0"
        )
    size = 1.0 if radius is None else checks.number("radius", radius, above=0.0)
    found = _curve(kernel, dim, size)
    if not 0 < found.top < math.inf:
        raise ValueError(
            f"kernel: expected a positive number as the value at equal inputs of norm {size:.3g}, "
            f"got {found.top:.3g} from {kernel!r}"
        )
    return found


@lru_cache(maxsize=64)
def _curve(kernel: RowKernel, dim: int, radius: float) -> Curve:
    return kernel.curve(dim, radius)


def at_equal(kernel: RowKernel, norm: float, dim: int) -> float:
    """Return the value at two equal inputs of a norm; infinity where it overflows."""
    with np.errstate(over="ignore", invalid="ignore"):
        return float(kernel.diagonal_of(np.array([norm]), dim)[0])


@lru_cache(maxsize=1024)
def at_power(kernel: RowKernel, exponent: int, dim: int) -> float:
    """Return the same at the norm 2**exponent."""
    return at_equal(kernel, 2.0 ** min(exponent, 1023), dim)
