"""Codes and limits that Python and the compiled code of all engines agree on; see csrc/maps.hpp."""

from __future__ import annotations

from enum import IntEnum


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
