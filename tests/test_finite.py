"""Finite networks: kernels without the Jacobian, derivatives, limits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import ntkfast as nf
from ntkfast.finite import MLP, Orthogonal, Sparse

rng = np.random.default_rng(0)
X, Y = rng.normal(size=(7, 4)), rng.normal(size=(5, 4))
EPS = np.finfo(np.float64).eps
WIDTH, DRAWS = 128, 16

NETS = {
    "relu": MLP((4, 9, 8, 1)),
    "tanh with biases": MLP((4, 9, 8, 1), "tanh", w_std=1.5, b_std=0.3),
    "residual, several outputs": MLP((4, 8, 8, 8, 3), "erf", residual=0.5, b_std=0.2, rng=1),
    "orthogonal": MLP((4, 9, 8, 2), "gelu", init="orthogonal", b_std=0.1, zero_bias=True),
    "first layer only": MLP((4, 9, 1), "softplus", b_std=[1, 0], trained=[True, False]),
    "sparse": MLP((4, 30, 20, 1), "erf", init="sparse", w_std=[1, 2, 3]),
    "linear": MLP((4, 2)),
}
every_net = pytest.mark.parametrize("net", NETS.values(), ids=NETS)


def shifted(net: MLP, direction: tuple[list[Any], list[Any]], step: float) -> MLP:
    """Return the network with its weights and biases moved along a direction."""
    W = [w + step * d for w, d in zip(net.weights, direction[0], strict=True)]
    return net.with_parameters(
        W, [b + step * d for b, d in zip(net.biases, direction[1], strict=True)]
    )


@every_net
def test_kernel_is_that_of_the_jacobian(net: MLP) -> None:
    J, JY = net.gradients(X), net.gradients(Y)
    full = np.einsum("iap,jbp->ijab", J, JY)
    scale = 64 * EPS * np.abs(full).max()
    np.testing.assert_allclose(net.output_ntk(X, Y), full, atol=scale)
    mean = np.einsum("ijaa->ij", full) / net.widths[-1]
    np.testing.assert_allclose(net.ntk(X, Y), mean, atol=scale)
    np.testing.assert_allclose(net.layer_ntks(X, Y).sum(axis=0), mean, atol=scale)
    np.testing.assert_allclose(net.ntk.diag(X), np.diag(net.ntk(X)), rtol=0)
    np.testing.assert_array_equal(net.ntk(X), net.ntk(X).T)


@every_net
def test_gradients_by_finite_differences(net: MLP) -> None:
    """Directional derivatives along random directions, central differences with step 1e-6."""
    g = np.random.default_rng(1)
    direction = (
        [g.normal(size=w.shape) * t for w, t in zip(net.weights, net.trained, strict=True)],
        [
            g.normal(size=b.shape) * (t and s > 0)
            for b, t, s in zip(net.biases, net.trained, net.b_std, strict=True)
        ],
    )
    flat = [
        np.append(w.ravel(), b if s else [])
        for w, b, t, s in zip(*direction, net.trained, net.b_std, strict=True)
        if t
    ]
    slope = (shifted(net, direction, 1e-6)(X) - shifted(net, direction, -1e-6)(X)) / 2e-6
    found = net.gradients(X) @ np.concatenate(flat)
    np.testing.assert_allclose(found, slope, atol=1e-8 * np.abs(found).max())
    V = g.normal(size=(len(X), net.widths[-1]))
    W, b = net.pull_back(X, V)
    pulled = sum(np.vdot(one, d) for one, d in zip(W + b, direction[0] + direction[1], strict=True))
    assert pulled == pytest.approx(float(np.vdot(V, slope)), rel=1e-6)
    after = net.step(X, V)
    moved = [*(p - q for p, q in zip(after.weights, net.weights, strict=True)),
             *(p - q for p, q in zip(after.biases, net.biases, strict=True))]  # fmt: skip
    for found_, wanted in zip(moved, W + b, strict=True):
        np.testing.assert_allclose(found_, wanted, atol=1e-13 * (1 + np.abs(wanted).max()))
    with pytest.raises(ValueError, match=r"V: expected shape \(7, "):
        net.step(X, V[1:])


@every_net
def test_input_gradients_by_finite_differences(net: MLP) -> None:
    for j, e in enumerate(np.eye(4)):
        slope = (net(X + 1e-6 * e) - net(X - 1e-6 * e)) / 2e-6
        np.testing.assert_allclose(net.input_gradients(X)[:, :, j], slope, atol=1e-7)


@pytest.mark.parametrize("kind", ["ntk", "nngp"])
def test_tiles(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Matrices and products in tiles are those in one piece; float32 is kept."""
    k = getattr(NETS["tanh with biases"], kind)
    whole, V = k(X), rng.normal(size=(7, 2))
    monkeypatch.setattr(MLP, "tile_rows", 3)
    np.testing.assert_allclose(k(X), whole, rtol=1e-13)
    np.testing.assert_array_equal(k(X), k(X).T)
    np.testing.assert_array_equal(np.diag(k(X)), k.diag(X))
    np.testing.assert_allclose(k.matmul(X, None, V), whole @ V, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(k.matmul(Y, X, V), k(Y, X) @ V, rtol=1e-12, atol=1e-12)
    single = k(X.astype(np.float32))
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, whole, rtol=2e-5, atol=2e-5)


LIMITS = {
    "relu": {"activation": "relu"},
    "erf with biases": {"activation": "erf", "w_std": 1.5, "b_std": 0.3},
    "zero biases": {"activation": "relu", "b_std": 0.5, "zero_bias": True},
    "residual": {"activation": "relu", "residual": 0.7, "b_std": 0.2},
    "partly trained": {"activation": "tanh", "trained": [True, False, True, False]},
    "layers that differ": {"activation": "relu", "w_std": [1, 2, 1.5, 0.7]},
}


@pytest.mark.grid(1)
@pytest.mark.parametrize("init", ["gaussian", "orthogonal"])
@pytest.mark.parametrize("options", LIMITS.values(), ids=LIMITS)
def test_limit(options: dict[str, Any], init: Any) -> None:
    """Means over draws meet the kernels of the limit within 4 standard errors plus O(1/m)."""
    meets_its_limit(MLP((4, *[WIDTH] * 3, 1), init=init, **options), X)


@pytest.mark.parametrize(
    "init", [Sparse(0.3), Sparse(0.5, "sign"), Sparse(1.0, "uniform")], ids=repr
)
def test_limit_of_sparse_weights(init: Sparse) -> None:
    """Sums over many columns are Gaussian too."""
    meets_its_limit(MLP((200, WIDTH, WIDTH, 1), init=init), rng.normal(size=(4, 200)))


def meets_its_limit(net: MLP, points: np.ndarray) -> None:
    for kind in ("ntk", "nngp"):
        samples = np.array([getattr(net.redraw(seed), kind)(points) for seed in range(DRAWS)])
        error = samples.std(axis=0, ddof=1) / np.sqrt(DRAWS)
        exact = getattr(net.limit, kind)(points)
        allowed = 4 * error + 6 / WIDTH * np.sqrt(np.outer(np.diag(exact), np.diag(exact)))
        assert np.all(np.abs(samples.mean(axis=0) - exact) <= allowed)


def test_limit_is_the_network_of_the_package() -> None:
    net = MLP((4, 5, 5, 1), "erf", w_std=1.5, b_std=0.1)
    same = nf.FullyConnected(2, activation="erf", parameterization="ntk", w_std=1.5, b_std=0.1)
    np.testing.assert_allclose(net.limit.ntk(X), same.ntk(X), rtol=1e-14)


@pytest.mark.parametrize("shape", [(6, 6), (3, 8), (8, 3), (5, 1)])
def test_orthogonal(shape: tuple[int, int]) -> None:
    W = Orthogonal()(shape, np.random.default_rng(0))
    assert W.shape == shape
    small = W @ W.T if shape[0] <= shape[1] else W.T @ W
    np.testing.assert_allclose(small, max(shape) * np.eye(min(shape)), atol=1e-13)


@pytest.mark.parametrize("law", ["gaussian", "uniform", "sign"])
def test_sparse(law: str) -> None:
    W = Sparse(0.2, law)((400, 500), np.random.default_rng(0))
    assert np.mean(W != 0) == pytest.approx(0.2, abs=0.005)
    assert np.var(W) == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (((3,),), {}, "widths: expected at least input and output"),
        (((3, 0, 1),), {}, "widths: expected an integer >= 1"),
        (((3, 4, 1),), {"w_std": [1, 2, 3]}, "w_std: expected one value or 2, got 3"),
        (((3, 4, 1),), {"b_std": -1.0}, "b_std: expected a finite number >= 0"),
        (((3, 4, 1),), {"init": "normal"}, "init: expected one of 'gaussian'"),
    ],
)
def test_errors(arguments: Any, options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MLP(*arguments, **options)


def test_wrong_inputs() -> None:
    net = NETS["relu"]
    with pytest.raises(ValueError, match=r"X: expected shape \(\*, 4\), got \(7, 3\)"):
        net(X[:, :3])
    with pytest.raises(ValueError, match=r"Y: expected shape \(\*, 4\), got \(5, 3\)"):
        net.ntk(X, Y[:, :3])
    with pytest.raises(ValueError, match="density: expected a number <= 1"):
        Sparse(1.5)
    with pytest.raises(ValueError, match="weights: expected shapes"):
        net.with_parameters(net.weights[:1], net.biases)


def test_mean_kernel() -> None:
    net = MLP((4, 10, 1), "erf")
    found = nf.finite.mean_kernel(net, X, Y, n_draws=5, rng=3)
    samples = [net.redraw(np.random.default_rng([3, draw])).ntk(X, Y) for draw in range(5)]
    np.testing.assert_allclose(found.mean, np.mean(samples, axis=0), rtol=1e-12)
    error = np.std(samples, axis=0, ddof=1) / np.sqrt(5)
    np.testing.assert_allclose(found.standard_error, error, rtol=1e-10)


@pytest.mark.parametrize(
    ("activation", "depth", "published"),
    [
        ("erf", 1, {"gaussian": (0.269, 0.131), "orthogonal": (0.167, 0.085)}),
        ("relu", 3, {"gaussian": (0.422, 0.223), "orthogonal": (0.365, 0.170)}),
    ],
)
def test_convergence(activation: str, depth: int, published: dict[str, Any]) -> None:
    """Errors of single networks of width 64 and 256 as measured independently, on other draws."""
    points = np.random.default_rng(0).normal(size=(20, 64))
    options: dict[str, Any] = {"w_std": 1.5, "b_std": 0.1, "n_repeats": 6}
    found = nf.finite.convergence(points, (64, 256), depth=depth, activation=activation, **options)
    for name, errors in published.items():
        # the published numbers are one draw each: three standard deviations of a draw
        allowed = 3 * found.standard_errors[name] * np.sqrt(6 + 1)
        assert np.all(np.abs(found.errors[name] - errors) <= allowed)
        assert found.slopes[name] == pytest.approx(-0.5, abs=0.2)
    averaged = nf.finite.convergence(
        points, (64, 256), activation=activation, depth=depth, n_draws=8, **options
    )
    assert np.all(averaged.errors["gaussian"] < 0.6 * found.errors["gaussian"])
    pytest.importorskip("matplotlib")
    figure = nf.plot.convergence(found)
    assert len(figure.axes) == 1


def test_convergence_errors() -> None:
    with pytest.raises(ValueError, match="widths: expected at least two, got 1"):
        nf.finite.convergence(X, (8,))
    with pytest.raises(ValueError, match="kind: expected one of"):
        nf.finite.convergence(X, (8, 16), kind="both")
