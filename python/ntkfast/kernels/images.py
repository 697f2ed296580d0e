"""Kernels of images: Gram matrices, diagonals and products, like those of rows of numbers."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from ntkfast import places
from ntkfast.activations.base import Activation
from ntkfast.activations.polynomials import Masking
from ntkfast.arrays import checks, layout
from ntkfast.arrays.collections import Collection, FloatArray, Images, Shape
from ntkfast.arrays.panels import panels
from ntkfast.engines import Run
from ntkfast.engines.maps import ImagePlan, ScaledImages
from ntkfast.kernels.each_pair import PANEL_BYTES, EachPair
from ntkfast.kernels.filling import fill
from ntkfast.kernels.layers import IDENTITY, Diagonal, Layers
from ntkfast.kernels.lost_digits import tell_close_images

if TYPE_CHECKING:
    from ntkfast.kernels.image_gradients import Alone, Back

Outs = tuple[FloatArray | None, FloatArray | None]  # NTK and NNGP


class PlansImages(Protocol):
    """A network that says what an engine must know of it for images of one shape."""

    @property
    def shape(self) -> Shape | None:
        """Shape of the images in the rows of 2-D input."""

    @property
    def channels(self) -> str | None:
        """Which axis of an image counts channels: the "first" or "last"; None: it did not say."""

    def plan(self, shape: Shape) -> ImagePlan:
        """Return the constants of the network."""

    def least_variance(self, first: float) -> float:
        """Return the smallest variance of pixels on the way of one that begins with `first`."""

    def activations(self) -> tuple[Activation, ...]:
        """Return the activations among the steps of the plan."""

    def head_layers(self) -> Layers:
        """Return the dense layers behind the read-out."""


class ImageKernel(EachPair):
    """The NTK or NNGP of a convolutional network (`ImageNetwork.ntk`, `ImageNetwork.nngp`).

    Inputs are (n, height, width, channels) arrays, or (n, height width channels) rows if the
    network was given its ``shape``; with ``channels="first"`` that axis is the second one.

    Attributes
    ----------
    network : ImageNetwork
    kind : {"ntk", "nngp"}
    """

    network: PlansImages

    def check_shapes(self, X: tuple[int, ...], Y: tuple[int, ...] | None = None) -> None:
        """Raise an error naming the array that cannot hold images for this network, by its shape.

        Parameters
        ----------
        X, Y : tuples of int
            Shapes of arrays whose first axis counts images.

        Raises
        ------
        ValueError
            If an axis is empty, their number is wrong, images of Y are not like those of X, or
            a filter or a pool does not fit.
        """
        channels = self.network.channels
        shape = checks.image_shape("X", layout.shape_last(X, channels, 4), self.network.shape)
        if Y is not None:
            checks.image_shape("Y", layout.shape_last(Y, channels, 4), shape)
        self.network.plan(shape)

    def _inputs(self, place: places.Place, X: Any, Y: Any) -> tuple[Images, Images | None]:
        channels, shape = self.network.channels, self.network.shape
        X = layout.images_last("X", X, channels, shape)
        Y = None if Y is None else layout.images_last("Y", Y, channels, shape)
        return place.images(X, Y, shape, self.network.plan)

    def _gram(self, X: Collection, Y: Collection | None, out: FloatArray, run: Run) -> None:
        def write(left: Images, right: Images | None, panel: FloatArray) -> None:
            outs = (panel, None) if self.kind == "ntk" else (None, panel)
            self._run(left, right, outs, run)

        fill(write, X, Y, out)

    def _values(self, X: Collection) -> FloatArray:
        images = cast(Images, X)
        values = np.empty((len(images), 1), images.dtype)
        outs = (values, None) if self.kind == "ntk" else (None, values)
        run = places.of(images.data).run(None)
        layers = self.network.head_layers()
        if layers:
            from ntkfast.kernels.image_heads import carry_diagonal

            carry_diagonal(layers, self._own(images, run), outs)
        else:
            self._engine(images, None, outs, run, diagonal=True)
        return values[:, 0]

    def _both(
        self, X: Collection, Y: Collection | None, outs: tuple[FloatArray, FloatArray], run: Run
    ) -> None:
        self._run(cast(Images, X), cast("Images | None", Y), outs, run)

    def _run(self, X: Images, Y: Images | None, outs: Outs, run: Run) -> None:
        layers = self.network.head_layers()
        if not layers:
            self._engine(X, Y, outs, run)
            return
        if any(out is not None and not isinstance(out, np.ndarray) for out in outs):
            raise places.HostOnlyError("X: dense layers behind a read-out need NumPy arrays")
        from ntkfast.kernels.image_heads import carry_pairs

        shape = (len(X), len(X if Y is None else Y))
        wanted = [np.empty(shape, X.dtype) if out is None else out for out in outs]
        self._engine(X, Y, (wanted[0], wanted[1]), run)
        own = self._own(X, run)
        p = own.nngp if Y is None else self._own(Y, run).nngp
        carry_pairs(layers, X, Y, own, p, (wanted[0], wanted[1]), outs)
        _check_finite(outs)

    def _own(self, X: Images, run: Run) -> Diagonal:
        """Return the kernels of the read-out of images with themselves."""
        tangents, values = (np.empty((len(X), 1), X.dtype) for _ in range(2))
        self._engine(X, None, (tangents, values), run, diagonal=True)
        return Diagonal(values[:, 0].astype(np.float64), tangents[:, 0].astype(np.float64))

    def _engine(
        self, X: Images, Y: Images | None, outs: Outs, run: Run, *, diagonal: bool = False
    ) -> None:
        """Write the kernels of the read-out."""
        plan = self.network.plan(X.shape)
        self._check_variances(plan, X, Y)
        if self._walked():
            self._walk(X, Y, outs, run.threads, diagonal=diagonal)
            return
        left, right = _scaled(X, plan), None if Y is None else _scaled(Y, plan)
        is_safe = not diagonal and _is_bounded(plan, left, right, run)
        run.engine.images(plan, left, right, outs, diagonal, run.threads)
        if not is_safe:
            _check_finite(outs)

    def _walked(self) -> list[str]:
        """Return the names of what engines do not know, dropout and duals of other functions."""
        return list(
            dict.fromkeys(
                one.name
                for one in self.network.activations()
                if isinstance(one, Masking) or not one.is_compiled
            )
        )

    def _walk(
        self, X: Images, Y: Images | None, outs: Outs, threads: int, *, diagonal: bool
    ) -> None:
        """Write the kernels of the read-out where an activation has no compiled dual."""
        if not isinstance(X.data, np.ndarray):
            names = " and ".join(self._walked())
            raise places.HostOnlyError(f"X: images with {names}, not compiled, need NumPy arrays")
        from ntkfast.kernels import image_values

        left, size = self._with_variances(X), self._pair_bytes(X)
        if diagonal:
            image_values.write_diagonal(left, outs, size)
        else:
            right = None if Y is None else self._with_variances(Y)
            image_values.write(left, right, outs, size, threads)
        _check_finite(outs)

    def _check_variances(self, plan: ImagePlan, X: Images, Y: Images | None) -> None:
        """Raise an error where images, or variances of their pixels on the way, are too small."""
        for name, side in (("X", X), ("Y", Y)):
            if side is None or not side.norms.any():
                continue
            pixels, tiny = side.shape[0] * side.shape[1], float(np.finfo(side.dtype).tiny)
            # Homogeneous networks get images of mean square 1; others square them as they are.
            root = tiny if plan.homogeneous else np.sqrt(tiny)
            checks.directions(name, "image", side.norms, float(root * np.sqrt(pixels)))
            norm = float(side.norms[side.norms > 0].min())
            first = 1.0 if plan.homogeneous else norm**2 / pixels
            if self.network.least_variance(first * plan.input_scale) < tiny:
                raise ValueError(
                    f"{name}: a layer vanishes in {side.dtype} for an image with norm {norm:.3g}; "
                    "scale the images or the weights up, or pass float64"
                )

    # ---- derivatives -----------------------------------------------------------------------------

    def _movable(self, X: Any, Y: Any) -> tuple[int, int]:
        for one in self._without_slopes():
            raise TypeError(
                "kernel: derivatives by pixels are known of activations whose dual kernels have "
                f"derivatives in closed form; got {one.name} in {self!r}; take an activation that "
                "ntkfast names, or differences of values in float64"
            )
        return cast("tuple[int, int]", X.data.shape)

    def _without_slopes(self) -> list[Activation]:
        """Return the activations whose dual kernels have no derivatives in closed form."""
        return [
            one
            for one in self._all_activations()
            if not (one == IDENTITY or isinstance(one, Masking) or one.has_slopes)
        ]

    def _all_activations(self) -> list[Activation]:
        head = (layer.activation for layer in self.network.head_layers())
        return [*self.network.activations(), *head]

    def _alone(self, X: Images) -> Alone:
        found = self._with_variances(X)
        if not self.network.head_layers():
            return found
        from ntkfast.kernels.image_gradients import with_own

        return with_own(found, list(panels(len(X), self._pair_bytes(X), PANEL_BYTES)))

    def _with_variances(self, X: Images) -> Alone:
        """Return what walks ask of images by themselves, without their own kernels."""
        from ntkfast.kernels import image_forth, image_gradients  # rarely needed

        plan = self.network.plan(X.shape)
        height, width, channels = X.shape
        size = np.ones(len(X))
        if plan.homogeneous:  # a power of two: multiples of an image stay what they are
            mean = X.norms / np.sqrt(height * width * channels)
            size = np.ldexp(1.0, np.where(mean > 0, np.frexp(mean)[1] - 1, 0))
        data = (X.data / size[:, None]).reshape(-1, height, width, channels)
        geometry = image_gradients.geometry_of(plan, self.network.activations())
        pixels = data.transpose(0, 3, 1, 2)
        some = panels(len(X), self._pair_bytes(X), PANEL_BYTES)
        parts = [image_gradients.alone(geometry, pixels[part])[0].q for part in some]
        variances = [np.concatenate(level) for level in zip(*parts, strict=True)]
        images, eps = image_forth.Images(pixels, variances), float(np.finfo(X.dtype).eps)
        return image_gradients.Alone(geometry, images, size, eps)

    def _pair_bytes(self, X: Images) -> int:
        pixels = X.shape[0] * X.shape[1]
        plan = self.network.plan(X.shape)
        sizes = [int(level["height"] * level["width"]) for level in plan.levels]
        behind = sum(after**2 for before, after in pairwise(sizes) if after < before)
        return 8 * (8 * pixels * len(sizes) + 4 * behind)

    def _each_gradient(self, X: Any, Y: Any, own: NDArray[np.bool_]) -> NDArray[np.float64]:
        return self._gradients(X, Y, own, None).reshape(*own.shape, -1)

    def _weighted(
        self, X: Any, Y: Any, own: NDArray[np.bool_], V: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        return self._gradients(X, Y, own, V)

    def _gradients(
        self, X: Any, Y: Any, own: NDArray[np.bool_], V: NDArray[np.float64] | None
    ) -> NDArray[np.float64]:
        """Return the gradients of all pairs, or sums of them over Y with weights V."""
        x, found = self._walked_back(X, Y, own, V, counts=False)
        tell_close_images(found.share())
        gradient = found.gradient
        if x.geometry.plan.homogeneous:
            gradient[~x.images.data.any(axis=(1, 2, 3))] = 0
        return np.asarray(gradient.transpose(0, 2, 3, 1).reshape(len(gradient), -1))

    def _by_constants(
        self, X: Any, Y: Any, own: NDArray[np.bool_], V: NDArray[np.float64] | None
    ) -> NDArray[np.float64]:
        x, found = self._walked_back(X, Y, own, V, counts=True)
        moved = x.size * found.by_steps.reshape(len(x), -1).T
        if x.own is not None:
            moved = np.concatenate([moved, found.heads[:, 3:].T])
        return moved if V is not None else moved.reshape(-1, *own.shape)

    def _constant_steps(self, name: str, X: Any) -> NDArray[np.float64]:
        from ntkfast.kernels.image_parameters import steps_of

        return steps_of(self, name, X.shape)

    def _constant_rate(self, name: str, X: Any) -> float | None:
        from ntkfast.kernels.image_parameters import rate_of

        return rate_of(self, name, X.shape)

    def _has_slopes(self) -> bool:
        return not self._without_slopes()

    def _walked_back(
        self,
        X: Any,
        Y: Any,
        own: NDArray[np.bool_],
        V: NDArray[np.float64] | None,
        *,
        counts: bool,
    ) -> tuple[Alone, Back]:
        """Walk all pairs forth and back.

        Returns
        -------
        x : Alone
            The first image of each row that follows, of each pair or with weights V of its sums.
        found : Back
        """
        from ntkfast.kernels.image_gradients import Pairs, derivatives

        n, m = own.shape
        rows, weights = (n * m, np.ones(n * m)) if V is None else (n, V.ravel())
        x, y = X[np.repeat(np.arange(n), m)], Y[np.tile(np.arange(m), n)]
        same = own.ravel()
        if not self._masked():
            same = same | (x.images.data == y.images.data).all(axis=(1, 2, 3))
        nngp, layers = self.kind == "nngp", self.network.head_layers()
        pairs = Pairs(x, y, same, weights)
        return x[:: n * m // rows], derivatives(pairs, rows, layers, nngp=nngp, counts=counts)

    def _masked(self) -> bool:
        """Whether there is dropout: an image with itself is no pair like that of equal images."""
        return any(isinstance(one, Masking) for one in self._all_activations())

    def _like(self, X: Any, gradient: FloatArray) -> Any:
        if isinstance(X, Images):
            return gradient
        shape = np.shape(X)
        if self.network.channels != "first":
            return gradient.reshape(shape)
        side = layout.images_last("X", X, "first", self.network.shape)
        return np.moveaxis(gradient.reshape(side.shape), 3, 1).reshape(shape)

    def _steps(self, name: str, value: Any, side: Any, columns: int) -> FloatArray:
        given = layout.images_last(name, value, self.network.channels, self.network.shape)
        array = checks.real_array(name, given)
        if array.size != side.data.size or array.shape[1:] not in (side.shape, (columns,)):
            raise ValueError(
                f"{name}: expected {len(side)} images of shape {side.shape}, got {array.shape}"
            )
        steps = array.reshape(side.data.shape)
        if not np.isfinite(steps).all():
            image = int(np.argmin(np.isfinite(steps).all(axis=1)))
            raise ValueError(
                f"{name}: expected finite numbers, image {image} holds NaN or infinity"
            )
        return checks.narrowed(name, steps, side.dtype)


def _is_bounded(plan: ImagePlan, X: ScaledImages, Y: ScaledImages | None, run: Run) -> bool:
    """Whether no value overflows, by those of images with themselves, which bound the others.

    Asked on a device alone, where a look at the result would wait for it.
    """
    place = places.of(X.data)
    if place is places.HOST:
        return False
    roots = []
    for side in (X,) if Y is None else (X, Y):
        own = [place.empty(side.data, (len(side), 1)) for _ in range(2)]
        run.engine.images(plan, side, None, (own[0], own[1]), True, run.threads)
        roots.append(math.sqrt(max(float(place.row_norms(one).max()) for one in own)))
    return roots[0] * roots[-1] < float(np.finfo(X.data.dtype).max) / 2  # not if it is NaN


def _check_finite(outs: Outs) -> None:
    for out in outs:
        if out is not None and not places.of(out).finite(out):
            raise ValueError(
                f"X: the kernel overflows {out.dtype}; scale the images or the weights down"
            )


def _scaled(images: Images, plan: ImagePlan) -> ScaledImages:
    """Add what images are multiplied by when they are read, and results by: powers of norms."""
    root, dtype = np.sqrt(plan.input_scale), images.dtype
    if not plan.homogeneous:
        same = np.ones(len(images), dtype)
        return ScaledImages(images.data, same * dtype.type(root), same)
    # Of homogeneous networks all images have mean square 1: no overflow, equal images in any scale.
    height, width, _ = images.shape
    sizes = images.norms / np.sqrt(height * width)
    with np.errstate(divide="ignore", over="ignore"):
        scale = (root / sizes).astype(dtype)
    scale[~np.isfinite(scale)] = 0
    return ScaledImages(images.data, scale, sizes.astype(dtype))
