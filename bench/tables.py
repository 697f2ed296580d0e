"""Prints a run of the benchmark suite as Markdown tables.

    pytest bench --benchmark-only --benchmark-json run.json
    python bench/tables.py run.json                     # all tables
    python bench/tables.py run.json --tables gram,peers --quartiles
    python bench/tables.py one.json two.json            # runs with other threads: rows of one table

A column `a / b` is the median time of a over that of b, which took turns; with --quartiles those of
the ratio within a round follow. Below a table stand the goals that its rows miss.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Table:
    """Rows by their keys, each a mapping from column to text, and goals that were missed."""

    rows: dict[tuple[tuple[str, str], ...], dict[str, str]] = field(default_factory=dict)
    missed: list[str] = field(default_factory=list)

    def markdown(self) -> str:
        """Write it out; every row may have columns of its own."""
        columns = list(dict.fromkeys(name for row in self.rows.values() for name in row))
        lines = [columns, ["---"] * len(columns)]
        lines += [[row.get(name, "") for name in columns] for row in self.rows.values()]
        text = ["| " + " | ".join(line) + " |" for line in lines]
        return "\n".join([*text, *(["", "Goals missed:", *self.missed] if self.missed else [])])


def cell(value: Any) -> str:
    """Write a number with three digits."""
    if not isinstance(value, float):
        return str(value)
    return f"{value:.0f}" if 1000 <= abs(value) < 1e7 else f"{value:.3g}"


def tables(runs: Iterable[Mapping[str, Any]], quartiles: bool = False) -> dict[str, Table]:
    """Gather the benchmarks of some runs, of which the first with a cell keeps it."""
    runs, found = list(runs), dict[str, Table]()
    several = len({run["machine_info"]["threads"] for run in runs}) > 1
    for run in runs:
        for info in (benchmark["extra_info"] for benchmark in run["benchmarks"]):
            keys = {name: str(value) for name, value in info["row"].items()}
            if several:
                keys["threads"] = str(run["machine_info"]["threads"])
            table = found.setdefault(info["table"], Table())
            row = table.rows.setdefault(tuple(keys.items()), dict(keys))
            for name, value in info["cells"].items():
                text = cell(value)
                if quartiles and name in info["spread"]:
                    text += " ({} - {})".format(*map(cell, info["spread"][name]))
                row.setdefault(name, text)
            table.missed += [f"- {', '.join(keys.values())}: {goal}" for goal in info["missed"]]
    return found


def main() -> None:
    """Print the tables of some files."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="+", type=Path, help="saved by --benchmark-json")
    parser.add_argument("--tables", help="comma-separated names (default: all)")
    parser.add_argument("--quartiles", action="store_true", help="of the ratios within a round")
    options = parser.parse_args()
    runs = [json.loads(file.read_text()) for file in options.files]
    found = tables(runs, options.quartiles)
    names = options.tables.split(",") if options.tables else list(found)
    if unknown := [name for name in names if name not in found]:
        parser.error(f"--tables: expected some of {', '.join(found)}, got {unknown[0]}")
    for run in runs:
        facts = {**run["machine_info"], "load average": run.get("load average"),
                 "commit": run["commit_info"].get("id"), "date": run["datetime"][:16]}  # fmt: skip
        print(*(f"- {name}: {value}" for name, value in facts.items()), sep="\n")
    for name in names:
        print(f"\n### {name}\n\n{found[name].markdown()}")


if __name__ == "__main__":
    main()
