"""Networks that a Python file states: ``--network-file net.py:name``."""

from __future__ import annotations

import runpy
import traceback
from pathlib import Path
from typing import Any

from ntkfast.kernels import Kernel
from ntkfast.networks import Network
from ntkfast.support.telling import did_you_mean

FLAG = "--network-file"


def load(text: str) -> Network | Kernel:
    """Run a file and return the network or kernel of this name in it.

    Parameters
    ----------
    text : str
        ``net.py:name``.

    Raises
    ------
    FileNotFoundError, ValueError, TypeError
        If there is no such file or name, if the file raises an error, or if the name stands for
        something else.
    """
    file, colon, name = text.rpartition(":")
    path = Path(file)
    if not colon or path.suffix != ".py" or not name.isidentifier():
        raise ValueError(f"{FLAG}: expected FILE.py:NAME, got {text}")
    if not path.is_file():
        raise FileNotFoundError(f"{file}: no such file (for {FLAG})")
    try:
        found = runpy.run_path(str(path), run_name="network_file")
    except (Exception, SystemExit) as error:
        frames = traceback.extract_tb(error.__traceback__)
        places = [frame.lineno for frame in frames if frame.filename == str(path)]
        line = getattr(error, "lineno", None) or (places[-1] if places else None)
        where = file if line is None else f"{file}, line {line}"
        raise ValueError(f"{where}: {type(error).__name__}: {error} (for {FLAG})") from error
    known = [key for key, value in found.items() if isinstance(value, (Network, Kernel))]
    if name not in found:
        names = ", ".join(known) or "none"
        raise ValueError(
            f"{FLAG}: {file} has no {name}; its networks and kernels are: {names}"
            f"{did_you_mean(name, known)}"
        )
    value: Any = found[name]
    if not isinstance(value, (Network, Kernel)):
        raise TypeError(
            f"{FLAG}: expected {name} in {file} to be a network or a kernel of ntkfast, got "
            f"{type(value).__name__}"
        )
    return value
