// Evaluates a compiled profile on a group of vectors: k(u) at the cost of one short polynomial.
#pragma once

#include "formulas/exponential.hpp"
#include "formulas/lookup.hpp"
#include "formulas/maps.hpp"

namespace {

using ntkfast::kPieces;
static_assert(2 * kPieces == 16, "Row fetches one row of the table");

// Vectors in flight: hides the latency of the Horner chain.
constexpr int kGroup = kOnePair ? 1 : 4;

// Whether the table in u itself is used: it has more rows to look up in place of a root, which pays where
// registers hold a row. Devices and the Numba engine keep to the root.
#if defined(NTK_VECTORS) && defined(__AVX512F__) && defined(__AVX512DQ__)
constexpr bool kMiddle = true;
#else
constexpr bool kMiddle = false;
#endif

// How many powers the middle table takes for pairs of cosines u, of which some may be outside it: then -1.
// Pairs do not notice their neighbours: coefficients that are left out are zeros.
template <class T>
NTK_FN int middle_powers(const ntkfast::Profile<T>& map, const Vec<T> (&u)[kGroup]) {
    if (!map.middle) return -1;
    Vec<T> most = u[0];
    for (int k = 1; k < kGroup; ++k) most = larger_size<T>(most, u[k]);
    if (mask_below<T>(broadcast(map.ends[1]), most)) return -1;
    return mask_below<T>(broadcast(map.ends[0]), most) ? map.middle_degree : map.inner_degree;
}

// value = p(rate u - nearest integer), of so many powers.
template <class T>
NTK_FN void evaluate_middle(const ntkfast::Profile<T>& map, int powers, const Vec<T> (&u)[kGroup],
                            Vec<T> (&value)[kGroup]) {
    constexpr T kRuler = sizeof(T) == 8 ? T(0x1.8p52) : T(0x1.8p23);  // sums with it are integers
    constexpr int kColumns = ntkfast::kMiddleColumns<T>;
    using Coefficients = Row<T, kColumns>;
    Vec<T> x[kGroup];
    IVec<T> piece[kGroup];
    for (int k = 0; k < kGroup; ++k) {
        const Vec<T> ruled = u[k] * map.middle_rate + kRuler;
        piece[k] = bits_of<T>(ruled);
        x[k] = u[k] * map.middle_rate - (ruled - kRuler);
    }
    const T* row = map.middle + (map.middle_degree - powers) * kColumns;
    const Coefficients leading(row);
    for (int k = 0; k < kGroup; ++k) value[k] = leading[piece[k]];
    for (int c = 0; c < powers; ++c) {
        const Coefficients coefficient(row += kColumns);
        for (int k = 0; k < kGroup; ++k) value[k] = value[k] * x[k] + coefficient[piece[k]];
    }
}

// The value of two equal rows, which is exact.
template <class T>
NTK_FN T value_of_equals(const ntkfast::Profile<T>& map, T factor_x, T factor_y) {
    return map.base[0] * (factor_y * (factor_x * map.scale));
}

// value = base + s * p(t - left edge of the piece); u only tells the branch.
template <class T>
NTK_FN void evaluate_by_root(const ntkfast::Profile<T>& map, const Vec<T> (&u)[kGroup],
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
    const Row<T> leading(row);
    for (int k = 0; k < kGroup; ++k) value[k] = leading[piece[k]];
    for (int c = 0; c < map.degree; ++c) {
        const Row<T> coefficient(row += 2 * kPieces);
        for (int k = 0; k < kGroup; ++k) value[k] = value[k] * x[k] + coefficient[piece[k]];
    }
    for (int k = 0; k < kGroup; ++k) {
        const auto back = u[k] < zero;
        const Vec<T> base = back ? broadcast(map.base[1]) : broadcast(map.base[0]);
        value[k] = value[k] * s[k] + base;
    }
}

// k(u) of a group of which some pairs, or all, need the root. Not inline: registers do not hold the numbers
// of both ways, and the one that most groups take would pay for it.
template <class T>
NTK_RARE void evaluate_mixed(const ntkfast::Profile<T>& map, const Vec<T> (&u)[kGroup],
                             const Vec<T> (&v)[kGroup], Vec<T> (&value)[kGroup]) {
    evaluate_by_root<T>(map, u, v, value);
    const Vec<T> end = broadcast(map.ends[1]);
    constexpr std::uint64_t kAll = (std::uint64_t(1) << kLanes<T>)-1;
    std::uint64_t outside = kAll;
    for (int k = 0; k < kGroup; ++k) outside &= mask_below<T>(end, abs2(u[k]));
    if (!map.middle || outside == kAll) return;
    Vec<T> middle[kGroup];
    evaluate_middle<T>(map, map.middle_degree, u, middle);
    for (int k = 0; k < kGroup; ++k) value[k] = end < abs2(u[k]) ? value[k] : middle[k];
}

// k(u), by the table that serves the pair, whatever its neighbours are.
template <class T>
NTK_FN void evaluate_profile(const ntkfast::Profile<T>& map, const Vec<T> (&u)[kGroup],
                             const Vec<T> (&v)[kGroup], Vec<T> (&value)[kGroup]) {
    if constexpr (kMiddle) {
        const int powers = middle_powers<T>(map, u);
        if (powers < 0)
            evaluate_mixed<T>(map, u, v, value);
        else
            evaluate_middle<T>(map, powers, u, value);
    } else {
        evaluate_by_root<T>(map, u, v, value);
    }
}

}  // namespace
