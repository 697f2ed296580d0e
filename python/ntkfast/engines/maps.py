"""What an engine must know about a kernel: arrays of numbers, nothing about networks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ntkfast.arrays.collections import FloatArray
from ntkfast.arrays.ragged import Sequences


@dataclass(frozen=True, eq=False)
class ProfileMap:
    """``scale |x|^degree |y|^degree k(u)``, k a piecewise polynomial (`ntkfast.kernels.profile`).

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
    middle : (c + 1, w) array or None
        The same k up to abs(u) = middle_ends[1], for engines that save a square root by it: with
        t = MIDDLE_DENSITY w u and j the integer nearest to t, column j modulo w has the
        coefficients in t - j, highest power first; a row has MIDDLE_BYTES.
    middle_ends : pair of float
        Up to the first one its powers above `inner_degree` are zeros; where it ends.
    inner_degree : int
        See `middle_ends`.
    """

    table: FloatArray
    sub_bits: int
    stretch: tuple[float, float]
    base: tuple[float, float]
    refine_below: tuple[float, float]
    degree: float
    scale: float
    error: float
    middle: FloatArray | None = None
    middle_ends: tuple[float, float] = (0.0, 0.0)
    inner_degree: int = 0


@dataclass(frozen=True)
class Sector:
    """Pairs at angles from `start` pi to `stop` pi, see `SectorMap`.

    ``K(x, y) = sum_j T_j(z) sum_k s_jk f_jk(x) f_jk(y)`` with the Chebyshev polynomials T_j.

    Attributes
    ----------
    start, stop : float
    z : four floats
        z as a polynomial of the angle over pi, highest power first.
    terms : tuple of int
        How many k there are, for pairs of powers (T_2p+1 and T_2p), the highest first.
    """

    start: float
    stop: float
    z: tuple[float, ...]
    terms: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class SectorMap:
    """A kernel of layers where rows are far apart (`ntkfast.kernels.sectors`).

    Attributes
    ----------
    sectors : tuple of Sector
        Those of narrower angles first; each begins where the one before it ends.
    table : (pieces, degree + 1, numbers) array
        Chebyshev coefficients of the functions of a row on pieces of its log variance. The first
        is the root of K(x, x), which the others are multiplied by: those of the sectors, power by
        power as in `Sector.terms`, T_2p+1 and T_2p in turn.
    sign : (numbers,) array
        1 or -1, a factor of the product of both rows.
    first : (float, float)
        Weight and bias variance of the first layer. Angles are those after it.
    range : (float, float)
        Of log2 of the variance after it. Pairs of other rows are left to the layers.
    second : bool
        Whether it is the NNGP, not the NTK.
    error : float
        Largest error found, over sqrt(K(x, x) K(y, y)).
    """

    sectors: tuple[Sector, ...]
    table: FloatArray
    sign: FloatArray
    first: tuple[float, float]
    range: tuple[float, float]
    second: bool
    error: float


@dataclass(frozen=True, eq=False)
class LayerMap:
    """A network as one row of constants per layer, for any norms (`ntkfast.kernels.layers`).

    Attributes
    ----------
    numbers : (layers,) array of `ntkfast.engines.codes.LAYER_ROW`
    second : bool
        Whether the NNGP is wanted, not the NTK.
    scales : pair of float
        Factors of the NTK and the NNGP.
    exponent : int
        Of another factor of both, a power of two that may be no floating-point number.
    sectors : SectorMap or None
        The one that is wanted where rows are far apart. Only the native engine takes it.
    """

    numbers: NDArray[np.void]
    second: bool
    scales: tuple[float, float]
    exponent: int = 0
    sectors: SectorMap | None = None


@dataclass(frozen=True)
class RadialMap:
    """``|x|^degree |y|^degree exp(-c r^gamma)``, r the distance of inputs or of directions."""

    c: float
    gamma: float
    euclidean: bool
    degree: float


@dataclass(frozen=True, eq=False)
class NeuronMap:
    """``scale |x|^degree f(w.x)``, the features of random directions w, the rows of Y.

    Attributes
    ----------
    kind : {"relu", "step", "table"}
        "table" takes the cosine, w being of unit length; a step is 1/2 at 0.
    table : (rows, knots) array
        Values at equidistant cosines from -1 to 1. With more than one row a data row has a place
        among them, its `Rows.series`: between row floor(place) and the next one. Of the dtype of
        the data for all kinds.
    scale, degree : float
    """

    kind: str
    table: FloatArray
    scale: float = 1.0
    degree: float = 0.0


Map: TypeAlias = ProfileMap | LayerMap | RadialMap | NeuronMap


@dataclass(frozen=True, eq=False)
class Rotation:
    """Coordinates of H D x, a factor of a sketch: signs, zeros, Hadamard transform, selection.

    Attributes
    ----------
    signs : (size,) array
        As many as x has numbers once it is filled up with zeros, a power of two.
    index : (m,) array
        int32 beside float32, int64 beside float64.
    """

    signs: FloatArray
    index: NDArray[np.signedinteger[Any]]


@dataclass(frozen=True, eq=False)
class StructuredMap:
    """Neurons f(length (H D3 H D2 H D1 x)_j) with orthogonal H, block by block.

    Attributes
    ----------
    flips : (blocks, 3, size) array
        Signs; `size` is a power of two, x is filled up with zeros.
    lengths : (blocks, size) array
    answer : {"product", "relu", "step"}
        The function f; a step is 1/2 at 0.
    scale : float
        Factor of all outputs.
    """

    flips: FloatArray
    lengths: FloatArray
    answer: str
    scale: float


@dataclass(frozen=True, eq=False)
class ImagePlan:
    """A convolutional network on images of one shape (`ntkfast.networks.convolutional`).

    Attributes
    ----------
    steps : (s,) array of `ntkfast.engines.codes.IMAGE_STEP`
    levels : (s + 1,) array of `ntkfast.engines.codes.IMAGE_LEVEL`
        Before each step and after the last.
    channels : int
    circular : bool
    weight_h, weight_w : (h, h) and (w, w) arrays
        The read-out sums over pairs of pixels with the products of both.
    trained, bias : float
        NTK = sum of T + trained (sum of S + bias), NNGP = sum of S + bias.
    input_scale : float
        Factor of inner products of pixels.
    homogeneous : bool
        Whether K(a x, y) = a K(x, y): no biases.
    """

    steps: NDArray[np.void]
    levels: NDArray[np.void]
    channels: int
    circular: bool
    weight_h: NDArray[np.float64]
    weight_w: NDArray[np.float64]
    trained: float
    bias: float
    input_scale: float
    homogeneous: bool


@dataclass(frozen=True, eq=False)
class ScaledImages:
    """Images as an engine takes them.

    Attributes
    ----------
    data : (n, height width channels) array
    scale, factor : (n,) arrays
        What images are multiplied by when they are read, and results by.
    """

    data: FloatArray
    scale: FloatArray
    factor: FloatArray

    def __len__(self) -> int:
        return len(self.data)


@dataclass(frozen=True, eq=False)
class SequenceMap:
    """A recurrent network, as pairs of sequences need it (`ntkfast.kernels.recurrence`).

    Attributes
    ----------
    activation : (1,) array of `ntkfast.engines.codes.LAYER_ROW`
    layers, fixed, channels : int
        Layers, how many of them are not trained, and numbers per step of the input.
    weights : (float, float)
        Of the squared read-out at all steps but the last one, and there.
    mean, nngp : bool
        Whether the weights are divided by the length, and whether it is the NNGP that is wanted.
    """

    activation: NDArray[np.void]
    layers: int
    fixed: int
    channels: int
    weights: tuple[float, float]
    mean: bool
    nngp: bool

    @property
    def every(self) -> bool:
        """Whether the read-out takes all steps."""
        return self.weights[0] > 0


@dataclass(frozen=True, eq=False)
class SequenceSide:
    """Validated sequences of a Gram matrix, sorted by length, steps numbered from the end.

    Attributes
    ----------
    numbers : one or two (steps, fields) arrays
        One per direction; the fields are described in csrc/formulas/problems.hpp.
    layout : (3, n) array of int64
        First step, length, and place in the result of each sequence.
    diagonal : (n,) array
        Kernel of each sequence with itself.
    memory : array
        The sequences themselves.
    channels : int
    source : Sequences
        What was validated, on the host.
    """

    numbers: tuple[FloatArray, ...]
    layout: NDArray[np.int64]
    diagonal: FloatArray
    memory: FloatArray
    channels: int
    source: Sequences

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
        source = self.source[first:stop]
        return replace(self, layout=layout, diagonal=self.diagonal[chosen], source=source)
