"""Solves (K(X, X) + ridge I) A = B."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ntkfast.arrays import checks
from ntkfast.kernels.base import Kernel, checked_kernel
from ntkfast.kernels.evaluation import Evaluation
from ntkfast.regression.solution import Solution
from ntkfast.spectrum.gram.cholesky import Cholesky


def solve(
    kernel: Kernel,
    X: Any,
    B: ArrayLike,
    ridge: float,
    *,
    tol: float = 1e-6,
    engine: str | None = None,
    threads: int | None = None,
) -> Solution:
    """Solve (K(X, X) + ridge I) A = B.

    Parameters
    ----------
    kernel : Kernel
    X : (n, d) array, or other inputs of the kernel
    B : (n,) or (n, c) array
    ridge : float
        Added to the diagonal, in absolute terms.
    tol : float, default 1e-6
        Largest residual of a column, over the norm of that column.
    engine, threads
        As for calling the kernel.

    Returns
    -------
    Solution

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, shape or range, or holds NaN or infinity.
    numpy.linalg.LinAlgError
        If the matrix is not positive definite to rounding.
    """
    evaluation = Evaluation(checked_kernel(kernel), engine, threads)
    inputs = kernel.collect(X)
    targets, vector = checks.columns("B", B, len(inputs))
    ridge = checks.number("ridge", ridge, least=0.0)
    double = inputs.astype(np.float64, copy=False)
    K = np.asarray(evaluation(double), np.float64)
    targets = targets.astype(np.float64, copy=False)
    np.einsum("ii->i", K)[:] += ridge
    found = Cholesky(K.copy()).solve(targets)
    residuals = np.linalg.norm(targets - K @ found, axis=0)
    sizes = np.linalg.norm(targets, axis=0)
    relative = residuals / np.where(sizes > 0, sizes, 1)
    return Solution(
        found[:, 0] if vector else found,
        ridge,
        "cholesky",
        0,
        relative,
        bool(np.all(relative <= tol)),
    )
