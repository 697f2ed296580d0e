"""Neural tangent kernels as scikit-learn kernels, for its Gaussian processes."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ntkfast.arrays.foreign import host_array
from ntkfast.kernels.parameters import changed, parameters_of
from ntkfast.support.optional import require

require("sklearn", "sklearn")
from sklearn.gaussian_process.kernels import Hyperparameter  # noqa: E402
from sklearn.gaussian_process.kernels import Kernel as SklearnKernel  # noqa: E402

__all__ = ["NTKKernel"]

Bounds = tuple[float, float] | Literal["fixed"]
_TUNABLE = ("alpha", "b_std", "bias", "c", "h_std", "scale", "u_std", "w_std")


def __dir__() -> list[str]:
    """Return the public names."""
    return __all__


@dataclass(eq=False, repr=False)
class NTKKernel(SklearnKernel):  # type: ignore[misc]
    """A kernel of an infinitely wide network for `GaussianProcessRegressor` and `-Classifier`.

    The value is ``scale * network.ntk(X, Y)``. Parameters that are not None replace those of the
    network and are tuned, like `scale`, by the optimiser of the Gaussian process, on a logarithmic
    scale within their bounds. The depth is a structure and stays what it is; ``GridSearchCV``
    searches over ``kernel__network__depth``.

    Parameters
    ----------
    network : network or kernel
        ``nf.FullyConnected(3)``, ``nf.ResNet(10, alpha=0.3)``, ``nf.Laplace(1.0)``, ...
    kind : {"ntk", "nngp"}
        Which kernel of a network; without meaning when `network` is a kernel itself.
    scale : float
        Factor of the kernel.
    w_std, u_std, b_std, h_std, bias, alpha, c : float, optional
        Replace the parameter of this name; the network must have it. None leaves it alone.
    scale_bounds, w_std_bounds, u_std_bounds, b_std_bounds, h_std_bounds : pair or "fixed"
        Range of the search for the parameter of this name.
    bias_bounds, alpha_bounds, c_bounds : pair or "fixed"
        The same.
    engine, threads : optional
        As in ``network.ntk(X, Y)``.

    Notes
    -----
    Gradients are exact, see `ntkfast.kernels.Kernel.parameter_jvp`; they are computed in float64.

    A matrix is a set of sequences of numbers for `Recurrent`. Sequences of different lengths cannot
    pass through the checks of scikit-learn's estimators: give those the Gram matrix, as in
    ``SVC(kernel="precomputed")``.

    Raises
    ------
    ValueError
        At the first evaluation, if the network lacks a parameter that was given.

    Examples
    --------
    >>> import numpy as np, ntkfast as nf
    >>> from sklearn.gaussian_process import GaussianProcessRegressor
    >>> from sklearn.gaussian_process.kernels import WhiteKernel
    >>> from ntkfast.sklearn import NTKKernel
    >>> generator = np.random.default_rng(0)
    >>> X = generator.normal(size=(60, 2))
    >>> y = np.sin(X[:, 0]) + 0.1 * generator.normal(size=60)
    >>> kernel = NTKKernel(nf.FullyConnected(2)) + WhiteKernel(1e-2)
    >>> model = GaussianProcessRegressor(kernel).fit(X, y)
    >>> bool(model.score(X, y) > 0.9)
    True
    """

    # as scikit-learn's clone wants them, stored as they came: no checks here
    network: Any
    _: KW_ONLY
    kind: str = "ntk"
    scale: float = 1.0
    scale_bounds: Bounds = (1e-5, 1e5)
    w_std: float | None = None
    w_std_bounds: Bounds = (0.1, 10.0)
    u_std: float | None = None
    u_std_bounds: Bounds = (0.1, 10.0)
    b_std: float | None = None
    b_std_bounds: Bounds = (1e-3, 10.0)
    h_std: float | None = None
    h_std_bounds: Bounds = (1e-3, 10.0)
    bias: float | None = None
    bias_bounds: Bounds = (1e-3, 10.0)
    alpha: float | None = None
    alpha_bounds: Bounds = (1e-3, 10.0)
    c: float | None = None
    c_bounds: Bounds = (1e-3, 1e3)
    engine: str | None = None
    threads: int | None = None

    @property
    def hyperparameters(self) -> list[Any]:
        """All parameters that are not None, sorted by name as scikit-learn does."""
        return [
            Hyperparameter(name, "numeric", getattr(self, f"{name}_bounds"))
            for name in _TUNABLE
            if getattr(self, name) is not None
        ]

    def __call__(
        self, X: ArrayLike, Y: ArrayLike | None = None, eval_gradient: bool = False
    ) -> NDArray[Any] | tuple[NDArray[Any], NDArray[Any]]:
        """Evaluate the kernel, and its gradient by the logarithms of the free parameters.

        Parameters
        ----------
        X : array_like, shape (n, d)
            Inputs.
        Y : array_like, shape (m, d), optional
            Other inputs; None means X.
        eval_gradient : bool
            Also return the gradient; only with Y None.

        Returns
        -------
        K : ndarray, shape (n, m)
            Kernel matrix.
        gradient : ndarray, shape (n, n, number of free parameters)
            Only with `eval_gradient`; last axis in the order of `theta`.

        Raises
        ------
        ValueError
            If the gradient is wanted with Y, or the network lacks a parameter.
        """
        inputs = np.atleast_2d(host_array("X", X))
        others = None if Y is None else np.atleast_2d(host_array("Y", Y))
        if eval_gradient and others is not None:
            raise ValueError("Y: expected None with eval_gradient, got an array")
        K = self._evaluate(self._values(), inputs, others)
        if not eval_gradient:
            return K
        free = [parameter.name for parameter in self.hyperparameters if not parameter.fixed]
        gradient, wide = np.empty((*K.shape, len(free))), inputs.astype(np.float64)
        for column, name in enumerate(free):
            gradient[..., column] = K if name == "scale" else self._slope(name, wide)
        return K, gradient

    def diag(self, X: ArrayLike) -> NDArray[Any]:
        """Evaluate the kernel of each input with itself.

        Parameters
        ----------
        X : array_like, shape (n, d)
            Inputs.

        Returns
        -------
        ndarray, shape (n,)
            The diagonal of ``self(X)``.
        """
        diagonal: NDArray[Any] = self._kernel(self._values()).diag(
            np.atleast_2d(host_array("X", X))
        )
        return float(self.scale) * diagonal

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters; with `deep` those of the network too, as ``network__depth``."""
        found: dict[str, Any] = super().get_params(deep)
        inner = parameters_of(self.network) if deep else {}
        return found | {f"network__{name}": value for name, value in inner.items()}

    def set_params(self, **params: Any) -> NTKKernel:
        """Set parameters; those of the network, as ``network__depth``, put another in its place."""
        prefix = "network__"
        own = {name: value for name, value in params.items() if not name.startswith(prefix)}
        inner = {name.removeprefix(prefix): params[name] for name in params if name not in own}
        super().set_params(**own)
        if inner:
            self.network = changed(self.network, inner, prefix)
        return self

    def is_stationary(self) -> bool:
        """Return False: the kernel depends on the inputs, not only on their difference."""
        return False

    def __repr__(self) -> str:
        """Show the network and the present values of the parameters."""
        changed = [f"{name}={value:.3g}" for name, value in self._values().items()]
        kind = "" if self.kind == "ntk" else f", kind={self.kind!r}"
        return f"NTKKernel({self.network!r}{kind}, {', '.join(changed)})"

    def _values(self) -> dict[str, float]:
        return {
            name: float(value) for name in _TUNABLE if (value := getattr(self, name)) is not None
        }

    def _kernel(self, values: dict[str, float]) -> Any:
        """Make the kernel of the network with these parameters in place of its own."""
        changes = {name: value for name, value in values.items() if name != "scale"}
        network = changed(self.network, changes) if changes else self.network
        return getattr(network, self.kind, network)

    def _evaluate(
        self, values: dict[str, float], X: NDArray[Any], Y: NDArray[Any] | None
    ) -> NDArray[Any]:
        K: NDArray[Any] = self._kernel(values)(X, Y, engine=self.engine, threads=self.threads)
        K *= values["scale"]
        return K

    def _slope(self, name: str, X: NDArray[Any]) -> NDArray[Any]:
        """Differentiate by the logarithm of one parameter, in double precision."""
        values = self._values()
        step = {name: values["scale"] * values[name]}
        found: NDArray[Any] = self._kernel(values).parameter_jvp(
            X, None, step, engine=self.engine, threads=self.threads
        )
        return found
