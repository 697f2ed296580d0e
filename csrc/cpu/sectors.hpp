// Tiles of a network by sectors: most pairs by products of functions of rows, the others by layers.
#pragma once

#include "cpu/packing.hpp"
#include "formulas/sectors.hpp"

namespace {

// The numbers of the layers of rows that a tile asks for, made when the first pair needs them.
template <class T>
Stats<T> layer_numbers(const Problem<T>& p, const Scratch<T>& s, int64_t i, int r, int64_t j0,
                       int64_t j, std::uint64_t near) {
    T* const known = s.known + kTileColumns<T>;
    if (known[r] == T(0)) row_numbers<T>(p, i, 1, s.rows + r * p.layers->stats);
    known[r] = T(1);
    for (; near; near &= near - 1) {
        const int64_t column = j + lowest_bit(near);
        if (s.known[column] == T(0)) column_numbers<T>(p, j0, column, s);
        s.known[column] = T(1);
    }
    return {s.rows + r * p.layers->stats, s.columns + j * p.layers->stats};
}

// Pairs of a strip that are wanted, a bit each.
inline std::uint64_t window_bits(Window window) {
    const int64_t end = smaller(window.to, kStrip);
    return (~std::uint64_t(0) >> (kStrip - end)) & (~std::uint64_t(0) << window.from);
}

// Writes a strip of row pairs.i, the r-th of a tile, at its column j: `values`, but where `near` has a
// bit what layers say, or the value at equal rows.
template <class T>
void finish_strip(const Pairs<T>& pairs, const Scratch<T>& s, int r, int64_t j, std::uint64_t near,
                  std::uint64_t equal, T* values, T* out, Window window) {
    const Problem<T>& p = pairs.problem;
    const bool second = p.layers->sectors->second;
    for (std::uint64_t bits = near & equal; bits; bits &= bits - 1) {
        const int k = lowest_bit(bits);
        if (const T* own = own_values<T>(pairs, k)) {
            values[k] = own[second];
            near &= ~(std::uint64_t(1) << k);
        }
    }
    if (near) {
        alignas(64) T walked[kStrip];
        T* const to[2] = {second ? nullptr : walked, second ? walked : nullptr};
        const Stats<T> stats = layer_numbers<T>(p, s, pairs.i, r, pairs.j - j, j, near);
        map_layers<T>(pairs, stats, to, {0, kStrip});
        for (; near; near &= near - 1) values[lowest_bit(near)] = walked[lowest_bit(near)];
    }
    put_window<T>(out, values, window, kStrip);
}

// Rows whose numbers, and those of a vector of columns, stay in the first cache.
template <class T>
constexpr int kSectorRows = sizeof(T) == 8 ? 8 : 12;
static_assert(kTileRows % kSectorRows<float> == 0 && kSectorRows<float> % kAbreast<float> == 0);
static_assert(kTileRows % kSectorRows<double> == 0 && kSectorRows<double> % kAbreast<double> == 0);

// Rows [r, end) of a tile, at most kSectorRows, on the strip at its column j; of row k pairs_of(k) are
// the pairs, window_of(k) tells which are wanted, and out_of(k) where they go.
template <class T, class PairsOf, class WindowOf, class OutOf>
void sector_strips(const Problem<T>& p, const Scratch<T>& s, int r, int end, int64_t j,
                   PairsOf pairs_of, WindowOf window_of, OutOf out_of) {
    const int64_t numbers = sector_stats(p);
    const T* const rows = s.sector_rows + r * numbers;
    T* const strip = s.sector_columns + j * numbers;
    alignas(64) T values[kSectorRows<T>][kStrip];  // angles at first
    std::uint64_t equal[kSectorRows<T>] = {}, near[kSectorRows<T>] = {};
    const int count = end - r;
    for (int i = 0; i < count; ++i) {
        equal[i] = turns<T>(pairs_of(r + i), {rows + i * numbers, strip}, values[i]);
        near[i] = window_bits(window_of(r + i));
    }
    for (int64_t lane = 0; lane < kStrip; lane += kLanes<T>)
        for (int first = 0; first < count; first += kAbreast<T>) {
            const T* row[kAbreast<T>];
            T* at[kAbreast<T>];
            std::uint64_t inside[kAbreast<T>];
            for (int i = 0; i < kAbreast<T>; ++i) {  // the last one stands for missing ones
                const int k = first + i < count ? first + i : count - 1;
                row[i] = rows + k * numbers + kSectorPlace, at[i] = values[k] + lane;
            }
            map_sectors<T>(*p.layers->sectors, row, sector_panel<T>(p, strip, lane), at, inside);
            for (int i = 0; i < kAbreast<T> && first + i < count; ++i)
                near[first + i] &= ~(inside[i] << lane);
        }
    for (int i = 0; i < count; ++i)
        finish_strip<T>(pairs_of(r + i), s, r + i, j, near[i], equal[i], values[i], out_of(r + i),
                        window_of(r + i));
}

}  // namespace
