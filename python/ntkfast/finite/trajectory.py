"""How long the image of a curve gets from layer to layer of a random network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ntkfast.arrays import checks
from ntkfast.finite.mlp import MLP
from ntkfast.finite.weights import Sparse
from ntkfast.support.progress import track
from ntkfast.support.randomness import RNG

Values = NDArray[np.float64]
Curve = Callable[[Values], Any]

# sqrt(k) E|w.u| / 2 over |u|, when all weights are drawn with variance 1/k: Gaussian ones exactly,
# others by Jensen's and Khintchine's inequalities, E|w.u| >= E|w_i| |u| / sqrt 2.
BASES = {
    "gaussian": 1 / np.sqrt(2 * np.pi),
    "uniform": np.sqrt(3) / 2 / (2 * np.sqrt(2)),
    "sign": 1 / (2 * np.sqrt(2)),
}


@dataclass(frozen=True, eq=False)
class Growth:
    """Lengths of the images of a curve (`trajectory_growth`).

    Attributes
    ----------
    lengths : (n_draws, L + 1) array
        Of the curve and of its images after each hidden layer.
    mean, standard_error : (L + 1,) arrays
        Of the lengths over the draws.
    discretisation : float
        Largest relative change of a length when the points were last doubled; its next change
        would be about a quarter of it.
    lower : float
        ``E[length of layer l] >= lower * (length of layer l - 1)``, or NaN where none is known.
    typical : float
        Growth per layer of wide networks.
    """

    lengths: Values
    discretisation: float
    lower: float
    typical: float

    @property
    def mean(self) -> Values:
        """Mean length over the draws."""
        return np.asarray(self.lengths.mean(axis=0))

    @property
    def standard_error(self) -> Values:
        """Standard error of the mean length."""
        return np.asarray(self.lengths.std(axis=0, ddof=1) / np.sqrt(len(self.lengths)))

    @property
    def rate(self) -> float:
        """Growth per layer: the geometric mean over the layers of the mean lengths."""
        return float((self.mean[-1] / self.mean[0]) ** (1 / (len(self.mean) - 1)))


def circle(t: Values, dim: int) -> Values:
    """Return points of the unit circle in the first two dimensions, t from 0 to 1."""
    Z = np.zeros((len(t), dim))
    Z[:, 0], Z[:, 1 % dim] = np.cos(2 * np.pi * t), np.sin(2 * np.pi * t)
    return Z


def trajectory_growth(
    net: MLP,
    curve: Curve | None = None,
    *,
    n_draws: int = 16,
    rtol: float = 1e-3,
    max_points: int = 1 << 14,
    rng: RNG = 0,
    progress: bool | None = None,
) -> Growth:
    """Measure how the length of a curve grows through the hidden layers of random networks.

    Parameters
    ----------
    net : MLP
        The architecture and the law of its weights; they are drawn anew.
    curve : callable, optional
        Maps (n,) parameters from 0 to 1 to (n, d) points. Default: a circle in two of the
        dimensions. For weights that are not Gaussian directions matter.
    n_draws : int, default 16
        At least 2.
    rtol : float, default 1e-3
        Chords are halved until no length changes by more than this part of it.
    max_points : int, default 16384
    rng : int, Generator or None
    progress : bool, optional
        Whether to show a bar. Default: on a terminal, after some seconds.

    Returns
    -------
    Growth

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type or range, or `max_points` are too few for `rtol`.

    Notes
    -----
    Chords are shorter than arcs, so that lengths are bounds from below; the error of smooth pieces
    falls by 4 when points are doubled. For ReLU and symmetric weights half of each ``|w.u|``
    survives the gate on average, and ``|v|_2 >= |v|_1 / sqrt k``: the lower bound follows by
    induction. Wide networks grow by ``sqrt(Var(w) k / 2) = w_std / sqrt 2`` per layer instead.
    Derived and measured here; the constants in [1]_ could not be read.

    References
    ----------
    .. [1] I. Price, J. Tanner, "Trajectory growth lower bounds for random sparse deep ReLU
       networks", arXiv:1911.10651.
    .. [2] B. Hanin, R. Jeong, D. Rolnick, "Deep ReLU networks preserve expected length", ICLR 2022:
       with ``w_std = sqrt 2`` the length does not grow.

    Examples
    --------
    >>> import ntkfast as nf
    >>> net = nf.finite.MLP((100, 100, 100, 1), init=nf.finite.Sparse(0.5), w_std=2.0)
    >>> found = nf.finite.trajectory_growth(net)
    >>> found.lower < found.rate
    True
    >>> bool(abs(found.rate / found.typical - 1) < 0.05)
    True
    """
    count = checks.count("n_draws", n_draws, least=2)
    tolerance = checks.number("rtol", rtol, above=0.0)
    most = checks.count("max_points", max_points, least=64)
    if net.depth < 1:
        raise ValueError(f"net: expected a hidden layer, got widths {net.widths}")
    path = curve or (lambda t: circle(t, net.widths[0]))
    found, worst = np.empty((count, net.depth + 1)), 0.0
    nets = track(net.draws(count, rng), progress, "trajectory growth", "draws", count)
    for draw, one in enumerate(nets):
        found[draw], change = _converged(one, path, tolerance, most)
        worst = max(worst, change)
    return Growth(found, worst, _lower(net), float(max(net.w_std[:-1]) / np.sqrt(2)))


def _converged(net: MLP, path: Curve, rtol: float, most: int) -> tuple[Values, float]:
    """Halve the chords until the lengths stay."""
    points, before = 64, _lengths(net, path, 64)
    while True:
        points *= 2
        if points > most:
            raise ValueError(f"max_points: {most} are too few for rtol={rtol:g}")
        lengths = _lengths(net, path, points)
        change = float(np.max(np.abs(lengths - before) / lengths))
        if change <= rtol:
            return lengths, change
        before = lengths


def _lengths(net: MLP, path: Curve, points: int) -> Values:
    images = net.features(np.asarray(path(np.linspace(0, 1, points + 1)), np.float64))
    return np.array([np.linalg.norm(np.diff(Z, axis=0), axis=1).sum() for Z in images])


def _lower(net: MLP) -> float:
    """Return the bound, of plain ReLU networks with independent weights."""
    if net.activation.name != "relu" or net.residual or not isinstance(net.init, Sparse):
        return float("nan")
    # M belongs to the fan-in, sqrt k to the width of the layer.
    shapes = zip(net.widths, net.widths[1:-1], net.w_std, strict=False)
    factor = min(w * np.sqrt(out / fan_in) for fan_in, out, w in shapes)
    return float(BASES[net.init.law] * np.sqrt(net.init.density) * factor)
