// What pixels need for an activation other than ReLU: the numbers of activation.hpp, and the deviation
// after it. In double and with the C library, as row_stats.hpp.
#pragma once

#include "formulas/problems.hpp"
#include "host/row_stats.hpp"

namespace ntkfast {

inline LayerRow layer_of(const ImageStep& step) {
    const double* const p = step.parameter;
    return {step.kind, -1, -1, -1, {p[0], p[1], p[2]}, 1, 0, 0, 0, 0, 0};
}

// Of `count` pixels beside each other; the last number is the root of E[s'^2], over which the formulas
// have the slopes of pairs.
template <class T>
void numbers_of_pixels(const ImageStep& step, const T* norm, T* after, T* numbers,
                       std::int64_t count) {
    const LayerRow layer = layer_of(step);
    for (std::int64_t i = 0; i < count; ++i) {
        T* to = numbers + i;
        const auto emit = [&](double value) { *to = finite<T>(value), to += count; };
        const double size = static_cast<double>(norm[i]), q = size * size;
        const double variance = variance_after(layer, q), slope = slope_after(layer, q);
        activation_numbers(layer, q, variance, slope, emit);
        emit(std::sqrt(slope));
        after[i] = static_cast<T>(std::sqrt(variance));
    }
}

}  // namespace ntkfast
