"""The likelihood of targets under a Gaussian process, and where it is largest.

Targets Y (N, C), independent columns of covariance ``A = scale K + noise I``, have the logarithm::

    -1/2 tr Y^T A^-1 Y - C/2 log det A - N C / 2 log 2 pi.

From eigenvalues w of K and ``b_i = |u_i^T Y|^2`` it costs O(N) for any scale and noise. The best
scale at a given ``noise / scale`` is known in closed form, so that one search on a line remains.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize_scalar

from ntkfast.arrays.collections import Values
from ntkfast.regression.eigen import EPS, Eigen

POINTS = 256  # of the line on which the search starts
LOG_TAU = math.log(2 * math.pi)


@dataclass(frozen=True)
class Fit:
    """A likelihood, and the factor and noise at which it is had."""

    value: float
    scale: float
    noise: float


@dataclass(frozen=True, eq=False)
class Evidence:
    """What the likelihood depends on, for one kernel.

    Attributes
    ----------
    w : (n,) array
        Eigenvalues, not negative.
    b : (n,) array
        Squares of the targets along the eigenvectors, summed over columns.
    columns : int
    vectors : (n, n) array
        Columns are the eigenvectors.
    seen : (n, C) array
        The targets along them.
    """

    w: Values
    b: Values
    columns: int
    vectors: Values
    seen: Values

    @classmethod
    def of(cls, K: Values, Y: Values) -> Evidence:
        """Decompose a Gram matrix, which is overwritten."""
        eigen = Eigen.of(K)
        seen, w = eigen.seen(Y), np.maximum(eigen.values, 0)
        return cls(w, np.sum(seen**2, axis=1), Y.shape[1], eigen.vectors, seen)

    def at(self, scale: ArrayLike, noise: ArrayLike) -> Values:
        """Return the logarithm of the likelihood at some scales and noises.

        ``-inf`` where the covariance is singular to rounding.
        """
        n = len(self.w)
        D = np.multiply.outer(scale, self.w) + np.asarray(noise)[..., None]
        singular = D[..., 0] <= n * EPS * D[..., -1]  # they ascend
        D = np.where(singular[..., None], 1, D)
        half = np.sum(self.b / D + self.columns * np.log(D), axis=-1)
        return np.where(singular, -np.inf, -(half + self.columns * n * LOG_TAU) / 2)

    def best(self, scale: float, noise: float, tuned: set[str]) -> Fit:
        """Return the largest likelihood over the scale, the noise, or both.

        Parameters
        ----------
        scale, noise : float
            What is not tuned stays.
        tuned : set of {"scale", "noise"}

        Returns
        -------
        Fit
            The noise is at least ``10 n eps`` times the largest eigenvalue of scale K: below,
            rounding is noise. Targets that are all zero tell nothing, and all stays.
        """
        n, top, total = len(self.w), float(self.w[-1]), float(self.b.sum())
        if total == 0 or top == 0 or not tuned:
            return Fit(float(self.at(scale, noise)), scale, noise)
        floor = self._floor
        entries = n * self.columns
        if tuned == {"scale", "noise"}:

            def scale_of(ratio: ArrayLike) -> Values:
                rest = self.b / np.add.outer(ratio, self.w)
                return np.asarray(np.sum(rest, axis=-1) / entries)

            ratio = _largest(
                lambda g: self.at(scale_of(g), g * scale_of(g)), floor, 1e6 * max(top, floor)
            )
            scale = float(scale_of(ratio))
            noise = ratio * scale
        elif tuned == {"noise"}:
            most = 1e3 * max(scale * top, total / entries)
            noise = _largest(lambda v: self.at(scale, v), scale * floor, most)
        else:
            most = 10 * max(
                float(np.sum(self.b / np.maximum(self.w, floor))) / entries, noise / top
            )
            least = max(1e-6 * noise / top, 1e-20 * most)
            scale = _largest(lambda s: self.at(s, noise), least, most)
        return Fit(float(self.at(scale, noise)), scale, noise)

    @property
    def _floor(self) -> float:
        """The least ratio of noise and scale: where rounding of K is as large."""
        return 10 * len(self.w) * EPS * float(self.w[-1])

    def weights(self, fit: Fit, tuned: set[str]) -> Values:
        """Return V with dL = sum_ij V_ij dK_ij, L the likelihood at the best scale and noise.

        It is scale (alpha alpha^T - C A^-1) / 2 with alpha = A^-1 Y: scale and noise may stay, for
        L is largest there. A noise at its least value is not, and moves with the eigenvalue.
        """
        D = fit.scale * self.w + fit.noise
        alpha = self.vectors @ (self.seen / D[:, None])
        factors = self.columns / D
        if "noise" in tuned and fit.noise <= fit.scale * self._floor * (1 + 1e-6):
            by_noise = float(np.sum(self.b / D**2 - self.columns / D))
            factors[-1] -= by_noise * fit.noise / (fit.scale * self.w[-1])
        V = alpha @ alpha.T
        V -= (self.vectors * factors) @ self.vectors.T
        V *= fit.scale / 2
        return V


def _largest(value: Callable[[Any], Values], low: float, high: float) -> float:
    """Return where a function is largest: on a logarithmic line, then between two of its points."""
    line = np.linspace(math.log(low), math.log(high), POINTS)
    heights = value(np.exp(line))
    peak = int(np.argmax(heights))
    ends = line[max(peak - 1, 0)], line[min(peak + 1, POINTS - 1)]
    found = minimize_scalar(
        lambda x: -float(value(np.exp(x))), bounds=ends, method="bounded", options={"xatol": 1e-10}
    )
    return math.exp(found.x if -found.fun > heights[peak] else line[peak])
