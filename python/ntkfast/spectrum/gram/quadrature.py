"""Quadratic forms z^T f(K) z from products with K: Lanczos matrices and the rules of Gauss."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

Values = NDArray[np.float64]
Function = Callable[[Values], Values]  # of nodes (k,), with an axis for each parameter in front

CHECK = 5  # Lanczos steps between looks at the error


def lanczos(
    product: Function, probes: Values, max_steps: int, is_enough: Callable[[Values, Values], bool]
) -> tuple[Values, Values]:
    """Run Lanczos on all probes at once, without orthogonalisation: the rules survive ghosts.

    Parameters
    ----------
    product : function
        Of (n, k) arrays.
    probes : (n, k) array
    max_steps : int
    is_enough : function
        Of alphas and betas so far, every five steps.

    Returns
    -------
    alphas, betas : (steps, k) arrays
        Diagonals of the matrices, and what is below them; the last beta belongs to the next step.
    """
    V, before = probes / np.linalg.norm(probes, axis=0), np.zeros_like(probes)
    most = min(max_steps, len(probes))
    alphas, betas = np.zeros((2, most, probes.shape[1]))
    for step in range(most):
        W = product(V) - (betas[step - 1] * before if step else 0)
        alphas[step] = np.sum(W * V, axis=0)
        W -= alphas[step] * V
        betas[step] = np.linalg.norm(W, axis=0)
        before, V = V, W / np.maximum(betas[step], np.finfo(float).tiny)
        seen = alphas[: step + 1], betas[: step + 1]
        if (step + 1) % CHECK == 0 and is_enough(*seen):
            return seen
    return alphas, betas


def gauss(a: Values, b: Values, f: Function) -> Values:
    """Return e^T f(T) e: weights are squares of the first entries of the eigenvectors of T.

    Parameters
    ----------
    a, b : (k,) and (k - 1,) arrays
        Diagonal and off-diagonal. Negative nodes are rounding, and count as zero.
    f : function
    """
    # SciPy's routines of band matrices take none of order one, here and below
    nodes, vectors = linalg.eigh_tridiagonal(a, b) if len(b) else (a, np.ones((1, 1)))
    return np.asarray(np.sum(vectors[0] ** 2 * f(np.maximum(nodes, 0)), axis=-1))


def radau(a: Values, b: Values, f: Function, node: float = 0.0) -> Values:
    """Return the same by a rule with one more node, at the lower end of the spectrum.

    Parameters
    ----------
    a, b : (k,) arrays
        The last entry of b belongs to the next step.
    f : function
    node : float, default 0
        Rounding may have put eigenvalues below it: it is moved down as far then as it must be for a
        rule to exist, some units of rounding.
    """
    last = np.zeros(len(a))
    last[-1] = b[-1] ** 2
    below = float(np.finfo(np.float64).eps) * float(np.abs(a).max() + b.max())
    while True:
        banded = np.vstack([np.append(0, b[:-1]), a - node])[-len(a) :]
        try:
            corner = node + linalg.solveh_banded(banded, last)[-1]
        except np.linalg.LinAlgError:
            node, below = node - below, 2 * below
        else:
            return gauss(np.append(a, corner), b, f)
