"""Gaussian process regression with the kernel of an infinitely wide network."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, TypeVar

import numpy as np
from scipy import linalg
from sklearn.base import MultiOutputMixin, RegressorMixin
from sklearn.utils import check_random_state

from ntkfast.arrays import checks
from ntkfast.arrays.collections import Values
from ntkfast.arrays.panels import panels
from ntkfast.features.base import check_is_fitted
from ntkfast.kernels.base import Kernel
from ntkfast.kernels.evaluation import Evaluation
from ntkfast.kernels.parameters import changed, parameters_of
from ntkfast.regression.base import PART_BYTES, KernelModel
from ntkfast.regression.marginal_likelihood import LOG_TAU, Fit
from ntkfast.regression.parameters import METHODS, budget_of, is_dense
from ntkfast.regression.positive import clipped, deviations, symmetrised
from ntkfast.regression.posterior import Factor, Inverse, Products
from ntkfast.regression.tuning import Search, dotted, singular, tunable, with_values
from ntkfast.support.telling import did_you_mean

Self = TypeVar("Self", bound="GaussianProcess")
OWN = ("noise", "scale")  # found from eigenvalues, for each kernel anew
BOUNDS: dict[str, tuple[float, float]] = {
    "alpha": (1e-3, 10.0),
    "b_std": (1e-3, 10.0),
    "bias": (1e-3, 10.0),
    "c": (1e-3, 1e3),
    "factor": (1e-5, 1e5),
    "h_std": (1e-3, 10.0),
    "length_scales": (1e-3, 1e3),
    "u_std": (0.1, 10.0),
    "v_std": (0.1, 10.0),
    "w_std": (0.1, 10.0),
}
LEAST = 64  # inputs of a panel: columns of a block share their products
DEPTHS = (1, 2, 3, 4, 5)


@dataclass(eq=False, repr=False)
class GaussianProcess(
    MultiOutputMixin,  # type: ignore[misc]
    RegressorMixin,  # type: ignore[misc]
    KernelModel,
):
    """Gaussian process regression: a random function of covariance scale K, seen with noise.

    Parameters
    ----------
    kernel : Kernel or network, optional
        Default: ``ntkfast.FullyConnected(1)``. Inputs of kernels of other things than rows, images
        and sequences, are passed as to the kernel.
    kind : {"ntk", "nngp"}
        Which kernel of a network.
    noise : float, default 1e-2
        Variance of the noise of the targets.
    scale : float, default 1.0
        Factor of the kernel.
    tune : sequence of str, default ("noise", "scale")
        What is fitted by maximising the marginal likelihood, starting from the present values:
        "noise" and "scale", exactly, from one eigendecomposition per kernel; parameters of the
        network or kernel by their names, ``"w_std"``, ``"b_std"``, ``"alpha"``, by L-BFGS in their
        logarithms with exact gradients; "depth" by trying all. Of kernels made of kernels the
        parameters are those of `Kernel.parameters`, ``"k1.c"``, and a name stands for all below
        it: ``"length_scales"``. ``()``: nothing.
    bounds : mapping, optional
        Of a parameter of the network, the range of the search: ``{"b_std": (0.01, 3.0)}``, or of
        the depth all that are tried: ``{"depth": (1, 2, 4)}``. Default, also of parameters of
        parts: 0.1 to 10 for weights, 1e-3 to 10 for biases and `alpha`, 1e-3 to 1e3 for rates and
        length scales, 1e-5 to 1e5 for factors, depths from 1 to 5.
    n_restarts : int, default 0
        Further searches from random parameters within the bounds.
    normalize_y : bool, default False
        Fit targets less their mean, over their standard deviation, one column at a time.
    random_state : int, RandomState or None
        Of the restarts, and of what `tuning_rows` draws.
    method : {"auto", "dense", "lanczos"}, default "auto"
        "dense": matrices of n x n numbers. "lanczos": products with the kernel alone. Means and
        variances are solved for by preconditioned conjugate gradients to `tol`, in blocks; the
        determinant is estimated, see `log_marginal_likelihood`. "auto": "dense" while 32 n^2 bytes
        fit into `memory`.
    memory : int, optional
        Bytes that may be used beside the data; default 4 GiB.
    tol : float, default 1e-6
        Largest relative residual of a system with "lanczos". Variances are too large by at most
        ``(tol |k|)^2 / noise``, k their covariances with the data, and never too small.
    tuning_rows : int, default 4000
        With "lanczos" parameters are tuned on so many rows, drawn at random, exactly.
    engine, threads
        As for calling a kernel.

    Attributes
    ----------
    kernel_ : Kernel
        With the parameters that were found.
    noise_, scale_ : float
        In units of the targets, or of the normalised ones with `normalize_y`.
    parameters_ : dict
        The parameters of the network that were tuned, by their names.
    method_ : {"dense", "lanczos"}
        What was chosen.
    log_marginal_likelihood_value_ : float
        At these values, summed over columns. With "lanczos" estimated when it is first asked for.
    dual_coef_ : (n, c) array
        The mean is ``scale_ * K(Z, X) @ dual_coef_``.
    X_fit_ : inputs
    n_features_in_ : int
        For kernels of rows.

    Raises
    ------
    TypeError, ValueError
        In `fit`, if a parameter has the wrong type or range, or X or y hold NaN or infinity.
    numpy.linalg.LinAlgError
        In `fit`, if the covariance of the targets is singular to rounding, as with repeated inputs
        and no noise.

    Notes
    -----
    Columns of y are independent functions of one law: kernel, scale and noise are shared. The
    values agree with ``sklearn.gaussian_process.GaussianProcessRegressor`` for the same kernel.

    A tuned noise is at least ``10 n eps`` times the largest eigenvalue: targets without noise end
    there, and targets that are nothing else at the other end, where the scale tends to 0.

    References
    ----------
    .. [1] C. Rasmussen, C. Williams, "Gaussian processes for machine learning", MIT Press 2006,
       algorithm 2.1 and chapter 5.

    Examples
    --------
    >>> import numpy as np, ntkfast as nf
    >>> generator = np.random.default_rng(0)
    >>> X = generator.uniform(-1, 1, (60, 1))
    >>> y = np.sin(3 * X[:, 0]) + 0.1 * generator.normal(size=60)
    >>> net = nf.FullyConnected(2, parameterization="ntk", b_std=0.3)
    >>> gp = nf.regression.GaussianProcess(net, tune=("noise", "scale", "b_std")).fit(X, y)
    >>> mean, std = gp.predict(X, return_std=True)
    >>> bool(0.05 < gp.noise_**0.5 < 0.15), mean.shape, std.shape
    (True, (60,), (60,))
    """

    kernel: Any = None
    _: KW_ONLY
    kind: str = "ntk"
    noise: float = 1e-2
    scale: float = 1.0
    tune: Sequence[str] = OWN
    bounds: Mapping[str, Sequence[float]] | None = None
    n_restarts: int = 0
    normalize_y: bool = False
    random_state: Any = None
    method: str = "auto"
    memory: int | None = None
    tol: float = 1e-6
    tuning_rows: int = 4000
    engine: str | None = None
    threads: int | None = None

    def fit(self: Self, X: Any, y: Any) -> Self:
        """Condition on observations, and tune what is to be tuned.

        Parameters
        ----------
        X : (n, d) array, or other inputs of the kernel
        y : (n,) or (n, c) array

        Returns
        -------
        self
        """
        kernel = self._given()
        noise = checks.number("noise", self.noise, least=0.0)
        scale = checks.number("scale", self.scale, above=0.0)
        restarts = checks.count("n_restarts", self.n_restarts)
        tuned = (self.tune,) if isinstance(self.tune, str) else tuple(self.tune)
        ranges = self._ranges(kernel, [name for name in tuned if name not in OWN])
        method = checks.choice("method", self.method, METHODS)
        few = checks.count("tuning_rows", self.tuning_rows, least=1)
        checks.number("tol", self.tol, above=0.0)
        inputs, targets, self.vector_ = self._training(X, y)
        dense = is_dense(method, 32, len(inputs), budget_of(self.memory))
        self.method_ = "dense" if dense else "lanczos"
        self.X_fit_ = inputs.astype(np.float64, copy=False)
        self.mean_, self.deviation_ = np.zeros(targets.shape[1]), np.ones(targets.shape[1])
        if self.normalize_y:
            self.mean_, deviation = targets.mean(axis=0), targets.std(axis=0)
            self.deviation_ = np.where(deviation > 0, deviation, 1)
        self.targets_ = (targets - self.mean_) / self.deviation_

        found = Fit(0.0, scale, noise)
        parameters: dict[str, Any] = {}
        if tuned:
            random = check_random_state(self.random_state)
            rows: Any = slice(None)
            if self.method_ == "lanczos" and len(inputs) > few:
                rows = np.sort(random.choice(len(inputs), few, replace=False))
            given = kernel, self.X_fit_[rows], self.targets_[rows], self.engine, self.threads
            search = Search(*given, found, set(tuned) & set(OWN), ranges)
            parameters, found = search.run(restarts, random)
        self.parameters_ = parameters
        self.kernel_ = with_values(kernel, parameters)
        self.scale_, self.noise_ = found.scale, found.noise
        self._inverse: Inverse | None = None
        self._likelihood: tuple[float, float] | None = None
        self.dual_coef_ = self._inverted().solve(self.targets_)
        return self

    def _inverted(self) -> Inverse:
        """Return the inverse of the covariance of the targets; a file does not hold it."""
        found: Inverse | None = getattr(self, "_inverse", None)
        if found is None:
            found = self._inverse = self._inverse_of(self.kernel_, self.scale_, self.noise_)
        if found is None:
            raise singular(self.noise_)
        return found

    def _inverse_of(self, kernel: Kernel, scale: float, noise: float) -> Inverse | None:
        evaluation = Evaluation(kernel, self.engine, self.threads)
        if self.method_ == "dense":
            return Factor.of(evaluation, self.X_fit_, scale, noise)
        if noise == 0:
            raise ValueError('noise: expected a number above 0 for method="lanczos", got 0')
        budget = budget_of(self.memory)
        return Products.of(evaluation, self.X_fit_, scale, noise, budget, self.tol)

    def _ranges(self, kernel: Kernel, names: list[str]) -> dict[str, Sequence[float]]:
        """Return the range of each parameter of the network that is tuned."""
        given = dict(self.bounds or {})
        asked = {one: name for name in names for one in tunable(kernel, name)}
        for name in given:
            if name not in asked and name not in names:
                there = ", ".join(map(repr, asked)) or "none"
                raise ValueError(
                    f"bounds: expected some of {there}, the parameters of the kernel that are "
                    "tuned (noise and scale have no bounds); "
                    f"got {name!r}{did_you_mean(name, asked)}"
                )
        ranges: dict[str, Sequence[float]] = {}
        for name, above in asked.items():
            if name not in parameters_of(kernel) and dotted(name) not in kernel.parameters():
                changed(kernel, {name: None}, 'tune: expected "noise", "scale" or parameters; ')
            word = [part for part in dotted(name).split(".") if not part.isdigit()][-1]
            default = DEPTHS if word == "depth" else BOUNDS.get(word)
            values = given.get(name, given.get(above, default))
            if values is None:
                raise ValueError(f"bounds: expected a range for {name!r}, which has no default")
            if word == "depth":
                ranges[name] = [checks.count(f"bounds[{name!r}]", one, least=1) for one in values]
                continue
            numbers = [checks.number(f"bounds[{name!r}]", one, above=0.0) for one in values]
            if len(numbers) != 2 or numbers[0] >= numbers[1]:
                raise ValueError(f"bounds: expected {name!r}: (low, high), got {values!r}")
            ranges[name] = numbers
        return ranges

    @property
    def log_marginal_likelihood_value_(self) -> float:
        """The logarithm of the density of the targets, as fitted."""
        check_is_fitted(self)
        return self._fitted_density()[0]

    def _fitted_density(self) -> tuple[float, float]:
        found: tuple[float, float] | None = getattr(self, "_likelihood", None)
        if found is None:
            found = self._likelihood = self._density(self._inverted(), self.dual_coef_)
        return found

    def log_marginal_likelihood(
        self,
        noise: float | None = None,
        scale: float | None = None,
        *,
        return_std: bool = False,
        **parameters: float,
    ) -> Any:
        """Return the logarithm of the density of the targets.

        Parameters
        ----------
        noise, scale : float, optional
            Default: as fitted.
        return_std : bool, default False
            Also return what it may be wrong by: 0 for "dense". With "lanczos" the determinant is
            estimated from 16 random vectors by Lanczos quadrature, preconditioned; this is the
            standard error, and half of the distance of an upper and a lower bound of each form.
        **parameters
            Of the network or kernel, in place of the fitted ones.

        Returns
        -------
        value : float
            Summed over columns; of the normalised targets with `normalize_y`, as in scikit-learn.
            ``-inf`` where the covariance is singular to rounding.
        error : float
            With `return_std`.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before `fit`.
        TypeError, ValueError
            If a parameter is unknown or out of range.
        """
        check_is_fitted(self)
        value, error = self._fitted_density()
        if not (noise is None and scale is None and not parameters):
            variance = self.noise_ if noise is None else checks.number("noise", noise, least=0.0)
            size = self.scale_ if scale is None else checks.number("scale", scale, above=0.0)
            kernel = with_values(self.kernel_, parameters)
            inverse = self._inverse_of(kernel, size, variance)
            value, error = -math.inf, 0.0
            if inverse is not None:
                value, error = self._density(inverse, inverse.solve(self.targets_))
        return (value, error) if return_std else value

    def _density(self, inverse: Inverse, A: Values) -> tuple[float, float]:
        """Return the logarithm of the density of the targets, A the inverse times them."""
        Y = self.targets_
        volume, error = inverse.log_determinant()
        value = -(float(np.sum(Y * A)) + Y.shape[1] * volume + Y.size * LOG_TAU) / 2
        return value, Y.shape[1] * error / 2

    def predict(
        self,
        Z: Any,
        *,
        return_std: bool = False,
        return_cov: bool = False,
        with_noise: bool = False,
    ) -> Any:
        """Return the mean of the function given the observations, and how well it is known.

        Parameters
        ----------
        Z : (m, d) array, or other inputs of the kernel
        return_std : bool
            Also return the standard deviation.
        return_cov : bool
            Also return the covariances, m x m numbers.
        with_noise : bool
            Of new observations instead of the function: the noise is added to the variances, as
            scikit-learn does where a kernel holds a `WhiteKernel`.

        Returns
        -------
        mean : (m,) or (m, c) array
            Computed panel by panel, like `std`: m may be large.
        std : (m,) or (m, c) array
            With `return_std`.
        cov : (m, m) or (m, m, c) array
            With `return_cov`, symmetric to the bit.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before `fit`.
        TypeError, ValueError
            If Z is not like the inputs of `fit`, or both kinds of spread are wanted.
        """
        check_is_fitted(self)
        if return_std and return_cov:
            raise ValueError("return_cov: expected only one of return_std and return_cov")
        inputs = self._inputs(Z, reset=False).astype(np.float64, copy=False)
        evaluation = self._evaluation()
        noise = self.noise_ if with_noise else 0.0
        if return_std:
            means, variances = np.empty((len(inputs), len(self.mean_))), np.empty(len(inputs))
            for part in panels(len(inputs), 8 * len(self.targets_), PART_BYTES, least=LEAST):
                K = self._between(inputs[part])
                means[part] = K.T @ self.dual_coef_
                variances[part] = self.scale_ * evaluation.diag(inputs[part]) + noise
                variances[part] -= self._inverted().variances(K)
            std = deviations(variances)[:, None] * self.deviation_
            return self._outputs(means), self._columns(std)
        if return_cov:
            K = self._between(inputs)
            cov = self.scale_ * evaluation(inputs) - self._inverted().covariances(K)
            cov = clipped(symmetrised(cov))
            np.einsum("ii->i", cov)[:] += noise
            return self._outputs(K.T @ self.dual_coef_), self._columns(
                cov[..., None] * self.deviation_**2
            )
        product = evaluation.matmul(inputs, self.X_fit_, self.dual_coef_)
        return self._outputs(np.asarray(self.scale_ * product, np.float64))

    def _between(self, Z: Any) -> Values:
        """Return the covariances of the data with others, (n, m)."""
        K = np.asarray(self._evaluation()(self.X_fit_, Z), np.float64)
        K *= self.scale_
        return K

    def _outputs(self, means: Values) -> Values:
        """Return means in the units of the targets."""
        return self._columns(self.mean_ + self.deviation_ * means)

    def _columns(self, values: Values) -> Values:
        """Drop the last axis where y was a vector."""
        return values[..., 0] if self.vector_ else values

    def sample_y(
        self, Z: Any, n_samples: int = 1, *, random_state: Any = 0, with_noise: bool = False
    ) -> Values:
        """Draw functions given the observations.

        Parameters
        ----------
        Z : (m, d) array, or other inputs of the kernel
        n_samples : int, default 1
        random_state : int, RandomState or None
            As everywhere in scikit-learn.
        with_noise : bool
            Draw observations instead.

        Returns
        -------
        (m, n_samples) or (m, c, n_samples) array
        """
        count = checks.count("n_samples", n_samples, least=1)
        mean, cov = self.predict(Z, return_cov=True, with_noise=with_noise)
        means = mean.reshape(len(mean), -1)
        values, vectors = linalg.eigh(cov.reshape(len(mean), len(mean), -1)[..., 0])
        root = vectors * np.sqrt(np.maximum(values, 0)) / self.deviation_[0]
        normal = check_random_state(random_state).standard_normal((*means.shape, count))
        drawn = np.einsum("ij,jcs,c->ics", root, normal, self.deviation_, optimize=True)
        found: Values = means[..., None] + drawn
        return found[:, 0] if self.vector_ else found
