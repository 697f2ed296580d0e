"""Write Gram matrices larger than memory to a file, tile by tile, so that a killed job resumes.

A job owns three names. ``K.npy.partial`` receives the tiles; ``K.npy.journal`` holds what the job
is (kernel, shapes, digests of the inputs) and one line for each tile whose data have reached the
disk; ``K.npy`` itself appears only at the end, by an atomic rename. The journal stays: it tells a
repeated job that the matrix is there, and its owner what it is.
"""

from __future__ import annotations

from ntkfast.batch.errors import BatchError, DiskSpaceError
from ntkfast.batch.readers import load_lengths, load_matrix, load_targets
from ntkfast.batch.run import gram

__all__ = [
    "BatchError",
    "DiskSpaceError",
    "gram",
    "load_lengths",
    "load_matrix",
    "load_targets",
]


def __dir__() -> list[str]:
    """Return the public names."""
    return __all__
