"""Infinitely wide recurrent networks on sequences."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

from ntkfast.activations.base import Activation
from ntkfast.activations.names import resolve
from ntkfast.arrays import checks, layout
from ntkfast.engines.maps import SequenceMap
from ntkfast.kernels.layers import IDENTITY, Layer, numbers
from ntkfast.kernels.sequences import RecurrentKernel
from ntkfast.networks.base import ActivationLike, Network, short_repr
from ntkfast.networks.gaussian import SEQUENCES, Step

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
class RNN(Step):
    """A recurrent (Elman) layer of `compose`, with its activation; see `Recurrent`.

    Attributes
    ----------
    w_std, u_std, b_std, h_std : float
        Scales of the recurrent weights, the weights from below, the biases and the initial state.
    activation : str, Activation or callable, default "relu"
        Any one whose dual has a closed form.
    trained : bool, default True
        Whether its parameters contribute to the NTK; a layer that is not stands below all others.

    Examples
    --------
    >>> import ntkfast as nf
    >>> nf.compose(nf.RNN(b_std=0.1), nf.RNN(b_std=0.1), nf.Dense(1.2), direction="bidirectional")
    Recurrent(2, b_std=0.1, v_std=1.2, direction='bidirectional')
    """

    w_std: float = 2**0.5
    u_std: float = 1.0
    b_std: float = 0.0
    h_std: float = 0.0
    activation: ActivationLike = "relu"
    trained: bool = True
    of = SEQUENCES

    def __post_init__(self) -> None:
        net = Recurrent(1, **{name: getattr(self, name) for name in LAYER})
        checks.store(self, **{name: getattr(net, name) for name in LAYER})

    __repr__ = short_repr


LAYER = ("w_std", "u_std", "b_std", "h_std", "activation")  # what layers have in common


@dataclass(frozen=True, repr=False)
class Recurrent(Network):
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
    channels : {"last", "first"}, optional
        Where sequences have their axis of channels: "first" takes (n, m, T) arrays and lists of
        (m, T_i) arrays, as aeon and sktime have them. Default: "last", with a warning where the
        shape looks otherwise. What `ntkfast.sequences` made is read as it is.

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

    Accuracy: a few units of roundoff of sqrt(K(x,x) K(y,y)) per layer and step, for close sequences
    too, and what a chaotic network makes of one unit in the angle of each step (docs/accuracy.md);
    the diagonal is computed by itself in float64. Steps of zeros without a bias are at a right
    angle to all others.

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
    _: KW_ONLY
    w_std: float = 2**0.5
    u_std: float = 1.0
    b_std: float = 0.0
    h_std: float = 0.0
    v_std: float = 1.0
    activation: ActivationLike = "relu"
    direction: str = "forward"
    readout: str = "last"
    fixed_layers: int = 0
    channels: str | None = None

    def __post_init__(self) -> None:
        scales = {
            name: checks.deviation(name, getattr(self, name), zero=True)
            for name in ("w_std", "u_std", "b_std", "h_std", "v_std")
        }
        checks.store(
            self,
            **scales,
            depth=checks.count("depth", self.depth, least=1),
            activation=_closed(resolve(self.activation)),
            direction=checks.choice("direction", self.direction, DIRECTIONS),
            readout=checks.choice("readout", self.readout, tuple(READOUTS)),
            fixed_layers=checks.count("fixed_layers", self.fixed_layers),
            channels=layout.checked_channels(self.channels),
        )
        if self.fixed_layers > self.depth:
            raise ValueError(
                f"fixed_layers: expected at most the depth, {self.depth}, got {self.fixed_layers}"
            )

    __repr__ = short_repr

    @property
    def ntk(self) -> RecurrentKernel:
        """The recurrent neural tangent kernel."""
        return RecurrentKernel(self, "ntk")

    @property
    def nngp(self) -> RecurrentKernel:
        """The kernel of the Gaussian process that the network is at initialisation."""
        return RecurrentKernel(self, "nngp")

    def plan(self, kind: str, channels: int) -> SequenceMap:
        """Return what an engine must know of the NTK or NNGP, for sequences of so many channels."""
        every, last, mean = READOUTS[self.readout]
        return SequenceMap(
            numbers([Layer(resolve(self.activation))], []),
            self.depth,
            self.fixed_layers,
            channels,
            (every, last),
            mean,
            kind == "nngp",
        )


def _closed(activation: Activation) -> Activation:
    if activation == IDENTITY or not activation.is_compiled:
        name = repr(getattr(activation, "label", "") or activation)
        raise ValueError(
            f"activation: expected one with a closed form, like 'relu' or 'erf', got {name}"
        )
    return activation
