"""Every example runs and draws its picture."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("matplotlib")

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))
# The dearest run on a part of their grid; what they do with it is the same.
PARTS = {
    "bayesian_optimisation": ["--runs", "1", "--steps", "2"],
    "cheng_xie_power": ["--runs", "12"],
    "distilled_digits": ["--steps", "4", "--rows", "300"],
    "feature_machine": ["--rows", "60"],
    "huang_depth": ["--seeds", "1", "--steps", "400"],
    "huang_orthogonal": ["--largest", "7"],
    "huang_training": ["--largest", "7", "--seeds", "2"],
    "karhadkar_separation": ["--largest", "200"],
    "price_tanner_growth": ["--width", "64", "--draws", "4"],
}


@pytest.mark.slow
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example(example: Path, tmp_path: Path) -> None:
    if "import torch" in example.read_text():
        pytest.importorskip("torch")
    picture = tmp_path / "picture.png"
    done = subprocess.run(
        [sys.executable, str(example), "--out", str(picture), *PARTS.get(example.stem, [])],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "MPLBACKEND": "agg"},
    )
    assert done.returncode == 0, done.stderr
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.name in done.stdout


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 4
