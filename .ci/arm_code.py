"""Whether the tile loop for ARM keeps its sums in registers, from the disassembly of an object.

Usage: ``arm_code.py OBJECT``. The loop over the inner dimension of a product, in which most of the
time goes, has to multiply and add in NEON registers and must keep none of them on the stack.
"""

from __future__ import annotations

import re
import subprocess
import sys

FUNCTION = re.compile(r"^[0-9a-f]+ <(.*)>:$")
LINE = re.compile(r"^\s*([0-9a-f]+):\s+(\S+)\s*(.*)$")
MULTIPLY_ADD = re.compile(r"v\d+\.(?:4s|2d), v\d+\.(?:4s|2d), v\d+\.[sd]\[")
SPILL = re.compile(r"^[qds]\d+,.*\[sp")
SUMS = 18  # of a register tile: kRows * kVecs of csrc/cpu/product.hpp
MOST = 32  # instructions of the loop; there are 30


def loops(lines: list[str]) -> list[list[tuple[str, str]]]:
    """Return the instructions of each innermost loop: between a jump back and its target."""
    code = [found.groups() for found in map(LINE.match, lines) if found]
    place = {address: index for index, (address, _, _) in enumerate(code)}
    jump = re.compile(r"\b([0-9a-f]+) <")
    found: list[tuple[int, int]] = []
    for index, (_, name, arguments) in enumerate(code):
        target = jump.search(arguments) if name.startswith(("b.", "cb", "tb")) else None
        first = place.get(target[1]) if target else None
        if first is not None and first <= index:
            found.append((first, index))
    inner = [
        (a, b)
        for a, b in found
        if not any((c, d) != (a, b) and a <= c and d <= b for c, d in found)
    ]
    return [[(name, arguments) for _, name, arguments in code[a : b + 1]] for a, b in inner]


def main() -> None:
    """Look at all loops that multiply and add."""
    command = ["aarch64-linux-gnu-objdump", "-dC", "--no-show-raw-insn", sys.argv[1]]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    bodies: dict[str, list[str]] = {}
    for line in text.splitlines():
        if start := FUNCTION.match(line):
            body = bodies.setdefault(start[1], [])
        elif bodies:
            body.append(line)
    seen = 0
    for name, body in bodies.items():
        for loop in loops(body):
            sums = sum(op == "fmla" and bool(MULTIPLY_ADD.search(rest)) for op, rest in loop)
            if sums < SUMS:
                continue
            seen += 1
            spilled = sum(bool(SPILL.search(rest)) for _, rest in loop)
            if sums != SUMS or spilled or len(loop) > MOST:
                sys.exit(
                    f"{name}: {sums} multiply-adds in {len(loop)} instructions, {spilled} on "
                    f"the stack; expected {SUMS} in at most {MOST}, and none there"
                )
    if not seen:
        sys.exit(f"no loop with {SUMS} multiply-adds of NEON was found")
    print(f"{seen} loops of {SUMS} multiply-adds, all of them in registers")


if __name__ == "__main__":
    main()
