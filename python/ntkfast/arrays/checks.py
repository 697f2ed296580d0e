"""Validation of what users pass in: every error names the argument, what is wanted, what came."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ntkfast.arrays.collections import Collection, FloatArray, Rows, Shape, memories
from ntkfast.arrays.foreign import host_array
from ntkfast.support.telling import did_you_mean

# Integers are promoted to the type NumPy would divide them in; half precision, long double, complex
# numbers and objects are refused: a silent conversion would hide what precision the result has.
_PROMOTED = "bui"
NATIVE = frozenset((np.dtype(np.float32), np.dtype(np.float64)))
ONE_ROW = (
    "; for one column write X[:, None], for one row X[None]; estimators of scikit-learn that call "
    "their kernel with one row at a time, like KernelRidge, take ntkfast.sklearn.NTKKernel(network)"
)
OF_IMAGES = "; networks on images are Convolutional, ConvNet and myrtle, in a shell --network cntk"


def matrix(name: str, value: ArrayLike) -> FloatArray:
    """Return `value` as a native float32 or float64 matrix whose rows have unit stride.

    Raises
    ------
    TypeError
        If the type is neither float32, float64, an integer nor bool.
    ValueError
        If it has not two dimensions or is empty.
    """
    array = real_array(name, host_array(name, value))
    if array.ndim != 2:
        hint = ONE_ROW if array.ndim == 1 else OF_IMAGES if array.ndim == 4 else ""
        raise ValueError(f"{name}: expected shape (rows, features), got {array.shape}{hint}")
    if not array.size:
        raise ValueError(f"{name}: expected at least one row and one feature, got {array.shape}")
    return array if unit_stride(array) else np.ascontiguousarray(array)


def real_array(name: str, array: NDArray[Any]) -> FloatArray:
    """Return an array as native float32 or float64, not copied if it is.

    Raises
    ------
    TypeError
        If the type is neither of these, an integer nor bool.
    """
    if type(array) is np.ndarray and array.dtype in NATIVE and array.flags.aligned:
        return array
    if array.dtype.kind in _PROMOTED:
        array = array.astype(np.float64)
    dtype = array.dtype.newbyteorder("=")
    if dtype not in (np.float32, np.float64):
        hint = "; words as classes: KernelClassifier" if name == "y" and dtype.kind in "UST" else ""
        raise TypeError(f"{name}: expected float32 or float64 (or integers), got {dtype}{hint}")
    if not array.flags.aligned:  # compiled code reads whole numbers where they may lie
        array = array.copy()
    return np.asarray(array, dtype)


def matrix_shape(name: str, shape: tuple[int, ...], columns: int | None = None) -> None:
    """Check the shape of a matrix without its numbers.

    Raises
    ------
    ValueError
        If it has not two dimensions, other columns than wanted, or is empty.
    """
    if len(shape) != 2 or (columns is not None and shape[1] != columns):
        wanted = "d" if columns is None else columns
        hint = OF_IMAGES if len(shape) == 4 else ""
        raise ValueError(f"{name}: expected shape (*, {wanted}), got {shape}{hint}")
    if 0 in shape:
        raise ValueError(f"{name}: expected at least one row and one column, got shape {shape}")


def images(name: str, value: ArrayLike, shape: Shape | None) -> FloatArray:
    """Return images as an array of native float32 or float64 with four axes.

    Parameters
    ----------
    shape : (height, width, channels), optional
        The shape wanted; without it rows are refused.

    Raises
    ------
    TypeError
        If the type is neither float32, float64, an integer nor bool.
    ValueError
        If there are no images, or their shape is another.
    """
    array = real_array(name, host_array(name, value))
    found = image_shape(name, array.shape, shape)
    return array.reshape(len(array), *found)


def image_shape(name: str, shape: tuple[int, ...], wanted: Shape | None) -> Shape:
    """Return height, width and channels of an array of images, or of rows if they are `wanted`.

    Raises
    ------
    ValueError
        If it has other axes, is empty, or its images have another shape.
    """
    if 0 in shape:
        raise ValueError(f"{name}: expected at least one image and pixel, got shape {shape}")
    if len(shape) == 2 and wanted is not None:
        width = wanted[0] * wanted[1] * wanted[2]
        if shape[1] != width:
            raise ValueError(f"{name}: expected shape (*, {width}), got {shape}")
        return wanted
    if len(shape) != 4:
        hints = {
            2: ", or rows and a network with shape=(height, width, channels)",
            3: " (images of one channel: X[..., None])",
        }
        raise ValueError(
            f"{name}: expected shape (images, height, width, channels)"
            f"{hints.get(len(shape), '')}, got {shape}"
        )
    if wanted is not None and shape[1:] != wanted:
        raise ValueError(f"{name}: expected images of shape {wanted}, got {shape[1:]}")
    return shape[1], shape[2], shape[3]


def finite_images(name: str, data: FloatArray, norms: NDArray[np.float64]) -> None:
    """Check that all images are finite, by their norms, and that squares of norms are.

    Raises
    ------
    ValueError
        Naming the first image that holds NaN or infinity, or whose squared norm overflows.
    """
    if float(np.max(norms)) < 1e150:  # not for NaN
        return
    image = int(np.argmax(~(norms < 1e150)))
    if np.isfinite(data[image]).all():
        raise ValueError(f"{name}: image {image} has norm {norms[image]:.3g}, expected below 1e150")
    raise ValueError(f"{name}: expected finite numbers, image {image} holds NaN or infinity")


def _is_sparse(value: object) -> bool:
    return type(value).__module__.startswith("scipy.sparse")


def same_dtype(first: FloatArray, second: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Bring two matrices to their common precision."""
    if first.dtype == second.dtype:
        return first, second
    dtype = np.result_type(first, second)
    return first.astype(dtype, copy=False), second.astype(dtype, copy=False)


def rows(
    name: str,
    data: FloatArray,
    norms: FloatArray,
    least: float | None = None,
    top: float | None = None,
    *,
    first: int = 0,
) -> Rows:
    """Check that all rows are finite, by their norms, and that squares of norms are.

    `data` may be sparse. `least` and `top` are the ends of the norms, where they are known. `first`
    is the number of the first row where it is a part of something larger.

    Raises
    ------
    ValueError
        Naming the first row that holds NaN or infinity, or whose squared norm overflows.
    """
    if least is None or top is None:
        least, top = float(norms.min()), float(norms.max())
    if not top < 1e150:  # also for NaN
        row = int(np.argmax(norms))
        if np.isfinite(data[[row]].data if _is_sparse(data) else data[row]).all():
            raise ValueError(
                f"{name}: row {first + row} has norm {norms[row]:.3g}, expected below 1e150"
            )
        raise ValueError(
            f"{name}: expected finite numbers, row {first + row} holds NaN or infinity"
        )
    return Rows.with_ends(data, norms, least, top)


def directions(name: str, item: str, sizes: FloatArray, least: float) -> None:
    """Check that all sizes are 0 or enough for numbers that keep a direction.

    Raises
    ------
    ValueError
        Naming the first `item` ("row", "image", "sequence") that is below `least`.
    """
    if float(sizes.min()) >= least:
        return
    short = (sizes > 0) & (sizes < least)
    if short.any():
        first = int(np.argmax(short))
        raise ValueError(
            f"{name}: {item} {first} has size {float(sizes[first]):.3g}, too small for its "
            f"direction, which wants {least:.2g} or more; scale it up, or set it to 0"
        )


def same_features(X: FloatArray, Y: FloatArray) -> None:
    """Check that Y has as many columns as X."""
    if X.shape[1] != Y.shape[1]:
        raise ValueError(f"Y: expected shape (*, {X.shape[1]}), got {Y.shape}")


def output(name: str, out: Any, shape: tuple[int, int], dtype: np.dtype[Any]) -> FloatArray:
    """Check an `out=` array, or make one.

    Raises
    ------
    TypeError
        If it is not a NumPy array of the result's dtype.
    ValueError
        If its shape is wrong or it is read-only.
    """
    if out is None:
        return np.empty(shape, dtype)
    if not isinstance(out, np.ndarray):
        raise TypeError(f"{name}: expected a NumPy array, got {type(out).__name__}")
    if out.dtype != dtype or not out.dtype.isnative:
        raise TypeError(f"{name}: expected dtype {dtype}, got {out.dtype}")
    if out.shape != shape:
        raise ValueError(f"{name}: expected shape {shape}, got {out.shape}")
    if not out.flags.writeable:
        raise ValueError(f"{name}: expected a writable array, got a read-only one")
    return out


def unit_stride(array: FloatArray) -> bool:
    """Whether the entries of each row lie one after the other, as the engines want them."""
    (rows, columns), size = array.strides, array.itemsize
    return columns == size and rows % size == 0


def disjoint(name: str, out: FloatArray, **arguments: Collection | FloatArray | None) -> None:
    """Check that writing the result does not overwrite what it is computed from.

    Raises
    ------
    ValueError
        If `out` overlaps one of the arguments in memory.
    """
    for argument, array in arguments.items():
        if array is None:
            continue
        held = [array] if isinstance(array, np.ndarray) else memories(array)
        if any(_overlap(out, memory) for memory in held):
            raise ValueError(f"{name}: expected memory of its own, it overlaps {argument}")


def _overlap(first: NDArray[Any], second: NDArray[Any]) -> bool:
    """Whether two arrays have a byte in common; True where that would take long to find out."""
    if not np.may_share_memory(first, second):  # by their ends alone
        return False
    enough: Any = 10_000
    try:
        return bool(np.shares_memory(first, second, max_work=enough))
    except np.exceptions.TooHardError:
        return True


def columns(name: str, value: ArrayLike, count: int, first: int = 0) -> tuple[FloatArray, bool]:
    """Return V of a product as a matrix with `count` rows, and whether it was a vector.

    `first` is the number of the first row where `value` is a part of something larger.

    Raises
    ------
    TypeError, ValueError
        If its type or shape is wrong, or naming the first row that holds NaN or infinity.
    """
    array = host_array(name, value)
    vector = array.ndim == 1
    if vector:
        array = array[:, None]
    array = matrix(name, array)
    if len(array) != count:
        shape = f"({count},)" if vector else f"({count}, *)"
        got = (len(array),) if vector else array.shape
        raise ValueError(f"{name}: expected shape {shape}, got {got}")
    if not np.isfinite(array).all():
        row = first + int(np.argmin(np.isfinite(array).all(axis=1)))
        raise ValueError(f"{name}: expected finite numbers, row {row} holds NaN or infinity")
    return array, vector


def narrowed(name: str, array: FloatArray, dtype: np.dtype[Any]) -> FloatArray:
    """Return finite numbers in a dtype.

    Raises
    ------
    ValueError
        Naming the first row with a number that the dtype does not hold.
    """
    if array.dtype == dtype:
        return array
    with np.errstate(over="ignore"):
        result = array.astype(dtype)
    fits = np.isfinite(result).all(axis=1)
    if not fits.all():
        row = int(np.argmin(fits))
        raise ValueError(
            f"{name}: expected numbers within {dtype}, the type of the inputs; row {row} holds "
            f"{array[row][np.argmax(np.abs(array[row]))]:.3g}"
        )
    return result


def number(
    name: str, value: object, *, above: float = -math.inf, least: float = -math.inf
) -> float:
    """Return a finite real number in the range wanted.

    Raises
    ------
    TypeError, ValueError
        If it is no real number, or out of range.
    """
    if isinstance(value, (bool, np.bool_)) or not isinstance(
        value, (int, float, np.integer, np.floating)
    ):
        raise TypeError(f"{name}: expected a number, got {type(value).__name__}")
    result = float(value)
    if not math.isfinite(result) or result <= above or result < least:
        wanted = (
            f" > {above:g}" if above > -math.inf else f" >= {least:g}" if least > -math.inf else ""
        )
        raise ValueError(f"{name}: expected a finite number{wanted}, got {value}")
    return result


def deviation(name: str, value: object, *, zero: bool = False) -> float:
    """Return a standard deviation whose square, a variance, is a normal number, or zero if allowed.

    Raises
    ------
    TypeError, ValueError
        If it is no real number, or out of range.
    """
    result = number(name, value, **({"least": 0.0} if zero else {"above": 0.0}))
    limits = np.finfo(np.float64)
    low, high = math.sqrt(limits.tiny), math.sqrt(limits.max)
    if result and not low <= result <= high:
        raise ValueError(
            f"{name}: expected a number from {low:.3g} to {high:.3g}, whose square is a float, "
            f"got {value}"
        )
    return result


def count(name: str, value: object, *, least: int = 0) -> int:
    """Return an integer of at least `least`.

    Raises
    ------
    TypeError, ValueError
        If it is no integer, or too small.
    """
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name}: expected an integer, got {type(value).__name__}")
    if value < least:
        raise ValueError(f"{name}: expected an integer >= {least}, got {value}")
    return int(value)


def choice(name: str, value: object, allowed: tuple[str, ...]) -> str:
    """Return one of the allowed words.

    Raises
    ------
    ValueError
        If it is none of them.
    """
    if value not in allowed:
        words = ", ".join(repr(word) for word in allowed)
        meant = did_you_mean(value, allowed)
        raise ValueError(f"{name}: expected one of {words}; got {value!r}{meant}")
    return str(value)


def flag(name: str, value: object) -> bool:
    """Return True or False.

    Raises
    ------
    TypeError
        If it is something else, which would count as one of them.
    """
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name}: expected True or False, got {value!r}")
    return bool(value)


def cosines(name: str, value: ArrayLike) -> NDArray[np.float64]:
    """Return cosines in [-1, 1] as float64.

    Raises
    ------
    ValueError
        If one is outside or NaN.
    """
    array = np.asarray(value, dtype=np.float64)
    if not np.all(np.abs(array) <= 1):
        raise ValueError(f"{name}: expected cosines between -1 and 1")
    return array


def store(value: object, **attributes: object) -> None:
    """Store validated attributes of a frozen dataclass, which its `__init__` alone does."""
    for name, attribute in attributes.items():
        object.__setattr__(value, name, attribute)
