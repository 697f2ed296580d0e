// Sums of squares of rows: a vector of rows at a time, each in the order of its columns.
#pragma once

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
    const std::int64_t whole = d / kSide * kSide;
    for (std::int64_t i = 0; i < n; i += kSide) {
        const T* row[kSide];  // those beyond the last one repeat it
        for (int r = 0; r < kSide; ++r) row[r] = x + smaller(i + r, n - 1) * ldx;
        Vec<double> total[kHalves] = {};
        for (std::int64_t k = 0; k < whole; k += kSide) {
            Vec<T> square[kSide];
            for (int r = 0; r < kSide; ++r) square[r] = load<T>(row[r] + k);
            transpose<T>(square);
            for (int r = 0; r < kSide; ++r)
                for (int h = 0; h < kHalves; ++h) {
                    const Vec<double> wide = widened(square[r], h);
                    total[h] += product<double>(wide, wide);
                }
        }
        double found[kSide], lanes[kLanes<double>];
        for (int h = 0; h < kHalves; ++h) store<double>(found + h * kLanes<double>, total[h]);
        for (int r = 0; r < smaller(kSide, n - i); ++r) {
            Vec<double> sum = broadcast<double>(found[r]);
            for (std::int64_t k = whole; k < d; ++k) {
                const Vec<double> wide = broadcast<double>(row[r][k]);
                sum += product<double>(wide, wide);
            }
            store<double>(lanes, sum);
            sums[i + r] = lanes[0];
        }
    }
}

}  // namespace
