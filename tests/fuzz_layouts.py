"""Calls the compiled module with arrays of odd layouts, to be run under the address sanitizer.

``python tests/fuzz_layouts.py [rounds] [seed]``. Every result must be that of contiguous copies, to
the bit, and what lies between the entries of a result must stay as it was. The sanitizers, which
.ci/run preloads, see what is read or written outside of an array.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

import ntkfast as nf
from ntkfast import features
from ntkfast.engines import native

Array = np.ndarray[Any, Any]
Views = dict[str, Callable[[np.random.Generator, tuple[int, int], Any], Array]]


def _filled(shape: tuple[int, ...], dtype: Any) -> Array:
    return np.full(shape, np.nan, dtype)  # what nobody may read


def _unaligned(rng: np.random.Generator, shape: tuple[int, int], dtype: Any) -> Array:
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    return np.zeros(size + 1, np.uint8)[1:].view(dtype).reshape(shape)


def _steps(rng: np.random.Generator, shape: tuple[int, int], dtype: Any) -> Array:
    n, d = shape
    return _filled((2 * n + 1, 3 * d + 2), dtype)[1 : 2 * n + 1 : 2, 1 : 3 * d + 1 : 3]


def _padded(rng: np.random.Generator, shape: tuple[int, int], dtype: Any) -> Array:
    before, after = rng.integers(0, 9, 2)
    return _filled((shape[0], int(before) + shape[1] + int(after)), dtype)[
        :, before : before + shape[1]
    ]


def _lone(rng: np.random.Generator, shape: tuple[int, int], dtype: Any) -> Array:
    """One row, or one column, whose stride leads nowhere."""
    array, item = np.zeros(shape, dtype), np.dtype(dtype).itemsize
    strides = [
        s if n > 1 else item * int(rng.integers(-(2**40), 2**40))
        for n, s in zip(shape, array.strides, strict=True)
    ]
    return as_strided(array, shape, strides)


LAYOUTS: Views = {
    "contiguous": lambda rng, shape, dtype: np.zeros(shape, dtype),
    "padded": _padded,
    "negative rows": lambda rng, shape, dtype: _padded(rng, shape, dtype)[::-1],
    "negative columns": lambda rng, shape, dtype: _padded(rng, shape, dtype)[:, ::-1],
    "negative both": lambda rng, shape, dtype: _padded(rng, shape, dtype)[::-1, ::-1],
    "transposed": lambda rng, shape, dtype: _padded(rng, shape[::-1], dtype).T,
    "steps": _steps,
    "unaligned": _unaligned,
    "lone": _lone,
}
READ_ONLY: Views = {  # layouts of inputs alone
    "one row": lambda rng, shape, dtype: np.broadcast_to(
        rng.normal(size=shape[1]).astype(dtype), shape
    ),
    "windows": lambda rng, shape, dtype: np.lib.stride_tricks.sliding_window_view(
        rng.normal(size=shape[0] + shape[1] - 1).astype(dtype), shape[1]
    ),
    "other order": lambda rng, shape, dtype: rng.normal(size=shape).astype(
        np.dtype(dtype).newbyteorder()
    ),
}


class Round:
    """One network, one type and arrays of random shapes and layouts."""

    def __init__(self, seed: int, number: int) -> None:
        self.rng = np.random.default_rng([seed, number])
        self.dtype = (np.float32, np.float64)[number % 2]
        self.words: list[str] = []
        self.threads = int(self.rng.integers(1, 4))

    def inputs(self, n: int, d: int) -> Array:
        """Return numbers in some layout."""
        name = str(self.rng.choice([*LAYOUTS, *READ_ONLY]))
        self.words.append(f"{n} x {d} {name}")
        if name in READ_ONLY:
            return READ_ONLY[name](self.rng, (n, d), self.dtype)
        array = LAYOUTS[name](self.rng, (n, d), self.dtype)
        array[...] = self.rng.normal(size=(n, d))
        return array

    def check(self, call: Callable[..., Any], wanted: Array, dims: int = 2) -> None:
        """Compare results in memory of some layout with what is wanted."""
        name = str(self.rng.choice(list(LAYOUTS)))
        self.words.append(f"out {name}")
        shape = wanted.shape if dims == 2 else (len(wanted), 1)
        out = LAYOUTS[name](self.rng, shape, self.dtype)
        memory = out
        while isinstance(memory.base, np.ndarray):
            memory = memory.base
        out[...] = 7  # then only what lies between entries may differ afterwards
        before = memory.copy()
        call(out=out if dims == 2 else out[:, 0])
        assert np.array_equal(out.reshape(wanted.shape), wanted), "values"
        out[...] = 7
        assert memory.tobytes() == before.tobytes(), "what lies between entries has changed"

    def size(self, most: int) -> int:
        """Return a size, small and odd ones most of the time."""
        return int(self.rng.integers(1, 1 + int(self.rng.choice([2, 9, 33, most]))))


def gram(r: Round) -> None:
    """Do Gram matrices, diagonals and products of kernels of rows."""
    kernel = r.rng.choice(KERNELS)
    n, m, d = r.size(150), r.size(150), r.size(70)
    X, Y, V = r.inputs(n, d), r.inputs(m, d), r.inputs(m, r.size(9))
    x, y, v = (np.array(a, r.dtype, order="C") for a in (X, Y, V))
    options = {"engine": "native", "threads": r.threads}
    r.words.append(repr(kernel))
    r.check(lambda out: kernel(X, Y, out=out, **options), kernel(x, y, **options))
    r.check(lambda out: kernel(X, out=out, **options), kernel(x, **options))
    r.check(
        lambda out: kernel.matmul(X, Y, V, out=out, **options), kernel.matmul(x, y, v, **options)
    )
    r.check(
        lambda out: kernel.matmul(X, Y, V[:, 0], out=out, **options),
        kernel.matmul(x, y, v[:, 0], **options),
        dims=1,
    )
    assert np.array_equal(kernel.diag(X), kernel.diag(x)), "diagonal"


def sequences(r: Round) -> None:
    """Do kernels of sequences, of one length and of several."""
    net = nf.Recurrent(
        int(r.rng.integers(1, 4)),
        b_std=0.1,
        readout=str(r.rng.choice(["last", "average"])),
        direction=str(r.rng.choice(["forward", "bidirectional"])),
        channels="last",
    )
    channels, options = r.size(5), {"engine": "native", "threads": r.threads}
    parts = [r.inputs(r.size(20), channels) for _ in range(r.size(20))]
    plain = [np.array(part, r.dtype, order="C") for part in parts]
    r.check(lambda out: net.ntk(parts, out=out, **options), net.ntk(plain, **options))
    r.check(
        lambda out: net.nngp(parts, parts[:3], out=out, **options),
        net.nngp(plain, plain[:3], **options),
    )


def images(r: Round) -> None:
    """Do kernels of images, in rows of any layout."""
    height, width, channels = (int(r.rng.integers(1, 7)) for _ in range(3))
    readout = str(r.rng.choice(["gap", "flatten"]))
    net = nf.Convolutional(2, readout=readout, shape=(height, width, channels))
    size = height * width * channels
    X, Y = r.inputs(r.size(6), size), r.inputs(r.size(6), size)
    x, y = (np.array(a, r.dtype, order="C") for a in (X, Y))
    options = {"engine": "native", "threads": r.threads}
    r.check(lambda out: net.ntk(X, Y, out=out, **options), net.ntk(x, y, **options))
    r.check(lambda out: net.nngp(X, out=out, **options), net.nngp(x, **options))


def transforms(r: Round) -> None:
    """Do Hadamard transforms and sketches."""
    X = r.inputs(r.size(20), 2 ** int(r.rng.integers(0, 9)))
    x = np.array(X, r.dtype, order="C")
    r.check(lambda out: features.fwht(X, out=out), features.fwht(x))
    X = X.astype(r.dtype, copy=False)  # scikit-learn takes another order of bytes for float64
    for make in (features.SRHT, features.CountSketch):
        made = make(7, random_state=0).fit(x)
        assert np.array_equal(made.transform(X), made.transform(x)), make.__name__
    made = features.ArcCosineFeatures(n_components=64, weights="structured", random_state=0).fit(x)
    assert np.array_equal(made.transform(X), made.transform(x)), "ArcCosineFeatures"


KERNELS = [
    nf.FullyConnected(3).ntk,
    nf.FullyConnected(2, bias=0.5).ntk,
    nf.FullyConnected(2, activation="erf", bias=0.1).nngp,
    nf.ResNet(3, alpha=0.5).ntk,
    nf.ArcCosine(1),
    nf.Laplace(0.5, inputs="euclidean"),
    nf.Gaussian(1.0),
]
SUBJECTS = gram, gram, sequences, images, transforms


def main(rounds: int, seed: int) -> None:
    """Run the rounds, or show what the first one that fails was made of."""
    isas = native.available_isas()
    for number in range(rounds):
        subject, r = SUBJECTS[number % len(SUBJECTS)], Round(seed, number)
        isa = isas[number // len(SUBJECTS) % len(isas)]
        try:
            with native.force_isa(isa):
                subject(r)
        except BaseException:
            told = "; ".join(r.words)
            print(f"round {number} of seed {seed}: {subject.__name__}, {isa}, {told}", flush=True)
            raise
    print(f"{rounds} rounds of odd layouts on {', '.join(isas)}")


if __name__ == "__main__":
    given = [int(text) for text in sys.argv[1:]]
    main(*given, *(300, 0)[len(given) :])
