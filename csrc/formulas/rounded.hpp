// Numbers rounded once, to nearest and ties to even, to formats of fewer bytes.
#pragma once

#include "formulas/exponential.hpp"
#include "formulas/problems.hpp"

namespace {

// float16 and bfloat16, as their bits.
template <int MANTISSA, int BIAS>
struct Sixteen {
    using Number = std::uint16_t;
    static constexpr Number kInfinity = (2 * BIAS + 1) << MANTISSA;

    static NTK_FN Number size(Number bits) { return bits & 0x7FFF; }

    // What is too large, or no number, becomes infinite. No branches: compilers fill vectors.
    template <class T>
    static NTK_FN Number of(T value) {
        using Bits = std::make_unsigned_t<typename Simd<T>::Bits>;
        constexpr int width = 8 * sizeof(T), own = Format<T>::kMantissa, shift = own - MANTISSA;
        constexpr Bits bias = Format<T>::kOneBits >> own, unit = 1;
        Bits bits;
        std::memcpy(&bits, &value, sizeof bits);
        const Bits sign = bits >> (width - 16) & 0x8000, size = bits & ~(unit << (width - 1));
        const Bits half = (unit << (shift - 1)) - 1 + (size >> shift & 1);  // less if even
        const Bits normal = ((size + half) >> shift) - ((bias - BIAS) << MANTISSA);
        // Subnormal numbers are rounded by a sum whose last bit is theirs.
        constexpr Bits ruler = (bias + 1 - BIAS + shift) << own;
        T sum, other;
        std::memcpy(&sum, &size, sizeof sum);
        std::memcpy(&other, &ruler, sizeof other);
        sum += other;
        Bits found;
        std::memcpy(&found, &sum, sizeof found);
        found = size >> own > bias - BIAS ? normal : found - ruler;
        return static_cast<Number>(sign | (found < kInfinity ? found : Bits(kInfinity)));
    }
};
using Half = Sixteen<10, 15>;
using Brain = Sixteen<7, 127>;

// float32, as its bits.
struct Single {
    using Number = std::uint32_t;
    static constexpr Number kInfinity = 0x7F800000;

    static NTK_FN Number size(Number bits) { return bits & 0x7FFFFFFF; }

    template <class T>
    static NTK_FN Number of(T value) {
        const float nearest = static_cast<float>(value);
        Number bits;
        std::memcpy(&bits, &nearest, sizeof bits);
        return bits;
    }
};

// Rounds a row; whether all of it is finite.
template <class To, class T>
NTK_FN bool round_row(const T* from, std::int64_t count, typename To::Number* to) {
    int infinite = 0;
    for (std::int64_t j = 0; j < count; ++j) {
        to[j] = To::of(from[j]);
        infinite |= To::size(to[j]) >= To::kInfinity;
    }
    return !infinite;
}

}  // namespace
