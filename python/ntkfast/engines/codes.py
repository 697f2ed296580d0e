"""Codes, records and limits that the engines know; the other end of csrc/formulas/codes.hpp.

A test holds both ends together. Records are structured dtypes: C++ and Numba read their fields by
the same names.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np

SLOTS = 4  # states of a network that are saved at once
RATES = 2  # numbers of a data row per layer that derivatives take,
MOVES = 8  # and per layer and direction,
DIRECTIONS = 8  # of which this many are done at once
PIECES = 8  # of a profile, on either side of the right angle
MIDDLE_BYTES = 128  # of a row of its middle table
MIDDLE_DENSITY = 0.546875  # pieces in a unit of the cosine, over the columns of that table
SECTOR_UNIT = 64  # numbers of a row that a table of sectors has together: whole vectors of any kind

# Pairs are recomputed from their differences where (1 - abs(cos))/2 is below these: of layer maps,
# which amplify small angles, and of radial kernels of directions. A profile brings its own limits.
REFINE_LAYERS = 0.02
REFINE_SPHERE = 0.005
# And where the squared distance of two inputs is below this share of their squared norms.
REFINE_DISTANCE = 0.02
# Gradients take the tangents of closer pairs from their differences: less than REFINE_DISTANCE.
NEAR_TANGENT = 0.01


class NeuronKind(IntEnum):
    """What a random neuron does with its product: see `ntkfast.engines.maps.NeuronMap`."""

    RELU = 0
    STEP = 1
    TABLE = 2


class Kept(IntEnum):
    """What a Gram matrix is rounded to: itself, float32, float16 or bfloat16."""

    ALL = 0
    SINGLE = 1
    HALF = 2
    BRAIN = 3


class Answer(IntEnum):
    """What a structured neuron does with its product."""

    PRODUCT = 0
    RELU = 1
    STEP = 2


class ActivationKind(IntEnum):
    """Activations with a formula of their own, and those given by Hermite coefficients."""

    IDENTITY = 0
    RELU = 1
    STEP = 2
    ERF = 3
    GELU = 4
    SINE = 5
    EXP = 6
    GAUSSIAN = 7
    HERMITE = 8
    DROPOUT = 9


class ImageOperation(IntEnum):
    """Steps of a convolutional network."""

    CONV = 0
    RELU = 1
    POOL = 2
    SAVE = 3
    ADD = 4
    SWAP = 5
    ACTIVATE = 6
    NORMALIZE = 7
    MULTIPLY = 8


# One layer: its activation, slots it saves to before and adds after (or -1), parameters, the affine
# step, place and number of its Hermite coefficients.
LAYER_ROW = np.dtype(
    [
        ("kind", np.int32),
        ("save", np.int32),
        ("add", np.int32),
        ("times", np.int32),
        ("parameter", np.float64, 3),
        ("w", np.float64),
        ("e", np.float64),
        ("x", np.float64),
        ("y", np.float64),
        ("offset", np.int64),
        ("count", np.int64),
    ],
    align=True,
)

# One step on images: the slot of a branch; rows and columns of windows, how far they are apart, and
# how far before the image the first one begins; an activation; whether all pixels are normalised
# alike.
IMAGE_STEP = np.dtype(
    [
        ("operation", np.int32),
        ("slot", np.int32),
        ("window", np.int32, 2),
        ("stride", np.int32, 2),
        ("before", np.int32, 2),
        ("kind", np.int32),
        ("whole", np.bool_),
        ("parameter", np.float64, 3),
        ("gain", np.float64),
        ("bias", np.float64),
        ("trained", np.float64),
    ],
    align=True,
)

# Images before a step or after the last: pixels, the largest displacements of pairs of pixels that
# the read-out needs, and those that variances after a pool need, or -1, in units of the scale.
LEVEL = ("height", "width", "reach_h", "reach_w", "own_h", "own_w", "scale_h", "scale_w")
IMAGE_LEVEL = np.dtype([(name, np.int64) for name in LEVEL])
