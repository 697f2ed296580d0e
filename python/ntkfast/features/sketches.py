"""Linear and bilinear sketches of arrays: random maps that keep inner products on average.

Each class is drawn once for given sizes and then called with rows. ``m`` is the number of outputs.
All are real and unbiased for any inputs; their relative error falls like 1/sqrt(m).
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np
from numpy.random import Generator
from numpy.typing import DTypeLike, NDArray
from scipy import fft, sparse

from ntkfast import engines, places
from ntkfast.arrays.collections import FloatArray
from ntkfast.engines.maps import Rotation
from ntkfast.places import blocks


def power_of_two(least: int) -> int:
    """Return the smallest power of two that is at least `least`."""
    return 1 << max(least - 1, 0).bit_length()


def signs(generator: Generator, *shape: int) -> NDArray[np.float64]:
    """Return random signs."""
    return np.where(generator.random(shape) < 0.5, -1.0, 1.0)


def balanced(generator: Generator, size: int, m: int) -> NDArray[np.intp]:
    """Return m indices below `size`, each uniform, all used equally often up to one.

    Unbiasedness needs only that every single index is uniform; using them evenly instead of
    independently takes out the noise of their counts.
    """
    return np.concatenate([generator.permutation(size) for _ in range(m // size + 1)])[:m]


class HadamardSketch:
    """sqrt(1/m) (H D x)[i]: the subsampled randomised Hadamard transform.

    Random signs, zeros up to a power of two, Walsh-Hadamard transform (entries +-1), m coordinates.
    """

    def __init__(self, dim: int, m: int, generator: Generator) -> None:
        self.m, self.size = m, power_of_two(dim)
        self.signs = signs(generator, self.size)
        self.index = balanced(generator, self.size, m)

    def rotation(self, dtype: DTypeLike) -> Rotation:
        """Return the transform as an engine takes it."""
        integers = np.int32 if dtype == np.float32 else np.int64
        return Rotation(self.signs.astype(dtype), self.index.astype(integers))

    def __call__(self, X: FloatArray, out: FloatArray | None = None) -> FloatArray:
        """Return (n, m) for (n, dim)."""
        if out is None:
            out = blocks.empty(X, self.m)
        threads = engines.count(None)
        scale = self.m**-0.5
        places.of(X).engine(None).sketch(X, None, out, self.rotation(X.dtype), None, scale, threads)
        return out


class Count:
    """Each coordinate is added with a random sign to one random output."""

    def __init__(self, dim: int, m: int, generator: Generator) -> None:
        place = generator.integers(m, size=dim)
        entries = signs(generator, dim), (np.arange(dim), place)
        self.matrix = sparse.csr_array(entries, shape=(dim, m))

    def __call__(self, X: Any) -> Any:
        """Return (n, m) for (n, dim), sparse for sparse rows."""
        return X @ self.matrix.astype(X.dtype)


class Product:
    """Sketches of tensor products, made of sketches of both factors."""

    _factor: ClassVar[Any]

    def __init__(self, left: int, right: int, m: int, generator: Generator) -> None:
        self.left = self._factor(left, m, generator)
        self.right = self._factor(right, m, generator)
        self.m = m

    def __call__(
        self,
        X: FloatArray,
        Y: FloatArray,
        scale: float = 1.0,
        out: FloatArray | None = None,
        step: bool = False,
    ) -> FloatArray:
        """Return (n, m) for (n, left) and (n, right), scaled; one row stands for n equal ones.

        With `step` of 1{Y > 0} in place of Y.
        """
        # a row that stands for all may lie on the host
        like = X if places.of(Y) is places.HOST else Y
        if out is None:
            out = blocks.empty(like, self.m, max(len(X), len(Y)))
        self._put(X, Y, scale, out, step)
        return out

    @abstractmethod
    def _put(self, X: FloatArray, Y: FloatArray, scale: float, out: FloatArray, step: bool) -> None:
        """Write the products to `out`."""


class HadamardProduct(Product):
    """sqrt(1/m) (H D1 x)[i1] (H D2 y)[i2].

    Real and unbiased: for a uniform index i the mean of (H D x)_i (H D x')_i is x.x' exactly,
    since H^T H = size times the identity; i1 and i2 are independent of each other.
    """

    _factor = HadamardSketch

    def __init__(self, left: int, right: int, m: int, generator: Generator) -> None:
        super().__init__(left, right, m, generator)
        # The order of the outputs is free: going through memory in order is faster.
        order = np.argsort(self.left.index, kind="stable")
        self.left.index, self.right.index = self.left.index[order], self.right.index[order]

    def _put(self, X: FloatArray, Y: FloatArray, scale: float, out: FloatArray, step: bool) -> None:
        rotations = self.left.rotation(X.dtype), self.right.rotation(X.dtype)
        factor, threads = scale * self.m**-0.5, engines.count(None)
        places.of(out).engine(None).sketch(X, Y, out, *rotations, factor, threads, step)


class CountProduct(Product):
    """The circular convolution of two count sketches, which is a count sketch of the product."""

    _factor = Count

    def _put(self, X: FloatArray, Y: FloatArray, scale: float, out: FloatArray, step: bool) -> None:
        Y = (Y > 0).astype(Y.dtype) if step else Y
        waves = fft.rfft(self.left(X)) * fft.rfft(self.right(Y))
        np.multiply(fft.irfft(waves, self.m), out.dtype.type(scale), out=out)


PRODUCTS: dict[str, type[Product]] = {
    "srht": HadamardProduct,
    "countsketch": CountProduct,
}
