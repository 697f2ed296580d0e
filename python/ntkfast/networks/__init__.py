"""Infinitely wide networks as values: dense, composed by hand, convolutional and recurrent."""

from __future__ import annotations

from ntkfast.activations.layer_norm import LayerNorm
from ntkfast.networks.base import Network
from ntkfast.networks.composed import Composed, Dense, Residual, compose
from ntkfast.networks.convolutional import ConvNet, Convolutional, myrtle
from ntkfast.networks.dense import FullyConnected, ResNet
from ntkfast.networks.recurrent import Recurrent
from ntkfast.networks.steps import AvgPool, Conv, Readout, Skip

__all__ = [
    "AvgPool",
    "Composed",
    "Conv",
    "ConvNet",
    "Convolutional",
    "Dense",
    "FullyConnected",
    "LayerNorm",
    "Network",
    "Readout",
    "Recurrent",
    "ResNet",
    "Residual",
    "Skip",
    "compose",
    "myrtle",
]
