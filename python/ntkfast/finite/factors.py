"""One layer of a finite network on many inputs, and what it contributes to the empirical NTK."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ntkfast.arrays.collections import FloatArray


class LayerGradients(Protocol):
    """Gradients by the parameters of one layer at many inputs; both sides of a pair are alike."""

    def ntk(self, other: Any) -> NDArray[Any]:
        """Return the mean over the outputs, (n, m)."""

    def output_ntk(self, other: Any) -> NDArray[Any]:
        """Return all pairs of outputs, (n, m, outputs, outputs)."""

    def diagonal(self) -> NDArray[Any]:
        """Return the mean over the outputs at equal inputs, (n,)."""

    def gradients(self) -> NDArray[Any]:
        """Return the Jacobian of this layer, (n, outputs, parameters)."""


Layered: TypeAlias = Sequence[LayerGradients]


class Factors(NamedTuple):
    """Gradients by the weights of a layer, ``scale F B^T`` per input, and by its biases.

    The NTK is the Hadamard product ``(scale^2 F F^T + offset^2) o (B B^T)``: a gradient is an outer
    product, and inner products of outer products are products of inner products. (Karhadkar,
    Murray and Montufar, arXiv:2405.14630, state it as a lemma.)

    Attributes
    ----------
    F : (n, fan_in) array
    B : (n, outputs, fan_out) array
    scale, offset : float
        Factors of the weights and the biases.
    """

    F: FloatArray
    B: FloatArray
    scale: float
    offset: float

    def ntk(self, other: Factors) -> NDArray[Any]:
        """Return the mean over the outputs, (n, m)."""
        total = self._inputs(other)
        total *= self._outputs(other)
        return total

    def output_ntk(self, other: Factors) -> NDArray[Any]:
        """Return all pairs of outputs, (n, m, outputs, outputs)."""
        pairs = np.einsum("iak,jbk->ijab", self.B, other.B, optimize=True)
        return np.asarray(self._inputs(other)[:, :, None, None] * pairs)

    def diagonal(self) -> NDArray[Any]:
        """Return the mean over the outputs at equal inputs, (n,)."""
        below = self.scale**2 * np.einsum("nk,nk->n", self.F, self.F) + self.offset**2
        above = np.einsum("nak,nak->n", self.B, self.B) / self.B.shape[1]
        return np.asarray(below * above)

    def gradients(self) -> NDArray[Any]:
        """Return the Jacobian of this layer, (n, outputs, parameters)."""
        outer = self.scale * self.F[:, None, :, None] * self.B[:, :, None, :]
        weights = outer.reshape(*self.B.shape[:2], -1)
        if not self.offset:
            return np.asarray(weights)
        return np.concatenate([weights, self.offset * self.B], axis=2)

    def _inputs(self, other: Factors) -> NDArray[Any]:
        # The same array twice: NumPy then calls syrk, half the work and symmetric to the bit.
        left = self._scaled()
        right = left if other is self else other._scaled()
        return np.asarray(left @ right.T)

    def _scaled(self) -> NDArray[Any]:
        """Return rows with the inner products ``scale^2 F F^T + offset^2``.

        Scaling rows costs far less than passes over a tile, which is memory and no arithmetic.
        """
        rows = float(self.scale) * self.F  # a NumPy scalar would make float32 rows float64
        if not self.offset:
            return rows
        return np.concatenate([rows, np.full((len(rows), 1), self.offset, rows.dtype)], axis=1)

    def _outputs(self, other: Factors) -> Any:
        n, outputs, width = self.B.shape
        if outputs == width and not self.B.strides[0]:  # the last layer: B is the identity
            return 1.0
        left = self.B.reshape(n, -1)
        right = left if other is self else other.B.reshape(len(other.B), -1)
        product = left @ right.T
        if outputs > 1:
            product /= outputs
        return product


class PixelFactors(NamedTuple):
    """Gradients by the weights of a convolution, summed over pixels.

    Attributes
    ----------
    J : (n, outputs, parameters) array
    """

    J: NDArray[Any]

    @classmethod
    def of(cls, F: NDArray[Any], B: NDArray[Any], scale: float, offset: float) -> PixelFactors:
        """Sum over pixels.

        Parameters
        ----------
        F : (n, height, width, fan_in) array
            Patches.
        B : (n, outputs, height, width, fan_out) array
            Derivatives of the outputs by what the layer gives.
        """
        (n, outputs), fan_out = B.shape[:2], B.shape[-1]
        patches = F.reshape(n, 1, -1, F.shape[-1])
        back = B.reshape(n, outputs, -1, fan_out)
        J = np.swapaxes(patches, 2, 3) @ back
        J *= scale
        parts = [J.reshape(n, outputs, -1)]
        if offset:
            parts.append((offset * back.sum(axis=2)).astype(J.dtype))
        return cls(np.concatenate(parts, axis=2))

    def ntk(self, other: PixelFactors) -> NDArray[Any]:
        """Return the mean over the outputs, (n, m)."""
        left = self.J.reshape(len(self.J), -1)
        right = left if other is self else other.J.reshape(len(other.J), -1)
        product = left @ right.T
        product /= self.J.shape[1]
        return np.asarray(product)

    def output_ntk(self, other: PixelFactors) -> NDArray[Any]:
        """Return all pairs of outputs, (n, m, outputs, outputs)."""
        return np.asarray(np.einsum("iak,jbk->ijab", self.J, other.J, optimize=True))

    def diagonal(self) -> NDArray[Any]:
        """Return the mean over the outputs at equal inputs, (n,)."""
        return np.asarray(np.einsum("nak,nak->n", self.J, self.J) / self.J.shape[1])

    def gradients(self) -> NDArray[Any]:
        """Return the Jacobian of this layer, (n, outputs, parameters)."""
        return self.J


def gradients_of(
    F: NDArray[Any], B: NDArray[Any], scale: float, offset: float
) -> Factors | PixelFactors:
    """Return gradients by one layer; one pixel makes them outer products."""
    if F.shape[1] * F.shape[2] == 1:
        n, outputs = B.shape[:2]
        return Factors(F.reshape(n, -1), B.reshape(n, outputs, -1), scale, offset)
    return PixelFactors.of(F, B, scale, offset)


def tile_ntk(left: Layered, right: Layered, shape: tuple[int, int], dtype: Any) -> FloatArray:
    """Return what layers contribute to a tile of the NTK together."""
    parts = (a.ntk(b) for a, b in zip(left, right, strict=True))
    found = next(parts, np.zeros(shape, dtype))
    for part in parts:
        found += part
    if left is right:  # the same bits as `diag`
        np.fill_diagonal(found, diagonal_ntk(left, shape[0], dtype))
    return found


def diagonal_ntk(layers: Layered, count: int, dtype: Any) -> FloatArray:
    """Return what layers contribute to the NTK at equal inputs together."""
    values = np.zeros(count, dtype)
    for layer in layers:
        values += layer.diagonal()
    return values
