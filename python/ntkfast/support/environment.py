"""Variables of the environment, which every call reads: they may change between two."""

from __future__ import annotations

import os
from functools import cache


def variable(name: str) -> str:
    """Return an environment variable, or an empty string."""
    environment = os.environ
    try:  # an exception for a missing variable would take longer than all the rest
        if _key(name) not in environment._data:  # type: ignore[attr-defined]
            return ""
    except AttributeError:  # of what only looks like the environment
        pass
    return environment.get(name, "")


@cache
def _key(name: str) -> object:
    """Return a name as the environment keeps it."""
    return os.environ.encodekey(name)
