"""Networks of finite width: their empirical kernels, and how far they are from the limits."""

from __future__ import annotations

from ntkfast.finite.factors import Factors
from ntkfast.finite.kernel import FiniteKernel
from ntkfast.finite.mlp import MLP
from ntkfast.finite.weights import Orthogonal, Sparse

__all__ = ["MLP", "Factors", "FiniteKernel", "Orthogonal", "Sparse"]
