"""Classification on features of data larger than memory, in one pass."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin
from sklearn.utils import column_or_1d

from ntkfast.arrays import dask_arrays
from ntkfast.features.base import BaseEstimator, check_is_fitted
from ntkfast.features.normal import Array
from ntkfast.features.streaming import FeatureRidge, parts, sliceable

Self = TypeVar("Self", bound="FeatureClassifier")


class FeatureClassifier(
    ClassifierMixin,  # type: ignore[misc]
    BaseEstimator,  # type: ignore[misc]
):
    """Classification by the largest of one ridge regression per class, on features.

    It is `FeatureRidge` on the classes: one pass, in parts that may come in any order, with sums of
    several processes added by `merge`, and penalties compared without another pass.

    Parameters
    ----------
    features : feature map
        Cloned. Fitted to rows of the first part, at most 16,384.
    alpha : float or sequence of float, default 1.0
        As for `FeatureRidge`.
    progress : bool, optional
        Whether `fit` shows a bar. Default: on a terminal, after some seconds.

    Attributes
    ----------
    classes_ : (classes,) array
        In ascending order.
    ridge_ : FeatureRidge
        The regression. Its targets are 1 - 1/C for the class of a row and -1/C for the C - 1
        others; of two classes it is their difference, 1 or -1.

    Examples
    --------
    >>> import numpy as np, ntkfast as nf
    >>> from ntkfast.features import DualActivationFeatures, FeatureClassifier
    >>> generator = np.random.default_rng(0)
    >>> features = DualActivationFeatures(nf.FullyConnected(2).ntk, 200, random_state=0)
    >>> model = FeatureClassifier(features, alpha=0.1)
    >>> for _ in range(5):
    ...     X = generator.normal(size=(1000, 3))
    ...     model = model.partial_fit(X, X[:, 0] * X[:, 1] > 0, classes=[False, True])
    >>> X = generator.normal(size=(1000, 3))
    >>> bool(model.score(X, X[:, 0] * X[:, 1] > 0) > 0.9)
    True
    """

    def __init__(self, features: Any, alpha: Any = 1.0, *, progress: bool | None = None) -> None:
        self.features = features
        self.alpha = alpha
        self.progress = progress

    def fit(
        self: Self, X: Any, y: Any = None, sample_weight: Any = None, *, classes: Any = None
    ) -> Self:
        """Forget what was seen, and fit to these rows, which are read once, part by part.

        Parameters
        ----------
        X : (n, d) array, or iterable of pairs
            As for `FeatureRidge`.
        y : (n,) array of classes
            Left out for an iterable.
        sample_weight : (n,) array, optional
            Weights >= 0; not for dask arrays.
        classes : sequence, optional
            All classes there are; needed for an iterable. Default: those in y.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            If a parameter has the wrong type or range, X is not finite, or y has fewer than two
            classes or one that is unknown.
        """
        labels = None if y is None else _labels(y)
        if labels is None and hasattr(X, "shape"):
            name = type(self).__name__
            raise ValueError(f"y: {name} requires y to be passed, but the target y is None")
        if classes is None and labels is None:
            raise ValueError("classes: expected all classes of an iterable, got None")
        self._begin(labels if classes is None else classes)
        if labels is None:
            self.ridge_.fit(self._encoded(X), sample_weight=sample_weight)
        elif dask_arrays.is_dask(X):
            self.ridge_.fit(X, self._targets(labels), sample_weight)
        else:
            self.ridge_.fit(self._encoded(parts(sliceable(X), labels, sample_weight)))
        return self

    def partial_fit(
        self: Self, X: Any, y: Any, sample_weight: Any = None, *, classes: Any = None
    ) -> Self:
        """Add rows to those seen so far; if there is an error, none of them.

        Parameters
        ----------
        X : (n, d) array or sparse matrix
        y : (n,) array of classes
        sample_weight : (n,) array, optional
        classes : sequence, optional
            All classes there are; needed in the first call, unless y has them all.

        Returns
        -------
        self
        """
        labels = _labels(y)
        if not hasattr(self, "ridge_"):
            self._begin(labels if classes is None else classes)
        elif classes is not None and not np.array_equal(np.unique(classes), self.classes_):
            raise ValueError(f"classes: expected those of the first call, got {classes}")
        self.ridge_.partial_fit(X, self._targets(labels), sample_weight)
        return self

    def merge(self: Self, other: FeatureClassifier) -> Self:
        """Add the rows that another model has seen, whose features were drawn alike.

        Parameters
        ----------
        other : FeatureClassifier
            With the same classes; see `FeatureRidge.merge`.

        Returns
        -------
        self
        """
        check_is_fitted(self, "ridge_")
        check_is_fitted(other, "ridge_")
        if not np.array_equal(self.classes_, other.classes_):
            raise ValueError(f"other: expected classes {self.classes_}, got {other.classes_}")
        self.ridge_.merge(other.ridge_)
        return self

    def decision_function(self, X: Any) -> Any:
        """Return the outputs of the regression.

        Parameters
        ----------
        X : (n, d) array, sparse matrix or dask array

        Returns
        -------
        (n, classes) array, float64; (n,) for two classes, positive for the second
            Lazy for a dask array.
        """
        check_is_fitted(self, "ridge_")
        return self.ridge_.predict(X)

    def predict(self, X: Any) -> Any:
        """Return the class of the largest decision value.

        Parameters
        ----------
        X : (n, d) array, sparse matrix or dask array

        Returns
        -------
        (n,) array of classes
            Lazy for a dask array.
        """
        check_is_fitted(self, "ridge_")
        if dask_arrays.is_dask(X):
            return dask_arrays.map_rows(X, self.predict, None, self.classes_.dtype)
        return self.classes_[best_class(self.decision_function(X))]

    @property
    def n_features_in_(self) -> int:
        """Number of columns of the rows."""
        return int(self.ridge_.n_features_in_)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True  # where the features take them
        return tags

    def _begin(self, classes: Any) -> None:
        found = np.unique(np.asarray(classes))
        if len(found) < 2:
            raise ValueError(f"y: expected at least two classes, got one class, {found[0]!r}")
        self.classes_ = found
        self.ridge_ = FeatureRidge(self.features, self.alpha, progress=self.progress)

    def _encoded(self, some: Iterable[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
        for X, y, *weights in some:
            yield X, self._targets(_labels(y)), *weights

    def _targets(self, labels: NDArray[Any]) -> Array:
        """Return the targets of classes that are all known."""
        words = [array.dtype.kind in "USO" for array in (labels, self.classes_)]
        known = words[0] == words[1] and np.isin(labels, self.classes_)
        if not np.all(known):
            raise ValueError(
                f"y: expected classes {self.classes_}, got {labels[np.argmin(known)]!r}; the first "
                "call takes classes="
            )
        codes = np.searchsorted(self.classes_, labels)
        targets = class_targets(codes, len(self.classes_))
        return targets[:, 0] if targets.shape[1] == 1 else targets


def _labels(y: Any) -> NDArray[Any]:
    """Return classes as an array (n,).

    Raises
    ------
    ValueError
        If they have another shape, or are numbers with fractions.
    """
    labels = np.asarray(y)
    if labels.dtype.kind == "f" and not np.array_equal(labels, np.round(labels)):
        raise ValueError("y: expected classes, got continuous numbers or NaN")
    if labels.ndim == 2 and labels.shape[1] == 1:
        return np.asarray(column_or_1d(labels, warn=True))
    if labels.ndim != 1 or not len(labels):
        raise ValueError(f"y: expected classes (n,), got shape {labels.shape}")
    return labels


def class_targets(codes: NDArray[np.intp], count: int) -> Array:
    """Return 1 - 1/C for the class of an input and -1/C for others; of two classes 1 and -1."""
    if count == 2:
        return np.where(codes == 1, 1.0, -1.0)[:, None]
    targets = np.full((len(codes), count), -1 / count)
    targets[np.arange(len(codes)), codes] += 1
    return targets


def best_class(values: NDArray[Any]) -> NDArray[np.intp]:
    """Return the number of the class with the largest value; of a vector, of two classes."""
    return (values > 0).astype(np.intp) if values.ndim == 1 else np.argmax(values, axis=1)
