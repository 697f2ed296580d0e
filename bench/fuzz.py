"""Largest errors of drawn networks over their bound, the tables of docs/accuracy.md.

Run ``python bench/fuzz.py 2000 rows``, or sequences or images, or functions: those that have a name
but no closed form and no kink, with averages in 42 digits. The cases are those of
tests/test_fuzz.py, test_fuzz_sequences.py and test_fuzz_images.py.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import hypothesis

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import named_oracle
import test_fuzz
import test_fuzz_images
import test_fuzz_sequences

FUZZERS: dict[str, Any] = {
    "rows": test_fuzz,
    "functions": test_fuzz,
    "sequences": test_fuzz_sequences,
    "images": test_fuzz_images,
}


def main() -> None:
    """Print one row per activation, or per class of networks: float32 and float64."""
    fuzzer = FUZZERS[sys.argv[2]]
    names = {"names": tuple(named_oracle.STRIPS)} if sys.argv[2] == "functions" else {}
    largest: dict[str, dict[str, float]] = defaultdict(lambda: {"float32": 0.0, "float64": 0.0})

    @hypothesis.settings(max_examples=int(sys.argv[1]), derandomize=True, deadline=None)
    @hypothesis.given(fuzzer.cases(**names))
    def collect(drawn: Any) -> None:
        row = largest[getattr(drawn, "name", type(drawn.network).__name__)]
        dtype = str(drawn.x.dtype)
        row[dtype] = max(row[dtype], fuzzer.share_of_bound(drawn))

    collect()
    print("| activation | float32 | float64 |\n|---|---|---|")
    for name, row in sorted(largest.items()):
        print(f"| {name} | {row['float32']:.2f} | {row['float64']:.2f} |")


if __name__ == "__main__":
    main()
