// The scratch memory of a thread, and what is packed into it.
#pragma once

#include "cpu/mirror.hpp"
#include "cpu/product.hpp"
#include "cpu/sector_numbers.hpp"
#include "formulas/pair_maps.hpp"

namespace {

using ntkfast::kTaskRows;
static_assert(kTaskRows % kTileRows == 0);

// A block of a symmetric product starts where a column block does: the diagonal part of it belongs
// to one task.
using ntkfast::kProductUnit;
static_assert(kProductUnit % kTileColumns<float> == 0 && kProductUnit % kTileColumns<double> == 0 &&
              kProductUnit % kTileRows == 0);

static_assert(kTileColumns<double> % kStrip == 0 && kTileColumns<float> % kStrip == 0);
static_assert(kTileColumns<double> % kPanel<double> == 0 && kTileRows % kRows == 0);

// ---- a tile ------------------------------------------------------------------------------------

// Whether the values of tiles go where they are kept from scratch memory, row by row: the memory takes
// one while the next is computed. Layers do strip by strip instead; those that are not rounded take
// longer than the memory in any case.
template <class T>
bool is_staged(const Problem<T>& p) {
    return p.rounded || (p.streams && !p.layers);
}

// Whether a tile is mirrored while the next one is mapped, and so keeps its memory until then.
template <class T>
bool mirrors_later(const Problem<T>& p) {
    return p.symmetric && is_staged(p) && !p.rounded;
}

// Scratch of one thread, in elements: packed columns, products, factors, numbers of the layer map.
template <class T>
struct Scratch {
    T *sums, *packed, *products, *values, *factors, *columns, *rows, *packed_v, *turned_v;
    T *other_products, *other_values, *mirror[2];  // of symmetric problems: tiles that are mirrored
    T *sector_columns, *sector_rows;
    T* known;  // 1 where columns, and then rows, have the numbers of the layers that few pairs ask for

    static int64_t panels(int64_t columns) { return ceil_div(columns, kPanel<T>); }

    static int64_t layout(const Problem<T>& p, T* base, Scratch* s) {
        int64_t used = 0;
        const auto take = [&](int64_t count) {
            T* at = base ? base + used : nullptr;
            used += ceil_div(count, 16) * 16 + 16;
            return at;
        };
        Scratch r{};
        const int64_t tile = kTileRows * kTilePitch<T>, stats = p.layers ? p.layers->stats : 0;
        // double sums: two floats each; those of both products are found at the beginning
        const int64_t doubles = sizeof(double) / sizeof(T) * p.columns;
        if (p.v) r.sums = take(doubles * (p.u ? 2 * p.block : chunk_rows(p)));
        r.packed = take(kTileColumns<T> * p.d);
        r.products = take(tile);
        r.factors = take(kTileColumns<T>);
        r.columns = take(kTileColumns<T> * stats);
        r.rows = take(kTileRows * stats);
        if (p.layers && p.layers->sectors) {
            r.sector_columns = take(kTileColumns<T> * sector_stats(p));
            r.sector_rows = take(kTileRows * sector_stats(p));
            r.known = take(kTileColumns<T> + kTileRows);
        }
        const bool both = p.out[0] && p.out[1];
        if (p.v || (both && is_staged(p))) r.values = take(tile);
        for (int which = 0; which < 2; ++which)
            if (p.symmetric && p.streams && p.out[which]) r.mirror[which] = take(kMirrorScratch<T>);
        if (mirrors_later(p) && !p.v) {
            r.other_products = take(tile);
            if (both) r.other_values = take(tile);
        }
        if (p.v) {
            r.packed_v = take(panels(p.columns) * kPanel<T> * kTileColumns<T>);
            r.turned_v = take(p.u ? p.columns * kTileRows : 0);
        }
        if (s) *s = r;
        return used;
    }

    // Rows of a task; fewer when many columns of sums must be kept (about a megabyte).
    static int64_t chunk_rows(const Problem<T>& p) {
        if (!p.v) return p.rows;
        const int64_t fit = (1 << 17) / (p.columns > 0 ? p.columns : 1) / kTileRows * kTileRows;
        return fit < kTileRows ? kTileRows : smaller(fit, kTaskRows);
    }
};

// The numbers of the layers for column j of the columns from j0 on.
template <class T>
void column_numbers(const Problem<T>& p, int64_t j0, int64_t j, const Scratch<T>& s) {
    p.layers->row_stats(*p.layers, p.norm_y[j0 + j],
                        given_series(*p.layers, p.layers->series_y, j0 + j), kStrip,
                        s.columns + j / kStrip * kStrip * p.layers->stats + j % kStrip);
}

// The same for the rows of a tile: numbers[rows][stats].
template <class T>
void row_numbers(const Problem<T>& p, int64_t i0, int rows, T* numbers) {
    for (int i = 0; i < rows; ++i, numbers += p.layers->stats)
        p.layers->row_stats(*p.layers, p.norm_x[i0 + i],
                            given_series(*p.layers, p.layers->series_x, i0 + i), 1, numbers);
}

// Packs the columns from j0 on.
template <class T>
void pack_columns(const Problem<T>& p, int64_t j0, Scratch<T>& s) {
    const int width = static_cast<int>(smaller(kTileColumns<T>, p.m - j0));
    pack_panels<T>(p.y + j0 * p.ldy, p.ldy, takes_products(p) ? nullptr : p.inverse_y + j0, width,
                   p.d, s.packed);
    std::memset(s.factors, 0, sizeof(T) * kTileColumns<T>);
    std::memcpy(s.factors, p.factor_y + j0, sizeof(T) * width);
    if (!p.layers) return;
    if (p.layers->sectors) {
        std::memset(s.columns, 0, sizeof(T) * kTileColumns<T> * p.layers->stats);
        std::memset(s.known, 0, sizeof(T) * kTileColumns<T>);
        for (int j = 0; j < width; j += kStrip)
            sector_columns<T>(p, j0 + j, smaller(kStrip, width - j),
                              s.sector_columns + j * sector_stats(p));
        return;
    }
    if (width % kStrip)  // of a last strip all columns are read
        std::memset(s.columns + width / kStrip * kStrip * p.layers->stats, 0,
                    sizeof(T) * kStrip * p.layers->stats);
    for (int j = 0; j < width; ++j) column_numbers<T>(p, j0, j, s);
}

// What the map of layers asks of the rows of a tile.
template <class T>
void pack_rows(const Problem<T>& p, int64_t i0, int rows, const Scratch<T>& s) {
    if (!p.layers->sectors) {
        row_numbers<T>(p, i0, rows, s.rows);
        return;
    }
    std::memset(s.known + kTileColumns<T>, 0, sizeof(T) * kTileRows);
    sector_rows<T>(p, i0, rows, s.sector_rows);
}

}  // namespace
