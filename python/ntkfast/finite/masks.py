"""Random numbers of single inputs in a finite network, as dropout has: the inputs choose them."""

from __future__ import annotations

from functools import cached_property
from hashlib import blake2b
from itertools import count

import numpy as np

from ntkfast.finite.windows import Pixels


class Masks:
    """Numbers drawn for inputs, which these choose: an input has the same, wherever it stands."""

    def __init__(self, seed: int, inputs: Pixels) -> None:
        self.seed, self.inputs, self.layers = seed, inputs, count()

    @cached_property
    def keys(self) -> list[int]:
        """A number of each input, the same in both precisions."""
        with np.errstate(over="ignore"):
            rows = self.inputs.astype(np.float32) + np.float32(0)  # no -0
        digests = (blake2b(row.tobytes(), digest_size=16).digest() for row in rows)
        return [int.from_bytes(digest, "little") for digest in digests]

    def __call__(self, rate: float, z: Pixels) -> Pixels:
        """Return what neurons are multiplied by in the next layer with dropout."""
        draws = np.array([one.random(z.shape[1:]) for one in self._generators()])
        return np.where(draws < rate, 0, 1 / (1 - rate)).astype(z.dtype)

    def normal(self, count: int) -> Pixels:
        """Return standard normal numbers of each input for the next layer."""
        draws = np.array([one.standard_normal(count) for one in self._generators()])
        return draws.astype(self.inputs.dtype)

    def _generators(self) -> list[np.random.Generator]:
        layer = next(self.layers)
        return [np.random.default_rng((self.seed, layer, key)) for key in self.keys]
