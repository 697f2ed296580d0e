"""Features of kernels of the cosine through zonal harmonics: dual activations, Gegenbauer."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass
from itertools import islice
from typing import Any, ClassVar

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import sparse
from scipy.linalg import hadamard

from ntkfast.arrays import checks
from ntkfast.arrays.collections import FloatArray
from ntkfast.engines.maps import NeuronMap
from ntkfast.features import neurons, projections
from ntkfast.features.base import directions_of
from ntkfast.features.sketches import power_of_two
from ntkfast.features.spherical import Array, SphereFeatures, tell_missing
from ntkfast.places import blocks
from ntkfast.spectrum.sphere.harmonics import log_multiplicities, polynomials

KNOTS = (1 << 14) + 1  # of the table of an activation
KNOTS_OF_MANY = (1 << 12) + 1  # of each table if there is one for every norm


@dataclass
class _Group:
    """Directions that share an activation, and where their features are."""

    projection: projections.Projection
    table: Array  # (rows, knots)
    columns: slice


@dataclass(eq=False, repr=False)
class _ZonalFeatures(SphereFeatures):
    """Exact features of low degrees, and an activation of random directions for the others.

    Subclasses may say up to which degree features are exact, what directions the others have, and
    the signs of their degrees.
    """

    _: KW_ONLY
    max_degree: int = 60
    weights = "gaussian"
    _sparse = "rows"
    _paired = False  # whether directions come in pairs w, -w
    _signs: ClassVar[Any] = staticmethod(np.ones)  # of the degrees, by their number

    def _draw(self, X: Any, generator: Generator) -> int:
        dim, top_degree = X.shape[1], checks.count("max_degree", self.max_degree, least=2)
        self._prepare(X)
        self.expansion_ = self._expand(dim, top_degree)
        self.masses_, self.truncated_ = self.expansion_.masses, self.expansion_.truncated
        tell_missing(f"max_degree: zonal harmonics up to degree {top_degree}", self.truncated_)
        self.size_ = math.sqrt(self.masses_.max()) or 1.0  # k(1) may be of any size, tables are not
        ranks = [f.shape[1] for f in self.expansion_.factors]
        self.exact_ = self._exact_degree(dim, ranks)
        first = exact_count(dim, ranks[: self.exact_ + 1])
        self.groups_: list[_Group] = []
        if not self.masses_[self.exact_ + 1 :].any():
            return first
        # With several functions of the norm per degree, each group of directions mixes them with
        # the signs of a row of a Hadamard matrix; on average over the groups they do not mix.
        weights = checks.choice("weights", self.weights, projections.WEIGHTS[:2])
        patterns = hadamard(power_of_two(max(ranks[self.exact_ + 1 :])))
        borders = np.linspace(first, self.n_components, len(patterns) + 1).astype(int)
        for pattern, start, stop in zip(patterns, borders, borders[1:], strict=False):
            if stop > start:
                share = 1 / math.sqrt(len(patterns) * (stop - start))
                table = self._table(pattern / self.size_, dim) * share
                drawn = (stop - start + 1) // 2 if self._paired else stop - start
                projection = projections.draw(weights, dim, int(drawn), generator, length="unit")
                self.groups_.append(_Group(projection, table, slice(int(start), int(stop))))
        return int(self.n_components)

    def _table(self, pattern: NDArray[Any], dim: int) -> Array:
        """Return the activation of one group, (rows, knots)."""
        factors = self.expansion_.factors
        roots = np.array([f @ pattern[: f.shape[1]] for f in factors])
        roots[: self.exact_ + 1] = 0
        knots = KNOTS if self.expansion_.grid is None else KNOTS_OF_MANY
        return dual_activation(roots, dim, self._signs(len(roots)), knots)

    def _exact_degree(self, dim: int, ranks: list[int]) -> int:
        return -1

    def _check_device(self) -> None:
        """Any device will do."""

    def _write(self, X: Any, out: FloatArray) -> None:
        directions, norms = directions_of(X)
        values, place = self._lengths(norms).astype(out.dtype), self.expansion_.place(norms)
        factors = [self.expansion_.at(e, place) for e in range(self.exact_ + 1)]
        write_exact(directions, factors, values, out)
        for group in self.groups_:
            part, drawn = out[:, group.columns], group.projection.count
            plan = NeuronMap("table", group.table.astype(out.dtype), self.size_, self.power_)
            first, rest = part[:, :drawn], part[:, drawn:] if part.shape[1] > drawn else None
            neurons.answer(plan, group.projection, X, norms, first, rest, place)
            if place is not None:
                blocks.write(part, part, values)


def exact_count(dim: int, ranks: list[int]) -> int:
    """Return the number of exact features for degrees 0, 1 ... of these ranks, at most 2."""
    return sum(r * c for r, c in zip(ranks, (1, dim, dim * (dim + 1) // 2), strict=False))


def write_exact(X: Any, factors: list[Array], scale: NDArray[Any], out: FloatArray) -> None:
    """Write exact features of degrees 0, 1, ... of unit rows to the first columns.

    P_0 = 1 and P_1(x.y) = x.y; P_2(x.y) = ((x.y)^2 - 1/d) d/(d-1) is d/(d-1) times the inner
    product of the traceless matrices x x^T - 1/d.

    Parameters
    ----------
    factors : list of (n, rank) or (1, rank) arrays
    scale : (n,) array
    """
    at = 0
    for degree, factor in enumerate(factors):
        block = harmonics(X, degree)
        for column in (scale[:, None] * factor.astype(out.dtype)).T:
            blocks.write(out[:, at : at + block.shape[1]], block, column)
            at += block.shape[1]


def harmonics(X: Any, degree: int) -> FloatArray:
    """Return features of P_degree at unit rows, for degrees 0, 1 and 2."""
    rows: FloatArray = X.toarray() if sparse.issparse(X) else X
    dim = rows.shape[1]
    if degree == 0:
        return blocks.ones(rows)
    if degree == 1:
        return rows
    return blocks.pair_products(rows, 1 / dim, math.sqrt(dim / (dim - 1)))


def dual_activation(roots: Array, dim: int, signs: Array, knots: int = KNOTS) -> Array:
    """Tabulate g(t) = sum_k signs_k f_k p_k(t) on [-1, 1], p_k = sqrt(N) P_k.

    For uniform directions w, E[g(w.x) g(w.y)] = sum_k f_k^2 P_k(x.y): the p_k are orthonormal, and
    E[N P_k(w.x) P_k(w.y)] = P_k(x.y) is the reproducing property of zonal harmonics.

    Parameters
    ----------
    roots : (degrees, rows) array
        f_k, a column for each norm.

    Returns
    -------
    (rows, knots) array
    """
    points = np.linspace(-1, 1, knots)
    log_n = np.asarray(log_multiplicities(dim, np.arange(len(roots))), np.float64)
    weights = (signs * np.exp(log_n / 2))[:, None] * roots
    table = weights.T @ np.array(list(islice(polynomials(dim, points), len(roots))))
    # In high dimension the ends are out of reach of float32, and of every direction.
    return np.asarray(np.clip(table, -1e36, 1e36))


def relu_signs(count: int) -> Array:
    """Return +, + for degrees 0 and 1, and the alternating signs that a ReLU has in each parity.

    With them the sums stay small at both ends; with equal signs all terms peak at t = 1, and the
    features have heavy tails.
    """
    k = np.arange(count)
    return np.where(k < 2, 1.0, np.where(k % 2 == 0, -((-1.0) ** (k // 2)), (-1.0) ** (k // 2)))


@dataclass(eq=False, repr=False)
class DualActivationFeatures(_ZonalFeatures):
    """Features of the whole kernel at once: exact low degrees and one activation for the others.

    The kernel on the sphere is sum_k a_k P_k(u) with its Mercer masses a_k. Degrees 0 and 1 (and 2
    in low dimension) have few exact features. The rest is the dual of an activation,
    g(t) = sum_k s_k sqrt(a_k) p_k(t) with orthonormal Gegenbauer polynomials p_k and signs s_k
    that keep g small, so that g(w.x/|x|) |x|^p / sqrt(m) with random directions w are its
    features, whatever the depth. Directions come in pairs w and -w, which share their inner
    product: one matrix product of half the size, and one table lookup per feature.

    Kernels that depend on the norms in other ways (biases, smooth activations) have masses that are
    functions of both norms. A few products of functions of one norm carry each degree, groups of
    directions mix these with the signs of a Hadamard matrix, and the table has a row for each of a
    grid of norms.

    Parameters
    ----------
    kernel : Kernel, optional
        A network's kernel or any other of the cosine and the norms; default
        ``ntkfast.FullyConnected(1).ntk``.
    n_components : int, default 1024
        Number of features, the exact ones included. Fewer if the exact ones are all there is.
    exact : {"auto", -1, 0, 1, 2}, default "auto"
        Highest degree with exact features, of which there are 1, d and d(d+1)/2, times the number
        of functions of the norm (two to eight, see the guide) where norms matter, as with biases;
        -1 stands for none. "auto" is the highest that takes at most half of `n_components`.
    weights : {"gaussian", "orthogonal"}, default "orthogonal"
        Independent directions, or orthogonal ones in blocks of d.
    max_degree : int, default 60
        Degrees beyond are left out: see `truncated_`.
    radius : float, optional
        Norm of all rows, for kernels that are not zonal; default: that of the training rows if they
        have one.
    random_state : int, RandomState or None
        As everywhere in scikit-learn.

    Attributes
    ----------
    masses_ : (max_degree + 1,) array
        a_k; relative to k(1), and a mean over the norms, where they depend on the norms.
    truncated_ : float
        Part of k(1) that is missing: the degrees beyond `max_degree` and, for norms that differ,
        powers of the cosine beyond 200 and functions of the norm beyond eight per degree. It is
        missing on the diagonal of F F^T, and close to nothing elsewhere: a few percent for deep
        networks, more for kernels that fall off within a fraction of the norm, nearly all for
        chaotic networks, with a warning from a fifth on. For norms that differ the largest value
        over norms from half the smallest to twice the largest one.
    exact_ : int
        Highest exact degree.

    Raises
    ------
    TypeError, ValueError
        In `fit`, if the kernel has negative masses (it is not positive definite). In `transform`,
        for rows of another norm where the training rows, or `radius`, had one and the kernel is not
        zonal, and for rows of zeros with a kernel of the directions only.

    Notes
    -----
    Unbiased up to the truncation and linear interpolation in tables of 16,385 or 4,097 knots.
    Where training rows have different norms, rows of less than half the smallest one or more than
    twice the largest one have features of the right length and the direction's features of the
    nearest norm. Errors fall
    like 1/sqrt(m). A pair w, -w separates even from odd degrees exactly; in experiments m/2 pairs
    had the same error as m independent directions.

    References
    ----------
    .. [1] A. Daniely, R. Frostig, Y. Singer, "Toward deeper understanding of neural networks: the
       power of initialization and a dual view on expressivity", NeurIPS 2016 (dual activations).
    .. [2] J. Simon, S. Anand, M. DeWeese, "Reverse engineering the neural tangent kernel",
       ICML 2022 (an activation for a given kernel).

    Examples
    --------
    >>> import numpy as np, ntkfast as nf
    >>> from ntkfast.features import DualActivationFeatures
    >>> kernel, X = nf.FullyConnected(3).ntk, np.random.default_rng(0).normal(size=(50, 10))
    >>> F = DualActivationFeatures(kernel, 2048, random_state=0).fit_transform(X)
    >>> bool(np.linalg.norm(F @ F.T - kernel(X)) < 0.05 * np.linalg.norm(kernel(X)))
    True
    """

    _: KW_ONLY
    exact: str | int = "auto"
    weights: str = "orthogonal"
    _paired = True
    _signs = staticmethod(relu_signs)

    def _exact_degree(self, dim: int, ranks: list[int]) -> int:
        highest = 1 if dim == 1 else 2
        counts = [exact_count(dim, ranks[:e]) for e in range(1, highest + 2)]
        if self.exact == "auto":
            return sum(2 * count <= int(self.n_components) for count in counts) - 1
        if self.exact not in (-1, 0, 1, 2) or isinstance(self.exact, bool):
            raise ValueError(f"exact: expected 'auto', -1, 0, 1 or 2, got {self.exact!r}")
        degree = min(int(self.exact), highest)
        if degree >= 0 and counts[degree] >= self.n_components:
            raise ValueError(
                f"n_components: expected more than {counts[degree]} for exact features "
                f"up to degree {degree} of {dim} columns, got {self.n_components}"
            )
        return degree


class GegenbauerFeatures(_ZonalFeatures):
    """Random Gegenbauer features: the zonal expansion of the kernel in independent directions.

    sqrt(1/m) |x|^p sum_k sqrt(a_k N_k) P_k(w.x/|x|) for uniform directions w, with all signs
    positive: the published form, for comparison. `DualActivationFeatures` has several times smaller
    errors at the same cost.

    Parameters
    ----------
    kernel, n_components, max_degree, radius, random_state
        As for `DualActivationFeatures`.

    Attributes
    ----------
    masses_, truncated_
        As for `DualActivationFeatures`.

    Raises
    ------
    TypeError, ValueError
        As for `DualActivationFeatures`.

    References
    ----------
    .. [1] I. Han, A. Zandieh, H. Avron, "Random Gegenbauer features for scalable kernel methods",
       ICML 2022.

    Examples
    --------
    >>> import numpy as np
    >>> from ntkfast.features import GegenbauerFeatures
    >>> GegenbauerFeatures(n_components=64, random_state=0).fit_transform(np.eye(5)).shape
    (5, 64)
    """
