"""What a call asks of the host: waits, copies and memory, counted by the engine, and messages.

``emulated`` runs where the CUDA engine is played by the host, ``device`` on a device.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import ntkfast as nf
from ntkfast.engines import cuda
from ntkfast.places import device_array, device_memory
from test_cuda_device import module  # noqa: F401
from test_device_arrays import (  # noqa: F401
    KERNELS,
    Array,
    DeviceLibrary,
    assert_same,
    library,
    rows,
)

BIASED: dict[str, Any] = {"parameterization": "ntk", "b_std": 0.3}
DENSE = nf.Dense(1.2, 0.3)
LAYERS = {
    "biases": nf.FullyConnected(2, **BIASED).ntk,
    "erf": nf.FullyConnected(2, activation="erf", **BIASED).ntk,
    "gelu": nf.FullyConnected(30, activation="gelu", **BIASED).nngp,
    "branches": nf.compose(
        DENSE,
        nf.Add(("relu", DENSE), ("erf", nf.Dense(0.8, 0.2))),
        nf.Multiply(("relu", DENSE), ("erf", DENSE)),
        DENSE,
    ).ntk,
    "gaussian": nf.FullyConnected(1, activation="gaussian", **BIASED).ntk,
}


def on_stream(library: DeviceLibrary, array: np.ndarray) -> Array:  # noqa: F811
    """Return an array of a library that says its stream, the default one."""
    found = library.asarray(array)
    found.facts = {"stream": 1}
    return found


def counted(cuda: Any, call: Callable[[], object]) -> dict[str, int]:
    """Return what a call adds to the counts of the engine."""
    before = cuda.counts()
    call()
    return {name: count - before[name] for name, count in cuda.counts().items()}


def test_a_call_waits_once(
    library: Any,  # noqa: F811
    dtype: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """For what lies between the norms, which stay on the device as all numbers per row do."""
    X, Y = rows(70, 5, dtype), rows(67, 5, dtype, seed=1)
    x, y, out, square = (
        on_stream(library, a) for a in (X, Y, np.empty((70, 67), dtype), np.empty((70, 70), dtype))
    )
    kernels = [nf.FullyConnected(3).ntk, nf.Laplace(0.5), nf.ArcCosine(2), nf.ArcCosine(0)]
    wanted = [(kernel(X, engine="native"), kernel(X, Y, engine="native")) for kernel in kernels]

    def read(*_: object) -> None:
        raise AssertionError("the host asks for numbers")

    monkeypatch.setattr(device_memory, "numbers", read)
    for kernel, (own, both) in zip(kernels, wanted, strict=True):
        kernel(x, out=square)  # compiles
        one = counted(library.cuda, lambda kernel=kernel: kernel(x, out=square))
        two = counted(library.cuda, lambda kernel=kernel: kernel(x, y, out=out))
        for counts in (one, two):
            assert counts["waits"] == 1
            assert counts["uploads"] <= 1
            assert counts["allocations"] <= 6
            assert counts["bytes_back"] == 0
        assert_same(square.get(), own)
        assert_same(out.get(), both)


@pytest.mark.parametrize("name", ["biases", "erf", "gelu", "branches", "gaussian"])
def test_numbers_of_layers_stay_on_the_device(
    library: Any,  # noqa: F811
    name: str,
    dtype: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One wait, as of kernels without biases; nothing of the order of the rows goes there."""
    kernel, X = LAYERS[name], rows(70, 5, dtype)
    V = np.random.default_rng(1).standard_normal((70, 3)).astype(dtype)
    x, y, v = (on_stream(library, a) for a in (X, X[:40].copy(), V))
    out, both = (on_stream(library, np.empty((70, m), dtype)) for m in (70, 40))
    product = on_stream(library, np.empty((70, 3), dtype))
    wanted = kernel(X, engine="native")

    def read(*_: object) -> None:
        raise AssertionError("the host asks for numbers")

    monkeypatch.setattr(device_memory, "numbers", read)
    kernel(x, out=out)
    counts = counted(library.cuda, lambda: kernel(x, out=out))
    assert counts["waits"] == 1
    assert counts["uploads"] == 1
    assert counted(library.cuda, lambda: kernel(x, y, out=both))["waits"] == 1
    kernel.matmul(x, None, v, out=product)
    assert_same(out.get(), wanted)
    assert_same(both.get(), kernel(X, X[:40].copy(), engine="native"))
    bound = np.abs(wanted.astype(float)) @ np.abs(V)
    error = np.abs(product.get() - wanted.astype(float) @ V)
    assert (error <= 64 * np.finfo(dtype).eps * bound.max()).all()
    np.testing.assert_allclose(out.get().diagonal(), kernel.diag(X), rtol=32 * np.finfo(dtype).eps)


def test_the_host_asks_for_norms_where_series_need_them(library: Any, dtype: Any) -> None:  # noqa: F811
    kernel, X = KERNELS["series"].ntk, rows(70, 5, dtype)
    x, out = on_stream(library, X), on_stream(library, np.empty((70, 70), dtype))
    kernel(x, out=out)
    counts = counted(library.cuda, lambda: kernel(x, out=out))
    assert counts["waits"] == 2
    assert counts["uploads"] == 1  # packed
    assert_same(out.get(), kernel(X, engine="native"))


def test_norms_of_rows_without_length(library: Any, dtype: Any) -> None:  # noqa: F811
    """The least norm above zero is told apart from zero, and from directions that are lost."""
    kernel, X = nf.FullyConnected(2).ntk, np.zeros((5, 3), dtype)
    assert_same(kernel(library.asarray(X)).get(), kernel(X))
    X[1], X[3] = 1, np.finfo(dtype).tiny / 4
    for array in (X, library.asarray(X)):
        with pytest.raises(ValueError, match=r"X: row 3 has size .* too small for its direction"):
            kernel(array)


@pytest.mark.parametrize("outs", [1, 2])
def test_streaming_back_copies_what_is_needed(module: Any, dtype: Any, outs: int) -> None:  # noqa: F811
    """Of a symmetric matrix the blocks from the diagonal on, by ways that are kept."""
    X = rows(200, 5, dtype)
    network = nf.FullyConnected(3)

    def grams() -> Any:
        if outs == 1:
            return (network.ntk(X, engine="cuda"),)
        return network.both(X, engine="cuda")

    wanted = grams()
    module.set_chunk(64 * 200 * outs)
    found = grams()
    counts = counted(module, grams)
    assert counts["ways_back"] == 0
    heights = ((0, 64), (64, 64), (128, 64), (192, 8))
    numbers = sum(height * (200 - begin) for begin, height in heights)
    assert counts["bytes_back"] == outs * numbers * np.dtype(dtype).itemsize
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", ["profile", "layers", "series"])
def test_rows_beyond_the_memory_of_the_device(
    module: Any,  # noqa: F811
    name: str,
    dtype: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They go there block by block."""
    network, X, Y = KERNELS[name], rows(41, 5, dtype), rows(30, 5, dtype, seed=1)
    V = np.random.default_rng(2).standard_normal((41, 3)).astype(dtype)

    def compute() -> list[np.ndarray]:
        kernel = network.ntk
        found = [kernel(X, engine="cuda"), kernel(X, Y, engine="cuda")]
        found += network.both(X, engine="cuda")
        found += [kernel.matmul(X, None, V, engine="cuda")]
        return [*found, kernel.matmul(Y, X, V, engine="cuda")]

    wanted = compute()
    monkeypatch.setattr(cuda, "ALWAYS", 0)
    monkeypatch.setattr(cuda, "_room", lambda: 2 * 2 * 5 * np.dtype(dtype).itemsize * 13)
    before = module.counts()["uploads"]
    found = compute()
    assert module.counts()["uploads"] - before > 6 * 9  # four blocks of X and three of Y
    for one, other in zip(found, wanted, strict=True):
        assert_same(one, other)
    np.testing.assert_array_equal(found[0], found[0].T)


def test_images_do_not_wait_for_the_result(
    library: Any,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Values of images with themselves bound the others, unless they are too large."""
    from ntkfast.kernels import images

    def look(_: object) -> None:
        raise AssertionError("the host looks at the result")

    X = np.random.default_rng(0).standard_normal((5, 4, 4, 2)).astype(np.float32)
    x, out = on_stream(library, X), on_stream(library, np.empty((5, 5), np.float32))
    kernel = nf.Convolutional(2, readout="gap").ntk
    with monkeypatch.context() as patch:
        patch.setattr(images, "_check_finite", look)
        kernel(x, out=out)
    np.testing.assert_allclose(out.get(), kernel(X, engine="native"), rtol=1e-5)
    top = float(np.finfo(np.float32).max) / float(kernel.diag(X).max())
    y, z = (library.asarray((X * np.sqrt(top) * factor).astype(np.float32)) for factor in (2, 0.01))
    assert np.isfinite(kernel(y, z).get()).all()  # though values of y with itself are not
    with pytest.raises(ValueError, match="X: the kernel overflows"):
        kernel(y)


def test_errors_do_not_read_the_device(library: Any) -> None:  # noqa: F811
    """A signature that does not match prints its arguments."""
    given = device_array.view("x", library.asarray(np.ones((3, 2)))).described()
    assert repr(given) == "<float64 array of shape (3, 2) on a CUDA device>"
    assert str(given[1:]) == "<float64 array of shape (2, 2) on a CUDA device>"
    with pytest.raises(TypeError, match=r"on a CUDA device"):
        library.cuda.measure_f32([given], 1.0, "0")


def test_large_numbers_are_no_overflow(library: Any) -> None:  # noqa: F811
    """Products whose rows have norms that are too large for the type are finite all the same."""
    X, most = np.ones((3, 2), np.float32), float(np.finfo(np.float32).max)
    kernel, V = nf.FullyConnected(1).nngp, np.full((3, 40), most / 16, np.float32)
    found = kernel.matmul(library.asarray(X), None, library.asarray(V / 2)).get()
    np.testing.assert_allclose(found / V, kernel.matmul(X, None, V / 2) / V, rtol=1e-5)
    with pytest.raises(ValueError, match="V: the product with the kernel overflows"):
        kernel.matmul(library.asarray(4 * X), None, library.asarray(V))


def test_results_of_a_smaller_type(library: Any) -> None:  # noqa: F811
    """Results on the device keep the type of the inputs; arrays of the host are rounded there."""
    X, kernel = rows(40, 3, np.float64), KERNELS["layers"].ntk
    on_device = library.asarray(X)
    served = kernel + nf.Gaussian(0.5)  # by the host, with copies
    for call in (kernel, kernel.diag, served, served.diag):
        with pytest.raises(TypeError, match="dtype: results on a CUDA device have the type of the"):
            call(on_device, dtype="float16")
    assert kernel(on_device, dtype="float64").dtype == np.float64
    found = kernel(X, dtype="float16", engine="cuda")
    np.testing.assert_array_equal(found, kernel(X, engine="cuda").astype(np.float16))
