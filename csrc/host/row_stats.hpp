// The numbers of one data row that layer.hpp multiplies pairwise: variances through the layers.
//
// Runs once per row and layer, in double and with the C library, outside the lane loops.
#pragma once

#include <cmath>

#include "formulas/maps.hpp"

namespace ntkfast {

constexpr double kPi = 3.14159265358979323846;

// K(q, q, q) of an activation with a closed form.
inline double variance_after(const LayerRow& layer, double q) {
    const double a = layer.parameter[0], b = layer.parameter[1], c = layer.parameter[2];
    switch (layer.kind) {
        case ActivationKind::kRelu:
        case ActivationKind::kStep:
            return (a + b) * (layer.kind == ActivationKind::kRelu ? q : 1.0);
        case ActivationKind::kErf: {
            const double z = 2 * b * b * q;
            return a * a * 2 / kPi * std::atan2(z, std::sqrt(1 + 2 * z)) + c * c;
        }
        case ActivationKind::kGelu: {
            const double e = std::sqrt(1 + 2 * q);
            return q / 4 + q / (2 * kPi) * std::atan2(q, e) + q * q / (kPi * (1 + q) * e);
        }
        case ActivationKind::kSine:  // 1 - c e^-z = (1-c) - c (e^-z - 1); c = cos(2 phase)
            return a * a / 2 * ((1 - c) - c * std::expm1(-2 * b * b * q));
        case ActivationKind::kExp: return a * a * std::exp(2 * b * b * q);
        case ActivationKind::kGaussian: return a * a / std::sqrt(1 - 4 * b * q);
        default: return q;
    }
}

// E[s'^2] of an activation s with a closed form.
inline double slope_after(const LayerRow& layer, double q) {
    const double a = layer.parameter[0], b = layer.parameter[1], c = layer.parameter[2];
    switch (layer.kind) {
        case ActivationKind::kRelu: return a + b;
        case ActivationKind::kStep: return 0;
        case ActivationKind::kErf: return 4 * a * a * b * b / kPi / std::sqrt(1 + 4 * b * b * q);
        case ActivationKind::kGelu: {
            const double square = 1 + 2 * q, e = std::sqrt(square);
            const double bracket = 1 / square + 2 / (1 + q);
            return 0.25 + (std::atan2(q, e) + q / e * bracket) / (2 * kPi);
        }
        case ActivationKind::kSine: return a * a / 2 * b * b * (1 + c * std::exp(-2 * b * b * q));
        case ActivationKind::kExp: return a * a * b * b * std::exp(2 * b * b * q);
        case ActivationKind::kGaussian: {
            const double square = 1 - 4 * b * q;
            return 4 * a * a * b * b * q / (square * std::sqrt(square));
        }
        default: return 1;
    }
}

// The constants of the formulas in layer.hpp.
template <class T>
LayerConstants<T> layer_constants(const LayerRow& layer) {
    const double a = layer.parameter[0], b = layer.parameter[1], c = layer.parameter[2];
    LayerConstants<T> row{layer.kind,
                          layer.save,
                          layer.add,
                          layer.count,
                          {},
                          static_cast<T>(layer.x / layer.w),
                          static_cast<T>(layer.y),
                          has_offset(layer),
                          layer.e == 0,
                          {activation_stats(layer), affine_stats(layer), skip_stats(layer)}};
    const auto set = [&](double first, double second, double third) {
        row.constant[0] = static_cast<T>(first);
        row.constant[1] = static_cast<T>(second);
        row.constant[2] = static_cast<T>(third);
    };
    switch (layer.kind) {
        case ActivationKind::kRelu: set(a / (a + b), b / (a + b), 0); break;
        case ActivationKind::kStep:
            set(2 * b / (a + b), 0, 0);
            break;  // a + b (2 kappa0 - 1), over a + b
        case ActivationKind::kErf: set(a * a * 0.63661977236758134308, c * c, 0); break;
        case ActivationKind::kSine: set(-b * b, a * a / 2, c); break;
        case ActivationKind::kExp: set(-b * b, 0, 0); break;
        default: break;
    }
    return row;
}

inline double inverse_root(double q) { return q > 0 ? 1 / std::sqrt(q) : 0.0; }

// Emits what an activation with a closed form asks for, in the order of layer.hpp.
template <class Emit>
void activation_numbers(const LayerRow& layer, double q, double after, Emit emit) {
    const double b = layer.parameter[1];
    const double z = 2 * std::fabs(layer.kind == ActivationKind::kErf ? b * b : b) * q;
    switch (layer.kind) {
        case ActivationKind::kErf:
            emit(std::sqrt(z / (1 + z)));
            emit(inverse_root(after));
            emit(1 / (1 + z));
            break;
        case ActivationKind::kGelu:
            emit(std::sqrt(q / (1 + q)));
            emit(1 / std::sqrt(1 + q));
            emit(std::sqrt(q));
            emit(inverse_root(after));
            emit(1 / (1 + q));
            break;
        case ActivationKind::kSine:
            emit(std::sqrt(q));
            emit(inverse_root(after));
            break;
        case ActivationKind::kExp: emit(std::sqrt(q)); break;
        case ActivationKind::kGaussian:
            emit(std::sqrt(z / (1 + z)));
            emit(std::fabs(layer.parameter[0]) / std::sqrt(1 + z) * inverse_root(after));
            emit(1 / (1 + z));
            break;
        default: break;
    }
}

// Writes map.stats numbers with the given stride.
template <class T>
void row_stats(const Layers<T>& map, T norm, const T* series, std::int64_t stride, T* out) {
    const auto emit = [&](double value) {
        *out = static_cast<T>(value);
        out += stride;
    };
    // With cos a and sin a the shares sqrt(p/q) and sqrt(r/q) of a variance q = p + r: the sine and
    // cosine of a/2, which is at most 45 degrees.
    const auto emit_half_angle = [&](double cosine, double sine) {
        const double half = sine > 0 ? std::sqrt((1 + cosine) / 2) : 1.0;  // also if q = 0
        emit(sine / (2 * half));
        emit(half);
    };
    // A trained bias that starts at 0 (y without e) gives an NTK to inputs of zero variance, which
    // t / sqrt(q p) cannot carry: they count as inputs of a norm far below rounding.
    bool floor = false;
    for (std::int64_t l = 0; l < map.count; ++l)
        floor |= map.layer[l].y != 0 && map.layer[l].e == 0;
    const double least = floor ? 1e-18 : 0, size = std::fmax(static_cast<double>(norm), least);
    double q = size * size, slot[kSlots] = {};
    for (std::int64_t l = 0; l < map.count; ++l) {
        const LayerRow& layer = map.layer[l];
        if (layer.save >= 0) slot[layer.save] = q;
        double after = variance_after(layer, q);
        if (layer.kind == ActivationKind::kHermite) {
            const T* given = series + layer.offset;  // the coefficients, then their variance
            for (std::int64_t j = 0; j < layer.count; ++j) emit(static_cast<double>(given[j]));
            after = static_cast<double>(given[layer.count]);
        } else {
            activation_numbers(layer, q, after, emit);
        }
        q = layer.w * after + layer.e;
        if (layer.e != 0 || layer.y != 0) {
            const double inverse = inverse_root(q), share = std::sqrt(layer.w * after) * inverse;
            emit(share);
            emit(inverse);
            emit_half_angle(share, std::sqrt(layer.e) * inverse);
        }
        if (layer.add >= 0) {
            const double sum = q + slot[layer.add], inverse = inverse_root(sum);
            const double share = std::sqrt(q) * inverse,
                         rest = std::sqrt(slot[layer.add]) * inverse;
            emit(share);
            emit(rest);
            emit_half_angle(share, rest);
            q = sum;
        }
    }
    emit(std::sqrt(q));
}

}  // namespace ntkfast
