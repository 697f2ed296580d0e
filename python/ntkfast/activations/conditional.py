"""Averages of squared differences of steep functions, by conditioning on what two inputs share.

Standard Gaussians with cosine c = cos(theta) >= 0 are a = C t + S z and b = C t + S z' with
independent t, z, z', C^2 = c and S^2 = 1 - c.  With the mean m(t) and the variance w(t) of
s(r (C t + S z)) over z,

    E[(s(ra) - s(rb))^2] = 2 E[w(t)],   E[(s(ra) - s(-rb))^2] = E[2 w(t) + (m(t) - m(-t))^2]

(the second where s(-x) takes the part of s(x) on one side: pairs at pi - theta), sums of squares
that lose nothing.  Of two root variances r and r', E[s(ra) s(r'b)] = E[m_r(t) m_r'(t)].  m and w
change over lengths of the larger of S and of the mesh, and so do the panels in t: they shrink
geometrically towards steep places.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ntkfast.activations.averages import BELL, PANEL
from ntkfast.activations.mesh import Doubles, Function, _evaluate
from ntkfast.activations.pairs import gauss_legendre

STEP = 0.5  # of the trapezoidal rule in z, exact to exp(-2 pi^2 / STEP^2) on a wide strip
STRIP = 3.5  # width of that strip: exp(-2 pi STRIP / STEP + STRIP^2 / 2) is rounding
GRADE = 0.5  # panels per distance from a steep place
LEAST = 1e-28  # sin^2(theta/2): nothing changes below


class Shared(NamedTuple):
    """A function and its derivative at one root variance, and the rule to average them.

    Attributes
    ----------
    functions : (s, s')
    root : float
    edges : (k + 1,) array
        Mesh of the function.
    kinks : (j,) array
        Of the function, edges of the mesh too.
    bound : float
        Range of a standard Gaussian that matters.
    nodes : int
        Per panel.
    """

    functions: tuple[Function, Function]
    root: float
    edges: Doubles
    kinks: Doubles
    bound: float
    nodes: int

    def means(self, t: Doubles, C: float, S: float) -> Doubles:
        """Return the means of s and of s' at given t, nodes of whole panels, (2, t)."""
        moments = np.empty((2, 2, t.size))
        self._moments(t, C, S, moments)
        return np.asarray(moments[0])

    def squares(self, v: float) -> Doubles:
        """Return averages of (s(ra) - s(rb))^2 and of s', at theta and pi - theta, (2, 2).

        v is sin^2(theta/2) <= 1/2; the first axis is the side.
        """
        v = max(v, LEAST)
        C, S = np.sqrt(1 - 2 * v), np.sqrt(2 * v)
        t, weights = shared_nodes([self], C, S)
        moments = np.empty((2, 2, t.size))
        self._moments(t, C, S, moments)
        mean, variance = moments
        near = 2 * (variance @ weights)
        return np.stack([near, near + np.square(mean - mean[:, ::-1]) @ weights])

    def cost(self, v: float) -> float:
        """Return about how many values of s an angle takes."""
        C, S = np.sqrt(1 - 2 * max(v, LEAST)), np.sqrt(2 * max(v, LEAST))
        window = 2 * self.bound / STEP + self.edges.size  # of panels, by nodes in t or in z
        return float(shared_nodes([self], C, S)[0].size * window)

    def _fineness(self, x: Doubles, floor: float) -> Doubles:
        """Length over which the function, blurred by `floor`, changes near x."""
        return _length(*self._intervals(), x, floor)

    def _intervals(self) -> tuple[Doubles, Doubles]:
        """Return the ends of the intervals of the mesh, and the kinks as empty ones."""
        low, high = np.append(self.edges[:-1], self.kinks), np.append(self.edges[1:], self.kinks)
        return low / self.root, high / self.root

    def _moments(self, t: Doubles, C: float, S: float, out: Doubles) -> None:
        """Fill in mean and variance over z of both functions at every t, (2, 2, t)."""
        smooth = self._fineness(C * t, 0.0) > (STRIP + GRADE * 2) * S
        panels = smooth.reshape(-1, self.nodes)
        panels[:] = panels.all(axis=1, keepdims=True)
        count = int(np.ceil(self.bound / STEP))
        z = STEP * np.arange(-count, count + 1)
        density = STEP * BELL * np.exp(-z * z / 2)
        inside = self.root * (C * t[smooth, None] + S * z)
        for row, function in enumerate(self.functions):
            values = _evaluate(function, inside)
            mean = values @ density
            out[0, row, smooth] = mean
            out[1, row, smooth] = np.square(values - mean[:, None]) @ density
        for panel in np.flatnonzero(~panels[:, 0]):
            here = slice(panel * self.nodes, (panel + 1) * self.nodes)
            x, density = self._window(C * t[here], S)
            for row, function in enumerate(self.functions):
                values = _evaluate(function, self.root * x)
                mean = density @ values
                out[0, row, here] = mean
                out[1, row, here] = (density * np.square(values - mean[:, None])).sum(axis=1)

    def _window(self, centers: Doubles, S: float) -> tuple[Doubles, Doubles]:
        """Nodes that serve Gaussians of width S about all centers, and their densities."""
        low, high = centers[0] - self.bound * S, centers[-1] + self.bound * S
        edges = self.edges / self.root
        uniform = np.linspace(low, high, int(np.ceil((high - low) / (2 * S))) + 1)
        edges = np.union1d(uniform, edges[(edges > low) & (edges < high)])
        points, weights = gauss_legendre(self.nodes)
        half = np.diff(edges)[:, None] / 2
        x = (edges[:-1, None] + half + half * points).ravel()
        z = (x - centers[:, None]) / S
        return x, np.exp(-z * z / 2) * ((half * (weights * (BELL / S))).ravel())


def _length(low: Doubles, high: Doubles, x: Doubles, floor: float) -> Doubles:
    gap = np.maximum(np.maximum(low - x[..., None], x[..., None] - high), 0)
    return np.asarray((np.maximum(high - low, floor) + GRADE * gap).min(axis=-1))


def shared_nodes(rules: Sequence[Shared], C: float, S: float) -> tuple[Doubles, Doubles]:
    """Return nodes in t that serve all rules, symmetric about 0, and weights with the density."""
    low, high = (
        np.concatenate(ends) for ends in zip(*(r._intervals() for r in rules), strict=True)
    )
    bound, nodes = max(r.bound for r in rules), rules[0].nodes

    def widest(x: Doubles) -> float:
        return float(_length(low, high, x, 2 * S).min()) / max(C, 1e-9)

    ends = [0.0]
    while ends[-1] < bound:
        here = np.array([ends[-1], -ends[-1]]) * C
        width = min(0.8 * widest(here), PANEL)
        width = min(width, widest(here + width * C * np.array([1.0, -1.0])))
        ends.append(ends[-1] + width)
    points, weights = gauss_legendre(nodes)
    half = np.diff(ends)[:, None] / 2
    t = (np.array(ends)[:-1, None] + half + half * points).ravel()
    w = (half * weights).ravel() * BELL * np.exp(-t * t / 2)
    return np.concatenate([-t[::-1], t]), np.concatenate([w[::-1], w])
