"""A kernel on one sphere as a function of the angle, and what is known about it analytically."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ntkfast.activations.base import Complex

if TYPE_CHECKING:  # analysis is loaded when it is asked for
    from ntkfast.kernels.jets import Ends
    from ntkfast.kernels.powers import Powers


class Curve(ABC):
    """k(theta) / k(0) on a sphere.

    Attributes
    ----------
    top : float
        k(1), the value at equal inputs.
    laplace_rate : float or None
        The rate of exp(-rate s), s = sin(theta/2), if the curve is that.
    """

    top: float
    laplace_rate: float | None = None

    @abstractmethod
    def missing(self, v: NDArray[Any], vc: NDArray[Any]) -> NDArray[Any]:
        """Return 1 - k for real angles, v and vc being sin^2 and cos^2 of half the angle."""

    def split(self, v: NDArray[Any], vc: NDArray[Any]) -> tuple[Any, NDArray[Any]]:
        """Return the value at equal inputs, and what is missing from it, in the precision of v."""
        return self.top, self.top * self.missing(v, vc)

    def complex(self, v: Complex, vc: Complex) -> Complex | None:
        """Return k for complex angles with real part in [0, pi]; None if that is unknown."""
        return None

    def ends(self) -> Ends | None:
        """Return the expansions at u = 1 and u = -1; None if they are unknown."""
        return None

    def powers(self) -> Powers | None:
        """Return the power series in u where all of it matters; None if it is unknown."""
        return None


class HasProfile(Protocol):
    """A kernel of rows, as far as it matters here."""

    def profile(self, u: ArrayLike, radius: float = 1.0) -> NDArray[np.float64]:
        """Evaluate the kernel between two inputs of one norm as a function of their cosine."""


@dataclass(frozen=True)
class ProfileCurve(Curve):
    """Any kernel that can only be evaluated."""

    kernel: HasProfile
    radius: float

    @property
    def top(self) -> float:  # type: ignore[override]
        """k(1)."""
        return float(self.kernel.profile(1.0, self.radius))

    def missing(self, v: NDArray[Any], vc: NDArray[Any]) -> NDArray[Any]:
        """Return 1 - k from rounded cosines."""
        u = np.clip(np.asarray(vc - v, np.float64), -1, 1)
        return np.asarray(1 - self.kernel.profile(u, self.radius) / self.top)
