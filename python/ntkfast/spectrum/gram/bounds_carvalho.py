"""Strict positivity, and why a matrix is singular (Carvalho et al. 2024)."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from ntkfast.kernels.layers import IDENTITY, Layers
from ntkfast.spectrum.gram.bound_case import Case, least
from ntkfast.spectrum.gram.bound_table import EXACT, Bound, Check

CARVALHO = "Carvalho, Costa, Mourao & Oliveira 2024, arXiv:2404.12928"


def positivity(case: Case) -> Iterator[Bound]:
    """Strict positivity: what the theorem asks, and the reason where the matrix is singular."""
    if case.network is None:
        return
    layers, dim = case.layers, case.X.shape[1]
    activations = [layer.activation for layer in layers if layer.activation != IDENTITY]
    curved = any(a.polynomial_degree is None for a in activations)
    # A bias that starts at zero, or comes in later layers only, does not separate all multiples.
    biased = layers[0].e > 0
    groups = case.pairs.duplicates if biased else case.pairs.proportional
    kind = "distinct (Gaussian bias)" if biased else "not proportional (no Gaussian bias)"
    checks = (
        Check("the activation is not a polynomial", curved),
        Check(f"rows are {kind}", not groups),
    )
    reasons = [*_rank(layers, len(case.X), dim), *_singular_groups(case)]
    yield case.row(
        "positivity",
        "lower",
        0.0,
        EXACT,
        CARVALHO,
        checks,
        "singular: " + "; ".join(reasons) if reasons else "",
    )


def _rank(layers: Layers, n: int, dim: int) -> Iterator[str]:
    """Polynomial networks are polynomials of the inputs: as many dimensions and no more."""
    activations = [layer.activation for layer in layers if layer.activation != IDENTITY]
    degrees = [a.polynomial_degree for a in activations if a.polynomial_degree is not None]
    if len(degrees) < len(activations):
        return
    degree = math.prod(degrees)
    single = all(a.degree is not None for a in activations)
    homogeneous = single and not any(layer.e > 0 or layer.y > 0 for layer in layers)
    rank = math.comb(dim + degree - 1, degree) if homogeneous else math.comb(dim + degree, degree)
    if rank < n:
        yield (
            f"{n} rows, but the kernel is a polynomial of degree {degree} and of rank at most "
            f"{rank}"
        )


def _singular_groups(case: Case) -> Iterator[str]:
    """Yield the groups of proportional rows whose own Gram matrix is singular to rounding."""
    for group in case.pairs.proportional[:5]:
        some = list(group[:50])
        K = np.asarray(case.kernel(np.ascontiguousarray(case.X[some])), np.float64)
        if least(K) == 0:
            names = ", ".join(str(row) for row in group[:6]) + (", ..." if len(group) > 6 else "")
            equal = bool(np.all(case.X[some] == case.X[some[0]]))
            yield f"rows {names} are {'equal' if equal else 'proportional'}"
