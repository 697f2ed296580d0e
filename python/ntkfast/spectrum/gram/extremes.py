"""Extreme eigenvalues of Gram matrices, in memory or from products alone, with error bounds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import linalg
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

from ntkfast.arrays import checks
from ntkfast.arrays.collections import FloatArray
from ntkfast.kernels.base import Kernel, checked_kernel
from ntkfast.kernels.evaluation import Evaluation
from ntkfast.spectrum.gram.cholesky import Cholesky
from ntkfast.spectrum.gram.eigenpairs import Extremes
from ntkfast.spectrum.gram.lobpcg import Eigenpairs, Operator, lobpcg
from ntkfast.spectrum.gram.passes import Passes
from ntkfast.spectrum.gram.vecchia import Preconditioner, deflated, vecchia
from ntkfast.support.progress import Bar
from ntkfast.support.randomness import RNG
from ntkfast.support.telling import warn

Values = NDArray[np.float64]

METHODS = ("auto", "dense", "cholesky", "iterative")
DENSE_ROWS = 1_000  # up to here all eigenvalues take less than a second (bench/test_spectrum.py)
MEMORY_ROWS = 20_000  # 3.2 GB
SPARE = 8  # vectors beyond those asked for: they cost little in a pass and speed up the others
ENTRY_ERROR = 8 * float(np.finfo(np.float64).eps)  # of K_ij, in units of sqrt(K_ii K_jj)
TOL_DIRECT, TOL_ITERATIVE = 1e-6, 1e-2
SCALED = ("smallest", "largest", "smallest_error", "largest_error", "rounding")
TOL_LARGEST = 1e-4  # the top of the spectrum is well separated: these digits are cheap
FEW_DIMS, MANY_DIMS = (40, 0), (120, 64)  # neighbours and rank of the correction, in d <= 5 or more


@dataclass(frozen=True)
class _Problem:
    """A kernel, its rows, and how the extremes of their Gram matrix are wanted."""

    kernel: Evaluation
    X: FloatArray
    k: int
    rounding: float
    tol: float
    rng: np.random.Generator
    max_iterations: int
    neighbours: int
    deflate: int
    passes: Passes

    @property
    def double(self) -> FloatArray:
        return self.X.astype(np.float64, copy=False)


def extremes(
    kernel: Kernel,
    X: ArrayLike,
    k: int = 1,
    *,
    method: str = "auto",
    tol: float | None = None,
    verify: bool = False,
    neighbours: int | None = None,
    deflate: int | None = None,
    max_iterations: int = 200,
    rng: RNG = 0,
    engine: str | None = None,
    threads: int | None = None,
    progress: bool | None = None,
) -> Extremes:
    """Return the smallest and largest eigenvalues and eigenvectors of the Gram matrix K(X, X).

    Parameters
    ----------
    kernel : Kernel
        For example ``nf.FullyConnected(3).ntk``.
    X : (n, d) array
        Rows are inputs, taken as exact numbers.
    k : int, default 1
        Number of eigenvalues at each end, at most n.
    method : {"auto", "dense", "cholesky", "iterative"}
        "dense": all eigenvalues (LAPACK). "cholesky": Lanczos on the inverse through a Cholesky
        factor in memory. "iterative": LOBPCG with a sparse approximate inverse, from products
        alone; memory O(n). "auto" chooses by n: up to 1,000, up to 20,000 (3.2 GB), and beyond.
    tol : float, optional
        Residual wanted, relative to each eigenvalue. Default 1e-6 for "cholesky", 1e-2 for
        "iterative"; the largest eigenvalues are computed to 1e-4 at least. The relative error of an
        eigenvalue is about the square of this where its neighbours are not too close.
    verify : bool, default False
        For "dense" and "cholesky": prove that no eigenvalue lies below, at the price of one more
        factor. ``smallest_error[0]`` grows by what that may be wrong, about n eps tr K [2]_.
    neighbours : int, optional
        For "iterative": rows that the approximate inverse explains each row by. Default: 40 in up
        to 5 dimensions, 120 in more.
    deflate : int, optional
        For "iterative": rank of a correction of the approximate inverse at the top of the
        spectrum, which costs three passes with that many vectors. Default: 64, or 0 in up to 5
        dimensions, where it gains nothing.
    max_iterations : int, default 200
        For "iterative", at each end.
    rng : int, Generator or None
        Of starting vectors and elimination order; None draws fresh ones.
    engine, threads
        As for calling a kernel.
    progress : bool, optional
        Whether to show passes over all pairs on a bar. Default: on a terminal, after some seconds.

    Returns
    -------
    Extremes

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, shape or range, or X holds NaN or infinity.
    numpy.linalg.LinAlgError
        If the Cholesky factorisation breaks down although the rounding of the matrix is allowed
        for: entries are less accurate than that, as with activations that jump.

    Warns
    -----
    RuntimeWarning
        If the Gram matrix is not positive definite beyond rounding, naming the rows on which the
        smallest eigenvector rests; or if the tolerance was not reached.

    Notes
    -----
    What is certified: the vectors v returned are orthonormal, the values are their Rayleigh
    quotients t, and r = abs(K v - t v) was computed by a float64 pass, whatever the dtype of X. An
    eigenvalue of K lies in [t - r, t + r] [1]_, ``smallest[0]`` is never below the smallest
    eigenvalue and ``largest[0]`` never above the largest. For computed entries, which are wrong
    by at most 8 eps sqrt(K_ii K_jj), add ``rounding`` = 8 eps tr K (Weyl); the ``error`` fields
    hold r + rounding. The rounding of long sums is not bounded on top of this; measured, it is far
    smaller. Entries of kernels of functions with jumps (step, sign) are less accurate between
    nearly equal rows, and the bound does not hold there.

    That no *other* eigenvalue is smaller is proven only with ``verify``: a Cholesky factor of K
    less a multiple of the identity exists, with a margin for rounding of entries and factor.
    Otherwise it rests on LAPACK for "dense", which computes all eigenvalues, and on random starts.

    float32 rows: "dense" and "cholesky" compute in float64 throughout. "iterative" makes its passes
    in float32, at half the time; their noise, about 1e-7 sqrt(n) K(x,x), limits the residual that
    can be reached, and since the bounds come from float64 they show it. Pass float64 rows where
    the smallest eigenvalue is not far above that.

    References
    ----------
    .. [1] B. N. Parlett, "The symmetric eigenvalue problem", SIAM 1998, section 4.5.
    .. [2] S. M. Rump, "Verification of positive definiteness", BIT 46 (2006): a floating-point
       factor proves A > -g/(1-g) tr A, g = (n + 1) eps / 2.

    Examples
    --------
    >>> import numpy as np, ntkfast as nf
    >>> from ntkfast.spectrum import extremes
    >>> X = np.random.default_rng(0).normal(size=(300, 5))
    >>> found = extremes(nf.FullyConnected(3).ntk, X, k=2)
    >>> found.smallest.round(4), found.largest.round(1), found.definite
    (array([0.2679, 0.3392]), array([1816.8,  400.9]), True)
    """
    kernel = checked_kernel(kernel)
    rows = kernel.collect(X)
    chosen = _method(method, len(rows))
    wanted = _count("k", k, len(rows), chosen)
    default_tol = TOL_ITERATIVE if chosen == "iterative" else TOL_DIRECT
    few = kernel.of_rows and rows.shape[1] <= 5
    near, rank = FEW_DIMS if few else MANY_DIMS
    rank = min(rank, len(rows) // 8)
    if verify and chosen == "iterative":
        raise ValueError('verify: expected False for "iterative": there is no factor to prove it')
    double = rows.astype(np.float64, copy=False)
    evaluation = Evaluation(kernel, engine, threads, progress).near_one(double)
    with Bar(progress, "extremes", None, "passes") as bar:
        problem = _Problem(
            evaluation,
            rows,
            wanted,
            ENTRY_ERROR * float(np.sum(evaluation.diag(double))),
            checks.number("tol", default_tol if tol is None else tol, above=0.0),
            np.random.default_rng(rng),
            checks.count("max_iterations", max_iterations, least=1),
            checks.count("neighbours", near if neighbours is None else neighbours, least=1),
            _rank(rank if deflate is None else deflate, len(rows)),
            Passes(evaluation, rows, bar),
        )
        low, high = _SOLVERS[chosen](problem)
        found = _certified(problem, chosen, low, high)
        if verify:
            found = _verified(problem, found)
    found = replace(found, **{f: getattr(found, f) / evaluation.factor for f in SCALED})
    _warn(found)
    return found


def _method(method: str, n: int) -> str:
    automatic = "dense" if n <= DENSE_ROWS else "cholesky" if n <= MEMORY_ROWS else "iterative"
    return automatic if checks.choice("method", method, METHODS) == "auto" else method


def _count(name: str, k: int, n: int, method: str) -> int:
    """Check the number of eigenvalues; Krylov methods cannot give all of them."""
    count = checks.count(name, k, least=1)
    most = {"dense": n, "cholesky": n - 1, "iterative": n // 8 - SPARE}[method]
    if most < 1:
        raise ValueError(
            f'method: expected "dense" for {n} rows, got "{method}", which needs '
            f"{ {'cholesky': 2, 'iterative': 8 * (SPARE + 1)}[method] } rows or more"
        )
    if count > most:
        hint = "" if method == "dense" else '; use method="dense"'
        wanted = f'at most {most} for {n} rows and method "{method}"'
        raise ValueError(f"{name}: expected {wanted}, got {k}{hint}")
    return count


def _rank(deflate: int, n: int) -> int:
    rank = checks.count("deflate", deflate)
    if rank > n // 4:
        raise ValueError(f"deflate: expected at most {n // 4} for {n} rows, got {rank}")
    return rank


# Solvers: they return the two ends as good as they can; error bounds come after ------------------


def _dense(problem: _Problem) -> tuple[Eigenpairs, Eigenpairs]:
    values, vectors = linalg.eigh(problem.kernel(problem.double), overwrite_a=True)
    k = problem.k
    low = Eigenpairs(values[:k], vectors[:, :k], 0, True)
    return low, Eigenpairs(values[::-1][:k], vectors[:, ::-1][:, :k], 0, True)


def _cholesky(problem: _Problem) -> tuple[Eigenpairs, Eigenpairs]:
    """Lanczos on the inverse of K + rounding, which is definite whenever K is to rounding."""
    high = _top(problem, problem.passes.exact)
    factor = _factor(problem, problem.rounding)
    if factor is None:
        raise np.linalg.LinAlgError(
            "X: the Gram matrix is numerically indefinite: its Cholesky factorisation breaks down "
            f"even with {problem.rounding:.1e} added to the diagonal, the rounding of its entries"
        )
    n, solves = len(problem.X), 0

    def solve(v: Values) -> Values:
        nonlocal solves
        solves += 1
        return factor.solve(v)

    problem.passes.bar.show("smallest")
    vectors, converged = _lanczos(n, solve, problem.k, problem.tol, problem.rng)
    # One more solve damps what is left of the top of the spectrum, where K magnifies errors.
    vectors = linalg.qr(solve(vectors), mode="economic")[0]
    return Eigenpairs(np.empty(0), vectors, solves, converged and high.converged), high


def _factor(problem: _Problem, shift: float) -> Cholesky | None:
    """Cholesky factor of K + shift in the memory of K, or None if there is none."""
    K = problem.kernel(problem.double).astype(np.float64, copy=False)
    K.ravel()[:: len(K) + 1] += shift
    try:
        return Cholesky(K)
    except np.linalg.LinAlgError:
        return None


def _lanczos(
    n: int, apply: Callable[[Values], Values], k: int, tol: float, rng: np.random.Generator
) -> tuple[Values, bool]:
    """Vectors of the k largest eigenvalues of an operator, in descending order."""
    operator = LinearOperator((n, n), matvec=apply, dtype=np.float64)
    try:
        values, vectors = eigsh(operator, k, which="LA", tol=tol, v0=rng.standard_normal(n))
    except ArpackNoConvergence as error:  # many eigenvalues within rounding of zero
        missing = k - error.eigenvectors.shape[1]
        more = rng.standard_normal((n, missing))
        return np.hstack([error.eigenvectors[:, ::-1], more]), False
    return np.asarray(vectors[:, np.argsort(values)[::-1]]), True


def _iterative(problem: _Problem) -> tuple[Eigenpairs, Eigenpairs]:
    high = _top(problem, problem.passes)
    problem.passes.bar.show("approximate inverse")
    sparse = vecchia(problem.kernel, problem.X, problem.neighbours, problem.rng)
    inverse: Preconditioner = sparse
    # The eigenvectors of the approximate inverse are an excellent start, and free of passes.
    size = problem.k + SPARE
    start = _lanczos(len(problem.X), inverse, size, TOL_ITERATIVE, problem.rng)[0]
    if problem.deflate:
        problem.passes.bar.show("deflation")
        inverse = deflated(sparse, problem.passes, problem.deflate, problem.rng)
    low = lobpcg(
        problem.passes,
        start,
        problem.k,
        precondition=inverse,
        tol=problem.tol,
        floor=problem.rounding,
        max_iterations=problem.max_iterations,
        report=lambda residual: problem.passes.bar.show("smallest", residual),
    )
    return low._replace(converged=low.converged and high.converged), high


def _top(problem: _Problem, apply: Operator) -> Eigenpairs:
    """Largest eigenpairs from products with K."""
    tol = min(problem.tol, TOL_LARGEST)
    size = min(problem.k + SPARE, len(problem.X) // 4)
    return lobpcg(
        apply,
        problem.rng.standard_normal((len(problem.X), size)),
        problem.k,
        largest=True,
        tol=tol,
        floor=problem.rounding,
        max_iterations=problem.max_iterations,
        report=lambda residual: problem.passes.bar.show("largest", residual),
    )


_SOLVERS = {"dense": _dense, "cholesky": _cholesky, "iterative": _iterative}


# Error bounds ------------------------------------------------------------------------------------


def _certified(problem: _Problem, method: str, low: Eigenpairs, high: Eigenpairs) -> Extremes:
    """Rayleigh quotients and residuals of both ends from one float64 pass."""
    problem.passes.bar.show("error bounds")
    k = problem.k
    V = np.hstack([low.vectors, high.vectors])
    KV = problem.passes.exact(V)
    smallest, left, low_error = _rayleigh_ritz(V[:, :k], KV[:, :k], 1)
    largest, right, high_error = _rayleigh_ritz(V[:, k:], KV[:, k:], -1)
    return Extremes(
        smallest,
        largest,
        low_error + problem.rounding,
        high_error + problem.rounding,
        left,
        right,
        problem.rounding,
        method,
        low.iterations,
        problem.passes.count,
        low.converged,
        False,
    )


def _rayleigh_ritz(V: Values, KV: Values, step: int) -> tuple[Values, Values, Values]:
    """Ritz values and vectors of span V in ascending or descending order, with residuals."""
    T = V.T @ KV
    values, C = linalg.eigh((T + T.T) / 2)
    values, C = values[::step], C[:, ::step]
    vectors = V @ C
    return values, vectors, np.asarray(np.linalg.norm(KV @ C - vectors * values, axis=0))


def _verified(problem: _Problem, found: Extremes) -> Extremes:
    """Prove by Sylvester's law of inertia that no eigenvalue lies below, or warn that one does."""
    problem.passes.bar.show("proof")
    trace, unit = problem.rounding / ENTRY_ERROR, float(np.finfo(np.float64).eps) / 2
    gamma = (len(problem.X) + 2) * unit  # one for the rounding of the diagonal
    factor_error = gamma / (1 - gamma) * (trace + len(problem.X) * abs(float(found.smallest[0])))
    error = found.smallest_error.copy()
    error[0] += problem.rounding + 2 * factor_error
    below = float(found.smallest[0] - error[0])
    if _factor(problem, -(below + problem.rounding + factor_error)) is None:
        warn(
            f"X: an eigenvalue below {below:.6g} was missed; another rng or a smaller tol finds it",
        )
        return found
    return replace(found, smallest_error=error, proven=True)


def _warn(found: Extremes) -> None:
    """Say what a user should not have to find out."""
    if not found.definite:
        rows = np.sort(np.argsort(-np.abs(found.smallest_vectors[:, 0]), kind="stable")[:2])
        warn(
            "X: the Gram matrix is not positive definite beyond rounding: its smallest eigenvalue "
            f"is {found.smallest[0]:.2e} within {found.smallest_error[0]:.1e}, and its vector "
            f"rests mainly on rows {rows[0]} and {rows[-1]}",
        )
    if not found.converged:
        low = found.smallest_error[-1]
        warn(
            f"tol: not reached in {found.iterations} iterations; the errors of the result are "
            f"valid, up to {low:.1e} for the smallest eigenvalues; raise max_iterations or tol",
        )
