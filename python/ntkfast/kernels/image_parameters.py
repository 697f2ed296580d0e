"""Which constants of convolutional networks a parameter moves, and how.

These are the gains and biases of convolutions and of the read-out, and the constants of dense
layers behind it.
"""

from __future__ import annotations

import itertools
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ntkfast.kernels.moving import REACH, stencil

Doubles = NDArray[np.float64]


@lru_cache(maxsize=256)
def steps_of(kernel: Any, name: str, shape: tuple[int, int, int]) -> Doubles:
    """Return the logarithmic derivatives of all constants by a parameter, in one row.

    Gain and bias of each step and of the read-out, then those of the dense layers.
    """
    nodes, weights = stencil(kernel.parameters()[name], REACH)
    here = _constants(kernel, shape)
    tables = [_constants(kernel._moved(name, node), shape) for node in nodes]
    safe = np.where(here > 0, here, 1)
    slopes = sum(w * (table / safe) for w, table in zip(weights, tables, strict=True))
    return np.where(here > 0, slopes, 0).astype(np.float64)


def _constants(kernel: Any, shape: tuple[int, int, int]) -> NDArray[np.longdouble]:
    plan = kernel.network.plan(shape)
    steps = [*plan.steps[["gain", "bias"]].tolist(), (plan.weight_h.max(), plan.bias)]
    head = [(layer.w, layer.e, layer.x, layer.y) for layer in kernel.network.head_layers()]
    return np.array([*itertools.chain(*steps, *head)], np.longdouble)
