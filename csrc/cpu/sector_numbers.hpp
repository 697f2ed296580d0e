// What the sectors of a network ask of a row: its place, and its functions times the root of K(x, x).
#pragma once

#include "cpu/keep.hpp"
#include "formulas/sectors.hpp"

namespace {

using ntkfast::kSectorPlace;
using ntkfast::SectorPlace;

// Numbers of a row that pairs multiply: of all functions but the root of K(x, x).
template <class T>
int64_t sector_stats(const Problem<T>& p) {
    return kSectorPlace - 1 + p.layers->sectors->numbers;
}

// Chebyshev polynomials at the place of a row within its piece, and the root of K(x, x).
template <class T>
struct SectorBasis {
    const T* table;  // of the piece
    T values[ntkfast::kSectorDegree + 1], size;
};

template <class T>
SectorBasis<T> sector_basis(const Sectors<T>& map, const SectorPlace<T>& place) {
    SectorBasis<T> basis;
    basis.table = map.table + place.piece * (map.degree + 1) * ntkfast::kSectorUnit;
    double before = place.z, now = 1;  // T_-1 and T_0
    for (int64_t n = 0; n <= map.degree; ++n) {
        basis.values[n] = static_cast<T>(now);
        const double next = 2 * place.z * now - before;
        before = now, now = next;
    }
    return basis;
}

// Calls put(r, first, functions) for kGroup vectors of functions, `first` and those after it, of each row
// at these places, without the root of K(x, x), which the basis knows then. Rows are in the inner
// loop: what they read of the table stays in cache.
template <class T, class Put>
void sector_functions(const Sectors<T>& map, const SectorPlace<T>* places, int64_t rows,
                      SectorBasis<T>* bases, Put put) {
    constexpr int64_t kWidth = kGroup * kLanes<T>, kUnit = ntkfast::kSectorUnit;
    static_assert(kUnit % kWidth == 0);
    const int64_t unit = map.pieces * (map.degree + 1) * kUnit;
    for (int64_t r = 0; r < rows; ++r) bases[r] = sector_basis(map, places[r]);
    for (int64_t first = 0; first < map.numbers; first += kWidth)
        for (int64_t r = 0; r < rows; ++r) {
            const T* at = bases[r].table + first / kUnit * unit + first % kUnit;
            Vec<T> sum[kGroup] = {};
            for (int64_t n = 0; n <= map.degree; ++n, at += kUnit) {
                const Vec<T> factor = broadcast(bases[r].values[n]);
                for (int k = 0; k < kGroup; ++k) sum[k] += factor * load<T>(at + k * kLanes<T>);
            }
            if (first == 0) {
                T numbers[kLanes<T>];
                store<T>(numbers, sum[0]);
                bases[r].size = numbers[0];
            }
            put(r, first, sum);
        }
}

// The numbers of rows i0 to i0 + rows of x, out[rows][sector_stats].
template <class T>
void sector_rows(const Problem<T>& p, int64_t i0, int rows, T* out) {
    const Sectors<T>& map = *p.layers->sectors;
    const SectorPlace<T>* const places = map.place_x + i0;
    const int64_t numbers = sector_stats(p);
    SectorBasis<T> bases[kTileRows];
    sector_functions<T>(map, places, rows, bases, [&](int64_t r, int64_t first, auto& sum) {
        // The root of K(x, x) comes to lie where the last number of the place is put after it.
        T* const functions = out + r * numbers + kSectorPlace - 1 + first;
        const Vec<T> size = broadcast(bases[r].size);
        for (int k = 0; k < kGroup; ++k) store<T>(functions + k * kLanes<T>, sum[k] * size);
    });
    for (int r = 0; r < rows; ++r)
        for (int64_t k = 0; k < kSectorPlace; ++k) out[r * numbers + k] = places[r].numbers[k];
}

// The functions of a vector of columns, the one at `lane` of a strip, [numbers][kLanes].
template <class T>
T* sector_panel(const Problem<T>& p, T* strip, int64_t lane) {
    return strip + kSectorPlace * kStrip + lane * (p.layers->sectors->numbers - 1);
}

// The numbers of columns j to j + width of y, as a strip: first those of places, [kSectorPlace][kStrip],
// then functions, with the signs of products, in panels.
template <class T>
void sector_columns(const Problem<T>& p, int64_t j, int64_t width, T* out) {
    constexpr int64_t kWidth = kGroup * kLanes<T>;
    const Sectors<T>& map = *p.layers->sectors;
    const SectorPlace<T>* const places = map.place_y + j;
    std::memset(out, 0, sizeof(T) * kStrip * sector_stats(p));
    for (int64_t c = 0; c < width; ++c)
        for (int64_t k = 0; k < kSectorPlace; ++k) out[k * kStrip + c] = places[c].numbers[k];
    SectorBasis<T> bases[kStrip];
    sector_functions<T>(map, places, width, bases, [&](int64_t c, int64_t first, auto& sum) {
        T* const panel = sector_panel(p, out, c / kLanes<T> * kLanes<T>) + c % kLanes<T>;
        T numbers[kWidth];
        for (int k = 0; k < kGroup; ++k)
            store<T>(numbers + k * kLanes<T>, sum[k] * load<T>(map.sign + first + k * kLanes<T>));
        for (int64_t k = first ? 0 : 1; k < kWidth; ++k)  // the first one is the size itself
            panel[(first + k - 1) * kLanes<T>] = numbers[k] * bases[c].size;
    });
}

}  // namespace
