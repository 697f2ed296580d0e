"""The functions of `ntkfast.engines.Engine` that compute; importing them imports Numba."""

from __future__ import annotations

from ntkfast.engines.numba.bind_gradient import by_parameters, jvp, vjp
from ntkfast.engines.numba.bind_gram import matmul, products, rounded, run
from ntkfast.engines.numba.bind_image import images
from ntkfast.engines.numba.bind_sequence import sequences
from ntkfast.engines.numba.bind_transform import hadamard, sketch, structured
from ntkfast.engines.numba.forking import register

register()

__all__ = [
    "by_parameters",
    "hadamard",
    "images",
    "jvp",
    "matmul",
    "products",
    "rounded",
    "run",
    "sequences",
    "sketch",
    "structured",
    "vjp",
]
