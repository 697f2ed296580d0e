"""The CUDA engine: the maps of the native one, evaluated on a device.

NTKFAST_CUDA_MODULE names another extension module than ``ntkfast._cuda``: tests let the host play
the device by ``ntkfast._cuda_emulated``, which runs the very sources of the kernels.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from functools import cache
from typing import Any, Protocol, TypeGuard, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from ntkfast.arrays.collections import FloatArray, Rows, Weights
from ntkfast.engines import native
from ntkfast.engines.compiled import Engine
from ntkfast.engines.maps import LayerMap, Map, ProfileMap, SequenceMap, SequenceSide

_device: ContextVar[int] = ContextVar("ntkfast_cuda_device", default=0)
_precision: ContextVar[str] = ContextVar("ntkfast_cuda_precision", default="strict")

T = TypeVar("T")

ALWAYS = 1 << 28  # bytes of inputs that every device has room for
PRECISIONS = ("strict", "3xtf32", "tf32")
VALUES = ("gram", "matmul", "products")  # what needs no derivatives along layers


def module() -> Any:
    """Return the extension module."""
    return _load(os.environ.get("NTKFAST_CUDA_MODULE") or "ntkfast._cuda")


_load = cache(importlib.import_module)


def unavailable() -> str:
    """Return why the engine cannot run here, or an empty string."""
    try:
        count, reason = module().devices()
    except ImportError as error:
        return f"the extension ntkfast._cuda is not there ({error})"
    if not count:
        return f"no CUDA device: {reason}"
    if why := native.unavailable():  # it computes what belongs to single inputs
        return why
    return ""


@contextmanager
def device(ordinal: int) -> Iterator[None]:
    """Compute on the device of this number inside a ``with`` block; 0 is the default.

    Raises
    ------
    ValueError
        If there is no such device.
    """
    count = module().devices()[0]
    if not 0 <= ordinal < count:
        raise ValueError(f"ordinal: expected a CUDA device below {count}, got {ordinal}")
    with _set(_device, ordinal):
        yield


@contextmanager
def precision(name: str) -> Iterator[None]:
    """Form the inner products of float32 rows in this precision inside a ``with`` block.

    Products of float64 are those of float64 in all of them, on tensor cores or not. Derivatives,
    and devices before the generation sm_80, compute strictly whatever is asked.

    Parameters
    ----------
    name : {"strict", "3xtf32", "tf32"}
        ``strict``, the default: every product and every sum is rounded to float32. An inner product
        of d terms is off by at most d 2^-24 of the product of the norms, about sqrt(d) 2^-25 in
        practice. ``3xtf32``: tensor cores multiply numbers split in two, for an error of at most
        3 2^-22 (of either factor and of the product of the small parts, which is left out) besides
        that of the sums, which are cut off and not rounded. ``tf32``: factors are rounded to 11
        bits. Cosines are off by at most 2^-10, about 2^-11 / sqrt(d) in practice.

    Raises
    ------
    ValueError
        If there is no such precision.

    Notes
    -----
    An error of the cosine reaches the kernel multiplied by its slope, at most by the few units of
    strict precision: the angles of pairs closer than that are recomputed from the differences
    of their rows, in float32. So a row gets the same value with itself as strictly, and so do
    near duplicates, to a distance of about 0.04 of their norm under tf32 and more for kernels with
    a cusp, as those of ReLU networks.

    Examples
    --------
    >>> import ntkfast as nf
    >>> with nf.engines.cuda.precision("3xtf32"):  # doctest: +SKIP
    ...     K = nf.FullyConnected(3).ntk(X, engine="cuda")
    """
    if name not in PRECISIONS:
        raise ValueError(f"name: expected one of {PRECISIONS}, got {name!r}")
    with _set(_precision, name):
        yield


@contextmanager
def _set(variable: ContextVar[T], value: T) -> Iterator[None]:
    """Give a variable a value inside a ``with`` block."""
    token = variable.set(value)
    try:
        yield
    finally:
        variable.reset(token)


class Remote(Protocol):
    """An array in the memory of a device (`ntkfast.places` has them)."""

    @property
    def pointer(self) -> int:
        """Address of the first number."""

    @property
    def stream(self) -> int | None:
        """The CUDA stream that its library works on; None: it does not say."""

    def described(self) -> NDArray[Any]:
        """Return an array for C++ code that takes shape and pointer from it."""


def _is_remote(array: object) -> TypeGuard[Remote]:
    return hasattr(array, "described")


class _Devices(Engine):
    """Computes on the device of the arrays in a call that lie on one, in their stream."""

    def _compute(self, name: str, dtype: np.dtype[Any], *arguments: object, threads: int) -> None:
        remote = [a for a in arguments if _is_remote(a)]
        seen = [a.described() if _is_remote(a) else a for a in arguments]
        with on_device_of(remote) as where:
            self.call(name, dtype, *seen, threads, where)

    def _norms(self, name: str, plan: Map, X: Rows, Y: Rows | None) -> tuple[Any, Any]:
        """Leave them where they are, unless the host computes numbers of rows from them."""

        def of(side: Rows) -> Any:
            by_host = isinstance(plan, LayerMap) and (side.series is not None or name not in VALUES)
            there = None if by_host else getattr(side, "measured", None)
            return side.norms if there is None else there

        return of(X), None if Y is None else of(Y)

    def run(
        self,
        plan: Map,
        second: Map | None,
        X: Rows,
        Y: Rows | None,
        outs: tuple[FloatArray | None, FloatArray | None],
        threads: int,
    ) -> None:
        """Write Gram matrices, block by block where the inputs do not fit into memory."""
        height = _rows_with_room(X, Y)
        if height is None:
            super().run(plan, second, X, Y, outs, threads)
            return
        for rows in _parts(len(X), height):
            for columns in _parts(len(X if Y is None else Y), height):
                if Y is None and columns.start < rows.start:
                    continue
                other = None if Y is None and rows == columns else (X if Y is None else Y)[columns]
                blocks = [None if out is None else out[rows, columns] for out in outs]
                super().run(plan, second, X[rows], other, (blocks[0], blocks[1]), threads)
                if Y is None and rows != columns:
                    for out, block in zip(outs, blocks, strict=True):
                        if out is not None and block is not None:
                            out[columns, rows] = block.T

    def matmul(
        self, plan: Map, X: Rows, Y: Rows | None, V: FloatArray, out: FloatArray, threads: int
    ) -> None:
        """Write K(X, Y) V, block by block where the inputs do not fit into memory."""
        height = _rows_with_room(X, Y)
        if height is None:
            super().matmul(plan, X, Y, V, out, threads)
            return
        from ntkfast.engines.groups import Groups  # rarely needed: imports stay few

        total = np.zeros(out.shape)
        for rows in _parts(len(X), height):
            for columns in _parts(len(V), height):
                if Y is not None:
                    part = np.empty(total[rows].shape, V.dtype)
                    super().matmul(plan, X[rows], Y[columns], V[columns], part, threads)
                    total[rows] += part
                elif columns.start >= rows.start:
                    both = np.empty(total.shape)
                    self.products(plan, X, V, Groups(rows, columns, len(X)), both, threads)
                    for side in {rows.start: rows, columns.start: columns}.values():
                        total[side] += both[side]
        out[...] = total

    def weighed(self, plan: ProfileMap, X: Rows, Y: Rows, V: Weights, threads: int) -> float:
        """Return sum_ij V_ij K(x_i, y_j)."""
        sums = np.empty(len(X))
        factors = V.matrix, V.left, V.right
        self._compute_rows("weigh", plan, X, Y, *factors, sums, threads=threads)
        return float(sums.sum())

    def sequences(
        self,
        plan: SequenceMap,
        X: SequenceSide,
        Y: SequenceSide | None,
        out: FloatArray,
        threads: int,
    ) -> None:
        """Work in the stream of the sequences, though the host has read them already."""
        given, result = cast(object, X.memory), cast(object, out)
        if not (_is_remote(given) and _is_remote(result)):
            super().sequences(plan, X, Y, out, threads)
            return
        with on_device_of([given, result]):
            there: Any = replace(out, stream=given.stream)  # type: ignore[type-var]
            super().sequences(plan, X, Y, there, threads)


def _rows_with_room(X: Rows, Y: Rows | None) -> int | None:
    """Return how many rows a block has, if rows of the host are more than a device has room for."""
    sides = [X] if Y is None else [X, Y]
    each = 2 * X.data.itemsize * X.data.shape[1]  # of a row, as it comes and as products take it
    if _is_remote(X.data) or has_room(each * sum(map(len, sides)) // 2):
        return None
    return int(max(1, max(_room(), ALWAYS) // (2 * each)))


def has_room(bytes_of_rows: int) -> bool:
    """Whether the device has room for so many bytes of inputs, as they come and as packed rows."""
    wanted = 2 * bytes_of_rows
    return wanted <= ALWAYS or wanted <= _room()


def _room() -> int:
    """Return how many bytes inputs may take; results and sums have the rest."""
    return int(module().free_bytes(here())) // 2


def _parts(count: int, height: int) -> list[slice]:
    return [slice(first, min(first + height, count)) for first in range(0, count, height)]


def _place(ordinal: int, stream: int) -> str:
    return f"{ordinal}:{_precision.get()}:{stream}"


def here() -> str:
    """Return where this context computes."""
    return _place(_device.get(), 0)


engine = _Devices(unavailable, module, here)
call = engine.call


def device_of(array: Remote) -> int:
    """Return the number of the device that an array lies on.

    Raises
    ------
    ValueError
        If its memory belongs to no device.
    """
    found = int(module().device_of(array.pointer))
    if found < 0:
        raise ValueError(f"expected memory of a CUDA device, got the address {array.pointer:#x}")
    return found


@contextmanager
def on_device_of(arrays: Sequence[Remote]) -> Iterator[str]:
    """Say where to compute: on the device of the first array in its stream, after what others hold.

    Without arrays it is where this context computes.

    Where another stream is in play, or a library does not say which one is, nothing would make it
    wait for the results: then they are waited for here.
    """
    if not arrays:
        yield here()
        return
    ordinal, stream = device_of(arrays[0]), arrays[0].stream or 0
    others = {a.stream or 0 for a in arrays} - {stream}
    for other in others:
        module().finish(_place(ordinal, other))
    where = _place(ordinal, stream)
    yield where
    if others or any(a.stream is None for a in arrays):
        module().finish(where)
