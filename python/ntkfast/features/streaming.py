"""Ridge regression on features of data larger than memory, in one pass."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from ntkfast import inputs
from ntkfast.engines import row_norms
from ntkfast.features.base import BaseEstimator, chunks

try:
    from sklearn.base import RegressorMixin, clone
except ImportError as error:  # pragma: no cover
    raise ImportError(
        "ntkfast.features needs scikit-learn: pip install 'ntkfast[sklearn]'"
    ) from error

Self = TypeVar("Self", bound="FeatureRidge")


class FeatureRidge(
    RegressorMixin,  # type: ignore[misc]
    BaseEstimator,  # type: ignore[misc]
):
    """Ridge regression on the features of a transformer, fed with rows part by part.

    Only F^T F, F^T y and sums are kept, in float64, whatever the type of the rows: memory is
    n_features^2, and one pass over the data is all there is. Parts may come in any order; the
    result is that of one fit to all of them, up to rounding.

    Parameters
    ----------
    features : feature map
        Cloned. Fitted to the rows of `fit`, or to those of the first `partial_fit`.
    alpha : float, default 1.0
        Weight of the squared coefficients, as in ``sklearn.linear_model.Ridge``.

    Attributes
    ----------
    features_ : feature map
        The fitted transformer.
    rows_ : int
        Number of rows seen.
    coef_ : (n_features,) or (n_features, targets) array
    intercept_ : float or (targets,) array

    Raises
    ------
    TypeError, ValueError
        In `fit` and `partial_fit`, if `alpha` is not a positive number or y has not one row per
        row of X, is not finite, or has another number of targets than before.

    Examples
    --------
    >>> import numpy as np, ntkfast as nf
    >>> from ntkfast.features import DualActivationFeatures, FeatureRidge
    >>> generator = np.random.default_rng(0)
    >>> model = FeatureRidge(DualActivationFeatures(nf.FullyConnected(2).ntk, 200, random_state=0))
    >>> for _ in range(5):
    ...     X = generator.normal(size=(1000, 5))
    ...     model = model.partial_fit(X, np.abs(X[:, 0]))
    >>> X = generator.normal(size=(1000, 5))
    >>> bool(model.score(X, np.abs(X[:, 0])) > 0.9)
    True
    """

    def __init__(self, features: Any, alpha: float = 1.0) -> None:
        self.features = features
        self.alpha = alpha

    def fit(self: Self, X: Any, y: Any) -> Self:
        """Forget what was seen, and fit to these rows.

        Parameters
        ----------
        X : (n, d) array
        y : (n,) or (n, targets) array

        Returns
        -------
        self
        """
        if hasattr(self, "gram_"):
            del self.gram_
        return self.partial_fit(X, y)

    def partial_fit(self: Self, X: Any, y: Any) -> Self:
        """Add rows to those seen so far.

        Parameters
        ----------
        X : (n, d) array
        y : (n,) or (n, targets) array

        Returns
        -------
        self
        """
        inputs.number("alpha", self.alpha, above=0.0)
        rows = inputs.matrix("X", X)
        inputs.rows("X", rows, row_norms(rows))  # all of them, before the first sum changes
        targets, vector = inputs.columns("y", y, len(rows))
        if not hasattr(self, "gram_"):
            self._start(rows, targets.shape[1], vector)
        if (targets.shape[1], vector) != (self.cross_.shape[1], self.vector_):
            raise ValueError(f"y: expected targets shaped like before, got {np.shape(y)}")
        for part in chunks(len(rows), 8 * len(self.gram_)):
            self._add(self.features_.transform(rows[part]), targets[part])
        self.__dict__.pop("solution_", None)
        return self

    def _start(self, rows: NDArray[Any], targets: int, vector: bool) -> None:
        self.features_ = clone(self.features).fit(rows)
        self.n_features_in_ = rows.shape[1]
        size = len(self.features_.get_feature_names_out())
        self.rows_, self.vector_ = 0, vector
        self.sum_, self.target_sum_ = np.zeros(size), np.zeros(targets)
        self.gram_, self.cross_ = np.zeros((size, size)), np.zeros((size, targets))

    def _add(self, F: NDArray[Any], y: NDArray[Any]) -> None:
        F, y = F.astype(np.float64, copy=False), y.astype(np.float64, copy=False)
        self.gram_ += F.T @ F
        self.cross_ += F.T @ y
        self.sum_ += F.sum(axis=0)
        self.target_sum_ += y.sum(axis=0)
        self.rows_ += len(F)

    def _solve(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Solve the centred normal equations when they are first needed after new rows."""
        if not hasattr(self, "gram_"):
            from sklearn.exceptions import NotFittedError

            raise NotFittedError("this FeatureRidge is not fitted yet: call fit or partial_fit")
        if not hasattr(self, "solution_"):
            mean, target_mean = self.sum_ / self.rows_, self.target_sum_ / self.rows_
            gram = self.gram_ - np.outer(self.sum_, mean)
            gram[np.diag_indices_from(gram)] += self.alpha
            cross = self.cross_ - np.outer(self.sum_, target_mean)
            coefficients = cho_solve(cho_factor(gram, overwrite_a=True), cross)
            self.solution_ = coefficients, target_mean - mean @ coefficients
        return self.solution_

    @property
    def coef_(self) -> NDArray[np.float64]:
        """Coefficients of the features."""
        coefficients = self._solve()[0]
        return coefficients[:, 0] if self.vector_ else coefficients

    @property
    def intercept_(self) -> Any:
        """Constant term."""
        constant = self._solve()[1]
        return float(constant[0]) if self.vector_ else constant

    def predict(self, X: Any) -> NDArray[Any]:
        """Predict targets of rows.

        Parameters
        ----------
        X : (n, d) array

        Returns
        -------
        (n,) or (n, targets) array, float64

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before `fit` or `partial_fit`.
        """
        coefficients, constant = self._solve()
        rows = inputs.matrix("X", X)
        result = np.empty((len(rows), len(constant)))
        for part in chunks(len(rows), 8 * len(coefficients)):
            result[part] = self.features_.transform(rows[part]) @ coefficients + constant
        return result[:, 0] if self.vector_ else result
