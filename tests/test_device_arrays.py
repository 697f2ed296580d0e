"""Kernels of arrays on a CUDA device, here arrays of a library that this file makes up.

``emulated`` runs where the CUDA engine is played by the host, ``device`` on a device.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone

import ntkfast as nf
from ntkfast.places import device_array
from ntkfast.places.choice import DEVICE
from test_cuda_device import module  # noqa: F401
from test_cuda_device import rows as odd_rows

KERNELS = {
    "profile": nf.FullyConnected(3),
    "layers": nf.FullyConnected(2, parameterization="ntk", b_std=0.3),
    "series": nf.FullyConnected(1, activation="tanh"),
}

BIASED: dict[str, Any] = {"parameterization": "ntk", "b_std": 0.1}


def rows(n: int, d: int, dtype: Any, seed: int = 0) -> np.ndarray:
    """Rows with zeros, duplicates and antipodes, of moderate norms."""
    X = odd_rows(n, d, dtype, seed)
    return X / np.maximum(1, np.linalg.norm(X, axis=1, keepdims=True))


def assert_same(found: np.ndarray, wanted: np.ndarray) -> None:
    """Equal but for norms, whose squares are summed in another order than by the host."""
    size = np.abs(wanted).max()
    np.testing.assert_allclose(found, wanted, rtol=0, atol=32 * np.finfo(wanted.dtype).eps * size)


class DeviceLibrary:
    """A library of arrays in memory of a device."""

    def __init__(self, cuda: Any, place: str = "0") -> None:
        self.cuda, self.place = cuda, place

    def empty(self, shape: Any, *, dtype: Any, device: Any) -> Array:
        """Return an array whose numbers are anything."""
        assert device == "gpu"
        size = int(np.prod(shape, dtype=int)) * np.dtype(dtype).itemsize
        return Array(self, self.cuda.Memory(size, self.place), shape, np.dtype(dtype))

    def asarray(self, array: Any) -> Array:
        """Copy an array of the host, with its strides."""
        array = np.asarray(array)
        base = array if array.base is None else array.base
        out = self.empty(base.shape, dtype=array.dtype, device="gpu")
        self.cuda.copy(device_array.view("out", out).described(), base, self.place)
        if array is not base:
            out.shape, out.strides = array.shape, array.strides
            out.start += array.ctypes.data - base.ctypes.data
        return out


class Array:
    """An array of that library: it tells where it is, and no more."""

    device = "gpu"

    def __init__(self, library: DeviceLibrary, memory: Any, shape: Any, dtype: Any) -> None:
        self.library, self.memory, self.shape, self.dtype = library, memory, tuple(shape), dtype
        self.strides: Any = None
        self.start = memory.pointer
        self.facts: dict[str, Any] = {}

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {
            "shape": self.shape,
            "strides": self.strides,
            "typestr": self.dtype.str,
            "data": (self.start, False),
            "version": 3,
            **self.facts,
        }

    def __array_namespace__(self) -> DeviceLibrary:
        return self.library

    def get(self) -> Any:
        """Copy to the host."""
        assert self.strides is None
        host = np.empty(self.shape, self.dtype)
        self.library.cuda.copy(host, device_array.view("x", self).described(), self.library.place)
        return host


class Tensor:
    """The same array, known by DLPack alone."""

    def __init__(self, array: Array) -> None:
        self.array = array
        steps = array.strides or device_array.dense(array.shape, array.dtype.itemsize)
        self.shape = (ctypes.c_int64 * len(array.shape))(*array.shape)
        self.steps = (ctypes.c_int64 * len(steps))(*(s // array.dtype.itemsize for s in steps))
        self.record = device_array._Tensor(
            array.start, 2, 0, len(array.shape), 2, 8 * array.dtype.itemsize, 1, self.shape,
            self.steps, 0,
        )  # fmt: skip

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, 0

    def __dlpack__(self, stream: int) -> Any:
        assert stream == 1
        make = ctypes.pythonapi.PyCapsule_New
        make.restype = ctypes.py_object
        make.argtypes = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p
        return make(ctypes.addressof(self.record), b"dltensor", None)


@pytest.fixture
def library(module: Any) -> DeviceLibrary:  # noqa: F811
    return DeviceLibrary(module)


@pytest.mark.parametrize("name", KERNELS)
def test_grams_equal_those_of_host_arrays(library: Any, name: str, dtype: Any) -> None:
    X, Y = rows(20, 17, dtype), rows(17, 17, dtype, seed=1)
    for kernel in (KERNELS[name].ntk, KERNELS[name].nngp):
        x, y = library.asarray(X), library.asarray(Y)
        found = kernel(x, y)
        assert type(found) is Array
        assert_same(found.get(), kernel(X, Y, engine="cuda"))
        assert_same(kernel(x).get(), kernel(X, engine="cuda"))
        assert_same(kernel.diag(x).get(), kernel.diag(X))


@pytest.mark.parametrize("name", KERNELS)
def test_products(library: Any, name: str, dtype: Any) -> None:
    kernel, X, Y = KERNELS[name].ntk, rows(70, 5, dtype), rows(67, 5, dtype, seed=1)
    x, y = library.asarray(X), library.asarray(Y)
    V = np.random.default_rng(0).standard_normal((67, 3)).astype(dtype)
    wanted = kernel.matmul(X, Y, V, engine="cuda")
    assert_same(kernel.matmul(x, y, library.asarray(V)).get(), wanted)
    v = V[:, 0].copy()
    vector = kernel.matmul(x, y, library.asarray(v))
    assert vector.shape == (70,)
    assert_same(vector.get(), kernel.matmul(X, Y, v, engine="cuda"))
    out = library.empty((70,), dtype=dtype, device="gpu")
    assert kernel.matmul(x, y, library.asarray(v), out=out) is out
    assert_same(out.get(), vector.get())


def test_combined_kernels(library: Any, dtype: Any) -> None:
    """One profile goes where the arrays are; what is combined after evaluation is refused."""
    X, V = rows(20, 5, dtype), np.ones((20, 3), dtype)
    x = library.asarray(X)
    relu, laplace = nf.FullyConnected(3).ntk, nf.Laplace(0.5)
    for kernel in (relu + 2 * nf.ArcCosine(1), relu.normalized() * nf.Laplace(1, inputs="sphere")):
        assert_same(kernel(x).get(), kernel(X, engine="cuda"))
        assert_same(kernel.diag(x).get(), kernel.diag(X))
        found = kernel.matmul(x, None, library.asarray(V)).get()
        assert_same(found, kernel.matmul(X, None, V, engine="cuda"))
        assert_same(kernel(X, engine="cuda"), kernel(X, engine="native"))
    for kernel in (
        relu + laplace,
        2 * laplace,
        laplace.normalized(),
        relu.on(0),
        relu.ard([1] * 5),
    ):
        assert_same(kernel(x).get(), kernel(X))  # by the host, from copies
        assert_same(kernel(x, library.asarray(X[:3])).get(), kernel(X, X[:3]))
        assert_same(kernel.diag(x).get(), kernel.diag(X))
        assert_same(kernel.matmul(x, None, library.asarray(V)).get(), kernel.matmul(X, None, V))
        out = library.asarray(np.empty((len(X), len(X)), X.dtype))
        assert kernel(x, out=out) is out
        assert_same(out.get(), kernel(X))
        assert_same(kernel(X, engine="cuda"), kernel(X, engine="native"))


def test_both(library: Any, dtype: Any) -> None:
    X = rows(20, 5, dtype)
    for network in KERNELS.values():
        wanted = network.both(X, engine="cuda")
        for one, other in zip(network.both(library.asarray(X)), wanted, strict=True):
            assert_same(one.get(), other)


def test_images(library: Any, dtype: Any) -> None:
    images = np.random.default_rng(0).standard_normal((7, 4, 5, 2)).astype(dtype)
    images[1], images[2], images[3] = images[0], 0, 1e3 * images[4]
    X, Y = images, images[2:6].copy()
    for network in (nf.Convolutional(2, readout="gap"), nf.Convolutional(2, **BIASED)):
        x, y = library.asarray(X), library.asarray(Y)
        for kernel in (network.ntk, network.nngp):
            assert_same(kernel(x, y).get(), kernel(X, Y, engine="cuda"))
            square = kernel(x).get()
            assert_same(square, kernel(X, engine="cuda"))
            np.testing.assert_array_equal(square, square.T)
            assert_same(kernel.diag(x).get(), kernel.diag(X))
        for one, other in zip(network.both(x), network.both(X, engine="cuda"), strict=True):
            assert_same(one.get(), other)
    with pytest.raises(ValueError, match="X: expected images without gaps"):
        network.ntk(library.asarray(X[:, :, :3]))
    large = 1e90 if dtype == np.float64 else 1e12
    with pytest.raises(ValueError, match="X: the kernel overflows"):
        nf.Convolutional(2, parameterization="ntk", w_std=large).ntk(x)


SEQUENCES = {
    "forward": nf.Recurrent(2, b_std=0.1, h_std=0.5),
    "both ways": nf.Recurrent(1, direction="bidirectional", readout="average", b_std=0.2),
    "erf": nf.Recurrent(2, activation="erf", h_std=0.3, fixed_layers=1),
}


@pytest.mark.parametrize("name", SEQUENCES)
@pytest.mark.parametrize("shape", [(5,), (4, 1), (6, 3)])
def test_sequences(library: Any, name: str, shape: tuple[int, ...], dtype: Any) -> None:
    """The bits of host arrays: both sides get the same numbers from the host."""
    random = np.random.default_rng(0)
    X, Y = (random.standard_normal((n, *shape)).astype(dtype) for n in (35, 18))
    X[1], X[2], Y[3] = X[0], 0, X[5]
    x, y = library.asarray(X), library.asarray(Y)
    for kernel in (SEQUENCES[name].ntk, SEQUENCES[name].nngp):
        np.testing.assert_array_equal(kernel(x, y).get(), kernel(X, Y, engine="cuda"))
        square = kernel(x).get()
        np.testing.assert_array_equal(square, kernel(X, engine="cuda"))
        np.testing.assert_array_equal(square, square.T)
        np.testing.assert_array_equal(kernel.diag(x).get(), kernel.diag(X))
    library.cuda.set_chunk(100)  # sixteen rows at a time
    np.testing.assert_array_equal(kernel(x).get(), square)
    np.testing.assert_array_equal(kernel(X, engine="cuda"), square)


@pytest.mark.parametrize("name", SEQUENCES)
@pytest.mark.parametrize("tail", [(), (3,)])
def test_sequences_of_different_lengths(
    library: Any, name: str, tail: tuple[int, ...], dtype: Any
) -> None:
    random, kernel = np.random.default_rng(0), SEQUENCES[name].ntk
    X, Y = (
        [random.standard_normal((length, *tail)).astype(dtype) for length in lengths]
        for lengths in ((3, 1, 5, 3), (2, 4, 4))
    )
    x, y = ([library.asarray(one) for one in side] for side in (X, Y))
    np.testing.assert_array_equal(kernel(x, y).get(), kernel(X, Y, engine="cuda"))
    np.testing.assert_array_equal(kernel(x).get(), kernel(X, engine="cuda"))
    np.testing.assert_array_equal(kernel.diag(tuple(x)).get(), kernel.diag(X))
    whole = np.stack([X[0], X[3]])
    np.testing.assert_array_equal(
        kernel(x, library.asarray(whole)).get(), kernel(X, whole, engine="cuda")
    )
    v = library.asarray(np.ones(3, dtype))
    assert_same(kernel.matmul(x, y, v).get(), kernel(X, Y) @ np.ones(3, dtype))


def test_sequences_into_strided_rows(library: Any, dtype: Any) -> None:
    X = np.random.default_rng(0).standard_normal((9, 4, 2)).astype(dtype)
    out, kernel = library.asarray(np.zeros((9, 12), dtype)[:, 2:11]), SEQUENCES["forward"].ntk
    assert kernel(library.asarray(X), out=out) is out
    out.shape, out.strides, out.start = (9, 12), None, out.memory.pointer
    np.testing.assert_array_equal(out.get()[:, 2:11], kernel(X, engine="cuda"))
    assert not out.get()[:, [0, 1, 11]].any()


@pytest.mark.parametrize("height", [1, 7, 1000])
@pytest.mark.parametrize("kind", ["sequences", "images"])
def test_products_of_panels(
    library: Any, kind: str, height: int, dtype: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(0)
    n, m = (10, 6) if kind == "images" else (20, 13)
    X, Y = (random.standard_normal((count, 3, 4, 2)).astype(dtype) for count in (n, m))
    kernel: Any = nf.Convolutional(2, readout="gap").ntk
    if kind == "sequences":
        X, Y = X.reshape(n, 12, 2), Y.reshape(m, 12, 2)
        kernel = SEQUENCES["forward"].ntk  # whose diagonal is more than that of equal pairs
    V = random.standard_normal((n, 11)).astype(dtype)
    x, y, v = library.asarray(X), library.asarray(Y), library.asarray(V[:m].copy())
    monkeypatch.setattr(DEVICE, "panel_bytes", height * n * V.itemsize)
    square, other = (K.astype(float) for K in (kernel(X), kernel(X, Y)))
    for found, K, factor in (
        (kernel.matmul(x, None, library.asarray(V)), square, V),
        (kernel.matmul(x, y, v), other, V[:m]),
        (kernel.matmul(x, None, library.asarray(V[:, 0].copy())), square, V[:, 0]),
    ):
        # entries of K to some units per layer and step, sums in float64
        allowed = 100 * np.finfo(dtype).eps * np.abs(K) @ np.abs(factor.astype(float))
        assert np.all(np.abs(found.get() - K @ factor) <= allowed)


def test_bad_sequences(library: Any) -> None:
    kernel, X = SEQUENCES["forward"].ntk, np.ones((4, 5, 2))
    x = library.asarray(X)
    flat, half = library.asarray(X[0].copy()), library.asarray(X[0].astype("f4"))
    X[2, 1, 1] = np.nan
    for arguments, error, match in (
        ((library.asarray(X),), ValueError, "X: expected finite numbers, sequence 2"),
        ((x, library.asarray(np.ones((4, 5, 3)))), ValueError, "Y: expected sequences of 2"),
        ((library.asarray(np.ones(4)),), ValueError, r"X: expected shape \(n, T, m\)"),
        ((x, library.asarray(np.ones((4, 5, 2), "f4"))), TypeError, "Y: expected dtype float64"),
        ((library.asarray(np.ones((4, 5), "f2")),), TypeError, "X: expected float32 or float64"),
        ((library.asarray(X[:, :, :1]),), ValueError, "X: expected an array without gaps"),
        ((x, np.ones((4, 5, 2))), TypeError, "Y: expected an array on a CUDA device, got a NumPy"),
        (([x],), ValueError, r"X\[0\]: expected a sequence"),
        (([flat, X[0]],), TypeError, r"X\[1\]: expected an array on a CUDA device, got a NumPy"),
        (([flat, library.asarray(X[2])],), ValueError, "X: expected finite numbers, sequence 1"),
        ((x, [flat, half]), TypeError, r"Y\[1\]: expected dtype float64 as X, got float32"),
        ((np.ones((4, 5, 2)), x), TypeError, "Y: expected an array of the host, got one on a CUDA"),
    ):
        with pytest.raises(error, match=match):
            kernel(*arguments)
    with pytest.raises(TypeError, match="X: expected an array of the host"):
        nf.sequences(x, lengths=[1, 2, 3, 4])


def test_out_and_strides(library: Any, dtype: Any) -> None:
    whole, kernel = rows(40, 12, dtype), nf.FullyConnected(2).ntk
    X, Y = whole[::2, 3:10], whole[1::2, 3:10]
    wanted = kernel(X.copy(), Y.copy(), engine="cuda")
    frame = np.full((20, 25), 7, dtype)
    out = library.asarray(frame[:, 2:22])
    assert kernel(library.asarray(X), library.asarray(Y), out=out) is out
    out.shape, out.strides, out.start = (20, 25), None, out.memory.pointer
    found = out.get()
    assert_same(found[:, 2:22], wanted)
    found[:, 2:22] = 7
    np.testing.assert_array_equal(found, frame)


def test_dlpack(library: Any, dtype: Any) -> None:
    X, kernel = rows(9, 4, dtype)[1:], nf.FullyConnected(2).ntk
    out = library.empty((8, 8), dtype=dtype, device="gpu")
    kernel(Tensor(library.asarray(X)), out=out)
    assert_same(out.get(), kernel(X.copy(), engine="cuda"))
    with pytest.raises(TypeError, match=r"__array_namespace__.*pass out="):
        kernel(Tensor(library.asarray(X)))


def test_fwht(library: Any, dtype: Any) -> None:
    X = np.random.default_rng(0).standard_normal((5, 64)).astype(dtype)
    signs = np.sign(np.random.default_rng(1).standard_normal(64))
    x, wanted = library.asarray(X), nf.features.fwht(X, signs=signs, normalize=True)
    found = nf.features.fwht(x, signs=signs, normalize=True)
    np.testing.assert_array_equal(found.get(), wanted)
    assert nf.features.fwht(x, signs=signs, normalize=True, out=x) is x
    np.testing.assert_array_equal(x.get(), wanted)


@pytest.mark.parametrize("weights", ["orthogonal", "structured"])
def test_features(library: Any, weights: str, dtype: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    X = rows(20, 21, dtype)
    for order in (0, 1):
        features = nf.features.ArcCosineFeatures(
            order, n_components=70, weights=weights, random_state=0
        ).fit(X)
        found = features.transform(library.asarray(X)).get()
        monkeypatch.setenv("NTKFAST_ENGINE", "cuda")
        np.testing.assert_array_equal(found, features.transform(X))
    with pytest.raises(ValueError, match=r"X: expected shape \(\*, 21\)"):
        features.transform(library.asarray(X[:, :20]))


BIASES = nf.FullyConnected(2, b_std=0.3, parameterization="ntk").ntk
MAPS: dict[str, Any] = {
    "srht": nf.features.SRHT(40, random_state=0),
    "tensor-srht": nf.features.TensorSRHT(40, random_state=0),
    "dual": nf.features.DualActivationFeatures(BIASES, 301, random_state=0),
    "dual-2": nf.features.DualActivationFeatures(nf.FullyConnected(2).ntk, 70, exact=2),
    "gegenbauer": nf.features.GegenbauerFeatures(n_components=33, random_state=0),
    "ntk-random": nf.features.NTKRandomFeatures(depth=2, n_components=60, random_state=0),
    "ntk-random-wide": nf.features.NTKRandomFeatures(
        nf.ResNet(2, alpha=0.5), n_components=61, hidden=80, weights="structured", random_state=0
    ),
    "ntk-random-biases": nf.features.NTKRandomFeatures(BIASES.network, n_components=300),
    "sketch": nf.features.NTKSketch(nf.FullyConnected(2).ntk, 70, random_state=0),
    "sketch-biases": nf.features.NTKSketch(BIASES, 300, degree=5, random_state=0),
}


@pytest.mark.parametrize("name", MAPS)
def test_maps(library: Any, name: str, dtype: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The features that NumPy rows get from the device, but for norms summed in another order."""
    frame = rows(20, 11, dtype)
    X = frame[:, 2:9]  # rows with gaps between them
    features = clone(MAPS[name]).set_params(random_state=0).fit(X)
    monkeypatch.setattr(DEVICE, "feature_bytes", 7 * 300 * X.itemsize)
    found = features.transform(library.asarray(X)).get()
    monkeypatch.setenv("NTKFAST_ENGINE", "cuda")
    wanted = features.transform(X)
    assert found.shape == wanted.shape
    # rows of norm 1 and less, and sketches that add up features of that size
    np.testing.assert_allclose(found, wanted, rtol=0, atol=64 * np.finfo(dtype).eps)
    assert np.abs(wanted).max() > 0.1


def test_maps_of_the_host(library: Any) -> None:
    X = rows(20, 7, np.float64)
    x, features = library.asarray(X), nf.features
    for made, match in (
        (features.CountSketch(8), "CountSketch takes arrays of the host"),
        (features.TensorSketch(8), "TensorSketch takes arrays of the host"),
        (features.NystromFeatures(n_components=8), "NystromFeatures takes arrays of the host"),
        (features.NTKSketch(sketch="countsketch"), "sketch='countsketch' takes arrays of the host"),
        (features.NTKRandomFeatures(sketch="countsketch"), "sketch='countsketch' takes arrays"),
        (
            features.NTKRandomFeatures(nf.FullyConnected(1, activation="erf")),
            "other activations than ReLU takes arrays of the host",
        ),
    ):
        with pytest.raises(TypeError, match=match):
            made.fit(X).transform(x)
    with pytest.raises(TypeError, match="X: fit takes rows of the host"):
        features.SRHT(8).fit(x)


def test_norms_overflow_nowhere(library: Any) -> None:
    kernel = nf.FullyConnected(1).nngp
    for factor in (1e-200, 1e-160, 1.0, 1e100):
        X = rows(9, 5, np.float64) * factor
        np.testing.assert_allclose(
            kernel.diag(library.asarray(X)).get(), kernel.diag(X), rtol=1e-15, atol=0
        )


class Watched:
    """A module that notes what is waited for."""

    def __init__(self, cuda: Any, waits: list[str]) -> None:
        self._module, self._waits = cuda, waits

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)

    def finish(self, where: str) -> None:
        """Note it and wait."""
        self._waits.append(where)
        self._module.finish(where)


def test_result_in_the_stream_of_the_array(library: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The device and the stream are those of X; what other streams hold is waited for."""
    from ntkfast.engines import cuda

    seen: list[Any] = []
    x, y = library.asarray(rows(4, 3, np.float64)), library.asarray(rows(5, 3, np.float64))
    x.facts, y.facts = {"stream": 1}, {"stream": 2}  # those that every process has
    place = cuda._place
    monkeypatch.setattr(cuda, "_place", lambda *a: seen.append(a) or place(*a))
    nf.FullyConnected(1).ntk(x, y)
    assert (0, 0) in seen  # both numbers of the default stream are one
    assert (0, 2) in seen
    waits: list[str] = []
    monkeypatch.setattr(cuda, "module", lambda: Watched(library.cuda, waits))
    x.facts, y.facts = {"stream": 1}, {"stream": 0}
    kernel, out = nf.FullyConnected(1).ntk, library.empty((4, 5), dtype=x.dtype, device="gpu")
    out.facts = {"stream": 1}
    kernel(x, y, out=out)
    assert waits == []  # the result is waited for by who reads it in that stream
    out.facts = {"stream": 2}
    kernel(x, y, out=out)
    assert waits == ["0:strict:2", "0:strict:0"]  # before the work, and for it
    out.facts = x.facts = y.facts = {}
    kernel(x, y, out=out)
    assert set(waits[2:]) == {"0:strict:0"}


def test_sequences_in_the_stream_of_the_array(
    library: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Results and products too, though their values are brought to the host first."""
    from ntkfast.engines import cuda

    waits: list[str] = []
    places: list[Any] = []
    place = cuda._place
    monkeypatch.setattr(cuda, "_place", lambda *a: places.append(a) or place(*a))
    monkeypatch.setattr(cuda, "module", lambda: Watched(library.cuda, waits))
    kernel, x = nf.Recurrent(1).ntk, library.asarray(rows(4, 3, np.float64))
    V, out = library.asarray(rows(4, 2, np.float64)), library.asarray(np.empty((4, 4)))
    product = library.asarray(np.empty((4, 2)))
    for array in (x, V, out, product):
        array.facts = {"stream": 1}
    places.clear()
    kernel(x, out=out)
    kernel.matmul(x, None, V, out=product)
    assert waits == []
    assert set(places) == {(0, 0)}
    out.facts = {"stream": 2}
    places.clear()
    kernel(x, out=out)
    assert waits == ["0:strict:2", "0:strict:0"]  # before the work, and for it
    assert places.count((0, 2)) == 1  # which is that of the first wait


def test_several_devices(library: Any) -> None:
    """Arrays on another device are computed on there; on two devices they are an error."""
    if library.cuda.devices()[0] < 2:
        pytest.skip("one CUDA device only")
    other, kernel, X = DeviceLibrary(library.cuda, "1"), nf.FullyConnected(2).ntk, rows(9, 4, float)
    assert_same(kernel(other.asarray(X)).get(), kernel(X, engine="cuda"))
    with pytest.raises(ValueError, match=r"Y: expected an array on CUDA device 0 as X.* device 1"):
        kernel(library.asarray(X), other.asarray(X))
    recurrent = nf.Recurrent(1).ntk
    wanted = recurrent(X, engine="cuda")
    np.testing.assert_array_equal(recurrent(other.asarray(X)).get(), wanted)
    v = other.asarray(X[:, 0].copy())
    assert_same(recurrent.matmul(other.asarray(X), None, v).get(), wanted @ X[:, 0])
    with pytest.raises(ValueError, match=r"Y: expected an array on CUDA device 0 as X.* device 1"):
        recurrent(library.asarray(X), other.asarray(X))


def test_out_of_memory(library: Any) -> None:
    with pytest.raises(MemoryError, match="CUDA device 0: no room for 1125899906842624 bytes"):
        library.cuda.Memory(1 << 50, "0")
    X = rows(9, 4, float)  # and everything goes on
    assert_same(nf.FullyConnected(2).ntk(library.asarray(X)).get(), nf.FullyConnected(2).ntk(X))


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e200])
def test_bad_numbers(library: Any, value: float) -> None:
    X = np.ones((5, 3))
    good = library.asarray(X)
    X[3, 1] = value
    with pytest.raises(ValueError, match=r"Y: expected finite numbers and norms.*row 3"):
        nf.FullyConnected(1).ntk(good, library.asarray(X))
    with pytest.raises(ValueError, match=r"V: expected finite numbers and norms.*row 3"):
        nf.FullyConnected(1).ntk.matmul(good, None, library.asarray(X))


def test_bad_arguments(library: Any) -> None:
    kernel, X = nf.FullyConnected(1).ntk, np.ones((4, 3))
    x = library.asarray(X)
    half = library.asarray(np.ones((4, 3), np.float16))
    flat, wide = library.asarray(np.ones(3)), library.asarray(np.ones((4, 5)))
    single, turned = library.asarray(X.astype(np.float32)), library.asarray(np.ones((3, 4)).T)
    masked, moved = library.asarray(X), library.asarray(X)
    masked.facts, moved.facts = {"mask": x}, {"data": (X.ctypes.data, False)}
    frozen = library.asarray(np.ones((4, 4)))
    frozen.facts = {"data": (frozen.start, True)}
    for arguments, error, match in (
        ((half,), TypeError, "X: expected float32 or float64 on a CUDA device, got float16"),
        ((flat,), ValueError, r"X: expected shape"),
        ((x, wide), ValueError, r"Y: expected shape \(\*, 3\), got \(4, 5\)"),
        ((x, single), TypeError, "Y: expected dtype float64 as X"),
        ((x, X), TypeError, "Y: expected an array on a CUDA device, got a NumPy array"),
        ((turned,), ValueError, "X: expected rows with unit stride"),
        ((masked,), TypeError, "X: expected an array without a mask"),
        ((moved,), ValueError, "expected memory of a CUDA device"),
    ):
        with pytest.raises(error, match=match):
            kernel(*arguments)
    for out, error, match in (
        (np.empty((4, 4)), TypeError, "out: expected an array on a CUDA device"),
        (library.asarray(np.ones((4, 5))), ValueError, r"out: expected shape \(4, 4\)"),
        (frozen, ValueError, "out: expected a writable array"),
    ):
        with pytest.raises(error, match=match):
            kernel(x, out=out)
    rows_alike = library.asarray(np.ones((4, 4)))
    rows_alike.strides = (0, 8)
    with pytest.raises(ValueError, match="out: expected rows of their own"):
        kernel(x, out=rows_alike)
    square = library.asarray(np.ones((4, 4)))
    with pytest.raises(ValueError, match="out: expected memory of its own, it overlaps X"):
        kernel(square, out=square)
    with pytest.raises(ValueError, match="engine: 'native' cannot read"):
        kernel(x, engine="native")
    with pytest.raises(ValueError, match=r"V: expected shape \(4,\), got \(3,\)"):
        kernel.matmul(x, None, flat)
    with pytest.raises(TypeError, match="takes arrays of the host"):
        nf.finite.MLP([3, 4, 1], rng=0).ntk(x)
