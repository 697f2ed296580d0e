// ReLU and its relatives, and the step, on a strip of pairs.
#pragma once

#include "formulas/arccos.hpp"
#include "formulas/pair_state.hpp"

namespace {

// Constants: A and B of the dual A kappa1 + B u, over A + B.
template <class T>
NTK_FN void relu(const ntkfast::LayerConstants<T>& layer, State<T>& s) {
    const T a = layer.constant[0], b = layer.constant[1];
    if (b == 0) {  // ReLU itself
        for (int k = 0; k < kStrip; k += kLanes<T>) {
            const ArcCosine<T> c = arc_cosine<T>(load<T>(s.w + k), load<T>(s.co + k));
            put<T>(s, k, c.defect, T(2) - c.defect, load<T>(s.t + k) * c.kappa0);
        }
        return;
    }
    for (int k = 0; k < kStrip; k += kLanes<T>) {
        const Vec<T> w = load<T>(s.w + k), co = load<T>(s.co + k), t = load<T>(s.t + k);
        const ArcCosine<T> c = arc_cosine<T>(w, co);
        // Behind the right angle, where one end may be small: of abs, which is even, 1 - K; of a
        // nearly linear function 1 + K.
        const Vec<T> even = (a + 2 * b) - (c.kappa1 * a + co * b);
        const Vec<T> odd = a + (c.kappa1 * a + co * b);
        const Vec<T> behind = b < 0 ? even : T(2) - odd;
        const Vec<T> defect = w < co ? c.defect * a + w * b : behind, rest = T(2) - defect;
        put<T>(s, k, defect, b < 0 ? rest : w < co ? rest : odd, t * (c.kappa0 * a + b));
    }
}

// Constants: shares 2b / (a + b) and 2a / (a + b) of the dual a + b (2 kappa0 - 1), which the sign has odd.
template <class T>
NTK_FN void step(const ntkfast::LayerConstants<T>& layer, State<T>& s) {
    const T share = layer.constant[0], rest = layer.constant[1];
    for (int k = 0; k < kStrip; k += kLanes<T>) {
        const ArcCosine<T> c = arc_cosine<T>(load<T>(s.w + k), load<T>(s.co + k));
        put<T>(s, k, share * c.turn, rest + share * c.kappa0, Vec<T>{});
    }
}

}  // namespace
