"""A Gram matrix as a linear operator of SciPy, for its solvers and those of others."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from ntkfast.arrays.collections import FloatArray

if TYPE_CHECKING:
    from scipy.sparse.linalg import LinearOperator


def symmetric_operator(
    product: Callable[[Any], FloatArray], size: int, dtype: np.dtype[Any], ridge: float
) -> LinearOperator:
    """Return K + ridge I, (size, size), of a symmetric K with its products K V."""
    from scipy.sparse.linalg import LinearOperator

    def apply(V: Any) -> FloatArray:
        found = product(V)
        return found if ridge == 0 else found + ridge * V

    same = dict.fromkeys(("matvec", "rmatvec", "matmat", "rmatmat"), apply)
    return LinearOperator((size, size), dtype=dtype, **same)
