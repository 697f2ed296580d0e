"""Kernels of images: Gram matrices, diagonals and products, like those of rows of numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from ntkfast import card, engines, inputs
from ntkfast.engines.card_array import CardArray
from ntkfast.kernel import PANEL_BYTES, KernelOfNetwork
from ntkfast.maps import Collection, FloatArray, ImagePlan, Images, Rows, ScaledImages

if TYPE_CHECKING:
    from ntkfast.convolutional import ImageNetwork

Outs = tuple[FloatArray | None, FloatArray | None]  # NTK and NNGP


class ImageKernel(KernelOfNetwork):
    """The NTK or NNGP of a convolutional network (`ImageNetwork.ntk`, `ImageNetwork.nngp`).

    Inputs are (n, height, width, channels) arrays, or (n, height width channels) rows if the
    network was given its ``shape``.

    Attributes
    ----------
    network : ImageNetwork
    kind : {"ntk", "nngp"}
    """

    network: ImageNetwork

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
        shape = inputs.image_shape("X", X, self.network.shape)
        if Y is not None:
            inputs.image_shape("Y", Y, shape)
        self.network.plan(shape)

    def _pair(self, X: ArrayLike, Y: ArrayLike | None) -> tuple[Images, Images | None]:
        left = self._images("X", X)
        if Y is None or Y is X:
            return left, None
        right = self._images("Y", Y)
        if right.shape != left.shape:
            raise ValueError(f"Y: expected images of shape {left.shape}, got {right.shape}")
        dtype = np.result_type(left.dtype, right.dtype)
        return left.astype(dtype, copy=False), right.astype(dtype, copy=False)

    def _images(self, name: str, value: Any) -> Images:
        if isinstance(value, Images):
            return value
        array = inputs.images(name, value, self.network.shape)
        shape = array.shape[1], array.shape[2], array.shape[3]
        self.network.plan(shape)  # before any work
        data = np.ascontiguousarray(array.reshape(len(array), -1))
        norms = engines.row_norms(data).astype(np.float64)
        inputs.finite_images(name, data, norms)
        return Images(data, shape, norms)

    def _pair_on_card(self, X: CardArray, Y: CardArray | None) -> tuple[Images, Images | None]:
        found = inputs.image_shape("X", X.shape, self.network.shape)
        if Y is not None:
            inputs.image_shape("Y", Y.shape, found)
        self.network.plan(found)
        left, right = card.rows(X.flat("X"), None if Y is None else Y.flat("Y"))

        def images(rows: Rows) -> Images:
            return Images(rows.data, found, rows.norms.astype(np.float64))

        return images(left), None if right is None else images(right)

    def _gram(
        self,
        X: Collection,
        Y: Collection | None,
        out: FloatArray,
        engine: engines.Engine,
        threads: int,
    ) -> None:
        assert isinstance(X, Images)
        assert Y is None or isinstance(Y, Images)
        if inputs.unit_stride(out):
            self._run(X, Y, self._outs(out), engine, threads)
            return
        height = max(1, PANEL_BYTES // (out.shape[1] * out.itemsize))
        for first in range(0, len(out), height):
            part, rest = slice(first, first + height), slice(first + height, None)
            if Y is not None:
                out[part] = self._panel(X[part], Y, engine, threads)
                continue
            out[part, part] = self._panel(X[part], None, engine, threads)
            if first + height < len(out):
                panel = self._panel(X[part], X[rest], engine, threads)
                out[part, rest], out[rest, part] = panel, panel.T

    def _panel(
        self, X: Images, Y: Images | None, engine: engines.Engine, threads: int
    ) -> FloatArray:
        """Return a part of the Gram matrix in an array of its own."""
        panel = np.empty((len(X), len(X if Y is None else Y)), X.dtype)
        self._run(X, Y, self._outs(panel), engine, threads)
        return panel

    def _values(self, X: Collection) -> FloatArray:
        assert isinstance(X, Images)
        values = np.empty((len(X), 1), X.dtype)
        engine = engines.select(engines.home(X.data))
        self._run(X, None, self._outs(values), engine, engines.count(None), diagonal=True)
        return values[:, 0]

    def both(
        self,
        X: ArrayLike,
        Y: ArrayLike | None = None,
        *,
        engine: str | None = None,
        threads: int | None = None,
    ) -> tuple[FloatArray, FloatArray]:
        """Return the NNGP and NTK Gram matrices of the network from one pass.

        Parameters
        ----------
        X, Y, engine, threads
            As for calling the kernel.

        Returns
        -------
        nngp, ntk : (n, m) arrays
        """
        if card.lies_on_card(X):
            return card.both(self, X, Y, engine)
        left, right = self._pair(X, Y)
        shape = len(left), len(left if right is None else right)
        nngp, ntk = (np.empty(shape, left.dtype) for _ in range(2))
        self._both(left, right, (ntk, nngp), engines.select(engine), engines.count(threads))
        return nngp, ntk

    def _both(
        self,
        X: Images,
        Y: Images | None,
        outs: tuple[FloatArray, FloatArray],
        engine: engines.Engine,
        threads: int,
    ) -> None:
        """Write NTK and NNGP to arrays whose rows have unit stride."""
        self._run(X, Y, outs, engine, threads)

    def _outs(self, out: FloatArray) -> Outs:
        return (out, None) if self.kind == "ntk" else (None, out)

    def _run(
        self,
        X: Images,
        Y: Images | None,
        outs: Outs,
        engine: engines.Engine,
        threads: int,
        *,
        diagonal: bool = False,
    ) -> None:
        plan = self.network.plan(X.shape)
        right = None if Y is None else _scaled(Y, plan)
        engine.images(plan, _scaled(X, plan), right, outs, diagonal, threads)
        for out in outs:
            if out is not None and not _finite(out):
                raise ValueError(
                    f"X: the kernel overflows {out.dtype}; scale the images or the weights down"
                )


def _finite(out: FloatArray) -> bool:
    if engines.home(out):
        return card.finite(out)
    return bool(np.isfinite(np.min(out) + np.max(out)))


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
