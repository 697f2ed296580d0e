"""From a kernel to an answer: regression, classification, Gaussian processes, training dynamics."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ntkfast.regression.solution import Solution
from ntkfast.regression.solver import solve
from ntkfast.support.optional import require

if TYPE_CHECKING:  # they need scikit-learn
    from ntkfast.regression.classifier import KernelClassifier
    from ntkfast.regression.loading import load
    from ntkfast.regression.ridge import KernelRidge
    from ntkfast.regression.ridge_cv import KernelRidgeCV

_ESTIMATORS = {
    "KernelClassifier": "classifier",
    "KernelRidge": "ridge",
    "KernelRidgeCV": "ridge_cv",
    "load": "loading",
}

__all__ = [
    "KernelClassifier",
    "KernelRidge",
    "KernelRidgeCV",
    "Solution",
    "load",
    "solve",
]


def __getattr__(name: str) -> Any:
    """Load the estimators, which need scikit-learn, when they are first used."""
    if name in _ESTIMATORS:
        require("sklearn", "sklearn")
        module = importlib.import_module(f"ntkfast.regression.{_ESTIMATORS[name]}")
        return getattr(module, name)
    raise AttributeError(f"module 'ntkfast.regression' has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return the public names."""
    return __all__
