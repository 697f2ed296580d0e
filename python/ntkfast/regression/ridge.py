"""Kernel ridge regression."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar, TypeVar

from numpy.typing import ArrayLike

from ntkfast.arrays import checks
from ntkfast.regression.base import KernelRegressor, weighed
from ntkfast.regression.solution import Solution

Self = TypeVar("Self", bound="KernelRidge")


@dataclass(eq=False, repr=False)
class KernelRidge(KernelRegressor):
    """Ridge regression with the kernel of a network: sum_i w_i (f(x_i) - y_i)^2 + ridge |f|^2.

    Parameters
    ----------
    kernel : Kernel or network, optional
        Default: ``ntkfast.FullyConnected(1)``. Its own parameters are those of the estimator too:
        ``kernel__depth``, ``kernel__w_std``. Inputs of kernels of other things than rows, images
        and sequences, are passed as to the kernel.
    ridge : float, default 1.0
        Added to the diagonal, in absolute terms.
    kind : {"ntk", "nngp"}
        Which kernel of a network.
    method, memory, tol, progress
        As for `ntkfast.regression.solve`.
    engine, threads
        As for calling a kernel.
    client : distributed.Client or str, optional
        A cluster, or the address of its scheduler, that computes large products, in `fit` and in
        predictions. Copies share it, pickles hold the address, and files of `save` neither.

    Attributes
    ----------
    dual_coef_ : (n,) or (n, targets) array
    X_fit_ : (n, d) array, or other inputs
        The training inputs, not copied: they must not be changed while the model is used. Those of
        weight 0 are left out.
    kernel_ : Kernel
    solution_ : Solution
        What the solver tells; files do not keep it.
    n_features_in_ : int
        For kernels of rows.

    Notes
    -----
    There is no constant term: centre the targets where the mean is not known to be 0, or give the
    network biases. Everything is computed in float64; predictions have the dtype of the inputs.

    Weights w solve (K + ridge diag(1/w)) A = Y, by all methods.

    Arrays on a CUDA device, X and y alike, are fitted there as `ntkfast.regression.solve` does, and
    so are predictions from then on; those for an array on a device lie there. Attributes are arrays
    of the host.

    Examples
    --------
    >>> import numpy as np, ntkfast as nf
    >>> from ntkfast.regression import KernelRidge
    >>> X = np.random.default_rng(0).normal(size=(200, 3))
    >>> y = np.abs(X[:, 0])
    >>> model = KernelRidge(nf.FullyConnected(3), ridge=0.01).fit(X[:150], y[:150])
    >>> bool(model.score(X[150:], y[150:]) > 0.9)
    True
    >>> model.set_params(kernel__depth=2).kernel
    FullyConnected(2)
    """

    _of_devices: ClassVar[bool] = True

    kernel: Any = None
    ridge: float = 1.0
    _: KW_ONLY
    kind: str = "ntk"
    method: str = "auto"
    memory: int | None = None
    tol: float = 1e-6
    progress: bool | None = None
    engine: str | None = None
    threads: int | None = None
    client: Any = None

    def fit(self: Self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Solve for the coefficients.

        Parameters
        ----------
        X : (n, d) array, or other inputs of the kernel
        y : (n,) or (n, targets) array
        sample_weight : float or (n,) array, optional
            Weights >= 0 of the squared errors.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            If a parameter has the wrong type or range, or X or y is not finite or has no rows.
        numpy.linalg.LinAlgError
            If the ridge is below the rounding errors of the matrix.
        """
        ridge = checks.number("ridge", self.ridge, least=0.0)
        inputs, targets, vector = self._training(X, y)
        inputs, targets, weights = weighed(sample_weight, inputs, targets)
        own = ridge if weights is None else ridge / weights
        self.solution_: Solution = self._solve(inputs, targets, own)
        coefficients = self.solution_.coefficients
        self.X_fit_ = inputs
        self.dual_coef_ = coefficients[:, 0] if vector else coefficients
        return self
