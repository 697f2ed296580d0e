"""Finite fully connected networks: forward pass, features and backward factors of every layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike

from ntkfast.arrays import checks
from ntkfast.arrays.collections import FloatArray
from ntkfast.finite.network import FiniteNetwork
from ntkfast.finite.weights import Init, Matrix
from ntkfast.kernels.layers import IDENTITY, Layer, Layers, merge
from ntkfast.networks.base import ActivationLike, DenseNetwork
from ntkfast.support.randomness import RNG


@dataclass(frozen=True, eq=False, repr=False, init=False)
class MLP(FiniteNetwork):
    """A fully connected network of finite width with random weights, as a value.

    With ``z_0 = x`` and ``z_l = s(h_l)`` the layers l = 0 ... L are::

        h_(layer+1) = w_std[layer] / sqrt(fan_in) W_l^T z_l + b_std[layer] b_l,

    the parameterisation "ntk" of `ntkfast.FullyConnected`; the output is ``h_(L+1)``, linear.
    Weights have variance 1.

    Parameters
    ----------
    widths : sequence of int
        Of the input, the hidden layers and the output: ``(d, n_1, ..., n_L, outputs)``.
    activation : str, Activation or callable, default "relu"
        See `ntkfast.Activation`.
    init : {"gaussian", "orthogonal", "sparse"}, Sparse or Orthogonal
        Law of the weights; "sparse" is ``Sparse(density=0.1)``.
    w_std : float or sequence of float, optional
        One for all layers, or one per layer. Default: ``1 / sqrt(E[s(Z)^2])``, sqrt 2 for ReLU.
    b_std : float or sequence of float, default 0
        Of the Gaussian biases, which are trained with this factor. 0: no biases.
    zero_bias : bool, default False
        Biases start at zero and are trained with the factor `b_std`.
    residual : float, default 0
        alpha. If not 0, a layer between two hidden ones of equal width is added to what it starts
        from: ``h_(layer+1) = h_l + alpha (...)``.
    trained : bool or sequence of bool, default True
        Whether the weights and biases of the layers count as parameters.
    rng : int, Generator or None

    Attributes
    ----------
    weights : tuple of (fan_in, fan_out) arrays
    biases : tuple of (fan_out,) arrays
    limit : DenseNetwork
        The infinitely wide network. Orthogonal and sparse weights have the same.
    ntk, nngp : Kernel
        The empirical kernels of these very weights.

    Raises
    ------
    TypeError, ValueError
        If a parameter has the wrong type, range or length.

    References
    ----------
    .. [1] A. Jacot, F. Gabriel, C. Hongler, "Neural tangent kernel: convergence and generalization
       in neural networks", NeurIPS 2018.
    .. [2] W. Huang, W. Du, R. Y. D. Xu, "On the neural tangent kernel of deep networks with
       orthogonal initialization", arXiv:2004.05867 (the limit of orthogonal weights; checked here
       by Monte Carlo).

    Examples
    --------
    >>> import numpy as np
    >>> import ntkfast as nf
    >>> net = nf.finite.MLP((3, 64, 64, 1), "erf", w_std=1.5, b_std=0.1, rng=0)
    >>> X = np.eye(3)
    >>> net(X).shape, net.ntk(X).shape, net.layer_ntks(X).shape
    ((3, 1), (3, 3), (3, 3, 3))
    """

    widths: tuple[int, ...]
    residual: float

    def __init__(
        self,
        widths: Sequence[int],
        activation: ActivationLike = "relu",
        *,
        init: str | Init = "gaussian",
        w_std: float | Sequence[float] | None = None,
        b_std: float | Sequence[float] = 0.0,
        zero_bias: bool = False,
        residual: float = 0.0,
        trained: bool | Sequence[bool] = True,
        rng: RNG = 0,
    ) -> None:
        sizes = tuple(checks.count("widths", width, least=1) for width in widths)
        if len(sizes) < 2:
            raise ValueError(f"widths: expected at least input and output, got {sizes}")
        checks.store(self, widths=sizes, zero_bias=bool(zero_bias))
        self._initialize(len(sizes) - 1, activation, init, w_std, b_std, trained)
        checks.store(self, residual=checks.number("residual", residual, least=0.0))
        self._draw(np.random.default_rng(rng))

    def __repr__(self) -> str:
        return f"MLP({self.widths}, {self.activation.name!r})"

    @property
    def depth(self) -> int:
        """Number of hidden layers."""
        return len(self.widths) - 2

    @property
    def tile_rows(self) -> int:
        """Inputs of a tile of a Gram matrix, whose factors are held at a time.

        Factors are computed once per tile, rows x fan_in x fan_out beside rows^2 x (fan_in +
        fan_out) for the tile itself: wide layers want many rows, narrow ones tiles that a cache
        holds.
        """
        return min(4096, max(1024, 4 * max(self.widths)))

    # The recursion ----------------------------------------------------------------------------

    def is_skipped(self, layer: int) -> bool:
        """Whether layer l is a residual branch."""
        inner = 0 < layer < self.depth
        return bool(self.residual) and inner and self.widths[layer] == self.widths[layer + 1]

    def scales(self, layer: int) -> tuple[float, float]:
        """Return what W_l and b_l are multiplied by."""
        branch, (scale, offset) = self._branch(layer), super().scales(layer)
        return branch * scale, branch * offset

    def _branch(self, layer: int) -> float:
        return self.residual if self.is_skipped(layer) else 1.0

    def _sizes(self) -> list[tuple[int, int]]:
        return list(pairwise(self.widths))

    def backward(self, X: ArrayLike) -> list[FloatArray]:
        """Return B_1, ..., B_(L+1), the derivatives of the outputs by h_1, ..., h_(L+1).

        Returns
        -------
        list of (n, outputs, width) arrays
        """
        return self._backward(self.preactivations(X), 0)

    def input_gradients(self, X: ArrayLike) -> FloatArray:
        """Return the derivatives of the outputs by the inputs, an (n, outputs, d) array."""
        back = self.backward(X)[0]
        n, outputs, width = back.shape
        W = (self.scales(0)[0] * self.weights[0]).astype(back.dtype)
        return np.asarray((back.reshape(-1, width) @ W.T).reshape(n, outputs, -1))

    def pull_back(self, X: ArrayLike, V: ArrayLike) -> tuple[list[Matrix], list[Matrix]]:
        """Return ``sum_ia V_ia grad f_a(x_i)`` by weights and by biases, without gradients.

        Parameters
        ----------
        X : (n, d) array
        V : (n, outputs) array

        Returns
        -------
        weights, biases : lists of arrays
            Shaped like the attributes; zero where a layer is not trained.

        Raises
        ------
        TypeError, ValueError
            If an argument has the wrong type or shape.
        """
        W, b = [np.zeros_like(w) for w in self.weights], [np.zeros_like(v) for v in self.biases]
        points = self.rows(X)
        coefficients = np.asarray(V, points.dtype)
        if coefficients.shape != (len(points), self.widths[-1]):
            wanted = len(points), self.widths[-1]
            raise ValueError(f"V: expected shape {wanted}, got {coefficients.shape}")
        chosen = [layer for layer, trained in enumerate(self.trained) if trained]
        for layer, part in zip(chosen, self._factors(points, coefficients), strict=True):
            back = part.B[:, 0]
            W[layer] = part.scale * (part.F.T @ back)
            b[layer] = part.offset * back.sum(axis=0)
        return W, b

    def step(self, X: ArrayLike, V: ArrayLike) -> MLP:
        """Return the network with ``sum_ia V_ia grad f_a(x_i)`` added to its parameters.

        For ``V = -rate dloss/df`` this is a step of gradient descent.

        Parameters
        ----------
        X : (n, d) array
        V : (n, outputs) array

        Raises
        ------
        TypeError, ValueError
            If an argument has the wrong type or shape.

        Examples
        --------
        >>> import numpy as np
        >>> import ntkfast as nf
        >>> net, X, y = nf.finite.MLP((3, 50, 2)), np.eye(3), np.eye(3, 2)
        >>> for _ in range(200):
        ...     net = net.step(X, -0.1 * (net(X) - y))
        >>> bool(np.all(np.abs(net(X) - y) < 1e-3))
        True
        """
        W, b = self.pull_back(X, V)
        return self.with_parameters(
            [old + new for old, new in zip(self.weights, W, strict=True)],
            [old + new for old, new in zip(self.biases, b, strict=True)],
        )

    @property
    def limit(self) -> DenseNetwork:
        """The network of infinite width with the same recursion."""
        return WideLimit(self)

    def rows(self, X: ArrayLike, name: str = "X") -> FloatArray:
        """Return inputs as a matrix of d columns.

        Raises
        ------
        TypeError, ValueError
            If they are none.
        """
        matrix = checks.matrix(name, X)
        self.check_shape(name, matrix.shape)
        return matrix

    def check_one_output(self, name: str) -> None:
        """Raise an error naming the argument if the network has several outputs."""
        if self.widths[-1] != 1:
            raise ValueError(f"{name}: expected one output, got {self.widths[-1]}")

    def check_shape(self, name: str, shape: tuple[int, ...]) -> None:
        """Raise an error if an array of this shape is no matrix of d columns."""
        checks.matrix_shape(name, shape, self.widths[0])


class WideLimit(DenseNetwork):
    """What an MLP becomes when all hidden layers are wide, its kernels averaged over outputs."""

    def __init__(self, net: MLP) -> None:
        self.rows = tuple(_limit_layer(net, layer) for layer in range(net.depth + 1))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, WideLimit) and self.rows == other.rows

    def __hash__(self) -> int:
        return hash(self.rows)

    def __repr__(self) -> str:
        return f"WideLimit of {len(self.rows) - 1} hidden layers"

    def layers(self, dim: int) -> Layers:
        """Return the recursion for inputs with `dim` features."""
        return merge([Layer(w=1 / dim), *self.rows])


def _limit_layer(net: MLP, layer: int) -> Layer:
    branch = net._branch(layer)
    w, b = (branch * net.w_std[layer]) ** 2, (branch * net.b_std[layer]) ** 2
    slot = 0 if net.is_skipped(layer) else -1
    return Layer(
        net.activation if layer else IDENTITY,
        w=w,
        e=0.0 if net.zero_bias else b,
        x=w * net.trained[layer],
        y=b * net.trained[layer],
        save=slot,
        add=slot,
    )
