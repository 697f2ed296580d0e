"""Combined kernels on one sphere: what is known of the parts analytically, combined."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from ntkfast.activations.base import Complex
from ntkfast.kernels.combined import Split
from ntkfast.kernels.curve import Curve

if TYPE_CHECKING:  # analysis is loaded when it is asked for
    from ntkfast.kernels.jets import Ends
    from ntkfast.kernels.powers import Powers

Known = TypeVar("Known")


class Splits(Protocol):
    """A combined kernel, as far as it matters here."""

    def split(self, parts: Sequence[Split]) -> Split:
        """Return the value at equal inputs and what is missing from it, from those of the parts."""


@dataclass(frozen=True)
class CombinedCurve(Curve):
    """A combination of curves on one sphere."""

    kernel: Splits
    parts: tuple[Curve, ...]

    @cached_property
    def top(self) -> float:  # type: ignore[override] # read only
        """k(1)."""
        zero = np.zeros(1)
        return float(self.split(zero, 1 - zero)[0])

    def split(self, v: NDArray[Any], vc: NDArray[Any]) -> Split:
        """Return the value at equal inputs, and what is missing from it, in the precision of v."""
        return self.kernel.split([part.split(v, vc) for part in self.parts])

    def missing(self, v: NDArray[Any], vc: NDArray[Any]) -> NDArray[Any]:
        """Return 1 - k."""
        top, missing = self.split(v, vc)
        return np.asarray(missing / top if top else np.zeros_like(missing))


class WrappedCurve(CombinedCurve):
    """A curve with another value at equal inputs."""

    @property
    def laplace_rate(self) -> float | None:  # type: ignore[override] # read only
        """That of the curve."""
        return self.parts[0].laplace_rate

    def complex(self, v: Complex, vc: Complex) -> Complex | None:
        """Return k for complex angles."""
        return self.parts[0].complex(v, vc)

    def ends(self) -> Ends | None:
        """Return the expansions of the curve."""
        return self.parts[0].ends()

    def powers(self) -> Powers | None:
        """Return the power series of the curve."""
        return self.parts[0].powers()


class SumCurve(CombinedCurve):
    """A sum of curves, each with its share of the value at equal inputs."""

    @property
    def _shares(self) -> list[float]:
        return [part.top / self.top for part in self.parts]

    def complex(self, v: Complex, vc: Complex) -> Complex | None:
        """Return k for complex angles, if all parts are known there."""
        values = _all([part.complex(v, vc) for part in self.parts])
        if values is None:
            return None
        return np.asarray(sum(w * k for w, k in zip(self._shares, values, strict=True)))

    def ends(self) -> Ends | None:
        """Return the sum of the expansions, as far as all of them go."""
        from ntkfast.kernels.jets import Ends

        found = _all([part.ends() for part in self.parts])
        if found is None:
            return None
        last = min((one.nu[-1] for one in found if len(one.nu)), default=0.0)
        nu, place = np.unique(np.concatenate([one.nu for one in found]), return_inverse=True)
        sides = np.zeros((2, len(nu)), np.longdouble)
        for side, name in zip(sides, ("right", "left"), strict=True):
            terms = [w * getattr(one, name) for w, one in zip(self._shares, found, strict=True)]
            np.add.at(side, place, np.concatenate(terms))
        kept = nu <= last
        return Ends(nu[kept], sides[0, kept], sides[1, kept])

    def powers(self) -> Powers | None:
        """Return the sum of the power series."""
        from ntkfast.kernels.powers import Powers

        found = _listed(self.parts)
        if found is None:
            return None
        count = max(len(one.log_b) for one in found)
        with np.errstate(divide="ignore"):
            terms = [
                np.log(w) + np.pad(one.log_b, (0, count - len(one.log_b)), constant_values=-np.inf)
                for w, one in zip(self._shares, found, strict=True)
            ]
        return Powers(np.logaddexp.reduce(terms), all(one.complete for one in found))


class ProductCurve(CombinedCurve):
    """A product of curves."""

    def complex(self, v: Complex, vc: Complex) -> Complex | None:
        """Return k for complex angles, if all parts are known there."""
        values = _all([part.complex(v, vc) for part in self.parts])
        return None if values is None else np.asarray(reduce(np.multiply, values))

    def powers(self) -> Powers | None:
        """Return the product of the power series, whose terms are positive."""
        from ntkfast.kernels.powers import Powers

        found = _listed(self.parts)
        if found is None:
            return None
        b = reduce(np.convolve, [np.exp(one.log_b) for one in found])
        with np.errstate(divide="ignore"):
            return Powers(np.log(b), all(one.complete for one in found))


def _listed(parts: Sequence[Curve]) -> list[Powers] | None:
    """Return the power series of all parts, if all are known by their coefficients."""
    found = _all([part.powers() for part in parts])
    return None if found is None or any(one.rate is not None for one in found) else found


def _all(values: Sequence[Known | None]) -> list[Known] | None:
    known = [value for value in values if value is not None]
    return known if len(known) == len(values) else None
