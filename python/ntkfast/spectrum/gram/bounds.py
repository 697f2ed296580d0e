"""Published bounds on the smallest eigenvalue of an NTK Gram matrix, evaluated on data."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ntkfast.kernels.base import Kernel
from ntkfast.kernels.evaluation import Evaluation
from ntkfast.kernels.rows import checked_row_kernel
from ntkfast.networks.base import DenseNetwork
from ntkfast.spectrum.gram.bound_case import Case, Values
from ntkfast.spectrum.gram.bound_table import EXACT, Bound, BoundTable
from ntkfast.spectrum.gram.bounds_carvalho import positivity
from ntkfast.spectrum.gram.bounds_karhadkar import KARHADKAR, separation
from ntkfast.spectrum.gram.bounds_nguyen import NGUYEN, random_data, schur
from ntkfast.spectrum.gram.eigenpairs import Extremes
from ntkfast.spectrum.gram.extremes import extremes
from ntkfast.spectrum.gram.row_pairs import look
from ntkfast.support.randomness import RNG

MAX_ROWS = 5_000


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
    case = Case(chosen, rows, chosen.diag(rows).astype(np.float64), look(evaluation, rows), found)
    table = [*_upper(case), *schur(case), *random_data(case), *separation(case), *positivity(case)]
    return BoundTable(tuple(table), float(found.smallest[0]), float(found.smallest_error[0]), found)


def _quiet_extremes(kernel: Kernel, X: Values, **options: Any) -> Extremes:
    """Singular matrices are the subject here: the table explains them better than a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return extremes(kernel, X, **options)


def _upper(case: Case) -> Iterator[Bound]:
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
