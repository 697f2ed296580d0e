// The numbers of one data row that layer_slopes.hpp takes: how variances grow with the norm.
//
// Runs once per row and layer, in double and with the C library, outside the lane loops.
#pragma once

#include "host/row_stats.hpp"

namespace ntkfast {

// E[a s'(a) s(a)] / E[s^2], the growth of the root of E[s^2] with that of the variance q.
inline double growth(const LayerRow& layer, double q, double after) {
    const double a = layer.parameter[0], b = layer.parameter[1];
    if (!(after > 0)) return 1;
    switch (layer.kind) {
        case ActivationKind::kStep: return 0;
        case ActivationKind::kErf: {
            const double z = 2 * b * b * q;
            return a * a * 2 / kPi * z / ((1 + z) * std::sqrt(1 + 2 * z)) / after;
        }
        case ActivationKind::kGelu: {  // dE[s^2]/dq, by parts of the closed form
            const double e2 = 1 + 2 * q, e = std::sqrt(e2), n = 1 + q;
            const double by_q =
                0.25 + std::atan2(q, e) / (2 * kPi) +
                (q / (2 * e * n) + q * (2 + q) / (n * n * e) - q * q / (n * e2 * e)) / kPi;
            return q * by_q / after;
        }
        case ActivationKind::kSine: {
            const double rate = b * b * q,
                         c = layer.parameter[2];  // E[s^2] = a^2 (1 - c e^(-2 rate)) / 2
            return a * a * rate * (c * std::exp(-2 * rate)) / after;
        }
        case ActivationKind::kExp: return 2 * b * b * q;
        case ActivationKind::kGaussian: return 2 * b * q / (1 - 4 * b * q);
        default: return 1;
    }
}

// Writes kRates numbers per layer: the root of q E[s'^2] / E[s^2], and how the root of the variance grows
// with that before; kMoves per direction: the rates, logarithmic derivatives of the root of the variance,
// before the activation and behind it, by which the shares of weights and bias turn, steps of w, x and y,
// and by which those of a slot turn, or the rates of both factors of a product. Last per direction the rate
// of the last variance, and the step of the result.
template <class T>
void row_rates(const Layers<T>& map, T norm, const T* series, T* out) {
    struct Own {
        double variance, rate[kDirections];
    };
    const auto emit = [&](double value) { *out++ = finite<T>(value); };
    const auto steps_of = [&](std::int64_t direction, std::int64_t l) {
        return map.steps ? map.steps[direction * (map.count + 1) + l] : LayerSteps{};
    };
    const double size = static_cast<double>(norm);
    Own own{size * size, {}}, slot[kSlots] = {};
    if (!map.steps) own.rate[1] = 1;  // the second one: by log |x|
    for (std::int64_t l = 0; l < map.count; ++l) {
        const LayerRow& layer = map.layer[l];
        if (layer.save >= 0) slot[layer.save] = own;
        double after = variance_after(layer, own.variance);
        double slope = slope_after(layer, own.variance);
        double share = root_share(slope * own.variance, after, 1), grown = 1;
        if (layer.kind == ActivationKind::kHermite) {
            const T* a = series + layer.offset;
            double sum = 0;
            grown = 0;
            for (std::int64_t j = 0; j < layer.count; ++j) {
                const double number = static_cast<double>(a[j]), k = static_cast<double>(j);
                const double next = j + 2 < layer.count ? static_cast<double>(a[j + 2]) : 0;
                sum += k * number * number;
                grown += number * (std::sqrt((k + 1) * (k + 2)) * next + k * number);
            }
            share = std::sqrt(sum);
            const double root = a[layer.count];
            after = root * root;
        } else if (layer.kind != ActivationKind::kIdentity &&
                   layer.kind != ActivationKind::kDropout) {
            grown = growth(layer, own.variance, after);
        }
        emit(share);
        emit(grown);
        const double whole = layer.w * after + layer.e;
        const double part = whole > 0 ? layer.w * after / whole : 1;
        const double rest = whole > 0 ? layer.e / whole : 0;
        const Own* const added = layer.add >= 0 ? &slot[layer.add] : nullptr;
        const Own* const factor = layer.times >= 0 ? &slot[layer.times] : nullptr;
        const double sum = whole + (added ? added->variance : 0);
        for (std::int64_t i = 0; i < map.directions; ++i) {
            const LayerSteps step = steps_of(i, l);
            const double behind = own.rate[i] * grown;
            const double rate = part * (behind + step.w) + rest * step.e;
            const double other = added ? added->rate[i] : factor ? factor->rate[i] : 0;
            emit(own.rate[i]), emit(behind), emit(step.e - step.w - behind);
            emit(step.w), emit(step.x), emit(step.y);
            emit(factor ? rate : other - rate), emit(factor ? other : 0);
            own.rate[i] = added && sum > 0 ? (whole * rate + added->variance * other) / sum : rate;
            if (factor) own.rate[i] += other;
        }
        own.variance = factor ? whole * factor->variance : sum;
    }
    for (std::int64_t i = 0; i < map.directions; ++i) {
        emit(own.rate[i]);
        emit(steps_of(i, map.count).w);
    }
}

}  // namespace ntkfast
