// The map of a problem on a row of pairs: from inner products to kernel values.
//
// The tile loop of the CPU applies it to strips; a thread of a device to a single pair.
#pragma once

#include "formulas/angles.hpp"
#include "formulas/layer.hpp"
#include "formulas/neuron.hpp"
#include "formulas/radial.hpp"

namespace {

// The Hermite coefficients of a data row, where an activation asks for them.
template <class T>
const T* given_series(const ntkfast::Layers<T>& map, const T* series, int64_t row) {
    return series ? series + row * map.series_stride : nullptr;
}

// ---- maps of one row strip: kGroup vectors at pairs.j ------------------------------------------

// The columns [from, to) of a strip that are wanted.
struct Window {
    int64_t from, to;
};

// Writes the wanted ones of `width` values of a strip.
template <class T>
NTK_FN void put_window(T* out, const T* values, Window window, int64_t width) {
    if constexpr (kOnePair)
        *out = *values;
    else
        std::memcpy(out + window.from, values + window.from,
                    sizeof(T) * (smaller(window.to, width) - window.from));
}

template <class T>
NTK_FN void finish(const Pairs<T>& pairs, Vec<T> (&value)[kGroup], T scale, const T* factors,
                   T* out, Window window) {
    const T factor = pairs.problem.factor_x[pairs.i] * scale;
    constexpr int kWidth = kGroup * kLanes<T>;
    for (int k = 0; k < kGroup; ++k) value[k] *= load<T>(factors + k * kLanes<T>) * factor;
    if (window.from == 0 && window.to >= kWidth) {
        for (int k = 0; k < kGroup; ++k) store<T>(out + k * kLanes<T>, value[k]);
    } else {
        T parts[kWidth];
        for (int k = 0; k < kGroup; ++k) store<T>(parts + k * kLanes<T>, value[k]);
        put_window<T>(out, parts, window, kWidth);
    }
}

// Handed on by value: vectors whose address others know live in memory.
template <class T>
struct Group {
    Vec<T> vector[kGroup];
};

// k(u) where some pairs may be close to u = +-1. The products may be gone: another profile took their place.
template <class T>
NTK_RARE Group<T> profile_by_angles(const Pairs<T>& pairs, const ntkfast::Profile<T>& profile,
                                    Group<T> u) {
    Vec<T> v[kGroup];
    Group<T> value;
    angles_of<T>(pairs, u.vector, v);
    evaluate_mixed<T>(profile, u.vector, v, value.vector);
    return value;
}

template <class T>
NTK_FN void map_profile(const Pairs<T>& pairs, const T* factors, T* const (&out)[2],
                        Window window) {
    Vec<T> u[kGroup], v[kGroup], value[kGroup];
    const bool zero = pairs.problem.norm_x[pairs.i] == 0;
    if constexpr (kMiddle)
        cosines<T>(pairs, u);
    else
        half_angles<T>(pairs, u, v);
    for (int which = 0; which < 2; ++which) {
        const auto* profile = pairs.problem.profile[which];
        if (!profile) break;
        if constexpr (kMiddle) {
            const int powers = zero ? -1 : middle_powers<T>(*profile, u);
            if (powers < 0) [[unlikely]] {
                Group<T> group;
                for (int k = 0; k < kGroup; ++k) group.vector[k] = u[k];
                group = profile_by_angles<T>(pairs, *profile, group);
                for (int k = 0; k < kGroup; ++k) value[k] = group.vector[k];
            } else {
                evaluate_middle<T>(*profile, powers, u, value);
            }
        } else {
            evaluate_profile<T>(*profile, u, v, value);
        }
        finish<T>(pairs, value, profile->scale, factors, out[which], window);
    }
}

template <class T>
NTK_FN void map_radial(const Pairs<T>& pairs, const T* factors, T* const (&out)[2], Window window) {
    const Problem<T>& p = pairs.problem;
    const bool sphere = p.radial->radius == ntkfast::Radius::kSphere;
    Vec<T> u[kGroup], v[kGroup], value[kGroup];
    if (sphere) {
        half_angles<T>(pairs, u, v);
        for (int k = 0; k < kGroup; ++k) v[k] = T(4) * (u[k] < Vec<T>{} ? T(1) - v[k] : v[k]);
    } else {
        squared_distances<T>(pairs, u, v);
    }
    for (int k = 0; k < kGroup; ++k) value[k] = evaluate_radial<T>(*p.radial, v[k]);
    finish<T>(pairs, value, T(1), factors, out[0], window);
}

template <class T>
NTK_FN void map_neuron(const Pairs<T>& pairs, const T* factors, T* const (&out)[2], Window window) {
    const Problem<T>& p = pairs.problem;
    const bool cosine = p.neuron->kind == ntkfast::NeuronKind::kTable;
    const T scale = cosine ? p.inverse_x[pairs.i] : T(1);
    Vec<T> u[kGroup], value[kGroup];
    for (int k = 0; k < kGroup; ++k) u[k] = load<T>(pairs.product + k * kLanes<T>) * scale;
    for (int which = 0; which < 2; ++which) {
        if (out[which]) {
            evaluate_neuron<T>(*p.neuron, pairs.i, u, value);
            finish<T>(pairs, value, p.neuron->scale, factors, out[which], window);
        }
        for (int k = 0; k < kGroup; ++k) u[k] = -u[k];
    }
}

// ---- the layer map of one row strip of kStrip pairs --------------------------------------------

// 1 - u of two rows is 0 or far above this.
template <class T>
constexpr T kLeastDefect = static_cast<T>(sizeof(T) == 8 ? 1e-300 : 1e-37);

// NTK and NNGP of column k of a strip with row pairs.i, which have equal directions, if they are equal.
template <class T>
NTK_FN const T* own_values(const Pairs<T>& pairs, int k) {
    const Problem<T>& p = pairs.problem;
    const T* const own = p.layers->diagonal;
    const int64_t j = pairs.j + k;
    const bool equal = own && j < p.m && p.norm_x[pairs.i] == p.norm_y[j];
    return equal ? own + 2 * pairs.i : nullptr;
}

template <class T>
NTK_FN void map_layers(const Pairs<T>& pairs, const Stats<T>& stats, T* const (&out)[2],
                       Window window) {
    const auto& map = *pairs.problem.layers;
    State<T> state, slots[ntkfast::kSlots];
    const Vec<T> tiny = broadcast<T>(kLeastDefect<T>);
    std::uint64_t equal = 0;
    each_start<T>(pairs, [&](int lane, Vec<T> w, Vec<T> co, Vec<T>, Vec<T>) NTK_LAMBDA {
        put<T>(state, lane, w, co, Vec<T>{});
        equal |= mask_below<T>(w, tiny) << lane;
    });
    evaluate_layers<T>(map, stats, state, slots);
    const int last = static_cast<int>(map.stats) - 1;
    for (int k = 0; k < kStrip; k += kLanes<T>) {
        const Vec<T> u = cosine<T>(load<T>(state.w + k), load<T>(state.co + k));
        store<T>(state.w + k, u * (stats.pair(last - 1, k) * map.scale[1]));
        store<T>(state.t + k, load<T>(state.t + k) * (stats.pair(last, k) * map.scale[0]));
    }
    for (; equal; equal &= equal - 1) {  // no rounding on the diagonal
        const int k = lowest_bit(equal);
        if (const T* own = own_values<T>(pairs, k)) state.t[k] = own[0], state.w[k] = own[1];
    }
    if (out[0]) put_window<T>(out[0], state.t, window, kStrip);
    if (out[1]) put_window<T>(out[1], state.w, window, kStrip);
}

}  // namespace
