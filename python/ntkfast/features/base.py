"""What all feature maps share: scikit-learn's conventions, and rows taken chunk by chunk."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import sparse

from ntkfast import places
from ntkfast.arrays import checks, dask_arrays
from ntkfast.arrays.collections import FloatArray
from ntkfast.arrays.foreign import host_array
from ntkfast.arrays.panels import panels
from ntkfast.arrays.ragged import Sequences
from ntkfast.places import blocks
from ntkfast.support.optional import require

require("sklearn", "sklearn")
from sklearn.base import (  # noqa: E402
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
)
from sklearn.utils import check_random_state  # noqa: E402
from sklearn.utils.validation import check_is_fitted  # noqa: E402

try:
    from sklearn.utils.validation import validate_data
except ImportError:  # pragma: no cover - before scikit-learn 1.6 it was a method

    def validate_data(estimator: Any, X: Any, **options: Any) -> Any:  # noqa: D103
        options["force_all_finite"] = options.pop("ensure_all_finite", True)
        return estimator._validate_data(X, **options)


__all__ = [
    "BaseEstimator",
    "FeatureMap",
    "check_is_fitted",
    "directions_of",
    "norms_of",
    "validate_data",
]

FIT_ROWS = 1 << 14  # that maps are fitted to where data come in parts
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
    # What becomes of sparse rows: "rows" go to `_write` as they are, "parts" are made dense chunk
    # by chunk, "" are refused.
    _sparse: ClassVar[str] = "parts"

    def fit(self: Self, X: Any, y: Any = None) -> Self:
        """Draw the random numbers of the map for data like `X`.

        Parameters
        ----------
        X : (n, d) array or dask array, or sparse matrix where a map takes them
            Training rows; of a dask array the first 16,384.
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
        checks.count("n_components", self.n_components, least=1)
        if places.of(X) is not places.HOST:
            raise TypeError("X: fit takes rows of the host, of which a few will do")
        rows = self._rows(
            dask_arrays.head(X, FIT_ROWS) if dask_arrays.is_dask(X) else X, reset=True
        )
        self._n_features_out = self._draw(rows, self._generator())
        return self

    def transform(self, X: Any) -> Any:
        """Compute the features of rows.

        Parameters
        ----------
        X : (n, d) array or dask array, or sparse matrix where a map takes them
            float32 and float64 are kept, everything else becomes float64. Arrays on a CUDA device
            give one of the same library there; `CountSketch`, `TensorSketch`, `NystromFeatures` and
            `GradientFeatures` do not take them, nor do maps with count sketches, nor
            `NTKRandomFeatures` of other activations than ReLU.

        Returns
        -------
        (n, n_features) array of the dtype of X
            Inner products of rows approximate the kernel. A dask array gives a lazy one, block by
            block.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before `fit`.
        ValueError
            If X has another number of columns than in `fit`, or holds NaN or infinity, or features
            overflow.
        """
        check_is_fitted(self)
        if dask_arrays.is_dask(X):
            dtype = np.float32 if X.dtype == np.float32 else np.float64
            return dask_arrays.map_rows(X, self.transform, self._n_features_out, dtype)
        return self._features(self._rows(X, reset=False))

    def _features(self, rows: Any) -> FloatArray:
        """Compute the features of rows that are known to be right."""
        make_dense = sparse.issparse(rows) and self._sparse == "parts"
        count = count_of(rows)
        place = places.of(rows)
        out = place.output(None, (count, self._n_features_out), rows)
        width = max(self._n_features_out, self._width(), rows.shape[1] if make_dense else 0)
        with np.errstate(over="ignore", invalid="ignore"):  # the result tells
            for part in panels(count, width * out.target.itemsize, place.feature_bytes, least=16):
                self._write(rows[part].toarray() if make_dense else rows[part], out.target[part])
            finite = count == 0 or place.finite(out.target)
        if not finite:
            raise ValueError(
                f"X: the features overflow {out.target.dtype}; scale the rows or the weights down"
            )
        features: FloatArray = out.finish()
        return features

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_n_features_out")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        tags.input_tags.sparse = bool(self._sparse)
        return tags

    def _rows(self, X: Any, reset: bool, first: int = 0) -> Any:
        """Return rows, the first of which has the number `first`, if all of them are right."""
        place = places.of(X)
        if place is not places.HOST:
            self._check_device()
            array = place.matrix("X", X)
            checks.matrix_shape("X", array.shape, self.n_features_in_)
            return place.rows(array, None)[0].data
        options: dict[str, Any] = {
            "accept_sparse": "csr" if self._sparse else False,
            "dtype": [np.float64, np.float32],
            "order": "C",
            "ensure_all_finite": False,  # the norms tell, and which row it is
        }
        if isinstance(X, Sequences):
            raise TypeError("X: expected rows, got sequences; NystromFeatures takes them")
        given = host_array("X", X) if isinstance(X, (list, tuple)) else X  # says what is ragged
        rows = validate_data(self, given, reset=reset, **options)
        rows = rows if sparse.issparse(rows) else checks.real_array("X", rows)
        # Squares must not overflow: the same limit as for Gram matrices.
        checks.rows("X", rows, norms_of(rows), first=first)
        return rows

    def _generator(self) -> Generator:
        """Return a generator that depends on `random_state` as scikit-learn understands it."""
        legacy = check_random_state(self.random_state)
        return np.random.default_rng(legacy.randint(0, 1 << 31, size=8, dtype=np.int64))

    def _check_device(self) -> None:
        """Raise an error unless `_write` takes rows that lie on a CUDA device."""
        raise self._host_only()

    def _host_only(self, when: str = "") -> TypeError:
        return TypeError(f"X: {type(self).__name__}{when} takes arrays of the host")

    def _width(self) -> int:
        """Columns of the widest intermediate array."""
        return 0

    @abstractmethod
    def _draw(self, X: FloatArray, generator: Generator) -> int:
        """Draw what the map needs and return its number of features."""

    @abstractmethod
    def _write(self, X: FloatArray, out: FloatArray) -> None:
        """Write the features of the rows `X` to `out`."""


def count_of(rows: Any) -> int:
    """Return the number of inputs: rows, dense or sparse, or a collection of others."""
    return int(rows.shape[0]) if sparse.issparse(rows) else len(rows)


def norms_of(X: Any) -> NDArray[Any]:
    """Return |x| of dense or sparse rows."""
    if not sparse.issparse(X):
        return places.of(X).row_norms(X)
    filled = np.abs(X.data)
    largest = np.maximum.reduceat(np.append(filled, 0), X.indptr[:-1])
    largest[np.diff(X.indptr) == 0] = 0
    safe = np.where(largest == 0, 1, largest)
    ratios = _divided(X, safe).astype(np.float64)
    ratios.data **= 2
    return np.asarray(safe * np.sqrt(ratios.sum(axis=1)), X.dtype)


def directions_of(X: Any) -> tuple[Any, NDArray[Any]]:
    """Return x / |x| (0 for rows of zeros), sparse for sparse rows, and |x|."""
    norms = norms_of(X)
    # Divide, not multiply with 1/|x|: that overflows for the smallest rows.
    return _divided(X, np.where(norms == 0, 1, norms).astype(X.dtype)), norms


def _divided(X: Any, by: NDArray[Any]) -> Any:
    """Divide rows, dense or sparse, by one number each."""
    if not sparse.issparse(X):
        return blocks.divided(X, by)
    data = X.data / np.repeat(by, np.diff(X.indptr))
    return sparse.csr_array((data, X.indices, X.indptr), shape=X.shape)
