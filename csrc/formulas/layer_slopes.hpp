// Tangents beside the layers: derivatives of a pair in some directions.
//
// Beside (w, co, t) of pair_state.hpp go the derivatives of u and of the NTK itself over sqrt(a b). An
// input moves along its angle, or log |x|, or has its share of what a parameter moves: as pairs are
// symmetric, half of a factor belongs to either side. With the rate r = dlog sqrt(q) of the variance q of x,
// the NNGP over sqrt(q p) has the derivative du + r u. Differences of u from 1 never enter: where a cosine
// is near an end, so small are its derivatives, and so exact.
#pragma once

#include "formulas/bends.hpp"

namespace {

using ntkfast::kDirections;

template <class T>
struct Tangent {
    alignas(kOnePair ? sizeof(T) : 64) T u[kStrip], ntk[kStrip];
};

template <class T>
struct Tangents {
    Tangent<T> along[kDirections];
};

// A vector of tangents behind an activation, of those before it.
template <class T>
NTK_FN void bend_tangents(const Bend<T>& b, const Rates<T>& rates, int k, Vec<T> t,
                          Tangents<T>& d) {
    for (std::int64_t i = 0; i < rates.directions; ++i) {
        Tangent<T>& to = d.along[i];
        const T rate = rates.moves(i)[0];
        const Vec<T> u = load<T>(to.u + k);
        store<T>(to.ntk + k, b.g * load<T>(to.ntk + k) + t * (b.g_u * u + rate * b.g_s));
        store<T>(to.u + k, b.f_u * u + rate * b.f_s);
    }
}

// A strip and its tangents through ReLU and its relatives: one angle serves both.
template <class T>
NTK_FN void rectify_tangents(const ntkfast::LayerConstants<T>& layer, const Rates<T>& rates,
                             State<T>& s, Tangents<T>& d) {
    const T first = layer.constant[0], second = layer.constant[1];
    for (int k = 0; k < kStrip; k += kLanes<T>) {
        const Carried<T> before{load<T>(s.w + k), load<T>(s.co + k), load<T>(s.t + k)};
        const ArcCosine<T> c = arc_cosine<T>(before.w, before.co);
        bend_tangents<T>(bend_relu<T>(layer, before.w, before.co, c), rates, k, before.t, d);
        const Carried<T> now =
            second == 0 ? after_relu<T>(before, c) : after_rectified<T>(first, second, before, c);
        put<T>(s, k, now.w, now.co, now.t);
    }
}

// A strip and its tangents through an activation.
template <class T>
NTK_FN void activate_tangents(const ntkfast::LayerConstants<T>& layer, const Stats<T>& stats,
                              const Rates<T>& rates, State<T>& s, Tangents<T>& d) {
    if (layer.activation == ntkfast::ActivationKind::kRelu)
        return rectify_tangents<T>(layer, rates, s, d);
    for (int k = 0; k < kStrip; k += kLanes<T>) {
        const Vec<T> w = load<T>(s.w + k), co = load<T>(s.co + k), t = load<T>(s.t + k);
        bend_tangents<T>(bend<T>(layer, stats, rates, k, w, co), rates, k, t, d);
    }
    activate<T>(layer, stats, s);
}

// The same of the affine step, but for the state.
template <class T>
NTK_FN void affine_tangents(const ntkfast::LayerConstants<T>& layer, Stats<T> stats,
                            const Rates<T>& rates, const State<T>& s, Tangents<T>& d) {
    Stats<T> gains = stats;
    gains.skip(layer.offset ? 2 : 0);
    for (std::int64_t i = 0; i < rates.directions; ++i) {
        Tangent<T>& to = d.along[i];
        const T* const move = rates.moves(i);
        const T scale = move[3], root = move[1] + move[4], given = move[5];
        for (int k = 0; k < kStrip && (layer.gains || scale != 0); k += kLanes<T>) {
            Vec<T> ntk = load<T>(to.ntk + k) + scale * load<T>(s.t + k);
            if (layer.gains)
                ntk = gains.pair(0, k) * ntk +
                      gains.pair(1, k) * (load<T>(to.u + k) + root * (T(1) - load<T>(s.w + k))) +
                      gains.pair(2, k) * given;
            store<T>(to.ntk + k, ntk);
        }
        if (!layer.offset) continue;
        // a unit vector of shares (cos a, sin a) turns by da
        const T cosine = stats.row[0], sine = stats.row[1], turn = move[2] * cosine * sine;
        for (int k = 0; k < kStrip; k += kLanes<T>) {
            const Vec<T> other = stats.own(0, k);
            const Vec<T> apart = sine_of_difference<T>(sine, cosine, stats.own(1, k), other);
            store<T>(to.u + k, cosine * other * load<T>(to.u + k) +
                                   turn * (sine * other * load<T>(s.w + k) - apart));
        }
    }
}

// The same of adding a slot.
template <class T>
NTK_FN void add_tangents(const Stats<T>& stats, const Rates<T>& rates, const State<T>& s,
                         const State<T>& slot, const Tangents<T>& others, Tangents<T>& d) {
    const T cosine = stats.row[0], sine = stats.row[1];
    for (std::int64_t i = 0; i < rates.directions; ++i) {
        const Tangent<T>& other = others.along[i];
        Tangent<T>& to = d.along[i];
        const T turn = cosine * sine * rates.moves(i)[6];
        for (int k = 0; k < kStrip; k += kLanes<T>) {
            const Vec<T> g = stats.pair(0, k), h = stats.pair(1, k);
            const Vec<T> kept = stats.pair(2, k), gained = stats.pair(3, k);
            const Vec<T> cosine_ = stats.own(0, k), sine_ = stats.own(1, k);
            const Vec<T> apart = sine_of_difference<T>(sine, cosine, sine_, cosine_);
            const Vec<T> moved = (sine * cosine_) * load<T>(s.w + k) -
                                 (cosine * sine_) * load<T>(slot.w + k) - apart;
            store<T>(to.u + k, g * load<T>(to.u + k) + h * load<T>(other.u + k) + turn * moved);
            store<T>(to.ntk + k, kept * load<T>(to.ntk + k) + gained * load<T>(other.ntk + k));
        }
    }
}

// The same of multiplying by a slot: each factor of the NTK has the NNGP of the other one beside it.
template <class T>
NTK_FN void multiply_tangents(const Stats<T>& stats, const Rates<T>& rates, const State<T>& s,
                              const State<T>& slot, const Tangents<T>& others, Tangents<T>& d) {
    for (std::int64_t i = 0; i < rates.directions; ++i) {
        const Tangent<T>& other = others.along[i];
        Tangent<T>& to = d.along[i];
        const T rate = rates.moves(i)[6], rate_ = rates.moves(i)[7];
        for (int k = 0; k < kStrip; k += kLanes<T>) {
            const Vec<T> u = cosine<T>(load<T>(s.w + k), load<T>(s.co + k));
            const Vec<T> v = cosine<T>(load<T>(slot.w + k), load<T>(slot.co + k));
            const Vec<T> du = load<T>(to.u + k), dv = load<T>(other.u + k);
            const Vec<T> kept = stats.pair(0, k), gained = stats.pair(1, k);
            const Vec<T> t = kept * load<T>(s.t + k), t_ = gained * load<T>(slot.t + k);
            const Vec<T> moved =
                v * (kept * load<T>(to.ntk + k)) + u * (gained * load<T>(other.ntk + k));
            store<T>(to.ntk + k, moved + t * (dv + rate_ * v) + t_ * (du + rate * u));
            store<T>(to.u + k, du * v + u * dv);
        }
    }
}

// All layers on one strip, values and tangents; `shares` are those of the columns, [layer][kStrip].
// The derivatives of the NTK, or NNGP, over the roots of both inputs' own are left in `ntk`.
template <class T>
NTK_FN void evaluate_tangents(const ntkfast::Layers<T>& map, Stats<T> stats, Rates<T> rates,
                              bool nngp, State<T>& state, Tangents<T>& d) {
    State<T> slots[ntkfast::kSlots];
    Tangents<T> saved[ntkfast::kSlots];
    const std::size_t size = sizeof(Tangent<T>) * static_cast<std::size_t>(map.directions);
    for (std::int64_t l = 0; l < map.count; ++l, rates.next()) {
        const ntkfast::LayerConstants<T>& layer = map.rows[l];
        if (layer.save >= 0) {
            std::memcpy(&slots[layer.save], &state, sizeof state);
            std::memcpy(&saved[layer.save], &d, size);
        }
        if (layer.activation != ntkfast::ActivationKind::kIdentity)
            activate_tangents<T>(layer, stats, rates, state, d);
        stats.skip(layer.numbers[0]);
        affine_tangents<T>(layer, stats, rates, state, d);
        if (layer.gains || layer.offset) affine<T>(layer, stats, state);
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
    for (std::int64_t i = 0; i < map.directions; ++i) {
        Tangent<T>& to = d.along[i];
        const T rate = rates.row[2 * i], step = rates.row[2 * i + 1];
        for (int k = 0; nngp && k < kStrip; k += kLanes<T>) {
            const Vec<T> u = cosine<T>(load<T>(state.w + k), load<T>(state.co + k));
            store<T>(to.ntk + k, load<T>(to.u + k) + (rate + step) * u);
        }
        for (int k = 0; !nngp && step != 0 && k < kStrip; k += kLanes<T>)
            store<T>(to.ntk + k, load<T>(to.ntk + k) + step * load<T>(state.t + k));
    }
}

}  // namespace
