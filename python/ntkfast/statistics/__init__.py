"""Tests and norms with kernels: do two samples differ, and how smooth is a function."""

from __future__ import annotations

from ntkfast.statistics import penalties, rkhs_norm
from ntkfast.statistics.change_point import ChangePoint
from ntkfast.statistics.rejection import Power, power
from ntkfast.statistics.result import TwoSampleTest
from ntkfast.statistics.two_sample import ntk_mmd_test, softplus_network, trained_mmd_test

__all__ = [
    "ChangePoint",
    "Power",
    "TwoSampleTest",
    "ntk_mmd_test",
    "penalties",
    "power",
    "rkhs_norm",
    "softplus_network",
    "trained_mmd_test",
]


def __dir__() -> list[str]:
    """Return the public names."""
    return __all__
