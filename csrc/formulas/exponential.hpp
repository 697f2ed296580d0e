// exp and log for lane loops: no call into the C library, so that every compiler vectorises them.
#pragma once

#include "formulas/arccos.hpp"

namespace {

template <class T>
struct Format;
template <>
struct Format<double> {
    static constexpr int kMantissa = 52;
    static constexpr std::int64_t kOneBits = 0x3FF0000000000000, kRootHalfBits = 0x3FE6A09E667F3BCD;
    static constexpr double kMagic = 6755399441055744.0;  // 1.5 * 2^52: rounds to an integer
    static constexpr double kLowest = -708.0, kHighest = 709.0;
    static constexpr double kLog2High = 0.693147180369123816490,
                            kLog2Low = 1.90821492927058770002e-10;
};
template <>
struct Format<float> {
    static constexpr int kMantissa = 23;
    static constexpr std::int32_t kOneBits = 0x3F800000, kRootHalfBits = 0x3F3504F3;
    static constexpr float kMagic = 12582912.0f;  // 1.5 * 2^23
    static constexpr float kLowest = -87.0f, kHighest = 88.0f;
    static constexpr float kLog2High = 0.693359375f, kLog2Low = -2.12194440e-4f;
};

// exp(x); below Format::kLowest the result is 0, above kHighest it is exp(kHighest).
template <class T>
NTK_FN Vec<T> exponential(Vec<T> x) {
    using F = Format<T>;
    const auto vanishes = x < broadcast<T>(F::kLowest);
    x = min2(max2(x, broadcast<T>(F::kLowest)), broadcast<T>(F::kHighest));
    const Vec<T> shifted = x * T(1.44269504088896340736) + F::kMagic;
    const Vec<T> n = shifted - F::kMagic;
    const Vec<T> r = (x - n * F::kLog2High) - n * F::kLog2Low;
    // The low bits of `shifted` hold the integer n; adding them to the exponent multiplies by 2^n.
    const IVec<T> power = bits_of<T>(shifted) << F::kMantissa;
    const Vec<T> p = polynomial<T, typename Coefficients<T>::Exp>(r);
    return vanishes ? Vec<T>{} : from_bits<T>(bits_of<T>(p) + power);
}

// (exp(x) - 1) / x for x <= 0, which is 1 at 0.
template <class T>
NTK_FN Vec<T> expm1_ratio(Vec<T> x) {
    using C = typename Coefficients<T>::Exp;
    const auto small = x > broadcast<T>(T(-0.3));
    const Vec<T> near = small ? x : Vec<T>{}, one = broadcast<T>(T(1));
    Vec<T> sum = broadcast<T>(C::at(C::kTerms - 1));
    for (int k = C::kTerms - 2; k >= 1; --k) sum = sum * near + C::at(k);
    return small ? sum : (exponential<T>(x) - one) / (small ? one : x);
}

// log(x) for normal x > 0.
template <class T>
NTK_FN Vec<T> logarithm(Vec<T> x) {
    using F = Format<T>;
    const IVec<T> bits = bits_of<T>(x);
    const IVec<T> exponent = (bits - F::kRootHalfBits) >> F::kMantissa;
    const Vec<T> mantissa = from_bits<T>(bits - (exponent << F::kMantissa));  // [sqrt 1/2, sqrt 2)
    const Vec<T> magic = broadcast<T>(F::kMagic);
    const Vec<T> n = from_bits<T>(bits_of<T>(magic) + exponent) - magic;
    const Vec<T> z = (mantissa - T(1)) / (mantissa + T(1));
    const Vec<T> p = z * polynomial<T, typename Coefficients<T>::Log>(z * z);
    return n * F::kLog2High + (n * F::kLog2Low + p);
}

}  // namespace
