"""Gram matrices in steps: the same bits, each pair once, and a bar only where it was wanted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import ntkfast as nf
from ntkfast.kernels import pace
from ntkfast.support import progress

RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(23, 5))
IMAGES = RNG.normal(size=(9, 4, 4, 2))
SERIES = nf.sequences([RNG.normal(size=(length, 2)) for length in (3, 5, 2, 7, 4, 4, 6)])
CASES = [
    (nf.ResNet(4, alpha=0.3).ntk, ROWS),
    (nf.Convolutional(2, readout="gap").ntk, IMAGES),
    (nf.Recurrent(2).ntk, SERIES),
]


@pytest.mark.parametrize("edge", [1, 4, 100])
@pytest.mark.parametrize(("kernel", "X"), CASES)
def test_steps_give_the_bits_of_one_call(kernel: Any, X: Any, edge: int) -> None:
    def write(left: Any, right: Any, out: Any) -> None:
        kernel(left, right, out=out)

    for Y in (None, X[:3]):
        wanted, counted = kernel(X, Y), 0
        out = np.full_like(wanted, np.nan)

        def count(pairs: int) -> None:
            nonlocal counted
            counted += pairs

        pace.fill_in_steps(write, X, Y, out, edge, count)
        assert np.array_equal(out, wanted)
        assert counted == out.size


@pytest.mark.parametrize("given", [None, False, True])
@pytest.mark.parametrize(("kernel", "X"), CASES)
def test_bar_of_a_call(
    kernel: Any,
    X: Any,
    given: bool | None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("tqdm")
    wanted = kernel(X)
    assert np.array_equal(kernel(X, progress=given), wanted)
    assert capsys.readouterr().err == ""  # it takes but a moment
    monkeypatch.setattr(progress, "DELAY", 0.0)
    monkeypatch.setattr(pace, "STEP_SECONDS", 0.0)
    assert np.array_equal(kernel(X, progress=given), wanted)
    assert ("pairs/s" in capsys.readouterr().err) == bool(given)
