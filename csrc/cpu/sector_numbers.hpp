// What the sectors of a network ask of a row: its place, and its functions times the root of K(x, x).
#pragma once

#include "formulas/sectors.hpp"

namespace {

using ntkfast::kSectorPlace;
using ntkfast::SectorPlace;

// Numbers of a row that pairs multiply: of all functions but the root of K(x, x).
template <class T>
int64_t sector_stats(const Problem<T>& p) {
    return kSectorPlace - 1 + p.layers->sectors->numbers;
}

// Chebyshev polynomials at the place of a row within its piece.
template <class T>
struct SectorBasis {
    const T* table;  // of the piece
    T values[ntkfast::kSectorDegree + 1];

    SectorBasis(const Sectors<T>& map, const SectorPlace<T>& place)
        : table(map.table + place.piece * (map.degree + 1) * map.numbers) {
        double before = place.z, now = 1;  // T_-1 and T_0
        for (int64_t n = 0; n <= map.degree; ++n) {
            values[n] = static_cast<T>(now);
            const double next = 2 * place.z * now - before;
            before = now, now = next;
        }
    }
};

// Functions first to first + kGroup vectors of a row.
template <class T>
void sector_functions(const Sectors<T>& map, const SectorBasis<T>& basis, int64_t first,
                      Vec<T> (&sum)[kGroup]) {
    const T* at = basis.table + first;
    for (int k = 0; k < kGroup; ++k) sum[k] = Vec<T>{};
    for (int64_t n = 0; n <= map.degree; ++n, at += map.numbers) {
        const Vec<T> factor = broadcast(basis.values[n]);
        for (int k = 0; k < kGroup; ++k) sum[k] += factor * load<T>(at + k * kLanes<T>);
    }
}

// The numbers of row i of x, out[sector_stats].
template <class T>
void sector_row(const Sectors<T>& map, int64_t i, T* out) {
    constexpr int64_t kWidth = kGroup * kLanes<T>;
    const SectorPlace<T>& place = map.place_x[i];
    const SectorBasis<T> basis(map, place);
    // The root of K(x, x) comes to lie where the last number of the place is put after it.
    T* const functions = out + kSectorPlace - 1;
    Vec<T> sum[kGroup], size{};
    for (int64_t first = 0; first < map.numbers; first += kWidth) {
        sector_functions<T>(map, basis, first, sum);
        if (first == 0) {
            T numbers[kLanes<T>];
            store<T>(numbers, sum[0]);
            size = broadcast(numbers[0]);
        }
        for (int k = 0; k < kGroup; ++k) store<T>(functions + first + k * kLanes<T>, sum[k] * size);
    }
    for (int64_t k = 0; k < kSectorPlace; ++k) out[k] = place.numbers[k];
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
    std::memset(out, 0, sizeof(T) * kStrip * sector_stats(p));
    for (int64_t c = 0; c < width; ++c) {
        const SectorPlace<T>& place = map.place_y[j + c];
        for (int64_t k = 0; k < kSectorPlace; ++k) out[k * kStrip + c] = place.numbers[k];
        T* const panel = sector_panel(p, out, c / kLanes<T> * kLanes<T>) + c % kLanes<T>;
        const SectorBasis<T> basis(map, place);
        T size = 0;
        for (int64_t first = 0; first < map.numbers; first += kWidth) {
            Vec<T> sum[kGroup];
            T numbers[kWidth];
            sector_functions<T>(map, basis, first, sum);
            for (int k = 0; k < kGroup; ++k)
                store<T>(numbers + k * kLanes<T>,
                         sum[k] * load<T>(map.sign + first + k * kLanes<T>));
            if (first == 0) size = numbers[0];
            for (int64_t k = first ? 0 : 1; k < kWidth; ++k)  // the first one is the size itself
                panel[(first + k - 1) * kLanes<T>] = numbers[k] * size;
        }
    }
}

}  // namespace
