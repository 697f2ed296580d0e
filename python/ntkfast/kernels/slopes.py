"""Derivatives of profiles by the angle, from the samples that make the profiles.

Kernels of wide networks are analytic in s = sin(theta/2) and in c = cos(theta/2) up to either end,
and so are their derivatives: those of the polynomials that interpolate them.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ntkfast.engines.maps import ProfileMap
from ntkfast.kernels.profile import (
    F32,
    Curve,
    Real,
    Reals,
    Samples,
    assembled,
    evaluate,
    in_double,
    interpolated,
    sample,
    sampled_edges,
    sampled_nodes,
)

NODES = 32  # of a piece
FAR_PIECES = 5  # of the side of u = -1: differences by little are not relatively exact there
SLACK = 16.0  # differentiation costs digits, and so does what follows them in vain


def _derivative(samples: Samples) -> Samples:
    """Return the derivative by s, without what is rounding in the coefficients."""
    c = samples.coefficients
    left, right = sampled_edges(len(c))
    noise = 8 * np.finfo(Real).eps * (np.max(np.abs(c)) if samples.divided else 1)
    tail = np.maximum.accumulate(np.abs(c[:, ::-1]), axis=1)[:, ::-1]
    slope = np.polynomial.chebyshev.chebder(np.where(tail > noise, c, 0), axis=1)
    scale = (2 / (right - left))[:, None]
    return Samples(False, np.concatenate([slope * scale, np.zeros_like(c[:, :1])], axis=1))


def _at_end(coefficients: Reals) -> np.longdouble:
    """Return the value at s = 0, the left end of the last piece."""
    signs = np.where(np.arange(coefficients.shape[1]) % 2, -1, 1)
    return Real(np.sum(coefficients[-1] * signs))


def compile_slope(
    curve: Curve, dtype: np.dtype[np.floating], *, degree: float, scale: float
) -> ProfileMap:
    """Compile the derivative of a curve by the angle.

    Parameters
    ----------
    curve, dtype, degree, scale
        As for `ntkfast.kernels.profile.compile_profile`: the curve is 1 - k.

    Returns
    -------
    ProfileMap
        Of ``scale dk/dtheta``. It is bounded where the derivative by the cosine is not: kernels
        with a cusp have the one-sided derivative at angle 0. Its ``error`` is relative to the
        largest value, and does not count what `curve` itself is wrong.
    """
    if dtype == F32:
        curve = in_double(curve)
    _, wanted, near, far = sample(curve, NODES, FAR_PIECES)
    s, c = sampled_nodes(NODES, len(near.coefficients)), sampled_nodes(NODES, FAR_PIECES)
    # k = 1 + s g, and by the angle s has the derivative cos / 2 and c the derivative -sin / 2
    front = (near.at(s) + s * _derivative(near).at(s)) * np.sqrt(1 - s * s) / 2
    behind = -_derivative(far).at(c) * np.sqrt(1 - c * c) / 2
    top = max(float(np.max(np.abs(front))), float(np.max(np.abs(behind)))) or 1.0
    sides, bases = [], []
    for values in (front / top, behind / top):
        coefficients = interpolated(values)
        bases.append(_at_end(coefficients))
        coefficients[:, 0] -= bases[-1]
        sides.append(Samples(False, coefficients, SLACK))
    profile = assembled(
        (sides[0], sides[1]),
        wanted,
        dtype,
        base=(float(bases[0]), float(bases[1])),
        degree=degree,
        scale=scale * top,
    )
    error = 0.0
    for sign, at, values in ((1, s, front), (-1, c, behind)):
        v = (at * at).astype(dtype)
        found = evaluate(profile, np.full_like(v, sign), v)
        error = max(error, float(np.max(np.abs(found - values / top))))
    return replace(profile, error=error)
