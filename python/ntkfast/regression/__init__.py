"""From a kernel to an answer: regression, classification, Gaussian processes, training dynamics."""

from __future__ import annotations

from ntkfast.regression.solution import History, Solution, SolverWarning
from ntkfast.regression.solver import solve
from ntkfast.regression.stopping import Step

__all__ = ["History", "Solution", "SolverWarning", "Step", "solve"]


def __dir__() -> list[str]:
    """Return the public names."""
    return __all__
