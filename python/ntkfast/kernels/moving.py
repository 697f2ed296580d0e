"""Parameters of kernels that can move: their names, and derivatives by them.

A kernel is an analytic function of its parameters, and so are its constants and its curve. Where
none of them states its derivative, that is the one of the polynomial through values at some
neighbouring parameters: to 1e-16 where values are known in extended precision, and to some 1e-14 of
what those of float64 are made of. The nodes have 24 bits, so that their squares, the variances, are
exact.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass, replace
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ntkfast.arrays import checks
from ntkfast.arrays.collections import Collection, FloatArray, Weights
from ntkfast.arrays.panels import panels
from ntkfast.engines.maps import ProfileMap
from ntkfast.kernels.profile import compile_profile

DEVIATIONS = ("w_std", "b_std", "bias", "alpha", "u_std", "h_std", "v_std")
NODES = 12
# How far nodes lie from a parameter, relatively, over how often it multiplies: where values are
# known in extended precision they may lie closer.
REACH, CURVE_REACH = 0.1, 0.05
Doubles: TypeAlias = NDArray[np.longdouble]
SAMPLED = np.linspace(0, 1, 65, dtype=np.longdouble)  # sin^2 of half an angle
SAME = 2e-16  # what the derivatives of one function by two parameters differ by
Stencil: TypeAlias = tuple[tuple[float, ...], tuple[np.longdouble, ...]]
Gram: TypeAlias = Callable[[Any, Any, FloatArray], None]
Product: TypeAlias = Callable[[Any, Any, FloatArray, FloatArray], None]


# ---- names ---------------------------------------------------------------------------------------


def found_in(value: Any, prefix: str = "") -> Iterator[tuple[str, float]]:
    """Yield the names and values of the deviations of a network, and of its parts by position."""
    for field in fields(value) if is_dataclass(value) else ():
        part, name = getattr(value, field.name), field.name
        if isinstance(part, tuple):
            inside = "" if name == "elements" else f"{name}."
            for k, one in enumerate(part):
                if is_dataclass(one):
                    yield from found_in(one, f"{prefix}{inside}{k}.")
        elif part is None and isinstance(getattr(value, "activation", None), tuple):
            continue  # a default that differs from layer to layer
        elif name in DEVIATIONS and (part != 0 or _takes(value, name)):
            yield prefix + name, _default(value) if part is None else float(part)


def _takes(network: Any, name: str) -> bool:
    """Whether a deviation of 0 may be another number: that of another parameterization may not."""
    try:
        replace(network, **{name: 1.0})
    except ValueError:
        return False
    return True


def enters_by_square(name: str) -> bool:
    """Whether kernels are even functions of a parameter."""
    return name.rpartition(".")[2] in DEVIATIONS


def _default(network: Any) -> float:
    return math.sqrt(float(network.activation.gain()))


def moved(value: Any, name: str, number: float) -> Any:
    """Return a network with another value of a parameter."""
    first, _, rest = name.partition(".")
    if not rest:
        return replace(value, **{first: number})
    if first.isdigit():
        part, (position, _, rest) = "elements", name.partition(".")
    else:
        part, (position, _, rest) = first, rest.partition(".")
    parts = list(getattr(value, part))
    parts[int(position)] = moved(parts[int(position)], rest, number)
    found = copy.copy(value)
    checks.store(found, **{part: tuple(parts)})
    return found


# ---- derivatives ---------------------------------------------------------------------------------


@lru_cache(maxsize=256)
def stencil(p: float, reach: float) -> Stencil:
    """Return nodes within p (1 +- reach), and weights of values there that give the derivative.

    Of 0 the nodes lie within +- reach.
    """
    angle = (np.arange(NODES) + 0.5) * (math.pi / NODES)
    width = reach * (abs(p) or 1.0)
    nodes = tuple(_short(p + width * c) for c in np.cos(angle))
    z = (np.array(nodes, np.longdouble) - np.longdouble(p)) / np.longdouble(width)
    apart = z[:, None] - z
    np.fill_diagonal(apart, 1)
    at_p = np.prod(-z) / -z / np.prod(apart, axis=1)  # Lagrange polynomials, and their slopes
    return nodes, tuple(at_p * (1 / z - np.sum(1 / z)) / np.longdouble(width))


def curve_stencil(kernel: Any, name: str) -> Stencil:
    """Return a `stencil` for values of a kernel that are known in extended precision."""
    reach = CURVE_REACH / max(kernel.parameter_depth / 5, 1.0)
    return stencil(kernel.parameters()[name], reach)


def _short(value: float) -> float:
    mantissa, exponent = math.frexp(value)
    return math.ldexp(round(mantissa * 2.0**24) / 2.0**24, exponent)


def _curve_slope(kernel: Any, name: str, dim: int) -> Callable[[Doubles, Doubles], Any]:
    """Return the derivative of a zonal kernel by a parameter: at equal rows, and what it lacks."""
    nodes, weights = curve_stencil(kernel, name)
    curves = [kernel._moved(name, node).curve(dim, 1.0) for node in nodes]

    def parts(v: Doubles, vc: Doubles) -> tuple[Any, Doubles]:
        found = [curve.split(v, vc) for curve in curves]
        top, missing = (
            sum(w * part for w, part in zip(weights, side, strict=True))
            for side in zip(*found, strict=True)
        )
        return top, missing

    return parts


@lru_cache(maxsize=256)
def parameter_profile(
    kernel: Any, name: str, dtype: np.dtype[Any], dim: int, degree: float
) -> ProfileMap:
    """Compile the derivative of a zonal kernel by a parameter."""
    parts = _curve_slope(kernel, name, dim)
    top, missing = parts(SAMPLED, 1 - SAMPLED)
    size = float(max(abs(top), np.max(np.abs(top - missing)))) or 1.0

    def curve(v: Doubles, vc: Doubles) -> Doubles:
        wide = v.astype(np.longdouble), vc.astype(np.longdouble)
        return np.asarray(parts(*wide)[1] / size, v.dtype)

    with np.errstate(all="ignore"):  # what is not finite has no profile
        return compile_profile(curve, dtype, degree=degree, scale=size, top=float(top / size))


@lru_cache(maxsize=256)
def proportional(kernel: Any, names: tuple[str, ...], dim: int) -> dict[str, tuple[str, float]]:
    """Return for each parameter the first one with the same derivative up to a factor, and that.

    Parameters that enter as one product, as the deviations of homogeneous networks do, are such.
    """
    shapes: dict[str, tuple[Any, Any]] = {}
    found = {}
    for name in names:
        with np.errstate(all="ignore"):
            top, missing = _curve_slope(kernel, name, dim)(SAMPLED, 1 - SAMPLED)
        values = top - missing
        size = values[np.argmax(np.abs(values))]
        if size == 0 or not np.isfinite(values).all():
            found[name] = name, 1.0
            continue
        shape = values / size
        for first, (other, scale) in shapes.items():
            if np.max(np.abs(shape - other)) <= SAME:
                found[name] = first, float(size / scale)
                break
        else:
            shapes[name], found[name] = (shape, size), (name, 1.0)
    return found


# ---- sums over pairs -----------------------------------------------------------------------------


def contracted(
    gram: Gram, product: Product | None, X: Collection, Y: Collection | None, V: Weights
) -> float:
    """Return sum_ij V_ij K(X_i, Y_j) by panels, in float64; of factors V by products, if known."""
    if V.left is not None and V.right is not None and product is not None:
        out = np.empty_like(V.left)
        product(X, Y, V.right, out)
        return float(np.sum(V.left * out, dtype=np.float64))
    total, memory = 0.0, np.empty(0, X.dtype)
    for rows, columns in blocks(X, Y):
        part = X[rows]
        other = None if columns is None else (X if Y is None else Y)[columns]
        shape = len(part), len(part if other is None else other)
        if memory.size < shape[0] * shape[1]:  # the first is the largest, or the second
            memory = np.empty(shape[0] * shape[1], X.dtype)
        panel = memory[: shape[0] * shape[1]].reshape(shape)
        gram(part, other, panel)
        total += float(np.einsum("ij,ij->", weight(V, rows, columns, Y), panel, dtype=np.float64))
    return total


def blocks(X: Collection, Y: Collection | None) -> Iterator[tuple[slice, slice | None]]:
    """Yield rows and columns of blocks that hold each pair once; None: a symmetric block."""
    for rows in panels(len(X), len(X if Y is None else Y) * X.dtype.itemsize):
        if Y is not None:
            yield rows, slice(None)
            continue
        yield rows, None
        if rows.stop < len(X):
            yield rows, slice(rows.stop, None)


def add_block(
    out: FloatArray, part: FloatArray, rows: slice, columns: slice | None, Y: Collection | None
) -> None:
    """Add what was found for a block, and where that is one of two symmetric ones for both."""
    out[rows, rows if columns is None else columns] += part
    if Y is None and columns is not None:
        out[columns, rows] += part.T


def weight(V: Weights, rows: slice, columns: slice | None, Y: Collection | None) -> FloatArray:
    """Return V on a block; where only one of two symmetric ones is seen, the sum of both."""
    if columns is None:
        return _block(V, rows, rows)
    found = _block(V, rows, columns)
    return found if Y is not None else found + _block(V, columns, rows).T


def _block(V: Weights, rows: slice, columns: slice) -> FloatArray:
    if V.left is not None and V.right is not None:
        return V.left[rows] @ V.right[columns].T
    assert V.matrix is not None
    return V.matrix[rows, columns]


def beside(
    rows: slice, X: Collection, Y: Collection | None
) -> Iterator[tuple[slice, Collection | None]]:
    """Yield the columns of a panel of rows with their inputs; None for Y: X in both places.

    None among these stands for the rows themselves: an input with itself may have a value of its
    own.
    """
    if Y is not None:
        yield slice(None), Y
        return
    yield rows, None
    for columns in (slice(0, rows.start), slice(rows.stop, len(X))):
        if columns.start < columns.stop:
            yield columns, X[columns]


def gradient_weights(
    X: Collection, Y: Collection | None, V: Weights
) -> Iterator[tuple[slice, FloatArray]]:
    """Yield rows and their weights V; if Y is None, of both places of a pair, as for `vjp`."""
    right = X if Y is None else Y
    for rows in panels(len(X), len(right) * X.dtype.itemsize):
        found = _block(V, rows, slice(None))
        if Y is None and V.matrix is not None:  # factors are those of V + V^T then
            found = found + V.matrix[:, rows].T
        yield rows, found
