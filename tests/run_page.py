"""Runs the code of a page of the documentation as a reader would: ``python run_page.py PAGE``.

Blocks run in order, in one namespace and the current folder: ``python``, ``pycon``, whose output is
compared, and lines of ``sh`` that call ntkfast. Exit status 1: a block fails; 77: blocks that need
a package or a device that is not there are left out, and the others have passed.
"""

from __future__ import annotations

import doctest
import importlib.util
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SKIPPED = 77
OF_A_READER = "python", "pycon", "sh"
# What an import, or a name of this package, needs beyond its own dependencies.
NEEDS = {
    "dask": r"^(?:>>> )?import dask",
    "gpytorch": r"^(?:>>> )?import gpytorch",
    "h5py": r"\.h5\b",
    "jax": r"^(?:>>> )?import jax",
    "matplotlib": r"\bnf\.plot\.|\.png\b|\bplt\.|ntkfast demo",
    "sklearn": r"\bnf\.(?:features|regression)\b|^(?:>>> )?from (?:sklearn|ntkfast\.\w+) import|"
    r"ntkfast (?:fit|predict|demo)",
    "torch": r"^(?:>>> )?import torch|\btorch\.|\bnf\.torch\b",
    "zarr": r"\.zarr\b",
}
DEVICE = re.compile(r"""device="cuda"|engine="cuda"|cuda\.(?:device|precision)|#.* on the device""")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page: its language, its first line in the file, its text."""

    language: str
    line: int
    text: str

    def missing(self) -> str:
        """Say what of its needs is not there, or nothing."""
        for package, pattern in NEEDS.items():
            if re.search(pattern, self.text, re.MULTILINE):
                if importlib.util.find_spec(package) is None:
                    return f"{package} is not installed"
        return _no_device() if DEVICE.search(self.text) else ""


def blocks(page: Path) -> Iterator[Block]:
    """Yield the blocks that a reader would run."""
    text = page.read_text(encoding="utf-8")
    for match in re.finditer(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        if match[1] in OF_A_READER:
            yield Block(match[1], text.count("\n", 0, match.start(2)) + 1, match[2])


def commands(block: Block) -> Iterator[list[str]]:
    """Yield the commands of this package; others install, build or test, which other tests do."""
    for line in block.text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] == ["ntkfast"] and not words[-1].endswith("..."):
            yield words[1:]


def run(page: Path) -> int:
    """Run a page; the exit status."""
    names: dict[str, Any] = {"__name__": "__main__"}
    left_out = 0
    for block in blocks(page):
        place = f"{page}:{block.line}"
        if missing := block.missing():
            print(f"{place}: {missing}")
            left_out = SKIPPED
        elif block.language == "sh":
            for words in commands(block):
                subprocess.run([sys.executable, "-m", "ntkfast", *words], check=True)
        elif block.language == "python":
            exec(compile("\n" * (block.line - 1) + block.text, str(page), "exec"), names)
        else:
            parser = doctest.DocTestParser()
            test = parser.get_doctest(block.text, {}, place, str(page), block.line - 1)
            test.globs = names
            if doctest.DocTestRunner().run(test, clear_globs=False).failed:
                return 1
    return left_out


def _no_device() -> str:
    from ntkfast.engines import cuda

    reason = cuda.unavailable()
    return f"there is no CUDA device: {reason}" if reason else ""


if __name__ == "__main__":
    sys.exit(run(Path(sys.argv[1]).resolve()))
