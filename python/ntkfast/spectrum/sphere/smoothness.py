"""Smoothness of kernels and of their interpolants on the circle, after Tirer et al.

The measures follow the experiment of T. Tirer, J. Bruna, R. Giryes, "Kernel-based smoothness
analysis of residual networks" (MSML 2021): inputs on the circle, kernels normalised to k(1) = 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ntkfast.arrays import checks
from ntkfast.kernels.base import Kernel
from ntkfast.kernels.rows import checked_row_kernel
from ntkfast.spectrum.sphere.mercer import mercer

GRID = 4096  # angles at which an interpolant is looked at
LOAD = 1e-10  # on the diagonal, relative to k(1)
MOST_FREQUENCY = 4096


def high_frequency_energy(
    kernel: Kernel, frequency: int = 4, *, radius: float | None = None
) -> float:
    """Return the share of the kernel's energy on the circle at frequencies >= `frequency`.

    Parameters
    ----------
    kernel : Kernel
    frequency : int, default 4
        At least 1.
    radius : float, optional
        As for `mercer`.

    Returns
    -------
    float
        sum over abs(k) >= frequency of mu_k^2, over the sum of all: mu_k are the Fourier
        coefficients of the kernel as a function of the angle. Frequencies up to 4096 are used.
    """
    first = checks.count("frequency", frequency, least=1)
    spectrum = mercer(kernel, 2, max(MOST_FREQUENCY, 2 * first), radius=radius)
    squares = np.nan_to_num(spectrum.eigenvalues) ** 2
    squares[1:] *= 2  # both signs of the frequency
    return float(squares[first:].sum() / squares.sum())


@dataclass(frozen=True, eq=False)
class CircleInterpolant:
    """A kernel interpolant on the circle.

    Attributes
    ----------
    angles, values : (4096,) arrays
        A uniform grid and the interpolant there.
    variation : float
        Total variation of its derivative around the circle.
    """

    angles: NDArray[np.float64]
    values: NDArray[np.float64]
    variation: float


def interpolate_on_circle(
    kernel: Kernel, angles: ArrayLike, y: ArrayLike, *, radius: float = 1.0
) -> CircleInterpolant:
    """Interpolate data on the circle with a kernel, and measure how smooth the result is.

    Parameters
    ----------
    kernel : Kernel
    angles : (n,) array
        Angles of the data; they should differ modulo 2 pi.
    y : (n,) array
        Values there.
    radius : float, default 1
        Norm of the inputs (radius cos, radius sin).

    Returns
    -------
    CircleInterpolant

    Raises
    ------
    TypeError, ValueError
        If the arguments have wrong types or shapes.

    Notes
    -----
    The linear system has 1e-10 k(1) added to its diagonal, as in the experiment of Tirer et al. The
    variation is the sum of abs(f(t+h) - 2 f(t) + f(t-h)) / h over a uniform grid.
    """
    chosen = checked_row_kernel(kernel)
    nodes = np.asarray(angles, np.float64)
    if nodes.ndim != 1 or not len(nodes) or not np.all(np.isfinite(nodes)):
        raise ValueError(f"angles: expected finite numbers of shape (n,), got {nodes.shape}")
    values = np.asarray(y, np.float64)
    if values.shape != nodes.shape or not np.all(np.isfinite(values)):
        raise ValueError(f"y: expected finite numbers of shape {nodes.shape}, got {values.shape}")
    size = checks.number("radius", radius, above=0.0)
    grid = 2 * math.pi * np.arange(GRID) / GRID - math.pi
    gram = np.asarray(chosen.profile(np.cos(nodes[:, None] - nodes), size), np.float64)
    gram[np.diag_indices_from(gram)] *= 1 + LOAD
    weights = np.linalg.solve(gram, values)
    found = np.asarray(chosen.profile(np.cos(grid[:, None] - nodes), size)) @ weights
    bends = np.roll(found, 1) - 2 * found + np.roll(found, -1)
    return CircleInterpolant(grid, found, float(np.abs(bends).sum() * GRID / (2 * math.pi)))
