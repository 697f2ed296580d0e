// One activation on a strip of pairs, in normalised quantities.
//
// A pair is carried as w = 1-u, co = 1+u and T = ntk / sqrt(q p), where u = nngp / sqrt(q p) and
// q, p are the variances of the two inputs. Mixing two kernels (a bias is the constant kernel)
// is then, with unit vectors (cos a, sin a) of the shares of either variance,
//     u' = cos a cos b u1 + sin a sin b u2,
//     w' = cos a cos b w1 + sin a sin b w2 + 2 sin^2((a-b)/2),
// a sum of non-negative terms: no cancellation near the diagonal at any depth, no overflow.
#pragma once

#include "formulas/exponential.hpp"
#include "formulas/maps.hpp"

namespace {

constexpr int kStrip = kOnePair ? 1 : 64;  // pairs per strip

template <class T>
struct State {
    alignas(kOnePair ? sizeof(T) : 64) T w[kStrip], co[kStrip], t[kStrip];
};

// The numbers of one layer for a row i (scalars) and for the columns of a strip, `stride` apart.
template <class T>
struct Stats {
    const T *row, *column;
    std::int64_t stride = kStrip;
    NTK_FN Vec<T> own(int k, int lane) const { return load<T>(column + k * stride + lane); }
    NTK_FN Vec<T> pair(int k, int lane) const {  // product of the k-th numbers
        return row[k] * own(k, lane);
    }
    // sin((a-b)/2) from the sines and cosines of the half angles, numbers k and k+1
    NTK_FN Vec<T> half_difference(int k, int lane) const {
        return row[k] * own(k + 1, lane) - row[k + 1] * own(k, lane);
    }
    NTK_FN Vec<T> difference(int k, int lane) const { return row[k] - own(k, lane); }
    NTK_FN void skip(std::int64_t numbers) { row += numbers, column += numbers * stride; }
};

// ---- activations: w, co, t of the pair before -> after, normalised by the new variances ---------

// After a smooth activation, whose 1-u is a difference: rounding must not make it negative.
template <class T>
NTK_FN void put_cosine(State<T>& s, int k, Vec<T> u, Vec<T> t) {
    const Vec<T> zero{};
    store<T>(s.w + k, max2(T(1) - u, zero)), store<T>(s.co + k, max2(T(1) + u, zero));
    store<T>(s.t + k, t);
}

template <class T>
NTK_FN void put(State<T>& s, int k, Vec<T> w, Vec<T> co, Vec<T> t) {
    store<T>(s.w + k, w), store<T>(s.co + k, co), store<T>(s.t + k, t);
}

template <class T>
NTK_FN void relu(const ntkfast::LayerConstants<T>& layer, State<T>& s) {
    const T a = layer.constant[0], b = layer.constant[1];
    if (b == 0) {  // ReLU itself
        for (int k = 0; k < kStrip; k += kLanes<T>) {
            const ArcCosine<T> c = arc_cosine<T>(load<T>(s.w + k), load<T>(s.co + k));
            put<T>(s, k, c.defect, T(2) - c.defect, load<T>(s.t + k) * c.kappa0);
        }
        return;
    }
    for (int k = 0; k < kStrip; k += kLanes<T>) {
        const Vec<T> w = load<T>(s.w + k), co = load<T>(s.co + k), t = load<T>(s.t + k);
        const ArcCosine<T> c = arc_cosine<T>(w, co);
        // From u = -1 where both cancel: abs, which is even, has 1 - K = 0 there too.
        const Vec<T> far = (a + 2 * b) - (c.kappa1 * a + co * b);
        const Vec<T> defect = w < co ? c.defect * a + w * b : far;
        put<T>(s, k, defect, T(2) - defect, t * (c.kappa0 * a + b));
    }
}

template <class T>
NTK_FN void step(const ntkfast::LayerConstants<T>& layer, State<T>& s) {
    const T share = layer.constant[0];
    for (int k = 0; k < kStrip; k += kLanes<T>) {
        const Vec<T> kappa0 = arc_cosine<T>(load<T>(s.w + k), load<T>(s.co + k)).kappa0;
        const Vec<T> defect = share * (T(1) - kappa0);
        put<T>(s, k, defect, T(2) - defect, Vec<T>{});
    }
}

// 1 - z^2 for z = u h, from e = 1 - h_i^2 of either input: no cancellation for large variances.
template <class T>
NTK_FN Vec<T> complement(const Stats<T>& stats, int e, int lane, Vec<T> h, const State<T>& s) {
    const Vec<T> other = stats.own(e, lane);
    const T own = stats.row[e];
    return own + other * (T(1) - own) + h * h * (load<T>(s.w + lane) * load<T>(s.co + lane));
}

// Numbers: h = sqrt(2 b^2 q / (1 + 2 b^2 q)), 1/sqrt(variance), 1 - h^2.
template <class T>
NTK_FN void erf(const ntkfast::LayerConstants<T>& layer, const Stats<T>& stats, State<T>& s) {
    const T scale = layer.constant[0], shift = layer.constant[1];
    for (int k = 0; k < kStrip; k += kLanes<T>) {
        const Vec<T> h = stats.pair(0, k), inverse = stats.pair(1, k), t = load<T>(s.t + k);
        const Vec<T> z = (T(1) - load<T>(s.w + k)) * h;
        const Vec<T> rest = complement<T>(stats, 2, k, h, s);
        const Vec<T> u = (scale * arc_sine<T>(z, rest) + shift) * inverse;
        put_cosine<T>(s, k, u, t * (scale * h * inverse / sqrt_lanes<T>(rest)));
    }
}

// Numbers: h = sqrt(q / (1+q)), 1/sqrt(1+q), sqrt q, 1/sqrt(variance), 1/(1+q).
template <class T>
NTK_FN void gelu(const Stats<T>& stats, State<T>& s) {
    const T inverse_2pi = T(0.15915494309189533577);
    for (int k = 0; k < kStrip; k += kLanes<T>) {
        const Vec<T> u = T(1) - load<T>(s.w + k), t = load<T>(s.t + k);
        const Vec<T> h = stats.pair(0, k), g = stats.pair(1, k), n = stats.pair(2, k);
        const Vec<T> z = u * h, inverse = stats.pair(3, k);
        const Vec<T> rest = complement<T>(stats, 4, k, h, s), e = sqrt_lanes<T>(rest);
        const Vec<T> quarter = T(0.25) + arc_sine<T>(z, rest) * inverse_2pi;
        const Vec<T> value = n * u * quarter + g * (z * z + n * n * rest) / e * inverse_2pi;
        // g^2 (1 + q + p) stands for 1 - q p g^2, which cancels for large variances
        const Vec<T> gap = stats.difference(2, k), sum = gap * gap + T(2) * n;
        const Vec<T> slope = quarter + z / e * (g * g * (T(1) / rest + (sum + T(2)))) * inverse_2pi;
        const Vec<T> out = value * inverse;
        put_cosine<T>(s, k, out, t * slope * (n * inverse));
    }
}

// Numbers: sqrt q, 1/sqrt(variance).
template <class T>
NTK_FN void sine(const ntkfast::LayerConstants<T>& layer, const Stats<T>& stats, State<T>& s) {
    const T rate = layer.constant[0], half = layer.constant[1], turn = layer.constant[2];
    for (int k = 0; k < kStrip; k += kLanes<T>) {
        const Vec<T> w = load<T>(s.w + k), co = load<T>(s.co + k), t = load<T>(s.t + k);
        const Vec<T> n = stats.pair(0, k), gap = stats.difference(0, k), inverse = stats.pair(1, k);
        const Vec<T> plus = exponential<T>(rate * (n * w + T(0.5) * gap * gap));
        const Vec<T> minus = turn * exponential<T>(rate * (n * co + T(0.5) * gap * gap));
        // For small covariances, as of small inputs, the difference cancels.
        const Vec<T> x = T(2) * rate * n * (T(1) - w);
        const Vec<T> close = plus * ((T(1) - turn) - turn * small_expm1<T>(x));
        const Vec<T> difference = abs2(x) < broadcast<T>(T(0.3)) ? close : plus - minus;
        const Vec<T> u = half * difference * inverse;
        put_cosine<T>(s, k, u, t * (-rate * half * (plus + minus) * n * inverse));
    }
}

// Number: sqrt q.
template <class T>
NTK_FN void exponential_layer(const ntkfast::LayerConstants<T>& layer, const Stats<T>& stats,
                              State<T>& s) {
    const T rate = layer.constant[0];
    for (int k = 0; k < kStrip; k += kLanes<T>) {
        const Vec<T> n = stats.pair(0, k), gap = stats.difference(0, k);
        const Vec<T> u = exponential<T>(rate * (n * load<T>(s.w + k) + T(0.5) * gap * gap));
        put_cosine<T>(s, k, u, load<T>(s.t + k) * (-rate * n * u));
    }
}

// Numbers: h = sqrt(2|b|q / (1+2|b|q)), |a| / sqrt(1+2|b|q) / sqrt(variance), 1 - h^2.
template <class T>
NTK_FN void gaussian(const Stats<T>& stats, State<T>& s) {
    for (int k = 0; k < kStrip; k += kLanes<T>) {
        const Vec<T> h = stats.pair(0, k), z = (T(1) - load<T>(s.w + k)) * h;
        const Vec<T> rest = complement<T>(stats, 2, k, h, s);
        const Vec<T> u = stats.pair(1, k) / sqrt_lanes<T>(rest);
        put_cosine<T>(s, k, u, load<T>(s.t + k) * (u * h * z / rest));
    }
}

// Numbers: the normalised Hermite coefficients, u' = sum_j a_j b_j u^j.
template <class T>
NTK_FN void series(const ntkfast::LayerConstants<T>& layer, const Stats<T>& stats, State<T>& s) {
    for (int k = 0; k < kStrip; k += kLanes<T>) {
        const Vec<T> u = T(1) - load<T>(s.w + k);
        Vec<T> value{}, slope{};
        for (int j = static_cast<int>(layer.terms) - 1; j >= 0; --j) {
            slope = slope * u + value;
            value = value * u + stats.pair(j, k);
        }
        put_cosine<T>(s, k, value, load<T>(s.t + k) * slope);
    }
}

template <class T>
NTK_FN void activate(const ntkfast::LayerConstants<T>& layer, const Stats<T>& stats, State<T>& s) {
    using A = ntkfast::ActivationKind;
    switch (layer.activation) {
        case A::kIdentity: return;
        case A::kRelu: return relu<T>(layer, s);
        case A::kStep: return step<T>(layer, s);
        case A::kErf: return erf<T>(layer, stats, s);
        case A::kGelu: return gelu<T>(stats, s);
        case A::kSine: return sine<T>(layer, stats, s);
        case A::kExp: return exponential_layer<T>(layer, stats, s);
        case A::kGaussian: return gaussian<T>(stats, s);
        case A::kHermite: return series<T>(layer, stats, s);
    }
}

}  // namespace
