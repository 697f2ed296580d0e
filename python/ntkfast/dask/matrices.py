"""Products with Gram matrices, and their diagonals, on a cluster."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ntkfast.arrays import checks
from ntkfast.arrays.collections import FloatArray, Values
from ntkfast.dask import tasks
from ntkfast.dask.blocks import Blocks, read, strips, wholes
from ntkfast.dask.parts import whole
from ntkfast.dask.session import Session
from ntkfast.engines.groups import BlockPair, Groups, block_pair, count_pairs
from ntkfast.kernels.base import Kernel, checked_kernel
from ntkfast.support.progress import Bar

SECONDS = 0.05  # of a task, about
PAIRS = 2e8  # that a processor does in a second, about: until it is measured


def diag(kernel: Kernel, X: Any, *, client: Any = None, progress: bool | None = None) -> FloatArray:
    """Return the diagonal of K(X, X), computed on a cluster.

    Parameters
    ----------
    kernel : Kernel
    X : array, memory map, zarr array, HDF5 dataset or dask array, shape (n, d)
        Or other inputs of the kernel, as for :func:`matmul`.
    client : distributed.Client or str, optional
        Or the address of a scheduler. Default: the current client of this process.
    progress : bool, optional
        Whether to show a bar. Default: on a terminal, after some seconds.

    Returns
    -------
    (n,) array of the dtype of `X`
        With the bits of ``kernel.diag(X)``.

    Raises
    ------
    TypeError, ValueError
        As for :func:`matmul`.
    """
    session = Session(client)
    blocks = read(session, "X", checked_kernel(kernel), X, strips)
    work = ((kernel, block) for block in blocks.pieces)
    with Bar(progress, "diag", len(blocks), "rows") as bar:
        return _stacked(session.ordered(tasks.diagonal, work, SECONDS), bar)


def matmul(
    kernel: Kernel,
    X: Any,
    Y: Any | None,
    V: ArrayLike,
    *,
    client: Any = None,
    engine: str | None = None,
    progress: bool | None = None,
) -> FloatArray:
    """Return K(X, Y) @ V, computed on a cluster; no Gram matrix is stored anywhere.

    Parameters
    ----------
    kernel : Kernel
    X : array, memory map, zarr array, HDF5 dataset or dask array, shape (n, d)
        Or other inputs of the kernel: arrays of images, `ntkfast.sequences`. Blocks of some
        thousand rows go to a worker once; those of a dask array never pass this process.
    Y : the same, shape (m, d), or None
        None, or X itself: K(X, X) @ V, each pair of inputs evaluated once. Otherwise a task holds
        all of Y.
    V : (m,) or (m, c) array
    client : distributed.Client or str, optional
        Or the address of a scheduler. Default: the current client of this process.
    engine : {"native", "numba", "cuda"}, optional
        Default: the fastest one of each worker.
    progress : bool, optional
        Whether to show a bar. Default: on a terminal, after some seconds.

    Returns
    -------
    (n,) or (n, c) array of the common dtype of X and Y
        With the same bits for any number of workers: those of ``kernel.matmul(X, Y, V)`` if an
        engine evaluates the kernel in one pass. Others (sums, multiples, normalised kernels,
        sequences, images) may differ from it by some roundings of the dtype.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, shape or range, or holds NaN or infinity, the product
        overflows, or there is no client.
    RuntimeError
        If a worker has another version of ntkfast, or workers die again and again.

    Warns
    -----
    ClusterWarning
        If workers compute with different engines or instruction sets, and bits depend on which.

    Examples
    --------
    >>> import numpy as np, ntkfast as nf
    >>> from distributed import Client
    >>> X = np.random.default_rng(0).normal(size=(300, 5))
    >>> kernel = nf.FullyConnected(3).ntk
    >>> with Client(processes=False, n_workers=1, dashboard_address=None) as client:
    ...     product = nf.dask.matmul(kernel, X, None, X[:, :2], client=client)
    >>> bool(np.allclose(product, kernel(X) @ X[:, :2]))
    True
    """
    session = Session(client)
    alone = Y is None or Y is X
    left = read(session, "X", checked_kernel(kernel), X, None if alone else strips)
    right = left if alone else read(session, "Y", kernel, Y, wholes)
    pairs = len(left) * (len(left) + 1) // 2 if alone else len(left) * len(right)
    with Bar(progress, "matmul", pairs, "pairs") as bar:
        return product(session, kernel, left, None if alone else right, V, engine, bar)


def product(
    session: Session,
    kernel: Kernel,
    X: Blocks,
    Y: Blocks | None,
    V: ArrayLike,
    engine: str | None,
    bar: Bar,
) -> FloatArray:
    """Return K(X, Y) @ V, or K(X, X) @ V where Y is None.

    Raises
    ------
    TypeError, ValueError
        As for :func:`matmul`.
    """
    right = X if Y is None else Y
    dtype = np.result_type(X.dtype, right.dtype)
    factor, vector = checks.columns("V", V, len(right))
    factor = checks.narrowed("V", factor, dtype)
    if Y is None:
        with np.errstate(over="ignore"):  # said below
            found = symmetric(session, kernel, X, factor, engine, bar).astype(dtype)
    else:
        found = rectangular(session, kernel, X, Y, factor, engine, bar)
    if not np.isfinite(found).all():
        raise ValueError(
            f"V: the product with the kernel overflows {dtype}, or V is not finite; "
            "scale V down, or pass X as float64"
        )
    return found[:, 0] if vector else found


def rectangular(
    session: Session,
    kernel: Kernel,
    X: Blocks,
    Y: Blocks,
    V: FloatArray,
    engine: str | None,
    bar: Bar,
) -> FloatArray:
    """Return K(X, Y) V: a task for each block of X."""
    pieces = Y.like(V)
    work = ((kernel, block, Y.pieces, pieces, engine) for block in X.pieces)
    guess = max(SECONDS, _length(X.slices[0]) * len(Y) / PAIRS)
    found = session.ordered(tasks.products, work, guess, together=True, engine=engine)
    return _stacked(found, bar, len(Y))


def _stacked(results: Iterable[FloatArray], bar: Bar, pairs: int = 1) -> FloatArray:
    """Return blocks of rows as one array; a row has so many pairs."""
    found = []
    for block in results:
        found.append(block)
        bar.update(len(block) * pairs)
    return np.concatenate(found)


def symmetric(
    session: Session, kernel: Kernel, X: Blocks, V: FloatArray, engine: str | None, bar: Bar
) -> Values:
    """Return K(X, X) V in float64: a call for each pair of groups, added in their order."""
    factors, blocks = X.like(V), len(X.slices)
    pairs = [block_pair(task, blocks) for task in range(count_pairs(blocks))]
    inputs, factor = whole(X.pieces), whole(factors)

    def call(pair: BlockPair) -> tuple[Any, ...]:
        i, j, *_ = pair
        if inputs is not None and factor is not None:  # which no task has to join
            groups = Groups(X.slices[i], X.slices[j], len(X))
            return kernel, [inputs], [factor], groups, engine, pair
        some = [i] if i == j else [i, j]
        rows, columns = (slice(0, _length(X.slices[k])) for k in (i, j))
        if i != j:
            columns = slice(rows.stop, rows.stop + columns.stop)
        groups = Groups(rows, columns, len(X))
        parts = [X.pieces[k] for k in some], [factors[k] for k in some]
        return kernel, *parts, groups, engine, pair

    def count(pair: BlockPair) -> int:
        i, j, *_ = pair
        size, other = _length(X.slices[i]), _length(X.slices[j])
        return size * other if i != j else size * (size + 1) // 2

    sums = np.zeros(V.shape)
    counts = [count(pair) for pair in pairs]
    results = session.ordered(
        tasks.group_products,
        map(call, pairs),
        max(SECONDS / max(counts), 1 / PAIRS),
        together=True,
        costs=counts,
        engine=engine,
    )
    for (i, j, *_), size, found in zip(pairs, counts, results, strict=True):
        for k, part in zip((i, j), found, strict=False):  # one, if a group is with itself
            if part is not None:
                sums[X.slices[k]] += part
        bar.update(size)
    return sums


def _length(rows: slice) -> int:
    return int(rows.stop - rows.start)
