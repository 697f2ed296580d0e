"""Writes tests/data/mercer.json: a small part of a directory of 50-digit sphere eigenvalues.

    NTKFAST_REFERENCE=directory python tests/make_mercer_reference.py

The directory holds ``eig_d*.json`` (composite Gauss-Legendre quadrature in 100-digit arithmetic)
and ``eig_tail_large_k.json`` (end-point series in 90-digit arithmetic).
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from mpmath import mp, mpf

PATH = Path(__file__).parent / "data" / "mercer.json"
DIGITS = 25
LABELS = (
    "ntk_L1",
    "ntk_L3",
    "nngp_L5",
    "ntk_L10_b1",
    "resntk_L10_a0.1",
    "laplace_c1",
    "laplace_c50",
)
DIMENSIONS = (2, 3, 10, 100, 1000)
DEGREES = (0, 1, 2, 3, 8, 9, 33, 64, 200, 1001, 1000000, 1000001)


def main() -> None:
    """Copy the chosen records with 25 digits."""
    directory = Path(os.environ["NTKFAST_REFERENCE"])
    names = [f"eig_d{d}.json" for d in DIMENSIONS] + ["eig_tail_large_k.json"]
    records = []
    for name in names:
        for record in json.loads((directory / name).read_text())["records"]:
            if record["label"] in LABELS and record["d"] in DIMENSIONS:
                values = [[row[0], short(row[2])] for row in record["values"] if row[0] in DEGREES]
                if values:
                    records.append(
                        {"label": record["label"], "spec": record["spec"], "d": record["d"]}
                        | {"values": values}
                    )
    lines = ",\n".join(json.dumps(record) for record in records)
    PATH.write_text(f'{{"columns": ["k", "N(d,k) mu_k"], "records": [\n{lines}\n]}}\n')


def short(text: str) -> str:
    """Round to 25 digits."""
    with mp.workdps(60):
        return mp.nstr(mpf(text), DIGITS)


if __name__ == "__main__":
    main()
