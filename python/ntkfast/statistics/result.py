"""The outcome of a two-sample test: statistic, permuted statistics, threshold and p-value."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ntkfast.arrays import checks
from ntkfast.support.telling import warn


@dataclass(frozen=True, eq=False)
class TwoSampleTest:
    """What `ntkfast.statistics.ntk_mmd_test` found.

    Attributes
    ----------
    statistic : float
        The squared maximum mean discrepancy, or its split form.
    null_distribution : (n_permutations,) array
        The same with permuted labels: what it would be if both samples had one distribution.
    threshold : float
        Of the statistic at this level; infinity if there are too few permutations for it.
    pvalue : float
        ``(1 + #{null_distribution >= statistic}) / (1 + n_permutations)``, valid for any sample
        size.
    significance_level : float
        Rate of false alarms.
    rejected : bool
        Whether the statistic exceeds the threshold, ``pvalue <= significance_level``.
    """

    statistic: float
    null_distribution: NDArray[np.float64]
    significance_level: float

    @property
    def pvalue(self) -> float:
        """Probability of so large a statistic without a difference, at most."""
        as_large = np.sum(self.null_distribution >= self.statistic)
        return float((1 + as_large) / (1 + len(self.null_distribution)))

    @property
    def threshold(self) -> float:
        """The k-th largest permuted statistic, k = floor(level (1 + n_permutations))."""
        return threshold(self.null_distribution, self.significance_level)

    @property
    def rejected(self) -> bool:
        """Whether the samples differ at the significance level."""
        return self.statistic > self.threshold

    def __repr__(self) -> str:
        verdict = "different" if self.rejected else "no difference found"
        return (
            f"TwoSampleTest: {verdict} at level {self.significance_level:g}, "
            f"p = {self.pvalue:.3g}, statistic {self.statistic:.4g}, threshold {self.threshold:.4g}"
        )


def threshold(values: NDArray[np.float64], level: float) -> float:
    """Return the k-th largest value, k = floor(level (1 + n)), or infinity if k is 0.

    With probability `level` or less the last of n + 1 exchangeable values is above it.
    """
    k = int(np.floor(level * (1 + len(values)) + 1e-9))
    return float(np.sort(values)[-k]) if k else np.inf


def checked_level(significance_level: object) -> float:
    """Return a rate of false alarms, between 0 and 1.

    Raises
    ------
    TypeError, ValueError
        If it is none.
    """
    number = checks.number("significance_level", significance_level, above=0.0)
    if number >= 1:
        raise ValueError(f"significance_level: expected a number < 1, got {significance_level}")
    return number


def checked_permutations(n_permutations: object, level: float) -> int:
    """Return the number of permutations, with a warning if too few of them can reject.

    Raises
    ------
    TypeError, ValueError
        If it is no positive integer.
    """
    count = checks.count("n_permutations", n_permutations, least=1)
    least = int(np.ceil(1 / level - 1e-9)) - 1
    if count < least:
        warn(
            f"n_permutations: with {count} no p-value is below {1 / (1 + count):.3g}, so that the "
            f"test cannot reject at level {level:g}; expected at least {least}",
            UserWarning,
        )
    return count
