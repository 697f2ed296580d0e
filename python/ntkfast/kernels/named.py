"""Kernels known by name: arc-cosine, Laplace, exponential power and Gaussian."""

from __future__ import annotations

import copy
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ntkfast import places
from ntkfast.activations.base import Complex
from ntkfast.activations.names import rectified_monomial
from ntkfast.arrays import checks
from ntkfast.arrays.collections import FloatArray, Rows, Weights
from ntkfast.arrays.panels import panels
from ntkfast.engines import Run
from ntkfast.engines.maps import Map, ProfileMap, RadialMap
from ntkfast.kernels.by_parameters import Given
from ntkfast.kernels.curve import Curve
from ntkfast.kernels.gradients import on_host
from ntkfast.kernels.layers import Layer
from ntkfast.kernels.moving import add_block, blocks, contracted
from ntkfast.kernels.profile import Reals, compile_profile
from ntkfast.kernels.rows import PROFILE_ERROR, RowKernel, at_equal_rows
from ntkfast.kernels.zonal import ZonalKernel

if TYPE_CHECKING:  # analysis is loaded when it is asked for
    from ntkfast.kernels.jets import Ends
    from ntkfast.kernels.powers import Powers

INPUTS = ("euclidean", "sphere", "homogeneous")
NEAR = 0.99  # an exponential above this has lost digits of its exponent
STEEPER, ATTEMPTS = 100.0, 4  # of rates by which exponents are found where pairs are close
FEW = 0.01  # share of pairs that may be subtracted
MOST_POWERS = 40  # terms of the expansion of an exponential


@dataclass(frozen=True)
class ArcCosine(ZonalKernel):
    """The arc-cosine kernel of Cho and Saul, 2 E[(w.x)_+^order (w.y)_+^order].

    Parameters
    ----------
    order : {0, 1, 2, 3}
        0: step functions, 1: ReLU; the kernel is |x|^order |y|^order J_order(theta) / pi.

    Notes
    -----
    Rows of zeros count as equal to each other and orthogonal to every other row: order 0 gives 1
    and 1/2 there, the other orders 0.

    References
    ----------
    .. [1] Y. Cho, L. K. Saul, "Kernel methods for deep learning", NeurIPS 2009.

    Examples
    --------
    >>> import ntkfast as nf
    >>> nf.ArcCosine(1).profile([1.0, 0.0, -1.0]).round(6)
    array([1.     , 0.31831, 0.     ])
    """

    order: int

    def __post_init__(self) -> None:
        if checks.count("order", self.order) > 3:
            raise ValueError(f"order: expected 0, 1, 2 or 3, got {self.order}")

    @property
    def top(self) -> float:
        """J_n(0) / pi = (2n-1)!!."""
        return float((1, 1, 3, 15)[self.order])

    @property
    def degree(self) -> float:
        """The order."""
        return float(self.order)

    def missing(self, v: Reals, vc: Reals) -> Reals:
        """Return 1 - k(u)/k(1)."""
        return np.asarray(rectified_monomial(self.order).on_sphere(1.0, v, vc)[0])

    def curve(self, dim: int, radius: float) -> Curve:
        """Return the NNGP of one layer, which is known at complex angles too."""
        from ntkfast.kernels.network_curve import NetworkCurve

        layer = Layer(rectified_monomial(self.order), w=2.0)
        return NetworkCurve((layer,), "nngp", radius**2, 1.0)


@dataclass(frozen=True)
class ExponentialCurve(Curve):
    """exp(-rate s^gamma), s = sin(theta/2)."""

    rate: float
    gamma: float
    top: float = 1.0

    @property
    def laplace_rate(self) -> float | None:  # type: ignore[override] # read only
        """The rate, where gamma = 1."""
        return self.rate if self.gamma == 1 else None

    def missing(self, v: Reals, vc: Reals) -> Reals:
        """Return 1 - k."""
        return np.asarray(-np.expm1(-self.rate * v ** (self.gamma / 2)))

    def complex(self, v: Complex, vc: Complex) -> Complex | None:
        """Return k on the branch that is real on real angles."""
        s = np.sqrt(v)  # real part >= 0
        return np.asarray(np.exp(-self.rate * s**self.gamma))

    def ends(self) -> Ends | None:
        """Return the exponential series; at u = -1 the kernel is analytic."""
        from ntkfast.kernels.jets import Ends

        m = np.arange(1, MOST_POWERS + 1)
        terms = np.cumprod(-np.longdouble(self.rate) / m)
        nu = m * self.gamma / 2
        kept = np.abs(nu - np.round(nu)) > 1e-9
        return Ends(nu[kept], terms[kept], np.zeros(int(kept.sum()), np.longdouble))

    def powers(self) -> Powers | None:
        """Return the Poisson weights of the Gaussian kernel."""
        from ntkfast.kernels.powers import poisson

        return poisson(self.rate / 2) if self.gamma == 2 else None


@dataclass(frozen=True)
class ExponentialPower(RowKernel):
    """exp(-c r^gamma), the exponential-power kernel.

    Parameters
    ----------
    gamma : float
        Power, in (0, 2].
    c : float, default 1
        Rate, positive.
    inputs : {"euclidean", "sphere", "homogeneous"}, default "euclidean"
        "euclidean": r = |x - y|. "sphere": r is the distance of the directions x/|x| and y/|y|,
        sqrt(2 (1 - u)). "homogeneous": |x| |y| times that, the form that is 1-homogeneous in each
        input like the NTK (Geifman et al.). On unit vectors all three agree. The rate is per unit
        of distance throughout; papers that write exp(-c' sqrt(1 - u)) mean c = c' / sqrt 2.

    Notes
    -----
    Rows of zeros count as equal to each other; their direction is orthogonal to every other.

    References
    ----------
    .. [1] A. Geifman et al., "On the similarity between the Laplace and neural tangent kernels",
       NeurIPS 2020.
    .. [2] L. Chen, S. Xu, "Deep neural tangent kernel and Laplace kernel have the same RKHS",
       ICLR 2021.

    Examples
    --------
    >>> import numpy as np, ntkfast as nf
    >>> nf.ExponentialPower(1.5, c=2.0)(np.eye(2)).round(6)
    array([[1.      , 0.034611],
           [0.034611, 1.      ]])
    """

    gamma: float
    c: float = 1.0
    inputs: str = "euclidean"

    def __post_init__(self) -> None:
        object.__setattr__(self, "gamma", checks.number("gamma", self.gamma, above=0.0))
        if self.gamma > 2:
            raise ValueError(f"gamma: expected a number in (0, 2], got {self.gamma}")
        object.__setattr__(self, "c", checks.number("c", self.c, above=0.0))
        checks.choice("inputs", self.inputs, INPUTS)

    @property
    def is_zonal(self) -> bool:
        """Whether the kernel is a function of the angle times powers of the norms."""
        return self.inputs != "euclidean"

    @property
    def by_angle(self) -> bool:
        """Whether the directions of rows count, however short these are."""
        return self.inputs != "euclidean"

    @property
    def homogeneity(self) -> float | None:
        """The power of the norms."""
        return {"euclidean": None, "sphere": 0.0, "homogeneous": 1.0}[self.inputs]

    def profile(self, u: ArrayLike, radius: float = 1.0) -> NDArray[np.float64]:
        """Evaluate the kernel between two inputs of norm `radius` with cosines `u`."""
        size = checks.number("radius", radius, above=0.0)
        distance = np.sqrt(2 * (1 - checks.cosines("u", u)))
        if self.inputs == "euclidean":
            distance = size * distance
        scale = size**2 if self.inputs == "homogeneous" else 1.0
        return np.asarray(scale * np.exp(-self.c * distance**self.gamma))

    def curve(self, dim: int, radius: float) -> Curve:
        """Return the exponential on one sphere; see `RowKernel.curve`."""
        size = radius if self.inputs == "euclidean" else 1.0
        top = radius**2 if self.inputs == "homogeneous" else 1.0
        return ExponentialCurve(self.c * (2 * size) ** self.gamma, self.gamma, top)

    def at_complex_cosines(
        self, dim: int, p: NDArray[np.float64], q: NDArray[np.float64], u: Complex
    ) -> Complex:
        """Return the kernel at complex cosines; see `RowKernel.at_complex_cosines`."""
        squared = p * p + q * q - 2 * p * q * u if self.inputs == "euclidean" else 2 * (1 - u)
        size = p * q if self.inputs == "homogeneous" else 1.0
        return np.asarray(size * np.exp(-self.c * squared ** (self.gamma / 2)))

    def diagonal_of(self, norms: FloatArray, dim: int) -> NDArray[np.float64]:
        """Return the values at pairs of equal inputs with these norms."""
        if self.inputs == "homogeneous":
            return norms.astype(np.float64) ** 2
        return np.ones(len(norms))

    def _radial(self) -> RadialMap:
        degree = self.homogeneity or 0.0
        return RadialMap(self.c, self.gamma, self.inputs == "euclidean", degree)

    def _profile(self, X: Rows, Y: Rows) -> ProfileMap | None:
        """Return a profile for combinations; by itself the map is more accurate."""
        return None if self.inputs == "euclidean" else _compiled(self, X.data.dtype)

    def _at_equal(self, X: Rows) -> FloatArray:
        return at_equal_rows(self._radial(), X)

    def parameters(self) -> dict[str, float]:
        """Return the rate; see `Kernel.parameters`."""
        return {"c": self.c}

    def _moved(self, name: str, value: float) -> Self:
        found = copy.copy(self)
        checks.store(found, c=checks.number("c", value, above=0.0))
        return found

    def _by_parameters(
        self, names: Sequence[str], given: Given, X: Any, Y: Any, V: Weights, run: Run
    ) -> dict[str, float]:
        def slope(X: Any, Y: Any, out: FloatArray) -> None:
            self._slope(X, Y, out, run)

        on_host(places.of(X.memory))
        return {name: contracted(slope, None, X, Y, V) for name in names}

    def _add_slopes(
        self, steps: Mapping[str, float], given: Given, X: Any, Y: Any, out: FloatArray, run: Run
    ) -> None:
        for step in steps.values():
            for rows, columns in blocks(X, Y):
                left, right = X[rows], None if columns is None else (X if Y is None else Y)[columns]
                part = np.empty((len(left), len(left if right is None else right)), out.dtype)
                self._slope(left, right, part, run)
                part *= step
                add_block(out, part, rows, columns, Y)

    def _slope(self, X: Rows, Y: Rows | None, out: FloatArray, run: Run) -> None:
        """Write dK/dc = -r^gamma K."""
        self._gram(X, Y, out, run)
        out *= -self._powers(X, Y, out, run)

    def _powers(self, X: Rows, Y: Rows | None, values: FloatArray, run: Run) -> FloatArray:
        """Return r^gamma of all pairs, from values of the kernel by logarithms.

        Where these lose digits, from those of a steeper kernel while pairs are many, and then from
        differences of rows.
        """
        other = X if Y is None else Y
        near, rate, powers = np.ones(values.shape, bool), self.c, np.zeros_like(values)
        size = np.multiply.outer(X.norms, other.norms) if self.inputs == "homogeneous" else 1
        if self.inputs != "euclidean":  # rows of zeros are equal, and at right angles to others
            near &= np.logical_and.outer(X.norms > 0, other.norms > 0)
            powers[np.not_equal.outer(X.norms > 0, other.norms > 0)] = 2 ** (self.gamma / 2)
        for attempt in range(ATTEMPTS):
            if attempt:
                values, rate = np.empty_like(values), min(STEEPER * rate, sys.float_info.max)
                self._moved("c", rate)._gram(X, Y, values, run)
            with np.errstate(divide="ignore", invalid="ignore"):
                one = values / size
                np.copyto(powers, np.log(one) / -rate, where=near & (one > 0))
            near &= one > NEAR
            if np.count_nonzero(near) <= FEW * near.size:
                break
        from ntkfast.kernels import close_pairs  # rarely needed: imports stay few

        i, j = np.nonzero(near if Y is not None else np.triu(near))
        for some in panels(len(i), 8 * X.data.shape[1]):
            at = i[some], j[some]
            sides = tuple(zip((X, other), at, strict=True))
            x, y = (side.data[k].astype(np.float64) for side, k in sides)
            if self.inputs == "euclidean":
                squared = close_pairs.squared_distances(x, y)
            else:
                n, m = (side.norms[k].astype(np.float64) for side, k in sides)
                squared = close_pairs.squared_chords(x, n, y, m)
            powers[at] = squared ** (self.gamma / 2)
            if Y is None:
                powers[at[::-1]] = powers[at]
        return powers

    def _slopes(self, X: Rows, Y: Rows) -> tuple[Map, None, Rows, Rows]:
        plan, *_ = self._map(X, Y)
        return plan, None, X, Y

    def _map(self, X: Rows, Y: Rows) -> tuple[Map, Rows, Rows]:
        for name, side in (("X", X), ("Y", Y)) if self.inputs == "euclidean" else ():
            top = side.top
            if not 4 * top * top < float(np.finfo(side.data.dtype).max):
                raise ValueError(
                    f"{name}: squared distances of rows with norm {top:.3g} overflow "
                    f"{side.data.dtype}; scale the rows down, and c up by the power gamma"
                )
        return self._radial(), X, Y


@lru_cache(maxsize=64)
def _compiled(kernel: ExponentialPower, dtype: np.dtype[Any]) -> ProfileMap | None:
    """Compile the kernel, if a root of the angle is no obstacle."""
    curve = kernel.curve(1, 1.0)
    degree = kernel.homogeneity or 0.0
    profile = compile_profile(curve.missing, dtype, degree=degree, scale=curve.top)
    return profile if profile.error <= PROFILE_ERROR * float(np.finfo(dtype).eps) else None


@dataclass(frozen=True)
class Laplace(ExponentialPower):
    """exp(-c r), the Laplace kernel: `ExponentialPower` with gamma = 1.

    Parameters
    ----------
    c : float, default 1
        Rate, positive.
    inputs : {"euclidean", "sphere", "homogeneous"}, default "euclidean"
        See `ExponentialPower`.

    Examples
    --------
    >>> import ntkfast as nf
    >>> nf.Laplace(2.0).profile([1.0, 0.5]).round(6)
    array([1.      , 0.135335])
    """

    def __init__(self, c: float = 1.0, inputs: str = "euclidean") -> None:
        _initialise(self, 1.0, c, inputs)

    def __repr__(self) -> str:
        return _call("Laplace", self)


@dataclass(frozen=True)
class Gaussian(ExponentialPower):
    """exp(-c r^2), the Gaussian kernel: `ExponentialPower` with gamma = 2.

    Parameters
    ----------
    c : float, default 1
        Rate, positive; c = 1 / (2 length^2).
    inputs : {"euclidean", "sphere", "homogeneous"}, default "euclidean"
        See `ExponentialPower`.

    Examples
    --------
    >>> import ntkfast as nf
    >>> nf.Gaussian(0.5).profile([1.0, 0.5]).round(6)
    array([1.      , 0.606531])
    """

    def __init__(self, c: float = 1.0, inputs: str = "euclidean") -> None:
        _initialise(self, 2.0, c, inputs)

    def __repr__(self) -> str:
        return _call("Gaussian", self)


def _initialise(kernel: ExponentialPower, gamma: float, c: float, domain: str) -> None:
    checks.store(kernel, gamma=gamma, c=c, inputs=domain)
    kernel.__post_init__()


def _call(name: str, kernel: ExponentialPower) -> str:
    domain = "" if kernel.inputs == "euclidean" else f", inputs={kernel.inputs!r}"
    return f"{name}(c={kernel.c!r}{domain})"
