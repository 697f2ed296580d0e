"""Every page of the documentation runs when it is pasted, block after block, in a fresh process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from run_page import SKIPPED, blocks, commands

ROOT = Path(__file__).parents[1]
RUNNER = Path(__file__).with_name("run_page.py")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES = [page for page in PAGES if any(blocks(page))]
ALWAYS = ("conventions",)  # quick; the others are slow


def run(page: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(RUNNER), str(page)],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "MPLBACKEND": "agg"},
        timeout=250,
    )


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, id=page.stem, marks=[pytest.mark.slow] * (page.stem not in ALWAYS))
        for page in PAGES
    ],
)
def test_page(page: Path, tmp_path: Path) -> None:
    done = run(page, tmp_path)
    assert done.returncode in (0, SKIPPED), done.stdout + done.stderr
    if done.returncode == SKIPPED:
        pytest.skip(next(line for line in done.stdout.splitlines() if line.startswith(str(page))))


@pytest.mark.parametrize(
    "text",
    [
        "```python\nnp.ones(3)\n```\n",  # imports nothing
        "```pycon\n>>> 1 + 1\n3\n```\n",
        "```sh\nntkfast gram no.npy --network fc --depth 1 --out K.npy\n```\n",
    ],
    ids=["python", "pycon", "sh"],
)
@pytest.mark.slow
def test_a_page_that_fails_is_noticed(text: str, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(text)
    assert run(page, tmp_path).returncode == 1


def test_blocks_are_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# A\n\n```python\na = 1\n```\n\n```text\nno\n```\n\n```sh\npip install .\n```\n"
    )
    python, shell = blocks(page)
    assert (python.line, python.text) == (4, "a = 1\n")
    assert list(commands(shell)) == []


def test_no_page_is_left_out() -> None:
    """Sphinx would run examples of its own directive; those of pages are run here."""
    assert len(PAGES) > 15
    assert [page for page in PAGES if "{doctest}" in page.read_text(encoding="utf-8")] == []
