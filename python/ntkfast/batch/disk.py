"""The disk under a batch job: free space, writing that survives a crash, and locks."""

from __future__ import annotations

import errno
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from ntkfast.batch.errors import BatchError, DiskSpaceError

_FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}


def require_space(partial: Path, needed: int) -> None:
    """Fail before the work rather than after half of it."""
    free = shutil.disk_usage(partial.parent).free
    if needed > free:
        raise DiskSpaceError(
            f"{partial.with_suffix('')}: expected {_bytes(needed)} of free disk, got "
            f"{_bytes(free)} in {partial.parent.resolve()}"
        )


@contextmanager
def failures_explained(path: Path, *, resumable: bool) -> Iterator[None]:
    """Turn 'no space left', and errors without a file, into ones that say what is kept."""
    try:
        yield
    except OSError as error:
        full = error.errno in _FULL
        if not full and (error.errno is None or error.filename is not None):
            raise
        kept = "finished tiles are kept" if resumable else "nothing is kept"
        if full:
            raise DiskSpaceError(
                f"{path}: the disk became full ({_bytes(shutil.disk_usage(path.parent).free)} free "
                f"in {path.parent.resolve()}); {kept}: make room and run the same job again"
            ) from error
        raise BatchError(
            f"{path}: writing failed ({error.strerror}); {kept}: run the same job again"
        ) from error


def _bytes(count: int) -> str:
    value, unit = float(count), "bytes"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{count} bytes" if unit == "bytes" else f"{value:.1f} {unit} ({count} bytes)"


def allocated_bytes(path: Path) -> int:
    """Bytes that a file has on the disk, holes not counted."""
    if not path.is_file():
        return 0
    status = path.stat()
    return cast(int, getattr(status, "st_blocks", -(-status.st_size // 512))) * 512


def reserve(descriptor: int, size: int) -> None:
    """Give the file its blocks now, where the system can, so that a full disk shows at once."""
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(descriptor, 0, size)
            return
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
                raise
    os.ftruncate(descriptor, size)


# --- Writing -------------------------------------------------------------------------------------


def write_all(descriptor: int, data: memoryview) -> None:
    """Write all of the data at the current position."""
    while data:  # a write may take a part only
        data = data[os.write(descriptor, data) :]


def sync_data(descriptor: int) -> None:
    """Wait until the data of a file have reached the disk."""
    getattr(os, "fdatasync", os.fsync)(descriptor)


def sync_path(path: Path) -> None:
    """Wait until a closed file has reached the disk."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Make a rename or a new name durable; Windows has no way to ask for it."""
    if sys.platform != "win32":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def sync_tree(file: Path, top: Path) -> None:
    """Make a file durable, and the names of all folders from it up to `top`."""
    sync_path(file)
    while file != top:
        file = file.parent
        sync_folder(file)


def stamp(path: Path) -> list[int] | None:
    """Tell a file, or a zarr array by its description, from one that took its name later."""
    file = path / "zarr.json" if path.is_dir() else path
    try:
        status = file.stat()
    except FileNotFoundError:
        return None
    return [status.st_size, status.st_mtime_ns]


def remove_tree(folder: Path) -> None:
    """Remove a folder if it is there."""
    if folder.exists():
        shutil.rmtree(folder)


# --- Locks ---------------------------------------------------------------------------------------


def is_at(descriptor: int, path: Path) -> bool:
    """Tell whether the open file is still the one of this name."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def lock(descriptor: int) -> None:
    """Take the lock that the system gives back by itself when the process dies.

    Raises
    ------
    BlockingIOError
        If another process has it.
    """
    if sys.platform == "win32":
        import msvcrt

        os.lseek(descriptor, 1 << 30, os.SEEK_SET)  # far behind the text: such locks bar readers
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError as error:
            raise BlockingIOError(*error.args) from error
    else:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
