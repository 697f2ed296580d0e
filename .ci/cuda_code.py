"""What the machine code of a CUDA module says about its cost, and the budgets it has to keep.

A function is cut into blocks of instructions, which are entered at their first and left at their
last one. The cost of a pair is that of the shortest way round the loop that maps pairs: what is
seldom taken, as the way of close pairs, lies beside it.
"""

from __future__ import annotations

import heapq
import re
from dataclasses import dataclass, field
from functools import cached_property

LINE = re.compile(
    r"^\s+/\*([0-9a-f]{4,})\*/\s+(@!?U?P\w+\s+)?([A-Z][\w.]*)\s*(.*?)\s*;", re.MULTILINE
)
TOGETHER = 4  # pairs that a thread maps at once: kTogether of profile_tiles.hpp
USAGE = re.compile(r"Function (\S+):\s+REG:(\d+)")
ROOT = re.compile(r"MUFU\.(SQRT|RSQ)")  # every profile takes one of each pair
GENERIC, LOCAL = re.compile(r"(LD|ST|ATOM)(\.|$)"), re.compile(r"(LDL|STL)(\.|$)")


@dataclass(frozen=True)
class Budget:
    """What kernels may cost: the first that matches the name of a kernel counts."""

    kernel: str
    registers: int  # 128: two blocks of 256 threads on a multiprocessor
    local: int = 0  # accesses to local memory: spills, and what networks with branches save
    inner: int = 0  # of these in innermost loops
    generic: int = 0  # accesses in these that do not say which memory they are to
    pair: int | None = None  # instructions
    store: str = ""  # of the pairs
    turns: int = 0  # of the loop over quads of coefficients, for degree 7 and 15


BUDGETS = (
    # Tiles of TF32 of 128 x 128 keep some addresses there, once for each tile.
    Budget(r"profile_tiles<Mma<float, 128, 128, ", 128, 46, pair=60, store=r"STG\.E\.128", turns=1),
    Budget(r"times_v<Mma<float, 128, 128, .* true", 128, 19, pair=60, store=r"STS\.128", turns=1),
    Budget(r"profile_tiles<.* float>", 128, pair=60, store=r"STG\.E\.128", turns=1),
    Budget(r"profile_tiles<.* double>", 128, pair=110, store=r"STG\.E\.128", turns=7),
    Budget(r"profile_panel<", 128, pair=60, store=r"STG\.E\.128", turns=1),
    Budget(r"times_v<.* true, float>", 128, pair=60, store=r"STS\.128", turns=1),
    Budget(r"times_v<.* true, double>", 128, pair=110, store=r"STS\.128", turns=7),
    Budget(r"(gram_tiles|times_v|map_panel)<", 128, local=160),  # maps of layers
    Budget(r"(pull|push|weighed_sums)<.*, float>", 144, local=300, inner=112),
    Budget(r"(pull|push|weighed_sums)<.*, double>", 216, local=340, inner=116),
    Budget(r"(image_pairs|prepare_images)<\w+, true>", 168, local=250, inner=8, generic=43),
    Budget(r"(image_pairs|prepare_images)<", 168, local=250, inner=8, generic=76),
    Budget(r"sequence_tiles<", 128, local=8),
    Budget(r"numbers_of_layers<", 64, local=8),  # networks with branches save
    Budget(r"", 128),
)


@dataclass(frozen=True)
class Instruction:
    """One line of the disassembly."""

    address: int
    guarded: bool  # it may be skipped
    name: str
    operands: str

    @property
    def target(self) -> int | None:
        """Where a branch leads."""
        found = re.search(r"0x([0-9a-f]+)$", self.operands)
        return int(found[1], 16) if self.name.startswith("BRA") and found else None


@dataclass
class Block:
    """Instructions without a branch between them, and the blocks that may follow."""

    instructions: list[Instruction]
    after: list[int] = field(default_factory=list)

    def count(self, pattern: re.Pattern[str] | str) -> int:
        """Count the instructions that match."""
        return sum(bool(re.match(pattern, i.name)) for i in self.instructions)


class Code:
    """The machine code of a kernel."""

    def __init__(self, text: str) -> None:
        self.instructions = [
            Instruction(int(address, 16), bool(guard), name, operands)
            for address, guard, name, operands in LINE.findall(text)
            if name != "NOP"
        ]

    @cached_property
    def blocks(self) -> dict[int, Block]:
        """The blocks by the address of their first instruction."""
        starts = {i.target for i in self.instructions}
        blocks: dict[int, Block] = {}
        now: list[Instruction] = []
        for i in self.instructions:
            if now and i.address in starts:
                blocks[now[0].address] = Block(now, [i.address])
                now = []
            now.append(i)
            if i.name.split(".")[0] in ("BRA", "EXIT", "RET", "BRX", "JMP"):
                after = [i.target] if i.target is not None else []
                # A branch for lanes that are apart goes on as well.
                goes_on = [i.address + 16] if i.guarded or i.name.startswith("BRA.DIV") else []
                blocks[now[0].address] = Block(now, after + goes_on)
                now = []
        return blocks

    @property
    def inner_loops(self) -> list[Block]:
        """The blocks that lead to themselves."""
        return [block for start, block in self.blocks.items() if start in block.after]

    def way_round(self, store: str, turns: int) -> int | None:
        """Count the instructions of the shortest way from a root to itself.

        It leads through a store and an inner loop, which runs ``turns`` times.
        """
        starts = [start for start, block in self.blocks.items() if block.count(ROOT)]
        lengths = [self._back_to(start, store, turns) for start in starts]
        return min((length for length in lengths if length is not None), default=None)

    def _back_to(self, first: int, store: str, turns: int) -> int | None:
        queue, seen = [(0, first, False, False)], set()
        while queue:
            length, at, looped, stored = heapq.heappop(queue)
            if at == first and looped and stored:
                return length
            block, loop = self.blocks[at], at in self.blocks[at].after
            length += len(block.instructions) * (turns if loop else 1)
            looped, stored = looped or loop, stored or block.count(store) > 0
            for after in block.after:
                state = (after, looped, stored)
                if after in self.blocks and state not in seen:
                    seen.add(state)
                    heapq.heappush(queue, (length, *state))
        return None


def kernels(disassembly: str) -> dict[str, Code]:
    """Return the code of every kernel by its name."""
    parts = re.split(r"^\s*Function : (\S+)$", disassembly, flags=re.MULTILINE)
    return {name: Code(text) for name, text in zip(parts[1::2], parts[2::2], strict=True)}


@dataclass(frozen=True)
class Cost:
    """What a kernel costs, and what it may."""

    budget: Budget
    registers: int
    local: int
    inner: int
    generic: int
    way: int | None  # instructions of TOGETHER pairs

    def __str__(self) -> str:
        pair = f", {self.way / TOGETHER:.0f} instructions a pair" if self.way else ""
        return (
            f"{self.registers} registers, {self.local} local ({self.inner} in inner loops), "
            f"{self.generic} generic in inner loops{pair}"
        )

    def faults(self) -> list[str]:
        """Return where it is beyond its budget."""
        may = self.budget
        counts = [
            ("registers", self.registers, may.registers),
            ("accesses to local memory", self.local, may.local),
            ("accesses to local memory in inner loops", self.inner, may.inner),
            ("generic accesses in inner loops", self.generic, may.generic),
        ]
        found = [f"{n} {what}, at most {most}" for what, n, most in counts if n > most]
        if may.pair is not None and self.way is None:
            found.append(f"no loop with {may.store}")
        elif may.pair is not None and self.way is not None and self.way > TOGETHER * may.pair:
            found.append(f"{self.way / TOGETHER} instructions a pair, at most {may.pair}")
        return found


def budget_of(name: str) -> Budget:
    """Return what a kernel may cost."""
    return next(budget for budget in BUDGETS if re.match(budget.kernel, name))


def measure(code: Code, registers: int, budget: Budget) -> Cost:
    """Return what a kernel costs."""
    inner = code.inner_loops
    return Cost(
        budget,
        registers,
        sum(block.count(LOCAL) for block in code.blocks.values()),
        sum(block.count(LOCAL) for block in inner),
        sum(block.count(GENERIC) for block in inner),
        code.way_round(budget.store, budget.turns) if budget.pair is not None else None,
    )
