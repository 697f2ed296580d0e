"""What an engine needs of each sequence by itself: variances at all steps, and their shares."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from ntkfast.duals import Activation
from ntkfast.maps import FloatArray, SequenceSide
from ntkfast.ragged import Sequences

if TYPE_CHECKING:
    from ntkfast.recurrent import Recurrent

Values = NDArray[np.float64]


def prepare(network: Recurrent, kind: str, X: Sequences) -> SequenceSide:
    """Return the numbers of sequences (see csrc/maps.hpp), sorted by length."""
    order = np.argsort(X.lengths, kind="stable")
    lengths = X.lengths[order]
    first = np.cumsum(lengths) - lengths
    # Steps are numbered from the end, where pairs are aligned.
    step = np.arange(int(lengths.sum())) - np.repeat(first, lengths)
    start, stop = np.repeat(X.first[order], lengths), np.repeat(lengths, lengths)
    places = [start + stop - 1 - step]
    if network.direction == "bidirectional":
        places.append(start + step)
    sides = [Direction(network, X.values[place], first, lengths) for place in places]
    diagonal = sum(side.diagonal(kind) for side in sides)
    return SequenceSide(
        numbers=tuple(side.numbers(X.dtype) for side in sides),
        layout=np.stack([first, lengths, order]).astype(np.int64),
        diagonal=np.asarray(diagonal, np.float64).astype(X.dtype),
        memory=X.values,
        channels=X.channels,
    )


class Direction:
    """Variances and tangent kernels of sequences with themselves, in one direction.

    All arrays hold the steps of one sequence after the other, each from its end backwards.
    """

    def __init__(
        self,
        network: Recurrent,
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

    def _weights(self) -> Values:
        """Weights of the squared read-out, step by step."""
        last, readout = self.first, self.network.readout
        weights = np.full(len(self.inputs), 0.0 if readout == "last" else 1.0)
        weights[last] = 2.0 if readout == "average_released" else 1.0
        if readout.startswith("average"):
            weights /= np.repeat(self.lengths, self.lengths)
        return self.network.v_std**2 * weights

    def diagonal(self, kind: str) -> Values:
        """Kernel of each sequence with itself."""
        steps = self.v[-1] + (self.slope if kind == "ntk" else 0)
        weights = self._weights()
        with np.errstate(over="ignore", invalid="ignore"):
            return np.asarray(
                np.add.reduceat(np.where(weights > 0, weights * steps, 0), self.first)
            )

    @np.errstate(divide="ignore", over="ignore", invalid="ignore")  # the diagonal tells of overflow
    def numbers(self, dtype: np.dtype[Any]) -> FloatArray:
        """Return the numbers that pairs multiply, (steps, fields)."""
        network, channels = self.network, self.inputs.shape[1]
        parts: list[Values] = []
        for layer in range(network.depth):
            q = self.q[layer]
            inverse = np.where(q > 0, 1 / np.sqrt(q), 0)
            parts += [np.sqrt(self.past[layer]) * inverse, network.b_std * inverse]
            if layer == 0:
                scaled = (network.u_std * channels**-0.5 * inverse)[:, None] * self.inputs
                parts += list(scaled.T)
            else:
                parts.append(network.u_std * np.sqrt(self.v[layer - 1]) * inverse)
            parts += _asked(self.activation, q, self.v[layer])
        parts.append(np.sqrt(self._weights() * self.v[-1]))
        return np.stack(parts, axis=1).astype(dtype)


def _asked(activation: Activation, q: Values, after: Values) -> list[Values]:
    """Return the numbers that an activation multiplies; as csrc/row_stats.hpp, for many inputs."""
    kind, (a, b, *_) = activation.code[0], (*activation.code[1], 0.0, 0.0)
    inverse = np.where(after > 0, 1 / np.sqrt(after), 0)
    z = 2 * abs(b * b if kind == 3 else b) * q
    if kind == 3:  # erf
        return [np.sqrt(z / (1 + z)), inverse, 1 / (1 + z)]
    if kind == 4:  # GELU
        return [np.sqrt(q / (1 + q)), 1 / np.sqrt(1 + q), np.sqrt(q), inverse, 1 / (1 + q)]
    if kind == 5:  # sine
        return [np.sqrt(q), inverse]
    if kind == 6:  # exponential
        return [np.sqrt(q)]
    if kind == 7:  # Gaussian
        return [np.sqrt(z / (1 + z)), abs(a) / np.sqrt(1 + z) * inverse, 1 / (1 + z)]
    return []
