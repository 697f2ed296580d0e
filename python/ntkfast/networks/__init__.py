"""Infinitely wide networks as values: dense, composed by hand, convolutional and recurrent."""

from __future__ import annotations

from ntkfast.networks.base import Network
from ntkfast.networks.branches import Add, Concatenate, Multiply
from ntkfast.networks.composed import Composed, Dense, Residual
from ntkfast.networks.composing import compose
from ntkfast.networks.convolutional import ConvNet, Convolutional
from ntkfast.networks.dense import FullyConnected, ResNet
from ntkfast.networks.neurons import Dropout, LayerNorm
from ntkfast.networks.presets import myrtle, resnet, wide_resnet
from ntkfast.networks.recurrent import RNN, Recurrent
from ntkfast.networks.steps import AvgPool, Conv, Readout, Skip, SumPool

__all__ = [
    "RNN",
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
