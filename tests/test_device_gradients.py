"""Derivatives on a CUDA device, or with the host playing it, against 100 digits and native ones."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pytest

import cases
import ntkfast as nf
from ntkfast.engines import cuda
from test_cuda_device import module  # noqa: F401
from test_device_arrays import Array, DeviceLibrary, library, rows  # noqa: F401
from test_gradients import COMPILED, ROUNDING, against_the_oracle
from tolerances import epsilon

D = nf.Dense
KERNELS: dict[str, Any] = {
    "profile": nf.FullyConnected(3).ntk,
    "layers": nf.FullyConnected(2, parameterization="ntk", b_std=0.3).ntk,
    "slots": nf.compose(
        D(1.5), nf.Multiply((), ("relu", D(1.3))), D(), nf.Residual("erf", D(1.0, 0.2)), D(1.1)
    ).ntk,
    "radial": nf.ExponentialPower(1.5, 0.7),
    "sphere": nf.Laplace(1.2, inputs="homogeneous"),
    "sum": nf.FullyConnected(3).ntk + 2 * nf.ArcCosine(1),
}
ORACLES = [
    pytest.param(name, special, dtype, marks=() if name in quick else pytest.mark.slow)
    for quick in (("fc3", "bias3"),)
    for name in ("fc3", "bias3", "resnet5", "laplace-homogeneous", "laplace-euclidean")
    for special, dtype in ((True, np.float64), (False, np.float64), (True, np.float32))
]


def assert_near(found: Any, wanted: Any, size: Any) -> None:
    """Both engines round, by some units of the size of what is summed."""
    assert np.isfinite(found).all()
    assert np.all(np.abs(found - wanted) <= 4 * ROUNDING * epsilon(wanted.dtype) * size)


def lengths(kernel: Any, X: Any, Y: Any) -> Any:
    """Return the lengths of the gradients of all pairs by their first row, or the largest of it."""
    axes = np.eye(X.shape[1], dtype=X.dtype)
    each = [kernel.jvp(X, Y.copy(), np.tile(axis, (len(X), 1))) for axis in axes]  # X stays there
    found = np.linalg.norm(np.array(each, np.float64), axis=0)
    return np.maximum(found, found.max(axis=1, keepdims=True))


def sizes(kernel: Any, X: Any, Y: Any, V: Any) -> Any:
    """Return the sizes of what is summed to the gradients of rows."""
    return (np.abs(V) * lengths(kernel, X, Y)).sum(axis=1, keepdims=True)


@pytest.mark.parametrize(("name", "special", "dtype"), ORACLES)
def test_against_the_oracle(module: Any, name: str, special: bool, dtype: Any) -> None:  # noqa: F811
    against_the_oracle(cases.BY_NAME[name], special, "cuda", dtype)


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("shape", [(70, 67, 5), (9, 130, 1)])
def test_vjp(library: Any, name: str, shape: Any, dtype: Any) -> None:  # noqa: F811
    kernel, (n, m, d) = KERNELS[name], shape
    X, Y = rows(n, d, dtype), rows(m, d, dtype, seed=1)
    Y[5] = X[0] * dtype(1 + 1e-3)
    random = np.random.default_rng(2)
    V = random.standard_normal((n, m)).astype(dtype)
    A, B = (random.standard_normal((count, 3)).astype(dtype) for count in (n, m))
    x, y, v, a, b = map(library.asarray, (X, Y, V, A, B))
    size = sizes(kernel, X, Y, V)
    wanted = kernel.vjp(X, Y, V, engine="native")
    found = kernel.vjp(x, y, v)
    assert type(found) is Array
    assert_near(found.get(), wanted, size)
    np.testing.assert_array_equal(found.get(), kernel.vjp(x, y, v).get())
    assert_near(kernel.vjp(X, Y, V, engine="cuda"), wanted, size)
    factored = kernel.vjp(X, Y, (A, B), engine="native")
    assert_near(kernel.vjp(x, y, (a, b)).get(), factored, sizes(kernel, X, Y, np.abs(A) @ abs(B.T)))


@pytest.mark.parametrize("name", KERNELS)
def test_symmetric_vjp(library: Any, name: str, dtype: Any) -> None:  # noqa: F811
    """Both places of a pair move; of rows between others, and weights too."""
    kernel, random = KERNELS[name], np.random.default_rng(2)
    X = rows(40, 9, dtype)[::2, 2:7]
    V = random.standard_normal((20, 23)).astype(dtype)[:, 1:21]
    A, B = (random.standard_normal((20, 4)).astype(dtype)[:, :3] for _ in range(2))
    x, v, a, b = map(library.asarray, (X, V, A, B))
    size = sizes(kernel, X, X, np.abs(V) + np.abs(V.T))
    assert_near(kernel.vjp(x, None, v).get(), kernel.vjp(X, None, V), size)
    both = np.abs(A) @ np.abs(B.T)
    found, size = kernel.vjp(x, None, (a, b)).get(), sizes(kernel, X, X, both + both.T)
    assert_near(found, kernel.vjp(X, None, (A, B)), size)
    np.testing.assert_array_equal(found, kernel.vjp(x, None, (a, b)).get())
    out = library.empty((20, 5), dtype=dtype, device="gpu")
    assert kernel.vjp(x, x, (a, b), out=out) is out
    np.testing.assert_array_equal(out.get(), found)
    assert_near(kernel.vjp(X, None, V, engine="cuda"), kernel.vjp(X, None, V), size)


@pytest.mark.parametrize("name", ["profile", "layers"])
def test_pieces_and_passes(library: Any, name: str, dtype: Any) -> None:  # noqa: F811
    """More columns than have room at once, and rows piece by piece."""
    kernel, random = KERNELS[name], np.random.default_rng(2)
    X, Y = rows(130, 200, dtype), rows(70, 200, dtype, seed=1)
    V, W, dX = (
        random.standard_normal(shape).astype(dtype) for shape in [(130, 70), (130, 130), (130, 200)]
    )
    ways = [
        lambda **how: kernel.vjp(X, Y, V, **how),
        lambda **how: kernel.vjp(X, None, W, **how),
        lambda **how: kernel.jvp(X, Y, dX, **how),
    ]
    for way in ways:
        library.cuda.set_chunk(1 << 27)
        whole, wanted = way(engine="cuda"), way(engine="native")
        assert_near(whole, wanted, 10 * np.abs(wanted).max())
        library.cuda.set_chunk(64 * 70)  # 64 rows at a time
        np.testing.assert_array_equal(way(engine="cuda"), whole)
    x, y, v = map(library.asarray, (X, Y, V))
    wanted = kernel.parameter_gradient(X, Y, V)
    assert kernel.parameter_gradient(x, y, v) == pytest.approx(wanted, rel=1e3 * epsilon(dtype))


@pytest.mark.parametrize("name", KERNELS)
def test_jvp(library: Any, name: str, dtype: Any) -> None:  # noqa: F811
    kernel, random = KERNELS[name], np.random.default_rng(2)
    X, Y = rows(70, 5, dtype), rows(67, 5, dtype, seed=1)
    dX, dY = (random.standard_normal(one.shape).astype(dtype) for one in (X, Y))
    x, y, dx, dy = map(library.asarray, (X, Y, dX, dY))
    by_x = lengths(kernel, X, Y) * np.linalg.norm(dX, axis=1)[:, None]
    by_y = lengths(kernel, Y, X) * np.linalg.norm(dY, axis=1)[:, None]
    assert_near(kernel.jvp(x, y, dx).get(), kernel.jvp(X, Y, dX), by_x)
    assert_near(kernel.jvp(x, y, None, dy).get(), kernel.jvp(X, Y, None, dY), by_y.T)
    assert_near(kernel.jvp(x, y, dx, dy).get(), kernel.jvp(X, Y, dX, dY), by_x + by_y.T)
    size = lengths(kernel, X, X) * np.linalg.norm(dX, axis=1)[:, None]
    square = kernel.jvp(x, None, dx).get()
    assert_near(square, kernel.jvp(X, None, dX), size + size.T)
    np.testing.assert_array_equal(square, square.T)
    out = library.asarray(np.zeros((70, 80), dtype)[:, 3:70])
    assert kernel.jvp(x, y, dx, dy, out=out) is out
    out.shape, out.strides, out.start = (70, 80), None, out.memory.pointer
    np.testing.assert_array_equal(out.get()[:, 3:70], kernel.jvp(x, y, dx, dy).get())
    assert not out.get()[:, :3].any() and not out.get()[:, 70:].any()


@pytest.mark.parametrize(
    "name", [pytest.param(one, marks=pytest.mark.slow) for one in COMPILED.split()] + ["tanh"]
)
@pytest.mark.parametrize("kind", ["ntk", "nngp"])
def test_formulas_of_layers(module: Any, name: str, kind: str) -> None:  # noqa: F811
    depth = 1 if name == "tanh" else 2
    network = nf.FullyConnected(depth, activation=name, parameterization="ntk", b_std=0.5)
    kernel, random = getattr(network, kind), np.random.default_rng(3)
    X, Y, dX, V = (random.standard_normal(shape) for shape in [(3, 4), (5, 4), (3, 4), (3, 5)])
    X, Y = X * np.geomspace(0.3, 3, 3)[:, None], Y * np.geomspace(2, 0.5, 5)[:, None]
    if name == "tanh":  # whose series are short there
        X, Y = 0.1 * X, 0.1 * Y
    for part, moved in ((kernel.vjp, V), (kernel.jvp, dX)):
        wanted, found = (part(X, Y, moved, engine=engine) for engine in ("native", "cuda"))
        assert_near(found, wanted, np.abs(wanted).max())
    assert_parameters(kernel, (X, Y, V), kernel.parameter_gradient(X, Y, V, engine="cuda"))


def assert_parameters(kernel: Any, given: Any, found: dict[str, float]) -> None:
    """Within rounding of the sum of what all pairs have at most."""
    X, Y, V = given
    wanted = kernel.parameter_gradient(X, Y, V)
    weights = np.abs(V[0]) @ np.abs(V[1].T) if isinstance(V, tuple) else np.abs(V)
    own = [np.sqrt(kernel.diag(one).astype(float)) for one in (X, X if Y is None else Y)]
    scale = 10 * own[0] @ weights @ own[1] + 1e-300
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert abs(found[name] - value) <= 4 * ROUNDING * epsilon(X.dtype) * scale, name


@pytest.mark.parametrize("name", ["profile", "layers", "slots", "sum"])
def test_parameter_gradient(library: Any, name: str, dtype: Any) -> None:  # noqa: F811
    kernel, random = KERNELS[name], np.random.default_rng(2)
    X, Y = rows(70, 5, dtype), rows(67, 5, dtype, seed=1)
    V, S = (random.standard_normal((70, m)).astype(dtype) for m in (67, 70))
    A, B = (random.standard_normal((count, 3)).astype(dtype) for count in (70, 67))
    x, y, v, s, a, b = map(library.asarray, (X, Y, V, S, A, B))
    for given, there in (
        ((X, Y, V), (x, y, v)),
        ((X, Y, (A, B)), (x, y, (a, b))),
        ((X, None, S), (x, None, s)),
        ((X, None, (A, A)), (x, None, (a, a))),
    ):
        assert_parameters(kernel, given, kernel.parameter_gradient(*there))
    assert_parameters(kernel, (X, Y, V), kernel.parameter_gradient(X, Y, V, engine="cuda"))


DENSE, RATE = nf.FullyConnected(2).ntk, nf.Laplace(0.5)
SERVED: dict[str, Any] = {
    "ard": DENSE.ard([1.0, 2.0, 0.5, 1.5]),
    "columns": DENSE.on([0, 2]) + RATE.on([1, 3]),
    "sum": 2 * (DENSE + RATE),
    "product": DENSE * RATE,
    "normalized": (DENSE + RATE).normalized(),
    "rate": RATE,
    "sequences": nf.Recurrent(1, b_std=0.2).ntk,
    "images": nf.Convolutional(1, shape=(2, 2, 1)).ntk,
}


@pytest.mark.parametrize("name", SERVED)
def test_served_by_the_host(library: Any, name: str) -> None:  # noqa: F811
    """What has no derivatives there has those of copies on the host, in arrays of the device."""
    kernel, random = SERVED[name], np.random.default_rng(2)
    X, Y, V, S = (random.standard_normal(shape) for shape in [(6, 4), (5, 4), (6, 5), (6, 6)])
    x, y, v, s = (library.asarray(one) for one in (X, Y, V, S))
    for found, wanted in (
        (kernel.vjp(x, y, v), kernel.vjp(X, Y, V)),
        (kernel.vjp(x, x, s), kernel.vjp(X, None, S)),
        (kernel.vjp(x, y, (x, y)), kernel.vjp(X, Y, (X, Y))),
        (kernel.jvp(x, y, x, y), kernel.jvp(X, Y, X, Y)),
        (kernel.jvp(x, None, x), kernel.jvp(X, None, X)),
    ):
        assert type(found) is Array
        np.testing.assert_allclose(found.get(), wanted, rtol=0, atol=1e-13 * np.abs(wanted).max())
    for there, here in (((x, y, v), (X, Y, V)), ((x, None, (x, x)), (X, None, (X, X)))):
        wanted = kernel.parameter_gradient(*here)
        assert kernel.parameter_gradient(*there) == pytest.approx(wanted, rel=1e-12)
    step = {next(iter(kernel.parameters())): 1.0}
    found = kernel.parameter_jvp(x, y, step).get()
    np.testing.assert_allclose(found, kernel.parameter_jvp(X, Y, step), rtol=0, atol=1e-13)
    wide = library.asarray(np.zeros((6, 9))[:, 2:6])  # rows with gaps, as results and inputs
    assert kernel.vjp(x, y, v, out=wide) is wide
    found = kernel.vjp(wide, y, v).get()
    np.testing.assert_allclose(
        found, kernel.vjp(kernel.vjp(X, Y, V), Y, V), rtol=0, atol=1e-12 * np.abs(found).max()
    )


def test_served_lists(library: Any) -> None:  # noqa: F811
    """Lists of sequences have lists of gradients."""
    random = np.random.default_rng(0)
    X, V = [random.standard_normal((k, 2)) for k in (3, 5)], random.standard_normal((2, 2))
    kernel = nf.Recurrent(1, b_std=0.2).ntk
    there = [library.asarray(one) for one in X]
    found = kernel.vjp(there, None, library.asarray(V))
    for one, wanted in zip(found, kernel.vjp(X, None, V), strict=True):
        np.testing.assert_array_equal(one.get(), wanted)


def test_served_images(library: Any) -> None:  # noqa: F811
    X, V = np.random.default_rng(0).standard_normal((3, 3, 3, 1)), np.ones((3, 3))
    kernel = nf.Convolutional(1).ntk
    found = kernel.vjp(library.asarray(X), None, library.asarray(V))
    np.testing.assert_array_equal(found.get(), kernel.vjp(X, None, V))


def test_refused(library: Any) -> None:  # noqa: F811
    """What is wrong is named."""
    X = rows(6, 3, np.float64)
    x, v = library.asarray(X), library.asarray(np.ones((6, 6)))
    kernel, served = KERNELS["profile"], nf.Recurrent(1).ntk
    with pytest.raises(ValueError, match=r'engine: derivatives of Recurrent.* need "native"'):
        served.vjp(X, None, np.ones((6, 6)), engine="cuda")
    with pytest.raises(TypeError, match="V: expected an array on a CUDA device, got a NumPy array"):
        served.vjp(x, None, np.ones((6, 6)))
    with pytest.raises(TypeError, match=r"V\[1\]: expected dtype float64 as X"):
        served.vjp(x, None, (v, library.asarray(np.ones((6, 6), np.float32))))
    with pytest.raises(ValueError, match=r"V: expected shape \(6, 6\), got \(6, 3\)"):
        served.vjp(x, None, library.asarray(X))
    with pytest.raises(ValueError, match="engine: 'native' cannot read"):
        served.vjp(x, None, v, engine="native")
    with pytest.raises(TypeError, match="V: expected an array on a CUDA device, got a NumPy array"):
        kernel.vjp(x, None, np.ones((6, 6)))
    with pytest.raises(TypeError, match=r"V\[1\]: expected dtype float64 as X"):
        kernel.vjp(x, None, (v, library.asarray(np.ones((6, 6), np.float32))))
    with pytest.raises(ValueError, match=r"V: expected shape \(6, 6\), got \(6, 3\)"):
        kernel.vjp(x, None, library.asarray(X))
    with pytest.raises(ValueError, match=r"dX: expected shape \(6, 3\)"):
        kernel.jvp(x, None, v)
    with pytest.raises(ValueError, match="out: expected memory of its own, it overlaps V"):
        kernel.vjp(x, None, v, out=_columns(v, 3))
    with pytest.raises(ValueError, match="engine: 'native' cannot read"):
        kernel.vjp(x, None, v, engine="native")


def _columns(array: Array, count: int) -> Array:
    found = Array(array.library, array.memory, (len(array.get()), count), array.dtype)
    found.strides = (array.shape[1] * array.dtype.itemsize, array.dtype.itemsize)
    return found


@pytest.mark.parametrize(
    ("kernel", "name"),
    [
        (KERNELS["layers"], "w_std"),
        (KERNELS["layers"].ard([1.0, 2.0, 0.5]), "kernel.w_std"),  # served by the host
    ],
    ids=["layers", "ard"],
)
def test_tensors(
    library: Any,  # noqa: F811
    kernel: Any,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Gradients of PyTorch; these tensors say that they lie on a device, in the emulation."""
    torch = pytest.importorskip("torch")
    if library.cuda.__name__ != "ntkfast._cuda_emulated":
        pytest.skip("test_tensors_of_a_device does it on a device")

    class Remote(torch.Tensor):  # type: ignore[misc]
        device = torch.device("cuda", 0)

        @property
        def __cuda_array_interface__(self) -> dict[str, Any]:
            steps = tuple(8 * step for step in self.stride())
            data = (self.data_ptr(), False)
            return {"shape": tuple(self.shape), "strides": steps, "typestr": "<f8", "data": data,
                    "version": 3}  # fmt: skip

        def detach(self) -> Any:
            return super().detach().as_subclass(Remote)

        @property
        def T(self) -> Any:
            return remote(back(self).T)

        def new_empty(self, shape: Any) -> Any:
            return remote(np.zeros(shape))

        def numpy(self) -> Any:
            raise AssertionError("a tensor on a device has no numbers for the host")

    def remote(array: Any) -> Any:
        there = library.asarray(np.ascontiguousarray(array))
        kept.append(there)
        view = np.ctypeslib.as_array((ctypes.c_double * array.size).from_address(there.start))
        return torch.from_numpy(view.reshape(array.shape)).as_subclass(Remote)

    def back(tensor: Any) -> Any:
        return tensor.as_subclass(torch.Tensor).detach().numpy()

    kept: list[Any] = []
    here = type("Stream", (), {"cuda_stream": 0})
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: here)
    random, k = np.random.default_rng(0), nf.torch.kernel(kernel)
    arrays = [random.standard_normal(shape) for shape in [(6, 3), (5, 3), (5, 2), (6, 5), (6, 2)]]
    for there in (True, False):
        X, Y, V, G, H = [remote(a) if there else torch.from_numpy(a) for a in arrays]
        w_std = torch.tensor(1.3, dtype=torch.float64, requires_grad=True)
        inputs = [X.requires_grad_(), Y.requires_grad_(), w_std]
        found = torch.autograd.grad(k(X, Y, **{name: w_std}), inputs, G)
        inputs.append(V.requires_grad_())
        found += torch.autograd.grad(k.matmul(X, Y, V, **{name: w_std}), inputs, H)
        if there:
            lies = [library.cuda.device_of(one.data_ptr()) for one in found]
            assert lies == [0 if one.ndim == 2 else -1 for one in found]
            first = [back(one) for one in found]
    for one, other in zip(first, found, strict=True):
        np.testing.assert_allclose(one, other.numpy(), rtol=1e-12, atol=1e-12)
    X = remote(arrays[0]).requires_grad_()
    with pytest.raises(TypeError, match="V: expected an array on a CUDA device, got a NumPy array"):
        torch.autograd.grad(k(X), X, torch.ones(6, 6, dtype=torch.float64))


def test_tensors_of_a_device() -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available() or cuda.unavailable():
        pytest.skip("no CUDA device")
    X = torch.randn(300, 20, dtype=torch.float64)
    for name in ("profile", "layers", "radial"):
        k = nf.torch.kernel(KERNELS[name])
        x, y = (X.to(place).requires_grad_() for place in ("cuda", "cpu"))
        for one in (x, y):
            k(one).sin().sum().backward()
            k.matmul(one, None, one).sum().backward()
        assert x.grad.device.type == "cuda"
        torch.testing.assert_close(x.grad.cpu(), y.grad, rtol=1e-11, atol=1e-11)
