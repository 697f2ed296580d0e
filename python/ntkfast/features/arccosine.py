"""Random features of the arc-cosine kernels of order 0 and 1."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass
from typing import Any

from numpy.random import Generator

from ntkfast.arrays import checks
from ntkfast.arrays.collections import FloatArray
from ntkfast.features import neurons, projections
from ntkfast.features.base import FeatureMap, norms_of


@dataclass(eq=False, repr=False)
class ArcCosineFeatures(FeatureMap):
    """Random features of `ntkfast.ArcCosine` of order 0 (steps) and 1 (ReLU).

    sqrt(2/m) step(w.x) or sqrt(2/m) relu(w.x) for m random directions w.

    Parameters
    ----------
    order : {0, 1}, default 1
    n_components : int, default 1024
        Number m of features.
    weights : {"gaussian", "orthogonal", "structured"}, default "orthogonal"
        "gaussian": independent. "orthogonal": blocks of d exactly orthogonal directions.
        "structured": rows of three products of Hadamard and sign matrices, in O(m log d)
        operations per row and without a stored matrix; faster than a matrix product for large d,
        and only approximately unbiased.
    leverage : bool, default False
        Only for order 1: draw w from the leverage-type density |w|^2 exp(-|w|^2/2) and divide by
        |w|/sqrt(d). Such a w has a uniform direction and |w|^2 ~ chi^2_{d+2}; the weight cancels
        the length, so that what remains is a direction of length sqrt(d), less variance for the
        same price.
    random_state : int, RandomState or None
        As everywhere in scikit-learn.

    Raises
    ------
    ValueError
        In `fit`, for `leverage` with order 0, where it has no meaning.

    Notes
    -----
    Rows of zeros have no features with order 1. With order 0 they count as orthogonal to all rows,
    as for the kernel, but also to each other.

    References
    ----------
    .. [1] Y. Cho, L. K. Saul, "Kernel methods for deep learning", NeurIPS 2009.
    .. [2] A. Zandieh et al., "Scaling neural tangent kernels via sketching and random features",
       NeurIPS 2021 (the density; sampled there by Gibbs steps).
    .. [3] F. X. Yu et al., "Orthogonal random features", NeurIPS 2016.

    Examples
    --------
    >>> import numpy as np, ntkfast as nf
    >>> from ntkfast.features import ArcCosineFeatures
    >>> X = np.eye(3)
    >>> F = ArcCosineFeatures(1, n_components=3000, random_state=0).fit_transform(X)
    >>> bool(np.abs(F @ F.T - nf.ArcCosine(1)(X)).max() < 0.1)
    True
    """

    _sparse = "rows"

    order: int = 1
    _: KW_ONLY
    n_components: int = 1024
    weights: str = "orthogonal"
    leverage: bool = False
    random_state: Any = None

    def _draw(self, X: FloatArray, generator: Generator) -> int:
        if checks.count("order", self.order) > 1:
            raise ValueError(f"order: expected 0 or 1, got {self.order}")
        checks.choice("weights", self.weights, projections.WEIGHTS)
        if self.leverage and self.order == 0:
            raise ValueError("leverage: expected False with order=0, whose features have no length")
        length = "root" if self.leverage else "gaussian"
        self.projection_ = projections.draw(
            self.weights, X.shape[1], self.n_components, generator, length=length
        )
        return int(self.n_components)

    def _check_device(self) -> None:
        """Any device will do."""

    def _write(self, X: Any, out: FloatArray) -> None:
        kind = "step" if self.order == 0 else "relu"
        plan = neurons.plain(kind, math.sqrt(2 / self.n_components), out.dtype)
        neurons.answer(plan, self.projection_, X, norms_of(X), out)
