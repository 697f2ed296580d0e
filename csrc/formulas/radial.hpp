// exp(-c r^gamma): the Laplace, exponential-power and Gaussian kernels.
#pragma once

#include "formulas/exponential.hpp"
#include "formulas/maps.hpp"

namespace {

// r2 is the squared distance.
template <class T>
NTK_FN Vec<T> evaluate_radial(const ntkfast::Radial<T>& map, Vec<T> r2) {
    if (map.gamma == T(2)) return exponential<T>(-map.c * r2);
    if (map.gamma == T(1)) return exponential<T>(-map.c * sqrt_lanes<T>(r2));
    // Subnormal r2 counts as the smallest normal number: its power is far below rounding error.
    const Vec<T> tiny =
        broadcast<T>(sizeof(T) == 8 ? T(2.2250738585072014e-308) : T(1.17549435e-38));
    const Vec<T> power = exponential<T>(T(0.5) * map.gamma * logarithm<T>(max2(r2, tiny)));
    return exponential<T>(r2 > Vec<T>{} ? -map.c * power : Vec<T>{});
}

// exp(-c r^gamma) and minus its derivative by r, which counts as 0 at r = 0.
template <class T>
struct Falling {
    Vec<T> value, loss;
};
template <class T>
NTK_FN Falling<T> evaluate_falling(const ntkfast::Radial<T>& map, Vec<T> r2) {
    const Vec<T> zero{}, value = evaluate_radial<T>(map, r2);
    if (map.gamma == T(2)) return {value, (T(2) * map.c) * sqrt_lanes<T>(r2) * value};
    const auto apart = r2 > zero;
    if (map.gamma == T(1)) return {value, apart ? map.c * value : zero};
    const Vec<T> tiny =
        broadcast<T>(sizeof(T) == 8 ? T(2.2250738585072014e-308) : T(1.17549435e-38));
    const Vec<T> power = exponential<T>(T(0.5) * (map.gamma - T(1)) * logarithm<T>(max2(r2, tiny)));
    return {value, apart ? (map.c * map.gamma) * power * value : zero};
}

}  // namespace
