"""Upper bounds of the RKHS norm of networks, against norms from Fourier series on the circle."""

from __future__ import annotations

import numpy as np
import pytest

import ntkfast as nf
from ntkfast.finite import MLP
from ntkfast.statistics import composition, rkhs_norm

NODES = 4096
# An activation, one whose dual has all of its powers, and a gain for which the bounds are finite.
PAIRS = [
    ("gelu", "relu", 0.7),
    ("softplus", "relu", 0.6),
    ("sin", "step", 0.9),
    ("erf", "step", 0.6),
    ("tanh", "step", 0.5),
    ("exp", "exp", 0.7),
    ("gaussian", "relu", 0.4),
]


def norm_on_the_circle(net: MLP, kernel: nf.Kernel) -> float:
    """``sum_k |f_k|^2 / lambda_k``, both from the discrete Fourier transform."""
    angles = 2 * np.pi * np.arange(NODES) / NODES
    Z = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    f = np.fft.fft(net(Z)[:, 0]) / NODES
    eigenvalues = np.fft.fft(kernel(Z[:1], Z)[0]).real / NODES
    seen = np.abs(f) > 1e-9 * np.abs(f).max()  # above the rounding of the eigenvalues
    return float(np.sqrt(np.sum(np.abs(f[seen]) ** 2 / eigenvalues[seen])))


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize(("activation", "dual", "gain"), PAIRS)
def test_norm_on_the_circle_is_below(activation: str, dual: str, gain: float, depth: int) -> None:
    kernel = nf.FullyConnected(depth, activation=dual).nngp
    for seed in range(3):
        net = MLP((2, *[20] * depth, 1), activation, w_std=gain, rng=seed)
        exact, found = norm_on_the_circle(net, kernel), rkhs_norm.upper_bounds(net, kernel=kernel)
        assert found.norm is not None and found.norm_by_spectra is not None
        assert exact <= found.norm[0] * (1 + 1e-6)
        assert found.norm[0] <= found.norm_by_spectra[0] * (1 + 1e-9)
        if depth == 1:  # one step from the exact inner products of linear functions
            assert found.norm[0] < 4 * exact


@pytest.mark.parametrize(("activation", "dual"), [("gelu", "relu"), ("sin", "step")])
def test_many_dimensions(activation: str, dual: str) -> None:
    """Powers of many variables are nearly independent: the bound is nearly reached."""
    X = np.random.default_rng(0).normal(size=(600, 10))
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    kernel = nf.FullyConnected(1, activation=dual).nngp
    net = MLP((10, 30, 2), activation, w_std=0.7)
    low = rkhs_norm.lower_bounds(net, X, kernel=kernel).interpolation
    high = rkhs_norm.upper_bounds(net, kernel=kernel).norm
    assert low is not None and high is not None
    assert np.all(low <= high)
    assert np.all(high < 1.6 * low)


def test_a_linear_network_reaches_its_bound() -> None:
    """Of the arc-cosine kernel a linear function v.x has the norm sqrt(2) |v|: b_1 = 1/2."""
    net = MLP((6, 5, 3), "identity", w_std=[1.3, 0.7])
    v = net.scales(0)[0] * net.weights[0] @ net.weights[1] * net.scales(1)[0]
    found = rkhs_norm.upper_bounds(net, kernel=nf.FullyConnected(1).nngp)
    np.testing.assert_allclose(found.norm, np.sqrt(2) * np.linalg.norm(v, axis=0), rtol=1e-12)
    shallow = MLP((6, 3), w_std=2.0)
    found = rkhs_norm.upper_bounds(shallow, kernel=nf.FullyConnected(0).nngp)
    wanted = np.linalg.norm(shallow.scales(0)[0] * shallow.weights[0], axis=0)
    np.testing.assert_allclose(found.norm, wanted)
    np.testing.assert_allclose(found.norm_by_spectra, wanted)


def test_power_map_by_hand() -> None:
    """exp(t) over the kernel exp(u - 1): a_j^2 / b_j = e / j!, so that C(t) = e exp(t)."""
    squares = composition.PowerMap(nf.Activation("exp"), nf.Activation("exp"))
    P = np.array([[0.5, -0.2], [-0.2, 1.5]])
    np.testing.assert_allclose(squares.matrix(P), np.e * np.exp(P), rtol=1e-10)
    assert squares.spectral(1.0, 7) == pytest.approx(np.e * (np.e - 1 + 7), rel=1e-10)


@pytest.mark.parametrize(
    ("activation", "dual", "gain"),
    [("relu", "relu", 1.0), ("erf", "relu", 1.0), ("tanh", "step", 9.0), ("exp", "exp", 60.0)],
)
def test_no_bound_is_infinite(activation: str, dual: str, gain: float) -> None:
    """No series, powers that the kernel lacks, beyond the pole, beyond the range of floats."""
    net = MLP((4, 8, 8, 1), activation, w_std=gain)
    found = rkhs_norm.upper_bounds(net, kernel=nf.FullyConnected(2, activation=dual).nngp)
    assert np.isposinf(found.norm).all()
    assert np.isposinf(found.norm_by_spectra).all()


@pytest.mark.parametrize(
    ("activation", "at"), [("gelu", 0.3), ("silu", 0.3), ("sigmoid", -1.0), ("softplus", 2.0),
     ("tanh", 0.9), ("sine(2,3,0.5)", 0.7), ("polynomial(1,2,3)", -2.0), ("gaussian", 0.4)],
)  # fmt: skip
def test_functions_of_complex_arguments(activation: str, at: float) -> None:
    resolved = MLP((1, 1, 1), activation).activation
    continued = resolved.continuation
    assert continued is not None
    assert complex(continued[0](np.array(at + 0j))) == pytest.approx(float(resolved(at)), rel=1e-13)


def test_errors() -> None:
    net = MLP((3, 4, 1), "sin")
    for kernel in (nf.FullyConnected(2).nngp, nf.FullyConnected(1).ntk, nf.Laplace(),
                   nf.FullyConnected(1, parameterization="ntk").nngp):  # fmt: skip
        with pytest.raises(ValueError, match=r"kernel: expected FullyConnected\(1, activation"):
            rkhs_norm.upper_bounds(net, kernel=kernel)
    with pytest.raises(ValueError, match="net: expected no biases"):
        rkhs_norm.upper_bounds(MLP((3, 4, 1), b_std=0.1), kernel=nf.FullyConnected(1).nngp)
