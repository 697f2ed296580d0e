"""Kernel ridge regression that chooses its ridge by predicting each input from the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import check_random_state

from ntkfast.arrays import checks
from ntkfast.arrays.collections import Values
from ntkfast.regression.base import KernelEstimator, KernelRegressor, weighed
from ntkfast.regression.held_out import Path, estimated_path, exact_path
from ntkfast.regression.solver import DIRECT
from ntkfast.support.telling import warn

Self = TypeVar("Self", bound="KernelRidgeCV")
RELATIVE = np.geomspace(1e-8, 10, 28)  # three ridges in each decade, over the mean of the diagonal
RELATIVE_FEW = np.geomspace(1e-6, 1, 7)  # where each of them is a system to solve
CRITERIA = ("loo", "gcv")


class PathEstimator(KernelEstimator):
    """Base of the estimators that go along a path of ridges."""

    exact_rows: int
    n_probes: int
    random_state: Any
    ridge_: float
    ridges_: Values
    scores_: Values

    def _along_path(
        self, inputs: Any, targets: Values, weights: Values | None, given: Any, criterion: str
    ) -> Path:
        """Set `ridge_`, `ridges_` and `scores_`, and return the path."""
        exact = checks.count("exact_rows", self.exact_rows)
        probes = checks.count("n_probes", self.n_probes, least=1)
        scale = 1.0
        if weights is not None and np.ptp(weights) == 0:  # the same as another ridge
            scale, weights = float(weights[0]), None
        diagonal = np.asarray(self._evaluation().diag(inputs), np.float64)
        estimated = len(inputs) > exact
        relative = RELATIVE_FEW if estimated else RELATIVE
        # A kernel that is zero at all inputs has no scale of its own.
        mean = float(np.average(diagonal, weights=weights)) or 1.0
        ridges = _ridges(given, mean * relative, estimated)
        if not estimated:
            path = exact_path(self._gram(inputs), targets, ridges / scale, criterion, weights)
        else:
            signs = check_random_state(self.random_state).randint(0, 2, (len(inputs), probes))
            # A factorisation has no use for a guess.
            iterates = self.method == "cg" or (self.method == "auto" and len(inputs) > DIRECT)

            def solved(B: Values, ridge: Values, guess: Values | None) -> Values:
                start = guess if iterates else None
                return self._solve(inputs, B, ridge, start).coefficients

            rest = ridges / scale, criterion, 2.0 * signs - 1, weights
            path = estimated_path(solved, diagonal, targets, *rest)
        self.ridges_, self.scores_ = ridges, path.scores
        self.ridge_ = float(ridges[path.best])
        return path


@dataclass(eq=False, repr=False)
class KernelRidgeCV(KernelRegressor, PathEstimator):
    """`KernelRidge` with the ridge that predicts each input best from the others.

    The Gram matrix depends on the kernel and the inputs, not on the ridge: one matrix and one
    eigendecomposition give the coefficients and all leave-one-out errors for every ridge, without
    fitting again. To choose parameters of the network as well, search over these alone,
    ``GridSearchCV(KernelRidgeCV(), {"kernel__depth": [1, 2, 3]})``: with the ridge in the grid
    each of its values would compute the same matrices once more.

    Parameters
    ----------
    kernel : Kernel or network, optional
        As for `KernelRidge`.
    ridges : sequence of float, optional
        Default: 28 from 1e-8 to 10, for more than `exact_rows` inputs 7 from 1e-6 to 1, times the
        mean of K_ii.
    criterion : {"loo", "gcv"}
        Mean of the squared leave-one-out errors, or generalised cross-validation, which puts the
        mean of the diagonal of (K + ridge I)^-1 for each entry and is invariant to rotations.
    kind : {"ntk", "nngp"}
        Which kernel of a network.
    exact_rows : int, default 5000
        For more inputs than these each ridge is a system to solve, and the diagonal of the inverse
        is estimated (Hutchinson). An eigendecomposition of n rows takes 3 n^2 numbers of memory.
    n_probes : int, default 32
        Columns of random signs of that estimate, whose error falls like 1 / sqrt(n_probes).
    random_state : int, RandomState or None
        Of the signs.
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
    ridge_ : float
        The ridge chosen, one for all targets.
    ridges_, scores_ : (ridges,) arrays
        The path, and its mean squared errors, averaged over targets and weighted if the fit was;
        infinite where the ridge is below the rounding errors of the matrix.
    held_out_ : (n,) or (n, targets) array
        Predictions of the training targets, each from all other inputs, with that ridge. Inputs of
        weight 0 are left out, here and in `X_fit_`.
    dual_coef_, X_fit_, kernel_, n_features_in_
        As for `KernelRidge`.

    References
    ----------
    .. [1] G. Golub, M. Heath, G. Wahba, "Generalized cross-validation as a method for choosing a
       good ridge parameter", Technometrics 21, 1979.
    .. [2] C. Bekas, E. Kokiopoulou, Y. Saad, "An estimator for the diagonal of a matrix", Applied
       Numerical Mathematics 57, 2007.

    Examples
    --------
    >>> import numpy as np, ntkfast as nf
    >>> from ntkfast.regression import KernelRidgeCV
    >>> generator = np.random.default_rng(0)
    >>> X = generator.normal(size=(200, 3))
    >>> y = np.abs(X[:, 0]) + 0.1 * generator.normal(size=200)
    >>> model = KernelRidgeCV(nf.FullyConnected(2), ridges=[1e-3, 1e-2, 0.1, 1, 10]).fit(X, y)
    >>> model.ridge_
    1.0
    >>> bool(np.isclose(np.mean((y - model.held_out_) ** 2), model.scores_.min()))
    True
    """

    kernel: Any = None
    ridges: Sequence[float] | None = None
    _: KW_ONLY
    criterion: str = "loo"
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
        """Choose the ridge and solve for the coefficients.

        Parameters
        ----------
        X : (n, d) array, or other inputs of the kernel
        y : (n,) or (n, targets) array
        sample_weight : float or (n,) array, optional
            Weights >= 0 of the squared errors, also of those left out.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            If a parameter has the wrong type or range, or X or y is not finite or has no rows.
        numpy.linalg.LinAlgError
            If all ridges are below the rounding errors of the matrix.
        """
        criterion = checks.choice("criterion", self.criterion, CRITERIA)
        inputs, targets, vector = self._training(X, y)
        inputs, targets, weights = weighed(sample_weight, inputs, targets)
        path = self._along_path(inputs, targets, weights, self.ridges, criterion)
        self.X_fit_ = inputs
        _warn_of_a_constant(targets, path.errors, weights)
        held_out, coefficients = targets - path.errors, path.coefficients
        self.dual_coef_ = coefficients[:, 0] if vector else coefficients
        self.held_out_ = held_out[:, 0] if vector else held_out
        return self


def _warn_of_a_constant(targets: Values, errors: Values, weights: Values | None) -> None:
    """Warn where the mean of the targets would have been a far better prediction."""
    mean = np.average(targets, axis=0, weights=weights)
    around = np.average((targets - mean) ** 2, axis=0, weights=weights)
    found = np.average(errors**2, axis=0, weights=weights)
    for column in np.flatnonzero((around > 0) & (found > 1.5 * around) & (mean**2 > around)):
        warn(
            f"y: column {column} has mean {mean[column]:.3g} and is predicted with an error of "
            f"{np.sqrt(found[column]):.3g}, more than its standard deviation "
            f"{np.sqrt(around[column]):.3g}: there is no constant term; take a network with "
            "biases, and subtract the mean first, by "
            "TransformedTargetRegressor(model, transformer=StandardScaler(with_std=False))",
            UserWarning,
        )


def _ridges(given: Any, default: Values, estimated: bool) -> Values:
    """Return the path as an array, checked."""
    if given is None:
        return default
    limits = {"above": 0.0} if estimated else {"least": 0.0}
    found = [checks.number("ridges", one, **limits) for one in np.atleast_1d(given).tolist()]
    if not found:
        raise ValueError("ridges: expected at least one number, got none")
    return np.array(found)
