"""Empirical NTKs by automatic differentiation, against those of factors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ntkfast.finite import MLP, empirical_ntk

NET = MLP((5, 16, 12, 3), "tanh", b_std=0.2)
rng = np.random.default_rng(0)
X, Y = rng.normal(size=(10, 5)), rng.normal(size=(7, 5))


def torch_model() -> Any:
    """Return the network in the parameterisation of the kernel: factors outside of weights."""
    torch = pytest.importorskip("torch")

    class Scaled(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.W = torch.nn.ParameterList([torch.from_numpy(W.copy()) for W in NET.weights])
            self.b = torch.nn.ParameterList([torch.from_numpy(b.copy()) for b in NET.biases])

        def forward(self, x: Any) -> Any:
            for layer, (W, b) in enumerate(zip(self.W, self.b, strict=True)):
                scale, offset = NET.scales(layer)
                x = x @ (scale * W) + offset * b
                x = torch.tanh(x) if layer < NET.depth else x
            return x

    return Scaled()


def jax_model() -> tuple[Any, Any]:
    jax = pytest.importorskip("jax")

    def network(params: Any, x: Any) -> Any:
        for layer, (W, b) in enumerate(params):
            scale, offset = NET.scales(layer)
            x = scale * x @ W + offset * b
            x = jax.numpy.tanh(x) if layer < NET.depth else x
        return x

    single = [
        (W.astype(np.float32), b.astype(np.float32))
        for W, b in zip(NET.weights, NET.biases, strict=True)
    ]
    return network, single


@pytest.mark.parametrize("outputs", ["mean", "all"])
@pytest.mark.parametrize("other", [None, Y])
def test_torch(outputs: str, other: Any) -> None:
    model = torch_model()
    wanted = NET.ntk(X, other) if outputs == "mean" else NET.output_ntk(X, other)
    found = empirical_ntk(model, X, other, outputs=outputs, batch_size=4)
    np.testing.assert_allclose(found, wanted, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("outputs", ["mean", "all"])
@pytest.mark.parametrize("other", [None, Y])
def test_jax(outputs: str, other: Any) -> None:
    network, params = jax_model()
    wanted = NET.ntk(X, other) if outputs == "mean" else NET.output_ntk(X, other)
    found = empirical_ntk(network, X, other, params=params, outputs=outputs, batch_size=4)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, rtol=2e-4, atol=2e-4)


def test_some_parameters() -> None:
    model = torch_model()
    layer = MLP((5, 16, 12, 3), "tanh", b_std=0.2, trained=[False, True, False]).ntk(X)
    named = empirical_ntk(model, X, parameters=["W.1", "b.1"])
    np.testing.assert_allclose(named, layer, rtol=1e-11)
    by_rule = empirical_ntk(model, X, parameters=lambda name: name.endswith(".1"))
    np.testing.assert_allclose(by_rule, layer, rtol=1e-11)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.endswith(".1"))
    np.testing.assert_allclose(empirical_ntk(model, X), layer, rtol=1e-11)
    with pytest.raises(ValueError, match=r"parameters: expected some of .* got \['W.9'\]"):
        empirical_ntk(model, X, parameters=["W.9"])


def test_some_parameters_in_jax() -> None:
    network, params = jax_model()
    layer = MLP((5, 16, 12, 3), "tanh", b_std=0.2, trained=[False, True, False]).ntk(X)
    found = empirical_ntk(network, X, params=params, parameters=lambda name: name.startswith("[1]"))
    np.testing.assert_allclose(found, layer, rtol=2e-4, atol=2e-4)


def test_what_is_no_model() -> None:
    pytest.importorskip("torch")
    with pytest.raises(TypeError, match="model: expected a torch"):
        empirical_ntk(np.sin, X)
