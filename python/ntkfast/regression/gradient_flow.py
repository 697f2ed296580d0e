"""Gradient descent of infinitely wide networks: mean and covariance of the ensemble at any time."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import MultiOutputMixin, RegressorMixin

from ntkfast.arrays import checks
from ntkfast.arrays.collections import Values
from ntkfast.arrays.panels import panels
from ntkfast.features.base import check_is_fitted
from ntkfast.regression import losses
from ntkfast.regression.base import PART_BYTES, KernelModel
from ntkfast.regression.dynamics import Dynamics, Moment
from ntkfast.regression.parameters import METHODS, budget_of, checked_network, is_dense
from ntkfast.regression.positive import clipped, deviations, symmetrised
from ntkfast.regression.training_time import Descent, checked_momentum

Self = TypeVar("Self", bound="GradientFlow")


@dataclass(eq=False, repr=False)
class GradientFlow(
    MultiOutputMixin,  # type: ignore[misc]
    RegressorMixin,  # type: ignore[misc]
    KernelModel,
):
    """An ensemble of infinitely wide networks, trained by gradient descent for any time.

    Outputs of such a network move along its NTK, which stays what it is; their distribution over
    random initialisations is Gaussian at all times under squared loss, and known exactly.

    Parameters
    ----------
    network : network, optional
        Anything with the kernels `ntk` and `nngp`; default ``ntkfast.FullyConnected(1)``. Inputs of
        networks on images and sequences are passed as to their kernels.
    kind : {"ntk", "nngp"}
        "ntk": all layers are trained. "nngp": the last one alone; at the end of training that is
        the posterior of the Gaussian process.
    learning_rate : float, default 1.0
        eta. Time counts steps of this size.
    ridge : float, default 0.0
        s, added to the diagonals of both kernels: each training output has an independent part of
        its own, s^1/2 times a standard normal parameter which is trained like the others. At the
        end the mean is that of kernel ridge regression.
    momentum : float, default 0.0
        mu, from 0 to below 1: heavy ball.
    nesterov : bool, default False
        Take gradients ahead, as ``torch.optim.SGD(nesterov=True)`` does; for `steps`.
    loss : {"mse", "cross_entropy"} or callable
        ``|f(X) - Y|^2 / (2 N C)``, or ``-sum Y log softmax f / N`` for rows Y of probabilities, or
        any other one by its gradient, ``loss(f, Y)`` with (n, c) arrays. Other losses than "mse"
        have no end of training and no covariance here; the mean is then the one network that
        starts from 0, or from `start`.
    method : {"auto", "dense", "lanczos"}, default "auto"
        "dense": matrices of n x n numbers, for all times. "lanczos": products with the kernel
        alone, one for a step of a Krylov space, whose bases are held; the end of training by
        conjugate gradients. "auto": "dense" while 40 n^2 bytes fit into `memory`.
    memory : int, optional
        Bytes that may be used beside the data; default 4 GiB.
    tol : float, default 1e-9
        Of "lanczos": change of coefficients by the last steps, and residuals, relative. A
        `SolverWarning` says where it is not reached.
    engine, threads
        As for calling a kernel.

    Attributes
    ----------
    method_ : {"dense", "lanczos"}
        What was chosen.
    training_ : object
        Inputs and targets, and matrices once they are needed: n x n float64 for the kernel, for its
        eigenvectors or its factor, and for the NNGP where covariances are wanted.
    n_features_in_ : int
        For networks on rows.

    Raises
    ------
    TypeError, ValueError
        In `fit`, if a parameter has the wrong type or range, or X or y hold NaN or infinity.

    Notes
    -----
    With ``Theta = U diag(w) U^T`` the kernel of training on its inputs, the NNGP S, both with the
    ridge, and ``phi = (1 - exp(-w eta t / (N C))) / w``, the mean is ``Theta(Z, X) U phi U^T Y``.
    With ``A = Theta(Z, X) U phi U^T`` the covariance of each output is::

        S(Z, Z) - A S(X, Z) - S(Z, X) A^T + A S(X, X) A^T.

    The end of training is solved for, not diagonalised. Eigenvalues of at most ``n eps`` times
    the largest count as zero: a matrix that is singular to rounding, as with repeated inputs at
    ``ridge=0``, gives the answer of least norm. Rounding errors at time t grow like eps times the
    smaller of ``w_max eta t / (N C)`` and the condition number.

    References
    ----------
    .. [1] J. Lee, L. Xiao, S. Schoenholz, Y. Bahri, R. Novak, J. Sohl-Dickstein, J. Pennington,
       "Wide neural networks of any depth evolve as linear models under gradient descent",
       NeurIPS 2019.
    .. [2] B. He, B. Lakshminarayanan, Y. W. Teh, "Bayesian deep ensembles via the neural tangent
       kernel", NeurIPS 2020 (independent parts of the outputs).

    Examples
    --------
    >>> import numpy as np, ntkfast as nf
    >>> X = np.linspace(-1, 1, 9)[:, None]
    >>> net = nf.FullyConnected(2, parameterization="ntk", b_std=0.3)
    >>> flow = nf.regression.GradientFlow(net, ridge=1e-3).fit(X, np.sin(3 * X[:, 0]))
    >>> mean, std = flow.predict(X, time=[0, 10, 1000, np.inf], return_std=True)
    >>> mean.shape, std.shape, bool(np.all(std[-1] < std[0]))
    ((4, 9), (4, 9), True)
    """

    _model = "network"

    network: Any = None
    _: KW_ONLY
    kind: str = "ntk"
    learning_rate: float = 1.0
    ridge: float = 0.0
    momentum: float = 0.0
    nesterov: bool = False
    loss: Any = "mse"
    method: str = "auto"
    memory: int | None = None
    tol: float = 1e-9
    engine: str | None = None
    threads: int | None = None

    def fit(self: Self, X: Any, y: Any) -> Self:
        """Take the training set; matrices are made when a prediction needs them.

        Parameters
        ----------
        X : (n, d) array, or other inputs of the network
        y : (n,) or (n, c) array

        Returns
        -------
        self
        """
        network = checked_network(self.network)
        eta = checks.number("learning_rate", self.learning_rate, above=0.0)
        ridge = checks.number("ridge", self.ridge, least=0.0)
        momentum = checked_momentum(self.momentum)
        method = checks.choice("method", self.method, METHODS)
        budget = budget_of(self.memory)
        inputs, targets, vector = self._training(X, y)
        self.X_fit_, targets = inputs.astype(np.float64), targets.copy()  # for matrices made later
        losses.gradient_of(self.loss, targets)  # checks them
        self.vector_ = vector
        self.training_ = Dynamics(
            network,
            self.kind,
            self.X_fit_,
            targets,
            ridge,
            Descent(eta / targets.size, momentum, bool(self.nesterov)),
            self.engine,
            self.threads,
            is_dense(method, 40, len(targets), budget),
            budget,
            checks.number("tol", self.tol, above=0.0),
        )
        self.method_ = "dense" if self.training_.is_dense else "lanczos"
        return self

    def predict(
        self,
        Z: Any = None,
        time: ArrayLike = np.inf,
        *,
        steps: ArrayLike | None = None,
        start: Any = None,
        return_std: bool = False,
        return_cov: bool = False,
    ) -> Any:
        """Return the mean of the ensemble, and how much its members differ.

        Parameters
        ----------
        Z : (m, d) array, or other inputs, optional
            None: the outputs on the training inputs that training drives, the independent part of
            each included. At the end they are the targets, whatever the ridge; ``predict(X)`` is
            the network without those parts.
        time : float or (t,) array, default infinity
            Of gradient flow, counted in steps: 0 is the start, and infinity the end. With momentum
            ``f'' + (1 - mu) f' = -eta Theta grad L(f)``.
        steps : int or (t,) array, optional
            Steps of gradient descent in place of a time.
        start : pair of arrays, optional
            Outputs of one network before training, (n, c) on the training inputs and (m, c) on Z,
            in place of those of the ensemble. None for Z: only the first one, not a pair.
        return_std : bool
            Also return the standard deviation of an output.
        return_cov : bool
            Also return the covariances of an output, m x m numbers for each time.

        Returns
        -------
        mean : (m,) or (m, c) array
            For an array of times with t in front of its shape: (t, m) or (t, m, c). It is computed
            panel by panel, so that m may be large.
        std : (m,) array
            With `return_std`, the same for all outputs. For an array of times (t, m).
        cov : (m, m) array
            With `return_cov`, symmetric to the bit. For an array of times (t, m, m).

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before `fit`.
        TypeError, ValueError
            If an argument has the wrong type, shape or range, steps diverge, or `loss` has no
            such answer.
        """
        check_is_fitted(self)
        at = _moments(time, steps)
        spread = return_std or return_cov
        if return_std and return_cov:
            raise ValueError("return_cov: expected only one of return_std and return_cov")
        if spread and self.loss != "mse":
            raise ValueError(f"return_std, return_cov: expected loss='mse', got {self.loss!r}")
        if spread and start is not None:
            raise ValueError("start: one network has no covariance; expected None with it")
        inputs = None
        if Z is not None:
            inputs = self._inputs(Z, reset=False).astype(np.float64, copy=False)
        mean = self._means(inputs, at, start)
        if self.vector_:
            mean = mean[..., 0]
        scalar = np.ndim(time if steps is None else steps) == 0
        mean = mean[0] if scalar else mean
        if not spread:
            return mean
        found = self._spreads(inputs, [self.training_.moment(*one) for one in at], return_std)
        return mean, found[0] if scalar else found

    def training_loss(
        self, time: ArrayLike = np.inf, *, steps: ArrayLike | None = None, ensemble: bool = False
    ) -> Any:
        """Return the loss on the training outputs from the eigenvalues: learning curves.

        Parameters
        ----------
        time, steps
            As for `predict`.
        ensemble : bool, default False
            Of a network with random weights, in the mean over the ensemble. False: of the mean
            prediction.

        Returns
        -------
        float or (t,) array
            ``|f - Y|^2 / (2 N C)`` of the outputs that training drives, ``predict(None)``.

        Raises
        ------
        ValueError
            If `loss` is not "mse".
        """
        check_is_fitted(self)
        if self.loss != "mse":
            raise ValueError(f"training_loss: expected loss='mse', got {self.loss!r}")
        training, at = self.training_, _moments(time, steps)
        Y = training.targets
        if not training.is_dense and ensemble:
            raise ValueError('training_loss: expected method="dense" with ensemble=True')
        if training.is_dense:
            weight = np.sum(training.eigen.seen(Y) ** 2, axis=1)
            if ensemble:
                vectors = training.eigen.vectors
                weight += Y.shape[1] * np.einsum("ji,ji->i", vectors, training.nngp @ vectors)
            squares = [float(training.modes(*one)[1] ** 2 @ weight) for one in at]
        else:
            squares = [float(np.sum(training.moment(*one).rest(Y) ** 2)) for one in at]
        found = np.array(squares) / (2 * Y.size)
        return found[0] if np.ndim(time if steps is None else steps) == 0 else found

    def max_learning_rate(self) -> float:
        """Return the rate from which on `steps` diverge under squared loss.

        Returns
        -------
        float
            As `ntkfast.regression.max_learning_rate`, for the training set with its ridge.
        """
        check_is_fitted(self)
        training = self.training_
        return training.descent.largest * training.targets.size / training.largest

    # --- Means -----------------------------------------------------------------------------------

    def _means(self, Z: Any, at: list[When], start: Any) -> Values:
        """Return means (t, m, c) on inputs, or on the training inputs for None."""
        training = self.training_
        Y = training.targets
        first: Values | float = 0.0
        other: Values | float = 0.0
        if start is not None:
            first, other = _started(start, Y.shape, None if Z is None else len(Z), self.vector_)
        begin = np.broadcast_to(first, Y.shape)
        if self.loss == "mse":
            wanted = Y - begin
            coefficients = np.array([training.moment(*one).phi(wanted) for one in at])
        else:
            coefficients = self._other_loss(at, np.array(begin))
        if Z is None:
            found = begin + np.array([training.times(self.kind, one) for one in coefficients])
            for index, (time, _) in enumerate(at):
                if time == np.inf:
                    found[index] = Y - training.end.rest(Y - begin)
            return np.asarray(found)
        stacked = np.moveaxis(coefficients, 0, 1).reshape(len(Y), -1)
        product = training.evaluate(self.kind).matmul(Z, training.inputs, stacked)
        return np.asarray(other + np.moveaxis(product.reshape(len(Z), len(at), -1), 1, 0))

    def _other_loss(self, at: list[When], begin: Values) -> Values:
        """Return coefficients (t, n, c) under any loss."""
        training, descent = self.training_, self.training_.descent
        eta, product = float(self.learning_rate), partial(training.times, self.kind)
        gradient = losses.gradient_of(self.loss, training.targets)
        if at[0][1] is not None:
            steps, places = np.unique([int(one[1] or 0) for one in at], return_inverse=True)
            found = losses.iterate(
                product,
                training.targets,
                begin,
                gradient,
                eta,
                descent.momentum,
                descent.nesterov,
                steps.tolist(),
            )
            if not np.isfinite(found[-1]).all():
                raise ValueError(f"learning_rate: {steps[-1]} steps of {eta} diverge and overflow")
            return np.asarray(found[places])
        times, places = np.unique([float(one[0] or 0) for one in at], return_inverse=True)
        if times[-1] == np.inf:
            raise ValueError(f"time: expected finite times for loss={self.loss!r}, got infinity")
        found = losses.integrate(
            product,
            training.targets,
            begin,
            gradient,
            eta,
            descent.momentum,
            times,
            math.sqrt(len(training.targets)) * training.largest,
        )
        return np.asarray(found[places])

    # --- Covariances -----------------------------------------------------------------------------

    def _spreads(self, Z: Any, moments: list[Moment], diagonal: bool) -> Values:
        """Return standard deviations (t, m) or covariances (t, m, m)."""
        training = self.training_
        if Z is None and not training.is_dense:
            n = len(training.targets)
            raise ValueError(
                'Z: expected inputs for a spread with method="lanczos", got None: covariances of '
                f"all training outputs take {8 * n * n} bytes for {n} inputs"
            )
        if Z is None:
            found = np.array([symmetrised(one.rest(one.rest(training.nngp).T)) for one in moments])
            return deviations(np.einsum("tii->ti", found)) if diagonal else clipped(found)
        if not diagonal:
            nngp, theta = (one.T for one in training.grams(Z, training.inputs))
            lost = [self._lost(one, nngp, theta) for one in moments]
            prior = training.evaluate("nngp")(Z)
            return clipped(np.array([prior - symmetrised(left.T @ right) for left, right in lost]))
        variances = np.empty((len(moments), len(Z)))
        for part in panels(len(Z), 8 * len(training.targets), PART_BYTES):
            nngp, theta = (one.T for one in training.grams(Z[part], training.inputs))
            prior = training.evaluate("nngp").diag(Z[part])
            for index, one in enumerate(moments):
                left, right = self._lost(one, nngp, theta)
                variances[index, part] = prior - np.einsum("ij,ij->j", left, right)
        return deviations(variances)

    def _lost(self, moment: Moment, nngp: Values, theta: Values) -> tuple[Values, Values]:
        """Return L and R, (n, m), with the symmetric part of L^T R to be taken from S(Z, Z)."""
        if self.kind == "nngp":
            return nngp, moment.both(nngp)
        A = moment.phi(theta)
        return A, 2 * nngp - self.training_.times("nngp", A)


When = tuple[float | None, int | None]


def _moments(time: ArrayLike, steps: ArrayLike | None) -> list[When]:
    """Return pairs of which one is None: a time, or a number of steps."""
    times = np.asarray(time, np.float64)
    if times.ndim > 1 or not times.size or not np.all(times >= 0):
        raise ValueError(f"time: expected a number >= 0, or a vector of them, got {time!r}")
    if steps is None:
        return [(float(one), None) for one in times.ravel()]
    if times.ndim or times != np.inf:
        raise ValueError("steps: expected either a time or steps, got both")
    counts = np.asarray(steps)
    if counts.ndim > 1 or not counts.size or counts.dtype.kind not in "iu" or counts.min() < 0:
        raise ValueError(f"steps: expected an integer >= 0, or a vector of them, got {steps!r}")
    return [(None, int(one)) for one in counts.ravel()]


def _started(
    start: Any, shape: tuple[int, ...], others: int | None, vector: bool
) -> tuple[Values, Values | float]:
    """Return the outputs at the start on the training inputs and on others, (n, c) and (m, c)."""
    pair = (start,) if others is None else start
    if others is not None and not (isinstance(start, (tuple, list)) and len(start) == 2):
        raise ValueError("start: expected a pair, outputs on the training inputs and on Z")
    found = []
    for one, count in zip(pair, (shape[0], others), strict=False):
        outputs, flat = checks.columns("start", one, int(count or 0))
        if outputs.shape[1] != shape[1] or flat != vector:
            raise ValueError(f"start: expected outputs like y, got shape {np.shape(one)}")
        found.append(outputs.astype(np.float64))
    return found[0], found[1] if others is not None else 0.0
