"""Extreme eigenpairs of a Gram matrix, with bounds of their errors."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ntkfast.support.columns import html_table

Values = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Extremes:
    """Extreme eigenpairs of a Gram matrix (`ntkfast.spectrum.extremes`).

    Attributes
    ----------
    smallest, largest : (k,) arrays
        Eigenvalues, from the end inwards: ascending and descending.
    smallest_error, largest_error : (k,) arrays
        An eigenvalue of the exact Gram matrix lies within this distance.
    smallest_vectors, largest_vectors : (n, k) arrays
        Orthonormal eigenvectors.
    rounding : float
        The part of the errors that stands for rounding of the Gram matrix, 8 eps tr K.
    method : {"dense", "cholesky", "iterative"}
    iterations : int
        Solves with the Cholesky factor, or block iterations; for the smallest eigenvalues.
    passes : int
        Block products with the Gram matrix, for both ends and the error bounds.
    converged : bool
        Whether the tolerance was reached.
    proven : bool
        Whether it is proven that no eigenvalue lies below ``smallest[0] - smallest_error[0]``, for
        entries that are as accurate as `rounding` says; see `verify`.
    """

    smallest: Values
    largest: Values
    smallest_error: Values
    largest_error: Values
    smallest_vectors: Values = field(repr=False)
    largest_vectors: Values = field(repr=False)
    rounding: float
    method: str
    iterations: int
    passes: int
    converged: bool
    proven: bool

    def _repr_html_(self) -> str:
        """Show the eigenvalues in a notebook."""
        values = np.concatenate([self.smallest, self.largest[::-1]])
        errors = np.concatenate([self.smallest_error, self.largest_error[::-1]])
        state = (
            f"{'' if self.converged else 'not '}converged, {'' if self.proven else 'not '}proven"
        )
        caption = f"extreme eigenvalues by {self.method}, {self.passes} passes: {state}"
        ends = ["smallest"] * len(self.smallest) + ["largest"] * len(self.largest)
        return html_table({"end": ends, "eigenvalue": values, "within": errors}, caption)

    @property
    def condition(self) -> float:
        """Condition number, largest over smallest eigenvalue; infinity if that is not positive."""
        low = float(self.smallest[0])
        return float(self.largest[0]) / low if low > 0 else float("inf")

    @property
    def definite(self) -> bool:
        """Whether the smallest eigenvalue found is positive beyond its error."""
        return bool(self.smallest[0] > self.smallest_error[0])
