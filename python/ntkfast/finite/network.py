"""What finite networks share: weights as a value, and kernels from the factors of their layers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ntkfast.arrays import checks
from ntkfast.arrays.collections import FloatArray
from ntkfast.finite.factors import Layered
from ntkfast.finite.finite_kernel import FiniteKernel
from ntkfast.finite.weights import Matrix
from ntkfast.support.randomness import RNG, root, streams

Net = TypeVar("Net", bound="FiniteNetwork")


class FiniteNetwork(ABC):
    """A network of finite width with random weights, as a value.

    Attributes
    ----------
    weights : tuple of (fan_in, fan_out) arrays
    biases : tuple of (fan_out,) arrays
    trained : tuple of bool
    """

    weights: tuple[Matrix, ...]
    biases: tuple[Matrix, ...]
    w_std: tuple[float, ...]
    b_std: tuple[float, ...]
    trained: tuple[bool, ...]
    zero_bias: bool
    _converted: dict[np.dtype[Any], tuple[FloatArray, ...]]

    @property
    @abstractmethod
    def tile_rows(self) -> int:
        """Inputs of a tile of a Gram matrix, whose factors are held at a time."""

    @property
    @abstractmethod
    def depth(self) -> int:
        """Number of hidden layers."""

    @abstractmethod
    def _draw(self, generator: np.random.Generator) -> None:
        """Draw weights and biases."""

    @abstractmethod
    def rows(self, X: ArrayLike, name: str = "X") -> FloatArray:
        """Return inputs as a matrix, one input per row."""

    @abstractmethod
    def check_shape(self, name: str, shape: tuple[int, ...]) -> None:
        """Raise an error if an array of this shape holds no inputs."""

    @abstractmethod
    def preactivations(self, X: ArrayLike) -> list[NDArray[Any]]:
        """Return h_1, ..., h_(L+1); the last one is the output."""

    @abstractmethod
    def features(self, X: ArrayLike) -> list[NDArray[Any]]:
        """Return what the layers are applied to."""

    @abstractmethod
    def factors(self, X: ArrayLike) -> Layered:
        """Return the layers that are trained as what the empirical NTK needs of them."""

    def scales(self, layer: int) -> tuple[float, float]:
        """Return what W_l and b_l are multiplied by."""
        return self.w_std[layer] / np.sqrt(len(self.weights[layer])), self.b_std[layer]

    def _apply(self, layer: int, Z: NDArray[Any]) -> NDArray[Any]:
        """Return what a layer makes of features along the last axis."""
        W, (scale, offset) = self._weights(Z.dtype)[layer], self.scales(layer)
        after = times(Z, W)
        after *= scale
        if offset:
            after += (offset * self.biases[layer]).astype(after.dtype)
        return after

    def _copy(self: Net) -> Net:
        other = object.__new__(type(self))
        checks.store(other, **self.__dict__)
        return other

    def redraw(self: Net, rng: RNG) -> Net:
        """Return the same architecture with other weights."""
        other = self._copy()
        other._draw(np.random.default_rng(rng))
        return other

    def draws(self: Net, n_draws: int, rng: RNG) -> Iterator[Net]:
        """Yield networks of this architecture, each with random numbers of its own.

        Parameters
        ----------
        n_draws : int
        rng : int, Generator or None
        """
        for generator in streams(root(rng), count=n_draws):
            yield self.redraw(generator)

    def with_parameters(
        self: Net, weights: Sequence[ArrayLike], biases: Sequence[ArrayLike]
    ) -> Net:
        """Return the same architecture with these weights and biases.

        Parameters
        ----------
        weights, biases : sequences of arrays
            Shaped like the attributes of these names.

        Raises
        ------
        ValueError
            If a number or shape of arrays is wrong.
        """
        other = self._copy()
        for name, new, old in (("weights", weights, self.weights), ("biases", biases, self.biases)):
            arrays = tuple(np.asarray(array, np.float64) for array in new)
            shapes, wanted = [a.shape for a in arrays], [a.shape for a in old]
            if shapes != wanted:
                raise ValueError(f"{name}: expected shapes {wanted}, got {shapes}")
            checks.store(other, **{name: arrays}, _converted={})
        return other

    def _weights(self, dtype: np.dtype[Any]) -> tuple[FloatArray, ...]:
        """Return the weights in another precision, converted once."""
        if dtype not in self._converted:
            self._converted[dtype] = tuple(W.astype(dtype, copy=False) for W in self.weights)
        return self._converted[dtype]

    def __call__(self, X: ArrayLike) -> FloatArray:
        """Return the outputs of the network, an (n, outputs) array."""
        return self.preactivations(X)[-1]

    def gradients(self, X: ArrayLike) -> NDArray[Any]:
        """Return the Jacobian by all trained parameters: rows are gradients, layer after layer.

        For looking at it; the NTK of a dense network needs no such matrix.

        Returns
        -------
        (n, outputs, parameters) array
            Per layer the entries of W_l row by row, then those of b_l if `b_std` is not zero.
        """
        return np.concatenate([part.gradients() for part in self.factors(X)], axis=2)

    @property
    def ntk(self) -> FiniteKernel:
        """The empirical NTK, averaged over the outputs."""
        return FiniteKernel(self, "ntk")

    @property
    def nngp(self) -> FiniteKernel:
        """The covariance of the outputs over draws of the last layer, the others as they are."""
        return FiniteKernel(self, "nngp")

    def layer_ntks(self, X: ArrayLike, Y: ArrayLike | None = None) -> FloatArray:
        """Return the parts of the empirical NTK that the layers contribute.

        Parameters
        ----------
        X : (n, d) array, or images
        Y : (m, d) array, or images, optional

        Returns
        -------
        (layers, n, m) array
            Averaged over the outputs; trained layers from the first to the last.
        """
        left, right = self._pair(X, Y)
        return np.array([a.ntk(b) for a, b in zip(left, right, strict=True)])

    def output_ntk(self, X: ArrayLike, Y: ArrayLike | None = None) -> FloatArray:
        """Return the empirical NTK between all pairs of outputs.

        Parameters
        ----------
        X : (n, d) array, or images
        Y : (m, d) array, or images, optional

        Returns
        -------
        (n, m, outputs, outputs) array
        """
        left, right = self._pair(X, Y)
        total = np.zeros((len(self.rows(X)), len(self.rows(X if Y is None else Y)), 1, 1))
        return np.asarray(
            sum((a.output_ntk(b) for a, b in zip(left, right, strict=True)), start=total)
        )

    def _pair(self, X: ArrayLike, Y: ArrayLike | None) -> tuple[Any, Any]:
        """Return the factors of both sides, the same objects if there is one."""
        left = self.factors(X)
        return left, left if Y is None or Y is X else self.factors(Y)


def times(Z: NDArray[Any], W: FloatArray) -> NDArray[Any]:
    """Return Z W over the last axis by one matrix product."""
    return np.asarray((Z.reshape(-1, len(W)) @ W).reshape(*Z.shape[:-1], -1))


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
