"""Features and ridge regression of data larger than memory, in one pass."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.base import RegressorMixin, clone

from ntkfast import places
from ntkfast.arrays import checks, dask_arrays
from ntkfast.arrays.foreign import host_array
from ntkfast.arrays.panels import panels
from ntkfast.arrays.ragged import sequences
from ntkfast.engines.norms import row_norms
from ntkfast.features import dask_sums
from ntkfast.features.base import FIT_ROWS, BaseEstimator, FeatureMap, check_is_fitted, count_of
from ntkfast.features.normal import Array, NormalEquations, Posterior, Solution
from ntkfast.support.progress import Bar

Self = TypeVar("Self", bound="FeatureRidge")
PART_BYTES = 1 << 26  # of the rows that are read at a time
PROBE = 3  # rows that are kept to compare maps


def stream(
    features: FeatureMap, X: Any, rows: int | None = None
) -> Iterator[tuple[slice, NDArray[Any]]]:
    """Yield the features of rows part by part, for arrays larger than memory.

    Parameters
    ----------
    features : feature map
        Fitted.
    X : (n, d) array
        Anything that gives rows for a slice: a memory map or a zarr array is read part by part.
    rows : int, optional
        Rows of a part; default: what needs about 64 MB.

    Yields
    ------
    part : slice
    F : (rows, n_features) array

    Raises
    ------
    sklearn.exceptions.NotFittedError
        Before `features` is fitted.

    Examples
    --------
    >>> import numpy as np
    >>> from ntkfast.features import DualActivationFeatures, stream
    >>> X = np.random.default_rng(0).normal(size=(1000, 5))
    >>> features = DualActivationFeatures(n_components=64).fit(X[:100])
    >>> F = np.empty((1000, 64))  # or a memory map
    >>> for part, block in stream(features, X, rows=300):
    ...     F[part] = block
    """
    check_is_fitted(features)
    width = max(X.shape[1], len(features.get_feature_names_out()))
    row_bytes, most = 8 * width, PART_BYTES
    if rows is not None:
        row_bytes, most = 1, checks.count("rows", rows, least=1)
    for part in panels(X.shape[0], row_bytes, most):
        yield part, features.transform(X[part])


class FeatureRidge(
    RegressorMixin,  # type: ignore[misc]
    BaseEstimator,  # type: ignore[misc]
):
    """Ridge regression on the features of a transformer, fed with rows part by part.

    Only means, F^T F and F^T y around them are kept, in float64, whatever the type of the rows:
    memory is a few times n_features^2, and one pass over the data is all there is. Parts may come
    in any order, and the sums of several processes can be added (`merge`); the result is that of
    one fit to all rows, up to rounding.

    Parameters
    ----------
    features : feature map
        Cloned. Fitted to rows of the first part of `fit` or `partial_fit`, at most 16,384.
    alpha : float or sequence of float, default 1.0
        Weight of the squared coefficients, as in ``sklearn.linear_model.Ridge``. Of several the one
        with the best generalised cross-validation score is taken, without another pass.
    progress : bool, optional
        Whether `fit` shows a bar. Default: on a terminal, after some seconds.

    Attributes
    ----------
    features_ : feature map
        The fitted transformer.
    n_samples_seen_ : int
        Number of rows.
    coef_ : (n_features,) or (n_features, targets) array
    intercept_ : float or (targets,) array
    alpha_ : float
        The weight taken.
    scores_ : (weights,) array
        Cross-validation scores, mean squares; empty for a single weight.

    Raises
    ------
    TypeError, ValueError
        In `fit` and `partial_fit`, if `alpha` is not positive or y has not one row per row of X,
        is not finite, or has another number of targets than before.
    numpy.linalg.LinAlgError
        When the result is first needed, if a single `alpha` is below the rounding error of F^T F.

    References
    ----------
    .. [1] G. Golub, M. Heath, G. Wahba, "Generalized cross-validation as a method for choosing a
       good ridge parameter", Technometrics 21, 1979.

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

    def __init__(self, features: Any, alpha: Any = 1.0, *, progress: bool | None = None) -> None:
        self.features = features
        self.alpha = alpha
        self.progress = progress

    def fit(self: Self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Forget what was seen, and fit to these rows, which are read once, part by part.

        Parameters
        ----------
        X : (n, d) array, or iterable of pairs
            A memory map or a zarr array is read part by part. A dask array is worked on where its
            blocks are, by all of dask's workers. An iterable gives pairs (X, y), or triples with
            weights.
        y : (n,) or (n, targets) array
            Left out for an iterable.
        sample_weight : (n,) array, optional
            Weights >= 0 of the squared errors; not for dask arrays.

        Returns
        -------
        self
        """
        self._forget()
        try:
            if dask_arrays.is_dask(X):
                if sample_weight is not None:
                    raise ValueError("sample_weight: expected None for dask arrays")
                return dask_sums.fit_blocks(self, X, y)
            if y is None:
                if hasattr(X, "shape"):
                    raise ValueError("y: expected one target per row of X, got None")
                if sample_weight is not None:
                    raise ValueError("sample_weight: expected in the triples of an iterable")
                self._take(X, None)
            else:
                rows = sliceable(X)
                self._take(parts(rows, sliceable(y), sample_weight), rows.shape[0])
            self._require_weight()
        except BaseException:
            self._forget()  # a model of some of the rows must not pass for one of all
            raise
        return self

    def _take(self, some: Iterable[tuple[Any, ...]], total: int | None) -> None:
        seen = 0
        with Bar(self.progress, "FeatureRidge", total, "rows") as bar:
            for X, y, *weights in some:
                if not seen:
                    self._start(X, y)
                self._add(X, y, seen, *weights, bar=bar)
                seen += np.shape(X)[0]
        if not seen:
            raise ValueError("X: expected at least one part, got an empty iterable")

    def partial_fit(self: Self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Add rows to those seen so far; if there is an error, none of them.

        Parameters
        ----------
        X : (n, d) array or sparse matrix
        y : (n,) or (n, targets) array
        sample_weight : (n,) array, optional
            Weights >= 0 of the squared errors.

        Returns
        -------
        self
        """
        X = sliceable(X)
        if not hasattr(self, "sums_"):
            self._start(X, y)
        self._add(X, y, 0, sample_weight)
        return self

    def merge(self: Self, other: FeatureRidge) -> Self:
        """Add the rows that another model has seen, whose features were drawn alike.

        Parameters
        ----------
        other : FeatureRidge
            For example one that saw other rows in another process: a copy of this one, or, for maps
            that do not depend on the data, a clone with the same `random_state`.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If the sizes differ, or the features of a few rows do: other draws, other landmarks.
        """
        self._seen()
        other._seen()
        if self.sums_.cross.shape != other.sums_.cross.shape or self.vector_ != other.vector_:
            raise ValueError(
                f"other: expected sums of shape {self.sums_.cross.shape}, "
                f"got {other.sums_.cross.shape}"
            )
        ours, theirs = (model.features_.transform(self.probe_) for model in (self, other))
        if not np.allclose(ours, theirs, rtol=1e-4, atol=1e-4 * float(np.abs(ours).max())):
            raise ValueError(
                "other: expected the features of this model, got a map with other random numbers "
                "or landmarks; copy a fitted model for each process"
            )
        self.sums_.merge(other.sums_)
        self.__dict__.pop("solution_", None)
        return self

    def _forget(self) -> None:
        for name in ("sums_", "solution_", "posterior_"):
            self.__dict__.pop(name, None)

    def _start(self, X: Any, y: Any) -> None:
        """Fit the features to the first rows, and begin to sum."""
        self._alphas()
        count = np.shape(X)[0]
        targets, vector = checks.columns("y", y, count)
        some = X[:: -(-count // FIT_ROWS)]  # spread, since rows may be sorted
        if not hasattr(self.features, "fit"):
            wanted = "a feature map, for example DualActivationFeatures(net.ntk, 1024)"
            raise TypeError(f"features: expected {wanted}, got {self.features!r}")
        features = clone(self.features).fit(some)
        size = len(features.get_feature_names_out())
        self.features_ = features
        if hasattr(features, "n_features_in_"):  # not where inputs are no rows
            self.n_features_in_ = features.n_features_in_
        self.vector_, self.sums_ = vector, NormalEquations.empty(size, targets.shape[1])
        self.probe_ = X[:PROBE]  # by which `merge` knows equal maps

    def _add(
        self, X: Any, y: Any, first: int, sample_weight: Any = None, *, bar: Bar | None = None
    ) -> None:
        """Add rows, the first of which has this number, if all of them are right."""
        bar = bar or Bar(False, "", None, "rows")
        self._alphas()
        rows, features = self._checked(X, first)
        count = count_of(rows)
        targets, vector = checks.columns("y", y, count, first)
        if (targets.shape[1], vector) != (self.sums_.cross.shape[1], self.vector_):
            raise ValueError(f"y: expected targets shaped like before, got {np.shape(y)}")
        weights = sample_weights(sample_weight, count, first)
        if weights is not None and not weights.all():
            kept = np.flatnonzero(weights)
            rows, targets, weights = rows[kept], targets[kept], weights[kept]
            bar.update(count - len(kept))
        found = NormalEquations.empty(*self.sums_.cross.shape)
        # Adding to F^T F costs as much as some hundred rows: take more of them at a time.
        most = max(places.HOST.feature_bytes, found.gram.nbytes // 2)
        for part in panels(len(targets), 8 * len(found.gram), most, least=16):
            F = features(rows[part])
            some = None if weights is None else weights[part]
            found.add(F.toarray() if sparse.issparse(F) else F, targets[part], some)
            bar.update(part.stop - part.start)
        self.sums_.merge(found)
        self.__dict__.pop("solution_", None)

    def _checked(self, X: Any, first: int) -> tuple[Any, Callable[[Any], Any]]:
        """Return rows, checked once where the map lets us, and what computes their features."""
        features = self.features_
        if type(features).transform is FeatureMap.transform:
            return features._rows(X, reset=False, first=first), features._features
        if not sparse.issparse(X):  # a map of its own ways, which cannot name the row
            X = checks.matrix("X", X)
            checks.rows("X", X, row_norms(X), first=first)
        return X, features.transform

    def _alphas(self) -> Array:
        given = [self.alpha] if np.ndim(self.alpha) == 0 else list(self.alpha)
        if not given:
            raise ValueError("alpha: expected at least one number, got none")
        return np.array([checks.number("alpha", alpha, above=0.0) for alpha in given])

    def _seen(self) -> None:
        message = "this %(name)s is not fitted yet: call fit or partial_fit"
        check_is_fitted(self, "sums_", msg=message)

    def _require_weight(self) -> None:
        if not self.sums_.weight:
            raise ValueError("sample_weight: expected weights >= 0, not all of them zero")

    def _solve(self) -> Solution:
        """Solve when the result is first needed after new rows."""
        self._seen()
        alphas = tuple(self._alphas())
        self._require_weight()
        known = self.__dict__.get("solution_")
        if known is None or known[0] != alphas:  # `alpha` may have been set since
            known = self.solution_ = alphas, self.sums_.solve(np.array(alphas))
        return known[1]

    @property
    def n_samples_seen_(self) -> int:
        """Number of rows seen, without those of weight 0."""
        self._seen()
        return self.sums_.rows

    @property
    def coef_(self) -> Array:
        """Coefficients of the features."""
        found = self._solve().coefficients
        return found[:, 0] if self.vector_ else found

    @property
    def intercept_(self) -> Any:
        """Constant term."""
        constant = self._solve().constant
        return float(constant[0]) if self.vector_ else constant

    @property
    def alpha_(self) -> float:
        """The weight taken."""
        return self._solve().alpha

    @property
    def scores_(self) -> Array:
        """Cross-validation scores of the weights."""
        return self._solve().scores

    def predict(self, X: Any, return_std: bool = False) -> Any:
        """Predict targets of rows.

        Parameters
        ----------
        X : (n, d) array, sparse matrix or dask array
        return_std : bool, default False
            Whether to return standard deviations too; not for dask arrays.

        Returns
        -------
        (n,) or (n, targets) array, float64
            Lazy for a dask array.
        std : array of the same shape
            With `return_std`. Of a new target of weight 1: its noise, estimated from the errors,
            and what is not known of the coefficients, whose prior has the variance noise / alpha.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before `fit` or `partial_fit`.
        ValueError
            With `return_std`, if the features fit all rows to rounding.
        """
        found = self._solve()
        if dask_arrays.is_dask(X):
            if return_std:
                raise ValueError("return_std: expected False for dask arrays")
            return dask_arrays.map_rows(
                X, self.predict, None if self.vector_ else len(found.constant)
            )
        posterior = self._posterior() if return_std else None
        rows, features = self._checked(X, 0)
        result = np.empty((count_of(rows), len(found.constant)))
        spread = np.empty_like(result) if return_std else None
        row_bytes = 8 * len(found.coefficients)
        for part in panels(len(result), row_bytes, places.HOST.feature_bytes, least=16):
            F = features(rows[part])
            result[part] = F @ found.coefficients
            if posterior is not None and spread is not None:
                F = F.toarray() if sparse.issparse(F) else F
                spread[part] = np.sqrt(posterior.variances(F))
        result += found.constant
        both = [one[:, 0] if self.vector_ else one for one in (result, spread) if one is not None]
        return tuple(both) if return_std else both[0]

    def _posterior(self) -> Posterior:
        """Return what is uncertain, computed when it is first needed for a solution."""
        solution = self._solve()
        known = self.__dict__.get("posterior_")
        if known is None or known[0] is not solution:
            known = self.posterior_ = solution, self.sums_.posterior(solution.alpha)
        return known[1]


def sample_weights(value: Any, count: int, first: int = 0) -> Array | None:
    """Return weights (n,), if they are finite numbers >= 0, or None.

    Raises
    ------
    TypeError, ValueError
        If they are not; with the number of the row, of which the first has the number `first`.
    """
    if value is None:
        return None
    weights, vector = checks.columns("sample_weight", value, count, first)
    if not vector:
        raise ValueError(f"sample_weight: expected shape ({count},), got {weights.shape}")
    if weights.min() < 0:
        row = first + int(np.argmin(weights))
        raise ValueError(f"sample_weight: expected weights >= 0, row {row} has {weights.min():g}")
    return weights[:, 0].astype(np.float64)


def sliceable(X: Any) -> Any:
    """Return what gives rows for a slice: arrays as they are, sparse ones by rows, lists too.

    A list of arrays of different lengths is one of sequences.
    """
    if sparse.issparse(X):
        return X.tocsr()
    if isinstance(X, (list, tuple)) and X and all(hasattr(one, "shape") for one in X):
        return np.asarray(X) if len({one.shape for one in X}) == 1 else sequences(X)
    return X if hasattr(X, "shape") else host_array("X", X)


def parts(X: Any, y: Any, sample_weight: Any = None) -> Iterator[tuple[Any, ...]]:
    """Yield parts of an array, its targets and its weights, read when they are needed."""
    if len(X.shape) < 2:
        raise ValueError(f"X: expected shape (rows, features), got {X.shape}")
    if y.shape[:1] != X.shape[:1]:
        shape = f"({X.shape[0]},)" if len(y.shape) == 1 else f"({X.shape[0]}, *)"
        raise ValueError(f"y: expected shape {shape}, got {y.shape}")
    weights = sample_weights(sample_weight, X.shape[0])
    for part in panels(X.shape[0], 8 * math.prod(X.shape[1:]), PART_BYTES):
        yield X[part], y[part], None if weights is None else weights[part]
