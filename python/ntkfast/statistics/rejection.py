"""Power of a two-sample test: how often it finds a difference in simulated samples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ntkfast.arrays import checks
from ntkfast.statistics.result import TwoSampleTest, checked_level
from ntkfast.statistics.two_sample import ntk_mmd_test
from ntkfast.support.progress import track
from ntkfast.support.randomness import RNG, root, streams


@dataclass(frozen=True, eq=False)
class Power:
    """Rate at which a test rejected (`ntkfast.statistics.power`).

    Attributes
    ----------
    pvalues : (n_runs,) array
    significance_level : float
    rate : float
        Share of the runs with ``pvalue <= significance_level``.
    standard_error : float
        Of the rate, ``sqrt(rate (1 - rate) / n_runs)``.
    """

    pvalues: NDArray[np.float64]
    significance_level: float

    @property
    def rate(self) -> float:
        """Share of the runs that rejected."""
        return float(np.mean(self.pvalues <= self.significance_level + 1e-12))

    @property
    def standard_error(self) -> float:
        """Binomial standard error of the rate."""
        return float(np.sqrt(self.rate * (1 - self.rate) / len(self.pvalues)))

    def __repr__(self) -> str:
        rate = f"{self.rate:.3f} +- {self.standard_error:.3f}"
        return f"Power: {rate} at level {self.significance_level:g}"


def power(
    draw: Callable[[np.random.Generator], tuple[ArrayLike, ArrayLike]],
    *,
    test: Callable[..., TwoSampleTest] = ntk_mmd_test,
    n_runs: int = 200,
    significance_level: float = 0.05,
    rng: RNG = 0,
    progress: bool | None = None,
    **options: Any,
) -> Power:
    """Estimate how often a test finds a difference; under the null, its rate of false alarms.

    Parameters
    ----------
    draw : callable
        Takes a `numpy.random.Generator` and returns two samples.
    test : callable, default `ntk_mmd_test`
        Also `trained_mmd_test`. Each run has an integer `rng` of its own: with the default kernel
        another network.
    n_runs : int, default 200
    significance_level : float, default 0.05
    rng : int, Generator or None
    progress : bool, optional
        Whether to show a bar. Default: on a terminal, after some seconds.
    **options
        Passed to the test.

    Returns
    -------
    Power

    Examples
    --------
    >>> import ntkfast as nf
    >>> def shifted(generator):
    ...     X, Y = generator.normal(size=(2, 50, 3))
    ...     return X, Y + 1
    >>> nf.statistics.power(shifted, kernel=nf.Gaussian(0.5), n_runs=20).rate
    1.0
    """
    rate, count = checked_level(significance_level), checks.count("n_runs", n_runs, least=1)
    values = np.empty(count)
    generators = track(streams(root(rng), count=count), progress, "power", "runs", count)
    for run, generator in enumerate(generators):
        X, Y = draw(generator)
        own = int(generator.integers(2**31))
        values[run] = test(X, Y, significance_level=rate, rng=own, **options).pvalue
    return Power(values, rate)
