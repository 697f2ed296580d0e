// erf and GELU, whose duals are arc sines (Williams, "Computing with infinite networks", NeurIPS 1996;
// Tsuchida et al., "Avoiding kernel fixed points", AAAI 2021), on a strip of pairs.
//
// With r the variance in units of the activation, h = sqrt(r / (1+r)) and c = 1 / sqrt(1+r) of either
// input, the arc sine is that of z = h h' u. Written below: z1 = h h', e = sqrt(1 - z^2) and e1 the same
// at u = 1, all without cancellation for large variances.
#pragma once

#include "formulas/arccos.hpp"
#include "formulas/pair_state.hpp"

namespace {

template <class T>
struct ArcSine {
    Vec<T> size, product;       // |u|, 1 - u^2
    Vec<T> g, sum, z1, z;       // c c', c^2 + c'^2, h h', |z|
    Vec<T> rest1, rest, e1, e;  // 1 - z1^2, 1 - z^2 and their roots

    // `h` is the place of h and c among the numbers.
    template <class Row>
    NTK_FN ArcSine(const Stats<T, Row>& stats, int h, int lane, Vec<T> w, Vec<T> co) {
        const Vec<T> other = stats.own(h + 1, lane), square = other * other;
        const Row own = stats.left(h + 1) * stats.left(h + 1);
        size = T(1) - min2(w, co), product = w * co;
        g = stats.pair(h + 1, lane), sum = own + square, z1 = stats.pair(h, lane), z = z1 * size;
        rest1 = own + square * (T(1) - own), rest = rest1 + z1 * z1 * product;
        e1 = sqrt_lanes<T>(rest1), e = sqrt_lanes<T>(rest);
    }
    // k with sin(asin(z1) - asin(|z|)) = z1 k
    NTK_FN Vec<T> turn() const { return product / (e + size * e1); }
};

// The arc sines A, A' of h^2 and h'^2, and C of z1, which lies between them.
template <class T>
struct ArcSpread {
    Vec<T> gap;   // A - A'
    Vec<T> bend;  // (A + A')/2 - C >= 0

    // sin(bend) = sin^2(gap/2) / sin((A+A')/2 + C), for sin^2 C = sin A sin A'.
    template <class Row>
    NTK_FN ArcSpread(Row a, Row cosine, Vec<T> a_, Vec<T> cosine_, Vec<T> z1, Vec<T> e1) {
        const Vec<T> sine = sine_of_difference<T>(a, cosine, a_, cosine_);
        const Vec<T> both = cosine * cosine_, mean = a * a_;
        const Vec<T> near = both + mean, doubled = both - mean;  // cosines of A - A' and A + A'
        gap = arc_sine<T>(sine, near * near);
        const Vec<T> large = sqrt_lanes<T>(T(0.5) + T(0.5) * abs2(doubled));
        const Vec<T> small = T(0.5) * (a * cosine_ + cosine * a_) / large;
        const auto acute = doubled > Vec<T>{};
        const Vec<T> middle = (acute ? small : large) * e1 + (acute ? large : small) * z1;
        const Vec<T> tiny = broadcast<T>(static_cast<T>(sizeof(T) == 8 ? 1e-290 : 1e-37));
        const Vec<T> bent =
            min2(sine * (sine / (T(2) * (T(1) + near) * max2(middle, tiny))), broadcast<T>(T(1)));
        bend = arc_sine<T>(bent, (T(1) - bent) * (T(1) + bent));
    }
};

// a erf(b x) + c. Numbers, with r = 2 b^2 q: h, c, (1 - h^4)^(1/4), share^(1/2) h, shift^(1/2), root of
// the variance v after it, its inverse; with share = 2 a^2 / (pi v), shift = c^2 / v.
template <class T, class Row = T>
struct Erf {
    const Stats<T, Row>& stats;

    NTK_FN Dual<T> direct(int k, Vec<T> w, Vec<T> co) const {
        const ArcSine<T> s(stats, 0, k, w, co);
        const Vec<T> odd = stats.pair(3, k) * s.size * arc_sine_ratio<T>(s.z, s.rest);
        return {stats.pair(4, k) + (w < co ? odd : -odd), stats.pair(2, k) / s.e};
    }
    NTK_FN Vec<T> near(int k, Vec<T> w, Vec<T> co, Vec<T> u) const {
        const ArcSine<T> s(stats, 0, k, w, co);
        const Row h = stats.left(0), m = stats.left(2);
        const Vec<T> h_ = stats.own(0, k), m_ = stats.own(2, k), zero{};
        const Vec<T> rate = stats.left(3) / h * (stats.own(3, k) / h_);  // no h vanishes
        const ArcSpread<T> spread(h * h, m * m, h_ * h_, m_ * m_, s.z1, s.e1);
        const Vec<T> share = stats.pair(3, k), shift = stats.pair(4, k);
        const Vec<T> top = share * arc_sine_ratio<T>(s.z1, s.rest1), turn = s.turn();
        const Vec<T> own = mismatch<T>(stats, 5, k, rate * spread.bend, shift + top);
        const Vec<T> sine = s.z1 * turn, cosine = s.e * s.e1 + s.z1 * s.z;
        const Vec<T> turned = share * turn * arc_sine_ratio<T>(sine, cosine * cosine);
        // Behind the right angle 1+u, unless the shift outweighs all.
        const Vec<T> far = top + share * s.size * arc_sine_ratio<T>(s.z, s.rest);
        return own + (w < co ? turned : u < zero ? turned + (shift + shift) : far);
    }
};

// Numbers, with r = q: h, c, root of q, its inverse, sqrt(1 + 2q), root of q over the variance after it,
// inverse root of the slope's variance, root of the variance after it, its inverse.
template <class T, class Row = T>
struct Gelu {
    const Stats<T, Row>& stats;
    static constexpr T kInverse2Pi = static_cast<T>(0.15915494309189533577);

    // The even part of the dual over sqrt(q q') and times 2 pi, where its arc sine and root are these.
    static NTK_FN Vec<T> even(const ArcSine<T>& s, Vec<T> size, Vec<T> arc, Vec<T> rest, Vec<T> e) {
        return size * arc + s.z1 * (s.g * s.g * (size * size) + rest) / e;
    }
    NTK_FN Dual<T> direct(int k, Vec<T> w, Vec<T> co) const {
        const ArcSine<T> s(stats, 0, k, w, co);
        const auto front = w < co;
        const Vec<T> arc = arc_sine<T>(s.z, s.rest);
        const Vec<T> u = T(0.25) * s.size, value = even(s, s.size, arc, s.rest, s.e) * kInverse2Pi;
        const Vec<T> turn = (arc + s.z / s.e * (s.g * s.g / s.rest + s.sum)) * kInverse2Pi;
        return {stats.pair(5, k) * (value + (front ? u : -u)),
                stats.pair(6, k) * (T(0.25) + (front ? turn : -turn))};
    }
    NTK_FN Vec<T> near(int k, Vec<T> w, Vec<T> co, Vec<T>) const {
        const ArcSine<T> s(stats, 0, k, w, co);
        const Vec<T> square = s.g * s.g, arc = arc_sine<T>(s.z, s.rest);
        const Vec<T> arc1 = arc_sine<T>(s.z1, s.rest1), turn = s.turn(), sine = s.z1 * turn;
        const Vec<T> one = broadcast<T>(T(1)), even1 = even(s, one, arc1, s.rest1, s.e1);
        // in front what the even part loses, behind its sum with that at u = 1
        const Vec<T> cosine = T(1) + s.e * s.e1 + s.z1 * s.z;
        const Vec<T> lost =
            w * arc + s.e1 * sine * turn / cosine + arc_sine_excess<T>(min2(sine, T(0.5) * one)) +
            s.z1 * s.product * (s.rest1 + square * (T(1) + T(1) / (s.e * s.e1))) / (s.e + s.e1);
        const Vec<T> both = even1 + even(s, s.size, arc, s.rest, s.e);
        const Vec<T> turned = T(0.25) * min2(w, co) + (w < co ? lost : both) * kInverse2Pi;
        const Vec<T> share = stats.pair(5, k), dual = share * (T(0.25) + even1 * kInverse2Pi);
        const Vec<T> own = mismatch<T>(stats, 7, k, share * bend(s, arc1, k), dual);
        return share * turned + large(s, share, k, own);
    }

    // The mismatch where both variances are large: GELU is nearly ReLU, which has none, so that a
    // difference from 1 would be rounding. The dual at equal directions is sqrt(q q') (1 - l) / 2;
    // closer variances than such l can tell apart keep the other form.
    NTK_FN Vec<T> large(const ArcSine<T>& s, Vec<T> share, int k, Vec<T> other) const {
        const Vec<T> one = broadcast<T>(T(1)), h_ = stats.own(0, k), c_ = stats.own(1, k);
        const Row h = stats.left(0), c = stats.left(1);
        const Vec<T> e = one * (stats.left(4) * c * c), e_ = stats.own(4, k) * c_ * c_;
        const Vec<T> l = lack(s.e1, s.z1, s.g);
        const Vec<T> l1 = lack(e, one * (h * h), one * (c * c)), l2 = lack(e_, h_ * h_, c_ * c_);
        const Vec<T> lost = (l - l1) + (l - l2) + l1 * l2 - l * l;
        const Vec<T> apart = lost * (share * share) / (T(4) + T(2) * share * (T(1) - l));
        const Vec<T> gap = stats.difference(7, k), sine = max2(e, e_);
        const Vec<T> square = (gap * stats.left(8)) * (gap * stats.own(8, k));
        return sine < T(0.5) * one ? (sine * sine * sine < square ? apart : other) : other;
    }

    // l, with the sine and cosine of what the arc sine lacks of a right angle: a - sin cos - ...
    static NTK_FN Vec<T> lack(Vec<T> sine, Vec<T> cosine, Vec<T> g) {
        const Vec<T> small = min2(sine, broadcast<T>(T(0.5)));
        const Vec<T> cut = arc_sine_excess<T>(small) + sine * sine * sine / (T(1) + cosine);
        return (cut - cosine * g * g / sine) * (T(2) * kInverse2Pi);
    }

    // Half the sum of the duals of either input with itself, less that of both, at equal directions and
    // over sqrt(q q'). With R(q, q') = A A' (x + 1/x), A = h^2, x^2 = 1 + q + q', and the arc sines of
    // ArcSpread, 2 pi times the even part of the dual is sqrt(q q') C + R.
    NTK_FN Vec<T> bend(const ArcSine<T>& s, Vec<T> arc1, int k) const {
        const Vec<T> gap = stats.difference(2, k), plus = gap * stats.left(3);
        const Vec<T> minus = gap * stats.own(3, k), square = plus * minus, sum = plus + minus;
        const Row a = stats.left(0) * stats.left(0), c = stats.left(1), x1 = stats.left(4);
        const Vec<T> a_ = stats.own(0, k) * stats.own(0, k), c_ = stats.own(1, k);
        const Vec<T> x2 = stats.own(4, k), x = s.e1 / s.g;
        const ArcSpread<T> spread(a, x1 * c * c, a_, x2 * c_ * c_, s.z1, s.e1);
        const Vec<T> arcs = T(0.5) * square * arc1 + (T(0.5) * square + T(1)) * spread.bend +
                            T(0.25) * sum * spread.gap;
        // x1 + 1/x1 - x - 1/x and x + 1/x - x2 - 1/x2, over q - q'
        const Vec<T> first = (T(1) - T(1) / (x1 * x)) / (x1 + x);
        const Vec<T> second = (T(1) - T(1) / (x * x2)) / (x + x2);
        const Vec<T> apart = (c * gap * c_) * (stats.left(0) * c_ + c * stats.own(0, k));  // A - A'
        const Vec<T> roots = apart * (s.g * s.g * (x + T(1) / x)) +
                             T(0.5) * ((a * a + a_ * a_) * (first - second) +
                                       (a - a_) * (a + a_) * (first + second));
        return T(0.125) * square + (arcs + T(0.5) * sum * roots) * kInverse2Pi;
    }
};

}  // namespace
