// Kernels of the product K(X, Y) V: no entry of K leaves the block that computed it.
//
// A block walks over tiles of a strip of rows; the values of a slab lie in shared memory, where
// they are multiplied by V. Sums are of T within a tile and of double from tile to tile, as on the
// CPU. Ranges of tiles are shared out to blocks, whose sums a second kernel adds in the order of
// the ranges: every run gives the same bits.
#pragma once

#include "cuda/profile_tiles.hpp"

namespace {

template <class T>
struct TimesV {
    GramTiles<T> tiles;
    Rows<T> v;        // [m][columns], quads in full
    int64_t columns;  // of V, in full quads
    int64_t width;    // columns of a pass, for which K is computed once
    int64_t ranges;   // of tiles
    double* sums;     // [ranges][end - begin][columns]
};

// Threads side by side read quads of different rows.
template <class Product>
constexpr int kTimesPitch = Product::kColumns + Quad<typename Product::Number>::kSize;

// Where the sums of a block begin in its shared memory, [columns][rows].
template <class Product>
constexpr std::size_t kSumsAt = kTileBytes<Product, kTimesPitch<Product>> / sizeof(double);

// sums[column][row] += slab times V, the columns [c0, c1) of V and its rows from j0 on. The threads
// of a warp have rows of their own and columns in common.
template <class Product, class T>
NTK_DEVICE void add_slab(const TimesV<T>& p, const T* slab, int64_t j0, int64_t c0, int64_t c1,
                         double* sums) {
    constexpr int kQuad = Quad<T>::kSize;
    const T* const values = slab + thread() % kSlab * kTimesPitch<Product>;
    const int count = columns_from(p.tiles.p, j0, Product::kColumns);
    for (int64_t c = c0 + thread() / kSlab * kQuad; c < c1; c += kThreads / kSlab * kQuad) {
        const T* v = p.v.data + j0 * p.v.pitch + c;
        Quad<T> part{};
        const auto add = [&](T value) {
            const Quad<T> row = *reinterpret_cast<const Quad<T>*>(v);
            NTK_UNROLL()
            for (int q = 0; q < kQuad; ++q) part.at[q] += value * row.at[q];
            v += p.v.pitch;
        };
        int k = 0;
        for (; k + kQuad <= count; k += kQuad) {
            const Quad<T> quad = *reinterpret_cast<const Quad<T>*>(values + k);
            NTK_UNROLL()
            for (int q = 0; q < kQuad; ++q) add(quad.at[q]);
        }
        for (; k < count; ++k) add(values[k]);
        for (int q = 0; q < kQuad; ++q)
            sums[(c - c0 + q) * Product::kRows + thread() % kSlab] +=
                static_cast<double>(part.at[q]);
    }
}

template <class Product, bool PROFILE, class T = typename Product::Number>
NTK_KERNEL_OF(kBlocks<Product>)
times_v(NTK_ARGUMENT TimesV<T> p) {
    constexpr int kM = Product::kRows, kN = Product::kColumns, kPitch = kTimesPitch<Product>;
    const GramTiles<T>& tiles = p.tiles;
    const int64_t across = ceil_div(tiles.p.m, kN), rows = tiles.end - tiles.begin;
    const int64_t strips = ceil_div(rows, kM), i0 = tiles.begin + block() % strips * kM;
    const int64_t range = block() / strips % p.ranges;
    const int64_t c0 = block() / strips / p.ranges * p.width, c1 = smaller(c0 + p.width, p.columns);
    T* const memory = shared_memory<T>();
    double* const sums = shared_memory<double>() + kSumsAt<Product>;
    for (int64_t e = thread(); e < (c1 - c0) * kM; e += kThreads) sums[e] = 0;
    const auto each_tile = [&](auto map_and_add) {
        for (int64_t tile = range * across / p.ranges; tile < (range + 1) * across / p.ranges;
             ++tile) {
            const int64_t j0 = tile * kN;
            Product product;
            multiply(tiles.left, tiles.right, i0, j0, shared_memory<Quad<T>>(), product);
            map_and_add(product, j0, [&](int slab) {
                barrier();
                add_slab<Product>(p, memory, j0, c0, c1, sums + slab * kSlab);
            });
        }
    };
    if constexpr (PROFILE) {
        ByProfile<T, 1> map(tiles, sums + p.width * kM, i0, kM);
        each_tile([&](Product& product, int64_t j0, auto add) {
            const int64_t j = j0 + thread() % kFours<Product> * kTogether;
            const int count = columns_from(tiles.p, j, kTogether);
            map.columns(j);
            const auto use = [&](int row, Four<T>& place) {
                const int wanted = i0 + row < tiles.end ? count : 0;
                map(row, {i0 + row, j, wanted}, place,
                    [&](int, const Four<T>& values) { place = values; });
            };
            each_four<kPitch>(product, memory, use, add);
        });
    } else {
        each_tile([&](Product& product, int64_t j0, auto add) {
            const auto use = [&](int row, int column, T* value) {
                T* const out[2] = {tiles.p.use_second ? nullptr : value,
                                   tiles.p.use_second ? value : nullptr};
                const bool inside = i0 + row < tiles.end && j0 + column < tiles.p.m;
                if (inside) map_other(tiles, i0 + row, j0 + column, *value, out);
            };
            each_pair<kPitch>(product, memory, use, add);
        });
    }
    barrier();
    double* const to = p.sums + range * rows * p.columns;
    for (int64_t e = thread(); e < (c1 - c0) * kM; e += kThreads) {
        const int64_t i = i0 + e % kM - tiles.begin;
        if (i < rows) to[i * p.columns + c0 + e / kM] = sums[e];
    }
}

template <class T>
struct SumRanges {  // to[rows][columns], rows `ld` apart
    const double* sums;
    int64_t ranges, rows, pitch, columns;
    T* to;
    int64_t ld;
};

template <class T>
NTK_KERNEL sum_ranges(SumRanges<T> p) {
    for (int64_t e = first_element(); e < p.rows * p.columns; e += element_step()) {
        const int64_t i = e / p.columns, c = e % p.columns;
        double sum = 0;
        for (int64_t r = 0; r < p.ranges; ++r) sum += p.sums[(r * p.rows + i) * p.pitch + c];
        p.to[i * p.ld + c] = static_cast<T>(sum);
    }
}

}  // namespace
