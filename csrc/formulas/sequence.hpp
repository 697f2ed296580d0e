// One step of a recurrent network on a strip of pairs of sequences.
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

#include "formulas/layer.hpp"
#include "formulas/problems.hpp"

namespace {

using ntkfast::Sequences;
using std::int64_t;

constexpr int kFewChannels = 4;  // up to here differences cost no more than products

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
    // |e -+ e'|^2 but for the sign of what is a share times a correlation; inputs carry theirs.
    template <int SIGN, bool INPUTS>
    NTK_FN Vec<T> gap(int lane) const {
        const Vec<T> a = row[0] - load<T>(column + lane);
        const Vec<T> g = SIGN > 0 ? row[1] - load<T>(column + kStrip + lane)
                                  : row[1] + load<T>(column + kStrip + lane);
        constexpr int kBelow = INPUTS ? SIGN : 1;
        return a * a + g * g + squared_gap<T, kBelow>(row + 2, column + 2 * kStrip + lane, below);
    }
};

// The mixed covariance of a layer into `s`, which holds the layer after the step before. `under` is
// the layer below at this step, or null for the first one; `dots` are products of inputs, or null.
template <class T>
NTK_FN void mix(const Shares<T>& e, const State<T>* under, const T* dots, T own, State<T>& s) {
    const Vec<T> half = broadcast<T>(T(0.5)), zero{}, near = broadcast<T>(T(0.02)),
                 far = broadcast<T>(T(1.98));
    for (int k = 0; k < kStrip; k += kLanes<T>) {
        const Vec<T> a = e.pair(0, k);
        Vec<T> w = a * load<T>(s.w + k), t = a * load<T>(s.t + k);
        if (under) {
            const Vec<T> b = e.pair(2, k);
            w += b * load<T>(under->w + k), t += b * load<T>(under->t + k);
        }
        const Vec<T> before = w;
        if (dots) {  // 1 - e.e' cancels for close inputs only
            w += max2(T(1) - a - e.pair(1, k) - load<T>(dots + k), zero);
            if (mask_below<T>(w, near)) [[unlikely]]
                w = before + half * e.template gap<1, true>(k);
        } else {
            w += half * e.template gap<1, true>(k);
        }
        Vec<T> co = max2(T(2) - w, zero);
        if (mask_below<T>(far, w)) [[unlikely]] {  // 1+u of opposite inputs, as exactly
            Vec<T> sum = a * load<T>(s.co + k);
            if (under)
                sum += e.pair(2, k) * load<T>(under->co + k) + half * e.template gap<-1, false>(k);
            else
                sum += half * e.template gap<-1, true>(k);
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
        store<T>(s.co + lane, begun ? load<T>(s.co + lane) : broadcast<T>(T(1)));
        store<T>(s.t + lane, begun ? load<T>(s.t + lane) : Vec<T>{});
    }
}

// The factor of t that turns the slope of an activation into that over the roots of variances.
template <class T>
NTK_FN void scale_tangent(T row, const T* column, State<T>& s) {
    for (int k = 0; k < kStrip; k += kLanes<T>)
        store<T>(s.t + k, load<T>(s.t + k) * (row * load<T>(column + k)));
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
        row += used, column += used * kStrip;
        activate<T>(p.activation, {row, column}, state[l]);
        row += stats, column += stats * kStrip;
        if (stats) scale_tangent<T>(*row++, column, state[l]), column += kStrip;
        if (ragged) restart<T>(lengths, k, state[l]);
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

}  // namespace
