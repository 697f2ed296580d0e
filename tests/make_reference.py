"""Writes tests/data/kernel_values.json: 30-digit profile values from the oracle, compact and exact.

Run ``python tests/make_reference.py`` after a change of the oracle; ``--check`` only compares.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from mpmath import mp, mpf

import oracle

PATH = Path(__file__).parent / "data" / "kernel_values.json"
DIGITS = 30

# (kind of input, exact input): u = cos(theta), or its distance from one end.
INPUTS = [
    *(("u", f"{k}/16") for k in (-16, -11, -5, 0, 3, 8, 13, 16)),
    *(("1-u", f"2^-{k}") for k in (6, 20, 40, 53, 100)),
    *(("1+u", f"2^-{k}") for k in (6, 20, 50)),
]

SPECS: list[dict] = [
    {"name": "ntk", "L": 1},
    {"name": "ntk", "L": 4},
    {"name": "ntk", "L": 20},
    {"name": "ntk", "L": 200},
    {"name": "nngp", "L": 2},
    {"name": "nngp", "L": 50},
    {"name": "ntk", "L": 2, "beta": 0.75},
    {"name": "ntk", "L": 6, "beta": 0.25},
    {"name": "resntk", "L": 2, "alpha": 0.75},
    {"name": "resntk", "L": 6, "alpha": 0.25},
    {"name": "resntk", "L": 40, "alpha": 1.0},
    {"name": "laplace", "c": 2.0},
    {"name": "laplace", "c": 30.0},
]


def angle(kind: str, text: str) -> mpf:
    """Angle of an input of the file, without cancellation."""
    if kind == "u":
        top, bottom = text.split("/")
        return mp.acos(mpf(int(top)) / int(bottom))
    defect = mpf(2) ** int(text.split("^")[1])
    theta = 2 * mp.asin(mp.sqrt(defect / 2))
    return theta if kind == "1-u" else mp.pi - theta


def kernel(spec: dict) -> oracle.Kernel:
    """Oracle kernel of a record; alpha and c are decimal numbers."""
    if spec["name"] in ("ntk", "nngp"):
        return oracle.fully_connected(spec["L"], which=spec["name"], bias=spec.get("beta", 0))
    if spec["name"] == "resntk":
        return oracle.resnet(spec["L"], mpf(str(spec["alpha"])), normalize=True)
    # the rate multiplies sqrt(1 - u) = |x - y|/sqrt(2)
    return oracle.radial(lambda r: mp.exp(-mpf(str(spec["c"])) * r / mp.sqrt(2)), "sphere")


def label(spec: dict) -> str:
    """Short name of a record."""
    return "_".join(str(value) for value in spec.values())


def record(spec: dict, inputs: list[tuple[str, str]] = INPUTS) -> dict:
    """One kernel at all inputs: [kind, input, k(u), 1 - k(u)/k(1)]."""
    with mp.workdps(oracle.DIGITS):
        exact = kernel(spec)
        top = exact.profile(mpf(0))
        values = []
        for kind, text in inputs:
            value = exact.profile(angle(kind, text))
            defect = 1 - value / top
            values.append([kind, text, mp.nstr(value, DIGITS), mp.nstr(defect, DIGITS)])
        return {
            "label": label(spec),
            "spec": spec,
            "kappa1": mp.nstr(top, DIGITS),
            "values": values,
        }


def agrees(stored: dict, inputs: list[tuple[str, str]]) -> bool:
    """Whether a stored record still equals the oracle at some of its inputs."""
    fresh = record(stored["spec"], inputs)
    rows = {(kind, text): numbers for kind, text, *numbers in stored["values"]}
    return fresh["kappa1"] == stored["kappa1"] and all(
        rows[kind, text] == numbers for kind, text, *numbers in fresh["values"]
    )


def main(arguments: list[str] | None = None) -> int:
    """Write the file, or compare it with the oracle."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    if parser.parse_args(arguments).check:
        stored = json.loads(PATH.read_text())["records"]
        wrong = [entry["label"] for entry in stored if not agrees(entry, INPUTS)]
        print("differs: " + ", ".join(wrong) if wrong else "all records agree")
        return bool(wrong)
    document = {
        "columns": ["input kind", "input (exact)", "kappa(u)", "1-kappa(u)/kappa(1)"],
        "records": [record(spec) for spec in SPECS],
    }
    text = json.dumps(document)
    for mark in ('{"label"', '["u"', '["1-u"', '["1+u"'):
        text = text.replace(f", {mark}", f",\n{mark}")
    PATH.write_text(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
