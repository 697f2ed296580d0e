// Sketches and structured neurons: random transforms of rows, and what is made of their coordinates.
#pragma once

#include "cpu/hadamard.hpp"
#include "formulas/lookup.hpp"

namespace {  // internal linkage: see simd.hpp

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
