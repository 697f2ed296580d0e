"""Kernels of sequences: the NTK and NNGP of recurrent networks."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ntkfast import places
from ntkfast.arrays import checks, layout, ragged
from ntkfast.arrays.collections import Collection, FloatArray
from ntkfast.arrays.ragged import Sequences
from ntkfast.engines import Run
from ntkfast.engines.maps import SequenceMap, SequenceSide
from ntkfast.kernels.each_pair import EachPair
from ntkfast.kernels.recurrence import Recursion, prepare

if TYPE_CHECKING:
    from ntkfast.kernels.sequence_slopes import Sides


class PlansSequences(Recursion, Protocol):
    """A recurrent network that says what an engine must know of it."""

    @property
    def channels(self) -> str | None:
        """Which axis of a sequence counts channels: the "first" or "last"; None: it did not say."""

    def plan(self, kind: str, channels: int) -> SequenceMap:
        """Return the constants of the NTK or NNGP."""


class RecurrentKernel(EachPair):
    """The NTK or NNGP of a recurrent network (`Recurrent.ntk`, `Recurrent.nngp`).

    Attributes
    ----------
    network : Recurrent
    kind : {"ntk", "nngp"}
    """

    network: PlansSequences

    def check_shapes(self, X: tuple[int, ...], Y: tuple[int, ...] | None = None) -> None:
        """Raise an error naming the array that holds no sequences, or of other channels than X."""
        X = layout.shape_last(X, self.network.channels, 3)
        ragged.check_shape("X", X)
        if Y is not None:
            ragged.check_shape("Y", layout.shape_last(Y, self.network.channels, 3), X[2:])

    def collect(self, X: ArrayLike) -> Sequences:
        """Validate sequences once, for many calls; see `ntkfast.sequences`."""
        return ragged.checked("X", self._channels_last("X", X))

    def _channels_last(self, name: str, X: Any) -> Any:
        return ragged.channels_last(name, X, self.network.channels)

    def _inputs(self, place: places.Place, X: Any, Y: Any) -> tuple[Collection, Collection | None]:
        X = self._channels_last("X", X)
        Y = None if Y is None else self._channels_last("Y", Y)
        sides = [
            replace(self._prepared(name, found), memory=memory)
            for name, (found, memory) in zip("XY", place.sequences(X, Y), strict=False)
        ]
        return sides[0], sides[1] if Y is not None else None

    def _prepared(self, name: str, X: Sequences) -> SequenceSide:
        side = prepare(self.network, _plan(self, X.channels), X)
        if not side.diagonal.max() <= np.finfo(X.dtype).max:
            worst = int(side.layout[2, int(np.argmax(side.diagonal))])
            raise ValueError(
                f"{name}: the kernel of sequence {worst} overflows {X.dtype}; scale the sequences "
                "or the weights down"
            )
        return side

    def _values(self, X: Collection) -> FloatArray:
        side = cast(SequenceSide, X)
        values = np.empty(len(side), side.dtype)
        values[side.layout[2]] = side.diagonal
        return values

    def _gram(self, X: Collection, Y: Collection | None, out: FloatArray, run: Run) -> None:
        left, right = cast(SequenceSide, X), cast("SequenceSide | None", Y)
        run.engine.sequences(_plan(self, left.channels), left, right, out, run.threads)

    # ---- derivatives -----------------------------------------------------------------------------

    def _movable(self, X: Any, Y: Any) -> tuple[int, int]:
        n, steps, channels = X.source.shape
        return n, steps * channels

    def _alone(self, X: Any) -> Sides:
        from ntkfast.kernels.sequence_slopes import Sides, side_of  # rarely needed

        turns = (False, True) if self.network.direction == "bidirectional" else (False,)
        return Sides(tuple(side_of(self.network, X.source, turn) for turn in turns))

    def _has_slopes(self) -> bool:
        return bool(self.network.activation.has_slopes)

    def _by_constants(
        self, X: Any, Y: Any, own: NDArray[np.bool_], V: NDArray[np.float64] | None
    ) -> NDArray[np.float64]:
        from ntkfast.kernels.sequence_slopes import Walk

        plan = _plan(self, X.sides[0].inputs.shape[2])
        found = sum(
            Walk(self.network, plan, x, y, own, counts=True).by_steps
            for x, y in zip(X.sides, Y.sides, strict=True)
        )
        return np.asarray(found if V is None else np.einsum("ij,pij->pi", V, found))

    def _constant_steps(self, name: str, X: Any) -> NDArray[np.float64]:
        from ntkfast.kernels.sequence_slopes import STEPS

        value = self.parameters()[name]
        return np.where([name == step for step in STEPS], 2 / value if value else 0.0, 0.0)

    def _pair_bytes(self, X: Any) -> int:
        return 128 * int(X.source.shape[1]) * self.network.depth

    def _each_gradient(self, X: Any, Y: Any, own: NDArray[np.bool_]) -> NDArray[np.float64]:
        from ntkfast.kernels.sequence_slopes import Walk

        steps, _, channels = X.sides[0].inputs.shape
        plan, found = _plan(self, channels), np.zeros((*own.shape, steps, channels))
        for x, y, turn in zip(X.sides, Y.sides, (-1, 1), strict=False):
            each = Walk(self.network, plan, x, y, own).gradients()
            for i, length in enumerate(x.lengths):  # whose steps are numbered from the end
                found[i, :, :length] += each[i, :, :length][:, ::turn]
        return found.reshape(*own.shape, -1)

    def _like(self, X: Any, gradient: FloatArray) -> Any:
        source = ragged.checked("X", self._channels_last("X", X))
        inside = np.arange(source.shape[1]) < source.lengths[:, None]
        values = gradient.reshape(source.shape)[inside]
        first = np.cumsum(source.lengths) - source.lengths
        found = Sequences(values, first, source.lengths)
        if isinstance(X, Sequences):
            return found
        turned = self.network.channels == "first"
        if isinstance(X, (list, tuple)):
            shapes = [np.shape(one) for one in X]
            return [
                part[:, 0] if len(shape) == 1 else part.T if turned else part
                for part, shape in zip(found, shapes, strict=True)
            ]
        if turned and np.ndim(X) == 3:
            return gradient.reshape(source.shape).swapaxes(1, 2)
        return gradient.reshape(np.shape(X))

    def _steps(self, name: str, value: Any, side: Any, columns: int) -> FloatArray:
        given, source = ragged.checked(name, self._channels_last(name, value)), side.source
        if (*given.lengths, given.channels) != (*source.lengths, source.channels):
            raise ValueError(f"{name}: expected sequences like {source!r}, got {given!r}")
        matrix = np.zeros((*source.shape[:2], source.channels))
        for row, steps in zip(matrix, given, strict=True):
            row[: len(steps)] = steps
        return checks.narrowed(name, matrix.reshape(len(matrix), -1), side.dtype)


@lru_cache(maxsize=256)
def _plan(kernel: RecurrentKernel, channels: int) -> SequenceMap:
    return kernel.network.plan(kernel.kind, channels)
