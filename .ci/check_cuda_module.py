"""Checks a built ntkfast._cuda: machine code, PTX, the libraries it needs, the symbols it exports.

With machine code for sm_90 also what its kernels cost, see cuda_code.py; --costs prints that.

    python .ci/check_cuda_module.py --real 75,80,86,89,90,100,120 --ptx 120 path/to/_cuda*.so

Needs nm, readelf and c++filt (binutils), cuobjdump and nvdisasm: on the path, of the CUDA toolkit,
or of the packages nvidia-cuda-cuobjdump and nvidia-cuda-nvdisasm of the package index.
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

import cuda_code

# The CUDA runtime is linked statically, and finds the driver when it is first asked for it.
SYSTEM = re.compile(r"(libstdc\+\+|libm|libgcc_s|libc|libpthread|libdl|librt|ld-linux[-\w]*)\.so")


def tools() -> str:
    """Return the path on which programs for device code are looked for."""
    folders = [
        os.environ.get("PATH", ""),
        os.path.join(os.environ.get("CUDA_HOME", "/usr/local/cuda"), "bin"),
    ]
    spec = importlib.util.find_spec("nvidia")
    for place in (spec.submodule_search_locations if spec else None) or ():
        folders += map(str, Path(place).glob("*/bin"))
    return os.pathsep.join(folders)


def output(program: str, *arguments: str, given: str | None = None) -> str:
    """Return what a program prints."""
    path = tools()
    found = shutil.which(program, path=path)
    if found is None:
        sys.exit(f"no {program}: see the first lines of {__file__}")
    environment = {**os.environ, "PATH": path}  # cuobjdump itself calls nvdisasm
    return subprocess.run(
        (found, *arguments),
        check=True,
        capture_output=True,
        text=True,
        input=given,
        env=environment,
    ).stdout


def architectures(module: str, kind: str) -> Counter[str]:
    """Return how many pieces of a kind, ``elf`` or ``ptx``, there are for each architecture."""
    suffix = {"elf": "cubin", "ptx": "ptx"}[kind]
    listed = output("cuobjdump", f"--list-{kind}", module)
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


def costs(module: str) -> tuple[list[str], list[str]]:
    """Return what the kernels of a module cost on sm_90, and where that is too much."""
    code = cuda_code.kernels(output("cuobjdump", "-sass", "-arch", "sm_90", module))
    usage = output("cuobjdump", "-res-usage", "-arch", "sm_90", module)
    registers = dict(cuda_code.USAGE.findall(usage))
    plain = output("c++filt", given="\n".join(code)).splitlines()
    listed, found = [], []
    for mangled, name in zip(code, plain, strict=True):
        short = re.sub(r"\(anonymous namespace\)::|ntkfast::|^void ", "", name)
        short = re.sub(r"\(\w+(<\w+>)?\)$", "", short)
        kernel = cuda_code.measure(
            code[mangled], int(registers[mangled]), cuda_code.budget_of(short)
        )
        listed.append(f"{short}: {kernel}")
        found += [f"{short}: {fault}" for fault in kernel.faults()]
    return sorted(listed), found


def main() -> None:
    """Check one module, and print what it holds."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("module")
    parser.add_argument("--real", default="75,80,86,89,90,100,120", help="machine code")
    parser.add_argument("--ptx", default="120", help="PTX")
    parser.add_argument("--costs", action="store_true", help="print what kernels cost on sm_90")
    options = parser.parse_args()
    real, ptx = (set(text.split(",")) for text in (options.real, options.ptx))
    found = faults(options.module, real, ptx)
    if "90" in real:
        listed, expensive = costs(options.module)
        found += expensive
        if options.costs:
            print("\n".join(listed))
    if found:
        sys.exit("\n".join([options.module, *found]))
    size = Path(options.module).stat().st_size / 1e6
    print(
        f"machine code for {options.real}, PTX for {options.ptx}, {size:.1f} MB, nothing exported"
    )


if __name__ == "__main__":
    main()
