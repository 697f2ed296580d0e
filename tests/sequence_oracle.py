"""Kernels of recurrent networks by the printed recursion, pair by pair, in mpmath.

Written from Alemohammad et al. (ICLR 2021) and not from the package. Digits are those of the caller
(`mp.workdps`). A `nudge` changes one number of the recursion by a relative amount, which tells how
well conditioned a value is.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from mpmath import mp, mpf

import oracle

H = mpf(10) ** -30


class Nudge(NamedTuple):
    """A relative change of one number at one step (from the end) and layer.

    `what` is "x" or "y", and "past" or "below": the part of a sequence's variance, its direction
    kept; or "angle": that of the pair before the activation.
    """

    step: int
    layer: int
    what: str


class Pair:
    """A pair of sequences, (T, m) arrays of floats, aligned at their ends."""

    def __init__(self, net: Any, dual: oracle.Dual, x: np.ndarray, y: np.ndarray) -> None:
        self.net, self.dual = net, dual
        self.x, self.y = x, y
        scales = (net.w_std, net.u_std, net.b_std, net.h_std, net.v_std)
        self.w2, self.u2, self.b2, self.h2, self.v2 = (mpf(float(s)) ** 2 for s in scales)

    def outputs(self, same: bool, nudge: Nudge | None = None) -> list[tuple[mpf, mpf]]:
        """Return NNGP and NTK after each common step, the last one last."""
        net, dual, common = self.net, self.dual, min(len(self.x), len(self.y))
        qx, qy = self.variances(self.x, "x", nudge), self.variances(self.y, "y", nudge)
        sigma = [self.w2 * self.h2 if same else mpf(0)] * net.depth
        theta = [mpf(0)] * net.depth
        found = []
        for k in reversed(range(common)):  # steps from the end
            here = nudge if nudge and nudge.step == k else None
            below = self.u2 * product(self.x[-1 - k], self.y[-1 - k]) / self.x.shape[1]
            below_t = mpf(0)
            for layer in range(net.depth):
                at = here if here and here.layer == layer else None
                past = sigma[layer]
                if at and at.what.endswith("past"):
                    past = past * mp.sqrt(1 + H)
                if at and at.what.endswith("below"):
                    below = below * mp.sqrt(1 + H)
                c, (q, p) = past + below + self.b2, (qx[k][layer], qy[k][layer])
                if at and at.what == "angle":
                    c = turned(q, p, c)
                own = c if layer >= net.fixed_layers else mpf(0)
                tangent = own + theta[layer] + below_t
                value, slope = dual(q, p, c)
                slope = slope * tangent if tangent else mpf(0)
                sigma[layer], theta[layer] = self.w2 * value, self.w2 * slope
                below, below_t = self.u2 * value, self.u2 * slope
            found.append((self.v2 * value, self.v2 * (value + slope)))
        return found

    def variances(self, x: np.ndarray, name: str, nudge: Nudge | None) -> dict[int, list[mpf]]:
        """Return the variances of all layers, by steps from the end."""
        past = [self.w2 * self.h2] * self.net.depth
        found: dict[int, list[mpf]] = {}
        for k in reversed(range(len(x))):
            below, found[k] = self.u2 * product(x[-1 - k], x[-1 - k]) / x.shape[1], []
            for layer in range(self.net.depth):
                own = past[layer]
                if nudge and nudge == (k, layer, f"{name} past"):
                    own = own * (1 + H)
                if nudge and nudge == (k, layer, f"{name} below"):
                    below = below * (1 + H)
                q = own + below + self.b2
                found[k].append(q)
                after = self.dual(q, q, q)[0]
                past[layer], below = self.w2 * after, self.u2 * after
        return found

    def read(self, outputs: list[tuple[mpf, mpf]], kind: str) -> mpf:
        """Return what the read-out makes of the values at all steps."""
        values = [output[kind == "ntk"] for output in outputs]
        value = values[-1] if self.net.readout == "last" else mp.fsum(values)
        if self.net.readout == "average_released":
            value += values[-1]
        if self.net.readout in ("average_normalized", "average_released"):
            value /= mp.sqrt(len(self.x) * len(self.y))
        return value

    def condition(self, kind: str) -> mpf:
        """Return the sum of all changes for relative changes of one unit, one at a time."""
        value, total = self.read(self.outputs(False), kind), mpf(0)
        parts = [f"{side} {part}" for side in "xy" for part in ("past", "below")]
        for k in range(max(len(self.x), len(self.y))):
            for layer in range(self.net.depth):
                for what in (*parts, "angle"):
                    moved = self.read(self.outputs(False, Nudge(k, layer, what)), kind)
                    total += abs(moved - value) / H
        return total


def product(x: np.ndarray, y: np.ndarray) -> mpf:
    """Exact inner product of two steps."""
    x, y = ([a if isinstance(a, mpf) else mpf(float(a)) for a in row] for row in (x, y))
    return mp.fdot(x, y)


def turned(q: mpf, p: mpf, c: mpf) -> mpf:
    """Return a covariance with an error of one unit in the cosine, of small angles in the angle."""
    if q == 0 or p == 0:
        return c
    theta = mp.atan2(mp.sqrt(max(q * p - c * c, mpf(0))), c)
    turn = 1 / mp.sin(theta) if mp.sin(theta) > 0.28 else mpf(1)
    return mp.sqrt(q * p) * mp.cos(theta + H * turn * (1 if theta < mp.pi / 2 else -1))


def kernel(
    net: Any, dual: oracle.Dual, x: np.ndarray, y: np.ndarray, kind: str, same: bool = False
) -> mpf:
    """Return the NNGP or NTK of a pair; `same`: both are one, with one first state."""
    pairs = [Pair(net, dual, x[::turn], y[::turn]) for turn in turns(net)]
    return mp.fsum(pair.read(pair.outputs(same), kind) for pair in pairs)


def condition(net: Any, dual: oracle.Dual, x: np.ndarray, y: np.ndarray, kind: str) -> mpf:
    """Return the condition of a pair's value."""
    return mp.fsum(Pair(net, dual, x[::turn], y[::turn]).condition(kind) for turn in turns(net))


def turns(net: Any) -> tuple[int, ...]:
    """Return the directions in which sequences are read."""
    return (1, -1) if net.direction == "bidirectional" else (1,)
