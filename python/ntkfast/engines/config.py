"""What this installation can do: versions, engines, instruction sets, threads."""

from __future__ import annotations

import platform

from ntkfast import engines
from ntkfast._version import __version__
from ntkfast.engines import native


def config() -> dict[str, str]:
    """Return the facts that `show_config` prints, by name."""
    facts = {
        "ntkfast": __version__,
        "python": f"{platform.python_version()} on {platform.system()} {platform.machine()}",
        "numpy": _version("numpy"),
        "scipy": _version("scipy"),
        "numba": _version("numba"),
    }
    for name in engines.NAMES:
        facts[f"engine {name}"] = engines.load(name).unavailable() or "available"
    if not native.unavailable():
        facts["instruction sets"] = ", ".join(
            name if name in native.available_isas() else f"{name} (not on this processor)"
            for name in native.compiled_isas()
        )
        facts["instruction set in use"] = native.active_isa()
    facts["threads"] = str(engines.get_num_threads())
    return facts


def _version(package: str) -> str:
    from importlib.metadata import PackageNotFoundError, version  # slow to import

    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def show_config() -> None:
    """Print version, engines, instruction sets and threads of this installation.

    Examples
    --------
    >>> import ntkfast as nf
    >>> nf.show_config()  # doctest: +ELLIPSIS
    ntkfast ...
    """
    facts = config()
    width = max(map(len, facts))
    for name, fact in facts.items():
        print(f"{name:<{width}}  {fact}")
