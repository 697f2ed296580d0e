"""Writes the accuracy table of the README: every kernel, precision, engine and instruction set.

    python bench/accuracy.py                            # all kernels of tests/cases.py
    python bench/accuracy.py --cases fc3,erf2 --json accuracy.json

The inputs are the pairs of the tests, in 7 and in 100 dimensions: generic, orthogonal, zero,
duplicate, antipodal, multiples, near-duplicate, of very different norms.  The exact values come
from ``tests/oracle.py`` (100 digits, from the papers).  An entry ``a / b`` holds the largest error

- a: in units of eps sqrt(K(x,x) K(y,y)), the units in the last place of the largest value there;
- b: in units of eps (sqrt(K(x,x) K(y,y)) + condition), where the condition is the change of K for
  one unit of relative error in the inner products of the rows: what no algorithm that starts from
  rounded inner products can undercut by much.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ntkfast.engines import native
from ntkfast.engines.interface import load

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
import cases
import oracle

DIMENSIONS = (7, 100)
DTYPES = (np.float32, np.float64)


@dataclass(frozen=True)
class Exact:
    """Oracle values of one kernel on one set of pairs, with the two units of error."""

    rows: np.ndarray
    columns: np.ndarray
    values: np.ndarray
    scale: np.ndarray
    condition: np.ndarray

    def errors(self, computed: np.ndarray) -> tuple[float, float]:
        """Return the largest error in units of the scale, and of scale plus condition."""
        error = np.abs(oracle.error(computed, self.values)) / np.finfo(computed.dtype).eps
        plain = np.divide(error, self.scale, out=np.zeros_like(error), where=self.scale > 0)
        whole = self.scale + self.condition
        return float(plain.max()), float(
            np.divide(error, whole, out=np.zeros_like(error), where=whole > 0).max()
        )


def exact(case: cases.Case, dtype: Any, dimension: int) -> Exact:
    """Evaluate the oracle on the special pairs that a kernel defines."""
    x, y = cases.special_pairs(dtype, dimension, case.radius)
    kernel = case.oracle(dimension)
    return Exact(
        x,
        y,
        oracle.matrix(kernel, x, y),
        oracle.scales(kernel, x, y),
        oracle.conditions(kernel, x, y),
    )


def engines() -> dict[str, tuple[str, Callable[[], AbstractContextManager[Any]]]]:
    """Return every way of computing: its engine and the context that selects it."""
    ways: dict[str, tuple[str, Callable[[], AbstractContextManager[Any]]]] = {
        isa: ("native", lambda isa=isa: native.force_isa(isa)) for isa in native.available_isas()
    }
    return ways if load("numba").unavailable() else ways | {"numba": ("numba", nullcontext)}


def measure(case: cases.Case) -> Iterator[dict[str, Any]]:
    """Yield one record per precision and engine: the worst over the dimensions."""
    kernel = case.kernel
    for dtype in DTYPES:
        truths = [exact(case, dtype, dimension) for dimension in DIMENSIONS]
        for name, (engine, selected) in engines().items():
            with selected():
                found = [
                    truth.errors(kernel(truth.rows, truth.columns, engine=engine))
                    for truth in truths
                ]
            ulps, relative = (max(values) for values in zip(*found, strict=True))
            yield {
                "kernel": case.name,
                "dtype": np.dtype(dtype).name,
                "engine": name,
                "ulps": ulps,
                "over condition": relative,
            }


def markdown(records: Iterable[dict[str, Any]]) -> str:
    """Write records as one Markdown table, a row per kernel."""
    table: dict[str, dict[str, str]] = {}
    for record in records:
        column = f"{record['dtype']} {record['engine']}"
        entry = f"{record['ulps']:.1f} / {record['over condition']:.1f}"
        table.setdefault(record["kernel"], {})[column] = entry
    columns = list(dict.fromkeys(column for row in table.values() for column in row))
    lines = [["kernel", *columns], ["---"] * (len(columns) + 1)]
    for name, row in table.items():
        kernel = f"`{cases.BY_NAME[name].kernel!r}`"
        lines.append([kernel, *(row.get(column, "") for column in columns)])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    """Measure the chosen kernels and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", help="comma-separated names of tests/cases.py (default: all)")
    parser.add_argument("--json", type=Path, help="also write the records here")
    options = parser.parse_args()
    names = options.cases.split(",") if options.cases else list(cases.BY_NAME)
    unknown = [name for name in names if name not in cases.BY_NAME]
    if unknown:
        parser.error(f"--cases: expected some of {', '.join(cases.BY_NAME)}, got {unknown[0]}")
    records = []
    for name in names:
        print(name, end=" ", flush=True, file=sys.stderr)
        records += measure(cases.BY_NAME[name])
    print(file=sys.stderr)
    print(markdown(records))
    if options.json:
        options.json.write_text(json.dumps(records, indent=1) + "\n")


if __name__ == "__main__":
    main()
