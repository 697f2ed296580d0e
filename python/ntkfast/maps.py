"""What an engine must know about a kernel: arrays of numbers, nothing about networks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

FloatArray: TypeAlias = NDArray[np.floating[Any]]

PIECES = 8  # pieces of a profile on either side of u = 0


@dataclass(frozen=True, eq=False)
class ProfileMap:
    """``scale |x|^degree |y|^degree k(u)`` with k in piecewise polynomials (`ntkfast.profile`).

    Attributes
    ----------
    table : (d + 1, 16) array
        Coefficients, highest power first: 8 pieces for u >= 0, then 8 for u < 0.
    sub_bits : int
        Mantissa bits that pick a piece within a factor of two.
    stretch, base : pairs of float
        Per side: pieces are uniform in log(1 + stretch s); k = base + s polynomial.
    refine_below : pair of float
        Pairs whose (1 - abs(u))/2 is below this are recomputed from differences.
    degree, scale : float
        Homogeneity in each input, and the value k is normalised by.
    error : float
        Largest error of k on the check points, with k(1) = 1, arithmetic in the map's dtype.
    """

    table: FloatArray
    sub_bits: int
    stretch: tuple[float, float]
    base: tuple[float, float]
    refine_below: tuple[float, float]
    degree: float
    scale: float
    error: float


@dataclass(frozen=True, eq=False)
class LayerMap:
    """A network as one row of constants per layer, for any norms (`ntkfast.layers`).

    Attributes
    ----------
    numbers : (layers, 12) array
        Activation kind, saved slot, added slot, three parameters, w, e, x, y, and the offset and
        number of Hermite coefficients.
    refine : bool
        Whether nearly parallel inputs are recomputed from differences.
    second : bool
        Whether the NNGP is wanted, not the NTK.
    scales : pair of float
        Factors of the NTK and the NNGP.
    """

    numbers: NDArray[np.float64]
    refine: bool
    second: bool
    scales: tuple[float, float]


@dataclass(frozen=True)
class RadialMap:
    """``|x|^degree |y|^degree exp(-c r^gamma)``, r the distance of inputs or of directions."""

    c: float
    gamma: float
    euclidean: bool
    degree: float


Map: TypeAlias = ProfileMap | LayerMap | RadialMap


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
        Hermite coefficients, for a `LayerMap` that asks for them.
    diagonal : (n, 2) array or None
        NTK and NNGP at equal inputs, for a `LayerMap`: written there without rounding.
    """

    data: FloatArray
    norms: FloatArray
    series: FloatArray | None = None
    diagonal: FloatArray | None = None

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

    def __getitem__(self, part: slice) -> Rows:
        series = None if self.series is None else self.series[part]
        diagonal = None if self.diagonal is None else self.diagonal[part]
        return Rows(self.data[part], self.norms[part], series, diagonal)


@dataclass(frozen=True, eq=False)
class SequenceMap:
    """A recurrent network, as pairs of sequences need it (`ntkfast.recurrence`).

    Attributes
    ----------
    activation : (12,) array
        As a row of `LayerMap.numbers`.
    layers, fixed, channels : int
        Layers, how many of them are not trained, and numbers per step of the input.
    every, nngp : bool
        Whether the read-out takes all steps, and whether it is the NNGP that is wanted.
    """

    activation: NDArray[np.float64]
    layers: int
    fixed: int
    channels: int
    every: bool
    nngp: bool


@dataclass(frozen=True, eq=False)
class SequenceSide:
    """Validated sequences of a Gram matrix, sorted by length, steps numbered from the end.

    Attributes
    ----------
    numbers : one or two (steps, fields) arrays
        One per direction; the fields are described in csrc/maps.hpp.
    layout : (3, n) array of int64
        First step, length, and place in the result of each sequence.
    diagonal : (n,) array
        Kernel of each sequence with itself.
    memory : array
        The sequences themselves.
    channels : int
    """

    numbers: tuple[FloatArray, ...]
    layout: NDArray[np.int64]
    diagonal: FloatArray
    memory: FloatArray
    channels: int

    def __len__(self) -> int:
        return len(self.diagonal)

    @property
    def dtype(self) -> np.dtype[Any]:
        """float32 or float64."""
        return self.diagonal.dtype

    def __getitem__(self, part: slice) -> SequenceSide:
        first, stop, _ = part.indices(len(self))
        chosen = (self.layout[2] >= first) & (self.layout[2] < stop)
        layout = np.ascontiguousarray(self.layout[:, chosen])
        layout[2] -= first
        return replace(self, layout=layout, diagonal=self.diagonal[chosen])
