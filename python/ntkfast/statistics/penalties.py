"""Differentiable penalties for models in PyTorch that keep the RKHS norm small (extra "torch").

Lower bounds of the norm as penalties, and its upper bounds: after Bietti, Mialon, Chen and Mairal,
"A kernel perspective for regularizing deep neural networks", arXiv:1810.00363. All of them are
scalars to be added to a loss.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ntkfast.arrays import checks
from ntkfast.support.optional import require

__all__ = ["gradient", "perturbation", "project", "spectral"]


def __dir__() -> list[str]:
    """Return the public names."""
    return __all__


def gradient(model: Any, X: Any) -> Any:
    """Return ``sum_k max_i |grad f_k(x_i)|^2``, a lower bound of the squared norms.

    Parameters
    ----------
    model : torch.nn.Module
        Maps (n, ...) tensors to (n, outputs) tensors, each input on its own.
    X : (n, ...) tensor

    Returns
    -------
    scalar tensor
    """
    torch = require("torch", "torch")
    points = X.detach().clone().requires_grad_(True)
    values = model(points)
    total = values.new_zeros(())
    for output in range(values.shape[1]):
        (slope,) = torch.autograd.grad(values[:, output].sum(), points, create_graph=True)
        total = total + slope.flatten(1).square().sum(dim=1).max()
    return total


def perturbation(model: Any, X: Any, *, radius: float = 1.0, steps: int = 5) -> Any:
    """Return ``sum_k max_i (f_k(x_i + d_ik) - f_k(x_i))^2 / radius^2`` over short perturbations.

    Parameters
    ----------
    model : torch.nn.Module
    X : (n, ...) tensor
    radius : float, default 1
        Largest Euclidean norm of d.
    steps : int, default 5
        Of projected gradient ascent, each of length ``1.5 radius / steps``.

    Returns
    -------
    scalar tensor
        Its gradient takes the perturbations as constant.

    Raises
    ------
    ValueError
        If the radius or the number of steps is not positive.
    """
    size = checks.number("radius", radius, above=0.0)
    count = checks.count("steps", steps, least=1)
    values = model(X)
    total = values.new_zeros(())
    for output in range(values.shape[1]):
        moved = _ascend(model, X, output, size, count)
        change = model(moved)[:, output] - values[:, output]
        total = total + change.square().max() / size**2
    return total


def _ascend(model: Any, X: Any, output: int, radius: float, steps: int) -> Any:
    """Return inputs moved by at most `radius` to where this output is larger."""
    torch = require("torch", "torch")
    start = X.detach()
    moved = start.clone()
    for _ in range(steps):
        moved.requires_grad_(True)
        (slope,) = torch.autograd.grad(model(moved)[:, output].sum(), moved)
        ahead = moved.detach() - start + 1.5 * radius / steps * _directions(slope)
        length = ahead.flatten(1).norm(dim=1).clamp(min=radius)
        moved = start + ahead * (radius / length).reshape(-1, *[1] * (X.ndim - 1))
    return moved


def _directions(slope: Any) -> Any:
    lengths = slope.flatten(1).norm(dim=1).clamp(min=1e-12)
    return slope / lengths.reshape(-1, *[1] * (slope.ndim - 1))


def spectral(model: Any) -> Any:
    """Return the sum of squared spectral norms of all weight matrices.

    Filters of convolutions count as matrices of output channels by the rest.

    Parameters
    ----------
    model : torch.nn.Module

    Returns
    -------
    scalar tensor
    """
    torch = require("torch", "torch")
    norms = [torch.linalg.matrix_norm(W.flatten(1), 2) for W in _weights(model)]
    if not norms:
        raise ValueError("model: expected at least one weight with two axes or more")
    return torch.stack(norms).square().sum()


def project(model: Any, tau: float) -> None:
    """Clip the singular values of all weight matrices at `tau`, in place, as after a step.

    Parameters
    ----------
    model : torch.nn.Module
    tau : float
    """
    torch = require("torch", "torch")
    largest = checks.number("tau", tau, above=0.0)
    with torch.no_grad():
        for W in _weights(model):
            U, values, V = torch.linalg.svd(W.flatten(1), full_matrices=False)
            W.copy_(((U * values.clamp(max=largest)) @ V).reshape(W.shape))


def _weights(model: Any) -> Iterator[Any]:
    for parameter in model.parameters():
        if parameter.ndim >= 2:
            yield parameter
