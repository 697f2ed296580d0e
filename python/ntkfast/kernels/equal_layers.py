"""Deep networks of equal layers on one sphere: powers of one step, squared again and again.

In units of the variance q a group of homogeneous layers without biases is a map of the angle alone,
and linear in the NTK. With D = 1 - nngp / q, t = ntk / q at equal inputs, m what is missing from t:

    D -> F(D),    t -> a t + b,    m -> A(D) m + B(D) t + C(D).

So are 2, 4, 8, ... such groups. Each power is kept as Chebyshev coefficients on the pieces of a
profile's samples, which follow the deepest of them, and ten powers stand for a thousand layers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ntkfast.kernels.balance import waits
from ntkfast.kernels.layers import Layer, Layers, Sphere, sphere, sphere_after
from ntkfast.kernels.profile import SAMPLED, Reals, interpolant, interpolated, sampled_nodes

LEAST = 16  # layers of a run: fewer are walked sooner
PERIOD = 8  # layers of a group, at most
SLOWEST = 4.0  # by which coefficients are taken to fall, each over the one before


class Run(NamedTuple):
    """A group of layers, and how often it stands there."""

    group: tuple[Layer, ...]
    times: int


def runs(layers: Layers) -> list[Run]:
    """Return the layers as groups that repeat, and what lies between them as groups that do not."""
    found: list[Run] = []
    waiting, first, start = waits(layers), 0, 0
    while start < len(layers):
        run = _run_at(layers, start, waiting)
        if run is None:
            start += 1
            continue
        if first < start:
            found.append(Run(tuple(layers[first:start]), 1))
        found.append(run)
        first = start = start + len(run.group) * run.times
    if first < len(layers):
        found.append(Run(tuple(layers[first:]), 1))
    return found


def _run_at(layers: Layers, start: int, waiting: list[bool]) -> Run | None:
    """Return the run that begins here, if it is long and no saved state crosses its groups."""
    for period in range(1, PERIOD + 1):
        end = start + period
        while end < len(layers) and layers[end] == layers[end - period]:
            end += 1
        count = (end - start) // period
        ends = range(start - 1, start + period * count, period)
        if end - start >= LEAST + period and not any(waiting[k] for k in ends if k >= 0):
            return Run(tuple(layers[start : start + period]), count)
    return None


class Move(NamedTuple):
    """What layers do to pairs at some angles: F, A, B and C of the head of this file, a and b."""

    defect: Reals
    slope: Reals
    turn: Reals
    gain: Reals
    a: Any
    b: Any

    def then(self, after: Move) -> Move:
        """Return both moves in one, `after` being that of the angles behind this one."""
        return Move(
            after.defect,
            after.slope * self.slope,
            after.slope * self.turn + self.a * after.turn,
            after.slope * self.gain + self.b * after.turn + after.gain,
            after.a * self.a,
            after.a * self.b + after.b,
        )

    def angles(self) -> tuple[Reals, Reals]:
        """Return sin^2 and cos^2 of half the angles behind the layers."""
        v = self.defect / 2
        return v, np.maximum(1 - v, 0)

    def carry(self, state: Sphere) -> Sphere:
        """Return the state behind the layers, in units of its variance."""
        t, missing = state.t / state.q, state.t_missing / state.q
        missing = self.slope * missing + self.turn * t + self.gain
        one = self.defect.dtype.type(1)
        return Sphere(one, self.defect, self.a * t + self.b, missing, self.angles()[1])


def _walked(group: tuple[Layer, ...], v: Reals, vc: Reals) -> Move:
    """Return the move of layers, from what they do to t and m that are 0 or 1."""
    number, none = v.dtype.type, np.zeros_like(v)
    starts = np.array([[0], [1], [0]], v.dtype), np.stack([none, none, none + 1])
    end = sphere_after(group, Sphere(number(1), 2 * v, starts[0], starts[1], vc))
    gain, turn, slope = end.t_missing / end.q
    b, a, _ = end.t[:, 0] / end.q
    return Move(end.defect, slope - gain, turn - gain, gain, a - b, b)


class Step(NamedTuple):
    """A power of a group as series of the angle.

    Attributes
    ----------
    nodes : Move
        At the points of the series.
    coefficients : (2, pieces, 4, count) array
        Of F, A, B and C over their `_scales`, near equal inputs and near opposite ones.
    turns : bool
        Whether opposite inputs become equal: F is relatively exact there too.
    """

    nodes: Move
    coefficients: Reals
    turns: bool

    def at(self, v: Reals, vc: Reals) -> Move:
        """Return the move of pairs with these sin^2 and cos^2 of half their angle."""
        near = v <= vc
        s = np.sqrt(np.where(near, v, vc))
        values = interpolant(self.coefficients, s, np.where(near, 0, 1)).T
        defect, slope, turn, gain = values * _scales(s, near, self.turns)
        return Move(defect, slope, turn, gain, self.nodes.a, self.nodes.b)

    @property
    def error(self) -> float:
        """What is cut off, over the largest number of its piece, or over 1 and the values at 0."""
        size = np.abs(self.coefficients)
        least = np.array([0, 1, self.nodes.a, self.nodes.b], size.dtype)
        scale = np.maximum(size.max(axis=-1), least)
        last = np.maximum(size[..., -1], size[..., -2] / SLOWEST)
        return float(np.max(last / np.where(scale > 0, scale, 1)))


def _scales(s: Reals, near: NDArray[np.bool_], turns: bool) -> Reals:
    """Return by what F, A, B and C are divided: near equal inputs they vanish like this."""
    one, angle = np.ones_like(s), np.where(near, s, 1)
    return np.stack([np.where(near | turns, s * s, one), one, angle, angle])


def _nodes(count: int, dtype: np.dtype[Any]) -> tuple[Reals, NDArray[np.bool_]]:
    """Return where the series of both sides are sampled, and which of them are near."""
    s = sampled_nodes(count, SAMPLED).astype(dtype).ravel()
    return np.concatenate([s, s]), np.arange(2 * s.size) < s.size


def _step_of(nodes: Move, turns: bool) -> Step:
    """Return the step with these values at the nodes."""
    count = nodes.defect.size // (2 * SAMPLED)
    s, near = _nodes(count, nodes.defect.dtype)
    values = np.stack(nodes[:4]) / _scales(s, near, turns)
    coefficients = interpolated(values.reshape(-1, count)).reshape(4, 2, SAMPLED, count)
    return Step(nodes, np.ascontiguousarray(np.moveaxis(coefficients, 0, 2)), turns)


def power(run: Run, count: int, dtype: np.dtype[Any], allowed: float) -> Step | None:
    """Return the step of all groups of a run, on `count` nodes a piece; None if they do not do."""
    s, near = _nodes(count, dtype)
    square = s * s
    v, vc = np.where(near, square, 1 - square), np.where(near, 1 - square, square)
    opposite = sphere(run.group, 1.0, np.ones(1, dtype), np.zeros(1, dtype))
    step = _step_of(_walked(run.group, v, vc), bool(opposite.defect[0] == 0))
    for digit in f"{run.times:b}"[1:]:
        if not step.error <= allowed:  # also for NaN
            return None
        nodes = step.nodes.then(step.at(*step.nodes.angles()))
        if digit == "1":
            nodes = nodes.then(_walked(run.group, *nodes.angles()))
        step = _step_of(nodes, step.turns)
    return step if step.error <= allowed else None


def fast_sphere(
    layers: Layers, nodes: int, dtype: np.dtype[Any], allowed: float
) -> Callable[[Reals, Reals], Sphere] | None:
    """Return the `sphere` of a homogeneous network without the walk through equal layers.

    Parameters
    ----------
    layers : layers
        Without biases: their kernel is a power of the norm times a function of the angle.
    nodes : int
        Of each piece of a series.
    dtype : dtype
        Of the angles.
    allowed : float
        What the series may be wrong by, relatively.

    Returns
    -------
    callable or None
        From v and vc to the state behind the layers, up to a factor. None if too few layers are
        equal, or series do not follow them.
    """
    parts = runs(layers)
    repeated = {run for run in parts if run.times > 1}
    steps = {run: power(run, nodes, dtype, allowed) for run in repeated}
    if not steps or None in steps.values():
        return None

    def carried(v: Reals, vc: Reals) -> Sphere:
        number = v.dtype.type
        state = Sphere(number(1), 2 * v, number(0), np.zeros_like(v), vc)
        for run in parts:
            step = steps.get(run)
            if step is None:
                state = sphere_after(run.group, state)
            else:
                state = step.at(state.defect / 2, state.vc).carry(state)
        return state

    return carried
