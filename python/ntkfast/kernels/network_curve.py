"""A network on one sphere: at real and complex angles, at both ends, and as a power series."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ntkfast.activations.base import Complex
from ntkfast.kernels.balance import scaled
from ntkfast.kernels.curve import Curve
from ntkfast.kernels.equal_layers import fast_sphere
from ntkfast.kernels.jets import Ends, Jet
from ntkfast.kernels.layers import Layer, Sphere, diagonal, sphere
from ntkfast.kernels.points import ComplexPoint, NeedsRootError, SeriesPoint, is_closed, walk
from ntkfast.kernels.powers import Powers, of_layers
from ntkfast.kernels.profile import F32, F64, SAMPLE_NODES, Real
from ntkfast.kernels.profile import Curve as Function

COEFFICIENTS = 68  # of each expansion: about 32 that matter for ReLU
PART = 8  # of an ulp, by which powers of equal layers may be wrong
ROOTS = (1, 2, 4, 8)  # expansions in s, s^(1/2), ...: nested steps


@dataclass(frozen=True)
class NetworkCurve(Curve):
    """A network on the sphere of squared radius `q`; `kind` is "ntk" or "nngp".

    Its kernel is `scale` 2^`exponent` times that of the layers.
    """

    layers: tuple[Layer, ...]
    kind: str
    q: float
    scale: float
    exponent: int = 0

    @property
    def top(self) -> float:  # type: ignore[override]
        """k(1)."""
        return scaled(self.scale * self._at_one, self.exponent)

    @property
    def _at_one(self) -> float:
        at_one = diagonal(self.layers, np.array([self.q]))
        return float((at_one.nngp if self.kind == "nngp" else at_one.ntk)[0])

    def missing(self, v: NDArray[Any], vc: NDArray[Any]) -> NDArray[Any]:
        """Return 1 - k from the layers."""
        return self._missing_of(sphere(self.layers, self.q, v, vc))

    def missing_for(self, dtype: np.dtype[Any]) -> Function:
        """Return `missing` as a profile of a dtype wants it, for homogeneous layers without biases.

        Many equal layers take as long as their logarithm. What comes of them is wrong by a part of
        an ulp of k, and of 1 - k too up to a thousand layers, each of which rounds.
        """
        nodes, wide = SAMPLE_NODES[dtype], F64 if dtype == F32 else np.dtype(Real)
        carried = fast_sphere(self.layers, nodes, wide, float(np.finfo(dtype).eps) / PART)
        if carried is None:
            return self.missing
        return lambda v, vc: self._missing_of(carried(v, vc))

    def _missing_of(self, state: Sphere) -> NDArray[Any]:
        if self.kind == "nngp":
            return state.defect
        return np.asarray(state.t_missing / state.t if state.t else np.zeros_like(state.defect))

    def split(self, v: NDArray[Any], vc: NDArray[Any]) -> tuple[Any, NDArray[Any]]:
        """Return the value at equal inputs, and what is missing from it, in the precision of v."""
        state = sphere(self.layers, self.q, v, vc)
        top, missing = state.t, state.t_missing
        if self.kind == "nngp":
            top, missing = state.q, state.q * state.defect
        with np.errstate(over="ignore", under="ignore"):
            return (
                np.ldexp(self.scale * top, self.exponent),
                np.ldexp(self.scale * missing, self.exponent),
            )

    def complex(self, v: Complex, vc: Complex) -> Complex | None:
        """Return k continued analytically, where the activations are arc-cosine functions."""
        if not is_closed(self.layers):
            return None
        state = walk(self.layers, self.q, ComplexPoint(2 * v, 2 * vc))
        values = state.q - state.missing if self.kind == "nngp" else state.t
        return np.asarray(values / self._at_one)

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
        top = self._at_one
        right, left = (one.a[index] / top for one in series)
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
