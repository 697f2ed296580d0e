"""The one table of tolerances: error <= eps (value * scale + inner * condition), and why.

``scale`` is sqrt(K(x,x) K(y,y)), ``condition`` the change of K for one unit of relative error in
the inner products of the rows (``oracle.Kernel.condition``). Nothing here is fitted to results:
a test that fails shows an error that input rounding does not explain.
"""

from __future__ import annotations

import math

import numpy as np

# Rounding of the value itself. A compiled profile is within 2 eps of k(1) (numerics, section 2),
# the two norms, their product and the multiplication with it round four more times by eps/2.
VALUE = 4.0

# The same for kernel.profile(u) in float64, where nothing is rounded but the polynomial.
PROFILE = 2.0

# Each layer of the layer map rounds the state (defect, NTK) a handful of times; the effect of a
# change in one layer on the result is at most the condition of the whole.
LAYER = 3.0

# kernel.diag(X) against the diagonal of a Gram matrix: the same numbers by way of float64 here and
# of the tile loop there, which multiplies two norms, a factor, and what each layer contributes.
DIAGONAL = 4.0

# Sum of c products v_j K_ij in matmul relative to sum |v_j| scale_ij: the product itself and one
# rounding per addition; blocked summation of m terms stays far below m/2.
PRODUCT = 4.0


def inner_product_error(dimension: int) -> float:
    """Relative error of the inner product of normalised rows, in units of eps.

    Normalising rounds three times (norm, reciprocal, product); the sum of d products accumulates
    like a random walk, sqrt(d)/2.
    """
    return 3.0 + math.sqrt(dimension) / 2


def epsilon(dtype: type[np.floating] | np.dtype) -> float:
    """Machine epsilon: the distance from one to the next number."""
    return float(np.finfo(dtype).eps)


def tolerance(
    dtype: type[np.floating] | np.dtype,
    scale: np.ndarray | float,
    condition: np.ndarray | float,
    *,
    dimension: int,
    layers: int = 0,
) -> np.ndarray:
    """Return the permitted |error|; ``layers`` is the depth for the layer map, 0 for profiles."""
    smallest = float(np.finfo(dtype).smallest_subnormal)
    value = (VALUE + LAYER * layers) * np.asarray(scale)
    moved = (inner_product_error(dimension) + LAYER * layers) * np.asarray(condition)
    return epsilon(dtype) * (value + moved) + smallest


def eigenvalue_tolerance(dtype: type[np.floating] | np.dtype, matrix: np.ndarray) -> float:
    """How far below zero rounding of the entries can push an eigenvalue of a PSD matrix.

    Entries are off by VALUE eps each at most and nearly independently, a symmetric random matrix
    with entries of size s has norm 2 s sqrt(n).
    """
    size = len(matrix)
    return 2 * VALUE * epsilon(dtype) * math.sqrt(size) * float(np.max(np.abs(matrix)))
