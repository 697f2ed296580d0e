"""Online detection of a change of distribution, by the discrepancy of a window and a reference."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike, NDArray

from ntkfast.arrays import checks
from ntkfast.arrays.foreign import host_array
from ntkfast.kernels.base import Kernel, checked_kernel
from ntkfast.kernels.evaluation import Evaluation
from ntkfast.statistics.result import checked_level, threshold
from ntkfast.support.progress import track
from ntkfast.support.randomness import RNG

Values = NDArray[np.float64]

POOL_ROWS = 2000  # rows of the reference that streams are drawn from: their Gram matrix is stored


class ChangePoint:
    """Watches a stream for a change of distribution.

    After each input the statistic is the unbiased estimate of the squared maximum mean discrepancy
    between the last `window` inputs and a reference sample from before the change. One half of the
    reference is compared with; streams drawn from the other half tell how large the statistic gets
    without a change.

    Parameters
    ----------
    kernel : Kernel
    reference : (n, ...) array
        Inputs without a change.
    window : int, default 50
        Inputs that are compared: small windows react faster, large ones see smaller changes.
    horizon : int, default 1000
        Inputs that are watched.
    significance_level : float, default 0.05
        Rate of false alarms: the probability that the statistic of a stream without a change
        exceeds the threshold within the horizon, as far as the reference tells.
    n_streams : int, default 200
        Simulated streams.
    rng : int, Generator or None
    engine, threads
        As for calling a kernel.
    progress : bool, optional
        Whether to show a bar. Default: on a terminal, after some seconds.

    Attributes
    ----------
    threshold : float
    maxima : (n_streams,) array
        Largest statistic of each simulated stream.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, shape or range, or the reference has less than four
        windows.

    Notes
    -----
    An input costs n/2 + 2 window kernel values. The windowed statistic against a reference is that
    of kernel scan statistics (Li, Xie, Dai, Song, "M-statistic for kernel change-point detection",
    NeurIPS 2015); Cheng and Xie (arXiv:2106.03227) use the NTK in it. Their procedure could not be
    read in detail: the calibration here is our own.

    Examples
    --------
    >>> import numpy as np
    >>> import ntkfast as nf
    >>> g = np.random.default_rng(0)
    >>> watch = nf.statistics.ChangePoint(
    ...     nf.FullyConnected(1).ntk, g.normal(size=(400, 4)), window=30, horizon=200
    ... )
    >>> stream = g.normal(size=(200, 4)) + 1.5 * (np.arange(200) >= 120)[:, None]
    >>> alarm = watch.first_alarm(stream)
    >>> 120 <= alarm < 140
    True
    """

    def __init__(
        self,
        kernel: Kernel,
        reference: ArrayLike,
        *,
        window: int = 50,
        horizon: int = 1000,
        significance_level: float = 0.05,
        n_streams: int = 200,
        rng: RNG = 0,
        engine: str | None = None,
        threads: int | None = None,
        progress: bool | None = None,
    ) -> None:
        self.kernel = checked_kernel(kernel)
        self._evaluate = Evaluation(self.kernel, engine, threads)
        self.window = checks.count("window", window, least=2)
        self.significance_level = checked_level(significance_level)
        length = checks.count("horizon", horizon, least=self.window)
        count = checks.count("n_streams", n_streams, least=1)
        rows = checks.real_array("reference", host_array("reference", reference))
        if len(rows) < 4 * self.window:
            raise ValueError(
                f"reference: expected at least 4 windows, {4 * self.window} inputs, got {len(rows)}"
            )
        generator = np.random.default_rng(rng)
        order = generator.permutation(len(rows))
        self._base = rows[order[: len(rows) // 2]]
        n = len(self._base)
        column = self._evaluate.matmul(self._base, None, np.ones(n)).astype(np.float64)
        self._base_mean = (column.sum() - self._evaluate.diag(self._base).sum()) / (n * (n - 1))
        self._last = rows[:0]
        streams = track(range(count), progress, "change point", "streams")
        self.maxima = self._simulate(rows[order[n : n + POOL_ROWS]], length, streams, generator)
        self.threshold = threshold(self.maxima, self.significance_level)

    def update(self, X: ArrayLike) -> Values:
        """Take inputs of the stream and return the statistic after each of them.

        Parameters
        ----------
        X : (n, ...) array
            One or more new inputs, in their order.

        Returns
        -------
        (n,) array
            NaN until a window is full.
        """
        new = checks.real_array("X", host_array("X", X))
        found = []
        for first in range(0, len(new), self.window):
            part = new[first : first + self.window]
            Z = np.concatenate([self._last, part])
            found.append(self._statistics(self._evaluate(Z), self._means(Z))[-len(part) :])
            self._last = Z[-(self.window - 1) :]
        return np.concatenate(found) if found else np.empty(0)

    def first_alarm(self, X: ArrayLike) -> int | None:
        """Take inputs of the stream; return which one was the first above the threshold.

        Returns
        -------
        int or None
            Index in X, None if there was none.
        """
        above = np.flatnonzero(self.update(X) > self.threshold)
        return int(above[0]) if len(above) else None

    def _means(self, Z: NDArray[np.floating]) -> Values:
        """Return the mean embedding of the reference at inputs."""
        weights = np.full(len(self._base), 1 / len(self._base))
        return self._evaluate.matmul(Z, self._base, weights).astype(np.float64)

    def _statistics(self, K: NDArray[np.floating], means: Values) -> Values:
        """Return the statistic of the windows that end at each input."""
        w, count = self.window, len(K)
        values = np.full(count, np.nan)
        if count < w:
            return values
        # Sums over the squares of windows on the diagonal, from a summed-area table.
        table = np.zeros((count + 1, count + 1))
        np.fill_diagonal(K := np.array(K, np.float64), 0)
        np.cumsum(np.cumsum(K, axis=0), axis=1, out=table[1:, 1:])
        high = np.arange(w, count + 1)
        low = high - w
        inside = table[high, high] - 2 * table[high, low] + table[low, low]
        cumulated = np.append(0, np.cumsum(means))
        cross = cumulated[high] - cumulated[low]
        values[w - 1 :] = self._base_mean + inside / (w * (w - 1)) - 2 * cross / w
        return values

    def _simulate(
        self, rows: NDArray[Any], length: int, streams: Iterable[int], generator: Generator
    ) -> Values:
        """Return the largest statistics of streams that permute the rows again and again."""
        K, means, w = self._evaluate(rows), self._means(rows), self.window
        maxima = []
        for _ in streams:
            rounds = range(-(-length // len(rows)))
            order = np.concatenate([generator.permutation(len(rows)) for _ in rounds])[:length]
            parts = [order[first : first + 2 * w - 1] for first in range(0, length - w + 1, w)]
            values = [self._statistics(K[np.ix_(part, part)], means[part]) for part in parts]
            maxima.append(max(map(np.nanmax, values)))
        return np.array(maxima)
