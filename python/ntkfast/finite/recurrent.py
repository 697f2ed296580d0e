"""Finite recurrent networks, on sequences of one length."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ntkfast.activations.base import Activation
from ntkfast.activations.names import resolve
from ntkfast.arrays import checks, layout, ragged
from ntkfast.arrays.collections import FloatArray
from ntkfast.finite.masks import Masks
from ntkfast.finite.network import times
from ntkfast.finite.realization import LayerWeights, Realization
from ntkfast.finite.windows import Pixels, Pull
from ntkfast.networks.recurrent import READOUTS, Recurrent


class _Layer(NamedTuple):
    """What a recurrent layer did: its numbers among those of weights, and the steps (n, T, .)."""

    number: int
    before: Pixels
    below: Pixels
    made: Pixels


@dataclass(frozen=True, eq=False, repr=False, init=False)
class RecurrentRealization(Realization, of=Recurrent):
    """One recurrent network of finite width; see `Realization` and `Recurrent`.

    Signals are images with a row for every step, and one column. Of each direction, then layer,
    there are recurrent weights and those from below, which have the biases; at the end the
    read-out, of all steps that count in all directions.
    """

    @property
    def _function(self) -> Activation:
        return resolve(self.network.activation)

    @property
    def _turns(self) -> tuple[int, ...]:
        return (1, -1) if self.network.direction == "bidirectional" else (1,)

    def _roots(self) -> FloatArray:
        """Return by what the steps are multiplied that the read-out reads: the last ones."""
        every, last, mean = READOUTS[self.network.readout]
        steps = self.shape[0]
        weights = np.array([every] * (steps - 1) + [last]) / (steps if mean else 1)
        return np.sqrt(weights[weights > 0])

    def _shape(self, network: Any, shape: Any) -> tuple[int, ...]:
        both = shape if isinstance(shape, (tuple, list)) else (shape, 1)
        if len(both) != 2 or shape is None:
            raise ValueError(f"shape: expected (steps, channels), got {shape!r}")
        return tuple(checks.count("shape", one, least=1) for one in both)

    def _found_layers(self) -> list[LayerWeights]:
        net, width, found = self.network, self.width, list[LayerWeights]()
        for _ in self._turns:
            for layer in range(net.depth):
                trained, below = layer >= net.fixed_layers, width if layer else self.shape[1]
                found.append(LayerWeights(width, width, net.w_std, 0.0, trained))
                found.append(LayerWeights(below, width, net.u_std, net.b_std, trained))
        parts = len(self._roots()) * len(self._turns)
        scale = net.v_std * np.sqrt(parts)  # weights are divided by the width, and not by all
        return [*found, LayerWeights(parts * width, self.outputs, scale, 0.0, True)]

    def check_shape(self, name: str, shape: tuple[int, ...]) -> None:
        """Raise an error if an array of this shape holds no inputs of the network."""
        steps, channels = self.shape
        known = ((steps * channels,), (steps, channels))
        found = layout.shape_last(shape, self.network.channels, 3)
        if found[1:] not in known or not found[0]:
            raise ValueError(
                f"{name}: expected sequences of {steps} steps and {channels} channels, (n, "
                f"{steps}, {channels}), got shape {shape}"
            )

    def rows(self, X: ArrayLike, name: str = "X") -> FloatArray:
        """Return inputs as a matrix, one input per row.

        Raises
        ------
        TypeError, ValueError
            If they are none.
        """
        array = checks.real_array(name, ragged.channels_last(name, X, self.network.channels))
        self.check_shape(name, np.shape(X))
        return checks.matrix(name, array.reshape(len(array), -1))

    def _recorded(self, X: ArrayLike) -> tuple[list[Pixels], list[Pixels], dict[int, Pixels], Pull]:
        inputs = self.rows(X)
        steps, draws = inputs.reshape(len(inputs), *self.shape), Masks(self.seed, inputs)
        ways = [[*self._walk(steps[:, ::turn], draws, k)] for k, turn in enumerate(self._turns)]
        roots = self._roots().astype(inputs.dtype)[:, None]
        read = [way[-1].made[:, -len(roots) :] for way in ways]
        read = [np.asarray(self._function(made), made.dtype) * roots for made in read]
        F, h, B = list[Pixels](), list[Pixels](), dict[int, Pixels]()
        for one in (one for way in ways for one in way):
            F += [one.before[:, :, None], one.below[:, :, None]]
            h += [one.made[:, :, None]] * 2
        F.append(np.stack(read, axis=1).reshape(len(inputs), 1, 1, -1))
        h.append(self._apply(self.depth, F[-1]))

        def back(derivatives: Pixels) -> Pixels:
            B[self.depth] = derivatives
            inner = self._before(self.depth, derivatives)
            shape = (*inner.shape[:2], len(ways), len(roots), self.width)
            parts = np.moveaxis(inner.reshape(shape) * roots, 2, 0)
            for way, part in zip(ways, parts, strict=True):
                self._walk_back(way, part, B)
            return derivatives

        return F, h, B, back

    def _walk(self, below: Pixels, draws: Masks, direction: int) -> Iterator[_Layer]:
        """Yield the layers of a direction, forward in time."""
        net = self.network
        for layer in range(net.depth):
            number = 2 * (direction * net.depth + layer)
            given = self._apply(number + 1, below)
            state = draws.normal(self.width) * below.dtype.type(net.h_std)
            before, made = [], []
            for step in range(below.shape[1]):
                before.append(state)
                made.append(self._apply(number, state) + given[:, step])
                state = np.asarray(self._function(made[-1]), below.dtype)
            found = _Layer(number, np.stack(before, 1), below, np.stack(made, 1))
            yield found
            below = np.stack([*before[1:], state], 1)

    def _walk_back(self, way: list[_Layer], last: Pixels, B: dict[int, Pixels]) -> None:
        """Fill in the derivatives of a direction, from those of its last steps."""
        n, outputs, count, width = last.shape
        above = np.zeros((n, outputs, self.shape[0], width), last.dtype)
        above[:, :, -count:] = last
        for one in reversed(way):
            slopes = np.asarray(self._function.derivative(one.made), last.dtype)[:, None]
            found, after = np.empty_like(above), np.zeros_like(above[:, :, 0])
            for step in reversed(range(self.shape[0])):
                found[:, :, step] = (above[:, :, step] + after) * slopes[:, :, step]
                after = self._before(one.number, found[:, :, step])
            B[one.number] = B[one.number + 1] = found[:, :, :, None]
            above = self._before(one.number + 1, found)

    def _before(self, layer: int, derivatives: Pixels) -> Pixels:
        """Return derivatives before a layer of weights."""
        weights, scale = self._weights(derivatives.dtype)[layer], self.scales(layer)[0]
        return np.asarray(times(derivatives, weights.T) * derivatives.dtype.type(scale))
