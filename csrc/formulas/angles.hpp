// Angles of a row of pairs from their inner products, those of close pairs from differences.
#pragma once

#include "formulas/problems.hpp"
#include "formulas/profile.hpp"

namespace {

using ntkfast::Problem;
using std::int64_t;

// |x - ratio y|^2 without its radial part, relative to |x|^2, turned into sin^2 of half the angle.
// With ratio = |x|/|y| this keeps the relative accuracy that 1 - cos loses for close directions;
// equal rows give exactly 0. A negative ratio measures the angle to -y.
template <class T>
NTK_BOTH T half_angle_from_differences(const T* x, const T* y, int64_t d, T norm, T ratio) {
    const T inverse = 1 / norm;
    Vec<T> square{}, along{};
    int64_t k = 0;
    for (; k + kLanes<T> <= d; k += kLanes<T>) {
        const Vec<T> a = load<T>(x + k);
        const Vec<T> difference = (a - ratio * load<T>(y + k)) * inverse;
        square += difference * difference;
        along += difference * (a * inverse);
    }
    T total = sum_lanes<T>(square), radial = sum_lanes<T>(along);
    for (; k < d; ++k) {
        const T difference = (x[k] - ratio * y[k]) * inverse;
        total += difference * difference;
        radial += difference * (x[k] * inverse);
    }
    const T sine2 = total - radial * radial;  // sin^2 of the angle, which is below 90 degrees
    constexpr T kRounding = sizeof(T) == 8 ? T(0x1p-48) : T(0x1p-19);  // of parallel rows
    if (!(sine2 > kRounding * total)) return 0;
    return sine2 / (2 + 2 * root(sine2 < 1 ? 1 - sine2 : T(0)));
}

template <class T>
NTK_BOTH T squared_distance(const T* x, const T* y, int64_t d) {
    Vec<T> square{};
    int64_t k = 0;
    for (; k + kLanes<T> <= d; k += kLanes<T>) {
        const Vec<T> difference = load<T>(x + k) - load<T>(y + k);
        square += difference * difference;
    }
    T total = sum_lanes<T>(square);
    for (; k < d; ++k) total += (x[k] - y[k]) * (x[k] - y[k]);
    return total;
}

// A pair (i, j) and the scaled product x_i . y_j / |y_j| of the columns from j on.
template <class T>
struct Pairs {
    const Problem<T>& problem;
    const T* product;
    int64_t i, j;
};

// Lanes of `bits` get value(column); columns beyond the data are left alone.
template <class T, class Value>
NTK_FN void patch(const Pairs<T>& pairs, int first, std::uint64_t bits, Vec<T>& lanes,
                  Value value) {
    T parts[kLanes<T>];
    store<T>(parts, lanes);
    for (; bits; bits &= bits - 1) {
        const int lane = lowest_bit(bits);
        const int64_t j = pairs.j + first + lane;
        if (j < pairs.problem.m) parts[lane] = value(j);
    }
    lanes = load<T>(parts);
}

// A row of zeros: equal to other rows of zeros, orthogonal to everything else.
template <class T>
NTK_BOTH void zero_row(const Pairs<T>& pairs, Vec<T> (&u)[kGroup], Vec<T> (&v)[kGroup]) {
    for (int k = 0; k < kGroup; ++k) {
        T same[kLanes<T>] = {};
        for (int lane = 0; lane < kLanes<T>; ++lane) {
            const int64_t j = pairs.j + k * kLanes<T> + lane;
            same[lane] = j < pairs.problem.m && pairs.problem.norm_y[j] == 0;
        }
        u[k] = load<T>(same);
        v[k] = T(0.5) - T(0.5) * u[k];
    }
}

// u and v = (1-|u|)/2 of kGroup vectors; pairs too close to +-1 are recomputed from differences.
template <class T>
NTK_FN void half_angles(const Pairs<T>& pairs, Vec<T> (&u)[kGroup], Vec<T> (&v)[kGroup]) {
    const Problem<T>& p = pairs.problem;
    const T inverse = p.inverse_x[pairs.i];
    if (p.norm_x[pairs.i] == 0) [[unlikely]] {
        zero_row<T>(pairs, u, v);
        return;
    }
    std::uint64_t close[kGroup], any = 0;
    for (int k = 0; k < kGroup; ++k) {
        u[k] = load<T>(pairs.product + k * kLanes<T>) * inverse;
        v[k] = max2(T(0.5) - T(0.5) * abs2(u[k]), Vec<T>{});
        const Vec<T> limit =
            u[k] < Vec<T>{} ? broadcast(p.refine_below[1]) : broadcast(p.refine_below[0]);
        any |= close[k] = mask_below<T>(v[k], limit);
    }
    if (any) [[unlikely]] {
        const T* x = p.x + pairs.i * p.ldx;
        for (int k = 0; k < kGroup; ++k) {
            T signs[kLanes<T>];
            store<T>(signs, u[k]);
            patch<T>(pairs, k * kLanes<T>, close[k], v[k], [&](int64_t j) {
                const T ratio = p.norm_x[pairs.i] / p.norm_y[j];
                const bool back = signs[j - pairs.j - k * kLanes<T>] < 0;
                return half_angle_from_differences<T>(x, p.y + j * p.ldy, p.d, p.norm_x[pairs.i],
                                                      back ? -ratio : ratio);
            });
        }
    }
}

}  // namespace
