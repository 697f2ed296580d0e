"""What the tile loop is asked to do, and its sizes: plain data; mirrors maps.hpp."""

from __future__ import annotations

from typing import Any, NamedTuple

from numpy.typing import NDArray

from ntkfast.engines.codes import SLOTS

WIDTH = 256  # columns of a tile
ROWS = 96  # rows of a tile
CHUNK = 16 * ROWS  # rows of a task: amortises packing the columns; a multiple of WIDTH
UNIT = 8 * ROWS  # rows of a block of a symmetric product are a multiple of this, and of WIDTH
PANEL = 64  # columns that are packed together
STATE = 3 * WIDTH  # w, co and t of a row of pairs
KEPT = (1 + SLOTS) * STATE  # three more lines after state and slots: w, co and t before a layer
EQUAL = KEPT + 3 * WIDTH  # and one that tells equal inputs

Array = NDArray[Any]


class Matrix(NamedTuple):
    """Rows of unit stride: entry (i, j) is values[first + i stride + j]."""

    values: Array  # flat
    first: int
    stride: int


class Side(NamedTuple):
    """The rows on one side: where row i starts, and what depends on them alone."""

    data: Array  # flat
    first: int  # row i is data[first + i stride :]
    stride: int
    height: int
    norms: Array
    inverse: Array  # of the norms; 0 for a norm of 0
    factors: Array  # the result is scaled by both sides'
    series: Array  # (height, terms) Hermite coefficients or places of neurons, or (1, 1)
    diagonal: Array  # (height, 2) NTK and NNGP at equal inputs, or (0, 2)


class Target(NamedTuple):
    """Where results go: entry (i, j) is values[first + i stride + j]."""

    wanted: bool
    values: Array  # flat
    first: int
    stride: int


class Problem(NamedTuple):
    """What `run` is asked for: a Gram matrix, or its product with `right`."""

    x: Side
    y: Side
    dimension: int
    symmetric: bool
    scaled: bool  # columns to unit length: products cannot overflow then
    refine_front: Any  # pairs with (1-u)/2 below this are recomputed from differences
    refine_back: Any  # and with (1+u)/2 below this
    out: Target
    out_second: Target
    right: Array  # (m, columns), empty if there is no product
    left: Array  # (n, columns), of the product of the transpose; empty if there is none
    use_second: bool  # multiply the NNGP of layers, not the NTK
    product: Target
    chunk: int  # rows of a task; rows and columns if there are both products
    cancelled: Array


class Scratch(NamedTuple):
    """Buffers of one thread."""

    packed: Array  # panels [dimension][PANEL] of columns
    products: Array  # [ROWS][WIDTH]
    values: Array  # [ROWS][WIDTH] of a product's tile
    factors: Array  # [3][WIDTH]: factors, norms and inverse norms of the columns
    lines: Array  # work space of one row: state and slots
    columns: Array  # [stats][WIDTH]
    rows: Array  # [stats][ROWS]
    packed_right: Array  # panels [WIDTH][PANEL]
    sums: Array  # [chunk][columns], float64
    turned_right: Array  # [columns][ROWS]
    turned_sums: Array  # [columns][chunk], float64, of the columns if there are both products


class Row(NamedTuple):
    """A row of a tile: i = i0 + r, and the columns j0 + first to j0 + width of it."""

    i: int
    r: int
    j0: int
    first: int
    width: int


class Table(NamedTuple):
    """A profile: its own table if a permutation looks it up, else a fine one.

    The fine table is [side][piece][coefficient]. Both have the highest power first.
    """

    values: Array
    degree: int  # of the profile's own table
    shift: int  # mantissa bits below those that pick a piece
    pieces: int  # on either side
    numbers: Array  # stretch, stretch, base, base, scale


class ProfilePlan(NamedTuple):
    """One or two profiles; the second is not used if its matrix is not wanted."""

    first: Table
    second: Table


class RadialPlan(NamedTuple):
    """exp(-c r^gamma)."""

    numbers: Array  # c, gamma
    power: int  # gamma if that is 1 or 2, else 0
    euclidean: bool


class NeuronPlan(NamedTuple):
    """The features of random directions."""

    kind: int
    table: Array  # flat: rows of knots
    knots: int
    placed: bool  # whether data rows lie between two rows of the table, as their series tells
    scale: Any


class LayersPlan(NamedTuple):
    """The layers, one row of constants each."""

    layers: Array  # of `ntkfast.engines.codes.LAYER_ROW`
    stats: int  # numbers per data row
    scales: Array  # of NTK and NNGP, beside 2^exponent
    exponent: int
