"""Empirical kernels over draws of the weights: their mean, and their distance from the limit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ntkfast.arrays import checks
from ntkfast.finite.mlp import MLP
from ntkfast.finite.network import FiniteNetwork
from ntkfast.finite.weights import Init
from ntkfast.networks.base import ActivationLike
from ntkfast.support.columns import Table
from ntkfast.support.progress import track
from ntkfast.support.randomness import RNG, root, streams

KINDS = ("ntk", "nngp")
Values = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class MeanKernel:
    """Mean of empirical kernels (`mean_kernel`).

    Attributes
    ----------
    mean, standard_error : (n, m) arrays
        The error is that of the mean.
    n_draws : int
    """

    mean: Values
    standard_error: Values
    n_draws: int


def mean_kernel(
    net: FiniteNetwork,
    X: ArrayLike,
    Y: ArrayLike | None = None,
    *,
    kind: str = "ntk",
    n_draws: int = 32,
    rng: RNG = 0,
    progress: bool | None = None,
) -> MeanKernel:
    """Return the mean of the empirical kernel over draws of the weights, with its standard error.

    Parameters
    ----------
    net : MLP or CNN
        The architecture; its own weights have no influence.
    X : (n, d) array
    Y : (m, d) array, optional
    kind : {"ntk", "nngp"}
    n_draws : int, default 32
        At least 2.
    rng : int, Generator or None
    progress : bool, optional
        Whether to show a bar. Default: on a terminal, after some seconds.

    Returns
    -------
    MeanKernel

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, shape or range.

    Examples
    --------
    >>> import numpy as np
    >>> import ntkfast as nf
    >>> net = nf.finite.MLP((3, 200, 1))
    >>> found = nf.finite.mean_kernel(net, np.eye(3), n_draws=50)
    >>> bool(np.all(np.abs(found.mean - net.limit.ntk(np.eye(3))) < 4 * found.standard_error))
    True
    """
    checks.choice("kind", kind, KINDS)
    count = checks.count("n_draws", n_draws, least=2)
    mean, spread = 0.0, 0.0
    nets = track(net.draws(count, rng), progress, "mean kernel", "draws", count)
    for done, net_ in enumerate(nets, start=1):
        sample = np.asarray(getattr(net_, kind)(X, Y), np.float64)
        # Welford's recursion: one pass, no cancellation.
        step: Any = sample - mean
        mean = mean + step / done
        spread = spread + step * (sample - mean)
    error = np.sqrt(np.asarray(spread) / (count - 1) / count)
    return MeanKernel(np.asarray(mean), error, count)


@dataclass(frozen=True, eq=False)
class Convergence(Table):
    """Distance of empirical kernels from the limit against the width (`convergence`).

    Attributes
    ----------
    widths : (p,) array
    errors : mapping of str to (p,) array
        By the law of the weights: mean of ``||K_mean - K||_F / ||K||_F`` over repetitions.
    standard_errors : mapping of str to (p,) array
        Of these means.
    slopes : mapping of str to float
        Of log error against log width, by least squares: -1/2 is the law of large numbers.
    kind : {"ntk", "nngp"}
    n_draws : int
        Draws in each mean.
    """

    widths: NDArray[np.int64]
    errors: Mapping[str, Values]
    standard_errors: Mapping[str, Values]
    kind: str
    n_draws: int

    @property
    def slopes(self) -> dict[str, float]:
        """Exponents of the width, one per law of the weights."""
        x = np.log(self.widths)
        return {name: float(np.polyfit(x, np.log(e), 1)[0]) for name, e in self.errors.items()}

    def to_dict(self) -> dict[str, Sequence[Any]]:
        """Return the columns by their names, one line per law and width."""
        laws = [name for name in self.errors for _ in self.widths]
        return {
            "law": laws,
            "width": np.tile(self.widths, len(self.errors)).tolist(),
            "error": np.concatenate(list(self.errors.values())).tolist(),
            "standard_error": np.concatenate(list(self.standard_errors.values())).tolist(),
        }


def convergence(
    X: ArrayLike,
    widths: Sequence[int],
    *,
    depth: int = 1,
    activation: ActivationLike = "relu",
    inits: Sequence[str | Init] = ("gaussian", "orthogonal"),
    kind: str = "ntk",
    n_draws: int = 1,
    n_repeats: int = 8,
    rng: RNG = 0,
    progress: bool | None = None,
    **options: Any,
) -> Convergence:
    """Measure how empirical kernels approach the kernel of infinite width.

    Parameters
    ----------
    X : (n, d) array
    widths : sequence of int
        Of all hidden layers, at least two.
    depth : int, default 1
        Hidden layers.
    activation : str, Activation or callable
    inits : sequence
        Laws of the weights, see `MLP`.
    kind : {"ntk", "nngp"}
    n_draws : int, default 1
        Networks whose mean is compared.
    n_repeats : int, default 8
        Repetitions of the comparison, at least 2.
    rng : int, Generator or None
    progress : bool, optional
        Whether to show a bar. Default: on a terminal, after some seconds.
    **options
        Passed to `MLP`: `w_std`, `b_std`, `residual`.

    Returns
    -------
    Convergence
        Draw it with `ntkfast.plot.convergence`.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, shape or range.

    References
    ----------
    .. [1] W. Huang, W. Du, R. Y. D. Xu, "On the neural tangent kernel of deep networks with
       orthogonal initialization", arXiv:2004.05867, figure 1.

    Examples
    --------
    >>> import numpy as np
    >>> import ntkfast as nf
    >>> X = np.random.default_rng(0).normal(size=(5, 64))
    >>> found = nf.finite.convergence(X, (32, 128, 512), n_repeats=16)
    >>> bool(abs(found.slopes["gaussian"] + 0.5) < 0.15)
    True
    """
    checks.choice("kind", kind, KINDS)
    sizes = [checks.count("widths", width, least=1) for width in widths]
    if len(sizes) < 2:
        raise ValueError(f"widths: expected at least two, got {len(sizes)}")
    hidden = checks.count("depth", depth, least=1)
    many = checks.count("n_repeats", n_repeats, least=2)
    count, first = checks.count("n_draws", n_draws, least=1), root(rng)
    points = checks.matrix("X", X)
    found = np.empty((len(inits), len(sizes), many))
    cases = list(product(range(len(inits)), range(len(sizes))))
    for law, row in track(cases, progress, "convergence", "widths"):
        widths_ = (points.shape[1], *[sizes[row]] * hidden, 1)
        net = MLP(widths_, activation, init=inits[law], rng=0, **options)
        exact = getattr(net.limit, kind)(points)
        for repeat in range(many):
            nets = (net.redraw(g) for g in streams(first, law, row, repeat, count=count))
            mean = np.mean([getattr(one, kind)(points) for one in nets], axis=0)
            found[law, row, repeat] = np.linalg.norm(mean - exact) / np.linalg.norm(exact)
    names = [init if isinstance(init, str) else repr(init) for init in inits]
    spread = found.std(axis=2, ddof=1) / np.sqrt(many)
    errors = dict(zip(names, found.mean(axis=2), strict=True))
    return Convergence(np.array(sizes), errors, dict(zip(names, spread, strict=True)), kind, count)
