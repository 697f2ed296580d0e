"""From a kernel to an answer: regression, classification, Gaussian processes, training dynamics."""

from __future__ import annotations

from ntkfast.regression.solution import Solution
from ntkfast.regression.solver import solve

__all__ = ["Solution", "solve"]


def __dir__() -> list[str]:
    """Return the public names."""
    return __all__
