"""The Numba engine: mirrors the C++ engine in Python for installations without the extension.

Here is what the C++ headers of the same names are: `formulas` has the value of a pair, `cpu` the
loops over pairs, ``bind_*`` the preparation of their arguments. Numba is imported when a function
of the engine is first looked up, and code is compiled at the first call: once per dtype and kind
of map, kept in Numba's cache on disk where that can be written to.
"""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from typing import Any


def unavailable() -> str:
    """Return why the engine cannot run here, or an empty string."""
    return "" if find_spec("numba") is not None else "the package numba is not installed"


class Lazy:
    """The functions of `ntkfast.engines.Engine`; looking one up that computes imports Numba."""

    unavailable = staticmethod(unavailable)

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module("ntkfast.engines.numba.functions"), name)


engine = Lazy()
