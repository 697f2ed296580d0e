"""The command line, ``ntkfast``: its commands, the demonstration and the benchmark."""

from __future__ import annotations

from ntkfast.command.cli import main

__all__ = ["main"]
