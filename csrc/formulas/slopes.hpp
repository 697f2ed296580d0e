// Derivatives of a kernel by one of its inputs, on a strip of pairs of rows.
//
// With x = |x| a, y = |y| b, u = a.b = cos t,
//     dK/dx = radial a + turn (b - u a) / sin t,   radial = dK/d|x|,   turn = -(dK/dt) / |x|.
// The unit tangent (b - u a) / sin t of a close pair comes from a difference of its rows; of parallel
// ones, where kernels have a cusp, it counts as 0. Kernels of the distance r = |x - y| fit in with a = x,
// b = y, u = 1, r for sin t, and turn = -dK/dr = -radial r.
#pragma once

#include "formulas/angles.hpp"
#include "formulas/layer_slopes.hpp"
#include "formulas/pair_state.hpp"
#include "formulas/radial.hpp"

namespace {

using ntkfast::Gradient;

template <class T>
struct Slopes {
    // `inverse` is 1 / sin t, or 0 of close pairs
    alignas(kOnePair ? sizeof(T) : 64) T u[kStrip], inverse[kStrip], radial[kStrip], turn[kStrip];
};

// Below this 1 / sin t is 0.
template <class T>
constexpr T kTiniest = static_cast<T>(sizeof(T) == 8 ? 1e-300 : 1e-37);

template <class T>
constexpr T kNearby = static_cast<T>(ntkfast::kNearTangent);

// u and 1 / sin t from v = (1 - |u|) / 2.
template <class T>
NTK_FN void put_angle(Slopes<T>& s, int k, Vec<T> u, Vec<T> v) {
    const auto close = v < broadcast<T>(kNearby<T>);
    const Vec<T> sine = T(2) * sqrt_lanes<T>(v * (T(1) - v)), zero{};
    store<T>(s.u + k, u);
    store<T>(s.inverse + k, close ? zero : T(1) / sine);
}

template <class T>
NTK_FN void profile_slopes(const Gradient<T>& g, const Pairs<T>& pairs, const T* factors, int at,
                           Slopes<T>& s) {
    Vec<T> u[kGroup], v[kGroup], value[kGroup], slope[kGroup];
    half_angles<T>(pairs, u, v);
    const auto &kernel = *g.pairs.profile[0], &turned = *g.pairs.profile[1];
    evaluate_profile<T>(kernel, u, v, value);
    evaluate_profile<T>(turned, u, v, slope);
    const T outer = g.outer_x[pairs.i], degree = static_cast<T>(g.degree) * kernel.scale;
    for (int k = 0; k < kGroup; ++k) {
        const Vec<T> factor = outer * load<T>(factors + k * kLanes<T>);
        put_angle<T>(s, at + k * kLanes<T>, u[k], v[k]);
        store<T>(s.radial + at + k * kLanes<T>, value[k] * degree * factor);
        store<T>(s.turn + at + k * kLanes<T>, slope[k] * -turned.scale * factor);
    }
}

template <class T>
NTK_FN void radial_slopes(const Gradient<T>& g, const Pairs<T>& pairs, const T* factors, int at,
                          Slopes<T>& s) {
    const Problem<T>& p = g.pairs;
    const bool sphere = p.radial->radius == ntkfast::Radius::kSphere;
    Vec<T> u[kGroup], v[kGroup];
    if (sphere)
        half_angles<T>(pairs, u, v);
    else
        squared_distances<T>(pairs, u, v);  // u: the sum of both squared norms
    const T outer = g.outer_x[pairs.i], degree = static_cast<T>(g.degree);
    const Vec<T> zero{}, one = broadcast<T>(T(1));
    for (int k = 0; k < kGroup; ++k) {
        const int to = at + k * kLanes<T>;
        const Vec<T> factor = load<T>(factors + k * kLanes<T>);
        if (sphere) {  // r = 2 sin(t/2), dr/dt = cos(t/2)
            const auto back = u[k] < zero;
            const Vec<T> half = back ? one - v[k] : v[k], rest = back ? v[k] : one - v[k];
            const Falling<T> f = evaluate_falling<T>(*p.radial, T(4) * half);
            put_angle<T>(s, to, u[k], v[k]);
            store<T>(s.radial + to, f.value * degree * (outer * factor));
            store<T>(s.turn + to, f.loss * sqrt_lanes<T>(rest) * (outer * factor));
        } else {
            const Falling<T> f = evaluate_falling<T>(*p.radial, v[k]);
            const auto apart = v[k] > u[k] * kNearby<T>;
            store<T>(s.u + to, one);
            store<T>(s.inverse + to, apart ? one / sqrt_lanes<T>(v[k]) : zero);
            store<T>(s.radial + to, zero);
            store<T>(s.turn + to, f.loss);
        }
    }
}

// The pairs of a strip, and their derivatives by the angle, at the first layer.
template <class T>
NTK_FN void start_layers(const Pairs<T>& pairs, State<T>& state, Slopes<T>& s) {
    each_start<T>(pairs, [&](int at, Vec<T> w, Vec<T> co, Vec<T> u, Vec<T> v) NTK_LAMBDA {
        put<T>(state, at, w, co, Vec<T>{});
        put_angle<T>(s, at, u, v);
        store<T>(s.turn + at, T(-2) * sqrt_lanes<T>(v * (T(1) - v)));
    });
}

// What tangents are multiplied by.
template <class T>
NTK_FN Vec<T> size_of_pair(const Gradient<T>& g, int64_t i, const Stats<T>& stats, int k) {
    const auto& map = *g.pairs.layers;
    const bool nngp = g.pairs.use_second;
    const int last = static_cast<int>(map.stats) - 1;
    return stats.pair(nngp ? last - 1 : last, k) * (map.scale[nngp] * g.outer_x[i]);
}

template <class T>
NTK_FN void layer_slopes(const Gradient<T>& g, const Pairs<T>& pairs, const Stats<T>& stats,
                         const Rates<T>& rates, Slopes<T>& s) {
    State<T> state;
    Tangents<T> d;
    start_layers<T>(pairs, state, s);
    std::memset(&d, 0, 2 * sizeof(Tangent<T>));
    std::memcpy(d.along[0].u, s.turn, sizeof s.turn);
    evaluate_tangents<T>(*g.pairs.layers, stats, rates, g.pairs.use_second, state, d);
    for (int k = 0; k < kStrip; k += kLanes<T>) {
        const Vec<T> size = size_of_pair<T>(g, pairs.i, stats, k);
        store<T>(s.radial + k, load<T>(d.along[1].ntk + k) * size);
        store<T>(s.turn + k, load<T>(d.along[0].ntk + k) * -size);
    }
}

// The derivatives by what parameters move of the row: in `ntk` of `d`.
template <class T>
NTK_FN void parameter_slopes(const Gradient<T>& g, const Pairs<T>& pairs, const Stats<T>& stats,
                             const Rates<T>& rates, Tangents<T>& d) {
    State<T> state;
    Slopes<T> s;
    start_layers<T>(pairs, state, s);
    std::memset(&d, 0, sizeof(Tangent<T>) * static_cast<std::size_t>(rates.directions));
    evaluate_tangents<T>(*g.pairs.layers, stats, rates, g.pairs.use_second, state, d);
    for (std::int64_t i = 0; i < rates.directions; ++i)
        for (int k = 0; k < kStrip; k += kLanes<T>)
            store<T>(d.along[i].ntk + k,
                     load<T>(d.along[i].ntk + k) * size_of_pair<T>(g, pairs.i, stats, k));
}

// What a strip of columns has beside its products: factors of the result, or numbers of the layers.
template <class T>
struct Beside {
    const T* factors;
    Stats<T> stats;
    Rates<T> rates;
};

// The derivatives of the kStrip pairs at pairs.j.
template <class T>
NTK_FN void evaluate_slopes(const Gradient<T>& g, const Pairs<T>& pairs, const Beside<T>& beside,
                            Slopes<T>& s) {
    if (g.pairs.layers) {
        layer_slopes<T>(g, pairs, beside.stats, beside.rates, s);
        return;
    }
    const T* const factors = beside.factors;
    for (int at = 0; at < kStrip; at += kGroup * kLanes<T>) {
        const Pairs<T> group{g.pairs, pairs.product + at, pairs.i, pairs.j + at};
        if (g.pairs.radial)
            radial_slopes<T>(g, group, factors + at, at, s);
        else
            profile_slopes<T>(g, group, factors + at, at, s);
    }
}

// Calls take(k, (b - u a)_k / sin t), or (y - x)_k / r, for the coordinates k of two close rows.
template <class T, class Take>
NTK_FN void each_tangent(const Gradient<T>& g, int64_t i, int64_t j, bool back, Take take) {
    const Problem<T>& p = g.pairs;
    const T *x = p.x + i * p.ldx, *y = p.y + j * p.ldy;
    T inverse = 1, ratio = 1, along = 0, scale;
    if (takes_products(p)) {
        const T square = squared_distance<T>(x, y, p.d);
        if (!(square > 0)) return;
        scale = -1 / root(square);
    } else {
        if (p.inverse_x[i] == 0 || p.inverse_y[j] == 0) return;
        inverse = 1 / p.norm_x[i];
        ratio = p.norm_x[i] / p.norm_y[j];
        if (back) ratio = -ratio;
        const Apart<T> gap = apart<T>(x, y, p.d, p.norm_x[i], ratio);
        const T sine2 = gap.sine2();
        if (!(sine2 > 0)) return;
        along = gap.radial;
        scale = (back ? 1 : -1) / root(sine2);
    }
    for (int64_t k = 0; k < p.d; ++k) {
        const T difference = minus_product(x[k], ratio, y[k]) * inverse;
        take(k, scale * (difference - along * (x[k] * inverse)));
    }
}

}  // namespace
