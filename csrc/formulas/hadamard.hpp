// Stages of the fast Walsh-Hadamard transform, and what structured neurons answer.
//
// A stage replaces the entries (a, b) at distance h by (a + b, a - b), for h = 1, 2, 4, ...
#pragma once

#include "formulas/problems.hpp"
#include "formulas/simd.hpp"

namespace {  // internal linkage: see simd.hpp

using namespace ntkfast;
using std::int64_t;

// Vectors in registers: eight and their sums fit everywhere, and eight lines at a distance of a
// power of two share one set of an eight-way cache.
constexpr int kRadix = 8;

// The stages between R vectors.
template <class T, int R, int H = 1>
NTK_FN void vector_stages(Vec<T> (&v)[R]) {
    if constexpr (H < R) {
        for (int r = 0; r < R; ++r) {
            if (r & H) continue;
            const Vec<T> a = v[r], b = v[r + H];
            v[r] = a + b;
            v[r + H] = a - b;
        }
        vector_stages<T, R, 2 * H>(v);
    }
}

// How many of `pieces` to combine at once: 16 are 4 times 4, not 8 times 2.
NTK_FN int64_t next_radix(int64_t pieces) {
    return pieces == 2 * kRadix ? kRadix / 2 : pieces < kRadix ? pieces : kRadix;
}

template <class T>
NTK_FN Vec<T> answer_of(Vec<T> v, Vec<T> length, Answer kind, T scale) {
    const Vec<T> zero{}, whole = broadcast(scale), half = broadcast(scale * T(0.5));
    if (kind == Answer::kStep) return v > zero ? whole : v < zero ? zero : half;
    return (kind == Answer::kRelu ? max2(v, zero) : v) * (length * scale);
}

}  // namespace
