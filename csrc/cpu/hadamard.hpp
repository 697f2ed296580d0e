// The fast Walsh-Hadamard transform of rows, in place or from one matrix to another.
//
// A stage replaces the entries (a, b) at distance h by (a + b, a - b), for h = 1, 2, 4, ... The
// stages below the length of a vector happen inside it, the others by threes between registers. A
// row longer than the cache is transformed part by part, each while it is there. All instruction
// sets add in the same order, so that their results have the same bits.
#pragma once

#include <cstring>

#include "formulas/maps.hpp"
#include "formulas/simd.hpp"

namespace {  // internal linkage: see simd.hpp

using namespace ntkfast;
using std::int64_t;

// Vectors in registers: eight and their sums fit everywhere, and eight lines at a distance of a
// power of two share one set of an eight-way cache.
constexpr int kRadix = 8;

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

// How many of `pieces` to combine at once: 16 are 4 times 4, not 8 times 2.
NTK_FN int64_t next_radix(int64_t pieces) {
    return pieces == 2 * kRadix ? kRadix / 2 : pieces < kRadix ? pieces : kRadix;
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

// ---- sketches -----------------------------------------------------------------------------------

// Up to a vector of the numbers that are left.
template <class T>
NTK_FN Vec<T> load_some(const T* p, int64_t left) {
    if (left >= kLanes<T>) return load<T>(p);
    T lanes[kLanes<T>] = {};
    std::memcpy(lanes, p, sizeof(T) * static_cast<std::size_t>(left));
    return load<T>(lanes);
}

// out[k] = f(k), by vectors: compilers leave the branch of a comparison in plain loops.
template <class T, class F>
NTK_FN void entries(int64_t count, T* out, F f) {
    int64_t k = 0;
    for (; k + kLanes<T> <= count; k += kLanes<T>) store<T>(out + k, f(k, kLanes<T>));
    if (k == count) return;
    T lanes[kLanes<T>];
    store<T>(lanes, f(k, count - k));
    std::memcpy(out + k, lanes, sizeof(T) * static_cast<std::size_t>(count - k));
}

template <class T>
void rotate(const Rotation<T>& r, int64_t i, T* to) {
    const T* x = r.x + i * r.ld;
    if (r.step)
        entries<T>(r.dim, to, [&](int64_t k, int64_t left) {
            return load_some<T>(x + k, left) > Vec<T>{} ? load_some<T>(r.signs + k, left)
                                                        : Vec<T>{};
        });
    else
        for (int64_t k = 0; k < r.dim; ++k) to[k] = x[k] * r.signs[k];
    std::memset(to + r.dim, 0, sizeof(T) * static_cast<std::size_t>(r.size - r.dim));
    hadamard_rows<T>({to, to, r.size, r.size, 1, r.size, nullptr, T(1)}, 0, 1);
}

template <class T>
NTK_FN Vec<T> picked(const T* from, const Index<T>* index) {
    IVec<T> lanes;
    std::memcpy(&lanes, index, sizeof lanes);
    return lookup<T>(from, lanes);
}

// Row by row, so that the transforms are in cache when their coordinates are taken.
template <class T>
void sketch_rows(const Sketch<T>& s, int64_t begin, int64_t end, T* scratch) {
    const auto& [left, right] = s.factor;
    T *const a = scratch, *const b = scratch + left.size;
    for (int64_t i = begin; i < end; ++i) {
        T* out = s.out + i * s.ldo;
        if (i == begin || left.ld) rotate<T>(left, i, a);
        int64_t j = 0;
        if (!s.product) {
            for (; j + kLanes<T> <= s.m; j += kLanes<T>)
                store<T>(out + j, picked<T>(a, left.index + j) * s.scale);
            for (; j < s.m; ++j) out[j] = a[left.index[j]] * s.scale;
            continue;
        }
        if (i == begin || right.ld) rotate<T>(right, i, b);
        for (; j + kLanes<T> <= s.m; j += kLanes<T>)
            store<T>(out + j,
                     picked<T>(a, left.index + j) * picked<T>(b, right.index + j) * s.scale);
        for (; j < s.m; ++j) out[j] = a[left.index[j]] * b[right.index[j]] * s.scale;
    }
}

// ---- structured neurons -------------------------------------------------------------------------

template <class T>
NTK_FN Vec<T> answer_of(Vec<T> v, Vec<T> length, Answer kind, T scale) {
    const Vec<T> zero{}, whole = broadcast(scale), half = broadcast(scale * T(0.5));
    if (kind == Answer::kStep) return v > zero ? whole : v < zero ? zero : half;
    return (kind == Answer::kRelu ? max2(v, zero) : v) * (length * scale);
}

template <class T>
void answer(const T* v, const T* lengths, int64_t count, Answer kind, T scale, T* out) {
    entries<T>(count, out, [&](int64_t k, int64_t left) {
        return answer_of<T>(load_some<T>(v + k, left), load_some<T>(lengths + k, left), kind,
                            scale);
    });
}

// Row by row and block by block: what is rotated stays in the first-level cache.
template <class T>
void structured_rows(const Structured<T>& s, int64_t begin, int64_t end, T* scratch) {
    const T unit = T(1) / root(static_cast<T>(s.size));
    const auto padding = sizeof(T) * static_cast<std::size_t>(s.size - s.dim);
    for (int64_t i = begin; i < end; ++i) {
        const T *x = s.x + i * s.ldx, *flips = s.flips, *lengths = s.lengths;
        for (int64_t j = 0; j < s.count; j += s.size, flips += 3 * s.size, lengths += s.size) {
            for (int64_t k = 0; k < s.dim; ++k) scratch[k] = x[k] * flips[k];
            std::memset(scratch + s.dim, 0, padding);
            for (int k = 0; k < 3; ++k) {
                const T* signs = k ? flips + k * s.size : nullptr;  // the first are in already
                hadamard_rows<T>({scratch, scratch, s.size, s.size, 1, s.size, signs, unit}, 0, 1);
            }
            answer<T>(scratch, lengths, s.size < s.count - j ? s.size : s.count - j, s.answer,
                      s.scale, s.out + i * s.ldo + j);
        }
    }
}

}  // namespace
