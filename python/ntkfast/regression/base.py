"""What the estimators share: a kernel with parameters, inputs of any kind, predictions in parts."""

from __future__ import annotations

import os
from collections.abc import Iterator
from copy import copy
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from sklearn.base import MultiOutputMixin, RegressorMixin

from ntkfast import places
from ntkfast.arrays import checks
from ntkfast.arrays.collections import Images, Values
from ntkfast.arrays.foreign import host_array
from ntkfast.arrays.panels import panels
from ntkfast.arrays.ragged import Sequences
from ntkfast.features.base import BaseEstimator, check_is_fitted, validate_data
from ntkfast.features.streaming import sample_weights
from ntkfast.kernels.base import Kernel
from ntkfast.kernels.evaluation import Evaluation
from ntkfast.kernels.pace import steps
from ntkfast.kernels.parameters import changed, parameters_of
from ntkfast.regression.parameters import kernel_of, or_default
from ntkfast.regression.saved import save
from ntkfast.regression.solution import Solution
from ntkfast.regression.solver import evaluation_on, solve
from ntkfast.support.progress import Bar, is_shown

PART_BYTES = 1 << 26  # in float64 at a time: of inputs, or of a panel of K(Z, X)
PART_INPUTS = 2048  # the same for images and sequences
Self = TypeVar("Self", bound="KernelModel")


class KernelModel(BaseEstimator):  # type: ignore[misc]
    """Base of the estimators: a kernel, or a network, with parameters, and inputs of any kind.

    The parameters of the network or of the kernel are parameters of the estimator too, under names
    like ``kernel__depth``. They are read from the value; setting one replaces the value.
    """

    kind: str
    engine: str | None
    threads: int | None
    kernel_: Kernel
    X_fit_: Any
    _model: ClassVar[str] = "kernel"  # the parameter that is one
    _of_devices: ClassVar[bool] = False  # whether arrays on a CUDA device are taken
    _on_device = False  # whether those of `fit` were

    # --- Parameters ------------------------------------------------------------------------------

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters by name; with `deep` those of the network or kernel too."""
        found: dict[str, Any] = super().get_params(deep=False)
        inner = parameters_of(or_default(found[self._model])) if deep else {}
        return found | {f"{self._model}__{name}": value for name, value in inner.items()}

    def set_params(self: Self, **params: Any) -> Self:
        """Set parameters by name; those of the network or kernel make a new one, all at once."""
        prefix = f"{self._model}__"
        names = [name for name in params if name.startswith(prefix)]
        inner = {name.removeprefix(prefix): params.pop(name) for name in names}
        super().set_params(**params)
        if inner:
            value = or_default(getattr(self, self._model))
            setattr(self, self._model, changed(value, inner, prefix))
        return self

    def _given(self) -> Kernel:
        """Return the kernel that the parameters stand for."""
        return kernel_of(getattr(self, self._model), self.kind)

    # --- Inputs and targets ----------------------------------------------------------------------

    def _inputs(self, X: Any, *, reset: bool) -> Any:
        """Validate rows as scikit-learn does, and other inputs as their kernel does."""
        name = type(self).__name__
        if sparse.issparse(X):
            raise TypeError(f"X: {name} takes dense arrays, got a sparse one")
        place = places.of(X)
        if place is not places.HOST:
            if not self._of_devices:
                raise TypeError(f"X: {name} takes arrays of the host, got one on a device")
            place.run(self.engine)  # says what it is no choice of
            X = places.on_host(X=X)[1]["X"]
        kernel = self._given() if reset else self.kernel_
        if reset:
            self.kernel_, self._on_device = kernel, place is not places.HOST
        if not kernel.of_rows:
            inputs = kernel.collect(X)
            if not reset and _form(inputs) != _form(self.X_fit_):
                raise ValueError(f"X: expected {_form(self.X_fit_)} as in fit, got {_form(inputs)}")
            return inputs
        rows = validate_data(
            self,
            host_array("X", X) if isinstance(X, (list, tuple)) else X,  # says what is ragged
            reset=reset,
            dtype=[np.float64, np.float32],
            order="C",
            ensure_all_finite=False,  # the norms tell, and which row it is
        )
        rows = checks.real_array("X", rows)
        checks.rows("X", rows, places.HOST.row_norms(rows))
        return rows

    def _training(self, X: Any, y: Any) -> tuple[Any, Values, bool]:
        """Return validated inputs, targets (n, c) in float64, and whether y was a vector."""
        inputs = self._inputs(X, reset=True)
        y = self._required(y)
        if self._on_device:
            y = places.on_host(X=X, y=y)[1]["y"]
        values = host_array("y", y)
        if values.dtype == object:  # a column of a mixed table
            values = values.astype(np.float64)
        found, vector = checks.columns("y", values, len(inputs))
        targets = found.astype(np.float64, copy=False)
        with np.errstate(over="ignore"):
            if not np.isfinite(np.vdot(targets, targets)):
                most = np.abs(targets).max()
                raise ValueError(f"y: the squares overflow, the largest is of {most:.3g}; scale y")
        return inputs, targets, vector

    def _required(self, y: Any) -> Any:
        if y is None:
            name = type(self).__name__
            raise ValueError(f"y: {name} requires y to be passed, but the target y is None")
        return y

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        return tags

    def _evaluation(self) -> Evaluation:
        return Evaluation(self.kernel_, self.engine, self.threads, getattr(self, "progress", False))

    @property
    def _chosen(self) -> str | None:
        """The engine: what was fitted to arrays on a device goes on there."""
        return "cuda" if self._on_device else self.engine

    # --- Predictions -----------------------------------------------------------------------------

    def predict_chunks(
        self, X: Any, *, rows: int | None = None, method: str = "predict"
    ) -> Iterator[tuple[slice, NDArray[Any]]]:
        """Yield predictions part by part, for inputs larger than memory.

        Parameters
        ----------
        X : array, or iterable of arrays
            Anything with a shape that gives inputs for a slice: a memory map, a zarr array or an
            HDF5 dataset is read part by part. Parts of an iterable are taken as they come.
        rows : int, optional
            Inputs of a part of an array; default: what needs about 64 MB.
        method : str, default "predict"
            What to call for each part: ``"predict_proba"``, say.

        Yields
        ------
        part : slice
        prediction : array

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before `fit`.

        Examples
        --------
        >>> import numpy as np
        >>> from ntkfast.regression import KernelRidge
        >>> X = np.random.default_rng(0).normal(size=(1000, 5))
        >>> model = KernelRidge(ridge=0.1).fit(X[:100], X[:100, 0])
        >>> f = np.empty(1000)  # or a memory map
        >>> for part, values in model.predict_chunks(X, rows=300):
        ...     f[part] = values
        """
        check_is_fitted(self)
        call, first = getattr(self, method), 0
        for some in _parts(X, rows):
            try:
                values = call(some)
            except (TypeError, ValueError) as error:
                error.add_note(f"rows are counted from row {first} of X on")
                raise
            yield slice(first, first + len(values)), values
            first += len(values)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted model to a file, which `ntkfast.regression.load` reads without pickle.

        Parameters
        ----------
        path : path
            Ends in ``.npz``. It appears when it is complete; until then an older file stays.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before `fit`.
        TypeError
            If the kernel holds a Python function or a class that is not of this package, or the
            loss is a Python function.
        """
        check_is_fitted(self)
        save(self, path)


class KernelEstimator(KernelModel):
    """Base of those whose predictions are K(Z, X) times coefficients, found by `solve`."""

    kernel: Any
    method: str
    memory: int | None
    tol: float
    progress: bool | None
    client: Any
    dual_coef_: Values

    def __sklearn_clone__(self) -> Any:
        """Return an estimator of the same parameters; a client is shared, it cannot be copied."""
        bare = copy(self)
        bare.client = None
        found = BaseEstimator.__sklearn_clone__(bare)
        found.client = self.client
        return found

    def __getstate__(self) -> Any:
        """Return what copies and pickles hold: of a client the address of its scheduler."""
        state: dict[str, Any] = super().__getstate__()
        scheduler = getattr(state.get("client"), "scheduler", None)
        return state if scheduler is None else {**state, "client": scheduler.address}

    def _evaluation(self) -> Evaluation:
        run = self._chosen, self.threads, self.progress
        return evaluation_on(self.client, self.kernel_, *run)

    def _gram(self, inputs: Any) -> Values:
        """Return the Gram matrix of validated inputs in float64."""
        return np.asarray(self._evaluation()(inputs.astype(np.float64, copy=False)), np.float64)

    def _solve(
        self, inputs: Any, targets: Values, ridge: float | Values, start: Values | None = None
    ) -> Solution:
        """Solve (K + ridge I) A = targets with the solver's options; it warns where it does not."""
        return solve(
            self.kernel_,
            inputs,
            targets,
            ridge,
            method=self.method,
            memory=self.memory,
            tol=self.tol,
            start=start,
            engine=self._chosen,
            threads=self.threads,
            client=self.client,
            progress=self.progress,
        )

    def _outputs(self, X: Any) -> NDArray[Any]:
        """Return K(X, X_fit_) @ dual_coef_, computed in float64, in the dtype of X."""
        check_is_fitted(self)
        inputs = self._inputs(X, reset=False)
        evaluate, known = self._evaluation(), self.X_fit_.astype(np.float64, copy=False)
        result = np.empty((len(inputs), *self.dual_coef_.shape[1:]), inputs.dtype)
        width = 8 * inputs.shape[1] if isinstance(inputs, np.ndarray) else PART_BYTES // PART_INPUTS
        watched = is_shown(self.progress) and not evaluate.is_remote
        with Bar(self.progress if watched else False, "predict", len(inputs), "rows") as bar:
            for panel in panels(len(inputs), width, PART_BYTES):
                whole = inputs[panel]
                for part in steps(len(whole)) if watched else [slice(None)]:
                    some = whole[part].astype(np.float64, copy=False)
                    result[panel][part] = evaluate.matmul(some, known, self.dual_coef_)
                    bar.update(len(some))
        if places.of(X) is places.HOST:
            return result
        found: NDArray[Any] = places.placed_beside(X, result)
        return found


class KernelRegressor(
    MultiOutputMixin,  # type: ignore[misc]
    RegressorMixin,  # type: ignore[misc]
    KernelEstimator,
):
    """Base of those that predict numbers."""

    def predict(self, X: Any) -> NDArray[Any]:
        """Predict targets.

        Parameters
        ----------
        X : (m, d) array, or other inputs of the kernel

        Returns
        -------
        (m,) or (m, targets) array of the dtype of X
            Computed without a matrix of m x n numbers; `predict_chunks` reads X in parts too.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before `fit`.
        """
        return self._outputs(X)


def weighed(
    sample_weight: ArrayLike | None, inputs: Any, targets: NDArray[Any]
) -> tuple[Any, NDArray[Any], Values | None]:
    """Return inputs and targets that have weight, and their weights (n,), None where all are 1.

    Raises
    ------
    TypeError, ValueError
        If they are not n finite numbers >= 0, of which one is positive.
    """
    if sample_weight is None:
        return inputs, targets, None
    count, given = len(inputs), host_array("sample_weight", sample_weight)
    weights = sample_weights(np.full(count, given) if given.ndim == 0 else given, count)
    if weights is None or np.all(weights == 1):
        return inputs, targets, None
    if weights.all():
        return inputs, targets, weights
    kept = np.flatnonzero(weights)
    if not len(kept):
        raise ValueError("sample_weight: expected weights >= 0, not all of them zero")
    return inputs[kept], targets[kept], weights[kept]


def _parts(X: Any, rows: int | None) -> Iterator[Any]:
    """Yield parts of an array, read when they are needed, or of an iterable what it gives."""
    if not hasattr(X, "shape"):
        yield from X
        return
    steps = X.shape[1:] if not isinstance(X, Sequences) else (X.shape[1] * X.shape[2],)
    width, most = 8 * int(np.prod(steps)), PART_BYTES
    if rows is not None:
        width, most = 1, checks.count("rows", rows, least=1)
    for part in panels(X.shape[0], width, most):
        yield X[part]


def _form(inputs: Any) -> str:
    """Say what inputs of one training set have in common."""
    if isinstance(inputs, Sequences):
        return f"sequences of {inputs.channels} channels"
    if isinstance(inputs, Images):
        return f"images of shape {inputs.shape}"
    return f"inputs of shape {inputs.shape[1:]}"
