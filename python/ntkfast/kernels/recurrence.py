"""What an engine needs of each sequence by itself: variances at all steps, and their shares."""

from __future__ import annotations

from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from ntkfast import engines
from ntkfast.activations.base import Activation
from ntkfast.activations.pairs import root_share
from ntkfast.arrays.collections import FloatArray
from ntkfast.arrays.ragged import Sequences
from ntkfast.engines import native
from ntkfast.engines.maps import SequenceMap, SequenceSide

Values = NDArray[np.float64]


class Recursion(Protocol):
    """The constants of a recurrent network (`ntkfast.Recurrent`)."""

    depth: int
    w_std: float
    u_std: float
    b_std: float
    h_std: float
    v_std: float
    activation: Any
    direction: str
    fixed_layers: int


def prepare(network: Recursion, plan: SequenceMap, X: Sequences) -> SequenceSide:
    """Return the numbers of sequences (see csrc/formulas/problems.hpp), sorted by length."""
    order = np.argsort(X.lengths, kind="stable")
    lengths = X.lengths[order]
    layout = np.array([X.first[order], np.cumsum(lengths) - lengths, lengths])
    run = compiled if not native.unavailable() else reference
    turns = (False, True) if network.direction == "bidirectional" else (False,)
    sides = [run(network, plan, X.values, layout, reverse) for reverse in turns]
    diagonal = sum(own for _, own in sides)
    with np.errstate(over="ignore"):
        return SequenceSide(
            numbers=tuple(numbers for numbers, _ in sides),
            layout=np.array([layout[1], lengths, order], np.int64),
            diagonal=np.asarray(diagonal, np.float64).astype(X.dtype),
            memory=X.values,
            channels=X.channels,
            source=X,
        )


def compiled(
    network: Recursion,
    plan: SequenceMap,
    values: FloatArray,
    layout: NDArray[np.int64],
    reverse: bool,
) -> tuple[FloatArray, Values]:
    """Return the numbers of all steps, and the kernels of sequences with themselves, by C++.

    Whatever the engine of the pairs: this is a small part of the work, and both agree to rounding.
    """
    squares = [getattr(network, f"{name}_std") ** 2 for name in "wubhv"]
    return native.sequence_numbers(plan, squares, values, layout, reverse, engines.count(None))


def reference(
    network: Recursion,
    plan: SequenceMap,
    values: FloatArray,
    layout: NDArray[np.int64],
    reverse: bool,
) -> tuple[FloatArray, Values]:
    """Return the same in NumPy."""
    start, first, lengths = layout
    # Steps are numbered from the end, where pairs are aligned.
    step = np.arange(int(lengths.sum())) - np.repeat(first, lengths)
    begin, stop = np.repeat(start, lengths), np.repeat(lengths, lengths)
    place = begin + step if reverse else begin + stop - 1 - step
    side = Direction(network, values[place], first, lengths)
    weights = side.weights(plan)
    return side.numbers(weights, values.dtype), side.diagonal(weights, plan.nngp)


class Direction:
    """Variances and tangent kernels of sequences with themselves, in one direction.

    All arrays hold the steps of one sequence after the other, each from its end backwards.
    """

    def __init__(
        self,
        network: Recursion,
        inputs: FloatArray,
        first: NDArray[np.int64],
        lengths: NDArray[np.int64],
    ) -> None:
        self.network, self.inputs = network, inputs
        self.first, self.lengths = first, lengths
        self.activation = cast(Activation, network.activation)
        depth, total = network.depth, len(inputs)
        size = inputs.astype(np.float64)
        # variances before the activation, their parts from the step before, and after it
        self.q, self.past, self.v = (np.empty((depth, total)) for _ in range(3))
        self.slope = np.empty(total)  # V'(q) times the tangent kernel, of the last layer
        below = network.u_std**2 / inputs.shape[1] * np.einsum("ij,ij->i", size, size)
        with np.errstate(over="ignore", invalid="ignore"):
            self._walk(below)

    def _walk(self, below: Values) -> None:
        """Run the recursion forward in time, for all sequences that have begun."""
        network, activation = self.network, self.activation
        w2, u2, b2 = network.w_std**2, network.u_std**2, network.b_std**2
        depth, count = network.depth, len(self.lengths)
        past = np.full((depth, count), w2 * network.h_std**2)
        carried = np.zeros((depth, count))
        ends = self.first + self.lengths - 1
        for t in range(int(self.lengths[-1])):
            live = int(np.searchsorted(self.lengths, t, side="right"))
            at = ends[live:] - t
            under, under_t = below[at], np.zeros(count - live)
            for layer in range(depth):
                own = past[layer, live:]
                q = own + under + b2
                theta = (
                    carried[layer, live:] + under_t + (q if layer >= network.fixed_layers else 0)
                )
                v = np.asarray(activation.variance(q), np.float64)
                slope = np.zeros_like(q)
                if theta.any():
                    slope = np.where(theta == 0, 0, activation.derivative_variance(q) * theta)
                self.q[layer, at], self.past[layer, at], self.v[layer, at] = q, own, v
                past[layer, live:], carried[layer, live:] = w2 * v, w2 * slope
                under, under_t = u2 * v, u2 * slope
            self.slope[at] = slope

    def weights(self, plan: SequenceMap) -> Values:
        """Weights of the squared read-out, step by step."""
        weights = np.full(len(self.inputs), plan.weights[0])
        weights[self.first] = plan.weights[1]
        if plan.mean:
            weights /= np.repeat(self.lengths, self.lengths)
        return self.network.v_std**2 * weights

    def diagonal(self, weights: Values, nngp: bool) -> Values:
        """Kernel of each sequence with itself."""
        steps = self.v[-1] + (0 if nngp else self.slope)
        with np.errstate(over="ignore", invalid="ignore"):
            return np.asarray(
                np.add.reduceat(np.where(weights > 0, weights * steps, 0), self.first)
            )

    @np.errstate(divide="ignore", over="ignore", invalid="ignore")  # the diagonal tells of overflow
    def numbers(self, weights: Values, dtype: np.dtype[Any]) -> FloatArray:
        """Return the numbers that pairs multiply, (steps, fields)."""
        network, channels = self.network, self.inputs.shape[1]
        parts: list[FloatArray] = []
        for layer in range(network.depth):
            q = self.q[layer]
            inverse = np.where(q > 0, 1 / np.sqrt(q), 0)
            bias = np.where(q > 0, network.b_std * inverse, 1)  # see sequence_numbers.hpp
            parts += [np.sqrt(self.past[layer]) * inverse, bias]
            if layer == 0:
                scaled = (network.u_std * channels**-0.5 * inverse)[:, None] * self.inputs
                parts += list(scaled.T)
            else:
                parts.append(network.u_std * np.sqrt(self.v[layer - 1]) * inverse)
            slope = np.asarray(self.activation.derivative_variance(q), np.float64)
            asked = self.activation.pair_numbers(q, self.v[layer], slope)
            parts += [*asked, root_share(slope * q, self.v[layer])] if asked else []
        most = 1e37 if dtype.itemsize == 4 else 1e300  # compiled code wants no infinity
        table = np.fmin(np.stack(parts, axis=1), most)
        return np.column_stack([table, np.sqrt(weights * self.v[-1])]).astype(dtype)
