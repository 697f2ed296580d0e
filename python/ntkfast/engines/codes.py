"""Codes and limits that Python and the compiled code of all engines agree on; see csrc/maps.hpp."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import numpy as np

PIECES = 8  # of a profile on either side of u = 0
SLOTS = 4  # where the state of a pair is kept for skip connections

# Pairs are recomputed from their differences where (1 - abs(cos))/2 is below these: of kernels with
# a kink at equal directions, of radial kernels of directions, and of smooth ones, where only equal
# rows must come out equal.
REFINE_KINK = 0.02
REFINE_SPHERE = 0.005
REFINE_SMOOTH: dict[np.dtype[Any], float] = {
    np.dtype(np.float32): 2e-6,
    np.dtype(np.float64): 1e-13,
}
# And where the squared distance of two inputs is below this share of their squared norms.
REFINE_DISTANCE = 0.02


class ActivationKind(IntEnum):
    """Activations with a dual in compiled code."""

    IDENTITY = 0
    RELU = 1
    STEP = 2
    ERF = 3
    GELU = 4
    SINE = 5
    EXP = 6
    GAUSSIAN = 7
    HERMITE = 8


class ImageOperation(IntEnum):
    """Steps of a convolutional network."""

    CONV = 0
    RELU = 1
    POOL = 2
    SAVE = 3
    ADD = 4


class NeuronKind(IntEnum):
    """What the neurons of random features answer."""

    RELU = 0
    STEP = 1
    TABLE = 2


class Answer(IntEnum):
    """What structured neurons answer."""

    PRODUCT = 0
    RELU = 1
    STEP = 2
