// A network on a strip of pairs by sectors of angles: products of functions of rows, no layers.
#pragma once

#include "formulas/pair_maps.hpp"

namespace {

using ntkfast::Sector;
using ntkfast::Sectors;

// Rows that meet a vector of columns at once. Eight load fewer numbers for each product and fill 32
// registers; float has twice the lanes, and more pairs would have angles in both sectors.
template <class T>
constexpr int kAbreast = sizeof(T) == 8 && kLanes<T> == 8 ? 8 : kGroup;

// sum_j T_j(z) c_j by Clenshaw's recurrence, two powers at a time, whose sums do not wait for each
// other: kAbreast rows, `row` at the first number of the sector, with a vector of columns.
template <class T>
NTK_FN void evaluate_sector(const Sector<T>& sector, const T* const (&row)[kAbreast<T>],
                            const T* column, const Vec<T> (&z)[kAbreast<T>],
                            Vec<T> (&value)[kAbreast<T>]) {
    Vec<T> above[kAbreast<T>] = {};
    for (int i = 0; i < kAbreast<T>; ++i) value[i] = Vec<T>{};
    int64_t at = 0;
    for (int64_t p = 0; p < sector.powers; ++p) {
        Vec<T> odd[kAbreast<T>] = {}, even[kAbreast<T>] = {};
        for (const int64_t end = at + 2 * sector.terms[p]; at < end; at += 2) {
            const Vec<T> one = load<T>(column + at * kLanes<T>);
            const Vec<T> two = load<T>(column + (at + 1) * kLanes<T>);
            for (int i = 0; i < kAbreast<T>; ++i) {
                odd[i] += row[i][at] * one;
                even[i] += row[i][at + 1] * two;
            }
        }
        const T last = p + 1 < sector.powers ? T(2) : T(1);
        for (int i = 0; i < kAbreast<T>; ++i) {
            const Vec<T> first = z[i] * value[i] * T(2) + (odd[i] - above[i]);
            const Vec<T> second = z[i] * first * last + (even[i] - value[i]);
            above[i] = first, value[i] = second;
        }
    }
}

// Replaces the angles of kAbreast rows and a vector of columns, at[row], by the values of those that
// lie in sectors, whose bits come back.
template <class T>
NTK_FN void map_sectors(const Sectors<T>& map, const T* const (&rows)[kAbreast<T>], const T* column,
                        T* const (&at)[kAbreast<T>], std::uint64_t (&inside)[kAbreast<T>]) {
    Vec<T> turn[kAbreast<T>], value[kAbreast<T>] = {};
    const T* row[kAbreast<T>];
    for (int i = 0; i < kAbreast<T>; ++i) turn[i] = load<T>(at[i]), row[i] = rows[i], inside[i] = 0;
    for (int64_t s = 0; s < map.count; ++s) {
        const Sector<T>& sector = map.sector[s];
        const Vec<T> from = broadcast(sector.from), to = broadcast(sector.to);
        std::uint64_t any = 0;
        for (int i = 0; i < kAbreast<T>; ++i) {
            const std::uint64_t here = mask_below<T>(turn[i], to) & ~mask_below<T>(turn[i], from);
            any |= here, inside[i] |= here;
        }
        if (any) {
            Vec<T> z[kAbreast<T>], part[kAbreast<T>];
            for (int i = 0; i < kAbreast<T>; ++i) {
                z[i] = broadcast(sector.z[0]);
                for (int c = 1; c < ntkfast::kSectorTerms; ++c) z[i] = z[i] * turn[i] + sector.z[c];
            }
            evaluate_sector<T>(sector, row, column, z, part);
            for (int i = 0; i < kAbreast<T>; ++i)
                value[i] = turn[i] < from ? value[i] : turn[i] < to ? part[i] : value[i];
        }
        for (int i = 0; i < kAbreast<T>; ++i) row[i] += sector.numbers;
        column += sector.numbers * kLanes<T>;
    }
    for (int i = 0; i < kAbreast<T>; ++i) store<T>(at[i], value[i]);
}

// The angles of a strip of pairs after the first affine step, over pi; far above 1 for a row that no
// sector knows. Returns a bit for each pair of equal directions. With a the angle of the shares of a
// row, u' = cos a cos b u + sin a sin b, see pair_state.hpp; 1 - cos(a-b) is 2 sin^2((a-b)/2).
template <class T>
NTK_FN std::uint64_t turns(const Pairs<T>& pairs, const Stats<T>& stats, T* turn) {
    std::uint64_t equal = 0;
    each_start<T>(pairs, [&](int lane, Vec<T> w, Vec<T> co, Vec<T>, Vec<T>) NTK_LAMBDA {
        equal |= mask_below<T>(w, broadcast<T>(kLeastDefect<T>)) << lane;
        const Vec<T> half = stats.left(3) * stats.own(2, lane) - stats.left(2) * stats.own(3, lane);
        const Vec<T> share = stats.pair(0, lane), moved = T(2) * half * half;
        const Vec<T> rest = share * co + moved + T(2) * stats.pair(1, lane);
        const Vec<T> angle = arc_cosine<T>(share * w + moved, rest).turn;
        store<T>(turn + lane, angle + (stats.left(4) + stats.own(4, lane)));
    });
    return equal;
}

}  // namespace
