"""Fully connected and residual networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from functools import lru_cache, partial
from typing import Any, cast

import numpy as np

from ntkfast.activations.base import Activation
from ntkfast.activations.names import resolve
from ntkfast.arrays import checks
from ntkfast.kernels.balance import balanced
from ntkfast.kernels.layers import Layer, Layers, diagonal
from ntkfast.networks.base import PARAMETERIZATIONS, ActivationLike, DenseNetwork, short_repr

LEAST_BRANCH, MOST_BRANCH = 2.0**-256, 2.0**511  # their squares, and sums of those, are floats


@dataclass(frozen=True, repr=False)
class FullyConnected(DenseNetwork):
    """An infinitely wide fully connected network.

    Parameters
    ----------
    depth : int
        Number of hidden (nonlinear) layers; 0 is the linear kernel.
    activation : str, Activation or callable, default "relu"
        See `ntkfast.Activation`. A list: one for each hidden layer.
    parameterization : {"unit", "ntk"}, default "unit"
        "unit" is the convention of theory papers: S_0 = x.y, hidden weights of variance
        c = 1/E[s(Z)^2] (2 for ReLU), read-out variance 1, so that unit inputs keep unit variance,

            S_h = c E[s(a) s(b)],   T_h = T_{h-1} c E[s'(a) s'(b)] + S_h + bias^2,
            T_0 = S_0 + bias^2.

        "ntk" is ``Dense(w_std, b_std)`` of neural-tangents for every layer and the read-out, the
        first one with 1/d, all of them trained. **Networks made with** `compose` **have that
        default.**
    w_std : float or list of floats, optional
        Standard deviation of the weights; default sqrt(c). In "unit" that of the hidden layers. A
        list has one number for each of these, in "ntk" for these and the read-out.
    b_std : float or list of floats, default 0
        Standard deviation of the biases, for "ntk": of all, or of each hidden layer and the
        read-out.
    bias : float, default 0
        beta of Geifman et al., for "unit": biases that start at zero and are trained.
    trained : bool or list of bools, default True
        Whether the parameters contribute to the NTK, for "ntk": all, or those of each hidden layer
        and of the read-out.

    Raises
    ------
    TypeError, ValueError
        If a parameter has the wrong type or range, or belongs to the other parameterization.

    Notes
    -----
    Bias-free networks with a positively homogeneous activation satisfy
    K(x, y) = abs(x) abs(y) k(u) and cost one polynomial per pair at any depth; so do all networks
    on rows of one norm. Rows of zeros have K = 0 there: the limit for rows that shrink to zero.

    Accuracy: a few units of roundoff of sqrt(K(x,x) K(y,y)), and exact for equal rows.

    References
    ----------
    .. [1] A. Jacot, F. Gabriel, C. Hongler, "Neural tangent kernel: convergence and generalization
       in neural networks", NeurIPS 2018.
    .. [2] A. Geifman et al., "On the similarity between the Laplace and neural tangent kernels",
       NeurIPS 2020 (the bias; their indexing was not available, the recursion above was derived
       and checked against finite networks).

    Examples
    --------
    >>> import numpy as np, ntkfast as nf
    >>> net = nf.FullyConnected(3)
    >>> net.ntk(np.eye(2)).round(6)
    array([[4.      , 1.060388],
           [1.060388, 4.      ]])
    """

    depth: int
    _: KW_ONLY
    activation: ActivationLike | Sequence[ActivationLike] = "relu"
    parameterization: str = "unit"
    w_std: float | Sequence[float] | None = None
    b_std: float | Sequence[float] = 0.0
    bias: float = 0.0
    trained: bool | Sequence[bool] = True

    def __post_init__(self) -> None:
        depth = checks.count("depth", self.depth)
        kind = checks.choice("parameterization", self.parameterization, PARAMETERIZATIONS)
        weights = depth + (kind == "ntk")
        each = partial(_each, depth=depth)
        checks.store(
            self,
            depth=depth,
            activation=each("activation", self.activation, depth, lambda _, one: resolve(one)),
            parameterization=kind,
            w_std=each("w_std", self.w_std, weights, checks.deviation),
            b_std=each("b_std", self.b_std, weights, partial(checks.deviation, zero=True)),
            bias=checks.deviation("bias", self.bias, zero=True),
            trained=each("trained", self.trained, weights, checks.flag),
        )
        if kind == "unit" and self.b_std:
            raise ValueError('b_std: belongs to parameterization="ntk"; use bias in "unit"')
        if kind == "unit" and self.trained is not True:
            raise ValueError('trained: belongs to parameterization="ntk"')
        if kind == "ntk" and self.bias:
            raise ValueError('bias: belongs to parameterization="unit"; use b_std in "ntk"')

    __repr__ = short_repr

    @property
    def activations(self) -> tuple[Activation, ...]:
        """The activation of each hidden layer."""
        return cast("tuple[Activation, ...]", _repeated(self.activation, self.depth))

    def layers(self, dim: int) -> Layers:
        """Return the recursion for inputs with `dim` features."""
        count = self.depth + (self.parameterization == "ntk")
        if self.w_std is not None:
            squares = [w**2 for w in _repeated(self.w_std, count)]
        elif isinstance(self.activation, tuple):  # the first weights go with what follows them
            squares = [one.gain() for one in (self.activation[0], *self.activation)[-count:]]
        else:
            squares = [cast(Activation, self.activation).gain()] * count
        if self.parameterization == "ntk":
            trained = _repeated(self.trained, count)
            steps = [
                affine(w, b**2, float(one))
                for w, b, one in zip(squares, _repeated(self.b_std, count), trained, strict=True)
            ]
            steps[0] = replace(steps[0], w=steps[0].w / dim, x=steps[0].x / dim)
        else:
            beta = self.bias**2
            made = {w: Layer(w=w, x=w, y=beta) for w in set(squares)}
            steps = [Layer(x=1.0, y=beta), *(made[w] for w in squares)]
        return (steps[0], *map(_behind, self.activations, steps[1:]))


@lru_cache(maxsize=256)
def _behind(activation: Activation, step: Layer) -> Layer:
    """Return an affine layer behind an activation; deep networks have the same one many times."""
    return replace(step, activation=activation)


def _each(
    name: str, value: Any, count: int, check: Callable[[str, Any], Any], *, depth: int
) -> Any:
    """Return what holds for all layers, checked, or a tuple of what holds for each.

    Raises
    ------
    ValueError
        If there are too few or too many.
    """
    if value is None or not isinstance(value, (list, tuple, np.ndarray)):
        return None if value is None else check(name, value)
    if len(value) != count or not count:
        raise ValueError(
            f"{name}: expected one value, or {count} for depth={depth}, got {len(value)}"
        )
    found = tuple(check(name, one) for one in value)
    return found[0] if len(set(found)) == 1 else found


def _repeated(value: Any, count: int) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,) * count


@lru_cache(maxsize=256)
def affine(w: float, b: float, trained: float = 1.0) -> Layer:
    """Weights and biases of these variances, trained or fixed."""
    return Layer(w=w, e=b, x=trained * w, y=trained * b)


@dataclass(frozen=True, repr=False)
class ResNet(DenseNetwork):
    """An infinitely wide residual network, x_l = x_{l-1} + alpha V_l s(W_l x_{l-1}).

    Parameters
    ----------
    depth : int
        Number of residual blocks.
    alpha : float
        Weight of the residual branch, which has variance alpha^2 for unit inputs.
    trained : {"residual", "all", "last"}, default "residual"
        "residual": the V_l and W_l only (variant A); "all": the first and last layer too
        (variant B, and the kernel of Tirer et al.); "last": the blocks and the last layer.
    normalize : bool, default False
        Divide by the value at equal unit inputs, so that k(1) = 1 on the unit sphere
        (the constant 1/(2 L (1 + alpha^2)^(L-1)) of Belfer et al. for the residual NTK).
    activation : str, Activation or callable, default "relu"
    parameterization : {"unit", "ntk"}, default "unit"
        "ntk" divides the inner product of the inputs by d, as Tirer et al. do. **Networks made
        with** `compose` **have that default.**
    w_std, v_std : float
        Standard deviations of W and V. Defaults: 1/sqrt(E[s(Z)^2]) (sqrt 2 for ReLU) and 1;
        Tirer et al. write sigma_w and sigma_v, 1 each in their experiment.

    Notes
    -----
    With K_0 = x.y, u = K_{l-1} over the geometric mean N of the variances, and a = alpha^2::

        K_l = K_{l-1} + a N kappa1(u),     B_l = B_{l+1} (1 + a kappa0(u)),   B_{L+1} = 1,
        R   = a sum_l B_{l+1} (N kappa1(u) + K_{l-1} kappa0(u))       trained="residual",
        R + K_L                                                       trained="last",
        R + K_L + B_1 K_0                                             trained="all".

    The recursion was derived and checked against finite networks; which variant each theorem of
    [1]_ uses could not be read.

    References
    ----------
    .. [1] Y. Belfer, A. Geifman, M. Galun, R. Basri, "Spectral analysis of the neural tangent
       kernel for deep residual networks", arXiv:2104.03093.
    .. [2] K. Huang, Y. Wang, M. Tao, T. Zhao, "Why do deep residual networks generalize better than
       deep feedforward networks? A neural tangent kernel perspective", NeurIPS 2020.
    .. [3] T. Tirer, J. Bruna, R. Giryes, "Kernel-based smoothness analysis of residual networks",
       MSML 2021.

    Examples
    --------
    >>> import ntkfast as nf
    >>> nf.ResNet(10, alpha=0.3, normalize=True).ntk.profile([1.0, 0.5]).round(6)
    array([1.      , 0.447201])
    """

    depth: int
    _: KW_ONLY
    alpha: float
    trained: str = "residual"
    normalize: bool = False
    activation: ActivationLike = "relu"
    parameterization: str = "unit"
    w_std: float | None = None
    v_std: float = 1.0

    def __post_init__(self) -> None:
        checks.store(
            self,
            depth=checks.count("depth", self.depth, least=1),
            alpha=checks.number("alpha", self.alpha, above=0.0),
            trained=checks.choice("trained", self.trained, ("residual", "all", "last")),
            normalize=bool(self.normalize),
            activation=resolve(self.activation),
            parameterization=checks.choice(
                "parameterization", self.parameterization, PARAMETERIZATIONS
            ),
            w_std=None if self.w_std is None else checks.deviation("w_std", self.w_std),
            v_std=checks.deviation("v_std", self.v_std),
        )

        if not self.alpha * self.v_std <= MOST_BRANCH:
            raise ValueError(
                f"alpha: expected alpha v_std <= {MOST_BRANCH:g}, got {self.alpha * self.v_std:g}"
            )

    __repr__ = short_repr

    def scale(self, kind: str) -> float:
        """Return the factor of the NTK or NNGP of the layers that makes the kernel."""
        if not self.normalize:
            alone = kind == "ntk" and self.trained == "residual"
            return (self.alpha * self.v_std / self._branch) ** 2 if alone else 1.0
        at_one = diagonal(self._unit_layers(), np.ones(1))
        return 1.0 / float((at_one.ntk if kind == "ntk" else at_one.nngp)[0])

    def layers(self, dim: int) -> Layers:
        """Return the recursion for inputs with `dim` features."""
        first, *rest = self._unit_layers()
        scale = 1.0 / dim if self.parameterization == "ntk" else 1.0
        return (replace(first, w=first.w * scale, x=first.x * scale), *rest)

    @property
    def _branch(self) -> float:
        """The weight of the branch in the layers: it only scales the kernel where it is smaller."""
        return max(self.alpha * self.v_std, LEAST_BRANCH)

    def _unit_layers(self) -> Layers:
        """Return the recursion for inputs with one feature."""
        activation = resolve(self.activation)
        w = activation.gain() if self.w_std is None else self.w_std**2
        v = self._branch**2
        first = Layer(x=1.0 if self.trained == "all" else 0.0)
        block = (Layer(w=w, x=w, save=0), Layer(activation, w=v, x=v, add=0))
        last = () if self.trained == "residual" else (Layer(x=1.0),)
        layers = (first, *block * self.depth, *last)
        # What is divided by its value at unit inputs may have any scale.
        return balanced(layers).layers if self.normalize else layers
