// Waves and exponentials, whose duals are exponentials of the covariance, on a strip of pairs.
#pragma once

#include "formulas/exponential.hpp"
#include "formulas/pair_state.hpp"

namespace {

// a sin(b x + phase), whose dual is half (exp(-rate |d|^2 / 2) - turn exp(-rate |s|^2 / 2)) with
// rate = b^2, half = a^2 / 2, turn = cos(2 phase), |d|^2 = q + q' - 2 c and |s|^2 = q + q' + 2 c.
//
// Numbers, with v the variance after it and v' that of the slope: root of q, then the roots of
// (1 - turn) half / v, 2 rate q half / v, (1 + turn) rate half / v', 2 rate^2 q half / v', then root of
// v, its inverse, and 1 - exp(-rate q).
template <class T, class Row = T>
struct Sine {
    const Stats<T, Row>& stats;
    T rate, half, turn;

    NTK_FN Vec<T> gap(int k) const {  // rate (sqrt q - sqrt q')^2 / 2
        const Vec<T> d = stats.difference(0, k);
        return T(0.5) * rate * (d * d);
    }
    NTK_FN Dual<T> direct(int k, Vec<T> w, Vec<T> co) const {
        const Vec<T> small = min2(w, co), size = T(1) - small, n = rate * stats.pair(0, k);
        const Vec<T> all = exponential<T>(-(n * small + gap(k))), one = broadcast<T>(T(1));
        const Vec<T> apart = size * expm1_ratio<T>(T(-2) * n * size);
        const Vec<T> sign = w < co ? broadcast<T>(turn) : -one;
        return {all * (stats.pair(1, k) + sign * stats.pair(2, k) * apart),
                all * (stats.pair(3, k) - (w < co ? sign : one) * stats.pair(4, k) * apart)};
    }
    NTK_FN Vec<T> near(int k, Vec<T> w, Vec<T> co, Vec<T> u) const {
        const Vec<T> n = rate * stats.pair(0, k), x = -n * w, y = -n * co, d = gap(k), zero{};
        const Vec<T> gone = exponential<T>(-d), even = stats.pair(1, k);
        const Vec<T> odd = T(0.5) * stats.pair(2, k) * gone, rx = expm1_ratio<T>(x),
                     ry = expm1_ratio<T>(y), ex = T(1) + x * rx, ey = T(1) + y * ry;
        const Vec<T> front = odd * w * rx * ((T(1) + turn) + turn * (y * ry));
        const Vec<T> behind = odd * co * ry * (T(1) + ex) + even * gone * ey * (T(1) + ex);
        // At equal directions: what exp(-d), and the waves of the two variances, lose.
        const Vec<T> root = stats.difference(0, k), wave = stats.difference(7, k);
        const Row inverse = stats.left(6);
        const Vec<T> inverse_ = stats.own(6, k), far = exponential<T>(T(-2) * n - d);
        const Vec<T> bend = (T(0.5) * rate * half) * (root * inverse) * (root * inverse_) *
                                expm1_ratio<T>(-d) * (T(1) + turn * far) -
                            (T(0.5) * turn * half) * (wave * inverse) * (wave * inverse_);
        const Vec<T> dual = gone * (even + turn * stats.pair(2, k) * expm1_ratio<T>(T(-2) * n));
        return mismatch<T>(stats, 5, k, bend, dual) + (u < zero ? behind : front);
    }
};

// a exp(b x); rate = b^2. Number: root of q.
template <class T, class Row = T>
struct Exponential {
    const Stats<T, Row>& stats;
    T rate;

    NTK_FN Vec<T> loss(int k, Vec<T> w) const {  // -log u
        const Vec<T> d = stats.difference(0, k);
        return rate * (stats.pair(0, k) * w + T(0.5) * (d * d));
    }
    NTK_FN Dual<T> direct(int k, Vec<T> w, Vec<T>) const {
        const Vec<T> u = exponential<T>(-loss(k, w));
        return {u, u};
    }
    NTK_FN Vec<T> near(int k, Vec<T> w, Vec<T>, Vec<T>) const {
        const Vec<T> lost = loss(k, w);
        return lost * expm1_ratio<T>(-lost);
    }
};

}  // namespace
