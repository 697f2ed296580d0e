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


@dataclass(frozen=True, eq=False)
class Power:
    """Rate at which a test rejected (`ntkfast.statistics.power`).

    Attributes
    ----------
    p_values : (runs,) array
    level : float
    rate : float
        Share of the runs with ``p_value <= level``.
    standard_error : float
        Of the rate, ``sqrt(rate (1 - rate) / runs)``.
    """

    p_values: NDArray[np.float64]
    level: float

    @property
    def rate(self) -> float:
        """Share of the runs that rejected."""
        return float(np.mean(self.p_values <= self.level + 1e-12))

    @property
    def standard_error(self) -> float:
        """Binomial standard error of the rate."""
        return float(np.sqrt(self.rate * (1 - self.rate) / len(self.p_values)))

    def __repr__(self) -> str:
        return f"Power: {self.rate:.3f} +- {self.standard_error:.3f} at level {self.level:g}"


def power(
    draw: Callable[[np.random.Generator], tuple[ArrayLike, ArrayLike]],
    *,
    test: Callable[..., TwoSampleTest] = ntk_mmd_test,
    runs: int = 200,
    level: float = 0.05,
    seed: int = 0,
    **options: Any,
) -> Power:
    """Estimate how often a test finds a difference; under the null, its rate of false alarms.

    Parameters
    ----------
    draw : callable
        Takes a `numpy.random.Generator` and returns two samples.
    test : callable, default `ntk_mmd_test`
        Also `trained_mmd_test`. Each run has a seed of its own: with the default kernel another
        network.
    runs : int, default 200
    level : float, default 0.05
    seed : int
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
    >>> nf.statistics.power(shifted, kernel=nf.Gaussian(0.5), runs=20).rate
    1.0
    """
    rate, count = checked_level(level), checks.count("runs", runs, least=1)
    values = np.empty(count)
    for run in range(count):
        generator = np.random.default_rng([seed, run])
        X, Y = draw(generator)
        own = int(generator.integers(2**31))
        values[run] = test(X, Y, level=rate, seed=own, **options).p_value
    return Power(values, rate)
