"""Packages that an installation may lack."""

from __future__ import annotations

from typing import Any


def import_zarr() -> Any:
    """Return the module zarr, or say how to install it."""
    try:
        import zarr
    except ImportError as error:
        raise ImportError("a .zarr file needs zarr: pip install 'ntkfast[zarr]'") from error
    return zarr
