"""The windows of pixels of a convolution or pool on images: what it reads, and the transpose."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ntkfast.networks.steps import AvgPool, Pair, Windowed

Pixels: TypeAlias = NDArray[Any]  # (..., height, width, channels)
Pull: TypeAlias = Callable[[Pixels], Pixels]  # derivatives, (n, outputs, height, width, channels)


@dataclass(frozen=True)
class Windows:
    """The windows of a step on images of some rows and columns.

    Attributes
    ----------
    step : Conv or AvgPool
    pixels : (int, int)
        Rows and columns of the images.
    counts : (int, int)
        Windows along the rows and columns.
    margins : pairs of int
        What surrounds the images along either axis: what windows reach beyond them.
    """

    step: Windowed
    pixels: Pair

    @property
    def counts(self) -> Pair:
        """Windows along the rows and columns."""
        return self.step.along(0, self.pixels[0])[0], self.step.along(1, self.pixels[1])[0]

    @property
    def margins(self) -> tuple[Pair, ...]:
        """Pixels before and behind the images, of rows and of columns."""
        found = []
        for axis, size in enumerate(self.pixels):
            count, before = self.step.along(axis, size)
            reach = (count - 1) * self.step.strides[axis] + self.step.window[axis] - before
            found.append((before, max(reach - size, 0)))
        return tuple(found)

    def read(self, z: Pixels) -> Pixels:
        """Return the pixels of all windows, (n, rows, columns, window channels)."""
        (height, width), (down, right) = self.counts, self.step.strides
        mode: Any = "wrap" if self.step.padding == "circular" else "constant"
        z = np.pad(z, ((0, 0), *self.margins, (0, 0)), mode)
        views = np.lib.stride_tricks.sliding_window_view(z, self.step.window, axis=(1, 2))
        views = views[:, ::down, ::right][:, :height, :width]
        return np.moveaxis(views, 3, 5).reshape(len(z), height, width, -1)

    def unread(self, patches: Pixels) -> Pixels:
        """Return the transpose of `read` by outputs: (n, outputs, height, width, channels)."""
        parts = patches.reshape(*patches.shape[:4], *self.step.window, -1)
        (rows, columns), (down, right) = self.counts, self.step.strides
        sizes = (size + sum(both) for size, both in zip(self.pixels, self.margins, strict=True))
        whole = np.zeros((*patches.shape[:2], *sizes, parts.shape[-1]), patches.dtype)
        for i, j in np.ndindex(*self.step.window):
            at = slice(i, i + down * rows, down), slice(j, j + right * columns, right)
            whole[:, :, at[0], at[1]] += parts[:, :, :, :, i, j]
        if self.step.padding == "circular":
            sides = zip(self.pixels, self.margins, strict=True)
            for axis, (size, both) in enumerate(sides, 2):
                whole = _folded(whole, axis, both[0], size)
            return whole
        (top, _), (left, _) = self.margins
        return whole[:, :, top : top + self.pixels[0], left : left + self.pixels[1]]


def _folded(whole: Pixels, axis: int, edge: int, size: int) -> Pixels:
    """Add the edges of a circle to where they were copied from."""
    index = (np.arange(whole.shape[axis]) - edge) % size
    result = np.zeros((*whole.shape[:axis], size, *whole.shape[axis + 1 :]), whole.dtype)
    np.add.at(np.moveaxis(result, axis, 0), index, np.moveaxis(whole, axis, 0))
    return result


def pooled(step: AvgPool, z: Pixels) -> tuple[Pixels, Pull]:
    """Return the means or sums over windows, and what carries derivatives back."""
    windows = Windows(step, (z.shape[1], z.shape[2]))
    area, weight = prod(step.window), z.dtype.type(np.sqrt(step.gain))
    seen = windows.read(z)
    after = seen.reshape(*seen.shape[:3], area, -1).sum(axis=3) * weight

    def pull(back: Pixels) -> Pixels:
        parts = np.repeat(back[..., None, :] * weight, area, axis=-2)
        return windows.unread(parts.reshape(*back.shape[:4], -1))

    return after, pull
