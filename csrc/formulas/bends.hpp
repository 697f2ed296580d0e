// Derivatives of activations at a pair, by u and by the variance of x.
#pragma once

#include "formulas/layer.hpp"

namespace {

using ntkfast::kMoves;
using ntkfast::kRates;

// Of one activation at a pair: with f the new u and g the factor of the NTK, both normalised, and s the
// logarithm of the root of the variance of x, at fixed u. f_s vanishes at equal inputs; layers that drive
// inputs apart would multiply its rounding, so that those of such functions are no differences there.
template <class T>
struct Bend {
    Vec<T> f_u, f_s, g, g_u, g_s;
};

// What a layer asks of one data row (see row_rates.hpp): beside its share how its root grows, and the
// numbers of directions.
template <class T>
struct Rates {
    const T *row, *shares;  // those of the columns of one layer, and of the next one `stride` on
    std::int64_t directions;
    std::int64_t stride = kStrip;

    NTK_FN Vec<T> share(int k) const { return row[0] * load<T>(shares + k); }
    NTK_FN T grown() const { return row[1]; }
    NTK_FN const T* moves(std::int64_t i) const { return row + kRates + i * kMoves; }
    NTK_FN void next() { row += kRates + kMoves * directions, shares += stride; }
};

template <class T>
NTK_FN Bend<T> bend_relu(const ntkfast::LayerConstants<T>& layer, Vec<T> w, Vec<T> co,
                         const ArcCosine<T>& c) {
    const T a = layer.constant[0], b = layer.constant[1];
    const Vec<T> sine2 = w * co, zero{}, one = broadcast<T>(T(1));
    const Vec<T> g = c.kappa0 * a + b;
    const auto apart = sine2 > zero;  // parallel inputs stay parallel: their tangents are 0
    const Vec<T> turn = (kInversePi<T> * a) / sqrt_lanes<T>(apart ? sine2 : one);
    return {g, zero, g, apart ? turn : zero, zero};
}

template <class T>
NTK_FN Bend<T> bend_step(const ntkfast::LayerConstants<T>& layer, Vec<T> w, Vec<T> co) {
    const Vec<T> sine2 = w * co, zero{}, one = broadcast<T>(T(1));
    const auto apart = sine2 > zero;
    const Vec<T> turn = (kInversePi<T> * layer.constant[0]) / sqrt_lanes<T>(apart ? sine2 : one);
    return {apart ? turn : zero, zero, zero, zero, zero};
}

template <class T>
NTK_FN Bend<T> bend_erf(const Stats<T>& stats, const Rates<T>& rates, int k, Vec<T> w, Vec<T> co) {
    const Vec<T> u = cosine<T>(w, co);
    const ArcSine<T> s(stats, 0, k, w, co);
    const Dual<T> dual = Erf<T>{stats}.direct(k, w, co);
    const T h2 = stats.row[0] * stats.row[0], c2 = stats.row[1] * stats.row[1];
    const Vec<T> steep = stats.pair(3, k) / s.e, g = dual.slope;  // f_u but for u = 0
    const Vec<T> z2 = s.z * s.z / s.rest;
    return {steep, steep * u * c2 - dual.u * rates.grown(), g, g * s.z1 * s.z1 * u / s.rest,
            g * (z2 * c2 - h2)};
}

template <class T>
NTK_FN Bend<T> bend_gelu(const Stats<T>& stats, const Rates<T>& rates, int k, Vec<T> w, Vec<T> co) {
    constexpr T kInverse2Pi = static_cast<T>(0.15915494309189533577);
    const Vec<T> u = cosine<T>(w, co);
    const ArcSine<T> s(stats, 0, k, w, co);
    const Dual<T> dual = Gelu<T>{stats}.direct(k, w, co);
    // D = (1+q)(1+p) and E^2 = D - c^2 = D (1 - z^2); inverse(1+q) = g g of ArcSine is over both
    const T q = stats.row[2] * stats.row[2], share = stats.row[1] * stats.row[1];  // 1 / (1+q)
    const Vec<T> root = stats.own(2, k), other = stats.own(1, k);
    const Vec<T> rest_p = other * other;                      // 1 / (1+p)
    const Vec<T> ie = s.g / s.e, size = stats.row[2] * root;  // 1/E, sqrt(q p)
    const Vec<T> u2 = u * u, e2 = s.rest / (s.g * s.g);       // E^2
    const Vec<T> inverse_d = s.g * s.g;
    // dK/dq over p, times 2 pi; large q drop out of q p - c^2
    const Vec<T> by_q =
        share * (s.e * s.g + q * ie * (T(0.5) * s.product - u2 * (inverse_d + T(0.5) * ie * ie)));
    const Vec<T> slope = dual.slope / stats.pair(6, k);  // K'
    const Vec<T> along = u * slope + T(2) * size * by_q * kInverse2Pi;
    // With A = 1 / ((1+q) rest), B likewise and C = c / E^2, the derivative of K' by c is (1 + A)(1 + B) + 2 C^2
    // over 2 pi E. As c^2 = D - E^2 it leaves, with that by q, c / (1+q) (A - B + 3 A B - 1 + 2 / (1+q)).
    const Vec<T> tilted = share / s.rest, tilted_ = rest_p / s.rest;
    const Vec<T> c = u * size, across = c / e2;
    const Vec<T> second =
        kInverse2Pi * ie * ((T(1) + tilted) * (T(1) + tilted_) + T(2) * across * across);
    const Vec<T> bent = (tilted - tilted_ + T(3) * tilted * tilted_) + (T(2) * share - T(1));
    const Vec<T> slope_s = kInverse2Pi * ie * c * share * bent;
    const Vec<T> top = stats.pair(5, k), own = stats.pair(6, k);
    return {dual.slope * rates.share(k), top * along - dual.u * rates.grown(), dual.slope,
            own * size * second, own * slope_s};
}

// sqrt(q) (sqrt(q) - sqrt(p) u) of the roots with number 0.
template <class T>
NTK_FN Vec<T> lead(const Stats<T>& stats, int k, Vec<T> w) {
    return stats.row[0] * (stats.difference(0, k) + stats.own(0, k) * w);
}

// With the waves E and O of difference and sum, size sqrt(v v') / half of them, and z that of the sum at
// equal inputs, f_s = (-lead (E + O) + 2 q / (1 - z) (O - z E)) / size in units of the rate, where
// O = z E exp(2 lead).
template <class T>
NTK_FN Bend<T> bend_sine(const ntkfast::LayerConstants<T>& layer, const Stats<T>& stats,
                         const Rates<T>& rates, int k, Vec<T> w, Vec<T> co) {
    const T rate = layer.constant[0], half = layer.constant[1], turn = layer.constant[2];
    const T q = rate * stats.row[0] * stats.row[0];
    const T inverse = stats.row[5] > 0 ? stats.row[6] : T(0);  // nothing vanishes twice
    const Sine<T> form{stats, rate, half, turn};
    const Dual<T> dual = form.direct(k, w, co);
    const Vec<T> u = cosine<T>(w, co), share = rates.share(k), zero{}, one = broadcast<T>(T(1));
    const Vec<T> f_u = dual.slope * share, n = rate * stats.pair(0, k), gap = form.gap(k);
    const auto moves = share > zero;
    const Vec<T> g_u = moves ? n * n * dual.u / (moves ? share : one) : zero;
    const Vec<T> even = exponential<T>(-(n * w + gap)),
                 odd = turn * exponential<T>(-(n * co + gap));
    const T rest = 1 - stats.row[7], z = turn * rest * rest;
    const T grown = 2 * q * half * inverse * inverse;
    const Vec<T> ahead = rate * lead<T>(stats, k, w), twice = ahead + ahead;
    const auto close = abs2(twice) < broadcast<T>(T(0.3));  // where expm1_ratio is a polynomial
    const Vec<T> x = close ? twice : zero;
    const Vec<T> lost = close ? z * even * (x * expm1_ratio<T>(x)) : odd - z * even;
    // Elsewhere this would be the difference, above all beside a short row.
    const Vec<T> inverse_ = stats.own(5, k) > zero ? stats.own(6, k) : zero;
    const Vec<T> near = (half * inverse) * (grown * lost - ahead * (even + odd)) * inverse_;
    const auto equal = dual.u > broadcast<T>(T(0.75));
    const Vec<T> f_s = equal ? near : u * f_u - dual.u * (q + rates.grown());
    return {f_u, f_s, dual.slope, g_u, u * g_u - q * dual.slope};
}

template <class T>
NTK_FN Bend<T> bend_exp(const ntkfast::LayerConstants<T>& layer, const Stats<T>& stats, int k,
                        Vec<T> w, Vec<T> co) {
    const T rate = layer.constant[0], q = rate * stats.row[0] * stats.row[0];
    const Vec<T> f = Exponential<T>{stats, rate}.direct(k, w, co).u, n = rate * stats.pair(0, k);
    return {n * f, -f * (rate * lead<T>(stats, k, w)), f, n * f, f * (q + n * cosine<T>(w, co))};
}

template <class T>
NTK_FN Bend<T> bend_gaussian(const Stats<T>& stats, int k, Vec<T> w, Vec<T> co) {
    const Gaussian<T> form{stats};
    const Dual<T> dual = form.direct(k, w, co);
    const Vec<T> u = cosine<T>(w, co), z1 = stats.pair(0, k), rest = form.parts(k, w, co).rest;
    const T h = stats.row[0], h2 = h * h;
    const Vec<T> h_ = stats.own(0, k), z2 = z1 * z1 * u / rest, moved = u * z2 - h2 / rest;
    const Vec<T> behind = -(stats.difference(0, k) + h_ * w);  // h' u - h
    const Vec<T> cube = dual.u * dual.u * dual.u;
    return {dual.u * z2, dual.u * (h2 * behind * (h_ * u + h) / (rest * (1 + h2))), dual.slope,
            cube * (T(1) + T(3) * u * z2), dual.slope * (T(1) + T(3) * moved)};
}

// Coefficients a_j have the derivatives b_j = sqrt((j+1)(j+2)) a_{j+2} + j a_j. In f_s stand c_j = b_j -
// a_j grown, whose sum with a_j is 0: sum_j c_j (a'_j u^j - a_j), with 1 - u taken out.
template <class T>
NTK_FN Bend<T> bend_series(int terms, const Stats<T>& stats, const Rates<T>& rates, int k, Vec<T> w,
                           Vec<T> co) {
    const Vec<T> u = cosine<T>(w, co);
    Vec<T> f{}, f_u{}, half{}, moved{}, moved_u{}, apart{}, sum{};  // half: f_uu / 2
    T tail = 0;
    for (int j = terms - 1; j >= 0; --j) {
        const T a = stats.row[j];
        const T next = j + 2 < terms ? root(T(j + 1) * T(j + 2)) * stats.row[j + 2] : T(0);
        const T b = next + T(j) * a, c = b - a * rates.grown();
        half = half * u + f_u;
        f_u = f_u * u + f;
        f = f * u + stats.pair(j, k);
        moved_u = moved_u * u + moved;
        moved = moved * u + b * stats.own(j, k);
        apart = apart * u - c * stats.difference(j, k);
        if (j == 0) break;
        tail += c * a;
        sum = sum * u + tail;
    }
    const Vec<T> own = stats.pair(terms, k);
    const Vec<T> f_s = w < co ? apart - w * sum : moved - f * rates.grown();
    return {f_u, f_s, f_u * own, T(2) * half * own, (moved_u - f_u) * own};
}

template <class T>
NTK_FN Bend<T> bend(const ntkfast::LayerConstants<T>& layer, const Stats<T>& stats,
                    const Rates<T>& rates, int k, Vec<T> w, Vec<T> co) {
    using A = ntkfast::ActivationKind;
    switch (layer.activation) {
        case A::kStep: return bend_step<T>(layer, w, co);
        case A::kErf: return bend_erf<T>(stats, rates, k, w, co);
        case A::kGelu: return bend_gelu<T>(stats, rates, k, w, co);
        case A::kSine: return bend_sine<T>(layer, stats, rates, k, w, co);
        case A::kExp: return bend_exp<T>(layer, stats, k, w, co);
        case A::kGaussian: return bend_gaussian<T>(stats, k, w, co);
        case A::kDropout: {
            const Vec<T> kept = broadcast<T>(layer.constant[0]), zero{};
            return {kept, zero, kept, zero, zero};
        }
        default: return bend_series<T>(static_cast<int>(layer.terms), stats, rates, k, w, co);
    }
}

}  // namespace
