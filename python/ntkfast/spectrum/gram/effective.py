"""Effective dimension of a Gram matrix, tr K (K + l)^-1, in memory or from products alone."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import linalg

from ntkfast.arrays import checks
from ntkfast.arrays.collections import FloatArray
from ntkfast.kernels.base import Kernel, checked_kernel
from ntkfast.kernels.evaluation import Evaluation
from ntkfast.spectrum.gram.extremes import ENTRY_ERROR
from ntkfast.spectrum.gram.passes import Passes
from ntkfast.spectrum.gram.quadrature import gauss, lanczos, radau
from ntkfast.support.columns import Table
from ntkfast.support.progress import Bar
from ntkfast.support.randomness import RNG

Values = NDArray[np.float64]

METHODS = ("auto", "dense", "lanczos")
DENSE_ROWS = 5_000


@dataclass(frozen=True, eq=False)
class EffectiveDimension(Table):
    """The effective dimension along a path of l (`ntkfast.spectrum.effective_dimension`).

    Attributes
    ----------
    ridges, values : (p,) arrays
        l, and tr K (K + l)^-1.
    standard_error : (p,) array
        Of the mean over random probes; zero for "dense".
    truncation : (p,) array
        What else a value may be wrong by: for "lanczos" half the distance of a lower and an upper
        bound of each probe's quadratic form, on average; for "dense" the effect of rounding.
    method : {"dense", "lanczos"}
    passes : int
        Products with the Gram matrix.
    """

    ridges: Values
    values: Values
    standard_error: Values
    truncation: Values
    method: str
    passes: int

    def to_dict(self) -> dict[str, Values]:
        """Return the columns by their names, one line per ridge."""
        names = "ridges", "values", "standard_error", "truncation"
        return {name: getattr(self, name) for name in names}


def effective_dimension(
    kernel: Kernel,
    X: ArrayLike,
    ridges: ArrayLike,
    *,
    method: str = "auto",
    n_probes: int = 16,
    max_steps: int = 200,
    rng: RNG = 0,
    engine: str | None = None,
    threads: int | None = None,
    progress: bool | None = None,
) -> EffectiveDimension:
    """Return tr K (K + l)^-1 of the Gram matrix K(X, X) for each l.

    Parameters
    ----------
    kernel : Kernel
    X : (n, d) array
    ridges : (p,) array or float
        Positive numbers l; ridge regression with a penalty "n lambda" has l = n lambda.
    method : {"auto", "dense", "lanczos"}
        "dense": from all eigenvalues, n^2 memory and n^3 time. "lanczos": Hutchinson's estimator
        with Lanczos quadrature, from products alone. "auto": dense up to 5,000 rows.
    n_probes : int, default 16
        Random sign vectors; the standard error falls like 1/sqrt(n_probes).
    max_steps : int, default 200
        Lanczos steps at most. They stop when the truncation is a tenth of the standard error.
    rng : int, Generator or None
        Of the probes; None draws fresh ones.
    engine, threads
        As for calling a kernel.
    progress : bool, optional
        Whether to show passes over all pairs on a bar. Default: on a terminal, after some seconds.

    Returns
    -------
    EffectiveDimension

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, shape or range, or X holds NaN or infinity.

    Notes
    -----
    1/(x + l) has derivatives of alternating sign, so that the Gauss rule of a probe's Lanczos
    matrix gives an upper bound of z^T K (K + l)^-1 z, and the Gauss-Radau rule with a node at zero
    a lower one [2]_; a value is their mean. "lanczos" computes its passes in the dtype of X,
    "dense" in float64.

    References
    ----------
    .. [1] M. F. Hutchinson, "A stochastic estimator of the trace of the influence matrix for
       Laplacian smoothing splines", Commun. Stat. Simul. Comput. 19 (1990).
    .. [2] G. H. Golub, G. Meurant, "Matrices, moments and quadrature with applications",
       Princeton 2010, chapter 6.

    Examples
    --------
    >>> import numpy as np, ntkfast as nf
    >>> from ntkfast.spectrum import effective_dimension
    >>> X = np.random.default_rng(0).normal(size=(200, 5))
    >>> effective_dimension(nf.FullyConnected(2).ntk, X, [1.0, 100.0]).values.round(2)
    array([125.74,  12.41])
    """
    evaluation = Evaluation(checked_kernel(kernel), engine, threads, progress)
    rows = kernel.collect(X)
    double = rows.astype(np.float64, copy=False)
    path = _path(ridges)
    chosen = checks.choice("method", method, METHODS)
    if chosen == "auto":
        chosen = "dense" if len(rows) <= DENSE_ROWS else "lanczos"
    if chosen == "dense":
        return _dense(evaluation, double, path)
    evaluation = evaluation.near_one(double)
    count = checks.count("n_probes", n_probes, least=2)
    steps = checks.count("max_steps", max_steps, least=1)
    with Bar(progress, "effective dimension", None, "passes") as bar:
        signs = np.random.default_rng(rng).choice(np.array([-1.0, 1.0]), (len(rows), count))
        found = _lanczos(Passes(evaluation, rows, bar), signs, path * evaluation.factor, steps)
    return replace(found, ridges=path)


def _path(ridges: ArrayLike) -> Values:
    path = np.atleast_1d(np.asarray(ridges, np.float64))
    if path.ndim != 1 or not np.all((path > 0) & np.isfinite(path)):
        raise ValueError(f"ridges: expected positive finite numbers, got {ridges!r}")
    return path


def _dense(kernel: Evaluation, X: FloatArray, path: Values) -> EffectiveDimension:
    rounding = ENTRY_ERROR * float(np.sum(kernel.diag(X)))
    eigenvalues = linalg.eigvalsh(kernel(X), overwrite_a=True, check_finite=False)
    below = np.maximum(eigenvalues, 0) + path[:, None]
    values = np.sum(np.maximum(eigenvalues, 0) / below, axis=1)
    moved = rounding * np.sum(path[:, None] / below**2, axis=1)  # Weyl, to first order
    return EffectiveDimension(path, values, np.zeros_like(path), moved, "dense", 0)


def _lanczos(passes: Passes, probes: Values, path: Values, max_steps: int) -> EffectiveDimension:
    n, count = probes.shape
    found: list[Values] = []

    def is_enough(alphas: Values, betas: Values) -> bool:
        bounds = _bounds(alphas, betas, path)
        values = n * bounds.mean(axis=0)
        error = values.std(axis=0, ddof=1) / np.sqrt(count)
        truncation = n * np.mean(np.abs(bounds[1] - bounds[0]), axis=0) / 2
        found[:] = values.mean(axis=0), error, truncation
        return bool(np.all(truncation <= np.maximum(0.1 * error, 1e-10 * found[0])))

    is_enough(*lanczos(passes, probes, max_steps, is_enough))
    values, error, truncation = found
    return EffectiveDimension(path, values, error, truncation, "lanczos", passes.count)


def _bounds(alphas: Values, betas: Values, path: Values) -> Values:
    """Lower and upper bounds of e^T T (T + l)^-1 e, shape (2, probes, path)."""
    found = np.empty((2, alphas.shape[1], len(path)))

    def share(nodes: Values) -> Values:
        return np.asarray(nodes / (nodes + path[:, None]))

    for probe, (a, b) in enumerate(zip(alphas.T, betas.T, strict=True)):
        found[1, probe] = gauss(a, b[:-1], share)
        found[0, probe] = radau(a, b, share)
    return found
