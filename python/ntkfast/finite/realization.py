"""Finite networks of everything that `compose` states; of recurrent layers: recurrent.py.

Signals are images throughout: those of dense layers have one pixel. A step makes what follows of a
signal, and a function that carries derivatives of the outputs back through it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from math import prod
from typing import Any, NamedTuple, TypeAlias, cast

import numpy as np
from numpy.typing import ArrayLike

from ntkfast.activations.names import resolve
from ntkfast.arrays import checks
from ntkfast.arrays.collections import FloatArray, Shape
from ntkfast.finite.cnn import TILE_BYTES
from ntkfast.finite.factors import gradients_of
from ntkfast.finite.masks import Masks
from ntkfast.finite.network import FiniteNetwork, times
from ntkfast.finite.weights import Init
from ntkfast.finite.weights import resolve as init_of
from ntkfast.finite.windows import Pixels, Pull, Windows, pooled
from ntkfast.networks.base import Network
from ntkfast.networks.composed import Composed, Dense
from ntkfast.networks.convolutional import ImageNetwork, checked_shape
from ntkfast.networks.gaussian import Branches
from ntkfast.networks.neurons import Dropout, LayerNorm
from ntkfast.networks.recurrent import Recurrent
from ntkfast.networks.steps import AvgPool, Conv, Readout
from ntkfast.support.randomness import RNG

ONE = Conv(1)  # the window of a dense layer
KINDS: dict[type, type] = {}  # of networks, and what makes finite ones where that is no Realization


class LayerWeights(NamedTuple):
    """What a layer of weights is: its sizes, scales, and whether it is trained."""

    fan_in: int
    fan_out: int
    w_std: float
    b_std: float
    trained: bool


Weigh: TypeAlias = Callable[[LayerWeights, Pixels], tuple[Pixels, Pull]]


@dataclass(frozen=True, eq=False, repr=False, init=False)
class Realization(FiniteNetwork):
    """One network of finite width of an architecture that `compose` states.

    Every step has its finite form: strides, pools, projections, sums, products and concatenations
    of branches, layer normalization, dropout, dense heads, the standard parameterization, recurrent
    layers.

    Parameters
    ----------
    network : network
        Made by `compose`, `ConvNet`, `Convolutional`, `Recurrent` or a preset, a `Dense` or a
        read-out at its end.
    width : int, default 256
        Neurons or channels of all hidden layers, but for `Dense` with a width of its own.
    shape : int, (height, width, channels) or (steps, channels)
        Number of features, or shape of the images or sequences, which have one length here.
        Default: the shape that the network has.
    outputs : int, default 1
    init : {"gaussian", "orthogonal", "sparse"}, Sparse or Orthogonal
    rng : int, Generator or None

    Attributes
    ----------
    weights, biases : tuples of arrays
        Of all layers in the order of the network, those of a shortcut before those of its branch,
        recurrent ones before those from below.
    limit : network
    ntk, nngp : Kernel
        The empirical kernels of these very weights.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type or range, or a step does not fit the images.

    Notes
    -----
    Branches of `Concatenate` have as many neurons as they have; their shares are weights of these.
    With `Dropout` a network has its masks as it has its weights: one for every input that there is,
    chosen by its numbers, so that it has the same one in all calls, in X and in Y.

    Examples
    --------
    >>> import numpy as np, ntkfast as nf
    >>> block = nf.Skip("relu", nf.Conv(stride=2), shortcut=nf.Conv(1, stride=2))
    >>> net = nf.ConvNet(nf.Conv(), block, "relu")
    >>> finite = nf.finite.Realization(net, 32, shape=(4, 4, 3))
    >>> X = np.random.default_rng(0).normal(size=(5, 4, 4, 3))
    >>> finite(X).shape, finite.ntk(X).shape
    ((5, 1), (5, 5))
    """

    network: Any
    width: int
    shape: tuple[int, ...]
    outputs: int
    layers: tuple[LayerWeights, ...]
    seed: int
    zero_bias = False

    def __new__(
        cls,
        network: Network,
        width: int = 256,
        *,
        shape: int | tuple[int, ...] | None = None,
        outputs: int = 1,
        init: str | Init = "gaussian",
        rng: RNG = 0,
    ) -> Realization:
        """Return an object of the class that makes finite networks of this kind."""
        return object.__new__(KINDS.get(type(network), cls))

    def __getnewargs__(self) -> tuple[Any]:
        return (self.network,)

    def __init_subclass__(cls, of: type) -> None:
        KINDS[of] = cls

    def __init__(
        self,
        network: Network,
        width: int = 256,
        *,
        shape: int | tuple[int, ...] | None = None,
        outputs: int = 1,
        init: str | Init = "gaussian",
        rng: RNG = 0,
    ) -> None:
        if not isinstance(network, (Composed, ImageNetwork, Recurrent)):
            raise TypeError(
                "network: expected one made by compose, ConvNet, Convolutional or Recurrent, got "
                f"{type(network).__name__}; MLP has the others"
            )
        checks.store(
            self,
            network=network,
            width=checks.count("width", width, least=1),
            shape=self._shape(network, shape),
            outputs=checks.count("outputs", outputs, least=1),
            init=init_of(init),
            seed=0,
        )
        found = self._found_layers()
        checks.store(
            self,
            layers=tuple(found),
            w_std=tuple(one.w_std for one in found),
            b_std=tuple(one.b_std for one in found),
            trained=tuple(one.trained for one in found),
        )
        self._draw(np.random.default_rng(rng))

    def _shape(self, network: Any, shape: Any) -> tuple[int, ...]:
        """Return the shape of inputs, checked."""
        if isinstance(network, Composed):
            if shape is None:
                raise ValueError("shape: expected the number of columns of X, got None")
            return 1, 1, checks.count("shape", shape, least=1)
        found = checked_shape(network.shape if shape is None else shape)
        if found is None:
            raise ValueError("shape: expected (height, width, channels), which the network has not")
        return found

    def _found_layers(self) -> list[LayerWeights]:
        """Return the layers of weights in their order."""
        found: list[LayerWeights] = []

        def record(layer: LayerWeights, z: Pixels) -> tuple[Pixels, Pull]:
            found.append(layer)
            return np.zeros((*z.shape[:3], layer.fan_out)), lambda back: back

        self._run(np.zeros((1, *self.shape)), record)
        return found

    def _draw(self, generator: np.random.Generator) -> None:
        super()._draw(generator)
        checks.store(self, seed=int(generator.integers(1 << 62)))

    def __repr__(self) -> str:
        return f"Realization({self.network!r}, {self.width}, shape={self.shape})"

    @property
    def limit(self) -> Any:
        """The network of infinite width."""
        return self.network

    @property
    def depth(self) -> int:
        """Number of layers of weights before the last one."""
        return len(self.layers) - 1

    @property
    def tile_rows(self) -> int:
        """Inputs whose gradients are held at a time."""
        return max(1, TILE_BYTES // (8 * self.outputs * sum(map(prod, self._sizes()))))

    def _sizes(self) -> list[tuple[int, int]]:
        return [(one.fan_in, one.fan_out) for one in self.layers]

    def check_shape(self, name: str, shape: tuple[int, ...]) -> None:
        """Raise an error if an array of this shape holds no inputs of the network."""
        if isinstance(self.network, Composed):
            checks.matrix_shape(name, shape, self.shape[2])
        else:
            checks.image_shape(name, shape, cast(Shape, self.shape))

    def rows(self, X: ArrayLike, name: str = "X") -> FloatArray:
        """Return inputs as a matrix, one input per row.

        Raises
        ------
        TypeError, ValueError
            If they are none.
        """
        if isinstance(self.network, Composed):
            matrix = checks.matrix(name, X)
            self.check_shape(name, matrix.shape)
            return matrix
        images = checks.images(name, X, cast(Shape, self.shape))
        return np.ascontiguousarray(images).reshape(len(images), -1)

    def _forward(self, X: ArrayLike) -> tuple[list[Pixels], list[Pixels]]:
        F, h, *_ = self._recorded(X)
        last = [values[-1].reshape(len(h[-1]), -1) for values in (F, h)]  # of one pixel
        return [*F[:-1], last[0]], [*h[:-1], last[1]]

    def _factors(self, X: ArrayLike, V: FloatArray | None) -> list[Any]:
        F, h, B, back = self._recorded(X)
        n = len(h[-1])
        every = np.broadcast_to(np.eye(self.outputs, dtype=h[-1].dtype), (n, *2 * (self.outputs,)))
        start = every if V is None else V[:, None, :]
        back(start[:, :, None, None, :])
        return [
            gradients_of(F[k], B[k], *self._gradient_scales(k))
            for k, trained in enumerate(self.trained)
            if trained
        ]

    def _gradient_scales(self, layer: int) -> tuple[float, float]:
        """Return the derivatives of what weights and biases add, by themselves."""
        if getattr(self.network, "parameterization", "") == "standard":
            return 1.0, float(self.b_std[layer] > 0)
        return self.scales(layer)

    def _recorded(self, X: ArrayLike) -> tuple[list[Pixels], list[Pixels], dict[int, Pixels], Pull]:
        """Return what layers read and what they make of it; derivatives, and what fills them in."""
        inputs = self.rows(X)
        F, h, B, at = list[Pixels](), list[Pixels](), dict[int, Pixels](), count()
        weights = self._weights(inputs.dtype)

        def weigh(layer: LayerWeights, z: Pixels) -> tuple[Pixels, Pull]:
            k = next(at)
            F.append(z)
            h.append(self._apply(k, z))

            def pull(back: Pixels) -> Pixels:
                B[k] = back
                return times(back, weights[k].T) * inputs.dtype.type(self.scales(k)[0])

            return h[k], pull

        _, back = self._run(inputs.reshape(len(inputs), *self.shape), weigh)
        return F, h, B, back

    def _run(self, z: Pixels, weigh: Weigh) -> tuple[Pixels, Pull]:
        network, size = self.network, _Sizes(self, Masks(self.seed, z))
        if network.parameterization == "unit":  # inner products are not divided by channels
            z = z * z.dtype.type(np.sqrt(z.shape[-1]))
        if isinstance(network, Composed):
            return _serial(size.dense_last(network.elements), z, weigh)
        head = getattr(network, "head", ())
        steps = [size(one) for one in network.steps()]
        readout = _Sized(network.last(), self.width if head else self.outputs)
        return _serial([*steps, readout, *size.dense_last(head)], z, weigh)


# ---- steps ---------------------------------------------------------------------------------------


class _Sized(NamedTuple):
    """A step with weights and the number of neurons or channels that it makes."""

    step: Any
    width: int


class _Ways(NamedTuple):
    """Branches whose steps have their sizes."""

    ways: tuple[Sequence[Any], ...]
    joined: str
    shares: tuple[float, ...] | None


class _Masked(NamedTuple):
    """Dropout with the masks of some inputs."""

    rate: float
    masks: Masks


class _Sizes(NamedTuple):
    """What steps are in a network: their widths, and the masks of some inputs."""

    net: Realization
    masks: Masks

    def __call__(self, step: Any) -> Any:
        """Return a step as `_step` takes it."""
        if isinstance(step, Branches):
            ways = tuple([self(one) for one in way] for way in step.ways)
            return _Ways(ways, step.joined, getattr(step, "shares", None))
        if isinstance(step, (Conv, Dense)):
            return _Sized(step, getattr(step, "width", None) or self.net.width)
        return _Masked(step.rate, self.masks) if isinstance(step, Dropout) else step

    def dense_last(self, elements: Sequence[Any]) -> list[Any]:
        """Return elements with their sizes, the last one with that of the outputs."""
        if elements and not isinstance(elements[-1], Dense):
            raise ValueError(f"network: expected a Dense at its end, got {elements[-1]!r}")
        steps = [self(one) for one in elements]
        return [*steps[:-1], _Sized(elements[-1], self.net.outputs)] if steps else []


def _serial(steps: Sequence[Any], z: Pixels, weigh: Weigh) -> tuple[Pixels, Pull]:
    pulls: list[Pull] = []
    for step in steps:
        z, pull = _step(step, z, weigh)
        pulls.append(pull)

    def back(derivatives: Pixels) -> Pixels:
        for pull in reversed(pulls):
            derivatives = pull(derivatives)
        return derivatives

    return z, back


def _step(step: Any, z: Pixels, weigh: Weigh) -> tuple[Pixels, Pull]:
    if isinstance(step, _Ways):
        return _branches(step, z, weigh)
    if isinstance(step, _Sized):
        one = step.step
        if isinstance(one, Readout):
            return _readout(one, step.width, z, weigh)
        windows = Windows(one if isinstance(one, Conv) else ONE, (z.shape[1], z.shape[2]))
        seen = windows.read(z)
        layer = LayerWeights(seen.shape[-1], step.width, one.w_std, one.b_std, one.trained)
        after, pull = weigh(layer, seen)
        return after, lambda back: windows.unread(pull(back))
    if isinstance(step, AvgPool):
        return pooled(step, z)
    if isinstance(step, LayerNorm):
        return _layer_norm(step, z)
    if isinstance(step, _Masked):
        mask = step.masks(step.rate, z)
        return z * mask, lambda back: back * mask[:, None]
    activation = resolve(step)
    after = np.asarray(activation(z), z.dtype)
    slope = np.asarray(activation.derivative(z), z.dtype)[:, None]
    return after, lambda back: back * slope


def _layer_norm(step: LayerNorm, z: Pixels) -> tuple[Pixels, Pull]:
    axes = (1, 2, 3) if step.over == "all" else (3,)
    centred = z - z.mean(axis=axes, keepdims=True)
    size = np.sqrt(np.mean(centred**2, axis=axes, keepdims=True))
    inverse = np.where(size > 0, 1 / np.where(size > 0, size, 1), 0)
    normed = centred * inverse
    inner = tuple(axis + 1 for axis in axes)

    def pull(back: Pixels) -> Pixels:
        along = np.mean(back * normed[:, None], axis=inner, keepdims=True) * normed[:, None]
        parts = back - back.mean(axis=inner, keepdims=True) - along
        return np.asarray(parts * inverse[:, None])

    return normed, pull


def _branches(step: _Ways, z: Pixels, weigh: Weigh) -> tuple[Pixels, Pull]:
    ends, pulls = zip(*(_serial(way, z, weigh) for way in step.ways), strict=True)

    def collected(parts: Iterator[Pixels]) -> Pixels:
        return np.asarray(sum(pull(part) for pull, part in zip(pulls, parts, strict=True)))

    widths = [end.shape[-1] for end in ends]
    if step.joined != "concatenation" and len(set(widths)) > 1:
        raise ValueError(
            f"network: expected as many neurons in all branches of a {step.joined}, got {widths}"
        )
    if step.joined == "sum":
        return np.asarray(sum(ends)), lambda back: collected(back for _ in ends)
    if step.joined == "product":
        others = [np.prod([e for e in ends if e is not end], axis=0) for end in ends]
        return np.prod(ends, axis=0), lambda back: collected(back * o[:, None] for o in others)
    shares = step.shares or (1.0,) * len(ends)
    parts = widths if step.shares is None else shares
    # Neurons of a branch count by its share, however many they are.
    scales = [
        z.dtype.type(np.sqrt(part / sum(parts) * sum(widths) / width))
        for part, width in zip(parts, widths, strict=True)
    ]
    places = np.cumsum(widths)[:-1]
    after = np.concatenate([s * end for s, end in zip(scales, ends, strict=True)], axis=-1)

    def pull(back: Pixels) -> Pixels:
        blocks = np.split(back, places, axis=-1)
        return collected(s * block for s, block in zip(scales, blocks, strict=True))

    return after, pull


def _readout(step: Readout, width: int, z: Pixels, weigh: Weigh) -> tuple[Pixels, Pull]:
    pixels, channels = z.shape[1:3], z.shape[3]
    area, pull_pool = prod(pixels), None
    if step.kind == "lap":
        assert step.window is not None
        z, pull_pool = pooled(AvgPool(step.window, stride=1, padding="zero"), z)
    w, seen = step.w_std, z.reshape(len(z), 1, 1, -1)
    if step.kind == "gap":
        seen = z.mean(axis=(1, 2), keepdims=True)
    elif not step.mean:  # a trace: weights are not divided by pixels
        w *= np.sqrt(area)
    layer = LayerWeights(seen.shape[-1], width, w, step.b_std, step.trained)
    after, pull = weigh(layer, seen)

    def back(derivatives: Pixels) -> Pixels:
        inner = pull(derivatives)
        if step.kind == "gap":
            shape = (*inner.shape[:2], *pixels, channels)
            return np.broadcast_to(inner / area, shape)
        whole = inner.reshape(*inner.shape[:2], *pixels, channels)
        return whole if pull_pool is None else pull_pool(whole)

    return after, back
