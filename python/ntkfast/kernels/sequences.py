"""Kernels of sequences: the NTK and NNGP of recurrent networks."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import ArrayLike

from ntkfast import places
from ntkfast.arrays import layout, ragged
from ntkfast.arrays.collections import Collection, FloatArray
from ntkfast.arrays.ragged import Sequences
from ntkfast.engines import Run
from ntkfast.engines.maps import SequenceMap, SequenceSide
from ntkfast.kernels.base import KernelOfNetwork
from ntkfast.kernels.recurrence import Recursion, prepare


class PlansSequences(Recursion, Protocol):
    """A recurrent network that says what an engine must know of it."""

    @property
    def channels(self) -> str | None:
        """Which axis of a sequence counts channels: the "first" or "last"; None: it did not say."""

    def plan(self, kind: str, channels: int) -> SequenceMap:
        """Return the constants of the NTK or NNGP."""


class RecurrentKernel(KernelOfNetwork):
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


@lru_cache(maxsize=256)
def _plan(kernel: RecurrentKernel, channels: int) -> SequenceMap:
    return kernel.network.plan(kernel.kind, channels)
