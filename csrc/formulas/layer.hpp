// One layer of a dense network on a strip of pairs: activation, affine step and addition of a slot.
#pragma once

#include "formulas/activation.hpp"

namespace {

// ---- (c, t) <- (w c + e, w t + x c + y) --------------------------------------------------------

// Numbers (with an offset): sqrt(w q / q'), 1/sqrt(q'), sin(a/2), cos(a/2).
template <class T>
NTK_FN void affine(const ntkfast::LayerConstants<T>& layer, const Stats<T>& stats, State<T>& s) {
    const T x = layer.x, y = layer.y;
    if (!layer.offset) {
        if (x == 0) return;
        for (int k = 0; k < kStrip; k += kLanes<T>)
            store<T>(s.t + k, load<T>(s.t + k) + x * (T(1) - load<T>(s.w + k)));
        return;
    }
    for (int k = 0; k < kStrip; k += kLanes<T>) {
        const Vec<T> w = load<T>(s.w + k), share = stats.pair(0, k);
        const Vec<T> gap = stats.half_difference(2, k);
        const Vec<T> t = share * (load<T>(s.t + k) + x * (T(1) - w)) + y * stats.pair(1, k);
        const Vec<T> defect = share * w + T(2) * gap * gap;
        const Vec<T> co = layer.balanced ? load<T>(s.co + k) : T(2) - defect;
        put<T>(s, k, defect, co, t);
    }
}

// ---- (c, t) <- (c, t) + slot -------------------------------------------------------------------

// Numbers: sqrt(q / q'), sqrt(q_slot / q'), sin(a/2), cos(a/2).
template <class T>
NTK_FN void add(const Stats<T>& stats, const State<T>& slot, State<T>& s) {
    for (int k = 0; k < kStrip; k += kLanes<T>) {
        const Vec<T> g = stats.pair(0, k), h = stats.pair(1, k), gap = stats.half_difference(2, k);
        const Vec<T> defect = g * load<T>(s.w + k) + h * load<T>(slot.w + k) + T(2) * gap * gap;
        const Vec<T> t = g * load<T>(s.t + k) + h * load<T>(slot.t + k);
        put<T>(s, k, defect, T(2) - defect, t);
    }
}

// All layers on one strip; the last number of a data row is sqrt(final variance).
template <class T>
NTK_FN void evaluate_layers(const ntkfast::Layers<T>& map, Stats<T> stats, State<T>& state,
                            State<T>* slots) {
    for (std::int64_t l = 0; l < map.count; ++l) {
        const ntkfast::LayerConstants<T>& layer = map.rows[l];
        if (layer.save >= 0) std::memcpy(&slots[layer.save], &state, sizeof state);
        activate<T>(layer, stats, state);
        stats.skip(layer.numbers[0]);
        affine<T>(layer, stats, state);
        stats.skip(layer.numbers[1]);
        if (layer.add >= 0) add<T>(stats, slots[layer.add], state);
        stats.skip(layer.numbers[2]);
    }
}

}  // namespace
