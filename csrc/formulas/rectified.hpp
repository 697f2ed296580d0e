// ReLU and its relatives, and the step, on pairs.
#pragma once

#include "formulas/arccos.hpp"
#include "formulas/pair_state.hpp"

namespace {

template <class T>
NTK_FN Carried<T> after_relu(const Carried<T>& s, const ArcCosine<T>& c) {
    return {c.defect, T(2) - c.defect, s.t * c.kappa0};
}

// A and B of the dual A kappa1 + B u, over A + B.
template <class T>
NTK_FN Carried<T> after_rectified(T a, T b, const Carried<T>& s, const ArcCosine<T>& c) {
    const Vec<T> w = s.w, co = s.co;
    // Behind the right angle, where one end may be small: of abs, which is even, 1 - K; of a
    // nearly linear function 1 + K.
    const Vec<T> even = (a + 2 * b) - (c.kappa1 * a + co * b);
    const Vec<T> odd = a + (c.kappa1 * a + co * b);
    const Vec<T> behind = b < 0 ? even : T(2) - odd;
    const Vec<T> defect = w < co ? c.defect * a + w * b : behind, rest = T(2) - defect;
    return {defect, b < 0 ? rest : w < co ? rest : odd, s.t * (c.kappa0 * a + b)};
}

// Shares 2b / (a + b) and 2a / (a + b) of the dual a + b (2 kappa0 - 1), which the sign has odd.
template <class T>
NTK_FN Carried<T> after_step(T share, T rest, const Carried<T>& s) {
    const ArcCosine<T> c = arc_cosine<T>(s.w, s.co);
    return {share * c.turn, rest + share * c.kappa0, Vec<T>{}};
}

}  // namespace
