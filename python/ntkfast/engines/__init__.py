"""The engines that evaluate maps on pairs of inputs, their choice, and the number of threads.

An engine has the functions of `Engine`. ``native`` is the C++ extension, ``numba`` mirrors it for
installations without one, ``cuda`` computes on a CUDA device. The choice is made once per call; an
engine that is asked for by name and cannot run is an error, never replaced silently.
"""

from __future__ import annotations

from ntkfast.engines.compiled import Engine
from ntkfast.engines.interface import NAMES, Run, both, gram, load, rounded, select
from ntkfast.engines.norms import (
    measured_norms,
    measured_rows,
    norm_powers,
    reference_row_norms,
    row_norms,
)
from ntkfast.engines.threads import count, get_num_threads, set_num_threads, threadpool_limits

__all__ = [
    "NAMES",
    "Engine",
    "Run",
    "both",
    "count",
    "get_num_threads",
    "gram",
    "load",
    "measured_norms",
    "measured_rows",
    "norm_powers",
    "reference_row_norms",
    "rounded",
    "row_norms",
    "select",
    "set_num_threads",
    "threadpool_limits",
]
