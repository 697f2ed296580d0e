"""Averages over pairs of Gaussians by panels that are split where kink lines run and cross."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ntkfast.activations.mesh import Doubles, Function, Resolution, _evaluate
from ntkfast.activations.pairs import gauss_legendre

GAUSS = 16  # Gauss-Legendre nodes per panel
PANEL = 2.3  # widest panel in units of the standard deviation
MOST_PANELS = 300  # a rougher function would take minutes
CHUNK = 1 << 18  # function values held at once
BELL = 1 / np.sqrt(2 * np.pi)


@dataclass
class _Pairs:
    """Pairs of variances and angles in the rotated coordinates, one per entry.

    a = root_q (along x + across y), b = turn root_p (along x - across y) with along >= across.
    """

    root_q: Doubles
    root_p: Doubles
    along: Doubles
    across: Doubles
    turn: Doubles

    @classmethod
    def make(cls, root_q: Doubles, root_p: Doubles, v: Doubles, vc: Doubles) -> _Pairs:
        turn = np.where(v <= vc, 1.0, -1.0)
        along, across = np.sqrt(np.maximum(v, vc)), np.sqrt(np.minimum(v, vc))
        return cls(root_q, root_p, along, across, turn)

    def __getitem__(self, index: Any) -> _Pairs:
        return _Pairs(
            self.root_q[index],
            self.root_p[index],
            self.along[index],
            self.across[index],
            self.turn[index],
        )

    def split(self, lines: Doubles, y: Doubles) -> Doubles:
        """Where the lines a = tau and b = tau meet the line y = const."""
        shift = (self.across * y)[:, None]
        with np.errstate(divide="ignore", invalid="ignore"):
            first = (lines / self.root_q[:, None] - shift) / self.along[:, None]
            second = self.turn[:, None] * (lines / self.root_p[:, None]) + shift
            second = second / self.along[:, None]
        return np.asarray(np.nan_to_num(np.concatenate([first, second], axis=1)))

    def crossings(self, kinks: Doubles) -> list[Doubles]:
        """Values of y at which two kink lines cross, for each pair."""
        with np.errstate(divide="ignore", invalid="ignore"):
            first = kinks / self.root_q[:, None]
            second = self.turn[:, None] * (kinks / self.root_p[:, None])
            gaps = (first[:, :, None] - second[:, None, :]).reshape(len(self.root_q), -1)
            points = gaps / (2 * self.across[:, None])
        return [row[np.isfinite(row)] for row in points]


@dataclass(frozen=True)
class _Rule:
    """What the averages need to know of the function: s, s', lines to split at, and the range."""

    function: Function
    derivative: Function
    lines: Doubles
    kinks: Doubles
    bound: float
    panels: int
    nodes: int = GAUSS

    @cached_property
    def grid(self) -> Doubles:
        return np.linspace(-self.bound, self.bound, self.panels + 1)

    def inner(self, pairs: _Pairs, y: Doubles) -> Doubles:
        """Integrate over x at given y, with the density of y: two numbers per pair."""
        cuts = np.clip(pairs.split(self.lines, y), self.grid[0], self.grid[-1])
        edges = np.concatenate([np.broadcast_to(self.grid, (y.size, self.grid.size)), cuts], axis=1)
        edges.sort(axis=1)
        points, weights = gauss_legendre(self.nodes)
        half = np.diff(edges, axis=1)[..., None] / 2
        x = ((edges[:, :-1, None] + half) + half * points).reshape(y.size, -1)
        density = (half * (BELL**2 * weights)).reshape(x.shape) * np.exp(-(x * x) / 2)
        density *= np.exp(-(y * y) / 2)[:, None]
        x *= pairs.along[:, None]
        shift = (pairs.across * y)[:, None]
        a = pairs.root_q[:, None] * (x + shift)
        b = (pairs.turn * pairs.root_p)[:, None] * (x - shift)
        return np.stack([self._combine(f, a, b, density) for f in (self.function, self.derivative)])

    def _combine(self, f: Function, a: Doubles, b: Doubles, density: Doubles) -> Doubles:
        return np.asarray(np.einsum("ij,ij,ij->i", _evaluate(f, a), _evaluate(f, b), density))

    def outer(self, pairs: _Pairs, low: Doubles, high: Doubles) -> tuple[Doubles, Doubles]:
        """Integrate over panels [low, high] in y; return values and error estimates, (2, tasks).

        The last Legendre coefficients of the integrand stand for the error of interpolation.
        """
        points, weights = gauss_legendre(self.nodes)
        y = (low + high)[:, None] / 2 + (high - low)[:, None] / 2 * points
        owner = np.repeat(np.arange(low.size), self.nodes)
        flat = y.ravel()
        cost = self.nodes * (self.grid.size - 1 + 2 * self.lines.size)
        step = max(1, CHUNK // cost)
        parts = [
            self.inner(pairs[owner[i : i + step]], flat[i : i + step])
            for i in range(0, flat.size, step)
        ]
        values = np.concatenate(parts, axis=1).reshape(2, low.size, self.nodes)
        half = (high - low) / 2
        total = half * (values @ weights)
        tail = np.abs(values @ _last_legendre(self.nodes)).sum(axis=-1) * half
        return total, tail


@cache
def _last_legendre(nodes: int) -> Doubles:
    """Matrix from values at Gauss nodes to the last three Legendre coefficients."""
    points, weights = gauss_legendre(nodes)
    table = np.polynomial.legendre.legvander(points, nodes - 1)
    return np.asarray((table * weights[:, None] * (np.arange(nodes) + 0.5))[:, -3:])


def _average(rule: _Rule, pairs: _Pairs, size: Doubles, tolerance: float) -> tuple[Doubles, float]:
    """Average over each pair adaptively; return (2, pairs) values and the relative error.

    Errors count relative to the result or to `size`, (2, pairs), if that is larger.
    """
    owner, low, high = _first_panels(rule, pairs)
    count = pairs.root_q.size
    total, missed = np.zeros((2, count)), np.zeros((2, count))
    scale = np.zeros((2, count))
    for level in range(40):
        values, tail = rule.outer(pairs[owner], low, high)
        if level == 0:
            for row in range(2):
                np.add.at(scale[row], owner, np.abs(values[row]))
            scale = np.maximum(scale, size)
        error = tail / scale[:, owner]
        error = np.minimum(error, (100 * error) ** 2)  # Gauss is exact to twice the degree
        good = (error < tolerance / 10).all(axis=0) | (high - low < 1e-13 * rule.bound)
        if level == 39 or good.size > 200 + 40 * count:  # too rough: take it as it is
            good[:] = True
        for row in range(2):
            np.add.at(total[row], owner[good], values[row, good])
            np.add.at(missed[row], owner[good], error[row, good])
        if good.all():
            break
        owner, low, high = owner[~good], low[~good], high[~good]
        middle = (low + high) / 2
        owner = np.concatenate([owner, owner])
        low, high = np.concatenate([low, middle]), np.concatenate([middle, high])
    return total, float(missed.max(initial=0.0))


def _first_panels(rule: _Rule, pairs: _Pairs) -> tuple[NDArray[np.intp], Doubles, Doubles]:
    """Panels in y, split where kink lines cross."""
    crossings = pairs.crossings(rule.kinks)
    owners, lows, highs = [], [], []
    for index, points in enumerate(crossings):
        grid = np.linspace(-rule.bound, rule.bound, int(np.ceil(2 * rule.bound / PANEL)) + 1)
        inside = points[np.abs(points) < rule.bound]
        edges = np.unique(np.concatenate([grid, inside]))
        owners.append(np.full(edges.size - 1, index))
        lows.append(edges[:-1])
        highs.append(edges[1:])
    return np.concatenate(owners), np.concatenate(lows), np.concatenate(highs)


def _panels(mesh: Resolution, root: float, bound: float) -> tuple[int, Doubles]:
    """Return the number of uniform panels and the lines to split at, in the cheaper way.

    Gauss panels may be 1.5 times as long as the intervals of the mesh, since they are exact to a
    higher degree.  Either all panels are that short, or they end at the edges of short intervals.
    """
    widths = np.diff(mesh.edges)
    shortest = 1.5 * float(widths.min()) / max(root, 1e-300)
    wide = int(np.ceil(2 * bound / PANEL))
    fine = np.minimum(widths[:-1], widths[1:]) * 1.5 < PANEL * root
    lines = np.union1d(mesh.edges[1:-1][fine], mesh.kinks)
    uniform = max(wide, 2 * bound / shortest)
    if min(uniform, 2 * lines.size) > MOST_PANELS:
        raise ValueError(
            f"activation: expected a function that {MOST_PANELS} panels follow, found "
            f"changes on a length of {widths.min():.2g} where inputs have a standard deviation of "
            f"{root:.3g}; pass a closed form (a Sine for waves), or smaller rows or w_std"
        )
    if uniform <= wide + 2 * (lines.size - len(mesh.kinks)):
        return int(np.ceil(uniform)), np.array(mesh.kinks)
    return wide, lines


def hermite_moments(values: Doubles, z: Doubles, count: int) -> Doubles:
    """Return sum_i values_i phi(z_i) h_j(z_i), j < count, with the density phi of a Gaussian.

    By the recurrence of h_j(z) exp(-z^2/4), which never overflows.
    """
    quarter = np.exp(-z * z / 4)
    mass = values * BELL * quarter
    before, value, row = np.zeros_like(z), quarter, np.empty(count)
    for j in range(count):
        row[j] = mass @ value
        before, value = value, (z * value - np.sqrt(j) * before) / np.sqrt(j + 1)
    return row
