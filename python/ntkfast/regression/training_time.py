"""What gradient descent has learned of each eigenvector of the kernel, after a time or some steps.

With targets Y and learning rate eta, the outputs on N inputs, from 0, move along an eigenvector
with eigenvalue w of the kernel like those of one number: ``f = w phi y``, and ``q = 1 - w phi`` of
the target is left. Under the loss ``|f - Y|^2 / (2 N C)`` all depends on ``rate = eta / (N C)``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse.linalg import eigsh

from ntkfast.arrays import checks
from ntkfast.arrays.collections import Values
from ntkfast.kernels.base import Kernel, checked_kernel

FEW, DENSE = 32, 8192  # rows up to which all eigenvalues are found, the matrix is stored
TERMS = 14  # of an exponential series whose argument has a norm of at most 1/4


@dataclass(frozen=True)
class Descent:
    """Gradient descent on a mean of squares.

    Attributes
    ----------
    rate : float
        Learning rate over the number of entries of the targets.
    momentum : float, default 0
        mu, from 0 to below 1.
    nesterov : bool, default False
        Whether the gradient is taken ahead, as ``torch.optim.SGD(nesterov=True)`` and optax do.
    """

    rate: float
    momentum: float = 0.0
    nesterov: bool = False

    @property
    def largest(self) -> float:
        """Product of rate and eigenvalue from which on steps diverge."""
        ahead = self.momentum if self.nesterov else 0.0
        return 2 * (1 + self.momentum) / (1 + 2 * ahead)

    def flow(self, w: Values, time: float) -> tuple[Values, Values]:
        """Return phi and q at a time that is counted in steps.

        Without momentum ``f' = -rate w (f - y)``, with it
        ``f'' + (1 - mu) f' = -rate w (f - y)``, which heavy ball and Nesterov share.

        Parameters
        ----------
        w : (n,) array, not negative
        time : float

        Returns
        -------
        phi, q : (n,) arrays
            All digits are right also where ``rate w time`` is small.
        """
        if self.momentum == 0:
            x = self.rate * time * w
            return _over(-np.expm1(-x), w, self.rate * time), np.exp(-x)
        k = self.rate * w
        generator = _matrices(k, (0, 1, 0), (-k, self.momentum - 1, 1))
        reach = time * float(np.max(np.abs(generator).sum(axis=-1)))
        halvings = max(0, int(np.ceil(np.log2(reach))) + 2) if reach > 0 else 0
        step = generator * (time / 2.0**halvings)
        change = term = step
        for j in range(2, TERMS + 1):
            term = term @ step / j
            change = change + term
        for _ in range(halvings):
            change = 2 * change + change @ change
        return self._read(change)

    def steps(self, w: Values, count: int) -> tuple[Values, Values]:
        """Return phi and q after a number of steps.

        Parameters
        ----------
        w : (n,) array, not negative
        count : int

        Returns
        -------
        phi, q : (n,) arrays
            Infinite or NaN where they have overflown.
        """
        k = self.rate * w
        with np.errstate(over="ignore", invalid="ignore"):
            if self.momentum == 0:
                small = k < 0.5
                log = count * np.log1p(-np.where(small, k, 0))
                power = np.power(1 - k, float(count))
                grown = np.where(small, -np.expm1(log), 1 - power)
                return _over(grown, w, self.rate * count), np.where(small, np.exp(log), power)
            mu = self.momentum
            # the change of (phi, velocity, 1) in one step, in units of the rate
            if self.nesterov:
                square = _matrices(k, (-(1 + mu) * k, mu**2, 1 + mu), (-k, mu - 1, 1))
            else:
                square = _matrices(k, (-k, mu, 1), (-k, mu - 1, 1))
            change = np.zeros_like(square)
            while count:
                if count & 1:
                    change = change + square + change @ square
                count >>= 1
                if count:
                    square = 2 * square + square @ square
            return self._read(change)

    def _read(self, change: Values) -> tuple[Values, Values]:
        """Return phi and q from the change of the state (phi / rate, velocity, 1).

        Changes are what is composed, (1 + D)(1 + E) - 1 = D + E + D E: as with `expm1`, small
        eigenvalues keep their digits.
        """
        return self.rate * change[:, 0, 2], 1 + change[:, 0, 0]


def _over(grown: Values, w: Values, limit: float) -> Values:
    """Return grown / w, which tends to the limit where w is 0."""
    seen = w > 0
    return np.where(seen, grown / np.where(seen, w, 1), limit)


def _matrices(k: Values, *rows: tuple[float | Values, ...]) -> Values:
    """Stack 3 x 3 matrices, one for each k, whose last row is 0."""
    result = np.zeros((len(k), 3, 3))
    for i, row in enumerate(rows):
        for j, entry in enumerate(row):
            result[:, i, j] = entry
    return result


def max_learning_rate(
    kernel: Kernel,
    X: Any,
    n_outputs: int = 1,
    *,
    ridge: float = 0.0,
    momentum: float = 0.0,
    nesterov: bool = False,
    engine: str | None = None,
    threads: int | None = None,
) -> float:
    """Return the learning rate from which on gradient descent diverges.

    Under the loss ``|f - Y|^2 / (2 N C)`` that is ``2 (1 + momentum) N C / lambda_max`` for the
    heavy ball, and this over ``1 + 2 momentum`` for Nesterov's.

    Parameters
    ----------
    kernel : Kernel
        ``net.ntk`` where all layers are trained, ``net.nngp`` for the last one alone.
    X : (n, d) array, or other inputs of the kernel
    n_outputs : int, default 1
        C, the columns of the targets.
    ridge : float, default 0
        Added to the eigenvalue.
    momentum : float, default 0
        From 0 to below 1.
    nesterov : bool, default False
    engine, threads
        As for calling a kernel.

    Returns
    -------
    float
        Infinity for a kernel that is 0. The eigenvalue is right to about 10 digits.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, shape or range, or X holds NaN or infinity.

    References
    ----------
    .. [1] J. Lee et al., "Wide neural networks of any depth evolve as linear models under gradient
       descent", NeurIPS 2019.

    Examples
    --------
    >>> import numpy as np, ntkfast as nf
    >>> nf.regression.max_learning_rate(nf.FullyConnected(1).ntk, np.eye(4)) < 4
    True
    """
    kernel = checked_kernel(kernel)
    columns = checks.count("n_outputs", n_outputs, least=1)
    extra = checks.number("ridge", ridge, least=0.0)
    mu = checked_momentum(momentum)
    inputs = kernel.collect(X).astype(np.float64, copy=False)
    n = len(inputs)
    if n <= DENSE:
        top = largest_eigenvalue(kernel(inputs, engine=engine, threads=threads))
    else:
        top = largest_eigenvalue(kernel.operator(inputs, engine=engine, threads=threads))
    top += extra
    return Descent(1.0, mu, nesterov).largest * n * columns / top if top > 0 else math.inf


def checked_momentum(momentum: object) -> float:
    """Return a momentum, or raise an error if it is not from 0 to below 1."""
    mu = checks.number("momentum", momentum, least=0.0)
    if mu >= 1:
        raise ValueError(f"momentum: expected a number below 1, got {momentum}")
    return mu


def largest_eigenvalue(K: Any) -> float:
    """Return the largest eigenvalue of a positive semidefinite matrix or operator."""
    if K.shape[0] <= FEW:
        return float(np.linalg.eigvalsh(K)[-1])
    first = np.random.default_rng(0).standard_normal(K.shape[0])
    return float(eigsh(K, 1, which="LA", v0=first, tol=1e-12, return_eigenvectors=False)[0])
