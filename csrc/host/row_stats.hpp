// Variances of one data row through the layers, and the numbers that layer.hpp multiplies pairwise.
//
// Runs once per row and layer, with the C library, outside the lane loops: the numbers in double, on
// devices too, where norms lie there, and values at equal inputs in the widest type of the host.
#pragma once

#include <cmath>

#include "formulas/both.hpp"
#include "formulas/maps.hpp"

namespace ntkfast {

template <class Real>
constexpr Real kPiOf = static_cast<Real>(3.14159265358979323846264338327950288L);
constexpr double kPi = kPiOf<double>;

// K(q, q, q) of an activation with a closed form.
template <class Real>
NTK_BOTH Real variance_after(const LayerRow& layer, Real q) {
    constexpr Real pi = kPiOf<Real>;
    const Real a = layer.parameter[0], b = layer.parameter[1], c = layer.parameter[2];
    switch (layer.kind) {
        case ActivationKind::kRelu:
        case ActivationKind::kStep:
            return (a + b) * (layer.kind == ActivationKind::kRelu ? q : Real(1));
        case ActivationKind::kErf: {
            const Real z = 2 * b * b * q;
            return a * a * 2 / pi * std::atan2(z, std::sqrt(1 + 2 * z)) + c * c;
        }
        case ActivationKind::kGelu: {
            const Real e = std::sqrt(1 + 2 * q);
            return q * (Real(0.25) + (std::atan2(q, e) / 2 + q / (1 + q) / e) / pi);
        }
        case ActivationKind::kSine:  // 1 - c e^-z = (1-c) - c (e^-z - 1); c = cos(2 phase)
            return a * a / 2 * ((1 - c) - c * std::expm1(-2 * b * b * q));
        case ActivationKind::kExp: return a * a * std::exp(2 * b * b * q);
        case ActivationKind::kGaussian: return a * a / std::sqrt(1 - 4 * b * q);
        case ActivationKind::kDropout: return q / a;
        default: return q;
    }
}

// E[s'^2] of an activation s with a closed form.
template <class Real>
NTK_BOTH Real slope_after(const LayerRow& layer, Real q) {
    constexpr Real pi = kPiOf<Real>;
    const Real a = layer.parameter[0], b = layer.parameter[1], c = layer.parameter[2];
    switch (layer.kind) {
        case ActivationKind::kRelu: return a + b;
        case ActivationKind::kStep: return 0;
        case ActivationKind::kErf: return 4 * a * a * b * b / pi / std::sqrt(1 + 4 * b * b * q);
        case ActivationKind::kGelu: {
            const Real square = 1 + 2 * q, e = std::sqrt(square);
            const Real bracket = 1 / square + 2 / (1 + q);
            return Real(0.25) + (std::atan2(q, e) + q / e * bracket) / (2 * pi);
        }
        case ActivationKind::kSine:  // 1 + c e^-z likewise
            return a * a / 2 * b * b * ((1 + c) + c * std::expm1(-2 * b * b * q));
        case ActivationKind::kExp: return a * a * b * b * std::exp(2 * b * b * q);
        case ActivationKind::kGaussian: {
            const Real square = 1 - 4 * b * q;
            return 4 * a * a * b * b * q / (square * std::sqrt(square));
        }
        case ActivationKind::kDropout: return 1 / a;
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
                          layer.times,
                          layer.count,
                          {},
                          has_gains(layer),
                          layer.e != 0,
                          {activation_stats(layer), affine_stats(layer), skip_stats(layer)}};
    const auto set = [&](double first, double second, double third) {
        row.constant[0] = static_cast<T>(first);
        row.constant[1] = static_cast<T>(second);
        row.constant[2] = static_cast<T>(third);
    };
    switch (layer.kind) {
        case ActivationKind::kRelu: set(a / (a + b), b / (a + b), 0); break;
        case ActivationKind::kStep: set(2 * b / (a + b), 2 * a / (a + b), 0); break;
        case ActivationKind::kSine: set(b * b, a * a / 2, c); break;
        case ActivationKind::kExp: set(b * b, 0, 0); break;
        case ActivationKind::kDropout: set(a, 1 - a, 0); break;
        default: break;
    }
    return row;
}

NTK_BOTH inline double inverse_root(double q) { return q > 0 ? 1 / std::sqrt(q) : 0.0; }

// The root of part / whole; `limit` where both vanish.
NTK_BOTH inline double root_share(double part, double whole, double limit = 0) {
    return whole > 0 ? std::sqrt(part / whole) : limit;
}

// A number in the precision of the loop, which wants no infinity: those that large stand for inverses
// of vanishing numbers, and meet a factor that vanishes too.
template <class T>
NTK_BOTH T finite(double value) {
    constexpr double most = sizeof(T) == 4 ? 1e37 : 1e300;
    return static_cast<T>(value < most ? value : most);  // where a call of fmin took its time
}

// Emits what an activation with a closed form asks for, in the order of its formula; `after` and `slope`
// are E[s^2] and E[s'^2].
template <class Emit>
NTK_BOTH void activation_numbers(const LayerRow& layer, double q, double after, double slope,
                                 Emit emit) {
    const double a = layer.parameter[0], b = layer.parameter[1], c = layer.parameter[2];
    const double rate = layer.kind == ActivationKind::kGaussian ? std::fabs(b) : b * b;
    const auto emit_angle = [&](double r) {
        emit(std::sqrt(r / (1 + r)));
        emit(1 / std::sqrt(1 + r));
    };
    const auto emit_root = [&](double value) {
        emit(std::sqrt(value));
        emit(value > 0 ? 1 / std::sqrt(value) : HUGE_VAL);
    };
    switch (layer.kind) {
        case ActivationKind::kErf: {
            // Below it the function is linear, and the sine h of the angle, a divisor, stays above 0.
            const double r = std::fmax(2 * rate * q, 1e-36), odd = a * a * 2 / kPi * (r / (1 + r));
            emit_angle(r);
            emit(std::sqrt(std::sqrt(1 + 2 * r) / (1 + r)));
            emit(root_share(odd, std::fmax(after, odd), 1));
            emit(root_share(c * c, after));
            emit_root(after);
            break;
        }
        case ActivationKind::kGelu:
            emit_angle(q);
            emit_root(q);
            emit(std::sqrt(1 + 2 * q));
            emit(root_share(q, after, 2));
            emit(inverse_root(slope));
            emit_root(after);
            break;
        case ActivationKind::kSine: {
            const double half = a * a / 2, twice = 2 * rate * q;
            emit(std::sqrt(q));
            emit(root_share((1 - c) * half, after));
            emit(root_share(twice * half, after, 1));
            emit(root_share((1 + c) * rate * half, slope));
            emit(root_share(twice * rate * half, slope, 1));
            emit_root(after);
            emit(-std::expm1(-rate * q));
            break;
        }
        case ActivationKind::kExp: emit(std::sqrt(q)); break;
        case ActivationKind::kGaussian: {
            const double r = 2 * rate * q;
            emit_angle(r);
            emit(std::sqrt(1 + 2 * r) / (1 + r));
            break;
        }
        default: break;
    }
}

// NNGP and NTK of an input with itself, or parts of them.
template <class Real>
struct OwnOf {
    Real variance, tangent;
};
using Own = OwnOf<double>;

// What layers make of an input of squared norm q, without the scale. `visit` sees every step, and says
// what E[s^2] and E[s'^2] are where there is no closed form.
template <class Real, class Visit>
NTK_BOTH OwnOf<Real> own_of_row(const LayerRow* rows, std::int64_t count, Real q, Visit visit) {
    OwnOf<Real> own{q, 0}, slot[kSlots] = {};
    for (std::int64_t l = 0; l < count; ++l) {
        const LayerRow& layer = rows[l];
        if (layer.save >= 0) slot[layer.save] = own;
        Real after = variance_after(layer, own.variance), slope = slope_after(layer, own.variance);
        visit.activation(layer, own.variance, after, slope);
        const OwnOf<Real> scaled{layer.w * after,
                                 own.tangent > 0 ? layer.w * slope * own.tangent : 0};
        own = {scaled.variance + layer.e, scaled.tangent + layer.x * after + layer.y};
        visit.affine(layer, after, scaled, own);
        if (layer.add >= 0) {
            const OwnOf<Real> part = own, other = slot[layer.add];
            own = {part.variance + other.variance, part.tangent + other.tangent};
            visit.sum(part, other, own);
        }
        if (layer.times >= 0) {
            const OwnOf<Real> other = slot[layer.times];
            const Real kept = own.tangent * other.variance, gained = own.variance * other.tangent;
            own = {own.variance * other.variance, kept + gained};
            visit.product(kept, gained, own);
        }
    }
    return own;
}

// Writes map.stats numbers of a row with the given stride.
template <class T>
struct NumbersOfRow {
    const T* series;
    std::int64_t stride;
    T* out;

    NTK_BOTH void emit(double value) {
        *out = finite<T>(value);
        out += stride;
    }
    NTK_BOTH void activation(const LayerRow& layer, double q, double& after, double& slope) {
        if (layer.kind != ActivationKind::kHermite) {
            activation_numbers(layer, q, after, slope, [&](double value) { emit(value); });
            return;
        }
        const T* given = series + layer.offset;
        double sum = 0;
        for (std::int64_t j = 0; j < layer.count; ++j) {
            const double number = static_cast<double>(given[j]);
            sum += static_cast<double>(j) * number * number;
            emit(number);
        }
        emit(inverse_root(sum));
        const double root = given[layer.count], root_ = given[layer.count + 1];
        after = root * root;
        slope = root_ * root_;
    }
    NTK_BOTH void affine(const LayerRow& layer, double after, const Own& scaled, const Own& own) {
        if (layer.e != 0) {
            emit(root_share(scaled.variance, own.variance));
            emit(root_share(layer.e, own.variance));
        }
        if (has_gains(layer)) {
            emit(root_share(scaled.tangent, own.tangent));
            emit(root_share(layer.x * after, own.tangent));
            emit(root_share(layer.y, own.tangent));
        }
    }
    NTK_BOTH void sum(const Own& part, const Own& other, const Own& own) {
        emit(root_share(part.variance, own.variance, 1));
        emit(root_share(other.variance, own.variance));
        emit(root_share(part.tangent, own.tangent));
        emit(root_share(other.tangent, own.tangent));
    }
    NTK_BOTH void product(double kept, double gained, const Own& own) {
        emit(root_share(kept, own.tangent));
        emit(root_share(gained, own.tangent));
    }
};

// Writes map.stats numbers with the given stride, and returns what they lead to, without the scale.
template <class T>
NTK_BOTH Own numbers_of_row(const Layers<T>& map, T norm, const T* series, std::int64_t stride,
                            T* out) {
    const double size = static_cast<double>(norm);
    NumbersOfRow<T> numbers{series, stride, out};
    const Own own =
        own_of_row<double, NumbersOfRow<T>&>(map.layer, map.count, size * size, numbers);
    numbers.emit(std::sqrt(std::ldexp(own.variance, map.exponent)));
    numbers.emit(std::sqrt(std::ldexp(own.tangent, map.exponent)));
    return own;
}

template <class T>
void row_stats(const Layers<T>& map, T norm, const T* series, std::int64_t stride, T* out) {
    numbers_of_row(map, norm, series, stride, out);
}

}  // namespace ntkfast
