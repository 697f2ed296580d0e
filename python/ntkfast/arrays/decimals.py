"""Arrays of decimal numbers of fifty digits, for formulas that are written for NumPy.

They serve where a few numbers are differences of which float64 leaves too little. NumPy's loops
over objects do the arithmetic of `decimal`, at some 0.1 us an operation; what it has no function
for is here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Context, Decimal, localcontext
from functools import cache, lru_cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Objects: TypeAlias = NDArray[np.object_]
DIGITS = 50
CONTEXT = Context(prec=DIGITS, traps=[])  # what is no number becomes NaN, as in NumPy
PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494459")
PARTS = 1024  # of a unit of angle, whose sines are kept


class Decimals(np.ndarray[Any, Any]):
    """An array that NumPy's functions take for one of numbers; plain ones may stand beside it.

    It knows what walks of pairs and dual kernels ask for, and raises TypeError at anything else.
    """

    def __setitem__(self, key: Any, value: Any) -> None:
        super().__setitem__(key, _objects(value))

    def __array_ufunc__(
        self, ufunc: np.ufunc, method: str, *inputs: Any, out: Any = None, **options: Any
    ) -> Any:
        parts = [_objects(one) for one in inputs]
        with localcontext(CONTEXT):
            if method == "reduce" and ufunc is np.add:
                found = np.add.reduce(parts[0], options["axis"], keepdims=options["keepdims"])
            elif method == "__call__" and ufunc in FUNCTIONS and "where" not in options:
                found = FUNCTIONS[ufunc](*parts)
            else:
                return NotImplemented
        if ufunc in COMPARISONS:
            return found
        if out is None:
            return np.asarray(found, object).view(Decimals)
        out[0][...] = found
        return out[0]

    def __array_function__(self, func: Any, types: Any, args: Any, options: Any) -> Any:
        if func is np.where:
            return np.where(args[0], *map(_objects, args[1:])).view(Decimals)
        if func is np.zeros_like:
            return _filled(0, *args, **options)
        if func is np.ones_like:
            return _filled(1, *args, **options)
        if func is np.broadcast_arrays:
            return [np.broadcast_to(one, np.broadcast(*args).shape, subok=True) for one in args]
        if func is np.roll:
            return np.roll(args[0].view(np.ndarray), *args[1:], **options).view(Decimals)
        if func in KEEPING:
            found = super().__array_function__(func, types, args, options)
            return found.view(Decimals) if isinstance(found, np.ndarray) else found
        return NotImplemented


KEEPING = {np.broadcast_to, np.concatenate, np.ndim, np.shape}


def decimals(a: Any) -> Decimals:
    """Return the same numbers, rounded to fifty digits."""
    return np.array(_objects(a)).view(Decimals)


def is_decimal(a: Any) -> bool:
    """Whether it is an array of such numbers."""
    return isinstance(a, Decimals)


def rounded(a: Any) -> NDArray[np.float64]:
    """Return numbers in float64."""
    return np.asarray(a.view(np.ndarray) if is_decimal(a) else a, np.float64)


def epsilon(dtype: np.dtype[Any]) -> float:
    """Return the relative rounding of numbers of a type."""
    return 10.0 ** (1 - DIGITS) if dtype.kind == "O" else float(np.finfo(dtype).eps)


def number(value: float, dtype: np.dtype[Any]) -> Any:
    """Return a number of a type."""
    return decimals(value) if dtype.kind == "O" else dtype.type(value)


def pi(dtype: np.dtype[Any]) -> Any:
    """Return pi in the precision of a type."""
    if dtype.kind == "O":
        return np.asarray(PI).view(Decimals)
    return np.arctan2(dtype.type(0), dtype.type(-1))


_converted = np.frompyfunc(CONTEXT.create_decimal_from_float, 1, 1)


def _objects(a: Any) -> Objects:
    if isinstance(a, Decimals):
        return a.view(np.ndarray)
    array = np.asarray(a)
    if array.dtype != object:
        array = np.asarray(_converted(array.astype(np.float64).astype(object)), object)
    return array


def _filled(value: int, a: Decimals, *, shape: Any = None) -> Decimals:
    return np.full(a.shape if shape is None else shape, Decimal(value), object).view(Decimals)


# ---- functions -----------------------------------------------------------------------------------


def _power(a: Objects, b: Objects) -> Any:
    if b.ndim or b[()] < 1 or b[()] % 1:
        raise TypeError(f"decimals: expected a whole power of at least 1, got {b}")
    found = a
    for _ in range(int(b[()]) - 1):
        found = found * a
    return found


def _matmul(a: Objects, b: Objects) -> Any:
    """Return products with matrices of which each row has few numbers other than 0."""
    if a.ndim > 2 or b.ndim == 2:
        return np.swapaxes(_matmul(b.T, np.swapaxes(a, -1, -2)), -1, -2)
    total: Any = None
    for at, factors in _taken(a.astype(np.float64).tobytes(), a.shape):
        part = b[..., at, :] if factors is None else factors * b[..., at, :]
        total = part if total is None else total + part
    return total


@lru_cache(maxsize=4096)
def _taken(matrix: bytes, shape: tuple[int, int]) -> list[tuple[NDArray[np.intp], Any]]:
    """Return which rows a product with a matrix adds up, and their factors; None: all are 1."""
    factors = np.frombuffer(matrix).reshape(shape)
    count = max(int((factors != 0).sum(axis=1).max(initial=0)), 1)
    at = np.argsort(factors == 0, axis=1, kind="stable")[:, :count]
    found = np.take_along_axis(factors, at, axis=1)
    return [
        (at[:, k], None if (found[:, k] == 1).all() else _objects(found[:, k, None]))
        for k in range(count)
    ]


@cache
def _turn(k: int) -> tuple[Decimal, Decimal]:
    """Return the cosine and the sine of k / PARTS."""
    with localcontext(CONTEXT) as context:
        context.prec = DIGITS + 10
        x, term, sums, n = Decimal(k) / PARTS, Decimal(1), [Decimal(0), Decimal(0)], 0
        while abs(term) > Decimal(10) ** -(DIGITS + 8):
            sums[n % 2] += -term if n % 4 > 1 else term
            n += 1
            term = term * x / n
        return sums[0], sums[1]


_ODD = [CONTEXT.divide(Decimal((-1) ** k), Decimal(2 * k + 1)) for k in range(8)][::-1]


def _angle(y: Decimal, x: Decimal) -> Decimal:
    """Return arctan2(y, x): a whole part of a unit, and what it leaves by its power series."""
    if not (x.is_finite() and y.is_finite()):
        return Decimal("NaN")
    k = round(math.atan2(y, x) * PARTS)
    cosine, sine = _turn(k)
    along = x * cosine + y * sine
    slope = (y * cosine - x * sine) / along if along else along
    square, series = slope * slope, _ODD[0]
    for one in _ODD[1:]:
        series = series * square + one
    return Decimal(k) / PARTS + slope * series


_angles = np.frompyfunc(_angle, 2, 1)


def _arcsin(x: Objects) -> Any:
    return _angles(x, np.sqrt((1 - x) * (1 + x)))


COMPARISONS = {
    np.greater,
    np.less,
    np.greater_equal,
    np.less_equal,
    np.equal,
    np.not_equal,
    np.sign,
}
FUNCTIONS: dict[np.ufunc, Callable[..., Any]] = {
    **{one: one for one in (np.add, np.subtract, np.multiply, np.divide, np.negative, np.square)},
    **{one: one for one in (np.absolute, np.maximum, np.minimum, np.sqrt, np.exp, np.positive)},
    **{one: one for one in COMPARISONS},
    np.sign: lambda a: _objects((a > 0) * 1.0 - (a < 0)),
    np.power: _power,
    np.matmul: _matmul,
    np.hypot: lambda a, b: np.sqrt(a * a + b * b),
    np.arctan2: _angles,
    np.arcsin: _arcsin,
    np.expm1: lambda a: np.exp(a) - 1,
}
