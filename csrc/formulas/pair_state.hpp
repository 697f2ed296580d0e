// A pair of inputs on its way through the layers, in normalised quantities, and a strip of them.
//
// A pair is carried as w = 1-u, co = 1+u and t, where u = nngp / sqrt(q p) and t = ntk / sqrt(a b),
// with q, p and a, b the NNGP and NTK of either input with itself. All of them lie in [-1, 1] or
// [0, 2], so that nothing overflows. Mixing two kernels (a bias is the constant kernel) is then, with
// unit vectors (cos a, sin a) of the shares of either variance,
//     u' = cos a cos b u1 + sin a sin b u2,
//     w' = cos a cos b w1 + sin a sin b w2 + 1 - cos(a-b),
// a sum of non-negative terms, and so is 1+u': no cancellation at either end, at any depth.
#pragma once

#include "formulas/angles.hpp"

namespace {

constexpr int kStrip = kOnePair ? 1 : 64;  // pairs per strip

template <class T>
struct State {
    alignas(kOnePair ? sizeof(T) : 64) T w[kStrip], co[kStrip], t[kStrip];
};

template <class T>
NTK_FN void put(State<T>& s, int k, Vec<T> w, Vec<T> co, Vec<T> t) {
    store<T>(s.w + k, w), store<T>(s.co + k, co), store<T>(s.t + k, t);
}

// The same of a vector of pairs.
template <class T>
struct Carried {
    Vec<T> w, co, t;
};

// Calls take(lane, w, co, u, v) for the vectors of a strip of pairs of rows, v = (1-|u|)/2.
template <class T, class Take>
NTK_FN void each_start(const Pairs<T>& pairs, const Take& take) {
    for (int first = 0; first < kStrip; first += kGroup * kLanes<T>) {
        Vec<T> u[kGroup], v[kGroup];
        half_angles<T>({pairs.problem, pairs.product + first, pairs.i, pairs.j + first}, u, v);
        for (int k = 0; k < kGroup; ++k) {
            const auto back = u[k] < Vec<T>{};
            const Vec<T> small = v[k] + v[k], large = T(2) - small;
            take(first + k * kLanes<T>, back ? large : small, back ? small : large, u[k], v[k]);
        }
    }
}

// u of either sign.
template <class T>
NTK_FN Vec<T> cosine(Vec<T> w, Vec<T> co) {
    return w < co ? T(1) - w : co - T(1);
}

// sin(a-b) from sines and cosines of angles up to 90 degrees: 0 for equal ones, which the difference of
// two products is not where one of them is fused into a multiply-add.
template <class T, class Row>
NTK_FN Vec<T> sine_of_difference(Row sine, Row cosine, Vec<T> sine_, Vec<T> cosine_) {
    return (sine - sine_) * cosine_ - sine_ * (cosine - cosine_);
}

// The numbers of one layer for a row i (scalars) and for the columns of a strip, `stride` apart. Row
// is Vec<T> where the lanes of the row are data too.
template <class T, class Row = T>
struct Stats {
    const T *row, *column;
    std::int64_t stride = kStrip;
    NTK_FN Row left(int k) const {
        if constexpr (std::is_same_v<Row, T>)
            return row[k];
        else
            return load<T>(row + k * stride);
    }
    NTK_FN Vec<T> own(int k, int lane) const { return load<T>(column + k * stride + lane); }
    NTK_FN Vec<T> pair(int k, int lane) const {  // product of the k-th numbers
        return left(k) * own(k, lane);
    }
    // 1 - cos(a-b) of two angles below 90 degrees, whose cosines and sines are numbers k and k+1
    NTK_FN Vec<T> moved(int k, int lane) const {
        const Vec<T> sine =
            sine_of_difference<T>(left(k + 1), left(k), own(k + 1, lane), own(k, lane));
        return sine * sine / (T(1) + pair(k, lane) + pair(k + 1, lane));
    }
    NTK_FN Vec<T> difference(int k, int lane) const { return left(k) - own(k, lane); }
    NTK_FN void skip(std::int64_t numbers) { row += numbers, column += numbers * stride; }
};

// What a smooth activation says of a pair: the new u, and the factor of t.
template <class T>
struct Dual {
    Vec<T> u, slope;
};

// Below this 1-|u| is no longer formed from u, which would cost it more than a few bits.
template <class T>
constexpr T kNear = T(1) / 16;

// Applies a smooth activation: form.direct gives its Dual, form.near gives 1-|u| without a difference
// of nearly equal numbers. The second is dearer and asked for where it is needed.
template <class T, class Form>
NTK_FN Carried<T> applied(const Form& form, int k, const Carried<T>& s) {
    const Vec<T> zero{}, limit = broadcast<T>(kNear<T>);
    const Dual<T> dual = form.direct(k, s.w, s.co);
    Vec<T> small = T(1) - abs2(dual.u);
    if (mask_below<T>(small, limit))
        small = small < limit ? max2(form.near(k, s.w, s.co, dual.u), zero) : small;
    const auto back = dual.u < zero;
    const Vec<T> large = T(2) - small;
    return {back ? large : small, back ? small : large, s.t * dual.slope};
}

// Two inputs of different variances q and p differ at equal directions too: with K the dual there,
// 1 - K(q, p) / sqrt(K(q, q) K(p, p)). `half` is (K(q, q) + K(p, p)) / 2 - K(q, p) over that root,
// from a form without cancellation; what exceeds the geometric mean in it is taken off by the roots
// of K(q, q) and K(p, p), numbers `root` and root + 1 (its inverse). Far apart, K itself will do.
template <class T, class Row>
NTK_FN Vec<T> mismatch(const Stats<T, Row>& stats, int root, int lane, Vec<T> half, Vec<T> dual) {
    const Vec<T> gap = stats.difference(root, lane);
    const Vec<T> square = (gap * stats.left(root + 1)) * (gap * stats.own(root + 1, lane));
    return square < broadcast<T>(T(0.25)) ? half - T(0.5) * square : T(1) - dual;
}

// Replaces every pair of a strip by form(k, pair).
template <class T, class Form>
NTK_FN void each_of_strip(State<T>& s, const Form& form) {
    for (int k = 0; k < kStrip; k += kLanes<T>) {
        const Carried<T> now = form(k, {load<T>(s.w + k), load<T>(s.co + k), load<T>(s.t + k)});
        put<T>(s, k, now.w, now.co, now.t);
    }
}

}  // namespace
