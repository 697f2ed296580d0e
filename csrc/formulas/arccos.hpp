// kappa0 and kappa1, the arc-cosine functions of order 0 and 1, from the defect 1-u.
//
// kappa0(u) = (pi - t) / pi and kappa1(u) = (sin t + (pi - t) u) / pi with u = cos t (Cho & Saul,
// Advances in Neural Information Processing Systems 22, 2009; unit-diagonal normalisation).
// Both ends are computed from the small quantity there, 1-u or 1+u, so that 1-kappa1 keeps its
// relative accuracy as u -> 1 and kappa1 as u -> -1: subtracting u from 1 would lose the angle.
#pragma once

#include "formulas/coefficients.hpp"
#include "formulas/simd.hpp"

namespace {

template <class T>
constexpr T kInversePi = static_cast<T>(0.31830988618379067154);

template <class T, class C>
NTK_FN Vec<T> polynomial(Vec<T> x) {
    Vec<T> sum = broadcast<T>(C::at(C::kTerms - 1));
    for (int k = C::kTerms - 2; k >= 0; --k) sum = sum * x + C::at(k);
    return sum;
}

// The same as two sums, of even and of odd powers: their multiply-adds do not wait for each other,
// which counts where little else is at work meanwhile.
template <class T, class C>
NTK_FN Vec<T> parted_polynomial(Vec<T> x) {
    constexpr int last = C::kTerms - 1, even = last - last % 2, odd = last - 1 + last % 2;
    const Vec<T> square = x * x;
    Vec<T> sum = broadcast<T>(C::at(even)), other = broadcast<T>(C::at(odd));
    for (int k = even - 2; k >= 0; k -= 2) sum = sum * square + C::at(k);
    for (int k = odd - 2; k >= 0; k -= 2) other = other * square + C::at(k);
    return other * x + sum;
}

template <class T>
struct ArcCosine {
    Vec<T> kappa0;  // 1 - t/pi
    Vec<T> turn;    // t/pi
    Vec<T> kappa1;  // for u < 1/2, accurate near u = -1
    Vec<T> defect;  // 1 - kappa1, accurate near u = 1
};

// w = 1-u and co = 1+u, each accurate where it is small.
template <class T>
NTK_FN ArcCosine<T> arc_cosine(Vec<T> w, Vec<T> co) {
    const Vec<T> half = broadcast<T>(T(0.5)), one = broadcast<T>(T(1));
    const auto near = w < co;                      // u > 0
    const Vec<T> small = near ? w : co;            // 1-|u|
    const auto middle = small > half;              // |u| < 1/2: use asin(u) directly
    const Vec<T> u = one - w, m = T(0.5) * small;  // m = sin^2 of half the smaller angle
    const Vec<T> argument = middle ? u * u : m;
    const Vec<T> radicand = middle ? one - argument : m;  // sin^2 t, or m
    const Vec<T> r = sqrt_lanes<T>(radicand);
    const Vec<T> a = polynomial<T, typename Coefficients<T>::Turn>(argument);
    const Vec<T> g = polynomial<T, typename Coefficients<T>::Chord>(m) * (m * r);
    const Vec<T> angle = (r + r) * a;  // t/pi near 1, (pi-t)/pi near -1
    const Vec<T> mid0 = half + u * a, mid1 = r * kInversePi<T> + mid0 * u;
    ArcCosine<T> result;
    result.kappa0 = middle ? mid0 : near ? one - angle : angle;
    result.turn = middle ? half - u * a : near ? angle : one - angle;
    result.kappa1 = middle ? mid1 : g;  // of no use near u = 1
    result.defect = (middle ? one : near ? w : one) - result.kappa1;
    return result;
}

// (sin t - t cos t) / pi for m = sin^2(t/2) <= 1/4, relatively accurate: kappa1 = m' - this near
// u = 1 with the defect m' = 2m, and this itself near u = -1.
template <class T>
NTK_FN Vec<T> chord(Vec<T> m) {
    return polynomial<T, typename Coefficients<T>::Chord>(m) * (m * sqrt_lanes<T>(m));
}

// Of the acute angle t with 1 - cos t = v. Its arc over its sine is smooth up to the right angle.
template <class T>
struct AcuteAngle {
    Vec<T> sine, turn;  // sin t, t/pi
};
template <class T>
NTK_FN AcuteAngle<T> acute_angle(Vec<T> v) {
    const Vec<T> square = v * v, sine = sqrt_lanes<T>(T(2) * v - square);
    return {sine, sine * parted_polynomial<T, typename Coefficients<T>::Arc>(v)};
}

// asin(z) for |z| <= 1; the caller passes 1-z^2 too, from wherever it is most accurate.
template <class T>
NTK_FN Vec<T> arc_sine(Vec<T> z, Vec<T> one_minus_square) {
    const Vec<T> size = abs2(z);
    const auto middle = size < broadcast<T>(T(0.5));
    // 1-|z| = (1-z^2)/(1+|z|)
    const Vec<T> m = T(0.5) * one_minus_square / (T(1) + size);
    const Vec<T> argument = middle ? z * z : m;
    const Vec<T> a = polynomial<T, typename Coefficients<T>::Asin>(argument);
    const Vec<T> outer = T(1.57079632679489661923) - T(2) * sqrt_lanes<T>(m) * a;
    const Vec<T> value = middle ? size * a : outer;
    return z < Vec<T>{} ? -value : value;
}

// asin(z)/z for 0 <= z <= 1, which is 1 at 0.
template <class T>
NTK_FN Vec<T> arc_sine_ratio(Vec<T> z, Vec<T> one_minus_square) {
    const auto tiny = z < broadcast<T>(T(1e-9));
    return tiny ? broadcast<T>(T(1)) : arc_sine<T>(z, one_minus_square) / z;
}

// asin(z) - z for 0 <= z <= 1/2, relatively accurate.
template <class T>
NTK_FN Vec<T> arc_sine_excess(Vec<T> z) {
    using C = typename Coefficients<T>::Asin;
    const Vec<T> square = z * z;
    Vec<T> sum = broadcast<T>(C::at(C::kTerms - 1));
    for (int k = C::kTerms - 2; k >= 1; --k) sum = sum * square + C::at(k);
    return sum * square * z;
}

}  // namespace
