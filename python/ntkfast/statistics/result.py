"""The outcome of a two-sample test: statistic, permuted statistics, threshold and p-value."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ntkfast.arrays import checks


@dataclass(frozen=True, eq=False)
class TwoSampleTest:
    """What `ntkfast.statistics.ntk_mmd_test` found.

    Attributes
    ----------
    statistic : float
        The squared maximum mean discrepancy, or its split form.
    permuted : (p,) array
        The same with permuted labels: what it would be if both samples had one distribution.
    threshold : float
        Of the statistic at `level`; infinity if there are too few permutations for it.
    p_value : float
        ``(1 + #{permuted >= statistic}) / (1 + p)``, valid for any sample size.
    level : float
        Rate of false alarms.
    rejected : bool
        Whether the statistic exceeds the threshold, ``p_value <= level``.
    """

    statistic: float
    permuted: NDArray[np.float64]
    level: float

    @property
    def p_value(self) -> float:
        """Probability of so large a statistic without a difference, at most."""
        return float((1 + np.sum(self.permuted >= self.statistic)) / (1 + len(self.permuted)))

    @property
    def threshold(self) -> float:
        """The k-th largest permuted statistic, k = floor(level (1 + p))."""
        k = int(np.floor(self.level * (1 + len(self.permuted)) + 1e-9))
        return float(np.sort(self.permuted)[-k]) if k else np.inf

    @property
    def rejected(self) -> bool:
        """Whether the samples differ at the level."""
        return self.statistic > self.threshold

    def __repr__(self) -> str:
        verdict = "different" if self.rejected else "no difference found"
        return (
            f"TwoSampleTest: {verdict} at level {self.level:g}, p = {self.p_value:.3g}, "
            f"statistic {self.statistic:.4g}, threshold {self.threshold:.4g}"
        )


def checked_level(level: object) -> float:
    """Return a rate of false alarms, between 0 and 1.

    Raises
    ------
    TypeError, ValueError
        If it is none.
    """
    number = checks.number("level", level, above=0.0)
    if number >= 1:
        raise ValueError(f"level: expected a number < 1, got {level}")
    return number
