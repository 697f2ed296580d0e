"""The CUDA engine: the maps of the native one, evaluated on a graphics card.

NTKFAST_CUDA_MODULE names another extension module than ``ntkfast._cuda``: tests let the host play
the card by ``ntkfast._cuda_emulated``, which runs the very sources of the kernels.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from ntkfast.engines import native
from ntkfast.engines.compiled import Compiled
from ntkfast.maps import FloatArray

_device: ContextVar[int] = ContextVar("ntkfast_cuda_device", default=0)


def _module() -> Any:
    return importlib.import_module(os.environ.get("NTKFAST_CUDA_MODULE") or "ntkfast._cuda")


def unavailable() -> str:
    """Return why the engine cannot run here, or an empty string."""
    try:
        count, reason = _module().devices()
    except ImportError as error:
        return f"the extension ntkfast._cuda is not there ({error})"
    if not count:
        return f"no CUDA device: {reason}"
    if why := native.unavailable():  # it computes what belongs to single inputs
        return why
    return ""


@contextmanager
def device(ordinal: int) -> Iterator[None]:
    """Compute on the card of this number inside a ``with`` block; 0 is the default.

    Raises
    ------
    ValueError
        If there is no such card.
    """
    count = _module().devices()[0]
    if not 0 <= ordinal < count:
        raise ValueError(f"ordinal: expected a CUDA device below {count}, got {ordinal}")
    token = _device.set(ordinal)
    try:
        yield
    finally:
        _device.reset(token)


_engine = Compiled(_module, lambda: str(_device.get()))
run = _engine.run
matmul = _engine.matmul
hadamard = _engine.hadamard
sketch = _engine.sketch
structured = _engine.structured
images = _engine.images
sequences = _engine.sequences


def row_norms(X: FloatArray) -> FloatArray:
    """Return the Euclidean norms of rows, computed by the host."""
    return native.row_norms(X)
