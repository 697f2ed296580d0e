"""What a batch job raises, beyond the errors of Python."""

from __future__ import annotations


class BatchError(RuntimeError):
    """A batch job cannot start or go on; the message says why and what to do."""


class DiskSpaceError(BatchError):
    """The output does not fit on the disk."""
