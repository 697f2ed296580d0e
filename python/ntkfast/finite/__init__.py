"""Networks of finite width: their empirical kernels, and how far they are from the limits."""

from __future__ import annotations

from ntkfast.finite.autodiff import empirical_ntk
from ntkfast.finite.cnn import CNN
from ntkfast.finite.factors import Factors, PixelFactors
from ntkfast.finite.mlp import MLP
from ntkfast.finite.monte_carlo import Convergence, MeanKernel, convergence, mean_kernel
from ntkfast.finite.network import FiniteKernel, FiniteNetwork
from ntkfast.finite.realization import Realization
from ntkfast.finite.recurrent import RecurrentRealization as _Recurrent  # noqa: F401 - is known so
from ntkfast.finite.smallest import SmallestEigenvalues, smallest_eigenvalues
from ntkfast.finite.tangent_hierarchy import Hierarchy, gradient_flow, hierarchy, trained
from ntkfast.finite.trajectory import Growth, trajectory_growth
from ntkfast.finite.weights import Orthogonal, Sparse

__all__ = [
    "CNN",
    "MLP",
    "Convergence",
    "Factors",
    "FiniteKernel",
    "FiniteNetwork",
    "Growth",
    "Hierarchy",
    "MeanKernel",
    "Orthogonal",
    "PixelFactors",
    "Realization",
    "SmallestEigenvalues",
    "Sparse",
    "convergence",
    "empirical_ntk",
    "gradient_flow",
    "hierarchy",
    "mean_kernel",
    "smallest_eigenvalues",
    "trained",
    "trajectory_growth",
]


def __dir__() -> list[str]:
    """Return the public names."""
    return __all__
