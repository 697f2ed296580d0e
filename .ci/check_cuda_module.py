"""Checks a built ntkfast._cuda: machine code, PTX, the libraries it needs, the symbols it exports.

    python .ci/check_cuda_module.py --real 75,80,86,89,90,100,120 --ptx 120 path/to/_cuda*.so

Needs nm and readelf (binutils) and cuobjdump: on the path, of the CUDA toolkit, or of the package
nvidia-cuda-cuobjdump of the package index.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

# The CUDA runtime is linked statically, and finds the driver when it is first asked for it.
SYSTEM = re.compile(r"(libstdc\+\+|libm|libgcc_s|libc|libpthread|libdl|librt|ld-linux[-\w]*)\.so")


def cuobjdump() -> str:
    """Return the program that lists what a binary holds for devices."""
    folders = [os.path.join(os.environ.get("CUDA_HOME", "/usr/local/cuda"), "bin")]
    spec = importlib.util.find_spec("nvidia")
    for place in (spec.submodule_search_locations if spec else None) or ():
        folders += map(str, Path(place).glob("*/bin"))
    found = shutil.which("cuobjdump") or shutil.which("cuobjdump", path=os.pathsep.join(folders))
    if found is None:
        sys.exit("no cuobjdump: pip install nvidia-cuda-cuobjdump")
    return found


def output(*command: str) -> str:
    """Return what a command prints."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def architectures(module: str, kind: str) -> Counter[str]:
    """Return how many pieces of a kind, ``elf`` or ``ptx``, there are for each architecture."""
    suffix = {"elf": "cubin", "ptx": "ptx"}[kind]
    listed = output(cuobjdump(), f"--list-{kind}", module)
    return Counter(re.findall(rf"\.sm_(\d+[af]?)\.{suffix}$", listed, re.MULTILINE))


def faults(module: str, real: set[str], ptx: set[str]) -> list[str]:
    """Return what is wrong with a module."""
    found = []
    pieces = {"elf": architectures(module, "elf"), "ptx": architectures(module, "ptx")}
    for kind, wanted in (("elf", real), ("ptx", ptx)):
        if set(pieces[kind]) != wanted:
            found.append(f"{kind}: expected {sorted(wanted)}, found {sorted(pieces[kind])}")
    if len({*pieces["elf"].values(), *pieces["ptx"].values()}) != 1:  # all sources for all
        found.append(f"pieces: expected as many for all architectures, found {pieces}")
    needed = re.findall(r"\(NEEDED\).*\[(.*)\]", output("readelf", "-d", module))
    if others := [name for name in needed if not SYSTEM.match(name)]:
        found.append(f"libraries: needs {', '.join(others)}")
    table = output("nm", "--dynamic", "--defined-only", "--extern-only", module)
    exported = [line.split()[-1] for line in table.splitlines()]
    if exported != ["PyInit__cuda"]:
        found.append(f"symbols: expected PyInit__cuda alone, found {', '.join(exported[:5])}")
    return found


def main() -> None:
    """Check one module, and print what it holds."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("module")
    parser.add_argument("--real", default="75,80,86,89,90,100,120", help="machine code")
    parser.add_argument("--ptx", default="120", help="PTX")
    options = parser.parse_args()
    real, ptx = (set(text.split(",")) for text in (options.real, options.ptx))
    if found := faults(options.module, real, ptx):
        sys.exit("\n".join([options.module, *found]))
    size = Path(options.module).stat().st_size / 1e6
    print(
        f"machine code for {options.real}, PTX for {options.ptx}, {size:.1f} MB, nothing exported"
    )


if __name__ == "__main__":
    main()
