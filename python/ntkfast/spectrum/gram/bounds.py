"""Published bounds on the smallest eigenvalue of an NTK Gram matrix, evaluated on data."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import linalg

from ntkfast.activations.polynomials import Polynomial, _Series
from ntkfast.activations.rectified import ABReLU
from ntkfast.arrays import checks
from ntkfast.kernels.base import Kernel
from ntkfast.kernels.dense import NetworkKernel
from ntkfast.kernels.evaluation import Evaluation
from ntkfast.kernels.layers import IDENTITY, Layer, Layers
from ntkfast.kernels.rows import checked_row_kernel
from ntkfast.networks.base import DenseNetwork
from ntkfast.networks.dense import FullyConnected
from ntkfast.spectrum.gram.extremes import ENTRY_ERROR, Extremes, extremes
from ntkfast.spectrum.gram.row_pairs import Pairs, look
from ntkfast.support.columns import Table
from ntkfast.support.randomness import RNG

Values = NDArray[np.float64]

MAX_ROWS = 5_000
COLUMNS = (
    *("name", "direction", "value", "lambda_min", "ratio", "constant", "fitted", "applies"),
    *("assumptions", "reference", "note"),
)
POWERS = 9  # Hermite terms r = 0 ... 8
EXACT, UNIT, LAW = "exact", "constant set to 1", "asymptotic law"
NGUYEN = "Nguyen, Mondelli & Montufar 2021, arXiv:2012.11654"
KARHADKAR = "Karhadkar, Murray & Montufar 2024, arXiv:2405.14630"
CARVALHO = "Carvalho, Costa, Mourao & Oliveira 2024, arXiv:2404.12928"


@dataclass(frozen=True)
class Check:
    """An assumption of a bound, and whether these data satisfy it (None: data cannot tell)."""

    text: str
    holds: bool | None

    def __str__(self) -> str:
        return {True: "yes", False: "NO", None: "?"}[self.holds] + ": " + self.text


@dataclass(frozen=True)
class Bound:
    """One row of a table of bounds.

    Attributes
    ----------
    name : str
    direction : {"lower", "upper", "limit"}
    value : float
        NaN where the bound cannot be formed for this kernel or these data.
    constant : {"exact", "constant set to 1", "asymptotic law"}
        Whether the number is the bound. "constant set to 1": the constant is not given by the
        theorem, only the dependence on the data means something.
    ratio : float
        Value over the computed smallest eigenvalue; NaN where that is zero to rounding.
    reference : str
    assumptions : tuple of Check
    note : str
    """

    name: str
    direction: str
    value: float
    constant: str
    ratio: float
    reference: str
    assumptions: tuple[Check, ...] = ()
    note: str = ""

    @property
    def applies(self) -> bool:
        """Whether the value exists and no assumption is known to fail."""
        failed = any(check.holds is False for check in self.assumptions)
        return not failed and not math.isnan(self.value)

    @property
    def fitted(self) -> float:
        """The constant that would make it an equality on these data; NaN where one is given.

        It is fitted, and not the theorem's.
        """
        return 1 / self.ratio if self.constant == UNIT and self.ratio > 0 else math.nan


@dataclass(frozen=True)
class BoundTable(Table):
    """Bounds beside the computed smallest eigenvalue (`ntkfast.spectrum.bounds`).

    Iterating gives the rows; ``str`` a text table.

    Attributes
    ----------
    rows : tuple of Bound
    lambda_min, error : float
        The computed smallest eigenvalue and its certified error.
    extremes : Extremes
        All that was computed.
    """

    rows: tuple[Bound, ...]
    lambda_min: float
    error: float
    extremes: Extremes

    def __iter__(self) -> Iterator[Bound]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, name: str) -> Bound:
        """Return the row with this name."""
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(name)

    def best(self, direction: str) -> Bound:
        """Return the tightest exact bound that applies, "lower" or "upper"."""
        checks.choice("direction", direction, ("lower", "upper"))
        rows = [
            row
            for row in self.rows
            if row.applies and row.constant == EXACT and row.direction == direction
        ]
        if not rows:
            raise ValueError(f"direction: expected one with an exact bound, got {direction!r}")
        return (max if direction == "lower" else min)(rows, key=lambda row: row.value)

    def to_dict(self) -> dict[str, list[Any]]:
        """Return the columns by their names, one line per bound."""
        own = "name direction value constant fitted applies reference note ratio".split()
        columns = {name: [getattr(row, name) for row in self.rows] for name in own}
        columns["lambda_min"] = [self.lambda_min] * len(self.rows)
        columns["assumptions"] = ["; ".join(map(str, row.assumptions)) for row in self.rows]
        return {name: columns[name] for name in COLUMNS}

    def __repr__(self) -> str:
        head = f"smallest eigenvalue {self.lambda_min:.6g} within {self.error:.1e}"
        width = max(len(row.name) for row in self.rows)
        lines = [head, f"{'bound':<{width}}  side          value     ratio  constant"]
        for row in self.rows:
            line = f"{row.name:<{width}}  {row.direction}  {row.value:>13.6g}  {row.ratio:>8.3g}"
            line += f"  {row.constant}"
            line += "" if math.isnan(row.fitted) else f" (fitted: {row.fitted:.3g})"
            lines.append(line if row.applies else line + ", does not apply")
            lines += [f"    NO: {c.text}" for c in row.assumptions if c.holds is False]
            lines += [f"    {row.note}"] if row.note else []
        return "\n".join(lines)


@dataclass(frozen=True)
class _Case:
    """What the bounds look at."""

    kernel: Kernel
    X: Values
    K_diagonal: Values
    pairs: Pairs
    found: Extremes

    @property
    def network(self) -> DenseNetwork | None:
        """The network of an NTK; None for every other kernel."""
        kernel = self.kernel
        return (
            kernel.network if isinstance(kernel, NetworkKernel) and kernel.kind == "ntk" else None
        )

    @property
    def layers(self) -> Layers:
        return self.network.layers(self.X.shape[1]) if self.network else ()

    @property
    def scale(self) -> float:
        return self.network.scale("ntk") if self.network else 1.0

    def row(
        self, name: str, direction: str, value: float, constant: str, reference: str, *rest: Any
    ) -> Bound:
        low = float(self.found.smallest[0])
        ratio = value / low if self.found.definite else math.nan
        return Bound(name, direction, float(value), constant, float(ratio), reference, *rest)


def bounds(
    kernel: Kernel | DenseNetwork,
    X: ArrayLike,
    *,
    rng: RNG = 0,
    engine: str | None = None,
    threads: int | None = None,
    progress: bool | None = None,
) -> BoundTable:
    """Evaluate every published bound on the smallest eigenvalue of the NTK matrix on data.

    Parameters
    ----------
    kernel : Kernel or DenseNetwork
        A network stands for its NTK. Bounds that need the layers are left out for other kernels.
    X : (n, d) array
        Rows are inputs, 2 <= n <= 5,000; computed in float64.
    rng : int, Generator or None
        Of the computation of the smallest eigenvalue.
    engine, threads
        As for calling a kernel.
    progress : bool, optional
        Whether to show passes over all pairs on a bar. Default: on a terminal, after some seconds.

    Returns
    -------
    BoundTable

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type or shape, or X holds NaN or infinity.

    Notes
    -----
    Derived for this package and checked on random data, so valid where their assumptions hold:

    - *diagonal*, *pair*, *companion*: Rayleigh quotients of a unit vector, of the best vector on
      two rows (the least eigenvalue of a 2 by 2 minor), and of (e_i - e_j)/sqrt 2. The last is the
      limit of wide networks of the inequality of [2]_, abs(grad f(x_i) - grad f(x_j))^2 / 2.
    - *Schur sum*: K = sum of products of NNGP matrices G_l with matrices of derivatives, and
      lambda_min(A o B) >= lambda_min(A) min B_ii (Schur). For bias-free ReLU networks this is
      sum_l lambda_min(G_l) as in [1]_; here for any layers, residual ones included.
    - *power r*: the first hidden NNGP matrix is a sum over r of D_r U^{o r} D_r, with U the cosines
      of the pre-activations and D_r their Hermite coefficients; one term is left. The form of [1]_
      divides by max abs(x_i)^{2(r-1)}, here the diagonal factor stays inside, which is never
      worse and the same on a sphere. "all powers" adds the terms for r = 0 ... 8 (Weyl).
    - *small angle*: for two rows of one norm at an angle t -> 0 with all others fixed, the smallest
      eigenvalue tends to c t + O(t^2) with c the slope of the profile at u = 1, L (L+1) / (2 pi)
      for L hidden ReLU layers with unit rows. An asymptotic law, not a bound.

    Taken from summaries of the papers, with the constants that the theorems leave open set to 1:
    *separation* [2]_ for shallow networks, read in the paper, and for deep ones, whose power of
    the logarithm was not read and is assumed to be that of the shallow case; *uniform sphere*
    [2]_; *data in d dimensions* [1]_, recalled and not read. *positivity* [3]_: its abstract was
    read, the distinction of networks with and without bias is recalled; the reasons for a
    singular matrix were derived and are checked on the rows concerned.

    References
    ----------
    .. [1] Q. Nguyen, M. Mondelli, G. Montufar, "Tight bounds on the smallest eigenvalue of the
       neural tangent kernel for deep ReLU networks", ICML 2021, arXiv:2012.11654.
    .. [2] K. Karhadkar, M. Murray, G. Montufar, "Bounds for the smallest eigenvalue of the NTK for
       arbitrary spherical data of arbitrary dimension", 2024, arXiv:2405.14630.
    .. [3] L. Carvalho, J. L. Costa, J. Mourao, G. Oliveira, "The positivity of the neural tangent
       kernel", 2024, arXiv:2404.12928.

    Examples
    --------
    >>> import numpy as np, ntkfast as nf
    >>> from ntkfast.spectrum import bounds
    >>> table = bounds(nf.FullyConnected(2), np.random.default_rng(0).normal(size=(50, 20)))
    >>> lower, upper = table.best("lower"), table.best("upper")
    >>> lower.name, upper.name, lower.value <= table.lambda_min <= upper.value
    ('Schur sum', 'pair', True)
    """
    chosen = kernel.ntk if isinstance(kernel, DenseNetwork) else kernel
    if not isinstance(chosen, Kernel):
        raise TypeError(f"kernel: expected a Kernel or a DenseNetwork, got {type(kernel).__name__}")
    chosen = checked_row_kernel(chosen)
    rows = chosen.collect(X).astype(np.float64, copy=False)
    if not 2 <= len(rows) <= MAX_ROWS:
        raise ValueError(f"X: expected 2 to {MAX_ROWS} rows, got {len(rows)}")
    found = _quiet_extremes(
        chosen, rows, rng=rng, engine=engine, threads=threads, progress=progress
    )
    evaluation = Evaluation(chosen, engine, threads)
    case = _Case(chosen, rows, chosen.diag(rows).astype(np.float64), look(evaluation, rows), found)
    table = [*_upper(case), *_schur(case), *_nguyen(case), *_karhadkar(case), *_positivity(case)]
    return BoundTable(tuple(table), float(found.smallest[0]), float(found.smallest_error[0]), found)


def _quiet_extremes(kernel: Kernel, X: Values, **options: Any) -> Extremes:
    """Singular matrices are the subject here: the table explains them better than a warning."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return extremes(kernel, X, **options)


def _least(A: Values) -> float:
    """Smallest eigenvalue of a semidefinite matrix less its rounding; A is overwritten."""
    rounding = ENTRY_ERROR * float(np.trace(A))
    return max(float(linalg.eigvalsh(A, subset_by_index=[0, 0], overwrite_a=True)[0]) - rounding, 0)


# Upper bounds by trial vectors -------------------------------------------------------------------


def _upper(case: _Case) -> Iterator[Bound]:
    diagonal = float(case.K_diagonal.min())
    yield case.row("diagonal", "upper", diagonal, EXACT, f"min K_ii; {NGUYEN}")
    pair = case.pairs
    where = "rows {} and {}".format
    yield case.row(
        "pair", "upper", pair.minor, EXACT, "Cauchy interlacing", (), where(*pair.minor_rows)
    )
    yield case.row(
        "companion", "upper", pair.companion, EXACT, KARHADKAR, (), where(*pair.companion_rows)
    )


# Nguyen et al. -----------------------------------------------------------------------------------


class _Prefix(DenseNetwork):
    """The first layers of a network."""

    def __init__(self, layers: Layers) -> None:
        self._layers = tuple(layers)

    def layers(self, dim: int) -> Layers:
        """Return the layers, made for the right number of features already."""
        return self._layers


def _nngp(layers: Layers, X: Values) -> Values:
    """NNGP matrix after these layers."""
    return np.asarray(NetworkKernel(_Prefix(layers), "nngp")(X), np.float64)


def _lower_bound(layers: Layers, X: Values, smallest: dict[int, float], first: float) -> float:
    """Carry lower bounds of lambda_min(NNGP) and lambda_min(NTK) through the layers.

    `smallest` has lower bounds of lambda_min of the NNGP matrix behind the activation of a layer
    (0 where absent: it is positive semidefinite), `first` that of X X^T.
    """
    q = np.sum(X * X, axis=1)
    state = (q, first, 0.0)
    slots = [state] * 4
    for index, layer in enumerate(layers):
        if layer.save >= 0:
            slots[layer.save] = state
        q, c, t = state
        if layer.activation != IDENTITY:
            t *= float(np.min(layer.activation.derivative_variance(q)))
            q = np.asarray(layer.activation.variance(q), np.float64)
            c = smallest.get(index, 0.0)
        state = (layer.w * q + layer.e, layer.w * c, layer.w * t + layer.x * c)
        if layer.add >= 0:
            a = slots[layer.add]
            state = (state[0] + a[0], state[1] + a[1], state[2] + a[2])
    return state[2]


def _schur(case: _Case) -> Iterator[Bound]:
    layers, X = case.layers, case.X
    if not layers:
        return
    first = _least(X @ X.T)
    smallest = {
        # the activation of this layer alone, without its affine step
        index: _least(_nngp((*layers[:index], Layer(layer.activation)), X))
        for index, layer in enumerate(layers)
        if layer.activation != IDENTITY
    }
    value = case.scale * _lower_bound(layers, X, smallest, first)
    yield case.row("Schur sum", "lower", value, EXACT, f"{NGUYEN}, Schur's inequality")
    yield from _powers(case, min(smallest, default=0))


def _powers(case: _Case, index: int) -> Iterator[Bound]:
    """One Hermite term of the first hidden layer, and the first nine together."""
    layers, X = case.layers, case.X
    if not index:
        return
    before = _nngp(layers[:index], X)
    q = np.diagonal(before).copy()
    if not q.min() > 0:
        return
    U = before / np.sqrt(np.outer(q, q))
    D = np.asarray(layers[index].activation.hermite(q, POWERS), np.float64)
    terms = [_least(np.outer(a, a) * U**r) for r, a in enumerate(D.T)]
    for r in range(2, POWERS):
        if np.any(np.abs(D[:, r]) > 1e-12 * np.abs(D).max()):  # ReLU has even powers only
            value = case.scale * _lower_bound(layers, X, {index: terms[r]}, 0.0)
            yield case.row(f"power {r}", "lower", value, EXACT, f"{NGUYEN}, Khatri-Rao")
    value = case.scale * _lower_bound(layers, X, {index: sum(terms)}, 0.0)
    yield case.row("all powers", "lower", value, EXACT, f"{NGUYEN}, and Weyl's inequality")


def _relu_chain(case: _Case) -> Check:
    """Whether the network is the one of the papers: fully connected ReLU, no bias."""
    network = case.network
    fits = (
        isinstance(network, FullyConnected)
        and network.activation == ABReLU(0.0, 1.0)
        and network.depth >= 1
        and not network.bias
        and not network.b_std
    )
    return Check("bias-free fully connected ReLU network", fits)


def _nguyen(case: _Case) -> Iterator[Bound]:
    """Evaluate the theorem for random data: between mu_r^2 d and L d, for N below about d^{r/2}."""
    check = _relu_chain(case)
    if not check.holds:
        return
    n, d = case.X.shape
    r = next((r for r in range(2, 41, 2) if n ** (2 / (r - 0.5)) <= d), None)
    if r is None:
        return
    coefficient = float(ABReLU(0.0, 1.0).hermite(np.ones(1), r + 1)[0, r]) ** 2
    squares = np.sum(case.X**2, axis=1)
    checks = (
        check,
        Check("rows are independent draws of a Lipschitz-concentrated law", None),
        Check(
            "squared norms of the rows are within a factor of 4", squares.max() <= 4 * squares.min()
        ),
    )
    note = f"constant not given by the theorem; r = {r}, the least even r with n^(2/(r-1/2)) <= d"
    # mu_r^2 d for K_ii = L |x_i|^2, the scale of the paper
    value = coefficient * float(case.K_diagonal.mean()) / len(case.layers)
    yield case.row("data in d dimensions", "lower", value, UNIT, NGUYEN, checks, note)


# Karhadkar et al. --------------------------------------------------------------------------------


def _karhadkar(case: _Case) -> Iterator[Bound]:
    pair = case.pairs
    t = pair.equal_norms
    if t is not None and isinstance(case.kernel, NetworkKernel):
        yield _small_angle(case, t)
    check = _relu_chain(case)
    if not check.holds or not isinstance(case.network, FullyConnected):
        return
    dim, n = case.X.shape[1], len(case.X)
    checks = (
        check,
        Check("at least 3 dimensions", dim >= 3),
        Check("rows have norm 1", bool(np.all(np.abs(pair.norms - 1) <= 1e-6))),
        Check("no two rows are equal or opposite", pair.delta > 0),
    )
    unit = float(case.K_diagonal.max()) / (1 if case.network.depth == 1 else case.network.depth + 1)
    power, label = (2, "shallow") if case.network.depth == 1 else (4, "deep")
    note = "constant not given by the theorem"
    low = _log_factor(dim, pair.delta) * pair.delta**power
    yield case.row(
        f"separation delta, {label}",
        "lower",
        unit * low,
        UNIT,
        KARHADKAR,
        checks,
        note + f"; delta = {pair.delta:.3g}",
    )
    if case.network.depth == 1:
        yield case.row(
            "separation delta'",
            "upper",
            unit * pair.delta_prime,
            UNIT,
            KARHADKAR,
            checks,
            note + f"; delta' = {pair.delta_prime:.3g}",
        )
        uniform = (*checks, Check("rows are uniform on the sphere", None))
        eps = 0.05
        low = high = math.nan
        if dim > 1:
            low = (1 + math.log(n / eps) / math.log(dim)) ** -3 * (eps**2 / n**4) ** (1 / (dim - 1))
            high = (math.log(1 / eps) / n**2) ** (1 / (dim - 1))
        note += "; probability 0.95"
        yield case.row("uniform sphere, lower", "lower", unit * low, UNIT, KARHADKAR, uniform, note)
        yield case.row(
            "uniform sphere, upper", "upper", unit * high, UNIT, KARHADKAR, uniform, note
        )


def _log_factor(dim: int, delta: float) -> float:
    """(1 + d log(1/delta) / log d)^-3, NaN where it has no meaning."""
    if dim < 2 or not 0 < delta:
        return math.nan
    return float(max(1 + dim * math.log(1 / delta) / math.log(dim), 1.0) ** -3)


def _small_angle(case: _Case, radius: float) -> Bound:
    """Slope of the kernel at equal inputs times the least angle."""
    kernel, dim = case.kernel, case.X.shape[1]
    assert isinstance(kernel, NetworkKernel)
    h = 1e-7
    half = np.array([(h / 2) ** 2], np.longdouble)
    missing = float(kernel._on_sphere(radius**2, half, 1 - half, dim)[1][0])
    slope = missing / h
    smooth = slope <= 1e-5 * float(case.K_diagonal.max())
    checks = (
        Check("the kernel has a corner at equal inputs", not smooth),
        Check("one close pair, all other rows far away", None),
    )
    value = math.nan if smooth else slope * case.pairs.angle
    note = f"slope {slope:.6g}, least angle {case.pairs.angle:.3g}"
    return case.row("small angle", "limit", value, LAW, KARHADKAR + ", derived", checks, note)


# Carvalho et al. ---------------------------------------------------------------------------------


def _positivity(case: _Case) -> Iterator[Bound]:
    """Strict positivity: what the theorem asks, and the reason where the matrix is singular."""
    if case.network is None:
        return
    layers, dim = case.layers, case.X.shape[1]
    activations = [layer.activation for layer in layers if layer.activation != IDENTITY]
    curved = bool(activations) and not all(isinstance(a, _Series) for a in activations)
    # A bias that starts at zero, or comes in later layers only, does not separate all multiples.
    biased = layers[0].e > 0
    groups = case.pairs.duplicates if biased else case.pairs.proportional
    kind = "distinct (Gaussian bias)" if biased else "not proportional (no Gaussian bias)"
    checks = (
        Check("the activation is not a polynomial", curved),
        Check(f"rows are {kind}", not groups),
    )
    reasons = [*_rank(layers, len(case.X), dim), *_singular_groups(case)]
    yield case.row(
        "positivity",
        "lower",
        0.0,
        EXACT,
        CARVALHO,
        checks,
        "singular: " + "; ".join(reasons) if reasons else "",
    )


def _rank(layers: Layers, n: int, dim: int) -> Iterator[str]:
    """Polynomial networks are polynomials of the inputs: as many dimensions and no more."""
    activations = [layer.activation for layer in layers if layer.activation != IDENTITY]
    series = [a for a in activations if isinstance(a, _Series)]
    if len(series) < len(activations):
        return
    degree = math.prod(len(a.coefficients) - 1 for a in series)
    single = all(isinstance(a, Polynomial) and a.degree is not None for a in series)
    homogeneous = single and not any(layer.e > 0 or layer.y > 0 for layer in layers)
    rank = math.comb(dim + degree - 1, degree) if homogeneous else math.comb(dim + degree, degree)
    if rank < n:
        yield (
            f"{n} rows, but the kernel is a polynomial of degree {degree} and of rank at most "
            f"{rank}"
        )


def _singular_groups(case: _Case) -> Iterator[str]:
    """Yield the groups of proportional rows whose own Gram matrix is singular to rounding."""
    for group in case.pairs.proportional[:5]:
        some = list(group[:50])
        K = np.asarray(case.kernel(np.ascontiguousarray(case.X[some])), np.float64)
        if _least(K) == 0:
            names = ", ".join(str(row) for row in group[:6]) + (", ..." if len(group) > 6 else "")
            equal = bool(np.all(case.X[some] == case.X[some[0]]))
            yield f"rows {names} are {'equal' if equal else 'proportional'}"
