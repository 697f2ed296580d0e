"""Kernels on a cluster of Dask: workers compute tiles, and any number of them gives the same bits.

A client of ``dask.distributed`` says where; without one it is the current client of the process.
Inputs are cut into blocks, and a block travels to a worker once, when a tile needs it first. Each
task runs on one thread, so a worker does as many at a time as it has threads.
"""

from __future__ import annotations

from ntkfast.dask.files import gram
from ntkfast.dask.matrices import diag, matmul
from ntkfast.dask.session import ClusterWarning

__all__ = ["ClusterWarning", "diag", "gram", "matmul"]


def __dir__() -> list[str]:
    """Return the public names."""
    return __all__
