"""Pictures show the numbers they are made of."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import ntkfast as nf

pytest.importorskip("matplotlib")

LOG10 = math.log(10)


def test_profiles_are_those_of_the_kernels() -> None:
    networks = [nf.FullyConnected(depth) for depth in (1, 4)]
    figure = nf.plot.profiles({"left": networks, "right": networks[:1]}, points=181)
    assert [axes.get_title("left") for axes in figure.axes] == ["left", "right"]
    angle, value = (np.asarray(v) for v in figure.axes[0].lines[-1].get_data())
    wanted = networks[1].ntk.profile(np.cos(np.deg2rad(angle)))
    np.testing.assert_allclose(value, wanted / networks[1].ntk.profile(1.0), rtol=1e-12)
    legend = figure.axes[0].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["depth 1", "depth 4"]


def test_spectrum_has_a_line_for_each_parity() -> None:
    one = nf.spectrum.mercer(nf.FullyConnected(3).ntk, 3, 2000)
    figure = nf.plot.spectrum(one, asymptotes=False)
    for odd, line in enumerate(
        line
        for line in figure.axes[0].lines
        if line.get_linestyle() in "-:" and len(line.get_xdata())
    ):
        k, height = (np.asarray(v) for v in line.get_data())
        assert np.all(k % 2 == odd)
        assert k[-1] == 2000 - odd
        np.testing.assert_array_equal(height, one.log_eigenvalues[k.astype(int)] / LOG10)


def test_spectrum_leaves_exact_zeros_out() -> None:
    one = nf.spectrum.mercer(nf.FullyConnected(1).ntk, 3, 99)  # odd degrees vanish from 3 on
    figure = nf.plot.spectrum(one)
    drawn = np.concatenate([np.asarray(line.get_xdata()) for line in figure.axes[0].lines])
    assert set(drawn[drawn % 2 == 1]) == {1}


def test_asymptotes_meet_the_spectrum() -> None:
    one = nf.spectrum.mercer(nf.ResNet(4, alpha=0.5).ntk, 5, 100_000)
    lines = nf.plot.spectrum(one).axes[0].lines
    ends = [line.get_ydata()[-1] for line in lines if len(line.get_xdata()) > 100]
    assert len(ends) == 4
    assert ends[0] == pytest.approx(ends[1], abs=1e-3)
    assert ends[2] == pytest.approx(ends[3], abs=1e-3)


def test_spectra_with_names() -> None:
    several = [nf.spectrum.mercer(nf.FullyConnected(depth).ntk, 4, 40) for depth in (1, 5)]
    for figure in (
        nf.plot.spectrum(several, labels=["one", "five"]),
        nf.plot.spectrum(dict(zip(("one", "five"), several, strict=True))),
    ):
        legend = figure.axes[0].get_legend()
        texts = [text.get_text() for text in legend.get_texts()]
        assert texts[:4] == ["one", "five", "even degrees", "odd degrees"]
    with pytest.raises(ValueError, match="labels: expected 2"):
        nf.plot.spectrum(several, labels=["one"])
    with pytest.raises(ValueError, match="degrees above 0"):
        nf.plot.spectrum(nf.spectrum.mercer(nf.FullyConnected(1).ntk, 4, 0))


def test_ratio_stays_in_its_band() -> None:
    found = nf.spectrum.same_rkhs(nf.FullyConnected(2).ntk, nf.ResNet(3, alpha=1.0).ntk, 3, 500)
    axes = nf.plot.ratio(found).axes[0]
    curves = [np.asarray(line.get_ydata()) for line in axes.lines if len(line.get_xdata()) > 50]
    assert len(curves) == 2
    for values in curves:
        assert np.all((values >= found.lower) & (values <= found.upper))


def test_bounds_stand_at_their_values() -> None:
    X = np.random.default_rng(0).normal(size=(40, 12))
    table = nf.spectrum.bounds(nf.FullyConnected(2), X)
    axes = nf.plot.bounds(table).axes[0]
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert sorted(names) == sorted(row.name for row in table)
    marks = {
        names[int(line.get_ydata()[0])]: line.get_xdata()[0]
        for line in axes.lines
        if len(line.get_xdata()) == 1
    }
    assert marks == {row.name: row.value for row in table if row.value > 0}
    words = {names[int(text.xy[1])]: text.get_text() for text in axes.texts}
    assert words["positivity"] == "0"
    assert any(list(line.get_xdata()) == [table.lambda_min] * 2 for line in axes.lines)


def test_bounds_of_a_singular_matrix() -> None:
    X = np.random.default_rng(0).normal(size=(12, 4))
    X[3] = X[5]
    table = nf.spectrum.bounds(nf.FullyConnected(1), X)
    assert len(nf.plot.bounds(table).axes[0].get_yticklabels()) == len(table)


def test_save_writes_the_format_of_the_suffix(tmp_path: Path) -> None:
    figure = nf.plot.profiles([nf.FullyConnected(1)])
    for suffix, magic in (("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml")):
        nf.plot.save(figure, tmp_path / f"p.{suffix}")
        assert (tmp_path / f"p.{suffix}").read_bytes().startswith(magic)
    with pytest.raises(ValueError, match=r"path: expected a suffix among .*\.png"):
        nf.plot.save(figure, tmp_path / "p.xyz")


# --- Fits ----------------------------------------------------------------------------------------


def fitted(columns: int = 1, targets: int = 1) -> Any:
    pytest.importorskip("sklearn")
    X = np.random.default_rng(0).normal(size=(12, columns))
    y = np.sin(X[:, :1]) + np.arange(targets)
    net = nf.FullyConnected(2, parameterization="ntk", b_std=0.3)
    return nf.regression.GradientFlow(net, ridge=0.01).fit(X, y)


def test_flow_draws_means_and_two_deviations() -> None:
    model, x = fitted(), np.linspace(-2, 2, 31)
    for options in ({}, {"steps": True}):
        times = [0, 20] if options else [0.0, 20.0, np.inf]
        axes = nf.plot.flow(model, times, x=x, **options).axes[0]
        word = "steps" if options else "time"
        mean, std = model.predict(x[:, None], **{word: times}, return_std=True)
        for i in range(len(times)):
            np.testing.assert_array_equal(axes.lines[i].get_ydata(), mean[i, :, 0])
            edge = axes.collections[i].get_paths()[0].vertices[:, 1]
            assert edge.max() == pytest.approx(np.max(mean[i, :, 0] + 2 * std[i]))
            assert edge.min() == pytest.approx(np.min(mean[i, :, 0] - 2 * std[i]))
        np.testing.assert_array_equal(axes.lines[-1].get_ydata(), model.training_.targets[:, 0])
    names = [
        text.get_text() for text in nf.plot.flow(model, [1, np.inf]).axes[0].get_legend().texts
    ]
    assert names == ["t = 1", "end of training", "data"]
    for sizes in ((2, 1), (1, 2)):
        with pytest.raises(ValueError, match="model: expected one input and one target"):
            nf.plot.flow(fitted(*sizes), [1.0])


def test_prediction_checks_shapes() -> None:
    x = np.arange(4.0)
    assert len(nf.plot.prediction(x, x).axes[0].lines) == 1
    for options, message in [
        ({"mean": x[:3]}, "mean: expected shape"),
        ({"mean": x, "std": x[:3]}, "std: expected shape"),
        ({"mean": x, "labels": ["a", "b"]}, "labels: expected 1"),
    ]:
        with pytest.raises(ValueError, match=message):
            nf.plot.prediction(x, **options)


def test_learning_curves_are_the_losses() -> None:
    model, times = fitted(3), np.geomspace(0.1, 100, 5)
    Z = np.random.default_rng(1).normal(size=(7, 3))
    axes = nf.plot.learning_curves({"one": model}, times, test=(Z, np.ones((7, 1)))).axes[0]
    train, held_out = (np.asarray(line.get_ydata()) for line in axes.lines)
    np.testing.assert_array_equal(train, model.training_loss(times))
    wanted = np.mean((model.predict(Z, times) - 1) ** 2, axis=(1, 2)) / 2
    np.testing.assert_allclose(held_out, wanted, rtol=1e-13)
    default = nf.plot.learning_curves(model, ensemble=True).axes[0].lines[0]
    losses = np.asarray(default.get_ydata())
    assert losses[0] > 0.5 * model.training_loss(0.0, ensemble=True)
    assert losses[-1] < 1e-12 * losses[0]
    with pytest.raises(ValueError, match="times: expected positive"):
        nf.plot.learning_curves(model, [0.0, 1.0])


def test_ridge_path_marks_the_best() -> None:
    path = SimpleNamespace(ridges=[1.0, 0.01, 0.1, 10.0], errors=[0.3, 0.5, 0.2, np.inf])
    estimator = SimpleNamespace(ridges_=path.ridges, scores_=path.errors)
    for found in (path, estimator):
        axes = nf.plot.ridge_path(found).axes[0]
        assert list(axes.lines[0].get_xdata()) == [0.01, 0.1, 1.0]
        assert (axes.lines[2].get_xdata()[0], axes.lines[2].get_ydata()[0]) == (0.1, 0.2)
    path.errors = [np.inf] * 4
    with pytest.raises(ValueError, match="expected a finite error"):
        nf.plot.ridge_path(path)
    path.errors = [1.0]
    with pytest.raises(ValueError, match="as many errors as ridges"):
        nf.plot.ridge_path(path)


def test_residuals_show_the_worst_column() -> None:
    X = np.random.default_rng(0).normal(size=(60, 4))
    kernel, B = nf.FullyConnected(2).ntk, X[:, :3] ** 2
    many = nf.regression.solve(kernel, X, B, 1e-2, method="cg", tol=1e-7)
    one = nf.regression.solve(kernel, X, B[:, 0], 1e-2, method="cg", tol=1e-7)
    for over in ("iteration", "seconds"):
        axes = nf.plot.residuals({"a": many, "b": one}, tol=1e-7, over=over).axes[0]
        for line, found in zip(axes.lines[::2], (many, one), strict=False):
            table = found.history.to_dict()
            assert list(line.get_xdata()) == table[over]
            assert list(line.get_ydata()) == table["residual"]
        assert axes.lines[1].get_ydata()[-1] == many.residuals.max()
        assert len(axes.collections) == 1  # no band for a single column
    with pytest.raises(ValueError, match="has no history"):
        nf.plot.residuals(replace(many, history=type(many.history)()))
    with pytest.raises(ValueError, match="over: expected"):
        nf.plot.residuals(many, over="products")
