// What a device is asked to do: the problems of problems.hpp.
//
// Rows, the vectors of a product and results lie in memory of the host or of the device (both alike
// in a call for transforms); everything else in memory of the host.
//
// `poll` is called between pieces of the work and may throw, as Ctrl-C does.
#pragma once

#include <functional>

#include "cuda/memory.hpp"
#include "formulas/problems.hpp"

namespace ntkfast {

using Poll = std::function<void()>;

// Of norms: the least one, the least above 0 or infinity, the largest or a NaN, and their mean.
struct NormRange {
    double least, positive, top, mean;
};

// out[n] = Euclidean norms of rows times a number, as row_norms of the host, and what they lie
// between; all in memory of the device.
template <class T>
struct RowNorms {
    const T* x;
    std::int64_t ld, n, d;
    double scale;
    T* out;
    NormRange* range;
};

// Powers of norms, all in memory of the device.
template <class T>
struct NormPower {
    const T* norms;
    T* to;
    std::int64_t n;
    double power;
    bool keeps_zeros;  // where the inverse of a norm counts as 0, the result is at_zero
    T at_zero;
};
template <class T>
struct NormPowers {
    NormPower<T> of[4];
    std::int64_t count;
};

// The numbers of rows of a map of layers without series, [n][stats] or for columns [stats][n], and
// values at equal inputs [n][2], or null; all in memory of the device.
template <class T>
struct LayerNumbers {
    Layers<T> map;
    const T* norms;
    std::int64_t n;
    T tiny;  // a norm that stands for 0
    bool columns;
    T *to, *diagonal;
};

// out[rows][columns] = a[rows][inner] v, all in memory of the device; a[i][i + shift] is diagonal[i],
// in memory of the host, where that is not null.
template <class T>
struct DenseProduct {
    const T *a, *v, *diagonal;
    T* out;
    std::int64_t rows, inner, columns, lda, ldv, ldo, shift;
};

// out[n][d] = scale factors[i] x / divisors[i]; x, which may be out, and out in memory of the device.
// A null x stands for ones, and so do null factors and divisors.
template <class T>
struct ScaledRows {
    const T *x, *divisors, *factors;
    T* out;
    std::int64_t n, d, ldx, ldo;
    T scale;
};

// out[n][m] += the transpose of part[m][n], or of itself, if that is null; both in memory of the device.
template <class T>
struct TurnedSum {
    const T* part;
    T* out;
    std::int64_t n, m, ldp, ldo;
};

// out[i][j] = (x[i][left[j]] x[i][right[j]] - shifts[j]) factors[j]; x and out in memory of the device.
template <class T>
struct PairProducts {
    const T* x;
    const std::int64_t *left, *right;
    const T *shifts, *factors;
    T* out;
    std::int64_t n, m, ldx, ldo;
};

// left[n][columns] = K v, and right[m][columns] = the transpose of K times u, or left is all if they
// are the same: the sums of both from one evaluation of each pair.
template <class T>
struct GroupProducts {
    Problem<T> pairs;
    double *left, *right;
};

#define NTK_ON_DEVICE(Kind)                                                          \
    void run_on_device(const Kind<float>& problem, const Device&, const Poll& poll); \
    void run_on_device(const Kind<double>& problem, const Device&, const Poll& poll);

NTK_ON_DEVICE(RowNorms)
NTK_ON_DEVICE(NormPowers)
NTK_ON_DEVICE(LayerNumbers)
NTK_ON_DEVICE(DenseProduct)
NTK_ON_DEVICE(ScaledRows)
NTK_ON_DEVICE(PairProducts)
NTK_ON_DEVICE(TurnedSum)
NTK_ON_DEVICE(Hadamard)
NTK_ON_DEVICE(Sketch)
NTK_ON_DEVICE(Structured)
NTK_ON_DEVICE(Sequences)
NTK_ON_DEVICE(Images)
NTK_ON_DEVICE(Problem)
NTK_ON_DEVICE(GroupProducts)
NTK_ON_DEVICE(Gradient)
#undef NTK_ON_DEVICE

}  // namespace ntkfast
