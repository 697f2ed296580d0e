"""Networks of finite width: their empirical kernels, and how far they are from the limits."""

from __future__ import annotations

from ntkfast.finite.autodiff import empirical_ntk
from ntkfast.finite.factors import Factors
from ntkfast.finite.kernel import FiniteKernel
from ntkfast.finite.mlp import MLP
from ntkfast.finite.monte_carlo import Convergence, MeanKernel, convergence, mean_kernel
from ntkfast.finite.weights import Orthogonal, Sparse

__all__ = [
    "MLP",
    "Convergence",
    "Factors",
    "FiniteKernel",
    "MeanKernel",
    "Orthogonal",
    "Sparse",
    "convergence",
    "empirical_ntk",
    "mean_kernel",
]
