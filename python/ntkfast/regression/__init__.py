"""From a kernel to an answer: regression, classification, Gaussian processes, training dynamics."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ntkfast.regression.solution import History, Solution, SolverWarning
from ntkfast.regression.solver import solve
from ntkfast.regression.stopping import Step
from ntkfast.regression.training_time import max_learning_rate
from ntkfast.support.optional import require

if TYPE_CHECKING:
    from ntkfast.regression.classifier import KernelClassifier
    from ntkfast.regression.gaussian_process import GaussianProcess
    from ntkfast.regression.gradient_flow import GradientFlow
    from ntkfast.regression.loading import load
    from ntkfast.regression.ridge import KernelRidge
    from ntkfast.regression.ridge_cv import KernelRidgeCV

_ESTIMATORS = {  # in their files: they need scikit-learn, the extra of that name
    "GaussianProcess": "gaussian_process",
    "GradientFlow": "gradient_flow",
    "KernelClassifier": "classifier",
    "KernelRidge": "ridge",
    "KernelRidgeCV": "ridge_cv",
    "load": "loading",
}

__all__ = [
    "GaussianProcess",
    "GradientFlow",
    "History",
    "KernelClassifier",
    "KernelRidge",
    "KernelRidgeCV",
    "Solution",
    "SolverWarning",
    "Step",
    "load",
    "max_learning_rate",
    "solve",
]


def __getattr__(name: str) -> Any:
    """Load an estimator when it is first used."""
    if name in _ESTIMATORS:
        require("sklearn", "sklearn")
        return getattr(importlib.import_module(f"{__name__}.{_ESTIMATORS[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return the public names."""
    return __all__
