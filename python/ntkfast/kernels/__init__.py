"""Kernels as functions of collections of inputs, and the maps that engines evaluate for them."""

from __future__ import annotations

from ntkfast.kernels.arithmetic import makers
from ntkfast.kernels.base import Kernel, KernelOfNetwork, checked_kernel
from ntkfast.kernels.combined import Named
from ntkfast.kernels.named import ArcCosine, ExponentialPower, Gaussian, Laplace
from ntkfast.kernels.rows import RowKernel, checked_row_kernel
from ntkfast.kernels.zonal import ZonalKernel

__all__ = [
    "ArcCosine",
    "ExponentialPower",
    "Gaussian",
    "Kernel",
    "KernelOfNetwork",
    "Laplace",
    "Named",
    "RowKernel",
    "ZonalKernel",
    "checked_kernel",
    "checked_row_kernel",
    "makers",
]
