"""Pictures of kernels and of their spectra; they need the extra "plot"."""

from __future__ import annotations

from ntkfast.plot.bound_chart import bounds
from ntkfast.plot.convergence_chart import convergence
from ntkfast.plot.profile_chart import profiles
from ntkfast.plot.spectrum_chart import ratio, spectrum
from ntkfast.plot.style import save

__all__ = ["bounds", "convergence", "profiles", "ratio", "save", "spectrum"]


def __dir__() -> list[str]:
    """Return the public names."""
    return __all__
