// What pairs of sequences multiply (see Sequences in problems.hpp), from the sequences themselves.
//
// The recursion of one sequence with itself, forward in time: variances, their shares, and the
// tangent kernel. In double and with the C library, as row_stats.hpp.
#pragma once

#include <cstdint>
#include <vector>

#include "host/row_stats.hpp"

namespace ntkfast {

// A network and sequences, sorted by length: sequence i is inputs[start[i] + t][channels].
template <class T>
struct SequenceNumbers {
    const T* inputs;
    const std::int64_t *start, *first, *length;  // `first` is where a sequence's numbers begin
    std::int64_t count, channels;
    LayerRow activation;
    std::int64_t layers, fixed;
    double w2, u2, b2, h2, v2;  // squared scales
    bool reverse, nngp;
    double every, last;  // weights of the read-out at all steps but the last one, and there
    bool mean;           // they are divided by the number of steps
    T* out;              // [steps][fields], steps of a sequence from its end backwards
    double* diagonal;    // [count]
};

template <class T>
std::int64_t sequence_fields(const SequenceNumbers<T>& p) {
    return p.layers * (3 + sequence_stats(p.activation)) + p.channels;
}

// All layers at one step; `past` is what the step before hands on. Returns what comes after the last.
// Without variance the share of the bias is 1: a right angle to all others, none to its like.
template <class T>
Own sequence_numbers_of_step(const SequenceNumbers<T>& p, const T* x, Own* past, T* out) {
    const auto emit = [&](double value) { *out++ = finite<T>(value); };
    const double channels = static_cast<double>(p.channels), b = std::sqrt(p.b2);
    double square = 0;
    for (std::int64_t c = 0; c < p.channels; ++c)
        square += static_cast<double>(x[c]) * static_cast<double>(x[c]);
    Own below{p.u2 / channels * square, 0};
    for (std::int64_t l = 0; l < p.layers; ++l) {
        const double own = past[l].variance, q = own + below.variance + p.b2;
        const double inverse = inverse_root(q);
        emit(std::sqrt(own) * inverse);
        emit(q > 0 ? b * inverse : 1.0);
        if (l) {
            emit(std::sqrt(below.variance) * inverse);
        } else {
            const double scale = std::sqrt(p.u2 / channels) * inverse;
            for (std::int64_t c = 0; c < p.channels; ++c) emit(scale * static_cast<double>(x[c]));
        }
        const double after = variance_after(p.activation, q);
        const double slope = slope_after(p.activation, q);
        activation_numbers(p.activation, q, after, slope, emit);
        if (activation_stats(p.activation)) emit(root_share(slope * q, after));
        const double theta = past[l].tangent + below.tangent + (l >= p.fixed ? q : 0);
        const double tangent = theta > 0 ? slope * theta : 0;
        past[l] = {p.w2 * after, p.w2 * tangent};
        below = {p.u2 * after, p.u2 * tangent};
        if (l + 1 == p.layers) return {after, tangent};
    }
    return below;
}

// Sequences `begin` to `end`.
template <class T>
void sequence_numbers(const SequenceNumbers<T>& p, std::int64_t begin, std::int64_t end) {
    const std::int64_t fields = sequence_fields(p);
    std::vector<Own> past(static_cast<std::size_t>(p.layers));
    for (std::int64_t i = begin; i < end; ++i) {
        past.assign(past.size(), {p.w2 * p.h2, 0});
        const std::int64_t length = p.length[i];
        double sum = 0;
        const double share = p.v2 / (p.mean ? static_cast<double>(length) : 1.0);
        for (std::int64_t k = length - 1; k >= 0; --k) {
            const std::int64_t step = p.start[i] + (p.reverse ? k : length - 1 - k);
            T* out = p.out + (p.first[i] + k) * fields;
            const Own now =
                sequence_numbers_of_step(p, p.inputs + step * p.channels, past.data(), out);
            const double weight = share * (k ? p.every : p.last);
            out[fields - 1] = static_cast<T>(std::sqrt(weight * now.variance));
            if (weight > 0) sum += weight * (now.variance + (p.nngp ? 0 : now.tangent));
        }
        p.diagonal[i] = sum;
    }
}

}  // namespace ntkfast
