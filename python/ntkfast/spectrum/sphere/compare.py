"""Whether two kernels have the same reproducing kernel Hilbert space, by their spectra."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ntkfast.kernels.base import Kernel
from ntkfast.spectrum.sphere.decay import Branch
from ntkfast.spectrum.sphere.mercer import MercerSpectrum, mercer
from ntkfast.support.columns import Table


@dataclass(frozen=True, eq=False, repr=False)
class RkhsComparison(Table):
    """Ratio of two spectra.

    The eigenfunctions of zonal kernels agree, so that their spaces agree, with equivalent norms,
    exactly if the ratios of their eigenvalues stay between two positive numbers.

    Attributes
    ----------
    first, second : MercerSpectrum
    ratio : (max_degree + 1,) array
        mu_k of the first over mu_k of the second; NaN where both vanish.
    even_limit, odd_limit : float
        Limits of the ratio for k to infinity, from the end-point expansions; NaN if unknown or
        where the eigenvalues of that parity vanish for both.
    lower, upper : float
        Smallest and largest ratio, the limits included. Beyond max_degree the ratios approach the
        limits like 1/k^2 or faster.
    verdict : bool or None
        Whether the spaces are the same; None if that is not known.
    reason : str
    """

    first: MercerSpectrum
    second: MercerSpectrum
    ratio: NDArray[np.float64]
    even_limit: float
    odd_limit: float
    lower: float
    upper: float
    verdict: bool | None
    reason: str

    def to_dict(self) -> dict[str, NDArray[Any]]:
        """Return the columns by their names, one line per degree."""
        first, second = self.first.eigenvalues, self.second.eigenvalues
        degrees = self.first.degrees
        return {"degree": degrees, "first": first, "second": second, "ratio": self.ratio}

    def __repr__(self) -> str:
        answer = {True: "same RKHS", False: "different RKHS", None: "undecided"}[self.verdict]
        return (
            f"<RkhsComparison: {answer}, {self.reason}; "
            f"ratio in [{self.lower:.4g}, {self.upper:.4g}] for dim={self.first.dim}>"
        )


def same_rkhs(
    k1: Kernel, k2: Kernel, dim: int, max_degree: int = 10_000, *, radius: float | None = None
) -> RkhsComparison:
    """Compare the reproducing kernel Hilbert spaces of two kernels on the sphere.

    Parameters
    ----------
    k1, k2 : Kernel
    dim : int
        d of S^{d-1}.
    max_degree : int, default 10000
        Highest degree that is compared one by one.
    radius : float, optional
        As for `mercer`.

    Returns
    -------
    RkhsComparison

    Raises
    ------
    TypeError, ValueError
        As `mercer`.

    References
    ----------
    .. [1] L. Chen, S. Xu, "Deep neural tangent kernel and Laplace kernel have the same RKHS",
       ICLR 2021.
    .. [2] A. Geifman et al., "On the similarity between the Laplace and neural tangent kernels",
       NeurIPS 2020.

    Examples
    --------
    >>> import ntkfast as nf
    >>> from ntkfast import spectrum
    >>> spectrum.same_rkhs(nf.FullyConnected(3).ntk, nf.Laplace(1.0, inputs="sphere"), 3).verdict
    True
    >>> spectrum.same_rkhs(nf.FullyConnected(3).ntk, nf.FullyConnected(1).ntk, 3).verdict
    False
    """
    first, second = (mercer(kernel, dim, max_degree, radius=radius) for kernel in (k1, k2))
    with np.errstate(invalid="ignore", over="ignore"):
        sign = np.sign(first.mass) * np.sign(second.mass)
        ratio = sign * np.exp(first.log_mass - second.log_mass)
    ratio = np.where(first.zeros & second.zeros, np.nan, ratio)
    ratio = np.where(second.zeros & ~first.zeros, np.inf, ratio)
    limits = [
        _limit(a, b)
        for a, b in ((first.decay.even, second.decay.even), (first.decay.odd, second.decay.odd))
    ]
    seen = np.array([r for r in [*ratio, *limits] if not math.isnan(r)])
    verdict, reason = _verdict(first, second, ratio)
    return RkhsComparison(
        first=first,
        second=second,
        ratio=ratio,
        even_limit=limits[0],
        odd_limit=limits[1],
        lower=float(seen.min()),
        upper=float(seen.max()),
        verdict=verdict,
        reason=reason,
    )


def _limit(a: Branch | None, b: Branch | None) -> float:
    """Limit of the ratio of two branches."""
    if a is None or b is None or (math.isinf(a.exponent) and math.isinf(b.exponent)):
        return math.nan
    if a.exponent != b.exponent:
        return math.inf if a.exponent < b.exponent else 0.0
    return a.sign * b.sign * math.exp(a.log_constant - b.log_constant)


def _verdict(
    first: MercerSpectrum, second: MercerSpectrum, ratio: NDArray[np.float64]
) -> tuple[bool | None, str]:
    if np.any(first.zeros != second.zeros):
        degree = int(np.argmax(first.zeros != second.zeros))
        return False, f"only one spectrum vanishes at degree {degree}"
    if np.any(ratio < 0):
        return None, f"an eigenvalue is negative at degree {int(np.argmax(ratio < 0))}"
    pairs = ((first.decay.even, second.decay.even), (first.decay.odd, second.decay.odd))
    for name, (a, b) in zip(("even", "odd"), pairs, strict=True):
        if a is None or b is None:
            return None, "the asymptotic decay is not known in closed form"
        if a.exponent != b.exponent:
            return False, f"{name} eigenvalues decay like k^-{a.exponent:g} and k^-{b.exponent:g}"
    if all(math.isinf(a.exponent) for a, _ in pairs if a is not None):
        if np.all(np.isnan(ratio[len(ratio) // 2 :])) and np.all(first.zeros[len(ratio) // 2 :]):
            return True, "both are polynomials of the same degrees"
        return None, "both spectra decay faster than any power"
    return True, "eigenvalues of either parity decay alike"
