"""Real data: the digits that come with the package, and files under the folder NTKFAST_DATA."""

from __future__ import annotations

import difflib
import os
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["find", "load_digits"]


def __dir__() -> list[str]:
    """Return the public names."""
    return __all__


def load_digits() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Load 1797 images of handwritten digits, 8 x 8 pixels each.

    Returns
    -------
    X : ndarray, shape (1797, 64), float64
        Pixels, 0 (white) to 16 (black), row by row.
    y : ndarray, shape (1797,), int64
        The digits, 0 to 9.

    References
    ----------
    E. Alpaydin and C. Kaynak (1998), Optical Recognition of Handwritten Digits, UCI Machine
    Learning Repository, https://doi.org/10.24432/C50P49 (CC BY 4.0).

    Examples
    --------
    >>> from ntkfast.datasets import load_digits
    >>> X, y = load_digits()
    >>> X.shape, y[:5].tolist()
    ((1797, 64), [0, 1, 2, 3, 4])
    """
    source = resources.files("ntkfast") / "data" / "digits.npz"
    with resources.as_file(source) as path, np.load(path, allow_pickle=False) as archive:
        images: NDArray[Any] = archive["images"]
        labels: NDArray[Any] = archive["labels"]
    return images.astype(np.float64), labels.astype(np.int64)


def find(name: str) -> Path:
    """Find a data file under the folder that the environment variable NTKFAST_DATA names.

    Parameters
    ----------
    name : str
        A path under that folder (``"mnist/mnist.npz"``), or the name of a file in it or in one of
        its folders, with or without the ending (``"mnist"``).

    Returns
    -------
    pathlib.Path
        The file, which exists.

    Raises
    ------
    FileNotFoundError
        If NTKFAST_DATA is not set or names no folder, or the file is not there.
    ValueError
        If several files have this name.

    Examples
    --------
    >>> import os, pathlib, tempfile
    >>> from ntkfast import datasets
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     os.environ["NTKFAST_DATA"] = folder
    ...     pathlib.Path(folder, "points.csv").touch()
    ...     datasets.find("points").name
    'points.csv'
    """
    root = _root()
    if (root / name).is_file():
        return root / name
    files = sorted(path for path in root.rglob("*") if path.is_file())
    matches = [path for path in files if name in (path.name, path.stem)]
    if len(matches) == 1:
        return matches[0]
    if matches:
        found = ", ".join(str(path.relative_to(root)) for path in matches)
        raise ValueError(f"{name}: expected one file in {root}, got {found}")
    close = difflib.get_close_matches(name, {path.stem for path in files}, n=3)
    hint = f"; near it are {', '.join(close)}" if close else ""
    raise FileNotFoundError(f"{name}: no such file in {root} (NTKFAST_DATA){hint}")


def _root() -> Path:
    value = os.environ.get("NTKFAST_DATA")
    if not value:
        raise FileNotFoundError(
            "NTKFAST_DATA: expected this environment variable to name the folder with the data"
        )
    root = Path(value)
    if not root.is_dir():
        raise FileNotFoundError(f"NTKFAST_DATA: expected a folder, got {value}")
    return root
