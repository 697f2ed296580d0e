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
    "additive_kernels": ["--largest", "400"],
    "bayesian_optimisation": ["--runs", "1", "--steps", "2"],
    "belfer_spectra": ["--depths", "1", "10"],
    "bombari_memorisation": ["--steps", "100"],
    "bombari_smallest": ["--largest", "10000", "--repeats", "1"],
    "cheng_xie_mnist": ["--runs", "3"],
    "cheng_xie_power": ["--runs", "4"],
    "distilled_digits": ["--steps", "4", "--rows", "300"],
    "feature_machine": ["--rows", "60"],
    "huang_depth": ["--depths", "12", "--seeds", "1", "--steps", "200"],
    "huang_orthogonal": ["--largest", "6"],
    "huang_training": ["--largest", "6", "--seeds", "1"],
    "karhadkar_separation": ["--largest", "200"],
    "price_tanner_growth": ["--width", "64", "--draws", "2"],
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
