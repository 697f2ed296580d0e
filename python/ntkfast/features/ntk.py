"""Random features of the NTK of any network, layer by layer (Han, Zandieh et al.)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from ntkfast.activations.names import resolve
from ntkfast.arrays import checks
from ntkfast.arrays.collections import FloatArray
from ntkfast.features import neurons, projections
from ntkfast.features.base import FeatureMap, norms_of
from ntkfast.features.sketches import PRODUCTS, CountProduct, HadamardSketch
from ntkfast.kernels import checked_row_kernel
from ntkfast.kernels.layers import Layer, carry, merge
from ntkfast.networks.base import DenseNetwork
from ntkfast.networks.dense import FullyConnected
from ntkfast.places import blocks
from ntkfast.support.telling import warn

RELU = resolve("relu")
LARGE = 0.5  # errors relative to the roots of values at equal rows: they deserve a warning
MANY_INPUTS = 64  # from here on structured weights are faster, and as good
Sketch: TypeAlias = Callable[[FloatArray], FloatArray]
Values: TypeAlias = NDArray[np.float64]
Sizes: TypeAlias = tuple[int, int]


@dataclass(eq=False, repr=False)
class NTKRandomFeatures(FeatureMap):
    """Random features of a neural tangent kernel, built up layer by layer.

    With features c of the NNGP and t of the NTK before a layer, an activation s and random
    weights W give the features s(Wc)/sqrt(m) of the next NNGP, and a sketch of the tensor product
    of t with s'(Wc)/sqrt(m) those of the NTK; affine steps concatenate. What is random gets the
    length that it has on average, the root of a kernel at equal inputs. Networks of any activation,
    with biases and residual branches are taken, and rows of any norm.

    Parameters
    ----------
    network : DenseNetwork, optional
        Default: ``ntkfast.FullyConnected(depth)``.
    depth : int, default 1
        Hidden layers of the default network.
    n_components : int, default 2048
        Number of features. Networks without an activation have fewer.
    hidden : int, optional
        Number m of random weights per layer; default half of `n_components`.
    weights : {"auto", "gaussian", "orthogonal", "structured"}, default "auto"
        Independent, orthogonal in blocks, or products of Hadamard and sign matrices, see
        `ArcCosineFeatures`. "auto": structured in layers of 64 inputs or more, where they are
        several times faster and as good, orthogonal in others.
    leverage : bool, optional
        Directions of equal length, see `ArcCosineFeatures`; the default is to do so where all
        activations are positively homogeneous of degree at most 1, the only case it is right for.
    sketch : {"srht", "countsketch"}, default "srht"
        How tensor products are sketched: see `TensorSRHT` and `TensorSketch`.
    random_state : int, RandomState or None
        As everywhere in scikit-learn.

    Raises
    ------
    TypeError, ValueError
        In `fit`, if a parameter has the wrong type or range, or the network has no trained
        weights; in `transform`, if a kernel of a row with itself overflows between two layers.

    Notes
    -----
    The same weights serve s and s', as in a network; [1]_ draws them independently, at twice the
    work. Features of a layer are nonlinear in noisy features, and their cosines are ratios, which
    leaves a bias of order 1/m. Without the right lengths their errors would multiply from layer to
    layer: the product is right on average and far too small for nearly every draw of a deep
    network. K(x, x) is exact, up to rounding. Between different rows every layer's sketch adds an
    error of its own: together about sqrt(layers / n_components) sqrt(K(x, x) K(y, y)), 0.4 to 1.1
    times that as measured for ReLU, erf and residual networks of 3 to 100 layers. Where it is
    above a half there is a warning.

    `DualActivationFeatures` has a several times smaller error wherever it applies; take this
    class for rows of different norms with biases or smooth activations.

    References
    ----------
    .. [1] I. Han, H. Avron, N. Shoham, C. Kim, J. Shin, "Random features for the neural tangent
       kernel", arXiv:2104.01351.
    .. [2] A. Zandieh et al., "Scaling neural tangent kernels via sketching and random features",
       NeurIPS 2021, Algorithm 2.

    Examples
    --------
    >>> import numpy as np
    >>> from ntkfast.features import NTKRandomFeatures
    >>> NTKRandomFeatures(depth=2, n_components=64, random_state=0).fit_transform(np.eye(3)).shape
    (3, 64)
    """

    network: DenseNetwork | None = None
    _: KW_ONLY
    depth: int = 1
    n_components: int = 2048
    hidden: int | None = None
    weights: str = "auto"
    leverage: bool | None = None
    sketch: str = "srht"
    random_state: Any = None

    def _draw(self, X: FloatArray, generator: Generator) -> int:
        network = FullyConnected(self.depth) if self.network is None else self.network
        if not isinstance(network, DenseNetwork):
            raise TypeError(f"network: expected a dense Network, got {type(network).__name__}")
        checked_row_kernel(network.ntk)  # which one of a network with Dropout is not
        layers = merge(network.layers(X.shape[1]))
        plan = _Plan(
            total=self.n_components,
            hidden=max(1, self.n_components // 2)
            if self.hidden is None
            else checks.count("hidden", self.hidden, least=1),
            weights=checks.choice("weights", self.weights, ("auto", *projections.WEIGHTS)),
            length="root" if self._equal_lengths(layers) else "gaussian",
            product=PRODUCTS[checks.choice("sketch", self.sketch, tuple(PRODUCTS))],
            generator=generator,
        )
        self.scale_ = float(np.sqrt(network.scale("ntk")))
        self.steps_, count = plan.steps(layers, X.shape[1])
        sketches = sum(step.product is not None for step in self.steps_)
        if sketches > LARGE**2 * self.n_components:
            warn(
                f"n_components: {self.n_components} for {sketches} sketches, one in each layer, "
                "leave errors of K(x, y) of about "
                f"{math.sqrt(sketches / self.n_components):.2f} sqrt(K(x, x) K(y, y)); take more, "
                "or DualActivationFeatures",
                UserWarning,
            )
        return count

    def _equal_lengths(self, layers: tuple[Layer, ...]) -> bool:
        degrees = [layer.activation.degree for layer in layers]
        # Lengths sqrt(dim) have the second moment of Gaussian ones, and degree 0 needs none.
        right = all(degree in (0.0, 1.0) for degree in degrees)
        if self.leverage and not right:
            raise ValueError(
                "leverage: expected False for activations that are not homogeneous of degree 0 or 1"
            )
        return right if self.leverage is None else bool(self.leverage)

    def _check_device(self) -> None:
        if any(isinstance(step.product, CountProduct) for step in self.steps_):
            raise self._host_only(" with sketch='countsketch'")
        if any(step.project and step.activation != RELU for step in self.steps_):
            raise self._host_only(" with other activations than ReLU")

    def _width(self) -> int:
        return 2 * int(self.n_components)

    def _write(self, X: FloatArray, out: FloatArray) -> None:
        last = self.steps_[-1]
        direct = out if last.add < 0 and last.reduce[1] is None else None

        def target(step: _Step) -> FloatArray | None:
            return direct if step is last else None

        own = norms_of(X).astype(np.float64) ** 2
        found = carry(
            self.steps_,
            _State(X, blocks.empty(X, 0), own, np.zeros_like(own)),
            lambda step, state: step.activate(state, target(step)),
            lambda step, state: step.affine(state, target(step)),
            _beside,
            _no_product,
            _Step.reduced,
        ).t
        if found is not out or self.scale_ != 1:
            blocks.write(out, found, self.scale_)


class _State(NamedTuple):
    """Features of the NNGP and the NTK, and both kernels of each row with itself."""

    c: FloatArray
    t: FloatArray
    q: Values
    a: Values


def _beside(one: _State, two: _State) -> _State:
    c, t = (blocks.beside([(1, a), (1, b)]) for a, b in ((one.c, two.c), (one.t, two.t)))
    return _State(c, t, one.q + two.q, one.a + two.a)


def _no_product(one: Any, two: Any) -> Any:
    raise TypeError(
        "network: expected one without Multiply, whose layers would need features of products of "
        "features; DualActivationFeatures and NTKSketch take the kernel of such a network where it "
        "is one of the angle, NystromFeatures any"
    )


def _stretch(block: FloatArray, squares: Values) -> FloatArray:
    """Give rows their lengths, by their squares; rows of zeros stay what they are."""
    if block.shape[1]:
        norms = norms_of(block).astype(np.float64)
        blocks.write(block, block, np.sqrt(squares) / np.where(norms > 0, norms, 1))
    return block


def _check(dtype: np.dtype[Any], *squares: Values) -> None:
    if not max(float(part.max()) for part in squares) <= float(np.finfo(dtype).max):
        raise ValueError(
            f"X: the kernel of a row with itself overflows {dtype} on its way through the layers; "
            "scale the rows or the weights down"
        )


@dataclass(frozen=True, eq=False)
class _Step(Layer):
    """A layer with the random maps it needs."""

    project: Any = None
    product: Any = None
    reduce: tuple[Sketch | None, ...] = ()

    def reduced(self, state: _State) -> _State:
        """Return the features sketched down where there are too many."""
        c, t = (
            part if sketch is None else _stretch(sketch(part), own)
            for part, own, sketch in zip(state[:2], state[2:], self.reduce, strict=True)
        )
        return state._replace(c=c, t=t)

    def activate(self, state: _State, out: FloatArray | None) -> _State:
        """Return sqrt(w) times the features after the activation, in the right columns of `out`."""
        c, t, q, a = state
        with np.errstate(over="ignore", invalid="ignore"):
            after = np.asarray(self.activation.variance(q), np.float64)
            tangent = np.where(a == 0, 0, a * self.activation.derivative_variance(q))
            lengths = self.w * after, self.w * tangent
        _check(c.dtype, *lengths)
        m, h = 0 if self.product is None else self.product.m, self.project.count
        gain = float(np.sqrt(self.w / h))
        straight = out is not None and self.x == self.w
        to = out[:, m : m + h] if straight else blocks.empty(c, h)  # type: ignore[index]
        slope = self._answers(c, gain, to)
        if self.product is not None:
            step = self.activation == RELU
            t = self.product(t, slope, gain, None if out is None else out[:, :m], step)
            _stretch(t, lengths[1])
        return _State(_stretch(to, lengths[0]), t, after, tangent)

    def _answers(self, c: FloatArray, gain: float, out: FloatArray) -> FloatArray:
        """Write gain s(Wc) to `out`; return s'(Wc), or what is positive where that is 1."""
        activation = self.activation
        if activation == RELU:  # product, maximum and scale in one pass
            plan = neurons.plain("relu", gain, c.dtype)
            neurons.answer(plan, self.project, c, norms_of(c), out)
            return out
        values = self.project(c)
        np.multiply(activation(values), c.dtype.type(gain), out=out)
        return np.asarray(activation.derivative(values), c.dtype)

    def affine(self, state: _State, out: FloatArray | None) -> _State:
        """Concatenate what the layer's weights and biases add; activations multiply by sqrt(w)."""
        c, t, q, a = state
        number = c.dtype.type
        with np.errstate(over="ignore", invalid="ignore"):
            q, a = self.w * q + self.e, self.w * a + self.x * q + self.y
        _check(c.dtype, q, a)
        if self.project is None:
            w = number(np.sqrt(self.w))
            c, t = blocks.beside([(w, c)]), blocks.beside([(w, t)])
        ones = blocks.ones(c)
        share = number(np.sqrt(self.x / self.w) if self.x else 0)
        parts = [(number(1), t), (share, c), (number(np.sqrt(self.y)), ones)]
        ntk = blocks.beside(
            [(k, part) for k, part in parts if k and part.shape[1]] or parts[:1], out
        )
        nngp = [(number(1), c), (number(np.sqrt(self.e)), ones)][: 1 + (self.e > 0)]
        return _State(blocks.beside(nngp), ntk, q, a)


@dataclass
class _Plan:
    """Sizes of the features in each layer, and the random maps between them."""

    total: int
    hidden: int
    weights: str
    length: str
    product: Any
    generator: Generator

    def steps(self, layers: tuple[Layer, ...], dim: int) -> tuple[list[_Step], int]:
        """Draw all layers and return them with the number of NTK features."""
        steps: list[_Step] = []
        limits = max(self.hidden, dim) + 1, self.total
        drawn: dict[str, Any] = {}  # the random maps of the activation at hand

        def activate(layer: Layer, sizes: Sizes) -> Sizes:
            drawn.update(self._activation(layer, *sizes))
            return self.hidden, drawn["product"].m if "product" in drawn else 0

        def join(a: Sizes, b: Sizes) -> Sizes:
            return a[0] + b[0], a[1] + b[1]

        def settle(layer: Layer, sizes: Sizes) -> Sizes:
            reduce = tuple(map(self._reduction, sizes, limits))
            steps.append(_Step(**vars(layer), **drawn, reduce=reduce))
            drawn.clear()
            return min(sizes[0], limits[0]), min(sizes[1], limits[1])

        sizes = carry(layers, (dim, 0), activate, self._affine_sizes, join, _no_product, settle)
        if not sizes[1]:
            raise ValueError("network: expected trained weights, its NTK is zero")
        return steps, sizes[1]

    def _activation(self, layer: Layer, c: int, t: int) -> dict[str, Any]:
        kind = self.weights
        if kind == "auto":
            kind = "structured" if c >= MANY_INPUTS else "orthogonal"
        project = projections.draw(kind, c, self.hidden, self.generator, length=self.length)
        if not t:
            return {"project": project}
        # What the layer itself contributes fills the rest; too much is sketched down afterwards.
        m = max(1, self.total - self._affine_sizes(layer, (self.hidden, 0))[1])
        return {"project": project, "product": self.product(t, self.hidden, m, self.generator)}

    @staticmethod
    def _affine_sizes(layer: Layer, sizes: Sizes) -> Sizes:
        c, t = sizes
        return c + bool(layer.e), t + (c if layer.x else 0) + bool(layer.y)

    def _reduction(self, size: int, limit: int) -> Sketch | None:
        return HadamardSketch(size, limit, self.generator) if size > limit else None
