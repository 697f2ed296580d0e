"""What a solver found, and how well."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Solution:
    """Coefficients A with (K + ridge I) A = B, found by `ntkfast.regression.solve`.

    Attributes
    ----------
    coefficients : (n,) or (n, c) array, float64
        Of the shape of B; the prediction for inputs Z is ``kernel.matmul(Z, X, coefficients)``.
    ridge : float
    method : {"cholesky", "eigh", "cg"}
    iterations : int
        Products with the Gram matrix; 0 for direct methods.
    residuals : (c,) array
        Norm of B - (K + ridge I) A over that of B, column by column, of the float64 matrix.
    converged : bool
        Whether all residuals are at most the tolerance.
    """

    coefficients: Values
    ridge: float
    method: str
    iterations: int
    residuals: Values
    converged: bool
