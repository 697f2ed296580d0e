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
#else  // one number
template <class T>
NTK_FN void transpose(Vec<T> (&)[kLanes<T>]) {}
#endif

}  // namespace
