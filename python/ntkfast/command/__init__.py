"""The command line, ``ntkfast``: its commands, the demonstration and the benchmark."""

from __future__ import annotations

from ntkfast.command.cli import main

__all__ = ["main"]


def __dir__() -> list[str]:
    """Return the public names."""
    return __all__
