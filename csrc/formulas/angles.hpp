// Angles of a row of pairs from their inner products, those of close pairs from differences.
#pragma once

#include "formulas/problems.hpp"
#include "formulas/profile.hpp"

namespace {

using ntkfast::Problem;
using std::int64_t;

// x/|x| - ratio y/|x|, in squared length and along x/|x|. With ratio = |x|/|y| this keeps the relative
// accuracy that 1 - cos loses for close directions; a negative ratio measures the angle to -y.
template <class T>
struct Apart {
    T total, radial;
    NTK_BOTH T sine2() const {  // sin^2 of the angle, which is below 90 degrees; 0 of parallel rows
        constexpr T kRounding = sizeof(T) == 8 ? T(0x1p-48) : T(0x1p-19);
        const T square = total - radial * radial;
        return square > kRounding * total ? square : T(0);
    }
};
template <class T>
NTK_BOTH Apart<T> apart(const T* x, const T* y, int64_t d, T norm, T ratio) {
    const T inverse = 1 / norm;
    Vec<T> square{}, along{};
    int64_t k = 0;
    for (; k + kLanes<T> <= d; k += kLanes<T>) {
        const Vec<T> a = load<T>(x + k);
        const Vec<T> difference = minus_product(a, ratio, load<T>(y + k)) * inverse;
        square += difference * difference;
        along += difference * (a * inverse);
    }
    T total = sum_lanes<T>(square), radial = sum_lanes<T>(along);
    for (; k < d; ++k) {
        const T difference = minus_product(x[k], ratio, y[k]) * inverse;
        total += difference * difference;
        radial += difference * (x[k] * inverse);
    }
    return {total, radial};
}

// sin^2 of half the angle; equal rows give exactly 0.
template <class T>
NTK_BOTH T half_angle(const Apart<T>& rows) {
    const T sine2 = rows.sine2();
    return sine2 / (2 + 2 * root(sine2 < 1 ? 1 - sine2 : T(0)));
}
template <class T>
NTK_BOTH T half_angle_from_differences(const T* x, const T* y, int64_t d, T norm, T ratio) {
    return half_angle<T>(apart<T>(x, y, d, norm, ratio));
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

// Whether the map asks for the products themselves. Else those with columns of unit length are
// formed, so that they cannot overflow.
template <class T>
NTK_FN bool takes_products(const Problem<T>& p) {
    return p.neuron || (p.radial && p.radial->radius == ntkfast::Radius::kEuclidean);
}

// |x|^2 + |y|^2 and |x - y|^2 of kGroup vectors, of close pairs from differences.
template <class T>
NTK_FN void squared_distances(const Pairs<T>& pairs, Vec<T> (&total)[kGroup],
                              Vec<T> (&square)[kGroup]) {
    const Problem<T>& p = pairs.problem;
    const T norm = p.norm_x[pairs.i];
    for (int k = 0; k < kGroup; ++k) {
        T norms[kLanes<T>] = {};
        const int64_t first = pairs.j + k * kLanes<T>;
        if (first + kLanes<T> <= p.m)
            store<T>(norms, load<T>(p.norm_y + first));
        else if (!kOnePair && first < p.m)
            std::memcpy(norms, p.norm_y + first, sizeof(T) * (p.m - first));
        const Vec<T> q = load<T>(norms);
        total[k] = norm * norm + q * q;
        square[k] = max2(total[k] - T(2) * load<T>(pairs.product + k * kLanes<T>), Vec<T>{});
        const std::uint64_t close = mask_below<T>(square[k], total[k] * p.refine_below[0]);
        if (close)
            patch<T>(pairs, k * kLanes<T>, close, square[k], [&](int64_t j) {
                return squared_distance<T>(p.x + pairs.i * p.ldx, p.y + j * p.ldy, p.d);
            });
    }
}

// u of kGroup vectors; of a row of zeros see angles_of.
template <class T>
NTK_FN void cosines(const Pairs<T>& pairs, Vec<T> (&u)[kGroup]) {
    const T inverse = pairs.problem.inverse_x[pairs.i];
    for (int k = 0; k < kGroup; ++k) u[k] = load<T>(pairs.product + k * kLanes<T>) * inverse;
}

// v = (1-|u|)/2 of kGroup vectors, from differences where pairs are too close to +-1.
template <class T>
NTK_FN void angles_of(const Pairs<T>& pairs, Vec<T> (&u)[kGroup], Vec<T> (&v)[kGroup]) {
    const Problem<T>& p = pairs.problem;
    if (p.norm_x[pairs.i] == 0) [[unlikely]] {
        zero_row<T>(pairs, u, v);
        return;
    }
    const T limit = max2(p.refine_below[0], p.refine_below[1]);
    std::uint64_t any = 0;
    for (int k = 0; k < kGroup; ++k) {
        v[k] = max2(T(0.5) - T(0.5) * abs2(u[k]), Vec<T>{});
        any |= mask_below<T>(v[k], broadcast(limit));
    }
    if (any) [[unlikely]] {
        const T* x = p.x + pairs.i * p.ldx;
        for (int k = 0; k < kGroup; ++k) {
            T signs[kLanes<T>];
            store<T>(signs, u[k]);
            const Vec<T> own =
                u[k] < Vec<T>{} ? broadcast(p.refine_below[1]) : broadcast(p.refine_below[0]);
            const std::uint64_t close = mask_below<T>(v[k], own);
            patch<T>(pairs, k * kLanes<T>, close, v[k], [&](int64_t j) {
                if (!kOnePair && x == p.y + j * p.ldy) return T(0);  // the diagonal
                const T ratio = p.norm_x[pairs.i] / p.norm_y[j];
                const bool back = signs[j - pairs.j - k * kLanes<T>] < 0;
                return half_angle_from_differences<T>(x, p.y + j * p.ldy, p.d, p.norm_x[pairs.i],
                                                      back ? -ratio : ratio);
            });
        }
    }
}

// u and v of kGroup vectors.
template <class T>
NTK_FN void half_angles(const Pairs<T>& pairs, Vec<T> (&u)[kGroup], Vec<T> (&v)[kGroup]) {
    cosines<T>(pairs, u);
    angles_of<T>(pairs, u, v);
}

}  // namespace
