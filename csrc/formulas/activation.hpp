// One activation on pairs.
#pragma once

#include "formulas/arcsine_duals.hpp"
#include "formulas/rectified.hpp"
#include "formulas/waves.hpp"

namespace {

// a exp(b x^2), b < 0. Numbers, with r = 2 |b| q: h = sqrt(r / (1+r)), c = 1 / sqrt(1+r), sqrt(1 - h^4).
template <class T, class Row = T>
struct Gaussian {
    const Stats<T, Row>& stats;

    struct Parts {
        Vec<T> rest, top;  // S = 1 - (h h' u)^2, and S - R with R^2 = (1 - h^4)(1 - h'^4)
    };
    NTK_FN Parts parts(int k, Vec<T> w, Vec<T> co) const {
        const Row h = stats.left(0), c = stats.left(1);
        const Vec<T> h_ = stats.own(0, k), c_ = stats.own(1, k), z = h * h_, square = c_ * c_;
        const Vec<T> rest1 = c * c + square * (T(1) - c * c), across = z * z * (w * co);
        const Vec<T> apart = sine_of_difference<T>(h, c, h_, c_) * (h * c_ + c * h_);  // h^2 - h'^2
        return {rest1 + across, apart * apart / (rest1 + stats.pair(2, k)) + across};
    }
    NTK_FN Dual<T> direct(int k, Vec<T> w, Vec<T> co) const {
        const Vec<T> u = sqrt_lanes<T>(stats.pair(2, k) / parts(k, w, co).rest);
        return {u, (T(1) - w) * (u * u * u)};
    }
    NTK_FN Vec<T> near(int k, Vec<T> w, Vec<T> co, Vec<T> u) const {
        const Parts p = parts(k, w, co);
        return p.top / (p.rest * (T(1) + u));
    }
};

// Any other function, u' = sum_j a_j b_j u^j. Numbers: the normalised Hermite coefficients, and
// 1 / sqrt(sum_j j a_j^2).
template <class T, class Row = T>
struct Series {
    const Stats<T, Row>& stats;
    int terms;

    NTK_FN Dual<T> direct(int k, Vec<T> w, Vec<T> co) const {
        const Vec<T> u = cosine<T>(w, co);
        Vec<T> value{}, slope{};
        for (int j = terms - 1; j >= 0; --j) {
            slope = slope * u + value;
            value = value * u + stats.pair(j, k);
        }
        return {value, slope * stats.pair(terms, k)};
    }
    // With the signs s_j that make all powers those of |u| and the sum |u'|, that of unit vectors a and s b:
    // 1 - |u'| = |a - s b|^2 / 2 + sum_j a_j s_j b_j (1 - |u|^j), with 1-|u| taken out of the latter.
    NTK_FN Vec<T> near(int k, Vec<T> w, Vec<T> co, Vec<T> u) const {
        const Vec<T> one = broadcast<T>(T(1)), small = min2(w, co), size = one - small;
        const Vec<T> even = u < Vec<T>{} ? -one : one, odd = w < co ? even : -even;
        Vec<T> apart{}, tail{}, sum{};
        for (int j = terms - 1; j >= 0; --j) {
            const Vec<T> b = (j % 2 ? odd : even) * stats.own(j, k), gap = stats.left(j) - b;
            apart += gap * gap;
            if (j == 0) break;
            tail += stats.left(j) * b;
            sum = sum * size + tail;
        }
        return T(0.5) * apart + small * sum;
    }
};

// Calls each(form), where form(k, pair) is the pair in lane k after the activation.
template <class T, class Row, class Each>
NTK_FN void with_activation(const ntkfast::LayerConstants<T>& layer, const Stats<T, Row>& stats,
                            const Each& each) {
    using A = ntkfast::ActivationKind;
    const T *const constant = layer.constant, first = constant[0], second = constant[1];
    const auto smooth = [&](const auto& form) NTK_LAMBDA {
        each([&](int k, const Carried<T>& s) NTK_LAMBDA { return applied<T>(form, k, s); });
    };
    switch (layer.activation) {
        case A::kIdentity: return;
        case A::kRelu:
            if (second == 0)
                return each([](int, const Carried<T>& s)
                                NTK_LAMBDA { return after_relu<T>(s, arc_cosine<T>(s.w, s.co)); });
            return each([=](int, const Carried<T>& s) NTK_LAMBDA {
                return after_rectified<T>(first, second, s, arc_cosine<T>(s.w, s.co));
            });
        case A::kStep:
            return each([=](int, const Carried<T>& s)
                            NTK_LAMBDA { return after_step<T>(first, second, s); });
        case A::kErf: return smooth(Erf<T, Row>{stats});
        case A::kGelu: return smooth(Gelu<T, Row>{stats});
        case A::kSine: return smooth(Sine<T, Row>{stats, first, second, constant[2]});
        case A::kExp: return smooth(Exponential<T, Row>{stats, first});
        case A::kGaussian: return smooth(Gaussian<T, Row>{stats});
        case A::kHermite: return smooth(Series<T, Row>{stats, static_cast<int>(layer.terms)});
        case A::kDropout:  // u and t over the roots of what they are of inputs and themselves
            return each([=](int, const Carried<T>& s) NTK_LAMBDA {
                return Carried<T>{second + first * s.w, second + first * s.co, first * s.t};
            });
    }
}

template <class T>
NTK_FN void activate(const ntkfast::LayerConstants<T>& layer, const Stats<T>& stats, State<T>& s) {
    with_activation<T>(layer, stats,
                       [&](const auto& form) NTK_LAMBDA { each_of_strip<T>(s, form); });
}

}  // namespace
