"""What a solver found, how, and how well."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ntkfast.arrays.collections import Values
from ntkfast.support.columns import Table, html_table


class SolverWarning(RuntimeWarning):
    """A system is not solved to the tolerance; the message says how far it is."""


@dataclass(frozen=True)
class Entry:
    """One line of a `History`.

    Attributes
    ----------
    iteration : int
    seconds : float
        Since the solver began, checkpoints included.
    residuals : (c,) array
        Relative residuals.
    exact : bool
        Whether they are those of the float64 matrix, not of the recurrence.
    validation : float
        Error on the validation set, NaN where it was not looked at.
    """

    iteration: int
    seconds: float
    residuals: Values
    exact: bool
    validation: float = math.nan


@dataclass(frozen=True)
class History(Table):
    """The way of an iteration to its solution, for tables and pictures.

    Attributes
    ----------
    entries : tuple of Entry
    """

    entries: tuple[Entry, ...] = ()

    def __len__(self) -> int:
        return len(self.entries)

    def to_dict(self) -> dict[str, list[Any]]:
        """Return the columns by their names; `residual` is that of the worst column."""
        return {
            "iteration": [entry.iteration for entry in self.entries],
            "seconds": [entry.seconds for entry in self.entries],
            "residual": [float(np.max(entry.residuals)) for entry in self.entries],
            "exact": [entry.exact for entry in self.entries],
            "validation": [entry.validation for entry in self.entries],
        }


@dataclass(frozen=True, eq=False, repr=False)
class Solution:
    """Coefficients A with (K + ridge I) A = B, found by `ntkfast.regression.solve`.

    Attributes
    ----------
    coefficients : (n,) or (n, c) array, float64
        Of the shape of B; the prediction for inputs Z is ``kernel.matmul(Z, X, coefficients)``.
        Where X lies on a CUDA device, an array of its library and dtype; residuals are those of the
        float64 numbers, before rounding to it.
    ridge : float or (n,) array
    method : {"cholesky", "eigh", "cg"}
    iterations : int
        Steps of conjugate gradients; 0 where a direct method needed no refinement.
    residuals : (c,) array
        Norm of B - (K + ridge I) A over that of B, column by column, of the float64 matrix.
    converged : bool
        Whether all residuals are at most the tolerance.
    reason : str
        Why the solver stopped.
    products : int
        Products with the whole Gram matrix, those for residuals included.
    rank : int
        Of the preconditioner; for "eigh" the number of eigenvalues that count.
    storage : str
        Precision of the Gram matrix in the work, and whether it was stored, recomputed in every
        product, or factorised, in memory or on disk.
    memory : int
        Bytes of what was kept beside the arguments.
    condition : float
        Condition number of K + ridge I: exact for "eigh", estimated for "cholesky" in memory, else
        an upper bound, infinite without a ridge. The relative error of the coefficients is at most
        this times the residual.
    seconds, seconds_of_products, seconds_of_preconditioner : float
    history : History
    """

    coefficients: Values
    ridge: float | Values
    method: str
    iterations: int
    residuals: Values
    converged: bool
    reason: str = ""
    products: int = 0
    rank: int = 0
    storage: str = ""
    memory: int = 0
    condition: float = math.nan
    seconds: float = 0.0
    seconds_of_products: float = 0.0
    seconds_of_preconditioner: float = 0.0
    history: History = field(default_factory=History)

    def __repr__(self) -> str:
        state = "solved" if self.converged else "NOT SOLVED"
        return (
            f"<{state} by {self.method}: {self.coefficients.shape} coefficients, residual "
            f"{np.max(self.residuals, initial=0.0):.1e}, {self.reason}>"
        )

    def _repr_html_(self) -> str:
        """Show in a notebook what `summary` says."""
        head, lines = self._summary()
        return html_table({"": list(lines), "value": list(lines.values())}, head)

    def summary(self) -> str:
        """Return all that is known in a few lines."""
        head, lines = self._summary()
        return "\n".join([head, *(f"  {name:<13} {text}" for name, text in lines.items())])

    def _summary(self) -> tuple[str, dict[str, str]]:
        worst = float(np.max(self.residuals, initial=0.0))
        ridge = f"{np.min(self.ridge):.6g}"
        if np.ndim(self.ridge):
            ridge += f" to {np.max(self.ridge):.6g}"
        lines = {
            "coefficients": f"{self.coefficients.shape}, ridge {ridge}",
            "method": f"{self.method}, Gram matrix {self.storage}",
            "stopped": self.reason,
            "residual": f"{worst:.2e} of the worst of {len(self.residuals)} columns (float64)",
            "iterations": f"{self.iterations}, products {self.products}",
            "rank": f"{self.rank}",
            "condition": f"{self.condition:.2e}",
            "seconds": f"{self.seconds:.3g}, {self.seconds_of_products:.3g} of them in products",
            "memory": f"{self.memory / 1e6:.6g} MB",
        }
        head = "solved" if self.converged else "NOT SOLVED to the tolerance"
        return head, lines
