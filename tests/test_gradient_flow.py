"""Training of infinitely wide networks: 50 digits, explicit descent, networks of finite width."""

from __future__ import annotations

import contextlib
import math
import pickle
from typing import Any

import numpy as np
import pytest
from mpmath import mp, mpf
from numpy.typing import NDArray

import ntkfast as nf

pytest.importorskip("sklearn")

from scipy.special import softmax
from sklearn.base import clone
from sklearn.utils.estimator_checks import check_estimator

from ntkfast.regression import GradientFlow, SolverWarning, max_learning_rate
from ntkfast.regression.training_time import Descent

EPS = float(np.finfo(np.float64).eps)
g = np.random.default_rng(0)
X, Y, Z = g.normal(size=(6, 2)), g.normal(size=(6, 2)), g.normal(size=(3, 2))
NET = nf.FullyConnected(2, parameterization="ntk", w_std=1.3, b_std=0.3)
ARC = nf.FullyConnected(1)  # its two kernels are arc-cosine functions, printed below
TIMES = [0.0, 1e-9, 1e-3, 1.0, 40.0, 1e4, np.inf]


# --- 50 digits -----------------------------------------------------------------------------------


def arccosine(A: NDArray[Any], B: NDArray[Any]) -> tuple[Any, Any]:
    """NNGP and NTK of one hidden layer of ReLU, |x| |y| k1(u) and |x| |y| (k1(u) + u k0(u))."""
    nngp, ntk = mp.matrix(len(A), len(B)), mp.matrix(len(A), len(B))
    for i, x in enumerate(A.tolist()):
        for j, y in enumerate(B.tolist()):
            size = mp.sqrt(mp.fdot(x, x) * mp.fdot(y, y))
            angle = mp.acos(max(mpf(-1), min(mpf(1), mp.fdot(x, y) / size)))
            k0 = (mp.pi - angle) / mp.pi
            k1 = mp.sin(angle) / mp.pi + k0 * mp.cos(angle)
            nngp[i, j], ntk[i, j] = size * k1, size * (k1 + mp.cos(angle) * k0)
    return nngp, ntk


def formula(kind: str, ridge: float, eta: float, time: float) -> tuple[Any, Any, Any, float]:
    """Mean, covariance, training outputs, and max(w) max(phi), what rounding is multiplied by."""
    S, ntk = arccosine(X, X)
    S_z, ntk_z = arccosine(Z, X)
    theta, theta_z = (ntk, ntk_z) if kind == "ntk" else (S, S_z)
    for i in range(len(X)):
        S[i, i] += mpf(ridge)
        if kind == "ntk":
            theta[i, i] += mpf(ridge)
    w, U = mp.eigsy(theta)
    phi = [(1 - mp.exp(-one * mpf(eta) * mpf(time) / Y.size)) / one for one in w]
    middle = U * mp.diag(phi) * U.T
    targets, A = mp.matrix(Y.tolist()), theta_z * middle
    prior = arccosine(Z, Z)[0]
    cov = prior - A * S_z.T - S_z * A.T + A * S * A.T
    return A * targets, cov, theta * middle * targets, float(max(w) * max(phi))


def floats(matrix: Any) -> NDArray[Any]:
    return np.array(matrix.tolist(), float)


@pytest.mark.parametrize("kind", ["ntk", "nngp"])
@pytest.mark.parametrize("ridge", [0.0, 0.3])
def test_formulas_in_fifty_digits(kind: str, ridge: float) -> None:
    flow = GradientFlow(ARC, kind=kind, ridge=ridge, learning_rate=1.5).fit(X, Y)
    mean, cov = flow.predict(Z, TIMES, return_cov=True)
    driven = flow.predict(None, TIMES)
    for i, time in enumerate(TIMES):
        with mp.workdps(50):
            parts = formula(kind, ridge, 1.5, time)
        condition = parts[3]
        for found, part in zip((mean[i], cov[i], driven[i]), parts[:3], strict=True):
            wanted = floats(part)
            tolerance = 20 * EPS * (1 + condition) * np.abs(wanted).max()
            np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerance)
        assert np.array_equal(cov[i], cov[i].T)


@pytest.mark.parametrize("kind", ["ntk", "nngp"])
def test_shapes_and_limits(kind: str) -> None:
    flow = GradientFlow(NET, kind=kind).fit(X, Y)
    mean, cov = flow.predict(Z, return_cov=True)
    assert mean.shape == (3, 2)
    assert cov.shape == (3, 3)
    one, std = GradientFlow(NET, kind=kind).fit(X, Y[:, 0]).predict(Z, [0, np.inf], return_std=True)
    assert one.shape == std.shape == (2, 3)
    np.testing.assert_allclose(one[1], mean[:, 0], rtol=1e-12)
    np.testing.assert_allclose(std[1], np.sqrt(np.diagonal(cov)), rtol=1e-12)
    np.testing.assert_allclose(std[0] ** 2, NET.nngp.diag(Z), rtol=1e-15)
    assert not one[0].any()

    K = getattr(NET, kind)
    start = K(Z, X) @ Y / Y.size  # the slope at 0
    np.testing.assert_allclose(flow.predict(Z, 1e-12) / 1e-12, start, rtol=1e-10)
    np.testing.assert_allclose(mean, K(Z, X) @ np.linalg.solve(K(X), Y), rtol=1e-11)
    late, late_cov = flow.predict(Z, 1e9, return_cov=True)
    np.testing.assert_allclose(late, mean, rtol=1e-11)
    np.testing.assert_allclose(late_cov, cov, atol=1e-13)
    np.testing.assert_array_equal(flow.predict(None), Y)
    driven, at_targets = flow.predict(None, return_cov=True)
    assert not at_targets.any()
    np.testing.assert_allclose(flow.predict(X), driven, rtol=1e-11)


def test_the_last_layer_ends_at_the_posterior() -> None:
    flow = GradientFlow(NET, kind="nngp", ridge=0.2).fit(X, Y)
    process = nf.regression.GaussianProcess(NET.nngp, noise=0.2, tune=()).fit(X, Y)
    for found, wanted in zip(
        flow.predict(Z, return_cov=True), process.predict(Z, return_cov=True), strict=True
    ):
        np.testing.assert_allclose(
            found, wanted[..., 0] if wanted.ndim == 3 else wanted, atol=1e-13
        )


def test_training_outputs_are_a_distribution_too() -> None:
    """Residuals f - Y are multiplied by q: mean and covariance by the matrix exponential."""
    flow = GradientFlow(NET, ridge=0.1, learning_rate=3.0).fit(X, Y)
    theta, S = (kernel(X) + 0.1 * np.eye(6) for kernel in (NET.ntk, NET.nngp))
    with mp.workdps(50):
        q = floats(mp.expm(mp.matrix((-3.0 * 7.0 / Y.size * theta).tolist())))
    mean, cov = flow.predict(None, 7.0, return_cov=True)
    std = flow.predict(None, 7.0, return_std=True)[1]
    np.testing.assert_allclose(mean, Y - q @ Y, atol=1e-14)
    np.testing.assert_allclose(cov, q @ S @ q, atol=1e-14)
    np.testing.assert_allclose(std, np.sqrt(np.diagonal(cov)), rtol=1e-14)
    residual = np.sum((mean - Y) ** 2) / (2 * Y.size)
    assert flow.training_loss(7.0) == pytest.approx(residual, rel=1e-12)
    expected = residual + np.trace(cov) * 2 / (2 * Y.size)
    assert flow.training_loss([7.0], ensemble=True)[0] == pytest.approx(expected, rel=1e-12)
    assert flow.training_loss() < 1e-30


# --- Steps ---------------------------------------------------------------------------------------


def descend(
    gradient: Any, eta: float, mu: float, nesterov: bool, steps: int, start: NDArray[Any]
) -> NDArray[Any]:
    """Take steps in the space of outputs on X and Z together, as optimisers do."""
    f, velocity = start.copy(), np.zeros_like(start)
    K = NET.ntk(np.vstack([X, Z]), X)
    for _ in range(steps):
        force = -eta * K @ gradient(f[: len(X)])
        velocity = mu * velocity + force
        f = f + (mu * velocity + force if nesterov else velocity)
    return f


OPTIMISERS = [(0.0, False), (0.9, False), (0.9, True), (0.5, True), (0.0, True)]


@pytest.mark.parametrize(("mu", "nesterov"), OPTIMISERS)
def test_steps_are_those_of_an_explicit_loop(mu: float, nesterov: bool) -> None:
    eta = 0.6 * max_learning_rate(NET.ntk, X, 2, momentum=mu, nesterov=nesterov)
    flow = GradientFlow(NET, learning_rate=eta, momentum=mu, nesterov=nesterov).fit(X, Y)
    first = g.normal(size=(9, 2))
    counts = [0, 1, 2, 7, 150]
    mean = flow.predict(Z, steps=counts)
    single = flow.predict(Z, steps=counts, start=(first[:6], first[6:]))
    driven = flow.predict(None, steps=counts, start=first[:6])
    for i, count in enumerate(counts):
        for found, inside, start in ((mean, None, 0 * first), (single, driven, first)):
            wanted = descend(lambda f: (f - Y) / Y.size, eta, mu, nesterov, count, start)
            np.testing.assert_allclose(found[i], wanted[6:], atol=1e-12)
            if inside is not None:
                np.testing.assert_allclose(inside[i], wanted[:6], atol=1e-12)


@pytest.mark.parametrize(("mu", "nesterov"), OPTIMISERS)
@pytest.mark.parametrize("flows", [False, True])
def test_small_eigenvalues_keep_their_digits(mu: float, nesterov: bool, flows: bool) -> None:
    """Against 3 x 3 matrices in 60 digits, from 1e-18 of the largest eigenvalue to its limit."""
    descent = Descent(1.0, mu, nesterov)
    w = np.array([1e-18, 1e-12, 1e-6, 0.003, 0.3, 0.95 * descent.largest])
    for count in (1, 10, 1000, 10**9):
        phi, q = descent.flow(w, float(count)) if flows else descent.steps(w, count)
        for i, k in enumerate(w.tolist()):
            with mp.workdps(60):
                wanted_phi, wanted_q = exact(mpf(k), mpf(mu), nesterov, flows, count)
            assert phi[i] == pytest.approx(float(wanted_phi), rel=1e-13)
            assert q[i] == pytest.approx(float(wanted_q), rel=1e-13, abs=1e-14)


def exact(k: Any, mu: Any, nesterov: bool, flows: bool, count: int) -> tuple[Any, Any]:
    """Return phi and q for rate 1 from the recursion or the equation as they are printed."""
    if flows and mu == 0:
        return (1 - mp.exp(-k * count)) / k, mp.exp(-k * count)
    if flows:
        power = mp.expm(mp.matrix([[0, 1, 0], [-k, mu - 1, 1], [0, 0, 0]]) * count)
    elif nesterov:
        force = mp.matrix([[-k, 0, 1]])
        velocity = mp.matrix([[0, mu, 0]]) + force
        power = mp.matrix(3, 3)
        for j in range(3):
            power[0, j] = (mu * velocity + force)[0, j] + (j == 0)
            power[1, j], power[2, j] = velocity[0, j], int(j == 2)
        power = power**count
    else:
        power = mp.matrix([[1 - k, mu, 1], [-k, mu, 1], [0, 0, 1]]) ** count
    return power[0, 2], power[0, 0]


@pytest.mark.parametrize(("mu", "nesterov"), OPTIMISERS)
def test_largest_learning_rate(mu: float, nesterov: bool) -> None:
    limit = max_learning_rate(NET.ntk, X, 2, momentum=mu, nesterov=nesterov, ridge=0.2)
    sharp = np.linalg.eigvalsh(NET.ntk(X))[-1] + 0.2
    ahead = 1 + 2 * mu if nesterov else 1
    assert limit == pytest.approx(2 * (1 + mu) * 12 / sharp / ahead, rel=1e-12)
    for factor in (0.99, 1.01):
        flow = GradientFlow(
            NET, learning_rate=factor * limit, momentum=mu, nesterov=nesterov, ridge=0.2
        ).fit(X, Y)
        assert flow.max_learning_rate() == pytest.approx(limit, rel=1e-12)
        said = pytest.warns(SolverWarning, match="steps diverge, expected less than")
        with said if factor > 1 else contextlib.nullcontext():
            early, late = np.abs(flow.predict(None, steps=[600, 1200])).max(axis=(1, 2))
        assert (late > 1e3 * early) == (factor > 1)
    with pytest.raises(ValueError, match="learning_rate: 1000000 steps diverge"):
        flow.predict(Z, steps=10**6)


def test_largest_learning_rate_from_products(monkeypatch: pytest.MonkeyPatch) -> None:
    points = np.random.default_rng(1).normal(size=(60, 3))
    wanted = max_learning_rate(NET.ntk, points)
    monkeypatch.setattr("ntkfast.regression.training_time.DENSE", 50)
    assert max_learning_rate(NET.ntk, points) == pytest.approx(wanted, rel=1e-10)
    assert max_learning_rate(ARC.ntk, np.zeros((3, 2))) == math.inf


# --- Other losses --------------------------------------------------------------------------------

P = softmax(2 * Y, axis=1)


@pytest.mark.parametrize("mu", [0.0, 0.8])
def test_cross_entropy_against_small_steps(mu: float) -> None:
    """Richardson's extrapolation of two step sizes is right to the square of the step."""

    def gradient(f: NDArray[Any]) -> NDArray[Any]:
        return (softmax(f, axis=1) - P) / 6

    def small(size: float) -> NDArray[Any]:
        f, velocity = np.zeros((9, 2)), np.zeros((9, 2))
        K = NET.ntk(np.vstack([X, Z]), X)
        for _ in range(round(4.0 / size)):
            force = -2.0 * K @ gradient(f[:6])
            if mu:
                f, velocity = f + size * velocity, velocity + size * ((mu - 1) * velocity + force)
            else:
                f = f + size * force
        return f

    wanted = 2 * small(1e-3) - small(2e-3)
    flow = GradientFlow(NET, loss="cross_entropy", learning_rate=2.0, momentum=mu).fit(X, P)
    np.testing.assert_allclose(flow.predict(Z, 4.0), wanted[6:], atol=1e-5)
    np.testing.assert_allclose(flow.predict(None, [4.0, 0.0, 4.0])[2], wanted[:6], atol=1e-5)


@pytest.mark.parametrize(("mu", "nesterov"), OPTIMISERS[:3])
def test_any_loss(mu: float, nesterov: bool) -> None:
    """A callable that is the squared loss gives what the eigenvalues give."""
    options: dict[str, Any] = {"learning_rate": 0.5, "momentum": mu, "nesterov": nesterov}
    square = GradientFlow(NET, **options, ridge=0.1).fit(X, Y)
    other = GradientFlow(NET, **options, ridge=0.1, loss=lambda f, y: (f - y) / y.size).fit(X, Y)
    start = Y[::-1] + 1, Z[:, :1] + np.ones((3, 2))
    for when in ({"time": [0.0, 30.0, 2.0]}, {"steps": [31, 0, 5]}):
        for Z_or_none, first in ((Z, start), (None, start[0]), (Z, None)):
            np.testing.assert_allclose(
                other.predict(Z_or_none, start=first, **when),
                square.predict(Z_or_none, start=first, **when),
                atol=1e-8,
            )
    cross = GradientFlow(NET, **options, loss="cross_entropy").fit(X, P)
    wanted = descend(
        lambda f: (softmax(f, axis=1) - P) / 6, 0.5, mu, nesterov, 40, np.zeros((9, 2))
    )
    np.testing.assert_allclose(cross.predict(Z, steps=40), wanted[6:], atol=1e-12)


def test_what_other_losses_do_not_have() -> None:
    flow = GradientFlow(NET, loss="cross_entropy").fit(X, P)
    with pytest.raises(ValueError, match="time: expected finite times for loss='cross_entropy'"):
        flow.predict(Z)
    with pytest.raises(ValueError, match="return_std, return_cov: expected loss='mse'"):
        flow.predict(Z, 1.0, return_std=True)
    with pytest.raises(ValueError, match="training_loss: expected loss='mse'"):
        flow.training_loss(1.0)
    with pytest.raises(ValueError, match=r"y: expected probabilities .* row 0 is"):
        GradientFlow(NET, loss="cross_entropy").fit(X, Y)
    with pytest.raises(ValueError, match="loss: expected 'mse', 'cross_entropy' or a callable"):
        GradientFlow(NET, loss="hinge").fit(X, Y)
    with pytest.raises(ValueError, match=r"loss: expected a finite gradient of shape \(6, 2\)"):
        GradientFlow(NET, loss=lambda f, y: f[0]).fit(X, Y).predict(Z, 1.0)


# --- Finite networks -----------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("last", [False, True])
def test_wide_networks_are_such_an_ensemble(last: bool) -> None:
    """Trained in all parameters by Runge-Kutta: mean and variance within Monte Carlo error."""
    n_networks, time, y = 60, 12.0, np.sin(2 * X[:, 0])
    nets = [
        nf.finite.MLP(
            (2, 256, 1), "erf", w_std=1.5, b_std=0.3, trained=[not last, True], rng=number
        )
        for number in range(n_networks)
    ]
    found = np.array([nf.finite.trained(net, X, y, time)(Z)[:, 0] for net in nets])
    limit = nf.FullyConnected(1, activation="erf", parameterization="ntk", w_std=1.5, b_std=0.3)
    flow = GradientFlow(limit, kind="nngp" if last else "ntk").fit(X, y)
    mean, std = flow.predict(Z, time, return_std=True)
    np.testing.assert_allclose(found.mean(axis=0), mean, atol=4 * std.max() / n_networks**0.5)
    spread = found.std(axis=0, ddof=1) / std
    np.testing.assert_allclose(spread, 1, atol=4 / (2 * n_networks) ** 0.5)
    assert np.all(std < 0.8 * flow.predict(Z, 0.0, return_std=True)[1])


# --- Conventions and corners ---------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_scikit_learn_agrees() -> None:
    check_estimator(GradientFlow(ridge=0.1))


def test_copies_and_scores() -> None:
    flow = GradientFlow(NET, ridge=1e-3).fit(X, Y)
    again = pickle.loads(pickle.dumps(flow))
    assert np.array_equal(again.predict(Z, [1, np.inf]), flow.predict(Z, [1, np.inf]))
    assert flow.score(X, Y) > 0.99
    first = Y[::-1]
    both = flow.predict(Z, 5.0, start=(first, first[:3]))
    alone = clone(flow).fit(X, Y[:, 0])  # half as many targets, so that a step is twice as long
    one = alone.predict(Z, 2.5, start=(first[:, 0], first[:3, 0]))
    np.testing.assert_allclose(one, both[:, 0], atol=1e-13)


def test_the_training_set_is_copied() -> None:
    inputs, targets = X.copy(), Y.copy()
    flow = GradientFlow(NET).fit(inputs, targets)
    inputs += 1
    targets += 1
    assert np.array_equal(flow.predict(Z), GradientFlow(NET).fit(X, Y).predict(Z))


def test_spread_in_panels(monkeypatch: pytest.MonkeyPatch) -> None:
    flow = GradientFlow(NET).fit(X, Y)
    whole = flow.predict(Z, [1, np.inf], return_std=True)[1]
    monkeypatch.setattr("ntkfast.regression.gradient_flow.PART_BYTES", 1)
    np.testing.assert_allclose(flow.predict(Z, [1, np.inf], return_std=True)[1], whole, rtol=1e-13)


@pytest.mark.parametrize(
    ("network", "inputs"),
    [
        (nf.Convolutional(1), g.normal(size=(8, 4, 4, 2))),
        (nf.Recurrent(1, b_std=0.1), nf.sequences([g.normal(size=n) for n in range(3, 11)])),
        (nf.finite.MLP((2, 30, 1), "erf", b_std=0.1), g.normal(size=(8, 2))),
    ],
    ids=["images", "sequences", "finite"],
)
def test_other_networks(network: Any, inputs: Any) -> None:
    known, others = inputs[:5], inputs[5:]
    y = np.arange(5.0)
    flow = GradientFlow(network, ridge=0.01).fit(known, y)
    mean, cov = flow.predict(others, [3.0, np.inf], return_cov=True)
    K = network.ntk(known) + 0.01 * np.eye(5)
    np.testing.assert_allclose(mean[1], network.ntk(others, known) @ np.linalg.solve(K, y))
    std = flow.predict(others, [3.0, np.inf], return_std=True)[1]
    np.testing.assert_allclose(std**2, np.einsum("tii->ti", cov), atol=1e-12)


@pytest.mark.parametrize("kind", ["ntk", "nngp"])
def test_repeated_inputs_give_the_least_norm(kind: str) -> None:
    """Then targets of equal inputs are replaced by their mean, at all late times."""
    twice, targets = np.vstack([X, X[:2]]), np.vstack([Y, Y[:2] + 0.5])
    flow = GradientFlow(NET, kind=kind).fit(twice, targets)
    means = Y.copy()
    means[:2] += 0.25
    once = GradientFlow(NET, kind=kind).fit(X, means)
    late = [1e8, 1e11, 1e30, np.inf]
    rounding = 20 * EPS * np.linalg.eigvalsh(getattr(NET, kind)(twice))[-1] / targets.size
    mean, cov = flow.predict(Z, late, return_cov=True)
    wanted, spread = once.predict(Z, return_cov=True)
    for i, time in enumerate(late):  # what is 0 grows by rounding, until it is left alone
        noise = 1e-12 + (rounding * time if time < 1e30 else 0)
        np.testing.assert_allclose(mean[i], wanted, atol=noise)
        np.testing.assert_allclose(cov[i], spread, atol=noise)
    driven = flow.predict(None)
    np.testing.assert_allclose(driven[:2], means[:2], rtol=1e-10)
    np.testing.assert_allclose(driven[6:], means[:2], rtol=1e-10)


def test_collinear_rows_and_zeros() -> None:
    line = np.outer(np.linspace(-2, 2, 9), [1.0, 2.0])  # without biases: two dimensions, no more
    y = np.abs(line[:, 0]) + line[:, 0]
    flow = GradientFlow(ARC).fit(line, y)
    mean, std = flow.predict(line * 0.7, return_std=True)
    np.testing.assert_allclose(mean, 0.7 * y, atol=1e-12)
    assert np.all(std < 1e-6)  # the square root of rounding
    zero = GradientFlow(ARC).fit(np.zeros((3, 2)), np.ones(3))
    for time in (1.0, 1e300, np.inf):
        assert not zero.predict(np.zeros((3, 2)), time).any()


def test_one_row_and_one_column() -> None:
    flow = GradientFlow(ARC).fit([[2.0]], [3.0])  # NTK 8, NNGP 4
    mean, cov = flow.predict([[1.0], [-1.0]], [0.125, np.inf], return_cov=True)
    np.testing.assert_allclose(mean[0], [1.5 * (1 - np.exp(-1)), 0], atol=1e-15)
    np.testing.assert_allclose(mean[1], [1.5, 0], atol=1e-15)
    np.testing.assert_allclose(cov[1], [[0, 0], [0, 1]], atol=1e-15)


@pytest.mark.parametrize("ridge", [0.0, 1e-12, 10.0])
def test_covariances_are_positive(ridge: float) -> None:
    points = np.random.default_rng(2).normal(size=(40, 1))
    flow = GradientFlow(NET, ridge=ridge).fit(points, points[:, 0])
    for Z_or_none in (np.vstack([points, points + 1e-9]), None):
        cov = flow.predict(Z_or_none, [0, 1, 1e5, np.inf], return_cov=True)[1]
        assert np.array_equal(cov, cov.transpose(0, 2, 1))
        assert np.einsum("tii->ti", cov).min() >= 0
        size = np.abs(NET.nngp(points)).max() + ridge
        assert np.linalg.eigvalsh(cov).min() > -2000 * EPS * size


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"network": NET.ntk}, TypeError, "network: expected a network"),
        ({"kind": "ntkgp"}, ValueError, "kind: expected one of"),
        ({"learning_rate": 0.0}, ValueError, "learning_rate: expected a finite number > 0"),
        ({"ridge": -1.0}, ValueError, "ridge: expected a finite number >= 0"),
        ({"momentum": 1.0}, ValueError, "momentum: expected a number below 1"),
    ],
)
def test_wrong_parameters(options: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        GradientFlow(**options).fit(X, Y)


def test_wrong_arguments() -> None:
    bad = Y.copy()
    bad[2, 1] = np.nan
    with pytest.raises(ValueError, match="y: expected finite numbers"):
        GradientFlow().fit(X, bad)
    flow = GradientFlow().fit(X, Y)
    for options, message in [
        ({"time": -1.0}, "time: expected a number >= 0"),
        ({"time": np.nan}, "time: expected a number >= 0"),
        ({"steps": 1.5}, "steps: expected an integer >= 0"),
        ({"steps": -1}, "steps: expected an integer >= 0"),
        ({"time": 1.0, "steps": 1}, "steps: expected either a time or steps"),
        ({"return_std": True, "return_cov": True}, "only one of return_std and return_cov"),
        ({"start": (Y, Y)}, r"start: expected shape \(3, \*\)"),
        ({"start": Y}, "start: expected a pair"),
        ({"start": (Y, Z), "return_std": True}, "start: one network has no covariance"),
    ]:
        with pytest.raises(ValueError, match=message):
            flow.predict(Z, **options)
