// Kernels of recurrent networks on a tile of pairs: steps outside, rows and lanes inside.
//
// A layer's variance at a step is a sum of three parts: from the step before (share a^2), from
// below (b^2, of the first layer a vector, one number per channel of the input) and from the bias
// (g^2). With the unit vectors e = (a, b, g) of two sequences, where the parts have the correlations
// u_a, u_b (of inputs: in b itself) and 1, one layer is
//     1-u' = a a' (1-u_a) + b b' (1-u_b) + |e-e'|^2 / 2,
// a sum of non-negative terms: close sequences keep their angle however many steps they have. The
// tangent kernel over the same root of variances is t' = u' + a a' t_a + b b' t_b (Alemohammad et
// al., "The recurrent neural tangent kernel", ICLR 2021, derived anew in this form). Before its
// first step a pair has independent states: u_a = 0 and t_a = 0.
#pragma once

#include "cpu/product.hpp"
#include "formulas/layer.hpp"

namespace {

using ntkfast::Sequences;

constexpr int kSequenceRows = 8;  // rows that pass over a step's columns while these are in cache
constexpr int kFewChannels = 4;   // up to here differences cost no more than products
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

// |b-b'|^2, or |b+b'|^2 (SIGN = -1), of `count` numbers.
template <class T, int SIGN>
NTK_FN Vec<T> squared_gap(const T* row, const T* column, int64_t count) {
    Vec<T> sum{};
    for (int64_t c = 0; c < count; ++c) {
        const Vec<T> other = load<T>(column + c * kStrip);
        const Vec<T> gap = SIGN > 0 ? row[c] - other : row[c] + other;
        sum += gap * gap;
    }
    return sum;
}

// A layer's numbers at a step: share from the step before, share of the bias, shares from below.
template <class T>
struct Shares {
    const T *row, *column;
    int64_t below;
    NTK_FN Vec<T> pair(int k, int lane) const {
        return row[k] * load<T>(column + k * kStrip + lane);
    }
    template <int SIGN>
    NTK_FN Vec<T> gap(int lane) const {  // |e -+ e'|^2 but for the sign of the constant parts
        const Vec<T> a = row[0] - load<T>(column + lane);
        const Vec<T> g = SIGN > 0 ? row[1] - load<T>(column + kStrip + lane)
                                  : row[1] + load<T>(column + kStrip + lane);
        return a * a + g * g + squared_gap<T, SIGN>(row + 2, column + 2 * kStrip + lane, below);
    }
};

// The mixed covariance of a layer into `s`, which holds the layer after the step before. `under` is
// the layer below at this step, or null for the first one; `dots` are products of inputs, or null.
template <class T>
NTK_FN void mix(const Shares<T>& e, const State<T>* under, const T* dots, T own, State<T>& s) {
    const Vec<T> half = broadcast<T>(T(0.5)), zero{}, near = broadcast<T>(T(0.02)),
                 far = broadcast<T>(T(1.98));
    for (int k = 0; k < kStrip; k += kLanes<T>) {
        const Vec<T> a = e.pair(0, k), w_a = load<T>(s.w + k);
        Vec<T> w = a * w_a, t = a * load<T>(s.t + k);
        if (under) {
            const Vec<T> b = e.pair(2, k);
            w += b * load<T>(under->w + k), t += b * load<T>(under->t + k);
        }
        const Vec<T> before = w;
        if (dots) {  // 1 - e.e' cancels for close inputs only
            w += max2(T(1) - a - e.pair(1, k) - load<T>(dots + k), zero);
            if (mask_below<T>(w, near)) [[unlikely]]
                w = before + half * e.template gap<1>(k);
        } else {
            w += half * e.template gap<1>(k);
        }
        Vec<T> co = max2(T(2) - w, zero);
        if (!under && mask_below<T>(far, w)) [[unlikely]] {  // 1+u of opposite inputs, as exactly
            const Vec<T> sum = a * (T(2) - w_a) + half * e.template gap<-1>(k);
            co = far < w ? sum : co;
        }
        put<T>(s, k, w, co, t + own * (T(1) - w));
    }
}

// Lanes whose sequence has not begun at step k go back to independent states.
template <class T>
NTK_FN void restart(const T* lengths, int64_t k, State<T>& s) {
    const Vec<T> step = broadcast<T>(static_cast<T>(k));
    for (int lane = 0; lane < kStrip; lane += kLanes<T>) {
        const auto begun = load<T>(lengths + lane) > step;
        store<T>(s.w + lane, begun ? load<T>(s.w + lane) : broadcast<T>(T(1)));
        store<T>(s.t + lane, begun ? load<T>(s.t + lane) : Vec<T>{});
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

// All layers at one step of one row of pairs.
template <class T>
NTK_FN void sequence_step(const Sequences<T>& p, const T* row, const T* column, const T* dots,
                          const T* lengths, int64_t k, bool ragged, State<T>* state) {
    const int64_t stats = p.activation.numbers[0];
    for (int64_t l = 0; l < p.layers; ++l) {
        const int64_t below = l ? 1 : p.channels, used = 2 + below;
        const State<T>* under = l ? &state[l - 1] : nullptr;
        mix<T>({row, column, below}, under, l ? nullptr : dots, T(l >= p.fixed), state[l]);
        activate<T>(p.activation, {row + used, column + used * kStrip}, state[l]);
        if (ragged) restart<T>(lengths, k, state[l]);
        row += used + stats, column += (used + stats) * kStrip;
    }
}

template <class T>
NTK_FN void read_out(T row, const T* column, bool nngp, const State<T>& s, T* sums) {
    const T with = nngp ? T(0) : T(1);
    for (int k = 0; k < kStrip; k += kLanes<T>) {
        const Vec<T> value = (T(1) - load<T>(s.w + k)) + with * load<T>(s.t + k);
        store<T>(sums + k, load<T>(sums + k) + row * load<T>(column + k) * value);
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
