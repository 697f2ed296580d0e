"""How far features are from their kernel: relative errors with confidence intervals over draws."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import eigh
from scipy.stats import t as student

from ntkfast.arrays import checks
from ntkfast.features.base import BaseEstimator
from ntkfast.kernels.base import Kernel, checked_kernel
from ntkfast.kernels.evaluation import Evaluation
from ntkfast.support.progress import track

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A measured figure: its values over the draws, their mean, and a confidence interval.

    Attributes
    ----------
    values : (n_draws,) array
    mean : float
    low, high : float
        Student's interval for the expected value; NaN with one draw.
    """

    values: Array
    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.4g} [{self.low:.4g}, {self.high:.4g}]"


@dataclass(frozen=True)
class FeatureError:
    """What `error` returns.

    Attributes
    ----------
    frobenius, spectral : Estimate
        Norms of F F^T - K relative to those of K.
    whitened : Estimate
        The eps of (1 - eps)(K + lambda) <= F F^T + lambda <= (1 + eps)(K + lambda): the spectral
        norm of (K + lambda)^(-1/2) (F F^T - K) (K + lambda)^(-1/2).
    ridge : float
        lambda.
    n_features : int
    """

    frobenius: Estimate
    spectral: Estimate
    whitened: Estimate
    ridge: float
    n_features: int


def error(
    kernel: Kernel,
    transformer: Any,
    X: ArrayLike,
    *,
    test: ArrayLike | None = None,
    n_draws: int = 5,
    relative_ridge: float = 1e-3,
    confidence_level: float = 0.95,
    engine: str | None = None,
    threads: int | None = None,
    progress: bool | None = None,
) -> FeatureError:
    """Measure how well the features of a transformer reproduce a kernel matrix.

    Parameters
    ----------
    kernel : Kernel
    transformer : feature map
        Cloned and fitted to X once per draw; itself it is left alone.
    X : (n, d) array
        A sample of the data, a few thousand rows at most: the work is O(n^3) in the rows that are
        measured on.
    test : (m, d) array, optional
        Rows to measure on; default those of X. Features that depend on the data, like those of
        `NystromFeatures`, have smaller errors on the rows that they were fitted to.
    n_draws : int, default 5
        With ``random_state`` 0, 1, ...
    relative_ridge : float, default 1e-3
        lambda over the trace of K.
    confidence_level : float, default 0.95
        Of the intervals.
    engine, threads
        As for calling a kernel.
    progress : bool, optional
        Whether to show a bar. Default: on a terminal, after some seconds.

    Returns
    -------
    FeatureError

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type or range.

    Examples
    --------
    >>> import numpy as np, ntkfast as nf
    >>> from ntkfast.features import DualActivationFeatures, error
    >>> kernel, X = nf.FullyConnected(2).ntk, np.random.default_rng(0).normal(size=(80, 5))
    >>> found = error(kernel, DualActivationFeatures(kernel, 512), X, n_draws=3)
    >>> found.frobenius.low < found.frobenius.mean < 0.1
    True
    """
    count = checks.count("n_draws", n_draws, least=1)
    ratio = checks.number("relative_ridge", relative_ridge, above=0.0)
    if not 0 < checks.number("confidence_level", confidence_level) < 1:
        raise ValueError(
            f"confidence_level: expected a number between 0 and 1, got {confidence_level}"
        )
    if not isinstance(transformer, BaseEstimator):
        raise TypeError(f"transformer: expected a feature map, got {type(transformer).__name__}")
    fitted = checks.matrix("X", X)
    rows = fitted if test is None else checks.matrix("test", test)
    K = Evaluation(checked_kernel(kernel), engine, threads)(rows.astype(np.float64))
    weight = ratio * float(np.trace(K))
    if not weight > 0:
        raise ValueError("X: expected rows whose kernel is not zero")
    values, vectors = eigh(K)
    whiten = vectors / np.sqrt(np.maximum(values, 0) + weight)
    norms = float(np.linalg.norm(K)), float(values[-1])
    measured = []
    for seed in track(range(count), progress, "error", "draws"):
        F = _features(transformer, fitted, rows, seed)
        gap = F @ F.T - K
        inside = whiten.T @ gap @ whiten
        measured.append(
            (np.linalg.norm(gap) / norms[0], _spectral(gap) / norms[1], _spectral(inside))
        )
    table = np.array(measured).T
    frobenius, spectral, whitened = (_estimate(line, confidence_level) for line in table)
    return FeatureError(frobenius, spectral, whitened, weight, F.shape[1])


def _features(transformer: Any, X: NDArray[Any], test: NDArray[Any], seed: int) -> Array:
    from sklearn.base import clone

    fresh = clone(transformer)
    if "random_state" in fresh.get_params():
        fresh.set_params(random_state=seed)
    return np.asarray(fresh.fit(X).transform(test), np.float64)


def _spectral(A: Array) -> float:
    return float(np.abs(eigh(A, eigvals_only=True)).max())


def _estimate(values: Array, confidence_level: float) -> Estimate:
    mean = float(values.mean())
    if len(values) == 1:
        return Estimate(values, mean, math.nan, math.nan)
    half = float(student.ppf((1 + confidence_level) / 2, len(values) - 1))
    half *= float(values.std(ddof=1)) / math.sqrt(len(values))
    return Estimate(values, mean, mean - half, mean + half)
