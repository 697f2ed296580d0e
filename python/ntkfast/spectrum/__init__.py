"""Spectra of kernels on the sphere and of their Gram matrices."""

from __future__ import annotations

from ntkfast.spectrum.bounds import Bound, BoundTable, Check, bounds
from ntkfast.spectrum.compare import RkhsComparison, same_rkhs
from ntkfast.spectrum.effective import EffectiveDimension, effective_dimension
from ntkfast.spectrum.expansion import reconstruct, zonal_harmonics
from ntkfast.spectrum.gram import Extremes, extremes
from ntkfast.spectrum.harmonics import multiplicity
from ntkfast.spectrum.mercer import Branch, Decay, MercerSpectrum, mercer
from ntkfast.spectrum.shape import (
    KernelShape,
    fully_connected_rate,
    residual_limit,
    residual_rate,
    shape,
)
from ntkfast.spectrum.smoothness import (
    CircleInterpolant,
    high_frequency_energy,
    interpolate_on_circle,
    kernel_slope,
)
from ntkfast.spectrum.table import write_csv

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
    "kernel_slope",
    "mercer",
    "multiplicity",
    "reconstruct",
    "residual_limit",
    "residual_rate",
    "same_rkhs",
    "shape",
    "write_csv",
    "zonal_harmonics",
]
