"""Exact kernels of infinitely wide neural networks at about the cost of one matrix product."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import TYPE_CHECKING

from ntkfast._version import __version__
from ntkfast.config import show_config
from ntkfast.convolutional import AvgPool, Conv, ConvNet, Convolutional, Readout, Skip, myrtle
from ntkfast.duals import resolve as Activation  # noqa: N812 - the word of the vocabulary
from ntkfast.engines import get_num_threads, set_num_threads, threadpool_limits
from ntkfast.kernel import Kernel
from ntkfast.networks import Dense, FullyConnected, Network, Residual, ResNet, compose
from ntkfast.ragged import Sequences, sequences
from ntkfast.recurrent import Recurrent
from ntkfast.standard import ArcCosine, ExponentialPower, Gaussian, Laplace
from ntkfast.threadpool import register as _register_threadpool

if TYPE_CHECKING:
    from ntkfast import features, finite, plot, spectrum, statistics  # noqa: F401

__all__ = [
    "Activation",
    "ArcCosine",
    "AvgPool",
    "Conv",
    "ConvNet",
    "Convolutional",
    "Dense",
    "ExponentialPower",
    "FullyConnected",
    "Gaussian",
    "Kernel",
    "Laplace",
    "Network",
    "Readout",
    "Recurrent",
    "ResNet",
    "Residual",
    "Sequences",
    "Skip",
    "__version__",
    "compose",
    "finite",
    "get_num_threads",
    "myrtle",
    "plot",
    "sequences",
    "set_num_threads",
    "show_config",
    "spectrum",
    "statistics",
    "threadpool_limits",
]

_register_threadpool()


def __getattr__(name: str) -> ModuleType:
    """Load the parts that need more of SciPy, or an extra, when they are first used."""
    if name in ("features", "finite", "plot", "spectrum", "statistics"):
        return importlib.import_module(f"ntkfast.{name}")
    raise AttributeError(f"module 'ntkfast' has no attribute {name!r}")
