"""Exact kernels of infinitely wide neural networks at about the cost of one matrix product."""

from __future__ import annotations

from ntkfast._version import __version__
from ntkfast.config import show_config
from ntkfast.duals import resolve as Activation  # noqa: N812 - the word of the vocabulary
from ntkfast.engines import get_num_threads, set_num_threads, threadpool_limits
from ntkfast.kernel import Kernel
from ntkfast.networks import Dense, FullyConnected, Network, Residual, ResNet, compose
from ntkfast.standard import ArcCosine, ExponentialPower, Gaussian, Laplace
from ntkfast.threadpool import register as _register_threadpool

__all__ = [
    "Activation",
    "ArcCosine",
    "Dense",
    "ExponentialPower",
    "FullyConnected",
    "Gaussian",
    "Kernel",
    "Laplace",
    "Network",
    "ResNet",
    "Residual",
    "__version__",
    "compose",
    "get_num_threads",
    "set_num_threads",
    "show_config",
    "threadpool_limits",
]

_register_threadpool()
