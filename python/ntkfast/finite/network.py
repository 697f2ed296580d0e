"""What finite networks share: weights as a value, and kernels from the factors of their layers.

A network has kernels and a kernel its network, so that both are defined here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ntkfast import places
from ntkfast.activations.base import Activation
from ntkfast.activations.names import resolve as activation_of
from ntkfast.arrays import checks
from ntkfast.arrays.collections import Collection, FloatArray, Rows
from ntkfast.engines import Run
from ntkfast.finite.factors import Factors, Layered, LayerGradients, diagonal_ntk, tile_ntk
from ntkfast.finite.weights import Init, Matrix, per_layer, repeated
from ntkfast.finite.weights import resolve as init_of
from ntkfast.kernels.base import KernelOfNetwork
from ntkfast.networks.base import ActivationLike
from ntkfast.support.randomness import RNG, root, streams

Net = TypeVar("Net", bound="FiniteNetwork")


@dataclass(frozen=True, eq=False, repr=False, init=False)
class FiniteNetwork(ABC):
    """A network of finite width with random weights, as a value.

    Attributes
    ----------
    weights : tuple of (fan_in, fan_out) arrays
    biases : tuple of (fan_out,) arrays
    trained : tuple of bool
    """

    activation: Activation
    init: Init
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
    def _sizes(self) -> list[tuple[int, int]]:
        """Return fan-in and fan-out of the layers."""

    @abstractmethod
    def rows(self, X: ArrayLike, name: str = "X") -> FloatArray:
        """Return inputs as a matrix, one input per row."""

    @abstractmethod
    def check_shape(self, name: str, shape: tuple[int, ...]) -> None:
        """Raise an error if an array of this shape holds no inputs."""

    def _read(self, layer: int, z: NDArray[Any]) -> NDArray[Any]:
        """Return what a layer is applied to, made of the inputs or the neurons before it."""
        return z

    def _unread(self, layer: int, back: NDArray[Any]) -> NDArray[Any]:
        """Return the transpose of `_read` for every output, the second axis."""
        return back

    def _gradients(self, layer: int) -> Callable[..., LayerGradients]:
        """Return what makes gradients by a layer of `_read`, derivatives, and `scales`."""
        return Factors

    def _initialize(
        self,
        layers: int,
        activation: ActivationLike,
        init: str | Init,
        w_std: float | Sequence[float] | None,
        b_std: float | Sequence[float],
        trained: bool | Sequence[bool],
    ) -> None:
        """Store what the constructors check alike."""
        function = activation_of(activation)
        w = np.sqrt(function.gain()) if w_std is None else w_std
        checks.store(
            self,
            activation=function,
            init=init_of(init),
            w_std=per_layer("w_std", w, layers, above=0.0),
            b_std=per_layer("b_std", b_std, layers, least=0.0),
            trained=tuple(bool(t) for t in repeated("trained", trained, layers)),
        )

    def _draw(self, generator: np.random.Generator) -> None:
        """Draw weights and biases."""
        sizes = self._sizes()
        weights = tuple(self.init(size, generator) for size in sizes)
        biases = tuple(
            generator.standard_normal(after) if b and not self.zero_bias else np.zeros(after)
            for (_, after), b in zip(sizes, self.b_std, strict=True)
        )
        checks.store(self, weights=weights, biases=biases, _converted={})

    def is_skipped(self, layer: int) -> bool:
        """Whether layer l is a residual branch."""
        return False

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

    def _forward(self, X: ArrayLike) -> tuple[list[NDArray[Any]], list[NDArray[Any]]]:
        """Return what the layers are applied to, and h_1, ..., h_(L+1)."""
        z, F, h = self.rows(X), list[NDArray[Any]](), list[NDArray[Any]]()
        for layer in range(self.depth + 1):
            F.append(self._read(layer, z))
            after = self._apply(layer, F[-1])
            if self.is_skipped(layer):
                after += h[-1]
            h.append(after)
            if layer < self.depth:
                z = self.activation(after)
        return F, h

    def _backward(
        self, h: list[NDArray[Any]], first: int, start: FloatArray | None = None
    ) -> list[NDArray[Any]]:
        """Return the derivatives by h_(first + 1) and those after it.

        They are derivatives of the outputs, or of what has the derivatives `start` by the outputs.
        """
        n, outputs = h[-1].shape
        every = np.broadcast_to(np.eye(outputs, dtype=h[-1].dtype), (n, outputs, outputs))
        back: NDArray[Any] = every if start is None else start
        found, weights = [back], self._weights(back.dtype)
        for layer in range(self.depth, first, -1):
            before = times(back, weights[layer].T)
            before *= self.scales(layer)[0]
            before = self._unread(layer, before) * self.activation.derivative(h[layer - 1])[:, None]
            back = before + back if self.is_skipped(layer) else before
            found.append(back)
        return found[::-1]

    def _factors(self, X: ArrayLike, V: FloatArray | None) -> list[Any]:
        """Return the factors of the outputs, or of their sum with weights V, (n, outputs)."""
        F, h = self._forward(X)
        chosen = [layer for layer, trained in enumerate(self.trained) if trained]
        if not chosen:
            return []
        first = chosen[0]
        B = self._backward(h, first, None if V is None else V[:, None, :])
        return [
            self._gradients(layer)(F[layer], B[layer - first], *self.scales(layer))
            for layer in chosen
        ]

    def preactivations(self, X: ArrayLike) -> list[NDArray[Any]]:
        """Return h_1, ..., h_(L+1); the last one is the output.

        Parameters
        ----------
        X : array
            Inputs; float32 and float64 are kept.

        Returns
        -------
        list of arrays
            (n, width), of convolutions (n, height, width, channels).
        """
        return self._forward(X)[1]

    def features(self, X: ArrayLike) -> list[NDArray[Any]]:
        """Return what the layers are applied to.

        F_0 = X, F_1, ..., F_L of dense layers, (n, fan_in) arrays; of convolutions the patches of
        every pixel.
        """
        return self._forward(X)[0]

    def factors(self, X: ArrayLike) -> list[Any]:
        """Return the layers that are trained as what the empirical NTK needs of them.

        Of dense layers these are F_l and B_(layer+1) with their scales: the gradient of output a
        at x by W_l is ``scale F_l(x) B_(layer+1)^a(x)^T``.
        """
        return self._factors(X, None)

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


class FiniteKernel(KernelOfNetwork):
    """The NTK or NNGP of a finite network with the weights it has (`MLP.ntk`, `CNN.nngp`).

    Gram matrices of dense layers come from ``sum_l (F_l F_l^T) o (B_(l+1) B_(l+1)^T)`` with the
    products of BLAS; the Jacobian is never formed. Gradients by convolutions are formed for one
    tile of images. `engine` and `threads` have no influence: BLAS has threads of its own. Memory
    beyond the result is some tiles of `network.tile_rows` inputs, whatever their number.

    Attributes
    ----------
    network : MLP or CNN
    kind : {"ntk", "nngp"}
        "nngp" is ``w_std^2 F_L F_L^T / n_L + b_std^2``: the covariance of the output over draws of
        the last layer.
    """

    network: FiniteNetwork

    def check_shapes(self, X: tuple[int, ...], Y: tuple[int, ...] | None = None) -> None:
        """Raise an error naming the array that holds no inputs of the network, by its shape."""
        self.network.check_shape("X", X)
        if Y is not None:
            self.network.check_shape("Y", Y)

    def collect(self, X: ArrayLike) -> FloatArray:
        """Validate inputs once, for many calls; see `Kernel.collect`."""
        return self._inputs(places.HOST, X, None)[0].data

    def _inputs(self, place: places.Place, X: Any, Y: Any) -> tuple[Rows, Rows | None]:
        if place is not places.HOST:
            raise TypeError(f"X: {self!r} takes arrays of the host, got one on a CUDA device")
        left = self.network.rows(X)
        return place.rows(left, None if Y is None else self.network.rows(Y, "Y"))

    def factors(self, X: FloatArray) -> Layered:
        """Return the layers whose contributions add up to the kernel."""
        net = self.network
        if self.kind == "ntk":
            return net.factors(X)
        F, (scale, offset) = net.features(X)[-1], net.scales(net.depth)
        ones = np.broadcast_to(np.ones(1, F.dtype), (len(F), 1, 1))
        return [Factors(F, ones, scale, 0.0 if net.zero_bias else offset)]

    def _values(self, X: Collection) -> FloatArray:
        data = cast(Rows, X).data
        values = np.empty(len(data), data.dtype)
        for part in self._parts(len(data)):
            values[part] = diagonal_ntk(
                self.factors(data[part]), part.stop - part.start, data.dtype
            )
        return values

    def _gram(self, X: Collection, Y: Collection | None, out: FloatArray, run: Run) -> None:
        for rows, columns, tile in self._tiles(X, Y):
            out[rows, columns] = tile
            if Y is None and rows != columns:
                out[columns, rows] = tile.T

    def _product(
        self, X: Collection, Y: Collection | None, V: FloatArray, out: FloatArray, run: Run
    ) -> None:
        total = np.zeros(out.shape, np.float64)
        for rows, columns, tile in self._tiles(X, Y):
            total[rows] += tile @ V[columns]
            if Y is None and rows != columns:
                total[columns] += tile.T @ V[rows]
        out[...] = total

    def _tiles(self, X: Collection, Y: Collection | None) -> Iterator[tuple[slice, slice, Any]]:
        """Yield the tiles of the matrix, of a symmetric one those on and above the diagonal."""
        left = cast(Rows, X).data
        right = left if Y is None else cast(Rows, Y).data
        for rows in self._parts(len(left)):
            of_rows = self.factors(left[rows])
            for columns in self._parts(len(right), rows.start if Y is None else 0):
                same = Y is None and columns == rows
                of_columns = of_rows if same else self.factors(right[columns])
                shape = rows.stop - rows.start, columns.stop - columns.start
                yield rows, columns, tile_ntk(of_rows, of_columns, shape, left.dtype)

    def _parts(self, count: int, first: int = 0) -> Iterator[slice]:
        step = self.network.tile_rows
        for start in range(first, count, step):
            yield slice(start, min(start + step, count))
