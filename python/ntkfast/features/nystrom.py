"""Nystrom features: a kernel matrix through its columns at a few landmarks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from ntkfast import places
from ntkfast.arrays import checks
from ntkfast.arrays.collections import FloatArray
from ntkfast.arrays.panels import panels
from ntkfast.features.base import FeatureMap
from ntkfast.kernels.base import Kernel, checked_kernel
from ntkfast.kernels.evaluation import Evaluation
from ntkfast.networks.dense import FullyConnected
from ntkfast.spectrum.gram.pivoted_cholesky import pivoted_cholesky

Array = NDArray[np.float64]
Indices = NDArray[np.intp]


@dataclass(eq=False, repr=False)
class NystromFeatures(FeatureMap):
    """Features whose inner products are K(X, Z) K(Z, Z)^+ K(Z, Y) for landmarks Z of the data.

    They depend on the data and have the smallest error per feature of all maps here; rows far
    from all landmarks have features that are too short.

    Parameters
    ----------
    kernel : Kernel, optional
        Any kernel of the package; default ``ntkfast.FullyConnected(1).ntk``. Inputs of kernels of
        other things than rows, sequences for example, are passed to `fit` as to the kernel.
    n_components : int, default 512
        Number of landmarks and features; fewer if there are fewer rows.
    landmarks : {"uniform", "kmeans++", "leverage", "rpcholesky"}, default "rpcholesky"
        "uniform": a random subset. "kmeans++": one after the other with probability proportional
        to the squared distance, in feature space, to the nearest one so far. "leverage": with
        probability proportional to the ridge leverage scores (K (K + lambda)^-1)_ii, estimated
        from twice as many uniform rows, lambda being the mean of the eigenvalues that so many
        features cannot have ([4]_). "rpcholesky": with
        probability proportional to what the ones so far leave of the diagonal, the randomly
        pivoted Cholesky method, by blocks with rejection, which has the same distribution;
        needs n_components columns of memory per row of training data.
    random_state : int, RandomState or None
        As everywhere in scikit-learn.
    engine, threads
        As for calling a kernel.

    Attributes
    ----------
    landmarks_ : (n_features, d) array
        Landmarks.
    indices_ : (n_features,) array
        Their rows in the training data.

    Notes
    -----
    Computed in float64 whatever the type of the rows: K(Z, Z) is nearly singular. Directions below
    n_features eps of its largest eigenvalue are dropped and give columns of zeros.

    References
    ----------
    .. [1] C. Williams, M. Seeger, "Using the Nystroem method to speed up kernel machines", 2000.
    .. [2] Y. Chen, E. Epperly, J. Tropp, R. Webber, "Randomly pivoted Cholesky", 2023.
    .. [3] E. Epperly, J. Tropp, R. Webber, "Embrace rejection: kernel matrix approximation by
       accelerated randomly pivoted Cholesky", 2024.
    .. [4] C. Musco, C. Musco, "Recursive sampling for the Nystrom method", NeurIPS 2017 (the scores
       and lambda; one level of their recursion is used here).

    Examples
    --------
    >>> import numpy as np, ntkfast as nf
    >>> from ntkfast.features import NystromFeatures
    >>> X = np.random.default_rng(0).normal(size=(100, 3))
    >>> F = NystromFeatures(nf.FullyConnected(2).ntk, 100, random_state=0).fit_transform(X)
    >>> np.allclose(F @ F.T, nf.FullyConnected(2).ntk(X))
    True
    """

    _sparse = ""

    kernel: Kernel | None = None
    n_components: int = 512
    _: KW_ONLY
    landmarks: str = "rpcholesky"
    random_state: Any = None
    engine: str | None = None
    threads: int | None = None

    def _given(self) -> Kernel:
        return FullyConnected(1).ntk if self.kernel is None else checked_kernel(self.kernel)

    def _rows(self, X: Any, reset: bool, first: int = 0) -> FloatArray:
        """Validate rows as scikit-learn does, and other inputs as their kernel does."""
        kernel = self._given()
        if kernel.of_rows or places.of(X) is not places.HOST:
            return super()._rows(X, reset, first)  # type: ignore[no-any-return]
        columns = X.shape[1] if hasattr(X, "shape") and len(X.shape) == 2 else None
        if reset and columns is not None:  # rows of pixels, of a network that knows the shape
            self.n_features_in_ = int(columns)
        return kernel.collect(X)  # type: ignore[no-any-return] # behaves like an array here

    def _draw(self, X: FloatArray, generator: Generator) -> int:
        self.kernel_ = self._given()
        choose = SAMPLERS[checks.choice("landmarks", self.landmarks, tuple(SAMPLERS))]
        evaluation = Evaluation(self.kernel_, self.engine, self.threads)
        rows = X.astype(np.float64, copy=False)
        count = min(self.n_components, len(X))
        chosen = choose(evaluation, rows, count, generator)
        if not len(chosen):
            raise ValueError(f"kernel: {self.kernel_!r} vanishes at all rows of X")
        self.indices_, self.landmarks_ = chosen, rows[chosen]
        values, vectors = np.linalg.eigh(evaluation(self.landmarks_))
        kept = values > count * np.finfo(np.float64).eps * max(values[-1], 0)
        self.whiten_ = vectors * np.where(kept, 1 / np.sqrt(np.where(kept, values, 1)), 0)
        return len(chosen)

    def _width(self) -> int:
        return 2 * len(self.landmarks_)

    def _write(self, X: FloatArray, out: FloatArray) -> None:
        evaluation = Evaluation(self.kernel_, self.engine, self.threads)
        out[...] = evaluation(X.astype(np.float64, copy=False), self.landmarks_) @ self.whiten_


def spread(kernel: Evaluation, X: Array, count: int, generator: Generator) -> Indices:
    """Choose rows by k-means++ with the distance of the kernel; distinct while rows differ."""
    diagonal = np.asarray(kernel.diag(X))
    chosen = [int(generator.integers(len(X)))]
    nearest = np.full(len(X), np.inf)
    while len(chosen) < count:
        last = chosen[-1]
        column = kernel(X, X[last : last + 1])[:, 0]
        nearest = np.minimum(nearest, np.maximum(diagonal + diagonal[last] - 2 * column, 0))
        nearest[chosen] = 0
        if not nearest.any():
            break  # only copies of chosen rows are left
        chosen.append(int(generator.choice(len(X), p=nearest / nearest.sum())))
    return np.array(chosen)


def by_leverage(kernel: Evaluation, X: Array, count: int, generator: Generator) -> Indices:
    """Choose rows with probability proportional to their ridge leverage scores."""
    return weighted_sample(leverage_scores(kernel, X, count, generator), count, generator)


def leverage_scores(kernel: Evaluation, X: Array, count: int, generator: Generator) -> Array:
    """Estimate the ridge leverage scores of rows, for a sample of `count` of them.

    With a uniform sample S of s rows, K is about K(X, S) (K(S, S) + mu)^-1 K(S, X) up to what the
    ridge mu = lambda s / n takes away; what is missing on the diagonal, over lambda, is the score.
    """
    size = min(len(X), 2 * count)
    sample = X[generator.choice(len(X), size, replace=False)]
    values, vectors = np.linalg.eigh(kernel(sample))
    rest = float(np.sum(np.maximum(values[: size - count], 0))) if size > count else 0.0
    least = size * np.finfo(np.float64).eps * max(float(values[-1]), np.finfo(np.float64).tiny)
    ridge = max(rest / count, least)
    whiten = vectors / np.sqrt(np.maximum(values, 0) + ridge)
    scores = np.asarray(kernel.diag(X), np.float64).copy()
    for part in panels(len(X), 8 * size, places.HOST.feature_bytes, least=16):
        scores[part] -= np.sum((kernel(X[part], sample) @ whiten) ** 2, axis=1)
    return np.clip(scores / (ridge * len(X) / size), 0, 1)


def weighted_sample(weights: Array, count: int, generator: Generator) -> Indices:
    """Draw distinct indices with probabilities proportional to the weights, one after the other."""
    # The order of exponential arrival times is that of successive draws without replacement.
    with np.errstate(divide="ignore"):
        times = generator.exponential(size=len(weights)) / weights
    return np.argsort(times)[:count]


def pivots(kernel: Evaluation, X: Array, count: int, generator: Generator) -> Indices:
    """Choose rows by randomly pivoted Cholesky."""
    return pivoted_cholesky(kernel, X, count, generator).pivots


SAMPLERS: dict[str, Callable[[Evaluation, Array, int, Generator], Indices]] = {
    "uniform": lambda _, X, count, generator: generator.choice(len(X), count, replace=False),
    "kmeans++": spread,
    "leverage": by_leverage,
    "rpcholesky": pivots,
}
