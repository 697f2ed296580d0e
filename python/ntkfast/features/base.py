"""What all feature maps share: scikit-learn's conventions, and rows taken chunk by chunk."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ntkfast import inputs
from ntkfast.engines import row_norms
from ntkfast.maps import FloatArray

try:
    from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
    from sklearn.utils import check_random_state
    from sklearn.utils.validation import check_is_fitted
except ImportError as error:  # pragma: no cover
    raise ImportError(
        "ntkfast.features needs scikit-learn: pip install 'ntkfast[sklearn]'"
    ) from error
try:
    from sklearn.utils.validation import validate_data
except ImportError:  # pragma: no cover - before scikit-learn 1.6 it was a method

    def validate_data(estimator: Any, X: Any, **options: Any) -> Any:  # noqa: D103
        return estimator._validate_data(X, **options)


__all__ = [
    "BaseEstimator",
    "FeatureMap",
    "check_is_fitted",
    "chunks",
    "directions_of",
    "validate_data",
]

CHUNK_BYTES = 1 << 24  # of one intermediate array, so that memory does not grow with the rows
Self = TypeVar("Self", bound="FeatureMap")


class FeatureMap(
    ClassNamePrefixFeaturesOutMixin,  # type: ignore[misc]
    TransformerMixin,  # type: ignore[misc]
    BaseEstimator,  # type: ignore[misc]
):
    """Base of the transformers: subclasses draw in `_draw` and write rows in `_write`."""

    n_components: Any
    random_state: Any
    n_features_in_: int

    def fit(self: Self, X: Any, y: Any = None) -> Self:
        """Draw the random numbers of the map for data like `X`.

        Parameters
        ----------
        X : (n, d) array
            Training rows.
        y : object
            Not used.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            If a parameter has the wrong type or range, or X is not finite or has no rows.
        """
        inputs.count("n_components", self.n_components, least=1)
        rows = self._rows(X, reset=True)
        self._n_features_out = self._draw(rows, self._generator())
        return self

    def transform(self, X: Any) -> FloatArray:
        """Compute the features of rows.

        Parameters
        ----------
        X : (n, d) array
            float32 and float64 are kept, everything else becomes float64.

        Returns
        -------
        (n, n_features) array of the dtype of X
            Inner products of rows approximate the kernel.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before `fit`.
        ValueError
            If X has another number of columns than in `fit`, or holds NaN or infinity.
        """
        check_is_fitted(self)
        rows = self._rows(X, reset=False)
        out = np.empty((len(rows), self._n_features_out), rows.dtype)
        width = max(self._n_features_out, self._width())
        for part in chunks(len(rows), width * rows.dtype.itemsize):
            self._write(rows[part], out[part])
        return out

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_n_features_out")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def _rows(self, X: Any, reset: bool) -> FloatArray:
        rows: FloatArray = validate_data(
            self, X, reset=reset, dtype=[np.float64, np.float32], order="C"
        )
        # Squares must not overflow: the same limit as for Gram matrices.
        inputs.rows("X", rows, row_norms(rows))
        return rows

    def _generator(self) -> np.random.Generator:
        """Return a generator that depends on `random_state` as scikit-learn understands it."""
        legacy = check_random_state(self.random_state)
        return np.random.default_rng(legacy.randint(0, 1 << 31, size=8, dtype=np.int64))

    def _width(self) -> int:
        """Columns of the widest intermediate array."""
        return 0

    @abstractmethod
    def _draw(self, X: FloatArray, generator: np.random.Generator) -> int:
        """Draw what the map needs and return its number of features."""

    @abstractmethod
    def _write(self, X: FloatArray, out: FloatArray) -> None:
        """Write the features of the rows `X` to `out`."""


def chunks(count: int, row_bytes: int) -> Iterator[slice]:
    """Yield slices of rows that together need about `CHUNK_BYTES`."""
    height = max(16, CHUNK_BYTES // max(row_bytes, 1))
    for first in range(0, count, height):
        yield slice(first, min(first + height, count))


def directions_of(X: FloatArray) -> tuple[FloatArray, NDArray[Any]]:
    """Return x / |x| (0 for rows of zeros) and |x|."""
    norms = row_norms(X)
    # Divide, not multiply with 1/|x|: that overflows for the smallest rows.
    return X / np.where(norms == 0, 1, norms)[:, None].astype(X.dtype), norms
