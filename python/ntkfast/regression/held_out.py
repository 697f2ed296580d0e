"""Errors of predictions that leave one input out, for a path of ridges, without fitting again.

With A = K + s D^-1, weights D, the prediction for input i from all others misses its target by
(A^-1 y)_i / (A^-1)_ii. Generalised cross-validation puts the mean of the diagonal in its place,
that of the inverse of W K W + s I, W = sqrt D. A decomposition of this one serves all ridges.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.linalg import LinAlgError

from ntkfast.arrays.collections import Values
from ntkfast.arrays.panels import panels
from ntkfast.regression.eigen import Eigen


@dataclass(frozen=True, eq=False)
class Path:
    """What a path of ridges gave.

    Attributes
    ----------
    scores : (ridges,) array
        Mean squared errors, averaged over targets; infinite where rounding leaves no digit.
    best : int
        Number of the ridge with the least one.
    coefficients : (n, c) array
        With that ridge.
    errors : (n, c) array
        Targets minus their predictions from all other inputs, with that ridge.
    """

    scores: Values
    best: int
    coefficients: Values
    errors: Values


System = tuple[Values, Values]  # A^-1 Y and the diagonal of A^-1


def exact_systems(
    K: Values, Y: Values, ridges: Values, weights: Values | None = None
) -> Iterator[System | None]:
    """Yield each system of the path from one eigendecomposition of K, which is overwritten.

    None stands for a ridge that is below the rounding errors of the eigenvalues.
    """
    roots, scale = _roots(weights, len(K))
    if weights is not None:
        K *= roots[:, 0]
        K *= roots
    eigen, ridges = Eigen.of(K), ridges / scale
    seen = eigen.seen(roots * Y)
    for part in panels(len(ridges), Y.nbytes):  # the eigenvectors are read once for each
        some = ridges[part]
        kept = float(eigen.values[0]) + some > eigen.cutoff
        solutions = iter(roots * eigen.shifted(some[kept], seen))
        diagonals = iter(roots[:, 0] ** 2 * eigen.inverse_diagonals(some[kept]))
        for is_kept in kept:
            yield (next(solutions), next(diagonals)) if is_kept else None


def exact_path(
    K: Values, Y: Values, ridges: Values, criterion: str, weights: Values | None = None
) -> Path:
    """Go along the path with one eigendecomposition of K, which is overwritten.

    Raises
    ------
    numpy.linalg.LinAlgError
        If every ridge is below the rounding errors of the eigenvalues.
    """
    found = _chosen(exact_systems(K, Y, ridges, weights), len(ridges), criterion, weights)
    if found is None:
        raise LinAlgError(
            "ridge: expected more than the rounding errors of the eigenvalues, got "
            f"{ridges.max():g}"
        )
    return found


def estimated_path(
    solve: Callable[[Values, Values, Values | None], Values],
    diagonal: Values,
    Y: Values,
    ridges: Values,
    criterion: str,
    probes: Values,
    weights: Values | None = None,
) -> Path:
    """Go along the path with one solve per ridge; the diagonal of A^-1 is Hutchinson's estimate.

    Parameters
    ----------
    solve : function
        Of right-hand sides (n, c + probes), ridges (n,) and a guess or None, returns A^-1 times
        the right-hand sides.
    diagonal : (n,) array
        Of K, which bounds that of A^-1: 1 / (K_ii + s) <= (A^-1)_ii <= 1 / s.
    probes : (n, probes) array
        Random signs. All ridges have the same ones, so that their errors are alike.
    """
    shares = np.ones(len(Y)) if weights is None else weights

    def systems() -> Iterator[System]:
        B, before = np.hstack([Y, probes]), deque[System]([], 2)
        for ridge in ridges:
            own = ridge / shares
            found = solve(B, own, _guess(before, own, B))
            before.append((own, found))
            solved, answers = found[:, : Y.shape[1]], found[:, Y.shape[1] :]
            guess = np.mean(probes * answers, axis=1)
            yield solved, np.clip(guess, 1 / (diagonal + own), 1 / own)

    found = _chosen(systems(), len(ridges), criterion, weights)
    assert found is not None
    return found


def _guess(before: Iterable[System], ridges: Values, B: Values) -> Values | None:
    """Return the best combination of solutions with other ridges, for each column its own.

    K is known on them, K A = B - ridges A: Galerkin's equations cost no product. From two of them
    a path of one ridge in each decade takes a third less products than from zero.
    """
    if not before:
        return None
    A = np.array([found for _, found in before])
    images = np.array([B + (ridges - own)[:, None] * found for own, found in before])
    inner = np.einsum("jnc,knc->cjk", A, images)
    inverse = np.linalg.pinv((inner + np.swapaxes(inner, 1, 2)) / 2, 1e-12, hermitian=True)
    guess = np.einsum("cjk,kmc,mc,jnc->nc", inverse, A, B, A, optimize=True)
    return np.asarray(guess, np.float64)


def _chosen(
    systems: Iterator[System | None], count: int, criterion: str, weights: Values | None
) -> Path | None:
    """Score every system; keep the best one and no other."""
    scores, best = np.full(count, np.inf), None
    roots, _ = _roots(weights, 1)
    for number, system in enumerate(systems):
        if system is None:
            continue
        solved, diagonal = system
        errors = solved / diagonal[:, None]
        if criterion == "gcv":
            scores[number] = np.mean((solved / roots / np.mean(diagonal / roots[:, 0] ** 2)) ** 2)
        else:
            scores[number] = np.mean((roots * errors) ** 2)
        if best is None or scores[number] < scores[best[0]]:
            best = number, solved, errors
    return None if best is None else Path(scores, *best)


def _roots(weights: Values | None, count: int) -> tuple[Values, float]:
    """Return W as a column, of weights over their mean, and that mean."""
    if weights is None:
        return np.ones((count, 1)), 1.0
    scale = float(weights.mean())
    return np.sqrt(weights / scale)[:, None], scale
