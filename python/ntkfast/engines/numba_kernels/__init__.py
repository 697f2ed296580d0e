"""The compiled code of the Numba engine: the tile loop of the C++ engine, in Numba.

Importing this package imports Numba and compiles nothing. The tasks are compiled once per dtype and
kind of map, at the first call, and kept in Numba's cache on disk where that can be written to. The
modules are named after the headers in csrc/ that they mirror.
"""

from __future__ import annotations

from ntkfast.engines.numba_kernels.compiling import _cached, _compiled
from ntkfast.engines.numba_kernels.maps import (
    CHUNK,
    EQUAL,
    PANEL,
    ROWS,
    WIDTH,
    Array,
    LayersPlan,
    NeuronPlan,
    Problem,
    ProfilePlan,
    RadialPlan,
    Scratch,
    Side,
    Target,
)
from ntkfast.engines.numba_kernels.profile import FINE_DEGREE, FINE_STRIDE, permutes
from ntkfast.engines.numba_kernels.row_stats import activation_stats, count_stats
from ntkfast.engines.numba_kernels.sequence import (
    SequencesProblem,
    SequencesScratch,
    SequencesSide,
    sequences_task,
)
from ntkfast.engines.numba_kernels.tile import gram_task, product_task
from ntkfast.engines.numba_kernels.vectors import load, real, store

__all__ = [
    "CHUNK",
    "EQUAL",
    "FINE_DEGREE",
    "FINE_STRIDE",
    "PANEL",
    "ROWS",
    "WIDTH",
    "Array",
    "LayersPlan",
    "NeuronPlan",
    "Problem",
    "ProfilePlan",
    "RadialPlan",
    "Scratch",
    "SequencesProblem",
    "SequencesScratch",
    "SequencesSide",
    "Side",
    "Target",
    "_cached",
    "_compiled",
    "activation_stats",
    "count_stats",
    "gram_task",
    "load",
    "permutes",
    "product_task",
    "real",
    "sequences_task",
    "store",
]
