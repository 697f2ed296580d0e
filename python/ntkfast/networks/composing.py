"""One function that makes networks of all kinds of their steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from ntkfast.networks.base import ActivationLike, Network
from ntkfast.networks.composed import Composed, Dense
from ntkfast.networks.convolutional import ConvNet
from ntkfast.networks.gaussian import IMAGES, ROWS, SEQUENCES, Step, each_step
from ntkfast.networks.recurrent import LAYER, RNN, Recurrent
from ntkfast.networks.steps import Readout


def compose(
    *elements: Step | ActivationLike, parameterization: str = "ntk", **options: Any
) -> Network:
    """Compose a network in the vocabulary of neural-tangents' stax.

    Parameters
    ----------
    *elements : steps, or activations
        Applied in order; activations by name, as `ntkfast.Activation`, or as a Python function.
        They say on what the network is:

        - rows: `Dense`, `Residual`, `Dropout`;
        - images: `Conv`, `AvgPool`, `SumPool`, `Skip`, then a `Readout`, without which it is the
          global average, and behind it dense layers;
        - sequences: `RNN`, all layers with the same scales and activation, then a `Dense`, the
          read-out, without which its scale is 1;
        - `LayerNorm`, `Add`, `Multiply` and `Concatenate` are on rows and images.

        ``Residual(...)`` is ``serial(FanOut(2), parallel(serial(...), Identity()), FanInSum())``,
        ``Multiply(...)`` and ``Concatenate(...)`` have FanInProd and FanInConcat.
    parameterization : {"ntk", "unit", "standard"}, default "ntk"
        "unit": the inner product of the inputs is not divided by d. "standard", on rows: as in
        most code, weights have the variance w_std^2 / fan-in and are trained themselves [1]_, so
        that the NTK is a sum over the neurons of each layer, as many as its `Dense` has by
        ``width``: the kernel of a network of finite, large widths, whose learning rate is smaller
        by as much. There, biases are trained where b_std is not 0. **The default is not that of**
        `FullyConnected` **and** `ResNet`, which speak the language of theory, "unit": composition
        speaks that of neural-tangents, where every layer states its scales and the first one
        divides by d, so that networks can be carried over word by word.
    **options
        Of images `shape` and `channels`, as for `ConvNet`; of sequences `direction`, `readout` and
        `channels`, as for `Recurrent`.

    Returns
    -------
    network
        With `ntk` and `nngp` like any other; on images that of `ConvNet`, on sequences that of
        `Recurrent`.

    Raises
    ------
    TypeError, ValueError
        If steps are of networks of different kinds, or an option belongs to another kind. If an
        activation follows another one, or the inputs, or a sum with the output of one, with
        no `Dense` or `Conv` between: its input is not Gaussian and its kernel has no closed form.
        If a branch is correlated with what it is added to or multiplied by. If a width is missing.

    References
    ----------
    .. [1] J. Sohl-Dickstein, R. Novak, S. Schoenholz, J. Lee, "On the infinite width limit of
       neural networks with a standard parameterization", arXiv:2001.07301.

    Examples
    --------
    >>> import numpy as np, ntkfast as nf
    >>> net = nf.compose(nf.Dense(1.5, 0.1), nf.Residual("erf", nf.Dense(1.5)), "relu", nf.Dense())
    >>> net.nngp(np.ones((1, 3))).round(6)
    array([[1.817111]])
    >>> nf.compose(nf.RNN(u_std=0.5), nf.Dense(1.2), readout="average")
    Recurrent(1, u_std=0.5, v_std=1.2, readout='average')
    """
    if not elements:
        raise ValueError("elements: expected at least one layer")
    ends = (k for k in range(len(elements)) if _begins_the_end(elements, k))
    end = next(ends, len(elements))
    steps, last = elements[:end], elements[end:]
    readouts = (one for one in last if isinstance(one, Readout))
    some = {one.of: one for one in each_step((*steps, *readouts)) if isinstance(one, Step)}
    some.pop("", None)
    if len(some) > 1:
        one, two, *_ = some.values()
        raise TypeError(
            f"elements: expected steps of one kind of network, got {one!r}, on {one.of}, and "
            f"{two!r}, on {two.of}; dense layers stand behind the Readout of a network on images, "
            "and one at the end of a network on sequences"
        )
    kind = next(iter(some), ROWS)
    make, known = MAKERS[kind]
    for name in options:
        if name not in known:
            among = f"those are {', '.join(known)}" if known else "there are none"
            raise TypeError(f"{name}: no option of networks on {kind}; {among}")
    return make(steps, last, parameterization, options)


def _begins_the_end(elements: Sequence[Any], k: int) -> bool:
    """Whether the read-out is element k: a dense layer is one behind recurrent ones."""
    dense = k > 0 and isinstance(elements[k - 1], RNN) and isinstance(elements[k], Dense)
    return dense or isinstance(elements[k], Readout)


Elements: TypeAlias = Sequence[Any]
Options: TypeAlias = dict[str, Any]


def _on_rows(steps: Elements, last: Elements, parameterization: str, _: Options) -> Network:
    return Composed((*steps, *last), parameterization)


def _on_images(steps: Elements, last: Elements, parameterization: str, options: Options) -> Network:
    end = {"readout": last[0], "head": last[1:]} if last else {}
    return ConvNet(*steps, parameterization=parameterization, **end, **options)


def _on_sequences(
    steps: Elements, last: Elements, parameterization: str, options: Options
) -> Network:
    if parameterization != "ntk":
        raise ValueError(
            "parameterization: networks on sequences have that of `Recurrent`; leave it out"
        )
    for one in (*steps, *last[1:]):
        if not isinstance(one, RNN):
            raise ValueError(
                "elements: expected RNN layers, which have their activations, and one Dense at "
                f"their end, the read-out, got {one!r} too"
            )
    first, fixed = steps[0], sum(not one.trained for one in steps)
    for one in steps:
        if replace(one, trained=first.trained) != first:
            raise ValueError(
                "elements: expected equal scales and activations in all RNN layers, which are "
                f"walked with one set of numbers, got {one!r} behind {first!r}; "
                "give them equal ones (trained may differ)"
            )
    if any(one.trained for one in steps[:fixed]):
        raise ValueError("trained: expected RNN layers that are not trained below all others")
    for one in last:
        if one != Dense(one.w_std):
            raise ValueError(
                f"elements: expected a read-out of trained weights alone, Dense({one.w_std}), got "
                f"{one!r}"
            )
        options = {"v_std": one.w_std, **options}
    scales = {name: getattr(first, name) for name in LAYER}
    return Recurrent(len(steps), **scales, fixed_layers=fixed, **options)


# What makes the networks of a kind, and the options that it takes.
MAKERS: dict[str, tuple[Callable[..., Network], tuple[str, ...]]] = {
    ROWS: (_on_rows, ()),
    IMAGES: (_on_images, ("shape", "channels")),
    SEQUENCES: (_on_sequences, ("direction", "readout", "channels")),
}
