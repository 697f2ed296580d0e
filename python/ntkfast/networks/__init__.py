"""Infinitely wide networks as values: dense, composed by hand, convolutional and recurrent."""

from __future__ import annotations

from ntkfast.networks.base import Network
from ntkfast.networks.composed import (
    Add,
    Composed,
    Concatenate,
    Dense,
    Multiply,
    Residual,
    compose,
)
from ntkfast.networks.convolutional import ConvNet, Convolutional
from ntkfast.networks.dense import FullyConnected, ResNet
from ntkfast.networks.presets import myrtle, resnet, wide_resnet
from ntkfast.networks.recurrent import Recurrent
from ntkfast.networks.steps import AvgPool, Conv, Dropout, LayerNorm, Readout, Skip, SumPool

__all__ = [
    "Add",
    "AvgPool",
    "Composed",
    "Concatenate",
    "Conv",
    "ConvNet",
    "Convolutional",
    "Dense",
    "Dropout",
    "FullyConnected",
    "LayerNorm",
    "Multiply",
    "Network",
    "Readout",
    "Recurrent",
    "ResNet",
    "Residual",
    "Skip",
    "SumPool",
    "compose",
    "myrtle",
    "resnet",
    "wide_resnet",
]
