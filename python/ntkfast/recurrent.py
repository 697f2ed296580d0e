"""Infinitely wide recurrent networks and their kernels on sequences."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import numpy as np
from numpy.typing import ArrayLike

from ntkfast import card, engines, inputs, ragged
from ntkfast.duals import Activation, resolve
from ntkfast.engines.card_array import CardArray
from ntkfast.kernel import KernelOfNetwork
from ntkfast.layers import Layer, numbers
from ntkfast.maps import Collection, FloatArray, SequenceMap, SequenceSide
from ntkfast.networks import ActivationLike, short_repr
from ntkfast.ragged import Sequences
from ntkfast.recurrence import prepare

DIRECTIONS = ("forward", "bidirectional")
# Weights of the squared read-out at all steps but the last one and there; whether they are divided
# by the length.
READOUTS = {
    "last": (0.0, 1.0, False),
    "average": (1.0, 1.0, False),
    "average_normalized": (1.0, 1.0, True),
    "average_released": (1.0, 2.0, True),
}


@dataclass(frozen=True, repr=False)
class Recurrent:
    """An infinitely wide recurrent (Elman) network.

    Layer l at step t has the pre-activation, with h = s(g) and the input x_t below the first layer,

        g[l,t] = w_std / sqrt(n) W[l] h[l,t-1] + u_std / sqrt(fan) U[l] h[l-1,t] + b_std b[l],

    fan = m for the input and the width n above; h[l,0] = h_std times standard normal numbers, drawn
    for each sequence; the output is v_std / sqrt(n) times a linear read-out. All weights are
    standard normal and trained.

    Parameters
    ----------
    depth : int
        Number of layers, at least 1.
    w_std, u_std, b_std, h_std, v_std : float
        Scales of the recurrent weights, the weights from below, the biases, the initial state and
        the read-out. Default: sqrt(2), which keeps ReLU variances in time, 1, 0, 0, 1.
    activation : str, Activation or callable, default "relu"
        Any one whose dual has a closed form: "relu", "erf", "leaky_relu(0.1)", "gelu", "sin", ...
    direction : {"forward", "bidirectional"}
        "bidirectional" adds the kernel of the reversed sequences.
    readout : {"last", "average", "average_normalized", "average_released"}
        "last": from the last step. "average": the sum of the outputs of all steps, with read-out
        weights of its own for each step, counted from the end; the kernel is the sum of those of
        the common prefixes. "average_normalized": the output over sqrt(T), so that kernels of
        sequences of one length are divided by T. "average_released": that with the last step
        counted twice, as the published code does, for comparison.
    fixed_layers : int, default 0
        That many lower layers are not trained. With all of them fixed only the read-out is.

    Raises
    ------
    TypeError, ValueError
        If a parameter has the wrong type or range.

    Notes
    -----
    Inputs are lists of ``(T_i, m)`` arrays, ``(n, T, m)`` or ``(n, T)`` arrays, or padded ones
    through `ntkfast.sequences`. Sequences are aligned at their ends. A data matrix (n, d) is taken
    as sequences of d numbers, one column after the other, so that everything for matrices works
    with these kernels.

    The initial state is an independent draw for each sequence. Only a sequence with itself shares
    it: that is the diagonal of the symmetric matrix. Equal sequences at two places, or in X and Y,
    have two draws; with ``h_std=0`` that makes no difference.

    Accuracy: a few units of roundoff of sqrt(K(x,x) K(y,y)) per layer and step at most, for close
    sequences too; the diagonal is computed by itself in float64.

    The recursion was derived from the network and agrees with finite networks; the "released"
    average follows a description of the published code.

    References
    ----------
    .. [1] S. Alemohammad, Z. Wang, R. Balestriero, R. Baraniuk, "The recurrent neural tangent
       kernel", ICLR 2021.
    .. [2] S. Alemohammad et al., "Enhanced recurrent neural tangent kernels for non-time-series
       data", arXiv:2012.04859.

    Examples
    --------
    >>> import ntkfast as nf
    >>> net = nf.Recurrent(1, u_std=0.5, b_std=0.1)
    >>> net.ntk([[1.0, -0.5, 2.0], [0.3, 1.0, -1.0, 0.7]]).round(6)
    array([[1.63875 , 0.910537],
           [0.910537, 1.12375 ]])
    """

    depth: int
    w_std: float = 2**0.5
    u_std: float = 1.0
    b_std: float = 0.0
    h_std: float = 0.0
    v_std: float = 1.0
    activation: ActivationLike = "relu"
    direction: str = "forward"
    readout: str = "last"
    fixed_layers: int = 0

    def __init__(
        self,
        depth: int,
        *,
        w_std: float = 2**0.5,
        u_std: float = 1.0,
        b_std: float = 0.0,
        h_std: float = 0.0,
        v_std: float = 1.0,
        activation: ActivationLike = "relu",
        direction: str = "forward",
        readout: str = "last",
        fixed_layers: int = 0,
    ) -> None:
        scales = {"w_std": w_std, "u_std": u_std, "b_std": b_std, "h_std": h_std, "v_std": v_std}
        values: dict[str, object] = {
            name: inputs.number(name, value, least=0.0) for name, value in scales.items()
        }
        values["depth"] = inputs.count("depth", depth, least=1)
        values["activation"] = _closed(resolve(activation))
        values["direction"] = inputs.choice("direction", direction, DIRECTIONS)
        values["readout"] = inputs.choice("readout", readout, tuple(READOUTS))
        values["fixed_layers"] = inputs.count("fixed_layers", fixed_layers)
        if fixed_layers > depth:
            raise ValueError(
                f"fixed_layers: expected at most the depth, {depth}, got {fixed_layers}"
            )
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        return short_repr(self)

    @property
    def ntk(self) -> RecurrentKernel:
        """The recurrent neural tangent kernel."""
        return RecurrentKernel(self, "ntk")

    @property
    def nngp(self) -> RecurrentKernel:
        """The kernel of the Gaussian process that the network is at initialisation."""
        return RecurrentKernel(self, "nngp")


def _closed(activation: Activation) -> Activation:
    if activation.code[0] in (0, 8):
        raise ValueError(
            f"activation: expected one with a closed form, like 'relu' or 'erf', got {activation!r}"
        )
    return activation


class RecurrentKernel(KernelOfNetwork):
    """The NTK or NNGP of a recurrent network (`Recurrent.ntk`, `Recurrent.nngp`).

    Attributes
    ----------
    network : Recurrent
    kind : {"ntk", "nngp"}
    """

    network: Recurrent

    def check_shapes(self, X: tuple[int, ...], Y: tuple[int, ...] | None = None) -> None:
        """Raise an error naming the array that holds no sequences, or of other channels than X."""
        ragged.check_shape("X", X)
        if Y is not None:
            ragged.check_shape("Y", Y, X[2:])

    def collect(self, X: ArrayLike) -> Sequences:
        """Validate sequences once, for many calls; see `ntkfast.sequences`."""
        return ragged.checked("X", X)

    def _pair(self, X: ArrayLike, Y: ArrayLike | None) -> tuple[Collection, Collection | None]:
        left = ragged.checked("X", X)
        if Y is None or Y is X:
            return self._prepared("X", left), None
        left, right = ragged.matched(left, ragged.checked("Y", Y))
        return self._prepared("X", left), self._prepared("Y", right)

    def _pair_on_card(
        self, X: CardArray, Y: CardArray | None
    ) -> tuple[SequenceSide, SequenceSide | None]:
        self.check_shapes(X.shape, None if Y is None else Y.shape)
        # The variances of all steps are computed by the host: it needs the sequences themselves.
        left, right = card.on_host(X, Y)
        one = self._prepared("X", ragged.checked("X", left))
        one = replace(one, memory=cast(FloatArray, X))
        if right is None:
            return one, None
        other = self._prepared("Y", ragged.checked("Y", right))
        return one, replace(other, memory=cast(FloatArray, Y))

    def _prepared(self, name: str, X: Sequences) -> SequenceSide:
        side = prepare(self.network, self._map(X.channels), X)
        if not side.diagonal.max() <= np.finfo(X.dtype).max:
            worst = int(side.layout[2, int(np.argmax(side.diagonal))])
            raise ValueError(
                f"{name}: the kernel of sequence {worst} overflows {X.dtype}; scale the sequences "
                "or the weights down"
            )
        return side

    def _values(self, X: Collection) -> FloatArray:
        side = cast(SequenceSide, X)
        values = np.empty(len(side), side.dtype)
        values[side.layout[2]] = side.diagonal
        return values

    def _gram(
        self,
        X: Collection,
        Y: Collection | None,
        out: FloatArray,
        engine: engines.Engine,
        threads: int,
    ) -> None:
        left, right = cast(SequenceSide, X), cast("SequenceSide | None", Y)
        engine.sequences(self._map(left.channels), left, right, out, threads)

    def _map(self, channels: int) -> SequenceMap:
        network = self.network
        activation = cast(Activation, network.activation)
        every, last, mean = READOUTS[network.readout]
        return SequenceMap(
            numbers([Layer(activation)], []),
            network.depth,
            network.fixed_layers,
            channels,
            (every, last),
            mean,
            self.kind == "nngp",
        )


__all__ = ["Recurrent", "RecurrentKernel"]
