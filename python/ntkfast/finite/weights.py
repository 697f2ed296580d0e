"""How the weights of a finite network are drawn: entries of variance 1 under every law."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ntkfast.arrays import checks

Matrix: TypeAlias = NDArray[np.float64]
LAWS = ("gaussian", "uniform", "sign")


@dataclass(frozen=True)
class Sparse:
    """Independent weights that are zero with probability ``1 - density``.

    Attributes
    ----------
    density : float
        Probability of a weight that is not zero.
    law : {"gaussian", "uniform", "sign"}
        Law of those weights, symmetric about zero.

    Notes
    -----
    All weights together have variance 1, so that those that are not zero have 1/density. Price and
    Tanner (arXiv:1911.10651) leave the variance of these fixed instead: multiply `w_std` by the
    square root of the density for their networks.
    """

    density: float = 0.1
    law: str = "gaussian"

    def __post_init__(self) -> None:
        density = checks.number("density", self.density, above=0.0)
        if density > 1:
            raise ValueError(f"density: expected a number <= 1, got {self.density}")
        checks.choice("law", self.law, LAWS)

    def __call__(self, shape: tuple[int, int], generator: np.random.Generator) -> Matrix:
        """Draw a matrix."""
        weights = _draw(self.law, shape, generator)
        if self.density == 1:
            return weights
        kept = generator.random(shape) < self.density
        return np.where(kept, weights / np.sqrt(self.density), 0.0)


def _draw(law: str, shape: tuple[int, int], generator: np.random.Generator) -> Matrix:
    if law == "gaussian":
        return generator.standard_normal(shape)
    if law == "uniform":
        return generator.uniform(-np.sqrt(3), np.sqrt(3), shape)
    return generator.choice([-1.0, 1.0], shape)


@dataclass(frozen=True)
class Orthogonal:
    """Weights ``sqrt(max(shape)) Q`` with Q of orthonormal rows or columns, uniformly distributed.

    The signs of R in the QR factorisation are made positive, without which Q would not be uniform
    (Mezzadri, "How to generate random matrices from the classical compact groups", 2007).
    """

    def __call__(self, shape: tuple[int, int], generator: np.random.Generator) -> Matrix:
        """Draw a matrix."""
        tall = max(shape), min(shape)
        Q, R = np.linalg.qr(generator.standard_normal(tall))
        Q *= np.sign(np.diagonal(R)) * np.sqrt(tall[0])
        return np.asarray(Q if shape == tall else np.ascontiguousarray(Q.T))


Init: TypeAlias = Sparse | Orthogonal
NAMED: dict[str, Init] = {
    "gaussian": Sparse(1.0),
    "orthogonal": Orthogonal(),
    "sparse": Sparse(),
}


def resolve(init: Any) -> Init:
    """Return a law of weights by its name, or itself.

    Raises
    ------
    TypeError, ValueError
        If it is neither.
    """
    if isinstance(init, (Sparse, Orthogonal)):
        return init
    if not isinstance(init, str):
        raise TypeError(f"init: expected a name, Sparse or Orthogonal, got {type(init).__name__}")
    return NAMED[checks.choice("init", init, tuple(NAMED))]


def repeated(name: str, value: Any, layers: int) -> tuple[Any, ...]:
    """Return one value per layer."""
    if not isinstance(value, (Sequence, np.ndarray)):
        return (value,) * layers
    if len(value) != layers:
        raise ValueError(f"{name}: expected one value or {layers}, got {len(value)}")
    return tuple(value)


def per_layer(name: str, value: Any, layers: int, **limits: float) -> tuple[float, ...]:
    """Return one number in a range per layer."""
    return tuple(checks.number(name, v, **limits) for v in repeated(name, value, layers))
