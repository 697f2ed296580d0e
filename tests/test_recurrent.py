"""Recurrent kernels against the printed recursion in 40 digits, golden numbers, random networks."""

from __future__ import annotations

import pickle
from typing import Any

import mpmath as mp
import numpy as np
import pytest

import ntkfast as nf
from ntkfast import batch, engines, places
from ntkfast.command import cli
from ntkfast.engines import native
from ntkfast.features import NystromFeatures
from ntkfast.kernels import recurrence
from ntkfast.networks import recurrent
from ntkfast.spectrum import bounds, effective_dimension, extremes, mercer

ENGINES = [name for name in engines.NAMES if not engines.load(name).unavailable()]
GOLDEN = [[1.0, -0.5, 2.0], [0.3, 1.0, -1.0, 0.7]]


# ---- the recursion as it is printed, in 40 digits ------------------------------------------------


def relu(q: Any, p: Any, c: Any) -> tuple[Any, Any]:
    if q == 0 or p == 0:
        return mp.mpf(0), mp.mpf(1) / 4
    root = mp.sqrt(q * p)
    theta = mp.acos(max(min(c / root, 1), -1))
    value = root * (mp.sin(theta) + (mp.pi - theta) * mp.cos(theta)) / (2 * mp.pi)
    return value, (mp.pi - theta) / (2 * mp.pi)


def erf(q: Any, p: Any, c: Any) -> tuple[Any, Any]:
    rest = (1 + 2 * q) * (1 + 2 * p) - 4 * c * c
    return 2 / mp.pi * mp.atan2(2 * c, mp.sqrt(rest)), 4 / mp.pi / mp.sqrt(rest)


DUALS = {"relu": relu, "erf": erf}


def steps_of(net: nf.Recurrent, x: Any, y: Any, same: bool) -> list[tuple[Any, Any]]:
    """NNGP and NTK read out after each common step, the last one last; by the recursion."""
    dual = DUALS[net.activation.name]
    w2, u2, b2, h2, v2 = (
        mp.mpf(float(s)) ** 2 for s in (net.w_std, net.u_std, net.b_std, net.h_std, net.v_std)
    )
    x, y = (np.reshape(a, (len(a), -1)) for a in (x, y))
    qx, qy = (variances(net, a) for a in (x, y))
    common, outputs = min(len(x), len(y)), []
    sigma: list[Any] = []
    theta: list[Any] = []
    for k in range(common):
        i, j = len(x) - common + k, len(y) - common + k
        inner = mp.fsum(
            mp.mpf(float(a)) * mp.mpf(float(b)) for a, b in zip(x[i], y[j], strict=True)
        )
        new_sigma, new_theta = [], []
        for layer in range(net.depth):
            if k:
                v, slope = dual(qx[i - 1][layer], qy[j - 1][layer], sigma[layer])
                past, past_theta = w2 * v, w2 * slope * theta[layer]
            else:
                past, past_theta = (w2 * h2 if same else mp.mpf(0)), mp.mpf(0)
            if layer:
                v, slope = dual(qx[i][layer - 1], qy[j][layer - 1], new_sigma[-1])
                below, below_theta = u2 * v, u2 * slope * new_theta[-1]
            else:
                below, below_theta = u2 * inner / x.shape[1], mp.mpf(0)
            covariance = past + below + b2
            new_sigma.append(covariance)
            own = covariance if layer >= net.fixed_layers else 0
            new_theta.append(own + past_theta + below_theta)
        sigma, theta = new_sigma, new_theta
        v, slope = dual(qx[i][-1], qy[j][-1], sigma[-1])
        outputs.append((v2 * v, v2 * (v + slope * theta[-1])))
    return outputs


def variances(net: nf.Recurrent, x: Any) -> list[list[Any]]:
    dual = DUALS[net.activation.name]
    w2, u2, b2, h2 = (mp.mpf(float(s)) ** 2 for s in (net.w_std, net.u_std, net.b_std, net.h_std))
    found: list[list[Any]] = []
    for k, row in enumerate(x):
        here: list[Any] = []
        for layer in range(net.depth):
            past = w2 * (dual(*[found[k - 1][layer]] * 3)[0] if k else h2)
            if layer:
                below = u2 * dual(*[here[-1]] * 3)[0]
            else:
                below = u2 * mp.fsum(mp.mpf(float(a)) ** 2 for a in row) / x.shape[1]
            here.append(past + below + b2)
        found.append(here)
    return found


def oracle(net: nf.Recurrent, x: Any, y: Any, same: bool = False) -> np.ndarray:
    """NNGP and NTK of a pair."""
    total = np.zeros(2)
    with mp.workdps(40):
        for turn in (1, -1) if net.direction == "bidirectional" else (1,):
            outputs = steps_of(net, np.asarray(x)[::turn], np.asarray(y)[::turn], same)
            for which in range(2):
                values = [output[which] for output in outputs]
                value = values[-1] if net.readout == "last" else mp.fsum(values)
                if net.readout == "average_released":
                    value += values[-1]
                if net.readout in ("average_normalized", "average_released"):
                    value /= mp.sqrt(len(x) * len(y))
                total[which] += float(value)
    return total


def items(dtype: Any, channels: int = 1) -> list[np.ndarray]:
    """Ragged sequences with duplicates, opposites, zeros, close and very unequal ones."""
    rng = np.random.default_rng(3)
    found = [rng.normal(size=(t, channels)) for t in (1, 2, 3, 3, 5, 6)]
    found += [found[4].copy(), -found[4], 0 * found[2], 1e3 * found[3], 1e-4 * found[5]]
    found += [found[4] + 1e-6 * rng.normal(size=(5, channels))]
    return [item.astype(dtype) for item in found]


def compare(net: nf.Recurrent, X: list[np.ndarray], engine: str, constant: float) -> None:
    dtype = X[0].dtype
    pairs = [(i, j) for i in range(len(X)) for j in range(i, len(X))]
    exact = np.zeros((2, len(X), len(X)))
    for i, j in pairs:
        exact[:, i, j] = exact[:, j, i] = oracle(net, X[i], X[j], same=i == j)
    for which, kernel in enumerate((net.nngp, net.ntk)):
        found = kernel(X, engine=engine)
        assert found.dtype == dtype
        assert (found == found.T).all()
        scale = np.sqrt(np.outer(np.diag(exact[which]), np.diag(exact[which])))
        error = np.abs(found - exact[which]) / np.where(scale > 0, scale, 1)
        steps = max(map(len, X)) * net.depth
        assert error.max() <= constant * steps * np.finfo(dtype).eps, (which, error.max())
        np.testing.assert_array_equal(kernel.diag(X), np.diag(found))


NETWORKS = [
    nf.Recurrent(1),
    nf.Recurrent(1, u_std=0.5, b_std=0.1, h_std=0.7, v_std=1.3),
    nf.Recurrent(2, w_std=1.3, b_std=0.4, readout="average"),
    nf.Recurrent(3, w_std=1.2, b_std=0.2, h_std=0.5, fixed_layers=1, readout="average_normalized"),
    nf.Recurrent(2, b_std=0.1, direction="bidirectional", readout="average_released"),
    nf.Recurrent(1, activation="erf", w_std=1.1),
    nf.Recurrent(2, activation="erf", w_std=1.5, b_std=0.3, h_std=0.4, readout="average"),
]


@pytest.mark.grid(1)
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("net", NETWORKS, ids=repr)
def test_against_the_recursion(net: nf.Recurrent, dtype: Any, engine: str) -> None:
    compare(net, items(dtype), engine, 4.0)


@pytest.mark.grid(1)
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("channels", [3, 7])
def test_channels(channels: int, engine: str) -> None:
    compare(NETWORKS[1], items(np.float64, channels), engine, 4.0)
    compare(NETWORKS[2], items(np.float32, channels), engine, 4.0)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("depth", "golden"),
    [
        (1, (1.63875, 0.9105369955269937, 1.12375)),
        (2, (0.514375, 0.3298859280441976, 0.51734375)),
    ],
)
def test_golden(depth: int, golden: tuple[float, ...], engine: str) -> None:
    K = nf.Recurrent(depth, u_std=0.5, b_std=0.1).ntk(GOLDEN, engine=engine)
    np.testing.assert_allclose([K[0, 0], K[0, 1], K[1, 1]], golden, rtol=1e-14)


def test_finite_network() -> None:
    """Covariance and gradients of wide random networks, by hand-written reverse mode."""
    rng = np.random.default_rng(5)
    net = nf.Recurrent(1, w_std=1.2, u_std=0.8, b_std=0.3, h_std=0.6, v_std=1.1)
    x, y = rng.normal(size=(4, 2)), rng.normal(size=(3, 2))
    width, draws = 1500, 12
    sums = np.zeros((draws, 2, 2))
    for draw in range(draws):
        W, U = rng.normal(size=(width, width)), rng.normal(size=(width, 2))
        b, V = rng.normal(size=width), rng.normal(size=width)
        states, backs = [], []
        for sequence in (x, y):
            h = [net.h_std * rng.normal(size=width)]
            gates = []
            for step in sequence:
                g = net.w_std / width**0.5 * W @ h[-1] + net.b_std * b
                g += net.u_std / 2**0.5 * U @ step
                h.append(np.maximum(g, 0))
                gates.append(g > 0)
            back = [net.v_std / width**0.5 * V * gates[-1]]
            for gate in gates[-2::-1]:
                back.insert(0, net.w_std / width**0.5 * (W.T @ back[0]) * gate)
            states.append(h), backs.append(back)
        for a in range(2):
            for c in range(2):
                own = net.v_std**2 / width * states[a][-1] @ states[c][-1]
                total = own
                for s, left in enumerate(backs[a]):
                    for t, right in enumerate(backs[c]):
                        inner = net.w_std**2 / width * states[a][s] @ states[c][t] + net.b_std**2
                        inner += net.u_std**2 / 2 * (x, y)[a][s] @ (x, y)[c][t]
                        total += left @ right * inner
                sums[draw, a, c] = total
    mean, error = sums.mean(axis=0), sums.std(axis=0) / draws**0.5
    K = net.ntk([x, y])
    assert np.all(np.abs(mean - K) <= 5 * error + 0.02 * K.max())
    assert np.all(error < 0.1 * K.max())


def test_one_step_is_a_dense_network() -> None:
    X = np.random.default_rng(1).normal(size=(20, 3))
    net = nf.Recurrent(2, u_std=0.9, b_std=0.2, v_std=1.2, channels="last")
    dense = nf.compose(
        nf.Dense(0.9, 0.2),
        "relu",
        nf.Dense(0.9, 0.2),
        "relu",
        nf.Dense(1.2),
        parameterization="ntk",
    )
    np.testing.assert_allclose(net.ntk(X[:, None]), dense.ntk(X), rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose(net.nngp(X[:, None]), dense.nngp(X), rtol=1e-13, atol=1e-14)


def test_fixed_layers_leave_the_gaussian_process() -> None:
    net = nf.Recurrent(2, b_std=0.3, fixed_layers=2)
    np.testing.assert_allclose(net.ntk(items(np.float64)), net.nngp(items(np.float64)), rtol=1e-14)


def test_a_layer_above_with_no_weights_is_the_bias() -> None:
    """u_std = 0 cuts the input off: all sequences of one length have the same kernel."""
    K = nf.Recurrent(2, u_std=0.0, b_std=0.5).ntk(np.random.default_rng(0).normal(size=(4, 6)))
    np.testing.assert_allclose(K, K[0, 0], rtol=1e-14)


@pytest.mark.skipif("native" not in ENGINES, reason="needs the C++ extension")
@pytest.mark.parametrize(
    "activation",
    ["relu", "step", "erf", "gelu", "sin", "cos", "exp", "gaussian", "leaky_relu(0.2)"],
)
def test_compiled_numbers(activation: str) -> None:
    """What pairs multiply, by C++ and by NumPy, for every kind of activation and read-out."""
    X = nf.sequences([np.clip(x, -3, 3) for x in items(np.float64, 3)])
    order = np.argsort(X.lengths, kind="stable")
    lengths = X.lengths[order]
    layout = np.stack([X.first[order], np.cumsum(lengths) - lengths, lengths])
    for readout in recurrent.READOUTS:
        net = nf.Recurrent(
            2, w_std=0.6, u_std=0.5, b_std=0.2, h_std=0.3, activation=activation, readout=readout
        )
        for kernel in (net.ntk, net.nngp):
            plan = kernel.network.plan(kernel.kind, 3)
            for reverse in (False, True):
                arguments = net, plan, X.values, layout, reverse
                found, expected = recurrence.compiled(*arguments), recurrence.reference(*arguments)
                np.testing.assert_allclose(found[0], expected[0], rtol=1e-13, atol=1e-15)
                np.testing.assert_allclose(found[1], expected[1], rtol=1e-13)


def test_average_is_the_sum_over_prefixes() -> None:
    """Independent read-outs: the kernels of the common prefixes, counted from the end."""
    random = np.random.default_rng(8)
    x, y = random.normal(size=(7, 2)), random.normal(size=(5, 2))
    net = nf.Recurrent(2, b_std=0.2)
    parts = [net.ntk([x[: 7 - k]], [y[: 5 - k]])[0, 0] for k in range(5)]
    for readout, factor in (("average", 1), ("average_normalized", 35**-0.5)):
        found = nf.Recurrent(2, b_std=0.2, readout=readout).ntk([x], [y])[0, 0]
        np.testing.assert_allclose(found, factor * sum(parts), rtol=1e-13)
    found = nf.Recurrent(2, b_std=0.2, readout="average_released").ntk([x], [y])[0, 0]
    np.testing.assert_allclose(found, 35**-0.5 * (sum(parts) + parts[0]), rtol=1e-13)


def test_inputs_agree() -> None:
    X = np.random.default_rng(2).normal(size=(5, 7, 2))
    kernel = nf.Recurrent(1, b_std=0.1).ntk
    expected = kernel(X)
    np.testing.assert_array_equal(kernel(list(X)), expected)
    padded = np.full((5, 9, 2), np.nan)
    padded[:, :7] = X
    np.testing.assert_array_equal(kernel(nf.sequences(padded, lengths=[7] * 5)), expected)
    np.testing.assert_array_equal(kernel(X[::-1, :, ::-1]), kernel(X[::-1, :, ::-1].copy()))
    np.testing.assert_array_equal(kernel(X[..., 0]), kernel(X[..., :1]))
    assert kernel(np.ones((2, 3), int)).dtype == np.float64
    found = nf.sequences([np.ones((3, 2)), np.ones((5, 2))])
    assert (len(found), found[1].shape, found.channels) == (2, (5, 2), 2)
    assert len(found[[1, 1, 0]]) == 3
    assert pickle.loads(pickle.dumps(kernel)) == kernel


def test_independent_initial_states() -> None:
    x = np.ones((1, 3))
    kernel = nf.Recurrent(1, h_std=1.0).ntk
    alone, pair = kernel(x)[0, 0], kernel(x, x.copy())[0, 0]
    assert pair < alone
    K = kernel(np.vstack([x, x]))
    np.testing.assert_allclose(K, [[alone, pair], [pair, alone]], rtol=1e-14)
    V = np.eye(2)
    np.testing.assert_allclose(kernel.matmul(np.vstack([x, x]), None, V), K, rtol=1e-14)


@pytest.mark.parametrize("engine", ENGINES)
def test_many_sequences(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than one tile; threads, strides and products; definite."""
    rng = np.random.default_rng(4)
    X = [rng.normal(size=(t, 1)) for t in rng.integers(1, 40, 300)]
    kernel = nf.Recurrent(2, b_std=0.1, h_std=0.3, direction="bidirectional").ntk
    K = kernel(X, engine=engine, threads=1)
    for threads in (2, 7):
        np.testing.assert_array_equal(kernel(X, engine=engine, threads=threads), K)
    out = np.zeros((300, 600)).T[::-2]
    assert kernel(X, out=out, engine=engine) is out
    np.testing.assert_array_equal(out, K)
    Y = [rng.normal(size=(t, 1)) for t in rng.integers(1, 60, 70)]
    C = kernel(X, Y, engine=engine)
    np.testing.assert_allclose(kernel(Y, X, engine=engine).T, C, rtol=1e-12, atol=1e-13)
    for i, j in ((0, 0), (299, 69), (140, 33)):
        np.testing.assert_allclose(C[i, j], kernel([X[i]], [Y[j]])[0, 0], rtol=1e-12)
    V = rng.normal(size=(300, 3))
    monkeypatch.setattr(places.HOST, "panel_bytes", 100_000)
    np.testing.assert_allclose(kernel.matmul(X, None, V, engine=engine), K @ V, rtol=1e-11)
    assert np.linalg.eigvalsh(K)[0] > -1e-12 * np.trace(K)


@pytest.mark.slow  # Numba compiles
@pytest.mark.skipif("native" not in ENGINES, reason="needs the C++ extension")
@pytest.mark.parametrize("isa", native.available_isas())
@pytest.mark.parametrize("activation", ["relu", "erf", "gelu", "sin", "leaky_relu(0.2)"])
def test_engines_agree(isa: str, activation: str) -> None:
    for channels in (1, 6):
        X = items(np.float64, channels)
        X = [np.clip(x, -3, 3) for x in X]
        kernel = nf.Recurrent(2, w_std=1.1, b_std=0.2, activation=activation).ntk
        with native.force_isa(isa):
            found = kernel(X, engine="native")
        expected = kernel(X, engine="numba")
        size = np.sqrt(np.outer(np.diag(found), np.diag(found)))
        assert np.all(np.abs(found - expected) <= 1e-13 * size)


def test_everything_takes_them() -> None:
    rng = np.random.default_rng(6)
    X = [rng.normal(size=(t, 2)) for t in rng.integers(3, 12, 60)]
    kernel = nf.Recurrent(1, b_std=0.1).ntk
    K = kernel(X)
    found = extremes(kernel, X, k=2)
    np.testing.assert_allclose(found.largest, np.linalg.eigvalsh(K)[:-3:-1], rtol=1e-9)
    assert effective_dimension(kernel, X, [1.0]).values[0] > 0
    F = NystromFeatures(kernel, 60, random_state=0).fit_transform(X)
    np.testing.assert_allclose(F @ F.T, K, atol=1e-9 * K.max())


def test_batch(tmp_path: Any) -> None:
    X = np.random.default_rng(7).normal(size=(50, 6, 2))
    kernel = nf.Recurrent(1, h_std=0.5).ntk
    K = batch.gram(kernel, X, out=tmp_path / "K.npy", tile=16, progress=False)
    np.testing.assert_array_equal(K, kernel(X))
    with pytest.raises(ValueError, match=r"Y: expected shape \(\*, T, 2\), got \(50, 6\)"):
        batch.gram(kernel, X, X[..., 0], out=tmp_path / "C.npy")


def ragged_and_padded(count: int) -> tuple[nf.Sequences, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(9)
    lengths = rng.integers(1, 9, count)
    padded = rng.normal(size=(count, 8, 2))
    padded[np.arange(8) >= lengths[:, None]] = np.nan
    return nf.sequences(padded, lengths=lengths), padded, lengths


def test_batch_of_ragged_sequences_resumes(tmp_path: Any) -> None:
    X, padded, lengths = ragged_and_padded(50)
    kernel, out = nf.Recurrent(1, h_std=0.5).ntk, tmp_path / "K.npy"
    options: dict[str, Any] = {"out": out, "tile": 16, "progress": False}
    calls: list[Any] = []

    class Stopped(recurrent.RecurrentKernel):
        """The kernel, stopped before its fifth tile."""

        def __call__(self, X: Any, Y: Any = None, *, out: Any = None, **options: Any) -> Any:
            calls.extend([out] if out is not None else [])
            if len(calls) == 5:
                raise KeyboardInterrupt
            return super().__call__(X, Y, out=out, **options)

    stopped = Stopped(kernel.network, "ntk")
    with pytest.raises(KeyboardInterrupt):
        batch.gram(stopped, X, **options)
    changed = lengths.copy()
    changed[7] = lengths[7] % 7 + 1
    other = nf.sequences(np.where(np.isnan(padded), 0, padded), lengths=changed)
    with pytest.raises(batch.BatchError, match="contents of X"):
        batch.gram(kernel, other, **options)
    calls.extend([None] * 10)
    K = batch.gram(stopped, X, **options)
    assert len(calls) == 5 + 10 + 6  # 10 tiles in all, of which 4 were there
    np.testing.assert_array_equal(K, kernel(X))
    C = batch.gram(kernel, X, X[[3, 1]], out=tmp_path / "C.npy", progress=False, dtype="f4")
    np.testing.assert_allclose(C, kernel(X, X[[3, 1]]), rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match=r"X: expected rows of one .* ntkfast\.sequences\(list\)"):
        batch.gram(kernel, [[1.0], [1.0, 2.0]], out=tmp_path / "D.npy")  # type: ignore[arg-type]


def test_command_line(tmp_path: Any, capfd: pytest.CaptureFixture[str]) -> None:
    X, padded, lengths = ragged_and_padded(30)
    np.save(tmp_path / "X.npy", padded)
    np.save(tmp_path / "lengths.npy", lengths)
    np.savetxt(tmp_path / "lengths.csv", lengths[:10], fmt="%d")
    np.save(tmp_path / "Y.npy", padded[:10])
    x, y, out = (str(tmp_path / f"{name}.npy") for name in "XYK")
    first, second = str(tmp_path / "lengths.npy"), str(tmp_path / "lengths.csv")
    command = ["gram", x, "--network", "rntk", "--depth", "2", "--out", out, "--overwrite"]
    assert cli.main([*command, "--lengths", first, "--h-std", "0.5", "--tile", "16"]) == 0
    np.testing.assert_array_equal(np.load(out), nf.Recurrent(2, h_std=0.5).ntk(X))
    words = "--u-std 0.5 --b-std 0.1 --w-std 1.2 --v-std 2 --activation erf --kind nngp"
    words += " --direction bidirectional --readout average --fixed-layers 1"
    both = ["--lengths", first, "--Y", y, "--Y-lengths", second]
    assert cli.main([*command, *both, *words.split()]) == 0
    net = nf.Recurrent(
        2,
        w_std=1.2,
        u_std=0.5,
        b_std=0.1,
        v_std=2,
        activation="erf",
        direction="bidirectional",
        readout="average",
        fixed_layers=1,
    )
    np.testing.assert_array_equal(np.load(out), net.nngp(X, X[:10]))
    np.save(y, np.nan_to_num(padded[:, :, 0]))
    assert cli.main(["gram", y, *command[2:]]) == 0  # a matrix is scanned along its rows
    np.testing.assert_array_equal(np.load(out), nf.Recurrent(2).ntk(np.load(y)))
    capfd.readouterr()
    for wrong, message in (
        (["--lengths", second], "--lengths: expected 30 integers, got shape (10,)"),
        (["--lengths", x], "X.npy: expected lengths (n,), got shape (30, 8, 2)"),
        (["--Y-lengths", second], "--Y-lengths needs --Y"),
        ([], "X: expected finite numbers, row 0"),
        (["--readout", "gap"], "--readout: expected one of"),
    ):
        assert cli.main([*command, *wrong]) == 2
        assert message in capfd.readouterr().err
    assert cli.main(["gram", y, "--network", "fc", *command[4:], "--lengths", first]) == 2
    assert "--lengths belongs to recurrent networks" in capfd.readouterr().err


@pytest.mark.parametrize("use", [lambda k: mercer(k, 3, 10), lambda k: bounds(k, np.eye(3))])
def test_no_profile(use: Any) -> None:
    with pytest.raises(TypeError, match=r"kernel: expected a kernel of rows .* got Recurrent\(1\)"):
        use(nf.Recurrent(1).ntk)


@pytest.mark.parametrize(
    ("X", "error", "message"),
    [
        ([], ValueError, "X: expected at least one sequence"),
        ([[1.0], []], ValueError, r"X\[1\]: expected a sequence .* got shape \(0, 1\)"),
        ([np.ones((2, 2)), np.ones((2, 3))], ValueError, r"X\[1\]: expected 2 channels"),
        ([[1.0, 2.0], [1.0, np.nan]], ValueError, "X: .* sequence 1 holds NaN"),
        (np.full((2, 3), np.inf), ValueError, "sequence 0 holds NaN or infinity; sequences of"),
        (np.ones(3), ValueError, r"X: expected shape \(n, T, m\) or \(n, T\), got \(3,\)"),
        (np.ones((2, 0)), ValueError, "X: expected sequences with steps"),
        ([np.ones(2, complex)], TypeError, r"X\[0\]: expected float32"),
        (np.full((1, 3), 1e200), ValueError, "X: the kernel of sequence 0 overflows float64"),
    ],
)
def test_bad_input(X: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        nf.Recurrent(1).ntk(X)


def test_bad_arguments() -> None:
    kernel = nf.Recurrent(1).ntk
    with pytest.raises(ValueError, match="Y: expected sequences of 2 channels, got 3"):
        kernel(np.ones((1, 4, 2)), np.ones((1, 4, 3)))
    with pytest.raises(ValueError, match="lengths: expected 1 to 3, sequence 1 has 4"):
        nf.sequences(np.ones((2, 3)), lengths=[1, 4])
    with pytest.raises(ValueError, match="fixed_layers: expected at most the depth, 1, got 2"):
        nf.Recurrent(1, fixed_layers=2)
    with pytest.raises(ValueError, match="activation: expected one with a closed form"):
        nf.Recurrent(1, activation="tanh")
    X = np.ones((2, 2))
    with pytest.raises(ValueError, match="out: expected memory of its own, it overlaps X"):
        kernel(X, out=X)


@pytest.mark.parametrize("engine", ["numba", *(["native"] if native.available_isas() else [])])
@pytest.mark.parametrize("depth", [1, 2])
def test_close_and_opposite_sequences(depth: int, engine: str) -> None:
    """A hundred steps of a chaotic network keep what two sequences differ by, at both ends."""
    rng = np.random.default_rng(0)
    net = nf.Recurrent(depth, activation="erf", w_std=1.6, u_std=1.0, b_std=0.0, h_std=0.0)
    x = rng.standard_normal((100, 2))
    for y in (x + 1e-5 * rng.standard_normal(x.shape), -x):
        wanted, own = oracle(net, x, y), oracle(net, x, x)
        found = [net.nngp([x], [y], engine=engine)[0, 0], net.ntk([x], [y], engine=engine)[0, 0]]
        assert np.all(np.abs(found - wanted) <= 2 * 100 * np.finfo(np.float64).eps * own)


def test_an_array_of_arrays_is_a_list() -> None:
    """As pandas and older files have them."""
    parts = [np.ones((3, 2)), np.full((5, 2), 0.5)]
    column = np.empty(2, object)
    column[:] = parts
    kernel = nf.Recurrent(1).ntk
    np.testing.assert_array_equal(kernel(column), kernel(parts))
    np.testing.assert_array_equal(nf.sequences(column).lengths, [3, 5])
