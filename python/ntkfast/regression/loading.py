"""Saved models read back."""

from __future__ import annotations

import os
from typing import Any

from ntkfast.kernels import Kernel
from ntkfast.networks import Network
from ntkfast.regression.classifier import KernelClassifier
from ntkfast.regression.gaussian_process import GaussianProcess
from ntkfast.regression.gradient_flow import GradientFlow
from ntkfast.regression.ridge import KernelRidge
from ntkfast.regression.ridge_cv import KernelRidgeCV
from ntkfast.regression.saved import restore

CLASSES: dict[str, type] = {
    one.__name__: one
    for one in (GaussianProcess, GradientFlow, KernelClassifier, KernelRidge, KernelRidgeCV)
}


def load(path: str | os.PathLike[str], *, network: Network | Kernel | None = None) -> Any:
    """Read a model that the method `save` of an estimator wrote.

    The file holds numbers and names, no code: loading one from a stranger runs nothing.

    Parameters
    ----------
    path : path
    network : network or kernel, optional
        One with the activations that are Python functions or `ntkfast.Dual`: of these a file holds
        the names, and some values that tell if they are others.

    Returns
    -------
    KernelRidge, KernelRidgeCV, KernelClassifier, GaussianProcess or GradientFlow
        Fitted; it predicts the same bits on the same machine with the same engine. `engine`,
        `threads`, `progress` and `client` have their defaults. Matrices of n x n numbers are not in
        the file: the last two make them when they are first needed.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no saved model, or one of a later format; if it names a function that `network`
        does not have.

    Examples
    --------
    >>> import pathlib, tempfile, numpy as np, ntkfast as nf
    >>> X = np.random.default_rng(0).normal(size=(50, 3))
    >>> model = nf.regression.KernelRidge(nf.FullyConnected(2), ridge=0.1).fit(X, X[:, 0])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = pathlib.Path(folder, "model.npz")
    ...     model.save(file)
    ...     again = nf.regression.load(file)
    >>> bool(np.all(again.predict(X) == model.predict(X)))
    True
    """
    return restore(CLASSES, path, network)
