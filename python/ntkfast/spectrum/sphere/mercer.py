"""Mercer spectra: the eigenvalues of a kernel on the uniform sphere S^{d-1}."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ntkfast.arrays import checks
from ntkfast.kernels.base import Kernel
from ntkfast.kernels.rows import on_sphere
from ntkfast.spectrum.sphere.decay import Branch, Decay, fitted_exponent
from ntkfast.spectrum.sphere.harmonics import log_multiplicities, multiplicity
from ntkfast.spectrum.sphere.masses import Found, find_masses
from ntkfast.support.columns import Table

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False)
class MercerSpectrum(Table):
    """Eigenvalues mu_k of a kernel on the sphere, k = 0 ... max_degree.

    They belong to the integral operator with the uniform probability measure; eigenfunctions are
    the spherical harmonics, N(d, k) of degree k. N mu_k, the *mass* of a degree, is what k(u)
    consists of: k(u) = sum_k N mu_k P_k(u), k(1) = sum_k N mu_k.

    Attributes
    ----------
    kernel : Kernel
    dim : int
        d of S^{d-1}.
    radius : float
        Norm of the inputs.
    mass : (max_degree + 1,) array
        N(d, k) mu_k. NaN where the method could not resolve a degree (`error` is infinite there).
    log_mass : (max_degree + 1,) array
        log abs(mass), also where `mass` underflows; minus infinity for exact zeros.
    error : (max_degree + 1,) array
        Estimated relative error of each eigenvalue. It is no bound: against 50-digit values errors
        of up to twice the estimate were found. Infinite where a degree could not be resolved.
    trace : float
        k(1), the sum of all masses.
    sum_rule_residual : float
        Sum of the masses, those beyond max_degree in closed form where the expansions are known,
        minus the trace, relative to it: a check of everything at once.
    decay : Decay
    method : str
        How the eigenvalues were computed.
    """

    kernel: Kernel
    dim: int
    radius: float
    mass: Array
    log_mass: Array
    error: Array
    trace: float
    sum_rule_residual: float
    decay: Decay
    method: str

    @property
    def max_degree(self) -> int:
        """Highest degree."""
        return len(self.mass) - 1

    @property
    def degrees(self) -> NDArray[np.int64]:
        """0 ... max_degree."""
        return np.arange(len(self.mass))

    @cached_property
    def log_multiplicities(self) -> Array:
        """Logarithms of N(d, k)."""
        return np.asarray(self._log_n, np.float64)

    @cached_property
    def _log_n(self) -> NDArray[np.longdouble]:
        return log_multiplicities(self.dim, self.degrees)

    @cached_property
    def eigenvalues(self) -> Array:
        """mu_k; 0 where they underflow, see `log_eigenvalues`."""
        with np.errstate(under="ignore"):
            return np.asarray(np.copysign(np.exp(self._log_eigenvalues), self.mass), np.float64)

    @cached_property
    def log_eigenvalues(self) -> Array:
        """Logarithms of abs(mu_k); minus infinity for exact zeros."""
        return np.asarray(self._log_eigenvalues, np.float64)

    @cached_property
    def _log_eigenvalues(self) -> NDArray[np.longdouble]:
        return self.log_mass.astype(np.longdouble) - self._log_n

    @cached_property
    def zeros(self) -> NDArray[np.bool_]:
        """Which eigenvalues vanish exactly, by symmetry or because the kernel is a polynomial."""
        return np.isneginf(self.log_mass)

    @cached_property
    def negative(self) -> NDArray[np.int64]:
        """Degrees whose eigenvalue is negative beyond its estimated error: no positive kernel."""
        return np.flatnonzero((self.mass < 0) & (self.error < 1))

    def multiplicity(self, degree: int) -> int:
        """Return N(d, degree) as an exact integer."""
        return multiplicity(self.dim, degree)

    def to_dict(self) -> dict[str, NDArray[Any]]:
        """Return the columns by their names, one line per degree.

        Exact zeros have the logarithm ``-inf``; degrees that could not be resolved are ``nan`` with
        the error ``inf``.
        """
        return {
            "degree": self.degrees,
            "eigenvalue": self.eigenvalues,
            "log_eigenvalue": self.log_eigenvalues,
            "mass": self.mass,
            "log_multiplicity": self.log_multiplicities,
            "relative_error": self.error,
        }

    def __repr__(self) -> str:
        finite = self.error[np.isfinite(self.error)]
        worst = f"{finite.max():.1e}" if len(finite) else "nan"
        return (
            f"<MercerSpectrum of {self.kernel!r}: dim={self.dim}, degrees 0..{self.max_degree}, "
            f"trace={self.trace:.6g}, error~{worst}, decay k^-{self.decay.exponent:.4g}>"
        )


def mercer(
    kernel: Kernel, dim: int, max_degree: int = 1000, *, radius: float | None = None
) -> MercerSpectrum:
    """Compute the Mercer eigenvalues of a kernel on the uniform sphere.

    Parameters
    ----------
    kernel : Kernel
        Zonal, or any kernel if `radius` is given.
    dim : int
        Dimension d >= 2 of the inputs, which lie on S^{d-1}; 2 is the circle.
    max_degree : int, default 1000
        Highest degree of spherical harmonics.
    radius : float, optional
        Norm of the inputs. Default 1 for zonal kernels; kernels that are no function of the angle
        times powers of the norms (biases, smooth activations) must be told.

    Returns
    -------
    MercerSpectrum

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type or range, or the kernel is not zonal and has no radius.

    Notes
    -----
    Eigenvalues are computed with relative accuracy, also where they are 10^-300 of the first one:

    - networks of ReLU, leaky ReLU, abs, step and rectified powers, arc-cosine kernels,
      exponential-power kernels: a contour integral for low degrees and the expansions at u = 1 and
      u = -1 for high ones. Measured against 50-digit values: 5e-13 for depth <= 10, d = 2 ... 1000
      and degrees to 10^6, 1e-12 for depth 100; Laplace kernels of any rate 5e-13. Other sharp
      exponential-power kernels lose digits at low degrees in high dimension: see `error`.
    - Gaussian kernels and networks of erf, GELU, sin, exp, Gaussian and polynomial activations:
      sums of positive terms from the power series in u, of which 512 terms are used; degrees that
      need more (several hundred) are NaN with infinite error.
    - all others: quadrature, accurate relative to k(1) only; `error` says what is left. Degrees
      from 4096 on are NaN with infinite error.

    References
    ----------
    .. [1] A. Bietti, F. Bach, "Deep equals shallow for ReLU networks in kernel regimes", ICLR 2021.
    .. [2] Y. Belfer, A. Geifman, M. Galun, R. Basri, "Spectral analysis of the neural tangent
       kernel for deep residual networks", arXiv:2104.03093.

    Examples
    --------
    >>> import ntkfast as nf
    >>> from ntkfast import spectrum
    >>> s = spectrum.mercer(nf.FullyConnected(2).ntk, dim=3, max_degree=1000)
    >>> s.eigenvalues[:3].round(6)
    array([0.930252, 0.370783, 0.107368])
    >>> s.decay.exponent
    3.0
    """
    d, last = checks.count("dim", dim, least=2), checks.count("max_degree", max_degree)
    curve = on_sphere(kernel, d, radius)
    found = find_masses(curve, d, last)
    return MercerSpectrum(
        kernel=kernel,
        dim=d,
        radius=1.0 if radius is None else float(radius),
        mass=curve.top * found.mass,
        log_mass=found.log_mass + math.log(curve.top),
        error=found.error,
        trace=curve.top,
        sum_rule_residual=found.residual,
        decay=_decay(found, d, curve.top),
        method=found.method,
    )


def _decay(found: Found, dim: int, top: float) -> Decay:
    fitted = fitted_exponent(found.log_mass, found.error, dim)
    if found.branches is None:
        return Decay(None, None, fitted)
    even, odd = (
        Branch(one.exponent, one.log_constant + math.log(top), one.sign) for one in found.branches
    )
    return Decay(even, odd, fitted)
