"""What this installation can do: versions, engines, instruction sets, threads."""

from __future__ import annotations

import platform
from collections.abc import Callable

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
        facts["instruction set in use"] = _or_reason(native.active_isa)
    facts["engine in use"] = _or_reason(_engine_in_use)
    facts["threads"] = _or_reason(engines.get_num_threads)
    return facts


def _engine_in_use() -> str:
    chosen = engines.select()
    return next(name for name in engines.NAMES if engines.load(name) is chosen)


def _or_reason(fact: Callable[[], object]) -> str:
    """Return a fact, or why there is none: the environment may ask for what is not here."""
    try:
        return str(fact())
    except (RuntimeError, ValueError) as error:
        return f"none; {error}"


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
