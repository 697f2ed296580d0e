// The numbers of one data row that layer_slopes.hpp takes: how variances grow with the norm.
//
// Runs once per row and layer, in double and with the C library, outside the lane loops.
#pragma once

#include "host/row_stats.hpp"

namespace ntkfast {

// E[a s'(a) s(a)] / E[s^2], the growth of the root of E[s^2] with that of the variance q.
inline double growth(const LayerRow& layer, double q, double after, double slope) {
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
        case ActivationKind::kSine: return q * slope / after - b * b * q;
        case ActivationKind::kExp: return 2 * b * b * q;
        case ActivationKind::kGaussian: return 2 * b * q / (1 - 4 * b * q);
        default: return 1;
    }
}

// Writes kRates numbers per layer (see Rates), and the rate of the last variance.
template <class T>
void row_rates(const Layers<T>& map, T norm, const T* series, T* out) {
    struct Own {
        double variance, rate;
    };
    const double size = static_cast<double>(norm);
    Own own{size * size, 1}, slot[kSlots] = {};
    for (std::int64_t l = 0; l < map.count; ++l, out += kRates) {
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
        } else if (layer.kind != ActivationKind::kIdentity) {
            grown = growth(layer, own.variance, after, slope);
        }
        const double part = layer.w * after, whole = part + layer.e;
        const double rate = own.rate * grown * (whole > 0 ? part / whole : 1);
        Own next{whole, rate};
        double other = 0;
        if (layer.add >= 0) {
            const Own& added = slot[layer.add];
            const double sum = whole + added.variance;
            other = added.rate;
            next = {sum, sum > 0 ? (whole * rate + added.variance * other) / sum : rate};
        }
        if (layer.times >= 0) {
            const Own& factor = slot[layer.times];
            other = factor.rate;
            next = {whole * factor.variance, rate + other};
        }
        const double numbers[kRates] = {share, own.rate, grown, rate, other};
        for (int k = 0; k < kRates; ++k) out[k] = finite<T>(numbers[k]);
        own = next;
    }
    *out = finite<T>(own.rate);
}

}  // namespace ntkfast
