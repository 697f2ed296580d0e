"""The Numba engine: mirrors the C++ engine in Python for installations without the extension.

Here is what the C++ headers of the same names are: `formulas` has the value of a pair, `cpu` the
loops over pairs, ``bind_*`` the preparation of their arguments. Numba is imported when a function
of the engine is first looked up, and code is compiled at the first call: once per dtype and kind
of map, kept in Numba's cache on disk where that can be written to.
"""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from ntkfast.engines.norms import reference_row_norms as row_norms

if TYPE_CHECKING:
    from ntkfast.engines.numba.engine import (
        hadamard,
        images,
        matmul,
        run,
        sequences,
        sketch,
        structured,
    )

__all__ = [
    "hadamard",
    "images",
    "matmul",
    "row_norms",
    "run",
    "sequences",
    "sketch",
    "structured",
    "unavailable",
]


def unavailable() -> str:
    """Return why the engine cannot run here, or an empty string."""
    return "" if find_spec("numba") is not None else "the package numba is not installed"


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("ntkfast.engines.numba.engine"), name)
