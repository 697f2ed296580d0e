"""What bounds look at: a kernel on data, its smallest eigenvalue, what theorems assume of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from ntkfast.activations.names import relu
from ntkfast.kernels.layers import Layers
from ntkfast.kernels.rows import RowKernel
from ntkfast.networks.base import DenseNetwork
from ntkfast.networks.dense import FullyConnected
from ntkfast.spectrum.gram.bound_table import Bound, Check
from ntkfast.spectrum.gram.eigenpairs import Extremes
from ntkfast.spectrum.gram.extremes import ENTRY_ERROR
from ntkfast.spectrum.gram.row_pairs import Pairs

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Case:
    """What the bounds look at."""

    kernel: RowKernel
    X: Values
    K_diagonal: Values
    pairs: Pairs
    found: Extremes

    @property
    def network(self) -> DenseNetwork | None:
        """The network of an NTK; None for every other kernel."""
        return self.kernel.network if self.kernel.kind == "ntk" else None

    @property
    def layers(self) -> Layers:
        """The layers of that network, none for other kernels."""
        return self.network.layers(self.X.shape[1]) if self.network else ()

    @property
    def scale(self) -> float:
        """The factor of the NTK of the layers that makes the kernel."""
        return self.network.scale("ntk") if self.network else 1.0

    def row(
        self, name: str, direction: str, value: float, constant: str, reference: str, *rest: Any
    ) -> Bound:
        """Return a row of the table."""
        low = float(self.found.smallest[0])
        ratio = value / low if self.found.definite else math.nan
        return Bound(name, direction, float(value), constant, float(ratio), reference, *rest)


def least(A: Values) -> float:
    """Smallest eigenvalue of a semidefinite matrix less its rounding; A is overwritten."""
    rounding = ENTRY_ERROR * float(np.trace(A))
    return max(float(linalg.eigvalsh(A, subset_by_index=[0, 0], overwrite_a=True)[0]) - rounding, 0)


def relu_chain(case: Case) -> Check:
    """Whether the network is the one of the papers: fully connected ReLU, no bias."""
    network = case.network
    fits = (
        isinstance(network, FullyConnected)
        and network.activation == relu
        and network.depth >= 1
        and not network.bias
        and not network.b_std
    )
    return Check("bias-free fully connected ReLU network", fits)
