"""Exact kernels of infinitely wide neural networks at about the cost of one matrix product."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

from ntkfast._version import __version__
from ntkfast.activations import resolve as Activation  # noqa: N812 - the word of the vocabulary
from ntkfast.arrays.ragged import Sequences, sequences
from ntkfast.engines import get_num_threads, set_num_threads, threadpool_limits
from ntkfast.engines.config import show_config
from ntkfast.engines.threadpool import register as _register_threadpool
from ntkfast.kernels import ArcCosine, ExponentialPower, Gaussian, Kernel, Laplace
from ntkfast.networks import (
    RNN,
    Add,
    AvgPool,
    Concatenate,
    Conv,
    ConvNet,
    Convolutional,
    Dense,
    Dropout,
    FullyConnected,
    LayerNorm,
    Multiply,
    Network,
    Readout,
    Recurrent,
    Residual,
    ResNet,
    Skip,
    SumPool,
    compose,
    myrtle,
    resnet,
    wide_resnet,
)

if TYPE_CHECKING:
    from ntkfast import batch, datasets, finite, plot, preprocessing, regression, spectrum
    from ntkfast import dask as dask
    from ntkfast import features as features
    from ntkfast import gpytorch as gpytorch
    from ntkfast import jax as jax
    from ntkfast import sklearn as sklearn
    from ntkfast import statistics as statistics
    from ntkfast import torch as torch
    from ntkfast.activations.duals import Dual

_LAZY = (
    *("batch", "datasets", "finite", "plot", "preprocessing", "regression", "spectrum"),
    "statistics",
)
# not in __all__: `import *` works without these extras
_NEED_EXTRAS = ("dask", "features", "gpytorch", "jax", "sklearn", "torch")

__all__ = [
    "RNN",
    "Activation",
    "Add",
    "ArcCosine",
    "AvgPool",
    "Concatenate",
    "Conv",
    "ConvNet",
    "Convolutional",
    "Dense",
    "Dropout",
    "Dual",
    "ExponentialPower",
    "FullyConnected",
    "Gaussian",
    "Kernel",
    "Laplace",
    "LayerNorm",
    "Multiply",
    "Network",
    "Readout",
    "Recurrent",
    "ResNet",
    "Residual",
    "Sequences",
    "Skip",
    "SumPool",
    "__version__",
    "batch",
    "compose",
    "datasets",
    "finite",
    "get_num_threads",
    "myrtle",
    "plot",
    "preprocessing",
    "regression",
    "resnet",
    "sequences",
    "set_num_threads",
    "show_config",
    "spectrum",
    "statistics",
    "threadpool_limits",
    "wide_resnet",
]

_register_threadpool()


def __getattr__(name: str) -> Any:
    """Load the parts that need more of SciPy, or an extra, when they are first used."""
    if name == "Dual":
        return importlib.import_module("ntkfast.activations.duals").Dual
    if name in _LAZY + _NEED_EXTRAS:
        return importlib.import_module(f"ntkfast.{name}")
    module = sys.modules[__name__]
    raise AttributeError(f"module 'ntkfast' has no attribute {name!r}", name=name, obj=module)


def __dir__() -> list[str]:
    """Return the public names."""
    return sorted(__all__ + list(_NEED_EXTRAS))
