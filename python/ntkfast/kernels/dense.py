"""The NTK and NNGP of dense networks: which map of rows they are, a profile or layers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ntkfast import engines, places
from ntkfast.activations.base import Activation, Complex
from ntkfast.arrays import checks
from ntkfast.arrays.collections import Collection, FloatArray, Rows
from ntkfast.engines import Run
from ntkfast.engines.maps import LayerMap, Map, ProfileMap
from ntkfast.kernels import pairwise
from ntkfast.kernels.balance import scaled
from ntkfast.kernels.base import Kernel, KernelOfNetwork
from ntkfast.kernels.filling import fill
from ntkfast.kernels.layer_rows import (
    facts_of,
    layer_map,
    on_host,
    values_at_equal,
    with_diagonal,
)
from ntkfast.kernels.layers import Layers
from ntkfast.kernels.lost_digits import tell_profile, tell_series, tell_tables
from ntkfast.kernels.profile import Reals, compile_profile
from ntkfast.kernels.rows import (
    PROFILE_ERROR,
    RowKernel,
    at_equal,
    at_equal_rows,
    at_power,
    common_norm,
)

if TYPE_CHECKING:  # analysis is loaded when it is asked for
    from ntkfast.kernels.layer_parameters import Walk
    from ntkfast.kernels.network_curve import NetworkCurve

WELL = 4.0  # eps: a profile by powers of equal layers that is worse may be better by a walk
WALK_ERROR = 1e-6  # a profile of a function without a closed form that is worse is not used here


class StatesLayers(Protocol):
    """A dense network, as the list of its layers."""

    def layers(self, dim: int) -> Layers:
        """Return the recursion for inputs with `dim` features."""

    def scale(self, kind: str) -> float:
        """Return the factor of the NTK or NNGP of the layers that makes the kernel."""


class NetworkKernel(KernelOfNetwork, RowKernel):
    """The NTK or NNGP of an infinitely wide network (`Network.ntk`, `Network.nngp`).

    Attributes
    ----------
    network : Network
    kind : {"ntk", "nngp"}
    """

    network: Any  # that states layers, see `StatesLayers`

    @property
    def _slot(self) -> int:
        """Where this kernel stands among both, the NTK and the NNGP."""
        return int(self.kind == "nngp")

    @property
    def is_zonal(self) -> bool:
        """Whether K(x, y) = |x|^p |y|^p k(u): positively homogeneous activations and no bias."""
        return self.homogeneity is not None

    @property
    def homogeneity(self) -> float | None:
        """The power p of the norms; see `is_zonal`."""
        return facts_of(self, 1).degree

    def profile(self, u: ArrayLike, radius: float = 1.0) -> NDArray[np.float64]:
        """Evaluate the kernel between two inputs of one norm as a function of their cosine.

        Parameters
        ----------
        u : array
            Cosines in [-1, 1].
        radius : float, default 1
            Norm of both inputs; with ``parameterization="ntk"`` their norm over sqrt(d).

        Returns
        -------
        array of the shape of `u`, float64

        Examples
        --------
        >>> import ntkfast as nf
        >>> nf.FullyConnected(1).ntk.profile([1.0, 0.0, -1.0]).round(6)
        array([2.      , 0.31831 , 0.      ])
        """
        cosine = checks.cosines("u", u).astype(np.longdouble)
        squared = checks.number("radius", radius, above=0.0) ** 2
        flat = np.atleast_1d(cosine).ravel()
        value, missing = self._curve(1, squared).split((1 - flat) / 2, (1 + flat) / 2)
        if not abs(value) <= np.finfo(np.float64).max:
            raise ValueError(
                f"radius: the kernel of a row with norm {radius:.3g} overflows float64"
            )
        return np.asarray((value - missing).reshape(cosine.shape), np.float64)

    def curve(self, dim: int, radius: float) -> NetworkCurve:
        """Return the network on one sphere; see `RowKernel.curve`."""
        return self._curve(dim, radius**2)

    def _curve(self, dim: int, q: float) -> NetworkCurve:
        from ntkfast.kernels.network_curve import NetworkCurve

        facts = facts_of(self, dim)
        return NetworkCurve(facts.layers, self.kind, q, facts.scales[self._slot], facts.exponent)

    def at_complex_cosines(
        self, dim: int, p: NDArray[np.float64], q: NDArray[np.float64], u: Complex
    ) -> Complex:
        """Return the kernel at complex cosines; see `RowKernel.at_complex_cosines`."""
        from ntkfast.kernels.points import at_complex_cosines

        facts = facts_of(self, dim)
        pair = at_complex_cosines(facts.layers, p, q, u)
        value = pair.c if self.kind == "nngp" else pair.t
        return np.asarray(scaled(facts.scales[self._slot], facts.exponent) * value)

    def diagonal_of(self, norms: FloatArray, dim: int) -> NDArray[np.float64]:
        """Return the values at pairs of equal inputs with these norms."""
        return self._own(norms, dim)[:, self._slot]

    def _own(self, norms: FloatArray, dim: int) -> NDArray[np.float64]:
        return values_at_equal(self, norms, dim)

    def _power_of_norms(self, dim: int) -> float | None:
        return facts_of(self, dim).degree

    def _at_equal(self, X: Rows) -> FloatArray:
        profile = self._profile(X, X)
        return super()._at_equal(X) if profile is None else at_equal_rows(profile, X)

    def _map(self, X: Rows, Y: Rows) -> tuple[Map, Rows, Rows]:
        profile = self._profile(X, Y)
        return layer_map(self, X, Y) if profile is None else (profile, X, Y)

    def _slopes(self, X: Rows, Y: Rows) -> tuple[Map, ProfileMap | None, Rows, Rows]:
        layers = facts_of(self, X.data.shape[1]).layers
        if self.is_zonal and (plan := self._profile(X, Y)) is not None:
            from ntkfast.kernels.slopes import compile_slope  # rarely needed

            return plan, _compiled(self, X.dtype, 1.0, X.data.shape[1], compile_slope), X, Y
        if stated := [one.activation for one in layers if not one.activation.has_series]:
            raise TypeError(
                f"kernel: derivatives by inputs are not known for {stated[0].name}, whose duals "
                "state none by norms; with degree= and without biases angles alone count"
            )
        if short := pairwise.short_of(layers, X, Y):
            raise TypeError(
                f"kernel: derivatives by inputs are not known where the Hermite series of "
                f"{short[0].name} is too long, as in {self!r} here"
            )
        table, left, right = layer_map(self, X, Y)
        return table, None, left, right

    def _along_layers(self, names: Sequence[str], X: Rows, Y: Rows | None) -> Walk | None:
        from ntkfast.kernels.layer_parameters import Walk, known_steps

        dim, other = X.data.shape[1], X if Y is None else Y
        layers = facts_of(self, dim).layers
        steps = known_steps(self, names, dim, len(layers))
        if not steps or pairwise.short_of(layers, X, other):
            return None
        plan, left, right = layer_map(self, X, other)
        return Walk(plan, steps, left, None if Y is None else right)

    def _profile(self, X: Rows, Y: Rows) -> ProfileMap | None:
        """Return the profile of these rows, if there is a good one."""
        dim, dtype = X.data.shape[1], X.data.dtype
        facts = facts_of(self, dim)
        if facts.degree:
            self._check_scale(X, Y)
        radius = 1.0 if facts.degree is not None else common_norm(X, Y)
        if radius is not None:
            profile = _compiled(self, dtype, radius, dim)
            if facts.asking and on_host(X) and not profile.error <= WALK_ERROR:
                return None
            _tell_compiled(self, dtype, radius, dim)
            # Composed steps behave like a root of the angle, which no polynomial follows; nothing
            # is better than a profile where an activation has only a quadrature. Others must stay
            # within a half of what the layers are allowed.
            worst = min(PROFILE_ERROR, 2 + 1.5 * (len(facts.layers) - 1))
            if facts.asking or profile.error <= worst * float(np.finfo(dtype).eps):  # not if NaN
                return profile
        if self._vanishes(X) and self._vanishes(Y):
            return compile_profile(_nothing, dtype, degree=1.0, scale=0.0)
        return None

    def _at_once(self, X: Rows, Y: Rows) -> tuple[Map, Rows, Rows] | None:
        """Return the plan of rows of ordinary norms, about which there is nothing to ask."""
        settled = _settled(self, X.dtype, X.data.shape[1])
        if settled is None or not (_ordinary(X) and _ordinary(Y)):
            return None
        if isinstance(settled, ProfileMap):
            return settled, X, Y
        return (settled, with_diagonal(self, X, Y), Y) if common_norm(X, Y) is None else None

    def _plan(self, X: Collection, Y: Collection | None) -> tuple[Map, Rows, Rows]:
        left = cast(Rows, X)
        right = left if Y is None else cast(Rows, Y)
        found = self._at_once(left, right)
        if found is not None:
            return found
        plan, left, right = super()._plan(X, Y)
        if isinstance(plan, LayerMap):
            self._tell(plan, left, right)
        return plan, left, right

    def _gram(self, X: Collection, Y: Collection | None, out: FloatArray, run: Run) -> None:
        left, right = cast(Rows, X), cast("Rows | None", Y)
        found = self._at_once(left, left if right is None else right)
        if found is not None or not self._walks(left, right):
            self._write(*(found or self._plan(X, Y)), Y is None, out, run)
            return

        def write(left: Rows, right: Rows | None, panel: FloatArray) -> None:
            self._walk(left, right, (panel, None) if self.kind == "ntk" else (None, panel))

        fill(write, left, right, out)

    def _quicker(self, plan: Map, X: Rows, Y: Rows, symmetric: bool, run: Run) -> Map:
        if not isinstance(plan, LayerMap):
            return plan
        dim = X.data.shape[1]
        if facts_of(self, dim).asking or run.engine is not engines.load("native"):
            return plan
        if run.groups is not None and X.dtype == np.float64:  # each pair would have its own form
            return plan
        from ntkfast.kernels import sector_choice  # rarely needed: imports stay few

        total = len(Y) if run.groups is None else run.groups.total
        pairs = total * total // 2 if symmetric else len(X) * len(Y)
        return sector_choice.quicker(self, X, Y, pairs) or plan

    def _product(
        self, X: Collection, Y: Collection | None, V: FloatArray, out: FloatArray, run: Run
    ) -> None:
        walks = self._walks(cast(Rows, X), cast("Rows | None", Y))
        way = Kernel._product if walks else RowKernel._product  # panels of a Gram matrix, or tiles
        way(self, X, Y, V, out, run)

    def _walks(self, X: Rows, Y: Rows | None) -> bool:
        """Whether pairs need more than series of Hermite coefficients, and can have it."""
        short = self._short(X, Y)
        if not short or not on_host(X):
            return False
        return self._sphere(X, Y) is not None or pairwise.can_walk(short, X, Y)

    def _sphere(self, X: Rows, Y: Rows | None) -> float | None:
        return common_norm(*(side for side in (X, Y) if side is not None))

    def _short(self, X: Rows, Y: Rows | None) -> tuple[Activation, ...]:
        """Return the activations whose series are too short."""
        facts = facts_of(self, X.data.shape[1])
        if not facts.asking or facts.degree is not None:
            return ()
        self._check_range(X, Y)
        radius, (dim, dtype) = self._sphere(X, Y), (X.data.shape[1], X.data.dtype)
        if radius is not None:
            profile = _compiled(self, dtype, radius, dim)
            asking = tuple(one.activation for one in facts.layers if not one.activation.is_compiled)
            return () if profile.error <= WALK_ERROR else asking
        return pairwise.short_of(facts.layers, X, Y)

    def _walk(self, X: Rows, Y: Rows | None, outs: pairwise.Outs) -> None:
        """Write NTK and NNGP pair by pair."""
        dim = X.data.shape[1]
        facts, radius = facts_of(self, dim), self._sphere(X, Y)
        own = self._own(X.norms, dim)
        if radius is not None:  # averages at one variance are the cheapest
            X, Y = _with_norm(X, radius), None if Y is None else _with_norm(Y, radius)
        error = pairwise.write(facts.layers, facts.scales, X, Y, own, outs)
        tell_tables((layer.activation for layer in facts.layers), error, X.dtype)

    def _tell(self, plan: LayerMap, X: Rows, Y: Rows) -> None:
        """Measure what a short series costs at the most nearly parallel pairs, and say it.

        Raises
        ------
        ValueError
            If no digit is right.
        """
        short = self._short(X, Y)
        if not short:
            return
        if not on_host(X):
            tell_series(short, None, X.dtype)
            return
        rows, columns = pairwise.hardest(X, Y)
        left, right = pairwise.part(X, rows), pairwise.part(Y, columns)
        shape = len(left), len(right)
        exact, found = np.empty(shape), np.empty(shape, X.dtype)
        self._walk(left, right, (exact, None) if self.kind == "ntk" else (None, exact))
        engines.gram(places.HOST.run(None, None), plan, left, right, found)
        own = [np.sqrt(self.diagonal_of(side.norms, X.data.shape[1])) for side in (left, right)]
        size = np.maximum(own[0][:, None] * own[1], np.finfo(np.float64).tiny)
        tell_series(short, float(np.max(np.abs(found - exact) / size)), X.dtype)

    def _check_scale(self, X: Rows, Y: Rows) -> None:
        """Raise an error where long rows make up for a factor that is no normal number."""
        tiny, dim = np.finfo(X.data.dtype).tiny, X.data.shape[1]
        for name, side in (("X", X), ("Y", Y)) if at_power(self, 0, dim) < tiny else ():
            top = side.top
            if self.diagonal_of(np.array([top]), dim)[0] >= tiny:
                raise ValueError(
                    f"{name}: the kernel vanishes in {X.data.dtype} for unit rows, but not for one "
                    f"with norm {top:.3g}; scale the rows down and the weights up"
                )

    def _vanishes(self, rows: Rows) -> bool:
        """Whether all values at equal inputs are rounded to 0: other values are smaller."""
        number, dim = rows.data.dtype.type, rows.data.shape[1]
        # The power of two below the largest norm settles nearly every call.
        if number(at_power(self, math.frexp(rows.top)[1] - 1, dim)) > 0:
            return False
        return not np.any(self.diagonal_of(rows.norms, dim).astype(number))

    def _both(
        self, X: Collection, Y: Collection | None, outs: tuple[FloatArray, FloatArray], run: Run
    ) -> None:
        if self._walks(cast(Rows, X), cast("Rows | None", Y)):
            if all(checks.unit_stride(out) for out in outs):
                self._walk(cast(Rows, X), cast("Rows | None", Y), outs)
            else:
                super()._both(X, Y, outs, run)
            return
        ntk, nngp = self._pair()
        plan, left, right = ntk._plan(X, Y)
        second, *_ = RowKernel._plan(nngp, X, Y)  # the NTK has told what there is to tell
        if _share_factors(plan, second):
            right_or_none = None if Y is None else right
            engines.both(run, plan, second, left, right_or_none, outs)
            return
        super()._both(X, Y, outs, run)


# Norms between these are far from all limits: what holds at both ends of a network holds of them.
ORDINARY = 2.0**-16, 2.0**16


def _ordinary(side: Rows) -> bool:
    return ORDINARY[0] <= side.least and side.top <= ORDINARY[1]


@lru_cache(maxsize=256)
def _settled(kernel: NetworkKernel, dtype: np.dtype[Any], dim: int) -> Map | None:
    """Return the map of all rows of ordinary norms, or of those that differ; None if it depends.

    Small calls would spend their time with checks that, at ordinary norms, find nothing.
    """
    facts = facts_of(kernel, dim)
    if facts.degree is None and facts.asking:
        return None
    data = np.ones((1, dim), dtype)
    short, long = (Rows(data, np.array([norm], dtype)) for norm in ORDINARY)
    try:
        plan = RowKernel._plan(kernel, short, long)[0]
    except ValueError:
        return None
    if isinstance(plan, LayerMap):
        vanishes = kernel._vanishes(short) or kernel._vanishes(long)
        return None if facts.degree is not None or vanishes else plan
    return plan if facts.degree is not None else None


def _share_factors(first: Map, second: Map) -> bool:
    """Whether two maps can be evaluated in one pass."""
    if isinstance(first, ProfileMap) and isinstance(second, ProfileMap):
        return first.degree == second.degree
    return isinstance(first, LayerMap) and isinstance(second, LayerMap)


def _with_norm(side: Rows, radius: float) -> Rows:
    return replace(side, norms=np.full_like(side.norms, radius))


def _nothing(v: Reals, vc: Reals) -> Reals:
    return np.zeros_like(v)


@lru_cache(maxsize=256)
def _compiled(
    kernel: NetworkKernel, dtype: np.dtype[Any], radius: float, dim: int, how: Any = compile_profile
) -> ProfileMap:
    """Compile the kernel on the sphere of a radius; cached, since it takes milliseconds."""
    curve = kernel._curve(dim, radius * radius)
    top = at_power(kernel, 0, dim) if radius == 1 else at_equal(kernel, radius, dim)
    degree = facts_of(kernel, dim).degree
    with np.errstate(all="ignore"):  # what is not finite has no profile
        made = partial(how, dtype=dtype, degree=degree or 0.0, scale=top)
        if degree is None or how is not compile_profile:  # derivatives want all digits
            return cast(ProfileMap, made(curve.missing))
        missing = curve.missing_for(dtype)
        found = cast(ProfileMap, made(missing))
        if missing == curve.missing or found.error <= WELL * float(np.finfo(dtype).eps):
            return found
        # Noise far below an ulp may still ask for a polynomial too long for its powers.
        return min(found, cast(ProfileMap, made(curve.missing)), key=lambda one: one.error)


@lru_cache(maxsize=256)
def _tell_compiled(kernel: NetworkKernel, dtype: np.dtype[Any], radius: float, dim: int) -> None:
    """Warn once of a profile that is used, or refuse it."""
    layers = facts_of(kernel, dim).layers
    error = _compiled(kernel, dtype, radius, dim).error
    tell_profile((layer.activation for layer in layers), error, dtype)
