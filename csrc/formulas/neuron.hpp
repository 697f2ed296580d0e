// f(w.x): what a random neuron answers, the map of random features.
#pragma once

#include "formulas/lookup.hpp"
#include "formulas/maps.hpp"
#include "formulas/profile.hpp"

namespace {

// The table at u in [-1, 1], linear between its equidistant knots; `row` tells where it starts.
template <class T>
NTK_FN Vec<T> interpolate(const ntkfast::Neuron<T>& map, const T* row, Vec<T> u) {
    // Numbers above this have no fraction: adding it rounds, and leaves the integer in the mantissa.
    const T integer = sizeof(T) == 8 ? T(4503599627370496.0) : T(8388608.0);
    const T half = T(0.5) * static_cast<T>(map.knots - 1);
    const Vec<T> position = u * half + half;
    const Vec<T> left = max2(position - T(0.5), Vec<T>{});
    const Vec<T> shifted = min2(left, broadcast<T>(static_cast<T>(map.knots - 2))) + integer;
    const IVec<T> knot = bits_of<T>(shifted) - bits_of<T>(broadcast(integer));
    const Vec<T> low = lookup<T>(row, knot), high = lookup<T>(row + 1, knot);
    return low + (position - (shifted - integer)) * (high - low);
}

// Values at the products p = w.x (kRelu, kStep) or cosines (kTable) of the data row i.
template <class T>
NTK_FN void evaluate_neuron(const ntkfast::Neuron<T>& map, int64_t i, const Vec<T> (&p)[kGroup],
                            Vec<T> (&value)[kGroup]) {
    const Vec<T> zero{}, half = broadcast(T(0.5)), one = broadcast(T(1));
    using K = ntkfast::NeuronKind;
    if (map.kind == K::kRelu) {
        for (int k = 0; k < kGroup; ++k) value[k] = max2(p[k], zero);
    } else if (map.kind == K::kStep) {
        for (int k = 0; k < kGroup; ++k) value[k] = p[k] > zero ? one : p[k] < zero ? zero : half;
    } else if (!map.place) {
        for (int k = 0; k < kGroup; ++k) value[k] = interpolate<T>(map, map.table, p[k]);
    } else {  // between two rows of the table
        const int64_t first = static_cast<int64_t>(map.place[i]);
        const T share = map.place[i] - static_cast<T>(first);
        const T* row = map.table + first * map.knots;
        for (int k = 0; k < kGroup; ++k) {
            const Vec<T> low = interpolate<T>(map, row, p[k]);
            value[k] = low + share * (interpolate<T>(map, row + map.knots, p[k]) - low);
        }
    }
}

}  // namespace
