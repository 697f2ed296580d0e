"""What users are told: warnings at their line, what goes on, the word that they may have meant."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterable
from pathlib import Path

PACKAGE = str(Path(__file__).parents[1])


def warn(message: str, category: type[Warning] = RuntimeWarning) -> None:
    """Warn of lost accuracy, at the innermost line that does not belong to the package."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_code.co_filename.startswith(PACKAGE):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)


def goes_on(name: object, done: int, of: str) -> None:
    """Log that an earlier run goes on: to the logger "ntkfast", which the command line shows."""
    logging.getLogger("ntkfast").info(f"{name}: goes on, {done} {of} are there already")


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """Return the end of a message, "; did you mean 'relu'?", or nothing if no word is near."""
    from difflib import get_close_matches  # needed by those who err

    small = {name.lower(): name for name in known}
    close = get_close_matches(str(word).lower(), list(small), 1)
    return f"; did you mean {small[close[0]]!r}?" if close else ""
