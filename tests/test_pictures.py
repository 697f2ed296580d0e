"""Each picture looks as its reference in tests/data/pictures, and can be drawn on given axes.

The pictures are small and compared after an average over some pixels: a line that is moved by one
pixel, as another version of matplotlib may do, is let through; one that is missing is not.
"""

from __future__ import annotations

import io
import pickle
from functools import partial
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import ntkfast as nf

pytest.importorskip("matplotlib")
pytest.importorskip("sklearn")

from matplotlib.figure import Figure
from matplotlib.image import imread

import pictures
from ntkfast.plot.style import log_ticks
from pictures import FOLDER, PICTURES

CELL = 8  # pixels that are averaged
CLOSE = 0.1  # largest difference of such averages; white and black differ by 1


def averages(data: bytes) -> NDArray[np.float64]:
    """Return grey levels, averaged over cells of pixels."""
    grey = imread(io.BytesIO(data), format="png")[..., :3].mean(axis=2, dtype=np.float64)
    high, wide = (length // CELL for length in grey.shape)
    return grey[: high * CELL, : wide * CELL].reshape(high, CELL, wide, CELL).mean(axis=(1, 3))


def distance(figure: Any, name: str) -> float:
    """Return by how much a picture differs from its reference at worst."""
    found = averages(pictures.drawn(figure))
    wanted = averages((FOLDER / f"{name}.png").read_bytes())
    assert found.shape == wanted.shape
    return float(np.max(np.abs(found - wanted)))


@pytest.mark.slow
@pytest.mark.parametrize("make", PICTURES)
def test_pictures_look_like_their_references(make: Any) -> None:
    assert distance(make(), make.__name__) < CLOSE


@pytest.mark.slow
def test_what_is_missing_is_seen() -> None:
    figure = pictures.ridge_path()
    axes = figure.axes[0]
    axes.lines[0].set_visible(False)
    assert distance(figure, "ridge_path") > 1.5 * CLOSE
    axes.lines[0].set_visible(True)
    axes.get_legend().get_texts()[0].set_visible(False)
    assert distance(figure, "ridge_path") > 1.5 * CLOSE


@pytest.mark.slow
@pytest.mark.parametrize("make", PICTURES)
def test_axes_that_are_given_are_drawn_on(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = make()
    figure = Figure(figsize=alone.get_size_inches())
    count = len(alone.axes)
    places = figure.subfigures(1, 1).subplots(1, count, squeeze=False).ravel()
    for name in set(nf.plot.__all__) - {"save"}:
        draw = partial(getattr(nf.plot, name), ax=places[0] if count == 1 else places)
        monkeypatch.setattr(nf.plot, name, draw)
    assert make() is figure
    assert figure.axes == list(places)
    for given, own in zip(places, alone.axes, strict=True):
        assert len(given.get_children()) == len(own.get_children())
        assert given.get_xlabel() == own.get_xlabel()
        np.testing.assert_allclose(given.get_ylim(), own.get_ylim(), atol=0.01)


def test_wrong_axes_are_named() -> None:
    figure = Figure()
    networks = {"a": [nf.FullyConnected(1)], "b": [nf.FullyConnected(2)]}
    with pytest.raises(TypeError, match="ax: expected axes of matplotlib, got Figure"):
        nf.plot.profiles(networks, ax=figure)
    with pytest.raises(ValueError, match="ax: expected 2 axes, one for each panel, got 1"):
        nf.plot.profiles(networks, ax=figure.subplots())


def test_a_title_that_was_there_stays() -> None:
    axes = Figure().subplots()
    axes.set_title("mine", loc="left")
    nf.plot.profiles([nf.FullyConnected(1)], ax=axes)
    assert axes.get_title("left") == "mine"


@pytest.mark.slow
def test_figures_show_themselves_and_can_be_kept() -> None:
    figure: Any = pictures.ridge_path()
    assert figure._repr_png_().startswith(b"\x89PNG")
    again = pickle.loads(pickle.dumps(figure))
    assert pictures.drawn(again) == pictures.drawn(figure)


@pytest.mark.parametrize(
    ("low", "high"),
    [(0.113, 0.138), (0.02, 0.9), (1e-300, 1e300), (1, 4), (3.0, 3.0), (1, 100_000), (0.2, 11)],
)
def test_ticks_stand_on_both_sides_of_the_data(low: float, high: float) -> None:
    ticks, labels = log_ticks(low, high)
    assert ticks[0] <= low
    assert ticks[-1] >= high
    assert len(ticks) == len(labels) == len(set(labels))
    assert 2 <= len(ticks) <= 11


@pytest.mark.parametrize(
    ("networks", "wanted"),
    [
        ([nf.FullyConnected(1), nf.FullyConnected(4)], ["depth 1", "depth 4"]),
        ([nf.ResNet(9, alpha=a) for a in (0.1, 0.2)], ["alpha 0.1", "alpha 0.2"]),
        (
            [nf.FullyConnected(3), nf.FullyConnected(4, bias=1.0)],
            ["depth 3, bias 0.0", "depth 4, bias 1.0"],
        ),
        (
            [nf.FullyConnected(9), nf.ResNet(9, alpha=0.5)],
            ["FullyConnected(9)", "ResNet(9, alpha=0.5)"],
        ),
        ([nf.FullyConnected(3)], ["FullyConnected(3)"]),
        ([nf.Laplace(c=1.0), nf.Laplace(c=2.0)], ["c 1.0", "c 2.0"]),
    ],
)
def test_labels_tell_networks_apart(networks: Any, wanted: list[str]) -> None:
    legend: Any = nf.plot.profiles(networks, points=3).axes[0].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == wanted
