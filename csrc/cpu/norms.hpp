// Sums of squares of rows: a vector of rows at a time, each in the order of its columns.
#pragma once

#include <algorithm>

#include "cpu/squares.hpp"

namespace {

// The numbers of a vector in double: as many as there are lanes for, from half 0 or 1 of it.
NTK_FN Vec<double> widened(Vec<double> v, int) { return v; }
#if defined(NTK_VECTORS)
NTK_FN Vec<double> widened(Vec<float> v, int half) {
    typedef float Half __attribute__((vector_size(kBytes / 2)));
    Half part;
    std::memcpy(&part, reinterpret_cast<const char*>(&v) + half * sizeof part, sizeof part);
    return __builtin_convertvector(part, Vec<double>);
}
#else
NTK_FN double widened(float v, int) { return v; }
#endif

// sums[n] of the squares of x[n][d]. Squares are rounded before they are added: all instruction sets
// find the same.
template <class T>
void square_sums(const T* x, std::int64_t ldx, std::int64_t n, std::int64_t d, double* sums) {
    constexpr int kSide = kLanes<T>, kHalves = kSide / kLanes<double>;
    for (std::int64_t i = 0; i < n; i += kSide) {
        const T* row[kSide];  // those beyond the last one repeat it
        for (int r = 0; r < kSide; ++r) row[r] = x + smaller(i + r, n - 1) * ldx;
        Vec<double> total[kHalves] = {};
        const auto add = [&](Vec<T> column) NTK_LAMBDA {
            for (int h = 0; h < kHalves; ++h) {
                const Vec<double> wide = widened(column, h);
                total[h] += product<double>(wide, wide);
            }
        };
        std::int64_t k = 0;
        for (; k + kSide <= d; k += kSide) {
            Vec<T> square[kSide];
            for (int r = 0; r < kSide; ++r) square[r] = load<T>(row[r] + k);
            transpose<T>(square);
            for (int r = 0; r < kSide; ++r) add(square[r]);
        }
        for (; k < d; ++k) {
            T column[kSide];
            for (int r = 0; r < kSide; ++r) column[r] = row[r][k];
            add(load<T>(column));
        }
        double found[kSide];
        for (int h = 0; h < kHalves; ++h) store<double>(found + h * kLanes<double>, total[h]);
        std::copy_n(found, smaller(kSide, n - i), sums + i);
    }
}

}  // namespace
