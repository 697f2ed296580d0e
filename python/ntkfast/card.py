"""Kernels of arrays that lie on a graphics card: results there, in the stream of their library."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from ntkfast import engines, inputs
from ntkfast.engines import cuda
from ntkfast.engines.card_array import CardArray, dense, empty_like, lies_on_card, view
from ntkfast.maps import Collection, FloatArray, Rows

if TYPE_CHECKING:
    from ntkfast.kernel import Kernel

__all__ = [
    "both",
    "diag",
    "features",
    "finite",
    "fwht",
    "gram",
    "lies_on_card",
    "matmul",
    "on_host",
    "product",
    "rows",
]

PANEL_BYTES = 1 << 26  # of a Gram matrix that is multiplied
FEATURE_BYTES = 1 << 28  # of an array between the steps of features


# ---- validation ----------------------------------------------------------------------------------


def matrix(name: str, value: Any) -> CardArray:
    """Return the view of a float32 or float64 matrix whose rows have unit stride.

    Raises
    ------
    TypeError, ValueError
        If it does not lie on a card, has another type, shape or order, or is empty.
    """
    array = view(name, value)
    _check_dtype(name, array)
    inputs.matrix_shape(name, array.shape)
    if array.shape[1] == 1:  # has any stride
        array = array.column()
    if array.strides[1] != array.itemsize or array.strides[0] % array.itemsize:
        raise ValueError(
            f"{name}: expected rows with unit stride on a CUDA device, got strides {array.strides}"
        )
    return array


def _check_dtype(name: str, array: CardArray) -> None:
    if array.dtype not in (np.float32, np.float64):
        raise TypeError(f"{name}: expected float32 or float64 on a CUDA device, got {array.dtype}")


def rows(X: CardArray, Y: CardArray | None) -> tuple[Rows, Rows | None]:
    """Validate matrices on a card; Y = None asks for the symmetric matrix.

    Raises
    ------
    TypeError, ValueError
        As for matrices of the host, or if they lie in different places or differ in type.
    """
    left = matrix("X", X)
    if Y is None:
        return _rows("X", left), None
    right = matrix("Y", Y)
    _together(X=left, Y=right)
    inputs.matrix_shape("Y", right.shape, left.shape[1])
    return _rows("X", left), _rows("Y", right)


def on_host(X: CardArray, Y: CardArray | None) -> tuple[FloatArray, FloatArray | None]:
    """Return copies on the host of arrays without gaps; all lie on one card and have one type.

    Raises
    ------
    TypeError, ValueError
        If they do not, or are of another type.
    """
    if Y is not None:
        _together(X=X, Y=Y)
    return _copy("X", X), None if Y is None else _copy("Y", Y)


def _copy(name: str, array: CardArray) -> FloatArray:
    _check_dtype(name, array)
    if array.strides != dense(array.shape, array.itemsize):
        raise ValueError(f"{name}: expected an array without gaps, got strides {array.strides}")
    return cuda.numbers(array)


def _rows(name: str, array: CardArray) -> Rows:
    norms = cuda.row_norms(array)
    largest = float(np.max(norms))
    if not largest < 1e150:
        row = int(np.argmax(~(norms < 1e150)))
        raise ValueError(
            f"{name}: expected finite numbers and norms below 1e150, row {row} has {norms[row]:.3g}"
        )
    return Rows(cast(FloatArray, array), norms)


def finite(array: Any) -> bool:
    """Whether all numbers of a matrix on a card are finite."""
    return bool(np.isfinite(cuda.row_norms(array)).all())


def _together(**arrays: CardArray) -> None:
    """Check that arrays lie on one card and have one type."""
    (first, one), *rest = arrays.items()
    place = cuda.device_of(one)
    for name, array in rest:
        if array.dtype != one.dtype:
            raise TypeError(f"{name}: expected dtype {one.dtype} as {first}, got {array.dtype}")
        if cuda.device_of(array) != place:
            raise ValueError(
                f"{name}: expected an array on CUDA device {place} as {first}, "
                f"got one on device {cuda.device_of(array)}"
            )


def _output(out: Any, like: CardArray, shape: tuple[int, int], **read: CardArray) -> CardArray:
    """Check an `out=` array, or make one."""
    if out is None:
        return empty_like("out", like, shape)
    result = matrix("out", out)
    _together(X=like, out=result)
    if result.shape != shape:
        raise ValueError(f"out: expected shape {shape}, got {result.shape}")
    if not result.writeable:
        raise ValueError("out: expected a writable array, got a read-only one")
    if len(result) > 1 and result.strides[0] < result.shape[1] * result.itemsize:
        raise ValueError(f"out: expected rows of their own, got strides {result.strides}")
    for name, array in read.items():
        if result.overlaps(array):
            raise ValueError(f"out: expected memory of its own, it overlaps {name}")
    return result


def _engine(name: str | None) -> engines.Engine:
    """Return the engine of arrays on a card, which is no matter of choice."""
    if name not in (None, "cuda"):
        raise ValueError(f"engine: {name!r} cannot read an array on a CUDA device")
    return engines.select("cuda")


def _sides(
    kernel: Kernel, X: Any, Y: Any
) -> tuple[Collection, Collection | None, dict[str, CardArray]]:
    """Validate inputs of a kernel; also the arrays by their names."""
    second = None if Y is None or Y is X else view("Y", Y)
    left, right = kernel._pair_on_card(view("X", X), second)
    arrays = {"X": cast(CardArray, left.memory)}
    if right is not None:
        arrays["Y"] = cast(CardArray, right.memory)
    return left, right, arrays


# ---- kernels -------------------------------------------------------------------------------------


def gram(kernel: Kernel, X: Any, Y: Any, out: Any, engine: str | None) -> Any:
    """Return the Gram matrix K(X, Y) as an array of the library of X."""
    run = _engine(engine)
    left, right, arrays = _sides(kernel, X, Y)
    shape = len(left), len(left if right is None else right)
    result = _output(out, arrays["X"], shape, **arrays)
    kernel._gram(left, right, cast(FloatArray, result), run, engines.count(None))
    return result.source


def both(kernel: Any, X: Any, Y: Any, engine: str | None) -> tuple[Any, Any]:
    """Return the NNGP and NTK Gram matrices of a network."""
    run = _engine(engine)
    left, right, arrays = _sides(kernel, X, Y)
    shape = len(left), len(left if right is None else right)
    nngp, ntk = (empty_like("X", arrays["X"], shape) for _ in range(2))
    outs = cast(FloatArray, ntk), cast(FloatArray, nngp)
    kernel._both(left, right, outs, run, engines.count(None))
    return nngp.source, ntk.source


def diag(kernel: Kernel, X: Any) -> Any:
    """Return the diagonal of K(X, X)."""
    _engine(None)
    left, _, arrays = _sides(kernel, X, None)
    result = empty_like("X", arrays["X"], (len(left),))
    cuda.put(np.ascontiguousarray(kernel._values(left)), result)
    return result.source


def matmul(kernel: Kernel, X: Any, Y: Any, V: Any, out: Any, engine: str | None) -> Any:
    """Return K(X, Y) @ V."""
    run = _engine(engine)
    left, right, arrays = _sides(kernel, X, Y)
    given = view("V", V)
    vector = given.ndim == 1
    arrays["V"] = factor = matrix("V", given.column() if vector else given)
    _together(X=arrays["X"], V=factor)
    count = len(left if right is None else right)
    if len(factor) != count:
        wanted = f"({count},)" if vector else f"({count}, *)"
        raise ValueError(f"V: expected shape {wanted}, got {given.shape}")
    _rows("V", factor)  # finite?
    target = out
    if vector:
        flat = empty_like("out", arrays["X"], (len(left),)) if out is None else view("out", out)
        target = flat.column() if flat.ndim == 1 else flat
    result = _output(target, arrays["X"], (len(left), factor.shape[1]), **arrays)
    matrix_v, to = cast(FloatArray, factor), cast(FloatArray, result)
    kernel._product(left, right, matrix_v, to, run, engines.count(None))
    return result.source


def product(
    kernel: Kernel,
    X: Collection,
    Y: Collection | None,
    V: CardArray,
    out: CardArray,
    engine: engines.Engine,
    threads: int,
) -> None:
    """Write K(X, Y) V, panel by panel; as `Kernel._product`, on a card."""
    right = X if Y is None else Y
    height = max(1, PANEL_BYTES // (len(right) * V.itemsize))
    for first in range(0, len(X), height):
        part = X[first : first + height]
        panel = cuda.scratch(V, (len(part), len(right)))
        kernel._gram(part, right, cast(FloatArray, panel), engine, threads)
        # An input with itself may be more than a pair of equal inputs.
        own = np.ascontiguousarray(kernel._values(part)) if Y is None else None
        cuda.multiply(panel, V, out[first : first + height], own, first)


# ---- features and transforms ---------------------------------------------------------------------


def features(
    X: Any, dim: int, count: int, width: int, write: Callable[[FloatArray, FloatArray], None]
) -> Any:
    """Return `count` features of rows of `dim` numbers, by `write`, which keeps `width` per row."""
    _engine(None)
    array = matrix("X", X)
    inputs.matrix_shape("X", array.shape, dim)
    _rows("X", array)  # finite?
    result = empty_like("X", array, (len(array), count))
    height = max(1, FEATURE_BYTES // (width * array.itemsize))
    for first in range(0, len(array), height):
        part = slice(first, first + height)
        write(cast(FloatArray, array[part]), cast(FloatArray, result[part]))
    return result.source


def fwht(X: Any, signs: FloatArray | None, out: Any, scale: float, engine: str | None) -> Any:
    """Return the Walsh-Hadamard transform of rows, whose number of columns was checked."""
    run, array = _engine(engine), matrix("X", X)
    result = empty_like("out", array, array.shape) if out is None else matrix("out", out)
    same = result.pointer == array.pointer and result.strides == array.strides
    others = {} if same else {"X": array}
    result = _output(result, array, (len(array), array.shape[1]), **others)
    left, to = cast(FloatArray, array), cast(FloatArray, result)
    run.hadamard(left, to, signs, scale, engines.count(None))
    return result.source
