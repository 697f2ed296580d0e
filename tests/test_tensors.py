"""Kernels of tensors in PyTorch, GPyTorch and JAX: gradients, by differences, and short fits."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

import ntkfast as nf

rng = np.random.default_rng(0)
A, B = rng.standard_normal((6, 3)), rng.standard_normal((4, 3))
KERNELS = {
    "profile": (nf.ResNet(2, alpha=0.5), {"alpha": 0.5}),
    "layers": (nf.FullyConnected(2, activation="erf", bias=0.3), {"bias": 0.4}),
    "scales": (
        nf.Gaussian(0.3).ard([1.0, 2.0, 0.5]) * nf.FullyConnected(1, bias=0.2).ntk,
        {"k1.length_scales.2": 0.7, "k2.bias": 0.3},
    ),
}


# ---- PyTorch -------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", KERNELS.values(), ids=KERNELS)
def test_gradients_in_pytorch(case: Any) -> None:
    torch = pytest.importorskip("torch")
    network, parameters = case
    k = nf.torch.kernel(network)
    X, Y, V = (torch.tensor(one, requires_grad=True) for one in (A, B, rng.standard_normal((4, 2))))
    values = [
        torch.tensor(value, dtype=X.dtype, requires_grad=True) for value in parameters.values()
    ]

    def given(some: Any) -> dict[str, Any]:
        return dict(zip(parameters, some, strict=True))

    plain = k.kernel.with_parameters(parameters)
    assert np.array_equal(k(X, parameters=given(values)).detach().numpy(), plain(A))
    assert np.array_equal(k(X, Y, parameters=parameters).detach().numpy(), plain(A, B))
    np.testing.assert_allclose(k.diag(X, parameters=parameters).detach(), plain.diag(A), rtol=1e-14)
    check = torch.autograd.gradcheck
    assert check(lambda X, Y, *some: k(X, Y, parameters=given(some)), (X, Y, *values))
    assert check(lambda X, *some: k(X, parameters=given(some)), (X, *values))
    assert check(lambda X, *some: k.diag(X, parameters=given(some)), (X, *values))
    assert check(
        lambda X, Y, V, *some: k.matmul(X, Y, V, parameters=given(some)), (X, Y, V, *values)
    )
    W = torch.tensor(rng.standard_normal(6), requires_grad=True)
    assert check(lambda X, W: k.matmul(X, None, W), (X, W))


def test_images_and_sequences_in_pytorch() -> None:
    torch = pytest.importorskip("torch")
    images = torch.tensor(rng.standard_normal((2, 3, 3, 2)), requires_grad=True)
    check = torch.autograd.gradcheck
    assert check(nf.torch.kernel(nf.Convolutional(1, readout="gap")), (images,))
    k = nf.torch.kernel(nf.Recurrent(1, b_std=0.2))
    X, Y = (torch.tensor(rng.standard_normal((2, T)), requires_grad=True) for T in (4, 5))
    assert check(k, (X, Y))


def test_corners_of_pytorch() -> None:
    torch = pytest.importorskip("torch")
    k = nf.torch.kernel(nf.FullyConnected(2))
    X = torch.tensor(
        np.vstack([A, A[:1], -A[:1], 0 * A[:1]]), dtype=torch.float32, requires_grad=True
    )
    K = k(X)
    assert K.dtype == torch.float32
    (slope,) = torch.autograd.grad(K.sum(), X, create_graph=True)
    assert torch.isfinite(slope).all()  # of rows that repeat, too
    with pytest.raises(RuntimeError, match="kernel: second derivatives are not known"):
        slope.sum().backward()
    with pytest.raises(RuntimeError, match="kernel: second derivatives are not known"):
        (slope,) = torch.autograd.grad(k.matmul(X, None, X).sum(), X, create_graph=True)
        slope.sum().backward()
    with pytest.raises(ValueError, match="colour"):
        k(X, colour=1.0)
    with pytest.raises(ValueError, match="w_std: expected one number, got 2"):
        k(X, w_std=torch.ones(2))
    with pytest.raises(TypeError, match="X: expected a tensor, got ndarray"):
        k(A)
    with pytest.raises(TypeError, match="X: expected a tensor on the CPU or CUDA"):
        k(X.to("meta"))


def test_a_module_learns() -> None:
    """Parameters by which the kernel was made are found again from its matrix."""
    torch = pytest.importorskip("torch")
    wanted = nf.FullyConnected(2, bias=0.8).ntk
    target, X = torch.tensor(wanted(A)), torch.tensor(A)
    assert sorted(nf.torch.NTKModule(nf.FullyConnected(2, bias=0.2)).logs) == ["bias", "w_std"]
    model = nf.torch.NTKModule(nf.FullyConnected(2, bias=0.2), learn=["bias"])
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=10, line_search_fn="strong_wolfe")

    def loss() -> Any:
        optimizer.zero_grad()
        value = (model(X) - target).square().mean()
        value.backward()
        return value

    optimizer.step(loss)
    assert model.kernel.parameters() == pytest.approx(wanted.parameters(), rel=1e-3)
    other = nf.torch.NTKModule(nf.FullyConnected(2, bias=0.2), learn=["bias"])
    other.load_state_dict(model.state_dict())
    assert other.kernel == model.kernel == pickle.loads(pickle.dumps(model)).kernel
    assert repr(model.kernel) in repr(model)
    with pytest.raises(ValueError, match="learn: bias"):
        nf.torch.NTKModule(nf.FullyConnected(2), learn=["bias"])
    with pytest.raises(ValueError, match="learn: expected one of"):
        nf.torch.NTKModule(nf.FullyConnected(2), learn=["alpha"])


# ---- GPyTorch ------------------------------------------------------------------------------------


def test_gpytorch_trains() -> None:
    torch, gpytorch = pytest.importorskip("torch"), pytest.importorskip("gpytorch")
    g = np.random.default_rng(1)
    X = torch.tensor(g.uniform(-1, 1, (25, 3)))
    y = torch.sin(3 * X[:, 0]) + 0.05 * torch.tensor(g.standard_normal(25))
    inner = nf.gpytorch.NTKKernel(
        nf.FullyConnected(2, bias=0.3),
        learn=["bias"],
        ard_num_dims=3,
        lengthscale_prior=gpytorch.priors.GammaPrior(3.0, 2.0),
        priors={"bias": gpytorch.priors.GammaPrior(2.0, 2.0)},
        constraints={"bias": gpytorch.constraints.Interval(0.01, 5.0)},
    )

    class Model(gpytorch.models.ExactGP):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__(X, y, gpytorch.likelihoods.GaussianLikelihood())
            self.mean, self.covariance = (
                gpytorch.means.ZeroMean(),
                gpytorch.kernels.ScaleKernel(inner),
            )

        def forward(self, x: Any) -> Any:
            return gpytorch.distributions.MultivariateNormal(self.mean(x), self.covariance(x))

    model = Model().double()
    likelihood = gpytorch.mlls.ExactMarginalLogLikelihood(model.likelihood, model)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.2)
    losses = []
    for _ in range(12):
        optimizer.zero_grad()
        loss = -likelihood(model(X), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.3
    lengths = inner.lengthscale.detach().numpy()[0]
    assert lengths[0] < min(lengths[1:])  # the column that matters
    bias = inner.values()["bias"].item()
    assert 0.01 < bias < 5 and bias != pytest.approx(0.3, abs=1e-3)
    model.eval()
    Z = torch.tensor(g.uniform(-1, 1, (5, 3)))
    with torch.no_grad():
        mean = model(Z).mean
    K = nf.FullyConnected(2, bias=bias).ntk.ard(lengths.tolist())
    scale, noise = model.covariance.outputscale.item(), model.likelihood.noise.item()
    weights = np.linalg.solve(scale * K(X.numpy()) + noise * np.eye(25), y.numpy())
    np.testing.assert_allclose(mean.numpy(), scale * K(Z.numpy(), X.numpy()) @ weights, rtol=1e-5)


def test_kernels_of_gpytorch() -> None:
    torch, gpytorch = pytest.importorskip("torch"), pytest.importorskip("gpytorch")
    X, Y = torch.tensor(A, requires_grad=True), torch.tensor(B, requires_grad=True)
    kernel = nf.gpytorch.NTKKernel(nf.FullyConnected(2)).double()
    plain = nf.FullyConnected(2).ntk
    np.testing.assert_allclose(kernel(X, Y).to_dense().detach(), plain(A, B), rtol=1e-14)
    batch = kernel(torch.stack([X, 2 * X]), Y).to_dense()
    np.testing.assert_allclose(batch.detach(), [plain(A, B), plain(2 * A, B)], rtol=1e-13)
    np.testing.assert_allclose(kernel(X, X, diag=True).detach(), plain.diag(A), rtol=1e-13)
    own = np.diagonal(plain(A[:4], B))
    np.testing.assert_allclose(kernel(X[:4], Y, diag=True).detach(), own, rtol=1e-13)
    assert torch.autograd.gradcheck(lambda X, Y: kernel(X, Y).to_dense(), (X, Y))
    assert torch.autograd.gradcheck(lambda X: kernel(X, X).to_dense(), (X,))
    assert gpytorch.kernels.ScaleKernel(kernel)(X).shape == (6, 6)
    with pytest.raises(ValueError, match="priors: expected one of"):
        nf.gpytorch.NTKKernel(nf.FullyConnected(2), priors={"bias": None})


def test_botorch_fits() -> None:
    torch, botorch = pytest.importorskip("torch"), pytest.importorskip("botorch")
    from botorch.models import SingleTaskGP
    from gpytorch.kernels import ScaleKernel
    from gpytorch.mlls import ExactMarginalLogLikelihood

    g = np.random.default_rng(2)
    X = torch.tensor(g.uniform(0, 1, (25, 2)))
    y = torch.sin(6 * X[:, :1])
    covariance = ScaleKernel(nf.gpytorch.NTKKernel(nf.Gaussian(0.5), ard_num_dims=2))
    model = SingleTaskGP(X, y, covar_module=covariance)
    botorch.fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
    points = torch.tensor(g.uniform(0, 1, (20, 2)))
    mean = model.posterior(points).mean
    assert (mean - torch.sin(6 * points[:, :1])).abs().max() < 0.05


# ---- JAX -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", KERNELS.values(), ids=KERNELS)
def test_gradients_in_jax(case: Any) -> None:
    jax = pytest.importorskip("jax")
    from jax.test_util import check_grads

    network, parameters = case
    k = nf.jax.kernel(network)
    with jax.enable_x64(True):
        plain = getattr(network, "ntk", network).with_parameters(parameters)
        np.testing.assert_allclose(jax.jit(k)(A, B, parameters), plain(A, B), rtol=1e-15)
        check_grads(k, (A, B, parameters), order=1, modes=["rev"], atol=1e-6, rtol=1e-6)
        check_grads(
            lambda X, some: k(X, None, some), (A, parameters), 1, ["rev"], atol=1e-6, rtol=1e-6
        )


def test_jax_learns() -> None:
    jax = pytest.importorskip("jax")
    k = nf.jax.kernel(nf.FullyConnected(2))
    target = nf.FullyConnected(2, w_std=1.1).ntk(A.astype(np.float32))

    @jax.jit
    def step(w: Any) -> Any:
        value, slope = jax.value_and_grad(
            lambda w: ((k(A, parameters={"w_std": w}) - target) ** 2).mean()
        )(w)
        return w - 4e-3 * slope, value

    w = jax.numpy.float32(1.3)
    for _ in range(25):
        w, _ = step(w)
    assert float(w) == pytest.approx(1.1, abs=1e-3)
    several = jax.vmap(lambda X: k(X).sum())(np.stack([A, 2 * A]))
    np.testing.assert_allclose(several[1], 4 * several[0], rtol=1e-5)
    with pytest.raises(TypeError, match="kernel: second derivatives are not known"):
        jax.grad(lambda X: jax.grad(lambda X: k(X).sum())(X).sum())(A)
