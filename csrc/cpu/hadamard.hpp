// The fast Walsh-Hadamard transform of rows, in place or from one matrix to another.
//
// A stage replaces the entries (a, b) at distance h by (a + b, a - b), for h = 1, 2, 4, ... The
// stages below the length of a vector happen inside it, the others by threes between registers. A
// row longer than the cache is transformed part by part, each while it is there. All instruction
// sets add in the same order, so that their results have the same bits.
#pragma once

#include "formulas/hadamard.hpp"

namespace {  // internal linkage: see simd.hpp

// Entries of half a first-level cache.
template <class T>
constexpr int64_t kCached = 16384 / sizeof(T);

// The stages inside a vector, of rows of `width` entries.
template <class T, int H = 1>
NTK_FN Vec<T> lane_stages(Vec<T> v, int64_t width) {
    if constexpr (H < kLanes<T>)
        if (H < width) return lane_stages<T, 2 * H>(add_and_subtract<T, H>(v), width);
    return v;
}

// Transforms all pieces of R vectors.
template <class T, int R>
NTK_FN void first_pass(const T* x, T* out, int64_t width, const T* signs, T scale) {
    for (int64_t k = 0; k < width; k += R * kLanes<T>) {
        Vec<T> v[R];
        for (int r = 0; r < R; ++r) {
            v[r] = load<T>(x + k + r * kLanes<T>);
            if (signs) v[r] *= load<T>(signs + k + r * kLanes<T>);
            v[r] = lane_stages<T>(v[r], kLanes<T>);
        }
        vector_stages<T, R>(v);
        for (int r = 0; r < R; ++r) store<T>(out + k + r * kLanes<T>, v[r] * scale);
    }
}

// Combines R neighbouring pieces of `piece` transformed entries each.
template <class T, int R>
void pass(T* row, int64_t piece, int64_t width, T scale) {
    for (T* end = row + width; row < end; row += R * piece)
        for (int64_t k = 0; k < piece; k += kLanes<T>) {
            Vec<T> v[R];
            for (int r = 0; r < R; ++r) v[r] = load<T>(row + r * piece + k);
            vector_stages<T, R>(v);
            for (int r = 0; r < R; ++r) store<T>(row + r * piece + k, v[r] * scale);
        }
}

template <class T>
void combine(T* row, int64_t piece, int64_t width, T scale) {
    while (piece < width) {
        const int64_t pieces = width / piece, radix = next_radix(pieces);
        const T factor = radix == pieces ? scale : T(1);
        if (radix == 8)
            pass<T, 8>(row, piece, width, factor);
        else if (radix == 4)
            pass<T, 4>(row, piece, width, factor);
        else
            pass<T, 2>(row, piece, width, factor);
        piece *= radix;
    }
}

// One row of more than kRadix vectors.
template <class T>
void long_row(const T* x, T* out, int64_t width, const T* signs, T scale) {
    if (width <= kCached<T>) {
        first_pass<T, kRadix>(x, out, width, signs, T(1));
        combine<T>(out, kRadix * kLanes<T>, width, scale);
        return;
    }
    const int64_t part = width / next_radix(width / kCached<T>);
    for (int64_t k = 0; k < width; k += part)
        long_row<T>(x + k, out + k, part, signs ? signs + k : nullptr, T(1));
    combine<T>(out, part, width, scale);
}

// Rows shorter than a vector, which takes as many as it can.
template <class T>
void tiny_rows(const Hadamard<T>& p, int64_t begin, int64_t end) {
    const int64_t together = kLanes<T> / p.width;
    const bool dense = p.ldx == p.width && p.ldo == p.width;
    T lanes[kLanes<T>] = {}, signs[kLanes<T>];
    for (int64_t k = 0; k < kLanes<T>; ++k) signs[k] = p.signs ? p.signs[k % p.width] : T(1);
    const auto transform = [&](const T* x, T* out) {
        store<T>(out, lane_stages<T>(load<T>(x) * load<T>(signs), p.width) * p.scale);
    };
    int64_t i = begin;
    if (dense)
        for (; i + together <= end; i += together)
            transform(p.x + i * p.width, p.out + i * p.width);
    for (; i < end; i += together) {
        const int64_t used = (together < end - i ? together : end - i) * p.width;
        for (int64_t k = 0; k < used; ++k) lanes[k] = p.x[(i + k / p.width) * p.ldx + k % p.width];
        transform(lanes, lanes);
        for (int64_t k = 0; k < used; ++k)
            p.out[(i + k / p.width) * p.ldo + k % p.width] = lanes[k];
    }
}

template <class T, int R>
void short_rows(const Hadamard<T>& p, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
        first_pass<T, R>(p.x + i * p.ldx, p.out + i * p.ldo, R * kLanes<T>, p.signs, p.scale);
}

template <class T>
void hadamard_rows(const Hadamard<T>& p, int64_t begin, int64_t end) {
    switch (p.width / kLanes<T>) {
        case 0: return tiny_rows<T>(p, begin, end);
        case 1: return short_rows<T, 1>(p, begin, end);
        case 2: return short_rows<T, 2>(p, begin, end);
        case 4: return short_rows<T, 4>(p, begin, end);
        case 8: return short_rows<T, 8>(p, begin, end);
    }
    for (int64_t i = begin; i < end; ++i)
        long_row<T>(p.x + i * p.ldx, p.out + i * p.ldo, p.width, p.signs, p.scale);
}

}  // namespace
