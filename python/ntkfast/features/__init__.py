"""Random features and sketches: maps whose inner products approximate a kernel.

All are scikit-learn transformers and need the extra ``ntkfast[sklearn]``.
"""

from __future__ import annotations

from ntkfast.features.arccosine import ArcCosineFeatures
from ntkfast.features.classifier import FeatureClassifier
from ntkfast.features.diagnostics import Estimate, FeatureError, error
from ntkfast.features.gradient import GradientFeatures
from ntkfast.features.hadamard import fwht
from ntkfast.features.linear import SRHT, CountSketch, TensorSketch, TensorSRHT
from ntkfast.features.ntk import NTKRandomFeatures
from ntkfast.features.nystrom import NystromFeatures
from ntkfast.features.polysketch import NTKSketch
from ntkfast.features.recommend import Candidate, Choice, choose
from ntkfast.features.streaming import FeatureRidge, stream
from ntkfast.features.zonal import DualActivationFeatures, GegenbauerFeatures

__all__ = [
    "SRHT",
    "ArcCosineFeatures",
    "Candidate",
    "Choice",
    "CountSketch",
    "DualActivationFeatures",
    "Estimate",
    "FeatureClassifier",
    "FeatureError",
    "FeatureRidge",
    "GegenbauerFeatures",
    "GradientFeatures",
    "NTKRandomFeatures",
    "NTKSketch",
    "NystromFeatures",
    "TensorSRHT",
    "TensorSketch",
    "choose",
    "error",
    "fwht",
    "stream",
]


def __dir__() -> list[str]:
    """Return the public names."""
    return __all__
