"""Classification by kernel ridge regression on the classes, with calibrated probabilities."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_softmax, softmax
from sklearn.base import ClassifierMixin
from sklearn.utils import column_or_1d
from sklearn.utils.multiclass import check_classification_targets

from ntkfast.arrays import checks
from ntkfast.arrays.collections import Values
from ntkfast.features.classifier import best_class, class_targets
from ntkfast.regression.base import weighed
from ntkfast.regression.ridge_cv import PathEstimator

Self = TypeVar("Self", bound="KernelClassifier")
SHARPEST = 12.0  # |log| of the factor of decision values of size 1


@dataclass(eq=False, repr=False)
class KernelClassifier(
    ClassifierMixin,  # type: ignore[misc]
    PathEstimator,
):
    """Classification by the largest of one ridge regression per class.

    Parameters
    ----------
    kernel : Kernel or network, optional
        As for `KernelRidge`.
    ridge : float or "auto", default "auto"
        "auto": of the path of `KernelRidgeCV` that with the least mean squared leave-one-out error.
    kind : {"ntk", "nngp"}
        Which kernel of a network.
    exact_rows, n_probes, random_state
        As for `KernelRidgeCV`.
    method, memory, tol
        As for `ntkfast.regression.solve`, which is called for more than `exact_rows` inputs.
    progress : bool, optional
        Whether matrices, solvers and predictions show a bar. Default: on a terminal, after some
        seconds; True: at once, but for matrices that take a moment.
    engine, threads
        As for calling a kernel.
    client : distributed.Client or str, optional
        A cluster, or the address of its scheduler, that computes large products, in `fit` and in
        predictions. Copies share it, pickles hold the address, and files of `save` neither.

    Attributes
    ----------
    classes_ : (classes,) array
        In ascending order.
    temperature_ : float
        What decision values are divided by before they become probabilities.
    held_out_ : (n,) or (n, classes) array
        Decision values of the training inputs, each from all others.
    ridge_, ridges_, scores_
        As for `KernelRidgeCV`.
    dual_coef_, X_fit_, kernel_, n_features_in_
        As for `KernelRidge`.

    Notes
    -----
    The targets are 1 - 1/C for the class of an input and -1/C for the C - 1 others; of two classes
    it is their difference, 1 or -1. Decision values of 0 say nothing about the class. Taking 1/C
    away changes no prediction, as all classes have one matrix.

    Probabilities are the softmax of decision values over a temperature, that of the largest
    likelihood of the leave-one-out decision values: inputs are judged by models that have not seen
    them, and nothing is fitted again. The class of an input counts as (n + 1) / (n + C) certain, so
    that perfectly separated classes have a temperature too. One number changes no order: the class
    predicted is the most probable one.

    References
    ----------
    .. [1] C. Guo, G. Pleiss, Y. Sun, K. Weinberger, "On calibration of modern neural networks",
       ICML 2017.
    .. [2] J. Platt, "Probabilistic outputs for support vector machines", 1999 (the targets).

    Examples
    --------
    >>> import numpy as np, ntkfast as nf
    >>> from ntkfast.regression import KernelClassifier
    >>> X = np.random.default_rng(0).normal(size=(200, 2))
    >>> y = np.where(X[:, 0] * X[:, 1] > 0, "same", "other")
    >>> model = KernelClassifier(nf.FullyConnected(2)).fit(X, y)
    >>> model.predict([[2.0, 1.5], [2.0, -1.5]])
    array(['same', 'other'], dtype='<U5')
    >>> model.predict_proba([[2.0, 1.5]]).argmax() == list(model.classes_).index("same")
    np.True_
    """

    kernel: Any = None
    ridge: float | str = "auto"
    _: KW_ONLY
    kind: str = "ntk"
    exact_rows: int = 5000
    n_probes: int = 32
    random_state: Any = None
    method: str = "auto"
    memory: int | None = None
    tol: float = 1e-6
    progress: bool | None = None
    engine: str | None = None
    threads: int | None = None
    client: Any = None

    def fit(self: Self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Choose the ridge if it is "auto", solve for the coefficients, and calibrate.

        Parameters
        ----------
        X : (n, d) array, or other inputs of the kernel
        y : (n,) array
            Classes: integers, strings or bools.
        sample_weight : float or (n,) array, optional
            Weights >= 0.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            If a parameter has the wrong type or range, X is not finite or has no rows, or y has
            fewer than two classes.
        numpy.linalg.LinAlgError
            If all ridges are below the rounding errors of the matrix.
        """
        if isinstance(self.ridge, str):
            if self.ridge != "auto":
                raise ValueError(f"ridge: expected a number or 'auto', got {self.ridge!r}")
            given = None
        else:
            given = [checks.number("ridge", self.ridge, least=0.0)]
        inputs = self._inputs(X, reset=True)
        labels = np.asarray(self._required(y))
        if labels.dtype.kind == "f" and not np.isfinite(labels).all():
            raise ValueError("y: expected classes, got NaN or infinity")
        check_classification_targets(labels)
        labels = column_or_1d(labels, warn=True)
        if len(labels) != len(inputs):
            raise ValueError(f"y: expected shape ({len(inputs)},), got ({len(labels)},)")
        self.classes_, codes = np.unique(labels, return_inverse=True)
        self.X_fit_, codes, weights = weighed(sample_weight, inputs, codes)
        if np.ptp(codes) == 0:
            raise ValueError(
                f"y: expected at least two classes, got one class, {self.classes_[codes[0]]!r}"
            )
        targets = class_targets(codes, len(self.classes_))
        path = self._along_path(self.X_fit_, targets, weights, given, "loo")
        held_out = targets - path.errors
        self.temperature_ = temperature(held_out, codes, weights)
        vector = held_out.shape[1] == 1
        self.held_out_ = held_out[:, 0] if vector else held_out
        self.dual_coef_ = path.coefficients[:, 0] if vector else path.coefficients
        return self

    def decision_function(self, X: Any) -> NDArray[Any]:
        """Return the outputs of the regression.

        Parameters
        ----------
        X : (m, d) array, or other inputs of the kernel

        Returns
        -------
        (m, classes) array of the dtype of X; (m,) for two classes, positive for the second
        """
        return self._outputs(X)

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the class of the largest decision value.

        Parameters
        ----------
        X : (m, d) array, or other inputs of the kernel

        Returns
        -------
        (m,) array of classes
        """
        best = best_class(self._outputs(X))
        return np.asarray(self.classes_[best])

    def predict_proba(self, X: Any) -> NDArray[Any]:
        """Return the probabilities of the classes.

        Parameters
        ----------
        X : (m, d) array, or other inputs of the kernel

        Returns
        -------
        (m, classes) array of the dtype of X
        """
        found = self._outputs(X) / self.temperature_
        if found.ndim == 2:
            return np.asarray(softmax(found, axis=1))
        return np.stack([expit(-found), expit(found)], axis=1)


def temperature(held_out: Values, codes: NDArray[np.intp], weights: Values | None) -> float:
    """Return the temperature of the largest likelihood of decision values (n, classes) or (n, 1).

    The likelihood is convex in the inverse; its bounds matter where the values say less than
    nothing, or are all 0.
    """
    if held_out.shape[1] == 1:
        held_out = held_out * [[-0.5, 0.5]]
    n, classes = held_out.shape
    shares = np.full(n, 1 / n) if weights is None else weights / weights.sum()
    smooth = np.full((n, classes), 1 / (n + classes))
    smooth[np.arange(n), codes] = (n + 1) / (n + classes)
    size = float(np.sqrt(np.mean(held_out**2)))
    if size == 0:
        return 1.0

    def loss(log_factor: float) -> float:
        logits = log_softmax(held_out * (np.exp(log_factor) / size), axis=1)
        return -float(shares @ np.sum(smooth * logits, axis=1))

    found = minimize_scalar(loss, bounds=(-SHARPEST, SHARPEST), method="bounded")
    return size / float(np.exp(found.x))
