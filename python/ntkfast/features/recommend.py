"""Which feature map for this kernel and these data: measured, not guessed."""

from __future__ import annotations

import math
import timeit
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ntkfast.arrays import checks
from ntkfast.features.base import BaseEstimator
from ntkfast.features.diagnostics import FeatureError, error
from ntkfast.features.ntk import NTKRandomFeatures
from ntkfast.features.nystrom import NystromFeatures
from ntkfast.features.polysketch import NTKSketch
from ntkfast.features.zonal import DualActivationFeatures
from ntkfast.kernels.base import Kernel
from ntkfast.kernels.rows import checked_row_kernel
from ntkfast.support.columns import Table
from ntkfast.support.progress import track
from ntkfast.support.randomness import RNG

CRITERIA = ("frobenius", "spectral", "whitened")
MEASURED = 1000  # rows that errors are measured on, at most
TIMED = 3  # runs, of which the fastest counts
FEWEST = 16  # features below which a map that is too slow is given up


@dataclass(frozen=True)
class Candidate:
    """One line of the table of `choose`.

    Attributes
    ----------
    name : str
    features : feature map
        Not fitted.
    error : FeatureError or None
        On rows that the map was not fitted to; None if it was not measured.
    seconds : float
        To transform 1000 rows, on this machine.
    reason : str
        Why it was not measured or not eligible, or an empty string.
    """

    name: str
    features: Any
    error: FeatureError | None
    seconds: float
    reason: str = ""


@dataclass(frozen=True)
class Choice(Table):
    """What `choose` returns; printing it shows the table.

    Attributes
    ----------
    features : feature map
        The recommended one, not fitted.
    table : tuple of Candidate
        Best first, then those that are not eligible.
    criterion : str
        The error that was compared.
    """

    features: Any
    table: tuple[Candidate, ...]
    criterion: str

    def to_dict(self) -> dict[str, list[Any]]:
        """Return the columns by their names, one line per candidate; NaN: not measured."""
        errors = [one.error for one in self.table]
        return {
            "map": [one.name for one in self.table],
            "n_features": [0 if error is None else error.n_features for error in errors],
            **{name: [_figure(one, name, math.nan) for one in self.table] for name in CRITERIA},
            "seconds": [one.seconds for one in self.table],
            "reason": [one.reason for one in self.table],
        }

    def _caption(self) -> str:
        return f"recommended, by the {self.criterion} error: {self.features!r}"

    def __str__(self) -> str:
        head = f"{'':2}{'map':<26}{'features':>9}{'frobenius':>11}{'spectral':>10}{'whitened':>10}"
        lines = [head + f"{'s / 1000 rows':>15}"]
        for one in self.table:
            mark = "* " if one.features is self.features else "  "
            line = f"{mark}{one.name:<26}"
            if found := one.error:
                line += f"{found.n_features:>9}{found.frobenius.mean:>11.4f}"
                line += f"{found.spectral.mean:>10.4f}{found.whitened.mean:>10.3f}"
                line += f"{one.seconds:>15.2e}  "
            lines.append((line + one.reason).rstrip())
        return "\n".join(lines)


def choose(
    kernel: Kernel,
    X: ArrayLike,
    budget: int = 1024,
    *,
    seconds: float | None = None,
    criterion: str = "frobenius",
    n_draws: int = 3,
    candidates: Sequence[Any] | None = None,
    rng: RNG = 0,
    engine: str | None = None,
    threads: int | None = None,
    progress: bool | None = None,
) -> Choice:
    """Recommend a feature map for a kernel and data, with the measured table behind it.

    The candidates are fitted to a part of the rows and measured on up to 1000 others.

    Parameters
    ----------
    kernel : Kernel
    X : (n, d) array
        Rows of the data, at least 20. A few thousand are used.
    budget : int, default 1024
        Largest number of features.
    seconds : float, optional
        Largest time to transform 1000 rows, on this machine as busy as it is now. A map that is
        too slow gets half as many features until it is fast enough.
    criterion : {"frobenius", "spectral", "whitened"}, default "frobenius"
        The error to minimise, see `error`.
    n_draws : int, default 3
        Per candidate.
    candidates : sequence of feature maps, optional
        Default: `NystromFeatures`, `DualActivationFeatures`, `NTKSketch`, and `NTKRandomFeatures`
        for the NTK of a network.
    rng : int, Generator or None, default 0
        Chooses the rows.
    engine, threads
        As for calling a kernel.
    progress : bool, optional
        Whether to show a bar. Default: on a terminal, after some seconds.

    Returns
    -------
    Choice

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type or range, or no candidate is eligible.

    Examples
    --------
    >>> import numpy as np, ntkfast as nf
    >>> from ntkfast import features
    >>> X = np.random.default_rng(0).normal(size=(400, 8))
    >>> found = features.choose(nf.FullyConnected(2).ntk, X, budget=64, n_draws=2)
    >>> len(found.table), found.table[0].features is found.features
    (4, True)
    """
    count = checks.count("budget", budget, least=1)
    limit = None if seconds is None else checks.number("seconds", seconds, above=0.0)
    checks.choice("criterion", criterion, CRITERIA)
    maps = _default(checked_row_kernel(kernel), count) if candidates is None else list(candidates)
    if not maps or not all(isinstance(one, BaseEstimator) for one in maps):
        raise TypeError("candidates: expected a sequence of at least one feature map")
    fitted, test = _split(checks.matrix("X", X), count, rng)
    options = {"n_draws": n_draws, "engine": engine, "threads": threads, "progress": False}
    table = [
        _measure(kernel, one, fitted, test, count, limit, **options)
        for one in track(maps, progress, "choose", "maps")
    ]
    table.sort(key=lambda one: (bool(one.reason), _figure(one, criterion)))
    if table[0].reason:
        reasons = "; ".join(f"{one.name}: {one.reason}" for one in table)
        raise ValueError(f"candidates: expected one that is eligible, but {reasons}")
    return Choice(table[0].features, tuple(table), criterion)


def _default(kernel: Kernel, count: int) -> list[Any]:
    maps = [
        NystromFeatures(kernel, count),
        DualActivationFeatures(kernel, count),
        NTKSketch(kernel, count),
    ]
    if kernel.kind == "ntk":
        maps.append(NTKRandomFeatures(kernel.network, n_components=count))
    return maps


def _split(X: NDArray[Any], count: int, rng: RNG) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return rows to fit to, enough for landmarks, and other rows to measure on."""
    if len(X) < 20:
        raise ValueError(f"X: expected at least 20 rows, got {len(X)}")
    order = np.random.default_rng(rng).permutation(len(X))
    measured = min(MEASURED, len(X) // 3)
    most = max(4 * count, 2000)
    return X[order[measured : measured + most]], X[order[:measured]]


def _measure(
    kernel: Kernel,
    features: Any,
    fitted: NDArray[Any],
    test: NDArray[Any],
    budget: int,
    limit: float | None,
    **options: Any,
) -> Candidate:
    from sklearn.base import clone

    name, features = type(features).__name__, clone(features)
    try:
        taken = _seconds(features, fitted, test)
        while limit is not None and taken > limit and features.n_components >= 2 * FEWEST:
            features.set_params(n_components=features.n_components // 2)
            taken = _seconds(features, fitted, test)
        found = error(kernel, features, fitted, test=test, **options)
    except (TypeError, ValueError) as problem:
        return Candidate(name, features, None, np.nan, " ".join(str(problem).split()))
    reason = ""
    if limit is not None and taken > limit:
        reason = f"takes more than {limit:.3g} s for 1000 rows"
    if found.n_features > budget:
        reason = f"has more than {budget} features"
    return Candidate(name, features, found, taken, reason)


def _seconds(features: Any, fitted: NDArray[Any], test: NDArray[Any]) -> float:
    """Time the transform, per 1000 rows."""
    from sklearn.base import clone

    ready = clone(features).fit(fitted)
    ready.transform(test[:10])  # compiles, and loads the caches
    taken = min(timeit.repeat(lambda: ready.transform(test), number=1, repeat=TIMED))
    return taken * 1000 / len(test)


def _figure(candidate: Candidate, criterion: str, missing: float = math.inf) -> float:
    return missing if candidate.error is None else getattr(candidate.error, criterion).mean
