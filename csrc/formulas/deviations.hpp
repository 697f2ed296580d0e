// Standard deviations of the pixels of images and their inverses, level by level.
#pragma once

#include "formulas/problems.hpp"
#include "formulas/simd.hpp"

namespace {  // internal linkage: see simd.hpp

using namespace ntkfast;
using std::int64_t;

// Images with the deviations of all levels, where an inverse of 0 is 0, and the numbers of activations;
// of vectors or of numbers.
template <class T>
struct Pixels {
    T *data, *norm, *inverse,
        *numbers;  // [pixel][channels], [level][pixel] twice, [step][pixel][k]
};

// A standard deviation and its inverse.
template <class T>
struct Deviation {
    Vec<T> norm, inverse;
};
// One whose inverse overflows counts as zero, like zero itself.
template <class T>
NTK_FN Deviation<T> deviation(Vec<T> norm, Vec<T> inverse) {
    const T huge = sizeof(T) == 4 ? T(3e38) : T(1.7e308);
    return {norm, inverse < broadcast<T>(huge) ? inverse : Vec<T>{}};
}
// That of a variance.
template <class T>
NTK_FN Deviation<T> deviation(Vec<T> square) {
    const Vec<T> norm = sqrt_lanes<T>(square);
    return deviation<T>(norm, T(1) / norm);
}
// ReLU halves variances: no roots, no divisions.
template <class T>
NTK_FN Deviation<T> deviation_after_relu(Vec<T> norm, Vec<T> inverse) {
    constexpr T kRoot = T(1.41421356237309504880);
    return deviation<T>(norm * (kRoot / 2), inverse * kRoot);
}

template <class T>
NTK_FN void put_deviation(const Pixels<T>& side, int64_t pixel, const Deviation<T>& now) {
    store<T>(side.norm + pixel * kLanes<T>, now.norm);
    store<T>(side.inverse + pixel * kLanes<T>, now.inverse);
}

// Of a pixel of the images themselves.
template <class T>
NTK_FN Deviation<T> first_deviation(const Pixels<T>& side, int64_t pixel, int64_t channels) {
    Vec<T> sum{};
    for (int64_t c = 0; c < channels; ++c) {
        const Vec<T> a = load<T>(side.data + (pixel * channels + c) * kLanes<T>);
        sum += a * a;
    }
    return deviation<T>(sum);
}

}  // namespace
