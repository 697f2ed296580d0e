"""Collections of validated inputs, as kernels and engines take them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

FloatArray: TypeAlias = NDArray[np.floating[Any]]
Values: TypeAlias = NDArray[np.float64]


class Collection(Protocol):
    """Inputs that a kernel has validated, in the form that it computes with."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: Any, /) -> Any:
        """Pick inputs by a slice or an array of integers."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """float32 or float64."""

    @property
    def memory(self) -> NDArray[Any]:
        """The array that holds the inputs: results must not overlap it."""


@dataclass(frozen=True, eq=False)
class Rows:
    """Validated inputs of a Gram matrix, row by row.

    Attributes
    ----------
    data, norms : (n, d) and (n,) arrays
    series : (n, k) array or None
        Hermite coefficients, for a `LayerMap` that asks for them; places, for a `NeuronMap`.
    diagonal : (n, 2) array or None
        NTK and NNGP at equal inputs, for a `LayerMap`: written there without rounding.
    """

    data: FloatArray
    norms: FloatArray
    series: FloatArray | None = None
    diagonal: FloatArray | None = None

    @classmethod
    def with_ends(cls, data: FloatArray, norms: FloatArray, least: float, top: float) -> Rows:
        """Return rows whose least and largest norms are known."""
        rows = cls.__new__(cls)  # small calls would spend their time in a frozen __init__
        known = rows.__dict__
        known["data"], known["norms"], known["series"], known["diagonal"] = data, norms, None, None
        known["least"], known["top"] = least, top
        if least > 0:
            known["least_positive"] = least
        return rows

    def __len__(self) -> int:
        return len(self.data)

    @property
    def dtype(self) -> np.dtype[Any]:
        """float32 or float64."""
        return self.data.dtype

    @property
    def memory(self) -> NDArray[Any]:
        """The data."""
        return self.data

    @cached_property
    def least(self) -> float:
        """The least norm."""
        return float(self.norms.min())

    @cached_property
    def least_positive(self) -> float:
        """The least norm above 0; infinity if there is none."""
        return self.least or float(self.norms[self.norms > 0].min(initial=math.inf))

    @cached_property
    def top(self) -> float:
        """The largest norm."""
        return float(self.norms.max())

    @cached_property
    def mean(self) -> float:
        """The mean of the norms, summed in float64."""
        return float(self.norms.mean(dtype=np.float64))

    def __getitem__(self, part: slice) -> Rows:
        series = None if self.series is None else self.series[part]
        diagonal = None if self.diagonal is None else self.diagonal[part]
        return Rows(self.data[part], self.norms[part], series, diagonal)


@dataclass(frozen=True, eq=False)
class Weights:
    """V of a sum over pairs: a matrix, or left right^T.

    Attributes
    ----------
    matrix : (n, m) array or None
    left, right : (n, r) and (m, r) arrays, or None
    """

    matrix: FloatArray | None = None
    left: FloatArray | None = None
    right: FloatArray | None = None


Shape: TypeAlias = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class Images:
    """Validated images, one per row.

    Attributes
    ----------
    data : (n, height width channels) array
    shape : (height, width, channels)
    norms : (n,) array
        Euclidean norms.
    """

    data: FloatArray
    shape: Shape
    norms: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, part: Any) -> Images:
        return Images(self.data[part], self.shape, self.norms[part])

    @property
    def dtype(self) -> np.dtype[Any]:
        """float32 or float64."""
        return self.data.dtype

    @property
    def memory(self) -> NDArray[Any]:
        """The data."""
        return self.data

    def astype(self, dtype: DTypeLike, copy: bool = True) -> Images:
        """Return the images in another precision."""
        return Images(self.data.astype(dtype, copy=copy), self.shape, self.norms)


@dataclass(frozen=True, eq=False)
class Joint:
    """The same inputs as each part of a kernel has validated them.

    Attributes
    ----------
    parts : tuple of collections
        Of one length and dtype.
    """

    parts: tuple[Any, ...]

    def __len__(self) -> int:
        return len(self.parts[0])

    @property
    def dtype(self) -> np.dtype[Any]:
        """float32 or float64."""
        dtype: np.dtype[Any] = self.parts[0].dtype
        return dtype

    @property
    def memory(self) -> NDArray[Any]:
        """That of the first part; see `memories`."""
        memory: NDArray[Any] = self.parts[0].memory
        return memory

    def __getitem__(self, part: Any) -> Joint:
        return Joint(tuple(one[part] for one in self.parts))


@dataclass(frozen=True, eq=False)
class Changed:
    """What a kernel has validated of a matrix whose columns were chosen or scaled.

    Attributes
    ----------
    inner : collection
    width : int
        Columns of the matrix.
    """

    inner: Any
    width: int

    def __len__(self) -> int:
        return len(self.inner)

    @property
    def dtype(self) -> np.dtype[Any]:
        """float32 or float64."""
        dtype: np.dtype[Any] = self.inner.dtype
        return dtype

    @property
    def memory(self) -> NDArray[Any]:
        """That of what was made of the matrix."""
        memory: NDArray[Any] = self.inner.memory
        return memory

    def __getitem__(self, part: Any) -> Changed:
        return Changed(self.inner[part], self.width)


def memories(collection: Collection) -> list[NDArray[Any]]:
    """Return all arrays that hold the inputs."""
    if isinstance(collection, Joint):
        return [memory for part in collection.parts for memory in memories(part)]
    return memories(collection.inner) if isinstance(collection, Changed) else [collection.memory]
