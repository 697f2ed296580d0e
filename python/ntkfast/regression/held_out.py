"""Errors of predictions that leave one input out, for a path of ridges, without fitting again.

With A = K + s I the prediction for input i from all others misses its target by
(A^-1 y)_i / (A^-1)_ii. Generalised cross-validation puts the mean of the diagonal in its place.
Weights w enter as K -> W K W, y -> W y with W = diag(sqrt w), which multiplies errors by sqrt w_i.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.linalg import LinAlgError

from ntkfast.regression.eigen import Eigen
from ntkfast.regression.solution import Values


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


def exact_path(
    K: Values, Y: Values, ridges: Values, criterion: str, weights: Values | None = None
) -> Path:
    """Go along the path with one eigendecomposition of K, which is overwritten.

    Raises
    ------
    numpy.linalg.LinAlgError
        If every ridge is below the rounding errors of the eigenvalues.
    """
    roots = np.ones(len(K)) if weights is None else np.sqrt(weights / weights.mean())
    scale = 1.0
    if weights is not None:
        scale = float(weights.mean())
        K *= roots
        K *= roots[:, None]
        Y = roots[:, None] * Y
    eigen = Eigen.of(K)
    noise = eigen.cutoff

    def systems() -> Iterator[System | None]:
        for ridge in ridges / scale:
            if float(eigen.values[0]) + ridge <= noise:
                yield None
            else:
                found = eigen.times(1 / (eigen.values + ridge), Y)
                yield found, eigen.inverse_diagonal(ridge)

    found = _chosen(systems(), len(ridges), criterion)
    if found is None:
        raise LinAlgError(
            f"ridge: expected more than the rounding errors of the eigenvalues, about "
            f"{noise * scale:.2g}, got {ridges.max():g}"
        )
    coefficients, errors = roots[:, None] * found.coefficients, found.errors / roots[:, None]
    return Path(found.scores, found.best, coefficients, errors)


def estimated_path(
    solve: Callable[[Values, float], Values],
    diagonal: Values,
    Y: Values,
    ridges: Values,
    criterion: str,
    probes: Values,
) -> Path:
    """Go along the path with one solve per ridge; the diagonal of A^-1 is Hutchinson's estimate.

    Parameters
    ----------
    solve : function
        Of right-hand sides (n, c + probes) and a ridge, returns A^-1 times them.
    diagonal : (n,) array
        Of K, which bounds that of A^-1: 1 / (K_ii + s) <= (A^-1)_ii <= 1 / s.
    probes : (n, probes) array
        Random signs. All ridges have the same ones, so that their errors are alike.
    """

    def systems() -> Iterator[System]:
        for ridge in ridges:
            found = solve(np.hstack([Y, probes]), float(ridge))
            solved, answers = found[:, : Y.shape[1]], found[:, Y.shape[1] :]
            guess = np.mean(probes * answers, axis=1)
            yield solved, np.clip(guess, 1 / (diagonal + ridge), 1 / ridge)

    found = _chosen(systems(), len(ridges), criterion)
    assert found is not None
    return found


def _chosen(systems: Iterator[System | None], count: int, criterion: str) -> Path | None:
    """Score every system; keep the best one and no other."""
    scores, best = np.full(count, np.inf), None
    for number, system in enumerate(systems):
        if system is None:
            continue
        solved, diagonal = system
        errors = solved / diagonal[:, None]
        if criterion == "gcv":
            scores[number] = np.mean((solved / diagonal.mean()) ** 2)
        else:
            scores[number] = np.mean(errors**2)
        if best is None or scores[number] < scores[best[0]]:
            best = number, solved, errors
    return None if best is None else Path(scores, *best)
