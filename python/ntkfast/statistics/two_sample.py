"""Kernel two-sample tests, with all permutations in one pass over the kernel."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike

from ntkfast.arrays import checks
from ntkfast.finite import MLP
from ntkfast.kernels.base import Kernel, checked_kernel
from ntkfast.statistics.result import TwoSampleTest, checked_level, checked_permutations
from ntkfast.statistics.samples import Pool, pool
from ntkfast.support.randomness import RNG

BOOTSTRAPS = ("full", "test")


def ntk_mmd_test(
    X: ArrayLike,
    Y: ArrayLike,
    *,
    kernel: Kernel | None = None,
    split: float | None = None,
    bootstrap: str = "full",
    n_permutations: int = 400,
    significance_level: float = 0.05,
    rng: RNG = 0,
    engine: str | None = None,
    threads: int | None = None,
) -> TwoSampleTest:
    """Test whether two samples come from one distribution, by the maximum mean discrepancy.

    With weights w = 1/n on X and -1/m on Y the statistic is ``w^T K w``, the squared distance of
    the mean embeddings. With `split` it is ``w_test^T K(test, train) w_train`` instead: the mean
    difference on test inputs of the witness that one short epoch of training finds (Cheng and Xie).

    Parameters
    ----------
    X : (n, ...) array
        Inputs of the kernel; for kernels of sequences also a list.
    Y : (m, ...) array
    kernel : Kernel, optional
        The NTK or NNGP of any network, finite (``MLP.ntk``) or not. Default, as in the paper: the
        time-zero NTK of `softplus_network`, drawn with `rng`, which sees shifts of the mean and
        hardly anything else; ``ntkfast.FullyConnected(2).ntk`` sees changes of scale too.
    split : float, optional
        Share of both samples used for training. Default: no split, which has the higher power.
    bootstrap : {"full", "test"}, default "full"
        Which labels are permuted: all, or those of the test part alone; the latter never trains
        again and needs `split`.
    n_permutations : int, default 400
    significance_level : float, default 0.05
        Rate of false alarms. It holds for any sample size: under the null the labels that are
        permuted are exchangeable.
    rng : int, Generator or None
        Of the permutations, the split and the default kernel.
    engine, threads
        As for calling a kernel.

    Returns
    -------
    TwoSampleTest

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, shape or range.

    Notes
    -----
    All permutations are columns of one matrix, so that ``kernel.matmul`` passes once over the
    pairs; memory is that of ``(n + m) x (n_permutations + 1)`` numbers.

    References
    ----------
    .. [1] X. Cheng, Y. Xie, "Neural tangent kernel maximum mean discrepancy", arXiv:2106.03227
       (the statistic and the test-only bootstrap as in the released notebook; the power curve of
       its experiment in 100 dimensions was replicated, see ``examples/cheng_xie_power.py``).
    .. [2] A. Gretton et al., "A kernel two-sample test", JMLR 2012.

    Examples
    --------
    >>> import numpy as np
    >>> import ntkfast as nf
    >>> X, Y = np.random.default_rng(0).normal(size=(2, 300, 5))
    >>> Y[:, 0] *= 1.5
    >>> nf.statistics.ntk_mmd_test(X, Y, kernel=nf.FullyConnected(2).ntk).rejected
    True
    """
    rate = checked_level(significance_level)
    count = checked_permutations(n_permutations, rate)
    able = None if kernel is None else checked_kernel(kernel)
    both, generator = pool(X, Y, able), np.random.default_rng(rng)
    checks.choice("bootstrap", bootstrap, BOOTSTRAPS)
    k = softplus_network(both.Z.shape[-1], rng=rng).ntk if able is None else able
    if split is None:
        if bootstrap == "test":
            raise ValueError('bootstrap: "test" needs a test part, give split=0.5')
        W = both.permuted(count, generator)
        product = k.matmul(both.Z, None, W, engine=engine, threads=threads)
    else:
        train, test = both.split(checks.number("split", split, above=0.0), generator)
        W = test.permuted(count, generator)
        before = train.weights() if bootstrap == "test" else train.permuted(count, generator)
        product = k.matmul(test.Z, train.Z, before, engine=engine, threads=threads)
    return _outcome(W, product, rate)


def _outcome(W: ArrayLike, product: ArrayLike, level: float) -> TwoSampleTest:
    """Return the test whose statistics are the inner products of columns."""
    values = np.asarray(product, np.float64)
    weights = np.asarray(W)
    statistics = weights.T @ values if values.ndim == 1 else np.einsum("np,np->p", weights, values)
    return TwoSampleTest(float(statistics[0]), statistics[1:], level)


def softplus_network(dim: int, width: int = 512, *, rng: RNG = 0) -> MLP:
    """Return the network of Cheng and Xie: softplus units, of which the first layer is trained.

    Weights of the first layer have variance 1, whatever the dimension, its biases start at zero;
    those of the second have variance 1/width and stay.

    Parameters
    ----------
    dim : int
        Number of features.
    width : int, default 512
    rng : int, Generator or None

    Returns
    -------
    MLP
    """
    return MLP(
        (checks.count("dim", dim, least=1), width, 1),
        "softplus",
        w_std=(np.sqrt(dim), 1.0),
        b_std=(1.0, 0.0),
        zero_bias=True,
        trained=(True, False),
        rng=rng,
    )


def trained_mmd_test(
    X: ArrayLike,
    Y: ArrayLike,
    *,
    network: MLP | None = None,
    learning_rate: float = 1e-3,
    batch_size: int = 1,
    split: float = 0.5,
    n_permutations: int = 400,
    significance_level: float = 0.05,
    rng: RNG = 0,
) -> TwoSampleTest:
    """Test two samples by a network that is trained for one epoch to tell them apart.

    Stochastic gradient descent on ``-f(x)`` and ``+f(y)``; the witness
    ``(f_T - f_0) / (learning_rate N / 2)``, N the number of training inputs, tends to that of
    `ntk_mmd_test` with ``kernel=network.ntk`` and the same `split` and `rng` as the learning rate
    falls. Labels of the test part are permuted, without training again.

    Parameters
    ----------
    X : (n, d) array
    Y : (m, d) array
    network : MLP, optional
        With one output. Default: `softplus_network`, drawn with `rng`.
    learning_rate : float, default 1e-3
    batch_size : int, default 1
        Training inputs per step.
    split, n_permutations, significance_level, rng
        As for `ntk_mmd_test`.

    Returns
    -------
    TwoSampleTest

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, shape or range.

    References
    ----------
    .. [1] X. Cheng, Y. Xie, "Neural tangent kernel maximum mean discrepancy", arXiv:2106.03227.

    Examples
    --------
    >>> import numpy as np
    >>> import ntkfast as nf
    >>> X, Y = np.random.default_rng(0).normal(size=(2, 300, 5))
    >>> nf.statistics.trained_mmd_test(X, Y + 0.3).rejected
    True
    """
    rate = checked_level(significance_level)
    count = checked_permutations(n_permutations, rate)
    step = checks.number("learning_rate", learning_rate, above=0.0)
    both, generator = pool(X, Y), np.random.default_rng(rng)
    net = softplus_network(both.Z.shape[-1], rng=rng) if network is None else network
    net.check_one_output("network")
    train, test = both.split(checks.number("split", split, above=0.0), generator)
    W = test.permuted(count, generator)
    after = _one_epoch(net, train, step, checks.count("batch_size", batch_size, least=1), generator)
    witness = (after(test.Z) - net(test.Z))[:, 0] / (step * len(train.Z) / 2)
    return _outcome(W, witness, rate)


def _one_epoch(net: MLP, train: Pool, step: float, batch: int, generator: Generator) -> MLP:
    """Ascend the mean of f on the first sample minus that on the second."""
    order = generator.permutation(len(train.Z))
    weights = train.weights() * (step * len(order) / 2)
    for first in range(0, len(order), batch):
        part = order[first : first + batch]
        net = net.step(train.Z[part], weights[part, None])
    return net
