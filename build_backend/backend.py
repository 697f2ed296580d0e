"""The build backend: scikit-build-core, asked for metadata without a compiler.

Pip wants metadata first and shows nothing meanwhile. Where a failed build may fall back to the pure
wheel, scikit-build-core does not answer, and pip compiles everything to find out. But name, version
and requirements are those of both wheels; only the tag of the wheel differs, which is not compared
here.
"""

from __future__ import annotations

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - before anything that an older one does not have
    found = ".".join(map(str, sys.version_info[:3]))
    raise SystemExit(f"ntkfast needs Python 3.11 or later, this is Python {found}")

from contextlib import chdir
from pathlib import Path
from typing import Any

# It looks for the fallback in the pyproject.toml of the current folder; this one has none.
with chdir(Path(__file__).parent):
    from scikit_build_core import build
    from scikit_build_core.build import *  # noqa: F403


def build_wheel(
    wheel_directory: str, config_settings: Any = None, metadata_directory: str | None = None
) -> str:
    """Build a wheel, the native or the pure one."""
    return build.build_wheel(wheel_directory, config_settings)


def build_editable(
    wheel_directory: str, config_settings: Any = None, metadata_directory: str | None = None
) -> str:
    """Build a wheel for an editable installation."""
    return build.build_editable(wheel_directory, config_settings)
