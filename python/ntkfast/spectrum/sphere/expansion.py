"""Kernels as sums over spherical harmonics, and the zonal eigenfunctions themselves."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ntkfast.arrays import checks
from ntkfast.spectrum.sphere.harmonics import polynomials
from ntkfast.spectrum.sphere.mercer import MercerSpectrum


def reconstruct(
    spectrum: MercerSpectrum, u: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Evaluate k(u) = sum_k N(d, k) mu_k P_k(u), cut off after the degrees of a spectrum.

    Parameters
    ----------
    spectrum : MercerSpectrum
    u : array
        Cosines in [-1, 1].

    Returns
    -------
    values : array of the shape of `u`
    bound : array of the shape of `u`
        Largest possible difference from the kernel for a positive semidefinite one: the mass of the
        degrees left out, since abs(P_k) <= 1, plus rounding.

    Examples
    --------
    >>> import ntkfast as nf
    >>> from ntkfast import spectrum
    >>> s = spectrum.mercer(nf.ArcCosine(1), 3, 200)
    >>> values, bound = spectrum.reconstruct(s, [0.5])
    >>> bool(abs(values - nf.ArcCosine(1).profile([0.5])) < bound)
    True
    """
    cosines = checks.cosines("u", u)
    mass = np.nan_to_num(spectrum.mass)
    values = np.zeros_like(cosines)
    for one, p in zip(mass, polynomials(spectrum.dim, cosines), strict=False):
        values += one * p
    rest = abs(spectrum.trace - float(mass.sum()))
    rounding = len(mass) * np.finfo(float).eps * float(np.abs(mass).sum())
    return values, np.full_like(values, rest + rounding)


def zonal_harmonics(dim: int, max_degree: int, u: ArrayLike) -> NDArray[np.float64]:
    """Return the eigenfunctions that depend on the angle to one point only.

    Parameters
    ----------
    dim : int
        d of S^{d-1}.
    max_degree : int
    u : (n,) array
        Cosines of the angles to the point.

    Returns
    -------
    (max_degree + 1, n) array
        P_k(u), Gegenbauer polynomials of index (d - 2)/2 with P_k(1) = 1. Their mean square over
        the sphere is 1 / N(d, k).
    """
    d, last = checks.count("dim", dim, least=2), checks.count("max_degree", max_degree)
    cosines = np.atleast_1d(checks.cosines("u", u))
    return np.array([p for _, p in zip(range(last + 1), polynomials(d, cosines), strict=False)])
