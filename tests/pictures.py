"""The pictures of the package that tests compare with those in tests/data/pictures.

``python tests/pictures.py`` draws these again, after a change that is wanted: look at them.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

import ntkfast as nf

FOLDER = Path(__file__).parent / "data" / "pictures"
DPI = 50
RNG = np.random.default_rng(0)
X = RNG.normal(size=(30, 8))
LINE = np.linspace(-1, 1, 8)[:, None]
ACROSS = np.linspace(-2, 2, 99)
NET = nf.FullyConnected(2, parameterization="ntk", b_std=0.5)


def profiles() -> Any:
    """Draw four kernels of one depth, of different networks."""
    networks = [
        nf.FullyConnected(10),
        nf.ResNet(10, alpha=0.3),
        nf.FullyConnected(10, bias=0.5),
        nf.FullyConnected(10, activation="erf"),
    ]
    return nf.plot.profiles(networks)


def panels_of_profiles() -> Any:
    """Draw two families by depth."""
    families = {
        "plain": [nf.FullyConnected(k) for k in (1, 4)],
        "residual": [nf.ResNet(k, alpha=0.5) for k in (1, 4)],
    }
    return nf.plot.profiles(families)


def spectrum() -> Any:
    """Draw two spectra with their limits."""
    return nf.plot.spectrum([nf.spectrum.mercer(nf.FullyConnected(k).ntk, 3, 1000) for k in (2, 5)])


def short_spectrum() -> Any:
    """Draw few degrees, within two decades."""
    return nf.plot.spectrum(nf.spectrum.mercer(nf.FullyConnected(2).ntk, 3, 4))


def ratio() -> Any:
    """Draw the ratio of two spectra."""
    first, second = nf.FullyConnected(2).ntk, nf.ResNet(3, alpha=1.0).ntk
    return nf.plot.ratio(nf.spectrum.same_rkhs(first, second, 3, 500))


def bounds() -> Any:
    """Draw bounds, some of them up to a constant."""
    return nf.plot.bounds(nf.spectrum.bounds(nf.FullyConnected(2), X))


def convergence() -> Any:
    """Draw errors at three widths."""
    return nf.plot.convergence(nf.finite.convergence(np.eye(3), (8, 16, 32)))


def flow() -> Any:
    """Draw an ensemble at four times."""
    model = nf.regression.GradientFlow(NET).fit(LINE, np.sin(3 * LINE[:, 0]))
    return nf.plot.flow(model, [0, 30, 1000, np.inf])


def prediction() -> Any:
    """Draw a posterior."""
    model = nf.regression.GaussianProcess(NET, noise=0.1).fit(LINE, np.sin(3 * LINE[:, 0]))
    posterior = model.predict(ACROSS[:, None], return_std=True)
    return nf.plot.prediction(ACROSS, *posterior, data=(LINE, np.sin(3 * LINE)), title="sine")


def classes() -> Any:
    """Draw three images and their scores."""
    scores = np.array([[0.1, 0.9, -0.1], [0.4, 0.3, 0.2], [-0.2, 0.1, 0.8]])
    images = np.arange(48.0).reshape(3, 4, 4) % 7
    return nf.plot.classes(images, scores, np.full(3, 0.15), titles=["a", "b", "c"])


def learning_curves() -> Any:
    """Draw losses on both sides."""
    model = nf.regression.GradientFlow(nf.FullyConnected(2)).fit(X[:20], X[:20, 0] ** 2)
    return nf.plot.learning_curves({"two layers": model}, test=(X[20:], X[20:, 0] ** 2))


def ridge_path() -> Any:
    """Draw errors with one best ridge."""
    errors = [0.5, 0.3, 0.2, 0.25, 0.6]
    return nf.plot.ridge_path(SimpleNamespace(ridges=np.geomspace(1e-3, 10, 5), errors=errors))


def residuals() -> Any:
    """Draw the residuals of three columns."""
    Z = np.random.default_rng(0).normal(size=(200, 3))
    found = nf.regression.solve(nf.FullyConnected(2).ntk, Z, Z, 1e-3, method="cg")
    return nf.plot.residuals(found, tol=1e-6)


PICTURES: tuple[Callable[[], Any], ...] = (
    profiles,
    panels_of_profiles,
    spectrum,
    short_spectrum,
    ratio,
    bounds,
    convergence,
    flow,
    prediction,
    classes,
    learning_curves,
    ridge_path,
    residuals,
)


def drawn(figure: Any) -> bytes:
    """Return a figure as a small PNG."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=DPI, metadata={"Software": None})
    return stream.getvalue()


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for make in PICTURES:
        (FOLDER / f"{make.__name__}.png").write_bytes(drawn(make()))
