"""How a kernel looks over the angle, and what depth does to it.

Near equal inputs kernels of ReLU networks behave like a Laplace kernel, k ~ k(1) (1 - c |x - x'|).
The rate c grows with the depth L of fully connected networks, c = L / (2 pi): spiky. For residual
networks with alpha = L^-gamma it stays bounded if gamma >= 1/2 (Belfer et al. 2021 state the
dichotomy; the constants here were derived from the recursion and are tested against it).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ntkfast.arrays import checks
from ntkfast.kernels.base import Kernel
from ntkfast.kernels.curve import Curve
from ntkfast.kernels.named import ArcCosine
from ntkfast.kernels.rows import on_sphere
from ntkfast.networks.dense import FullyConnected

ANGLES = tuple(j * math.pi / 4 for j in range(1, 5))
SCAN = 2048  # angles between which the half height is looked for
LIMIT_STEPS = 400  # of the differential equation in the depth


@dataclass(frozen=True)
class KernelShape:
    """Shape of k(theta) / k(0).

    Attributes
    ----------
    rate : float
        c of k ~ k(1) (1 - c |x - x'|): 0 for differentiable kernels, infinite for rougher ones.
    width : float
        Smallest angle at which the kernel is halfway between its largest and smallest value.
    angles, values : tuples of floats
        pi/4, pi/2, 3 pi/4 and pi, and k/k(1) there.
    lowest : float
        Smallest value of k/k(1).
    """

    rate: float
    width: float
    angles: tuple[float, ...]
    values: tuple[float, ...]
    lowest: float


def shape(kernel: Kernel, *, radius: float | None = None) -> KernelShape:
    """Describe the shape of a kernel on the sphere.

    Parameters
    ----------
    kernel : Kernel
    radius : float, optional
        As for `mercer`.

    Returns
    -------
    KernelShape

    Raises
    ------
    TypeError, ValueError
        If `kernel` is no kernel, or not zonal and `radius` is missing.

    References
    ----------
    .. [1] Y. Belfer et al., arXiv:2104.03093.

    Examples
    --------
    >>> import ntkfast as nf
    >>> from ntkfast import spectrum
    >>> s = spectrum.shape(nf.FullyConnected(5).ntk)
    >>> round(s.rate, 6), [round(v, 4) for v in s.values]
    (0.795775, [0.5051, 0.2987, 0.2413, 0.2384])
    """
    curve = on_sphere(kernel, 1, radius)
    theta = math.pi * np.linspace(0, 1, SCAN + 1) ** 2  # finer where deep kernels are steep
    values = _values(curve, theta)
    lowest = float(values.min())
    return KernelShape(
        rate=_rate(curve),
        width=_crossing(curve, theta, values, (1 + lowest) / 2),
        angles=ANGLES,
        values=tuple(float(value) for value in _values(curve, np.array(ANGLES))),
        lowest=lowest,
    )


def _values(curve: Curve, theta: NDArray[np.float64]) -> NDArray[np.float64]:
    v, vc = np.sin(theta / 2) ** 2, np.cos(theta / 2) ** 2
    return np.asarray(1 - curve.missing(v, vc), np.float64)


def _rate(curve: Curve) -> float:
    """Return c: minus half the coefficient of s = |x - x'| / 2, or a difference quotient."""
    ends = curve.ends()
    if ends is not None:
        rough = (ends.nu < 0.5) & (ends.right != 0)
        if np.any(rough):
            return math.inf
        return -float(np.sum(ends.right[ends.nu == 0.5])) / 2 + 0.0
    s = np.array([1e-3, 2e-3])
    one, two = curve.missing(s * s, 1 - s * s) / (2 * s)
    return max(float(2 * one - two), 0.0)


def _crossing(
    curve: Curve, theta: NDArray[np.float64], values: NDArray[np.float64], level: float
) -> float:
    """Return the first angle at which the values fall to a level."""
    from scipy.optimize import brentq

    below = np.flatnonzero(values <= level)
    if not len(below) or below[0] == 0:
        return math.nan
    i = int(below[0])
    return float(
        brentq(lambda t: float(_values(curve, np.array([t]))[0]) - level, theta[i - 1], theta[i])
    )


def residual_rate(depth: int, alpha: float, *, trained: str = "residual") -> float:
    """Return c of ``ResNet(depth, alpha=alpha, trained=trained).ntk`` with ReLU in closed form.

    Parameters
    ----------
    depth : int
        Number of blocks L.
    alpha : float
    trained : {"residual", "all"}
        Variants A and B.

    Returns
    -------
    float
        With a = alpha^2: c_A = (1/2 + (L - 1) a / (2 (1 + a))) / pi, and for variant B

        c_B = (2 L a (1+a)^(L-1) c_A + (1+a)^L L a / ((1+a) pi))
              / (2 L a (1+a)^(L-1) + 2 (1+a)^L).

    Notes
    -----
    Derived from the recursion and checked against its expansion at u = 1; for constant alpha c_A
    grows like L a / (2 pi (1 + a)), for alpha = L^-gamma like (1 + L^(1 - 2 gamma)) / (2 pi).
    """
    L, a = checks.count("depth", depth, least=1), checks.number("alpha", alpha, above=0.0) ** 2
    checks.choice("trained", trained, ("residual", "all"))
    rate = (0.5 + (L - 1) * a / (2 * (1 + a))) / math.pi
    if trained == "residual":
        return rate
    blocks = 2 * L * a / (1 + a)  # over (1 + a)^L, which would overflow
    return (blocks * rate + L * a / ((1 + a) * math.pi)) / (blocks + 2)


def fully_connected_rate(depth: int) -> float:
    """Return c = L / (2 pi) of ``FullyConnected(depth).ntk``, ReLU without bias."""
    return checks.count("depth", depth) / (2 * math.pi)


def residual_limit(gamma: float, u: ArrayLike) -> NDArray[np.float64]:
    """Return the limit of the normalised residual NTK as its depth grows.

    Parameters
    ----------
    gamma : float
        Not negative; ``ResNet(L, alpha=L**-gamma)``, variant A, L to infinity.
    u : array
        Cosines in [-1, 1].

    Returns
    -------
    array of the shape of `u`
        gamma > 1/2: the two-layer kernel (u kappa0 + kappa1) / 2. gamma < 1/2: 1/4 except at u = 1,
        as for fully connected networks. gamma = 1/2: the depth becomes a time t in [0, 1] in which
        u' = kappa1(u) - u, and the limit is
        int e^(t - 1) exp(int_t^1 kappa0) (kappa1 + u kappa0) dt / 2, to about 1e-12.

    Notes
    -----
    The equation was derived from the recursion of Belfer et al. and checked against large depths.
    """
    cosines, power = checks.cosines("u", u), checks.number("gamma", gamma, least=0.0)
    if power < 0.5:
        return np.where(cosines == 1, 1.0, 0.25)
    if power > 0.5:
        return FullyConnected(1).ntk.profile(cosines) / 2
    return _critical_limit(np.asarray(cosines))


def _critical_limit(u: NDArray[np.float64]) -> NDArray[np.float64]:
    """Integrate (u, A, R) with the classical Runge-Kutta rule.

    R' = R kappa0 + e^t (kappa1 + u kappa0), with R(0) = 0, is the integral without the backward
    pass.
    """
    state = np.stack([u, np.zeros_like(u)])
    step = 1.0 / LIMIT_STEPS

    def slope(t: float, state: NDArray[np.float64]) -> NDArray[np.float64]:
        cosine = np.clip(state[0], -1, 1)
        kappa0, kappa1 = (ArcCosine(order).profile(cosine) for order in (0, 1))
        growth = math.exp(t - 1) * (kappa1 + state[0] * kappa0) / 2
        return np.stack([kappa1 - state[0], state[1] * kappa0 + growth])

    for i in range(LIMIT_STEPS):
        t = i * step
        k1 = slope(t, state)
        k2 = slope(t + step / 2, state + step / 2 * k1)
        k3 = slope(t + step / 2, state + step / 2 * k2)
        k4 = slope(t + step, state + step * k3)
        state = state + step / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return np.asarray(state[1])
