"""Which constants of convolutional networks a parameter moves, and how.

These are the gains and biases of convolutions and of the read-out, and the constants of dense
layers behind it. Homogeneous activations let factors pass: where all that is added has one and the
same, a parameter moves values by the same share of all pairs.
"""

from __future__ import annotations

import itertools
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ntkfast.activations.base import Activation
from ntkfast.kernels.image_gradients import geometry_of
from ntkfast.kernels.image_planes import (
    ACTIVATE,
    ADD,
    CONV,
    MULTIPLY,
    NORMALIZE,
    RELU,
    SWAP,
)
from ntkfast.kernels.layers import IDENTITY, Layer, carry
from ntkfast.kernels.moving import REACH, stencil

Doubles = NDArray[np.float64]
SAME = 1e-14  # rates that agree to this are equal


@lru_cache(maxsize=256)
def steps_of(kernel: Any, name: str, shape: tuple[int, int, int]) -> Doubles:
    """Return the logarithmic derivatives of all constants by a parameter, in one row.

    Gain and bias of each step and of the read-out, then those of the dense layers.
    """
    nodes, weights = stencil(kernel.parameters()[name], REACH)
    here = _constants(kernel, shape)
    tables = np.array([_constants(kernel._moved(name, node), shape) for node in nodes])
    moving = (here > 0) & np.any(tables != here, axis=0)
    slopes = np.tensordot(np.array(weights), tables / np.where(here > 0, here, 1), 1)
    return np.where(moving, slopes, 0).astype(np.float64)


def _constants(kernel: Any, shape: tuple[int, int, int]) -> NDArray[np.longdouble]:
    plan = kernel.network.plan(shape)
    steps = [*plan.steps[["gain", "bias"]].tolist(), (plan.weight_h.max(), plan.bias)]
    head = [(layer.w, layer.e, layer.x, layer.y) for layer in kernel.network.head_layers()]
    return np.array([*itertools.chain(*steps, *head)], np.longdouble)


# ---- rates ---------------------------------------------------------------------------------------


class Rates(NamedTuple):
    """Logarithmic derivatives of NNGP and NTK that are the same of all pairs; None: it is 0."""

    s: float | None
    t: float | None

    def activated(self, one: Activation) -> Rates:
        """Return those behind an activation."""
        if not self.s:  # it sees nothing move
            return self if one.degree != 0 else Rates(self.s, None)
        if one.degree is None:
            raise _UnevenError
        t = None if one.degree == 0 else _scaled(self.t, (one.degree - 1) * self.s)
        return Rates(one.degree * self.s, t)

    def layer(self, constants: Doubles, rates: Doubles) -> Rates:
        """Return those behind a layer, its NTK w T + x S + y and its NNGP w S + e."""
        (w, e, x, y), (of_w, of_e, of_x, of_y) = constants, rates.tolist()
        bias, own = (of_e if e else None), (of_y if y else None)
        grown = _scaled(self.s, of_x) if x else None
        kept = [_scaled(one, of_w) if w else None for one in self]
        return Rates(_common(kept[0], bias), _common(kept[1], grown, own))

    def joined(self, other: Rates) -> Rates:
        """Return those of a sum."""
        return Rates(_common(self.s, other.s), _common(self.t, other.t))

    def multiplied(self, other: Rates) -> Rates:
        """Return those of a product."""
        t = _common(_scaled(self.t, other.s), _scaled(other.t, self.s))
        return Rates(_scaled(self.s, other.s), t)


class _UnevenError(Exception):
    """Terms of a sum move by different shares."""


def _common(*rates: float | None) -> float | None:
    """Return the rate of all terms of a sum."""
    known = [rate for rate in rates if rate is not None]
    if known and max(known) - min(known) > SAME * max(map(abs, known)):
        raise _UnevenError
    return known[0] if known else None


def _scaled(rate: float | None, other: float | None) -> float | None:
    """Return the rate of a product."""
    return None if rate is None or other is None else rate + other


@lru_cache(maxsize=256)
def rate_of(kernel: Any, name: str, shape: tuple[int, int, int]) -> float | None:
    """Return the logarithmic derivative by a parameter that is the same of all pairs, if it is.

    Not with a kink behind the read-out, whose values lose digits at close images that walks keep.
    """
    behind = (layer.activation for layer in kernel.network.head_layers())
    if kernel._has_slopes() and any(one != IDENTITY and one.degree is not None for one in behind):
        return None
    try:
        rates = _rates(kernel, steps_of(kernel, name, shape), shape)
    except _UnevenError:
        return None
    found = rates.s if kernel.kind == "nngp" else rates.t
    return found or 0.0


def _rates(kernel: Any, steps: Doubles, shape: tuple[int, int, int]) -> Rates:
    plan, layers = kernel.network.plan(shape), kernel.network.head_layers()
    at = geometry_of(plan, kernel.network.activations())
    count = 2 * len(plan.steps) + 2
    pairs, head = steps[:count].reshape(-1, 2), iter(steps[count:].reshape(-1, 4))

    def windows(before: Rates, k: int, gain: float, bias: float, trained: float) -> Rates:
        constants = np.array([gain, bias, trained * gain, trained * bias])
        return before.layer(constants, np.tile(pairs[k], 2))

    states = [Rates(0.0, None)]
    for k, operation in enumerate(at.operations):
        now, step = states[-1], plan.steps[k]
        if operation == CONV:
            now = windows(now, k, step["gain"], step["bias"], step["trained"])
        elif operation in (RELU, ACTIVATE):
            now = now.activated(at.activations[k])
        elif operation == NORMALIZE:
            now = Rates(0.0, _scaled(now.t, -(now.s or 0.0)))
        elif operation == SWAP:
            now = states[at.saved(k)]
        elif operation == ADD:
            now = now.joined(states[at.saved(k)])
        elif operation == MULTIPLY:
            now = now.multiplied(states[at.saved(k)])
        states.append(now)
    read = windows(states[-1], -1, 1.0, plan.bias, plan.trained)
    return carry(
        layers,
        read,
        lambda layer, state: state.activated(layer.activation),
        lambda layer, state: state.layer(_of(layer), next(head)),
        Rates.joined,
        Rates.multiplied,
    )


def _of(layer: Layer) -> Doubles:
    return np.array([layer.w, layer.e, layer.x, layer.y])
