"""Gradient descent of infinitely wide networks under any loss, in the space of outputs.

Outputs on the training inputs are ``f = f_0 + Theta A``, those anywhere ``f_0 + Theta(Z, X) A``:
the coefficients A, one for each output on a training input, are all that moves.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from scipy.integrate import solve_ivp
from scipy.special import softmax

from ntkfast.arrays.collections import Values

Gradient: TypeAlias = Callable[[Values, Values], Values]
RTOL, ATOL = 1e-9, 1e-11  # of the integration in time; ATOL of the size of outputs


def mean_square(f: Values, Y: Values) -> Values:
    """Differentiate ``|f - Y|^2 / (2 N C)`` by f."""
    return (f - Y) / Y.size


def cross_entropy(f: Values, Y: Values) -> Values:
    """Differentiate ``-sum Y log softmax(f) / N`` by f."""
    return np.asarray(softmax(f, axis=1) - Y) / len(Y)


LOSSES: dict[str, Gradient] = {"mse": mean_square, "cross_entropy": cross_entropy}


def gradient_of(loss: Any, Y: Values) -> Gradient:
    """Return the gradient of a loss by its name, or the user's own with its result checked.

    Raises
    ------
    TypeError, ValueError
        If there is no such loss, or targets of the cross-entropy are no probabilities.
    """
    if callable(loss):
        return lambda f, Y: _checked(loss(f, Y), Y.shape)
    if loss not in LOSSES:
        words = ", ".join(map(repr, LOSSES))
        raise ValueError(f"loss: expected {words} or a callable, got {loss!r}")
    if loss == "cross_entropy":
        wrong = np.any(Y < 0, axis=1) | (np.abs(Y.sum(axis=1) - 1) > 1e-6)
        if Y.shape[1] < 2 or wrong.any():
            found = f"row {int(np.argmax(wrong))} is {Y[np.argmax(wrong)]}" if wrong.any() else ""
            raise ValueError(
                "y: expected probabilities of at least two classes for the cross-entropy, one-hot "
                f"rows for example; {found or f'got shape {Y.shape}'}"
            )
    return LOSSES[loss]


def _checked(found: Any, shape: tuple[int, ...]) -> Values:
    slopes = np.asarray(found, np.float64)
    if slopes.shape != shape or not np.isfinite(slopes).all():
        what = "NaN or infinity" if slopes.shape == shape else f"shape {slopes.shape}"
        raise ValueError(f"loss: expected a finite gradient of shape {shape}, got {what}")
    return slopes


def integrate(
    theta: Callable[[Values], Values],
    Y: Values,
    start: Values,
    gradient: Gradient,
    learning_rate: float,
    momentum: float,
    times: Values,
    top: float,
) -> Values:
    """Follow ``A' = -eta grad L(f)``, or ``A'' + (1 - mu) A' = ...`` with momentum.

    Parameters
    ----------
    theta : function
        Returns the kernel's matrix times columns.
    Y, start : (n, c) arrays
        Targets, and outputs at time 0.
    gradient : callable
        Of the loss by the outputs.
    learning_rate, momentum : float
    times : (t,) array, increasing
    top : float
        A bound of what the matrix makes of the size of coefficients.

    Returns
    -------
    (t, n, c) array
        Coefficients, with outputs right to about 1e-9.

    Raises
    ------
    RuntimeError
        If the integration stops, which the message explains.
    """
    size = Y.size

    def slope(_: float, state: Values) -> Values:
        f = start + theta(state[:size].reshape(Y.shape))
        force = -learning_rate * gradient(f, Y).ravel()
        if momentum == 0:
            return force
        return np.concatenate([state[size:], (momentum - 1) * state[size:] + force])

    state = np.zeros(size if momentum == 0 else 2 * size)
    if times[-1] == 0:
        return np.zeros((len(times), *Y.shape))
    tiny = np.finfo(np.float64).tiny
    outputs = Y.size * float(np.max(np.abs(gradient(start, Y))))  # the size of what they will be
    atol = max(ATOL * outputs / max(top, tiny), tiny)
    found = solve_ivp(slope, (0.0, times[-1]), state, "DOP853", times, rtol=RTOL, atol=atol)
    if not found.success:
        raise RuntimeError(f"time: the integration stopped, {found.message}")
    return np.asarray(found.y.T[:, :size].reshape(-1, *Y.shape))


def iterate(
    theta: Callable[[Values], Values],
    Y: Values,
    start: Values,
    gradient: Gradient,
    learning_rate: float,
    momentum: float,
    nesterov: bool,
    steps: list[int],
) -> Values:
    """Take steps of gradient descent, as optimisers of the libraries do.

    Parameters
    ----------
    theta, Y, start, gradient, learning_rate, momentum
        As for `integrate`.
    nesterov : bool
    steps : list of int, increasing

    Returns
    -------
    (t, n, c) array
        Coefficients after so many steps.
    """
    A, velocity, found, done = np.zeros(Y.shape), np.zeros(Y.shape), [], 0
    for count in steps:
        for _ in range(done, count):
            force = -learning_rate * gradient(start + theta(A), Y)
            velocity = momentum * velocity + force
            A = A + (momentum * velocity + force if nesterov else velocity)
        done = count
        found.append(A)
    return np.array(found)
