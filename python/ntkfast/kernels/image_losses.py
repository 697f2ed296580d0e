"""How much of a gradient is lost where cosines are differences and meet a kink.

The derivative of a kink at an angle t is known to 64 eps / t^2 there, eps that of the numbers that
are walked: pairs that lose more are walked again in numbers of more digits. What that is of a
gradient depends on how much of it comes by such pixels: what turns them by an angle moves what they
see by as much, in units of its size. Behind a jump small angles are roots of smaller ones, and turn
by more than they are.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from functools import cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ntkfast.kernels.close_pairs import Doubles, inverse
from ntkfast.kernels.image_pairs import Pair
from ntkfast.kernels.image_planes import ADD, CONV, MULTIPLY, POOL, SWAP, Geometry, Shift

Kink: TypeAlias = Callable[[Doubles], tuple[Doubles, Doubles]]
NOTICED = 1e11  # times the rounding of v, from where nothing is counted: 5e-12 of a derivative
TURNS = 4.0  # by how much more than what they see pixels may turn
EQUAL = 1e-14  # what images differ by that are multiples of each other


class Losses:
    """Sums over the pixels of pairs of images, for each step with a kink behind differences.

    Attributes
    ----------
    lost : dict of (n,) arrays
        Of steps: the derivative by angles that is not known.
    """

    def __init__(self, at: Geometry, x: Doubles, y: Doubles) -> None:
        self.at, self.x, self.y = at, x, y
        self.inverse = [
            inverse(np.sqrt((one**2).sum(axis=(1, 2, 3), keepdims=True))) for one in (x, y)
        ]
        self.lost: dict[int, Any] = defaultdict(float)
        self._apart = cache(self._differ)

    def add(
        self, k: int, d: Shift, pair: Pair, least: float, kink: Kink, *, exact: bool = False
    ) -> None:
        """Count a plane before step k.

        Parameters
        ----------
        pair
            Before the step, in float64.
        least : float
            What v counts as parallel below.
        kink : callable
            From v of the pairs to the derivative by their cosines, where it has a pole, and to how
            that changes with v where it has none.
        exact : bool
            Whether what counts as parallel is: no number has more digits.
        """
        near = pair.v < NOTICED * least
        if exact:
            near &= pair.v >= least
        if near.any():
            near &= self._apart(k, d)
        if near.any():
            v = np.maximum(pair.v, least)
            pole, bend = kink(v)
            turned = pole + bend * v if self.at.jumps else pole * np.sqrt(2 * v)
            lost = np.minimum(1, least / (2 * v)) * turned
            self.lost[k] += np.where(near, lost, 0).sum(axis=(1, 2))

    def _differ(self, k: int, d: Shift) -> NDArray[np.bool_]:
        """Return whether what both pixels before step k see is different."""
        at, before = self.at, k - 1
        if k == 0:
            x, y = at.left(self.x, 0, d), at.right(self.y, 0, d)
            return np.asarray(((x != y) & self._turned(x, y)).any(axis=1))
        operation = at.operations[before]
        if operation == CONV:
            return np.asarray(at.window(self._apart(before, d).astype(float), before, d) > 0)
        if operation == POOL:
            found = np.zeros((len(self.x), *at.shape(k, d)), bool)
            for aligned, rows, columns in at.aligned(before, d):
                found |= rows @ self._apart(before, aligned).astype(float) @ columns.T > 0
            return found
        if operation in (ADD, MULTIPLY):
            return np.asarray(self._apart(before, d) | self._apart(at.saved(before), d))
        return self._apart(at.saved(before) if operation == SWAP else before, d)

    def _turned(self, x: Doubles, y: Doubles) -> NDArray[np.bool_]:
        """Return whether pixels are not those of images that are multiples of each other."""
        one, other = x * self.inverse[0], y * self.inverse[1]
        least = np.minimum(np.abs(one - other), np.abs(one + other))
        return np.asarray(least > EQUAL)

    def sizes(self) -> Doubles:
        """Return how much of the gradients of pairs is lost, at the step where that is most."""
        parts = [np.zeros(len(self.x))]
        for k, lost in self.lost.items():
            parts.append(TURNS * self.at.spread(k) * self.inverse[0].ravel() * lost)
        return np.asarray(np.max(parts, axis=0))
