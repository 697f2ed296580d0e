"""Pictures of kernels, of their spectra and of fits; they need the extra "plot"."""

from __future__ import annotations

from ntkfast.plot.bound_chart import bounds
from ntkfast.plot.class_chart import classes
from ntkfast.plot.convergence_chart import convergence
from ntkfast.plot.prediction_chart import flow, prediction
from ntkfast.plot.profile_chart import profiles
from ntkfast.plot.regression_chart import learning_curves, residuals, ridge_path
from ntkfast.plot.spectrum_chart import ratio, spectrum
from ntkfast.plot.style import save

__all__ = [
    "bounds",
    "classes",
    "convergence",
    "flow",
    "learning_curves",
    "prediction",
    "profiles",
    "ratio",
    "residuals",
    "ridge_path",
    "save",
    "spectrum",
]


def __dir__() -> list[str]:
    """Return the public names."""
    return __all__
