"""Pictures of kernels and of their spectra; they need the extra "plot"."""

from __future__ import annotations

from ntkfast.plot.bound_chart import bounds
from ntkfast.plot.finite import convergence
from ntkfast.plot.profile import profiles
from ntkfast.plot.spectra import ratio, spectrum
from ntkfast.plot.style import save

__all__ = ["bounds", "convergence", "profiles", "ratio", "save", "spectrum"]
