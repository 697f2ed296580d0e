"""Largest errors of drawn networks over their bound, the table of docs/accuracy.md.

Run ``python bench/fuzz.py 2000``; the cases are those of tests/test_fuzz.py.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path

import hypothesis

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import test_fuzz


def main() -> None:
    """Print one row per activation: float32 and float64."""
    largest: dict[str, dict[str, float]] = defaultdict(lambda: {"float32": 0.0, "float64": 0.0})

    @hypothesis.settings(max_examples=int(sys.argv[1]), derandomize=True, deadline=None)
    @hypothesis.given(test_fuzz.cases())
    def collect(drawn: test_fuzz.Drawn) -> None:
        row, dtype = largest[drawn.name], str(drawn.x.dtype)
        row[dtype] = max(row[dtype], test_fuzz.share_of_bound(drawn))

    collect()
    print("| activation | float32 | float64 |\n|---|---|---|")
    for name, row in sorted(largest.items()):
        print(f"| {name} | {row['float32']:.2f} | {row['float64']:.2f} |")


if __name__ == "__main__":
    main()
