// Numbers that are transposed in registers: squares, and columns of few bytes.
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

// What 16 bytes hold, the first at p and, where vectors are longer, more of them `step` numbers after those before. A
// load puts 16 bytes into their place on any port that computes, an exchange of lanes has one port alone.
template <class T>
NTK_FN Vec<T> load_parts(const T* p, [[maybe_unused]] std::ptrdiff_t step) {
#if defined(__AVX512F__) && defined(__AVX512DQ__)
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
#elif defined(__AVX2__)
    if constexpr (sizeof(T) == 8)
        return (Vec<T>)_mm256_insertf128_pd(_mm256_castpd128_pd256(_mm_loadu_pd(p)),
                                            _mm_loadu_pd(p + step), 1);
    else
        return (Vec<T>)_mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(p)),
                                            _mm_loadu_ps(p + step), 1);
#else
    return load<T>(p);
#endif
}

// Columns that are transposed together, and each of them: kLanes numbers, `ld` apart.
template <class T>
constexpr int kPart = 16 / sizeof(T);
template <class T>
NTK_FN void load_columns(const T* from, std::ptrdiff_t ld, Vec<T> (&columns)[kPart<T>]) {
    constexpr auto kAll = std::make_integer_sequence<int, kLanes<T>>{};
    for (int k = 0; k < kPart<T>; ++k) columns[k] = load_parts<T>(from + k * ld, kPart<T> * ld);
    for (int k = 0; k < kPart<T>; k += 2) exchange<T, 1>(columns[k], columns[k + 1], kAll);
    if constexpr (kPart<T> > 2)
        for (int k = 0; k < 2; ++k) exchange<T, 2>(columns[k], columns[k + 2], kAll);
}
#else  // one number
template <class T>
NTK_FN void transpose(Vec<T> (&)[kLanes<T>]) {}
template <class T>
constexpr int kPart = 1;
template <class T>
NTK_FN void load_columns(const T* from, std::ptrdiff_t, Vec<T> (&columns)[kPart<T>]) {
    columns[0] = *from;
}
#endif

}  // namespace
