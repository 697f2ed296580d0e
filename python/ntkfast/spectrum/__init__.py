"""Spectra of kernels on the sphere and of their Gram matrices."""

from __future__ import annotations

from ntkfast.spectrum.gram.bound_table import Bound, BoundTable, Check
from ntkfast.spectrum.gram.bounds import bounds
from ntkfast.spectrum.gram.effective import EffectiveDimension, effective_dimension
from ntkfast.spectrum.gram.eigenpairs import Extremes
from ntkfast.spectrum.gram.extremes import extremes
from ntkfast.spectrum.sphere.compare import RkhsComparison, same_rkhs
from ntkfast.spectrum.sphere.decay import Branch, Decay
from ntkfast.spectrum.sphere.expansion import reconstruct, zonal_harmonics
from ntkfast.spectrum.sphere.harmonics import multiplicity
from ntkfast.spectrum.sphere.mercer import MercerSpectrum, mercer
from ntkfast.spectrum.sphere.shape import (
    KernelShape,
    fully_connected_rate,
    residual_limit,
    residual_rate,
    shape,
)
from ntkfast.spectrum.sphere.smoothness import (
    CircleInterpolant,
    high_frequency_energy,
    interpolate_on_circle,
)

__all__ = [
    "Bound",
    "BoundTable",
    "Branch",
    "Check",
    "CircleInterpolant",
    "Decay",
    "EffectiveDimension",
    "Extremes",
    "KernelShape",
    "MercerSpectrum",
    "RkhsComparison",
    "bounds",
    "effective_dimension",
    "extremes",
    "fully_connected_rate",
    "high_frequency_energy",
    "interpolate_on_circle",
    "mercer",
    "multiplicity",
    "reconstruct",
    "residual_limit",
    "residual_rate",
    "same_rkhs",
    "shape",
    "zonal_harmonics",
]


def __dir__() -> list[str]:
    """Return the public names."""
    return __all__
