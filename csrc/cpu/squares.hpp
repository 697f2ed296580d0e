// Squares of numbers that are transposed in registers.
#pragma once

#include "formulas/simd.hpp"

namespace {

#if defined(NTK_VECTORS)
// Lane k of the first result: lane k of a, or lane k - H of b where k has bit H; of the second one:
// lane k + H of a, or lane k of b there.
template <class T, int H, int... K>
NTK_FN void exchange(Vec<T>& a, Vec<T>& b, std::integer_sequence<int, K...>) {
#if defined(__clang__)
    const Vec<T> first = __builtin_shufflevector(a, b, (K & H ? kLanes<T> + K - H : K)...);
    b = __builtin_shufflevector(a, b, (K & H ? kLanes<T> + K : K + H)...);
#else
    const Vec<T> first = __builtin_shuffle(a, b, IVec<T>{(K & H ? kLanes<T> + K - H : K)...});
    b = __builtin_shuffle(a, b, IVec<T>{(K & H ? kLanes<T> + K : K + H)...});
#endif
    a = first;
}
// Transposes a square of numbers in registers.
template <class T, int H = 1>
NTK_FN void transpose(Vec<T> (&rows)[kLanes<T>]) {
    for (int r = 0; r < kLanes<T>; ++r)
        if (!(r & H))
            exchange<T, H>(rows[r], rows[r + H], std::make_integer_sequence<int, kLanes<T>>{});
    if constexpr (2 * H < kLanes<T>) transpose<T, 2 * H>(rows);
}

#if defined(__AVX512F__) && defined(__AVX512DQ__)
// Lanes of 16 bytes, the first at p and each of the others `step` numbers after the one before. A load puts
// a lane into its place on any port that computes, an exchange of lanes has one port alone.
template <class T>
NTK_FN Vec<T> load_lanes(const T* p, std::ptrdiff_t step) {
    if constexpr (sizeof(T) == 8) {
        Doubles v = _mm512_castpd128_pd512(_mm_loadu_pd(p));
        v = _mm512_insertf64x2(v, _mm_loadu_pd(p + step), 1);
        v = _mm512_insertf64x2(v, _mm_loadu_pd(p + 2 * step), 2);
        return (Vec<T>)_mm512_insertf64x2(v, _mm_loadu_pd(p + 3 * step), 3);
    } else {
        Floats v = _mm512_castps128_ps512(_mm_loadu_ps(p));
        v = _mm512_insertf32x4(v, _mm_loadu_ps(p + step), 1);
        v = _mm512_insertf32x4(v, _mm_loadu_ps(p + 2 * step), 2);
        return (Vec<T>)_mm512_insertf32x4(v, _mm_loadu_ps(p + 3 * step), 3);
    }
}
template <class T>
NTK_FN void turn_square(const T* from, std::ptrdiff_t ld, T* to, std::ptrdiff_t step) {
    constexpr int kPart = 16 / sizeof(T);
    constexpr auto kAll = std::make_integer_sequence<int, kLanes<T>>{};
    for (int c = 0; c < kLanes<T>; c += kPart) {
        Vec<T> part[kPart];
        for (int k = 0; k < kPart; ++k) part[k] = load_lanes<T>(from + k * ld + c, kPart * ld);
        for (int k = 0; k < kPart; k += 2) exchange<T, 1>(part[k], part[k + 1], kAll);
        if constexpr (kPart > 2)
            for (int k = 0; k < 2; ++k) exchange<T, 2>(part[k], part[k + 2], kAll);
        for (int k = 0; k < kPart; ++k) store<T>(to + (c + k) * step, part[k]);
    }
}
#else
template <class T>
NTK_FN void turn_square(const T* from, std::ptrdiff_t ld, T* to, std::ptrdiff_t step) {
    Vec<T> square[kLanes<T>];
    for (int k = 0; k < kLanes<T>; ++k) square[k] = load<T>(from + k * ld);
    transpose<T>(square);
    for (int k = 0; k < kLanes<T>; ++k) store<T>(to + k * step, square[k]);
}
#endif
#else  // one number
template <class T>
NTK_FN void transpose(Vec<T> (&)[kLanes<T>]) {}
template <class T>
NTK_FN void turn_square(const T*, std::ptrdiff_t, T*, std::ptrdiff_t) {}
#endif

}  // namespace
