// Kernels of recurrent networks on a tile of pairs: steps outside, rows and lanes inside.
#pragma once

#include "formulas/sequence.hpp"

namespace {

constexpr int kSequenceRows = 8;  // rows that pass over a step's columns while these are in cache
static_assert(kOnePair || kStrip == ntkfast::kSequenceBlock);

template <class T>
struct SequenceScratch {
    State<T>* state;       // [kSequenceRows][layers], each after its activation
    T *sums, *dots;        // [kSequenceRows][kStrip]
    T *lengths, *columns;  // of the strip: [kStrip], [direction][step][fields][kStrip]

    static int64_t layout(const Sequences<T>& p, T* base, SequenceScratch* s) {
        int64_t longest = 0;
        for (int64_t j = 0; j < p.y.count; ++j)
            longest = p.y.length[j] > longest ? p.y.length[j] : longest;
        const int64_t states = kSequenceRows * p.layers * 3 * kStrip, lane = kSequenceRows * kStrip;
        if (s)
            *s = {reinterpret_cast<State<T>*>(base), base + states, base + states + lane,
                  base + states + 2 * lane, base + states + 2 * lane + kStrip};
        return states + 2 * lane + kStrip + p.directions * longest * p.fields * kStrip;
    }
};

template <class T>
int64_t sequence_scratch(const Sequences<T>& p) {
    return SequenceScratch<T>::layout(p, nullptr, nullptr);
}

// A strip of columns, whose longest sequence is the last one; lanes before their start hold 0.
template <class T>
struct SequenceStrip {
    int64_t first, width, shortest, longest;
};

template <class T>
void pack_sequences(const Sequences<T>& p, const SequenceStrip<T>& strip, SequenceScratch<T>& s) {
    const int64_t size = p.fields * kStrip * strip.longest;
    std::memset(s.columns, 0, sizeof(T) * size * p.directions);
    for (int lane = 0; lane < kStrip; ++lane) {
        const bool inside = lane < strip.width;
        const int64_t j = strip.first + lane, steps = inside ? p.y.length[j] : 0;
        s.lengths[lane] = static_cast<T>(steps);
        for (int64_t d = 0; d < p.directions && inside; ++d) {
            const T* from = p.y.numbers[d] + p.y.first[j] * p.fields;
            T* to = s.columns + d * size + lane;
            for (int64_t k = 0; k < steps * p.fields; ++k) to[k * kStrip] = from[k];
        }
    }
}

// dots[rows][kStrip] = row[channels] . column[channels][kStrip]
template <class T>
void multiply_inputs(const T* const* row, const T* column, int64_t channels, T* dots) {
    constexpr int kWide = 2;
    for (int first = 0; first < kStrip; first += kWide * kLanes<T>) {
        Vec<T> sum[kSequenceRows][kWide] = {};
        for (int64_t c = 0; c < channels; ++c) {
            Vec<T> right[kWide];
            for (int v = 0; v < kWide; ++v)
                right[v] = load<T>(column + c * kStrip + first + v * kLanes<T>);
            for (int r = 0; r < kSequenceRows; ++r)
                for (int v = 0; v < kWide; ++v) sum[r][v] += row[r][c] * right[v];
        }
        for (int r = 0; r < kSequenceRows; ++r)
            for (int v = 0; v < kWide; ++v)
                store<T>(dots + r * kStrip + first + v * kLanes<T>, sum[r][v]);
    }
}

// Kernel values of `rows` sequences from i on with a strip, in s.sums.
template <class T>
void sequence_tile(const Sequences<T>& p, int64_t i, int rows, const SequenceStrip<T>& strip,
                   SequenceScratch<T>& s) {
    std::memset(s.sums, 0, sizeof(T) * kSequenceRows * kStrip);
    const int64_t last = p.x.length[i + rows - 1],
                  steps = last < strip.longest ? last : strip.longest;
    for (int64_t d = 0; d < p.directions; ++d) {
        for (int64_t l = 0; l < kSequenceRows * p.layers; ++l)
            for (int k = 0; k < kStrip; k += kLanes<T>)
                put<T>(s.state[l], k, broadcast<T>(T(1)), broadcast<T>(T(1)), Vec<T>{});
        const T* columns = s.columns + d * strip.longest * p.fields * kStrip;
        for (int64_t k = steps - 1; k >= 0; --k) {
            const T* column = columns + k * p.fields * kStrip;
            const T* row[kSequenceRows];
            for (int r = 0; r < kSequenceRows; ++r) {  // rows that have not begun: any numbers do
                const int64_t at = i + (r < rows ? r : rows - 1);
                const int64_t step = k < p.x.length[at] ? k : 0;
                row[r] = p.x.numbers[d] + (p.x.first[at] + step) * p.fields;
            }
            const bool products = p.channels > kFewChannels;
            if (products) {
                const T* inputs[kSequenceRows];
                for (int r = 0; r < kSequenceRows; ++r) inputs[r] = row[r] + 2;
                multiply_inputs<T>(inputs, column + 2 * kStrip, p.channels, s.dots);
            }
            for (int r = 0; r < rows; ++r) {
                if (k >= p.x.length[i + r]) continue;
                State<T>* state = s.state + r * p.layers;
                sequence_step<T>(p, row[r], column, products ? s.dots + r * kStrip : nullptr,
                                 s.lengths, k, k >= strip.shortest, state);
                if (p.every || k == 0)
                    read_out<T>(row[r][p.fields - 1], column + (p.fields - 1) * kStrip, p.nngp,
                                state[p.layers - 1], s.sums + r * kStrip);
            }
        }
    }
}

// One block of rows with one strip of columns; `packed` remembers the strip packed last.
template <class T>
void sequence_task(const Sequences<T>& p, int64_t task, T* scratch, int64_t* packed) {
    SequenceScratch<T> s;
    SequenceScratch<T>::layout(p, scratch, &s);
    const int64_t blocks = (p.x.count + kStrip - 1) / kStrip;
    const int64_t j0 = task / blocks * kStrip, i0 = task % blocks * kStrip;
    if (p.symmetric && i0 > j0) return;
    const int64_t rest = p.y.count - j0, width = rest < kStrip ? rest : kStrip;
    const SequenceStrip<T> strip = {j0, width, p.y.length[j0], p.y.length[j0 + width - 1]};
    if (*packed != j0) pack_sequences<T>(p, strip, s);
    *packed = j0;
    const int64_t end = i0 + kStrip < p.x.count ? i0 + kStrip : p.x.count;
    for (int64_t i = i0; i < end && !*p.cancelled; i += kSequenceRows) {
        const int rows = static_cast<int>(end - i < kSequenceRows ? end - i : kSequenceRows);
        sequence_tile<T>(p, i, rows, strip, s);
        for (int r = 0; r < rows; ++r) {
            const int64_t a = p.x.place[i + r];
            for (int64_t lane = 0; lane < width; ++lane) {
                const int64_t j = j0 + lane, b = p.y.place[j];
                if (p.symmetric && j < i + r) continue;
                T value = s.sums[r * kStrip + lane];
                if (p.symmetric && j == i + r) value = p.diagonal[j];
                p.out[a * p.stride_row + b * p.stride_column] = value;
                if (p.symmetric) p.out[b * p.stride_row + a * p.stride_column] = value;
            }
        }
    }
}

}  // namespace
