// Evaluates a compiled profile on a group of vectors: k(u) at the cost of one short polynomial.
#pragma once

#include "formulas/exponential.hpp"
#include "formulas/maps.hpp"

namespace {

using ntkfast::kPieces;
static_assert(2 * kPieces == 16, "Row16 fetches one row of the table");

// Vectors in flight: hides the latency of the Horner chain.
constexpr int kGroup = kOnePair ? 1 : 4;

// value = base + s * p(t - left edge of the piece); u only tells the branch.
template <class T>
NTK_FN void evaluate_profile(const ntkfast::Profile<T>& map, const Vec<T> (&u)[kGroup],
                             const Vec<T> (&v)[kGroup], Vec<T> (&value)[kGroup]) {
    const int shift = Format<T>::kMantissa - map.sub_bits;
    const typename Simd<T>::Bits fraction = (typename Simd<T>::Bits(1) << shift) - 1;
    const Vec<T> zero{};
    Vec<T> x[kGroup], s[kGroup];
    IVec<T> piece[kGroup];
    for (int k = 0; k < kGroup; ++k) {
        const auto back = u[k] < zero;
        s[k] = sqrt_lanes<T>(v[k]);
        const Vec<T> t =
            s[k] * (back ? broadcast(map.stretch[1]) : broadcast(map.stretch[0])) + T(1);
        const IVec<T> bits = bits_of<T>(t);
        x[k] = t - from_bits<T>(bits & ~fraction);
        piece[k] = ((bits >> shift) & (kPieces - 1)) | (back ? IVec<T>{} + kPieces : IVec<T>{});
    }
    const T* row = map.table;
    const Row16<T> leading(row);
    for (int k = 0; k < kGroup; ++k) value[k] = leading[piece[k]];
    for (int c = 0; c < map.degree; ++c) {
        const Row16<T> coefficient(row += 2 * kPieces);
        for (int k = 0; k < kGroup; ++k) value[k] = value[k] * x[k] + coefficient[piece[k]];
    }
    for (int k = 0; k < kGroup; ++k) {
        const auto back = u[k] < zero;
        const Vec<T> base = back ? broadcast(map.base[1]) : broadcast(map.base[0]);
        value[k] = value[k] * s[k] + base;
    }
}

}  // namespace
