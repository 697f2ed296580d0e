"""Packages that an installation may lack."""

from __future__ import annotations

from importlib import import_module
from typing import Any

PACKAGES = {"sklearn": "scikit-learn"}  # that are installed under another name


def require(module: str, extra: str) -> Any:
    """Import a module of another package, or say how to install it.

    Parameters
    ----------
    module : str
        ``"torch"``, or a part of a package, ``"matplotlib.figure"``.
    extra : str
        What brings it: ``pip install 'ntkfast[extra]'``.

    Returns
    -------
    module

    Raises
    ------
    ImportError
        If it is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        name = module.partition(".")[0]
        raise ImportError(
            f"this needs {PACKAGES.get(name, name)}: pip install 'ntkfast[{extra}]'"
        ) from error
