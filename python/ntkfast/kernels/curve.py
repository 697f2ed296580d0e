"""A kernel on one sphere as a function of the angle, and what is known about it analytically."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ntkfast.activations.rectified import ABReLU, RectifiedMonomial, Step
from ntkfast.arrays import checks
from ntkfast.kernels.dense import NetworkKernel
from ntkfast.kernels.jets import Ends, Jet
from ntkfast.kernels.layers import Layer, diagonal, sphere
from ntkfast.kernels.named import ArcCosine, ExponentialPower
from ntkfast.kernels.points import (
    Complex,
    ComplexPoint,
    NeedsRootError,
    SeriesPoint,
    is_closed,
    walk,
)
from ntkfast.kernels.powers import Powers, of_layers, poisson
from ntkfast.kernels.rows import RowKernel, checked_row_kernel

COEFFICIENTS = 68  # of each expansion: about 32 that matter for ReLU
ROOTS = (1, 2, 4, 8)  # expansions in s, s^(1/2), ...: nested steps
MOST_POWERS = 40  # terms of the expansion of an exponential


class Curve(ABC):
    """k(theta) / k(0) on a sphere.

    Attributes
    ----------
    top : float
        k(1), the value at equal inputs.
    """

    top: float

    @abstractmethod
    def missing(self, v: NDArray[Any], vc: NDArray[Any]) -> NDArray[Any]:
        """Return 1 - k for real angles, v and vc being sin^2 and cos^2 of half the angle."""

    def complex(self, v: Complex, vc: Complex) -> Complex | None:
        """Return k for complex angles with real part in [0, pi]; None if that is unknown."""
        return None

    def ends(self) -> Ends | None:
        """Return the expansions at u = 1 and u = -1; None if they are unknown."""
        return None

    def powers(self) -> Powers | None:
        """Return the power series in u where all of it matters; None if it is unknown."""
        return None


@dataclass(frozen=True)
class NetworkCurve(Curve):
    """A network on the sphere of squared radius `q`; `kind` is "ntk" or "nngp"."""

    layers: tuple[Layer, ...]
    kind: str
    q: float
    scale: float

    @property
    def top(self) -> float:  # type: ignore[override]
        """k(1)."""
        at_one = diagonal(self.layers, np.array([self.q]))
        return self.scale * float((at_one.nngp if self.kind == "nngp" else at_one.ntk)[0])

    def missing(self, v: NDArray[Any], vc: NDArray[Any]) -> NDArray[Any]:
        """Return 1 - k from the layers."""
        state = sphere(self.layers, self.q, v, vc)
        return np.asarray(state.defect if self.kind == "nngp" else state.t_missing / state.t)

    def complex(self, v: Complex, vc: Complex) -> Complex | None:
        """Return k continued analytically, where the activations are arc-cosine functions."""
        if not is_closed(self.layers):
            return None
        state = walk(self.layers, self.q, ComplexPoint(2 * v, 2 * vc))
        values = state.q - state.missing if self.kind == "nngp" else state.t
        return np.asarray(values * (self.scale / self.top))

    def ends(self) -> Ends | None:
        """Return the expansions, in a root of the half-angle functions if need be."""
        if not is_closed(self.layers):
            return None
        for root in ROOTS:
            try:
                return self._ends(root)
            except NeedsRootError:
                continue
        return None

    def _ends(self, root: int) -> Ends:
        series = [self._series(root, right) for right in (True, False)]
        kept = COEFFICIENTS - 4 * root  # the last ones are cut off
        index = np.array([j for j in range(kept) if j % (2 * root)])
        right, left = (one.a[index] * (self.scale / self.top) for one in series)
        return Ends(index / (2 * root), right, left)

    def _series(self, root: int, right: bool) -> Jet:
        small, other = (np.zeros(COEFFICIENTS, np.longdouble) for _ in range(2))
        small[2 * root], other[0], other[2 * root] = 2, 2, -2
        D, E = (small, other) if right else (other, small)
        state = walk(self.layers, self.q, SeriesPoint(Jet(D), Jet(E)))
        result = state.q - state.missing if self.kind == "nngp" else state.t
        assert isinstance(result, Jet)
        return result

    def powers(self) -> Powers | None:
        """Return the power series for activations without a kink, by their Hermite series."""
        return of_layers(self.layers, self.kind, self.q)


@dataclass(frozen=True)
class ExponentialCurve(Curve):
    """exp(-rate s^gamma), s = sin(theta/2)."""

    rate: float
    gamma: float
    top: float = 1.0

    def missing(self, v: NDArray[Any], vc: NDArray[Any]) -> NDArray[Any]:
        """Return 1 - k."""
        return np.asarray(-np.expm1(-self.rate * v ** (self.gamma / 2)))

    def complex(self, v: Complex, vc: Complex) -> Complex | None:
        """Return k on the branch that is real on real angles."""
        s = np.sqrt(v)  # real part >= 0
        return np.asarray(np.exp(-self.rate * s**self.gamma))

    def ends(self) -> Ends | None:
        """Return the exponential series; at u = -1 the kernel is analytic."""
        m = np.arange(1, MOST_POWERS + 1)
        terms = np.cumprod(-np.longdouble(self.rate) / m)
        nu = m * self.gamma / 2
        kept = np.abs(nu - np.round(nu)) > 1e-9
        return Ends(nu[kept], terms[kept], np.zeros(int(kept.sum()), np.longdouble))

    def powers(self) -> Powers | None:
        """Return the Poisson weights of the Gaussian kernel."""
        return poisson(self.rate / 2) if self.gamma == 2 else None


@dataclass(frozen=True)
class ProfileCurve(Curve):
    """Any kernel that can only be evaluated."""

    kernel: RowKernel
    radius: float

    @property
    def top(self) -> float:  # type: ignore[override]
        """k(1)."""
        return float(self.kernel.profile(1.0, self.radius))

    def missing(self, v: NDArray[Any], vc: NDArray[Any]) -> NDArray[Any]:
        """Return 1 - k from rounded cosines."""
        u = np.clip(np.asarray(vc - v, np.float64), -1, 1)
        return np.asarray(1 - self.kernel.profile(u, self.radius) / self.top)


_ARC_COSINE = {0: Step(0, 1), 1: ABReLU(0, 1)}


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
    return _curve(kernel, dim, size)


@lru_cache(maxsize=64)
def _curve(kernel: RowKernel, dim: int, radius: float) -> Curve:
    if isinstance(kernel, NetworkKernel):
        network = kernel.network
        layers = tuple(network.layers(dim))
        return NetworkCurve(layers, kernel.kind, radius**2, network.scale(kernel.kind))
    if isinstance(kernel, ArcCosine):
        activation = _ARC_COSINE.get(kernel.order) or RectifiedMonomial(kernel.order)
        return NetworkCurve((Layer(activation, w=2.0),), "nngp", radius**2, 1.0)
    if isinstance(kernel, ExponentialPower):
        size = radius if kernel.inputs == "euclidean" else 1.0
        top = radius**2 if kernel.inputs == "homogeneous" else 1.0
        return ExponentialCurve(kernel.c * (2 * size) ** kernel.gamma, kernel.gamma, top)
    return ProfileCurve(kernel, radius)
