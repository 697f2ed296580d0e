// Tangents beside the layers: derivatives of a pair by its angle t and by log |x|.
//
// Beside (w, co, t) of pair_state.hpp go du/dt and du/dlog|x|, and the derivatives of the NTK itself over
// sqrt(a b). With the rate r = dlog sqrt(q) / dlog |x| of the variance q of x, the NNGP over sqrt(q p)
// has the derivative u_x + r u by log |x|. Differences of u from 1 never enter: where a cosine is near
// an end, so small are its derivatives, and so exact.
#pragma once

#include "formulas/layer.hpp"

namespace {

using ntkfast::kRates;

template <class T>
struct Tangents {
    alignas(64) T u_t[kStrip], u_x[kStrip], ntk_t[kStrip], ntk_x[kStrip];
};

// Of one activation at a pair: with f the new u and g the factor of the NTK, both normalised, and s the
// logarithm of the root of the variance of x, at fixed u.
template <class T>
struct Bend {
    Vec<T> f_u, f_s, g, g_u, g_s;
};

// What a layer asks of one data row (see row_rates.hpp): the share of its derivative, and rates before,
// of the activation alone, behind the affine step, and of the slot.
template <class T>
struct Rates {
    const T *row, *shares;  // [kRates] and, of the columns, [kStrip]
    NTK_FN Vec<T> share(int k) const { return row[0] * load<T>(shares + k); }
};

template <class T>
NTK_FN Bend<T> bend_relu(const ntkfast::LayerConstants<T>& layer, Vec<T> w, Vec<T> co) {
    const T a = layer.constant[0], b = layer.constant[1];
    const Vec<T> sine2 = w * co, zero{}, one = broadcast<T>(T(1));
    const Vec<T> g = arc_cosine<T>(w, co).kappa0 * a + b;
    const auto apart = sine2 > zero;  // parallel inputs stay parallel: their tangents are 0
    const Vec<T> turn = (kInversePi<T> * a) / sqrt_lanes<T>(apart ? sine2 : one);
    return {g, zero, g, apart ? turn : zero, zero};
}

template <class T>
NTK_FN Bend<T> bend_step(const ntkfast::LayerConstants<T>& layer, Vec<T> w, Vec<T> co) {
    const Vec<T> sine2 = w * co, zero{}, one = broadcast<T>(T(1));
    const auto apart = sine2 > zero;
    const Vec<T> turn = (kInversePi<T> * layer.constant[0]) / sqrt_lanes<T>(apart ? sine2 : one);
    return {apart ? turn : zero, zero, zero, zero, zero};
}

template <class T>
NTK_FN Bend<T> bend_erf(const Stats<T>& stats, const Rates<T>& rates, int k, Vec<T> w, Vec<T> co) {
    const Vec<T> u = cosine<T>(w, co);
    const ArcSine<T> s(stats, 0, k, w, co);
    const Dual<T> dual = Erf<T>{stats}.direct(k, w, co);
    const T h2 = stats.row[0] * stats.row[0], c2 = stats.row[1] * stats.row[1];
    const Vec<T> steep = stats.pair(3, k) / s.e, g = dual.slope;  // f_u but for u = 0
    const Vec<T> z2 = s.z * s.z / s.rest;
    return {steep, steep * u * c2 - dual.u * rates.row[2], g, g * s.z1 * s.z1 * u / s.rest,
            g * (z2 * c2 - h2)};
}

template <class T>
NTK_FN Bend<T> bend_gelu(const Stats<T>& stats, const Rates<T>& rates, int k, Vec<T> w, Vec<T> co) {
    constexpr T kInverse2Pi = static_cast<T>(0.15915494309189533577);
    const Vec<T> u = cosine<T>(w, co);
    const ArcSine<T> s(stats, 0, k, w, co);
    const Dual<T> dual = Gelu<T>{stats}.direct(k, w, co);
    // D = (1+q)(1+p) and E^2 = D - c^2 = D (1 - z^2); inverse(1+q) = g g of ArcSine is over both
    const T q = stats.row[2] * stats.row[2], share = stats.row[1] * stats.row[1];  // 1 / (1+q)
    const Vec<T> root = stats.own(2, k), p = root * root, other = stats.own(1, k);
    const Vec<T> rest_p = other * other;                      // 1 / (1+p)
    const Vec<T> ie = s.g / s.e, size = stats.row[2] * root;  // 1/E, sqrt(q p)
    const Vec<T> u2 = u * u, e2 = s.rest / (s.g * s.g);       // E^2
    const Vec<T> log_e = T(0.5) * share / s.rest;             // dlog E / dq
    const Vec<T> inverse_d = s.g * s.g;
    // dK/dq over p, times 2 pi
    const Vec<T> high = s.e / s.g * inverse_d;  // E / D
    const Vec<T> by_q = (high + q * share * ie) - u2 * (q * high) * log_e -
                        (u2 * (q * inverse_d) * ie + q * high) * (share + log_e);
    const Vec<T> slope = dual.slope / stats.pair(6, k);  // K'
    const Vec<T> along = u * slope + T(2) * size * by_q * kInverse2Pi;
    // A, B and C of (2 - A)(2 - B) + 2 C^2, the covariance of the tilted pair
    const Vec<T> tilted = (q * share - s.z * s.z) / s.rest;
    const Vec<T> tilted_ = (p * rest_p - s.z * s.z) / s.rest, c = u * size, across = c / e2;
    const Vec<T> second =
        kInverse2Pi * ie * ((T(2) - tilted) * (T(2) - tilted_) + T(2) * across * across);
    const Vec<T> bracket = (share * rest_p - s.z1 * s.z1) + T(1);  // (1 - q p) / D + 1
    const Vec<T> slope_q =
        kInverse2Pi *
        (-c * high * log_e - c * ie *
                                 (T(3) * log_e / e2 + bracket * log_e + (p * rest_p) * share +
                                  (share * rest_p - s.z1 * s.z1) * share));
    const Vec<T> top = stats.pair(5, k), own = stats.pair(6, k);
    return {dual.slope * rates.share(k), top * along - dual.u * rates.row[2], dual.slope,
            own * size * second, own * (T(2) * q * slope_q + c * second)};
}

template <class T>
NTK_FN Bend<T> bend_sine(const ntkfast::LayerConstants<T>& layer, const Stats<T>& stats,
                         const Rates<T>& rates, int k, Vec<T> w, Vec<T> co) {
    const T rate = layer.constant[0], q = stats.row[0] * stats.row[0];
    const Vec<T> u = cosine<T>(w, co), share = rates.share(k), zero{};
    const Dual<T> dual =
        Sine<T>{stats, rate, layer.constant[1], layer.constant[2]}.direct(k, w, co);
    const Vec<T> f_u = dual.slope * share, n = rate * stats.pair(0, k);
    const auto moves = share > zero;
    const Vec<T> g_u = moves ? n * n * dual.u / (moves ? share : n * T(0) + T(1)) : zero;
    const T loss = rate * q;
    return {f_u, u * f_u - dual.u * (loss + rates.row[2]), dual.slope, g_u,
            u * g_u - loss * dual.slope};
}

template <class T>
NTK_FN Bend<T> bend_exp(const ntkfast::LayerConstants<T>& layer, const Stats<T>& stats,
                        const Rates<T>& rates, int k, Vec<T> w, Vec<T> co) {
    const T rate = layer.constant[0], q = rate * stats.row[0] * stats.row[0];
    const Vec<T> f = Exponential<T>{stats, rate}.direct(k, w, co).u, n = rate * stats.pair(0, k);
    const Vec<T> both = q + n * cosine<T>(w, co);
    return {n * f, f * (both - rates.row[2]), f, n * f, f * both};
}

template <class T>
NTK_FN Bend<T> bend_gaussian(const Stats<T>& stats, const Rates<T>& rates, int k, Vec<T> w,
                             Vec<T> co) {
    const Gaussian<T> form{stats};
    const Dual<T> dual = form.direct(k, w, co);
    const Vec<T> u = cosine<T>(w, co), z1 = stats.pair(0, k), rest = form.parts(k, w, co).rest;
    const Vec<T> z2 = z1 * z1 * u / rest, moved = u * z2 - stats.row[0] * stats.row[0] / rest;
    const Vec<T> cube = dual.u * dual.u * dual.u;
    return {dual.u * z2, dual.u * (moved - rates.row[2]), dual.slope, cube * (T(1) + T(3) * u * z2),
            dual.slope * (T(1) + T(3) * moved)};
}

// Coefficients a_j have the derivatives b_j = sqrt((j+1)(j+2)) a_{j+2} + j a_j.
template <class T>
NTK_FN Bend<T> bend_series(int terms, const Stats<T>& stats, const Rates<T>& rates, int k, Vec<T> w,
                           Vec<T> co) {
    const Vec<T> u = cosine<T>(w, co);
    Vec<T> f{}, f_u{}, half{}, moved{}, moved_u{};  // half: f_uu / 2
    for (int j = terms - 1; j >= 0; --j) {
        const T tail = j + 2 < terms ? root(T(j + 1) * T(j + 2)) * stats.row[j + 2] : T(0);
        half = half * u + f_u;
        f_u = f_u * u + f;
        f = f * u + stats.pair(j, k);
        moved_u = moved_u * u + moved;
        moved = moved * u + (tail + T(j) * stats.row[j]) * stats.own(j, k);
    }
    const Vec<T> own = stats.pair(terms, k);
    return {f_u, moved - f * rates.row[2], f_u * own, T(2) * half * own, (moved_u - f_u) * own};
}

template <class T>
NTK_FN Bend<T> bend(const ntkfast::LayerConstants<T>& layer, const Stats<T>& stats,
                    const Rates<T>& rates, int k, Vec<T> w, Vec<T> co) {
    using A = ntkfast::ActivationKind;
    switch (layer.activation) {
        case A::kRelu: return bend_relu<T>(layer, w, co);
        case A::kStep: return bend_step<T>(layer, w, co);
        case A::kErf: return bend_erf<T>(stats, rates, k, w, co);
        case A::kGelu: return bend_gelu<T>(stats, rates, k, w, co);
        case A::kSine: return bend_sine<T>(layer, stats, rates, k, w, co);
        case A::kExp: return bend_exp<T>(layer, stats, rates, k, w, co);
        case A::kGaussian: return bend_gaussian<T>(stats, rates, k, w, co);
        default: return bend_series<T>(static_cast<int>(layer.terms), stats, rates, k, w, co);
    }
}

// d before the activation of a state to d behind it.
template <class T>
NTK_FN void activate_tangents(const ntkfast::LayerConstants<T>& layer, const Stats<T>& stats,
                              const Rates<T>& rates, const State<T>& s, Tangents<T>& d) {
    const T rate = rates.row[1];
    for (int k = 0; k < kStrip; k += kLanes<T>) {
        const Vec<T> w = load<T>(s.w + k), co = load<T>(s.co + k), t = load<T>(s.t + k);
        const Bend<T> b = bend<T>(layer, stats, {rates.row, rates.shares}, k, w, co);
        const Vec<T> u_t = load<T>(d.u_t + k), u_x = load<T>(d.u_x + k);
        store<T>(d.ntk_t + k, b.g * load<T>(d.ntk_t + k) + t * (b.g_u * u_t));
        store<T>(d.ntk_x + k, b.g * load<T>(d.ntk_x + k) + t * (b.g_u * u_x + rate * b.g_s));
        store<T>(d.u_t + k, b.f_u * u_t);
        store<T>(d.u_x + k, b.f_u * u_x + rate * b.f_s);
    }
}

// The same of the affine step.
template <class T>
NTK_FN void affine_tangents(const ntkfast::LayerConstants<T>& layer, Stats<T> stats,
                            const Rates<T>& rates, const State<T>& s, Tangents<T>& d) {
    const T rate = rates.row[1] * rates.row[2];
    Stats<T> gains = stats;
    gains.skip(layer.offset ? 2 : 0);
    for (int k = 0; k < kStrip; k += kLanes<T>) {
        const Vec<T> w = load<T>(s.w + k), u_t = load<T>(d.u_t + k), u_x = load<T>(d.u_x + k);
        if (layer.gains) {
            const Vec<T> own = gains.pair(1, k), kept = gains.pair(0, k);
            store<T>(d.ntk_t + k, kept * load<T>(d.ntk_t + k) + own * u_t);
            store<T>(d.ntk_x + k, kept * load<T>(d.ntk_x + k) + own * (u_x + rate * (T(1) - w)));
        }
        if (layer
                .offset) {  // a unit vector of shares (cos a, sin a) turns by da = -rate cos a sin a
            const Vec<T> share = stats.pair(0, k);
            const T cosine = stats.row[0], sine = stats.row[1], turn = -rate * cosine * sine;
            const Vec<T> apart =
                sine_of_difference<T>(sine, cosine, stats.own(1, k), stats.own(0, k));
            store<T>(d.u_t + k, share * u_t);
            store<T>(d.u_x + k, share * u_x + turn * (sine * stats.own(0, k) * w - apart));
        }
    }
}

// The same of adding a slot.
template <class T>
NTK_FN void add_tangents(const Stats<T>& stats, const Rates<T>& rates, const State<T>& s,
                         const State<T>& slot, const Tangents<T>& other, Tangents<T>& d) {
    const T cosine = stats.row[0], sine = stats.row[1];
    const T turn = cosine * sine * (rates.row[4] - rates.row[3]);
    for (int k = 0; k < kStrip; k += kLanes<T>) {
        const Vec<T> g = stats.pair(0, k), h = stats.pair(1, k);
        const Vec<T> cosine_ = stats.own(0, k), sine_ = stats.own(1, k);
        const Vec<T> apart = sine_of_difference<T>(sine, cosine, sine_, cosine_);
        const Vec<T> moved =
            (sine * cosine_) * load<T>(s.w + k) - (cosine * sine_) * load<T>(slot.w + k) - apart;
        store<T>(d.u_t + k, g * load<T>(d.u_t + k) + h * load<T>(other.u_t + k));
        store<T>(d.u_x + k, g * load<T>(d.u_x + k) + h * load<T>(other.u_x + k) + turn * moved);
        const Vec<T> kept = stats.pair(2, k), gained = stats.pair(3, k);
        store<T>(d.ntk_t + k, kept * load<T>(d.ntk_t + k) + gained * load<T>(other.ntk_t + k));
        store<T>(d.ntk_x + k, kept * load<T>(d.ntk_x + k) + gained * load<T>(other.ntk_x + k));
    }
}

// The same of multiplying by a slot: each factor of the NTK has the NNGP of the other one beside it.
template <class T>
NTK_FN void multiply_tangents(const Stats<T>& stats, const Rates<T>& rates, const State<T>& s,
                              const State<T>& slot, const Tangents<T>& other, Tangents<T>& d) {
    const T rate = rates.row[3], rate_ = rates.row[4];
    for (int k = 0; k < kStrip; k += kLanes<T>) {
        const Vec<T> u = cosine<T>(load<T>(s.w + k), load<T>(s.co + k));
        const Vec<T> v = cosine<T>(load<T>(slot.w + k), load<T>(slot.co + k));
        const Vec<T> u_t = load<T>(d.u_t + k), u_x = load<T>(d.u_x + k);
        const Vec<T> v_t = load<T>(other.u_t + k), v_x = load<T>(other.u_x + k);
        const Vec<T> kept = stats.pair(0, k), gained = stats.pair(1, k);
        const Vec<T> t = kept * load<T>(s.t + k), t_ = gained * load<T>(slot.t + k);
        const Vec<T> by_t =
            v * (kept * load<T>(d.ntk_t + k)) + u * (gained * load<T>(other.ntk_t + k));
        const Vec<T> by_x =
            v * (kept * load<T>(d.ntk_x + k)) + u * (gained * load<T>(other.ntk_x + k));
        store<T>(d.ntk_t + k, by_t + t * v_t + t_ * u_t);
        store<T>(d.ntk_x + k, by_x + t * (v_x + rate_ * v) + t_ * (u_x + rate * u));
        store<T>(d.u_t + k, u_t * v + u * v_t);
        store<T>(d.u_x + k, u_x * v + u * v_x);
    }
}

// All layers on one strip, values and tangents; `shares` are those of the columns, [layer][kStrip].
template <class T>
NTK_FN void evaluate_tangents(const ntkfast::Layers<T>& map, Stats<T> stats, Rates<T> rates,
                              State<T>& state, Tangents<T>& d) {
    State<T> slots[ntkfast::kSlots];
    Tangents<T> saved[ntkfast::kSlots];
    for (std::int64_t l = 0; l < map.count; ++l, rates.row += kRates, rates.shares += kStrip) {
        const ntkfast::LayerConstants<T>& layer = map.rows[l];
        if (layer.save >= 0) {
            std::memcpy(&slots[layer.save], &state, sizeof state);
            std::memcpy(&saved[layer.save], &d, sizeof d);
        }
        if (layer.activation != ntkfast::ActivationKind::kIdentity) {
            activate_tangents<T>(layer, stats, rates, state, d);
            activate<T>(layer, stats, state);
        }
        stats.skip(layer.numbers[0]);
        if (layer.gains || layer.offset) {
            affine_tangents<T>(layer, stats, rates, state, d);
            affine<T>(layer, stats, state);
        }
        stats.skip(layer.numbers[1]);
        if (layer.add >= 0) {
            add_tangents<T>(stats, rates, state, slots[layer.add], saved[layer.add], d);
            add<T>(stats, slots[layer.add], state);
        }
        if (layer.times >= 0) {
            multiply_tangents<T>(stats, rates, state, slots[layer.times], saved[layer.times], d);
            multiply<T>(stats, slots[layer.times], state);
        }
        stats.skip(layer.numbers[2]);
    }
}

}  // namespace
