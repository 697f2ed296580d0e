"""Results on disk that are whole or not there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def require_folder(name: str, path: Path) -> None:
    """Refuse a path, the argument of that name, whose folder is not there."""
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{name}: no such folder: {path.parent}")


@contextmanager
def appearing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a path to write to that becomes `path` at the end, unless an error comes first.

    Until then an older file stays as it is; after an error nothing of the new one is left, and the
    error names `path`. A symbolic link stays one: what it names is written.
    """
    target = Path(os.path.realpath(path))
    partial = target.with_name(target.name + ".partial")
    try:
        yield partial
        partial.replace(target)
    except OSError as error:
        ours = error.filename is None or Path(error.filename) in (partial, target)
        if error.errno is None or not ours:
            raise
        old = "the older file is kept" if target.exists() else "nothing is kept"
        raise OSError(error.errno, f"{error.strerror}; {old}", os.fspath(path)) from error
    finally:
        partial.unlink(missing_ok=True)
