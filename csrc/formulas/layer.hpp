// One layer of a dense network on a strip of pairs: activation, affine step, sum or product with a slot.
#pragma once

#include "formulas/activation.hpp"

namespace {

// ---- (c, t) <- (w c + e, w t + x c + y) --------------------------------------------------------

// Numbers, with q, a and q', a' the NNGP and NTK of an input before and after the step: if it has a bias
// sqrt(w q / q'), sqrt(e / q'); if the NTK gains, sqrt(w a / a'), sqrt(x q / a'), sqrt(y / a').
template <class T>
NTK_FN void affine(const ntkfast::LayerConstants<T>& layer, Stats<T> stats, State<T>& s) {
    Stats<T> gains = stats;
    gains.skip(layer.offset ? 2 : 0);
    for (int k = 0; k < kStrip; k += kLanes<T>) {
        const Vec<T> w = load<T>(s.w + k);
        if (layer.gains) {
            const Vec<T> t = gains.pair(0, k) * load<T>(s.t + k) + gains.pair(1, k) * (T(1) - w);
            store<T>(s.t + k, t + gains.pair(2, k));
        }
        if (layer.offset) {
            const Vec<T> share = stats.pair(0, k), moved = stats.moved(0, k);
            store<T>(s.w + k, share * w + moved);
            store<T>(s.co + k, share * load<T>(s.co + k) + moved + T(2) * stats.pair(1, k));
        }
    }
}

// ---- (c, t) <- (c, t) + slot -------------------------------------------------------------------

// Numbers: sqrt(q / q'), sqrt(q_slot / q'), sqrt(a / a'), sqrt(a_slot / a').
template <class T>
NTK_FN void add(const Stats<T>& stats, const State<T>& slot, State<T>& s) {
    for (int k = 0; k < kStrip; k += kLanes<T>) {
        const Vec<T> g = stats.pair(0, k), h = stats.pair(1, k), moved = stats.moved(0, k);
        put<T>(s, k, g * load<T>(s.w + k) + h * load<T>(slot.w + k) + moved,
               g * load<T>(s.co + k) + h * load<T>(slot.co + k) + moved,
               stats.pair(2, k) * load<T>(s.t + k) + stats.pair(3, k) * load<T>(slot.t + k));
    }
}

// ---- (c, t) <- (c c_slot, t c_slot + c t_slot) -------------------------------------------------

// Numbers: sqrt(a q_slot / a'), sqrt(q a_slot / a').
template <class T>
NTK_FN void multiply(const Stats<T>& stats, const State<T>& slot, State<T>& s) {
    for (int k = 0; k < kStrip; k += kLanes<T>) {
        const Vec<T> w = load<T>(s.w + k), co = load<T>(s.co + k);
        const Vec<T> w_ = load<T>(slot.w + k), co_ = load<T>(slot.co + k);
        const Vec<T> t = stats.pair(0, k) * load<T>(s.t + k) * cosine<T>(w_, co_);
        put<T>(s, k, T(0.5) * (w * co_ + co * w_), T(0.5) * (co * co_ + w * w_),
               t + stats.pair(1, k) * load<T>(slot.t + k) * cosine<T>(w, co));
    }
}

// All layers on one strip; the last numbers of a data row are the roots of its own NNGP and NTK.
template <class T>
NTK_FN void evaluate_layers(const ntkfast::Layers<T>& map, Stats<T> stats, State<T>& state,
                            State<T>* slots) {
    for (std::int64_t l = 0; l < map.count; ++l) {
        const ntkfast::LayerConstants<T>& layer = map.rows[l];
        if (layer.save >= 0) std::memcpy(&slots[layer.save], &state, sizeof state);
        activate<T>(layer, stats, state);
        stats.skip(layer.numbers[0]);
        if (layer.gains || layer.offset) affine<T>(layer, stats, state);
        stats.skip(layer.numbers[1]);
        if (layer.add >= 0) add<T>(stats, slots[layer.add], state);
        if (layer.times >= 0) multiply<T>(stats, slots[layer.times], state);
        stats.skip(layer.numbers[2]);
    }
}

}  // namespace
