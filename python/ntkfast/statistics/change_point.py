"""Online detection of a change of distribution, by the discrepancy of a window and a reference."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

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
Indices = NDArray[np.intp]
Kernels = NDArray[np.floating]
Lag = Callable[[int], Kernels]  # from k to the kernel values of inputs i and i + k

POOL_ROWS = (
    2000  # rows of the reference that are split again and again: their Gram matrix is stored
)
BEYOND = 2  # simulated streams that exceed the threshold
CAUTION = 16.0  # divides the level of splits that are much shorter than the horizon
CHUNK = 64  # splits at a time


class ChangePoint:
    """Watches a stream for a change of distribution.

    After each input the statistic is the unbiased estimate of the squared maximum mean discrepancy
    between the last `window` inputs and a reference sample from before the change. How large it
    gets without one is known from random splits of the reference: one half is compared with, the
    other half is a stream.

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
        exceeds the threshold within the horizon; see the notes.
    n_streams : int, optional
        Simulated streams. Default: as many that two exceed the threshold, 400 at least.
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
    stream_length : int
        Inputs of a simulated stream: half of the reference, or the horizon.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, shape or range, the reference has less than four
        windows, or there are too few streams for the level.

    Notes
    -----
    The inputs of a split are as fresh to each other as those of a stream are to the reference, so
    that the largest statistic of a split has the distribution of that of such a stream, whatever
    the kernel. A horizon of several times the length of a split multiplies the chances: with a
    share s of the windows of the horizon in a split, the level of a split is 1 - (1 - level)^s,
    which is right for independent parts and on the safe side for others. It is divided by
    16^(1 - s) besides, for what a short reference does not know: inputs so rare that it may have
    none. No reference can tell of rarer ones, and `bench/change_point_level.py` measures the rate
    of false alarms for inputs of one's own kind.

    An input costs n + 2 window kernel values. The windowed statistic against a reference is that
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
        n_streams: int | None = None,
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
        rows = checks.real_array("reference", host_array("reference", reference))
        if len(rows) < 4 * self.window:
            raise ValueError(
                f"reference: expected at least 4 windows, {4 * self.window} inputs, got {len(rows)}"
            )
        generator = np.random.default_rng(rng)
        self._base, n = rows, len(rows)
        column = self._evaluate.matmul(rows, None, np.ones(n)).astype(np.float64)
        self._base_mean = (column.sum() - self._evaluate.diag(rows).sum()) / (n * (n - 1))
        self._last = rows[:0]
        pool = rows[generator.permutation(n)[:POOL_ROWS]]
        self.stream_length = min(length, len(pool) - len(pool) // 2)
        share = (self.stream_length - self.window + 1) / (length - self.window + 1)
        level = -math.expm1(share * math.log1p(-self.significance_level)) / CAUTION ** (1 - share)
        if n_streams is None:
            n_streams = max(400, math.ceil(BEYOND / level))
        least = math.ceil(1 / level - 1e-9) - 1
        count = checks.count("n_streams", n_streams, least=max(least, 1))
        streams = track(range(-(-count // CHUNK)), progress, "change point", "streams")
        self.maxima = self._simulate(self._evaluate(pool), streams, generator)[:count]
        self.threshold = threshold(self.maxima, level)

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
            values = self._statistics(self._evaluate(Z).diagonal, self._means(Z), self._base_mean)
            found.append(values[-len(part) :])
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

    def _statistics(self, lag: Lag, means: Values, base_mean: float | Values) -> Values:
        """Return the statistic of the windows that end at each input, of one stream or of many.

        Parameters
        ----------
        lag : callable
            With results of shape (..., n - k).
        means : (..., n) array
        base_mean : float or array that fits the result
        """
        w, count = self.window, means.shape[-1]
        values = np.full(means.shape, np.nan)
        if count < w:
            return values
        # A window that moves on gains an input's values with those before, loses those after one.
        before, after = np.zeros(means.shape), np.zeros(means.shape)
        for k in range(1, w):
            K = lag(k)
            before[..., k:] += K
            after[..., :-k] += K
        before[..., w:] -= after[..., :-w]
        inside = 2 * np.cumsum(before, axis=-1)[..., w - 1 :]
        cross = np.cumsum(means, axis=-1)[..., w - 1 :]
        cross[..., 1:] -= np.cumsum(means[..., :-w], axis=-1)
        values[..., w - 1 :] = base_mean + inside / (w * (w - 1)) - 2 * cross / w
        return values

    def _simulate(self, K: Kernels, streams: Iterable[int], generator: Generator) -> Values:
        """Return the largest statistics of streams against what is left of the rows."""
        rows, length = len(K), self.stream_length
        own, flat, b = np.diag(K).astype(np.float64), K.ravel(), rows - length
        maxima = []
        for _ in streams:
            orders = np.argsort(generator.random((CHUNK, rows)), axis=1)
            stream, chosen = orders[:, :length], np.zeros((rows, CHUNK))
            np.put_along_axis(chosen, orders[:, length:].T, 1.0, axis=0)
            sums = K @ chosen
            base_means = (np.sum(chosen * sums, axis=0) - own @ chosen) / (b * (b - 1))
            means = np.take_along_axis(sums.T / b, stream, axis=1)
            starts = stream * rows

            def lag(k: int, starts: Indices = starts, stream: Indices = stream) -> Kernels:
                return flat.take(starts[:, :-k] + stream[:, k:])

            values = self._statistics(lag, means, base_means[:, None])
            maxima.append(np.nanmax(values, axis=1))
        return np.concatenate(maxima)
