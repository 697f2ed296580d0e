// Kernels of the product K(X, Y) V: no entry of K leaves the block that computed it.
//
// A block walks over tiles of a strip of rows; the values of a slab lie in shared memory, where
// they are multiplied by V. Sums are of T within a slab and of double from slab to slab, as on the
// CPU. Ranges of tiles are shared out to blocks, whose sums a second kernel adds in the order of
// the ranges: every run gives the same bits.
//
// With U the transpose is multiplied too, while a slab is at hand: every tile leaves what it adds to
// its columns, and the second kernel adds that in the order of the strips. Of a symmetric matrix only
// tiles beyond the square on the diagonal do, and those before it are left out.
#pragma once

#include "cuda/profile_tiles.hpp"

namespace {

template <class T>
struct TimesV {
    GramTiles<T> tiles;
    Rows<T> v, u;     // [m][columns] and [n][columns], quads in full; u may be null
    int64_t columns;  // of both, in full quads
    int64_t width;    // columns of a pass, for which K is computed once
    int64_t ranges;   // of tiles
    double* sums;     // [ranges][end - begin][columns]
    double* turned;   // [strips][m - first][columns], with u
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

// to[column] += the transpose of slab times U, rows of U from i0 on; `begins` without sums before it.
// Every number belongs to one thread. The threads of a warp have columns of their own.
template <class Product, class T>
NTK_DEVICE void add_transpose(const TimesV<T>& p, const T* slab, const Place& at, int64_t c0,
                              int64_t c1, bool begins, double* to) {
    constexpr int kQuad = Quad<T>::kSize, kN = Product::kColumns;
    const T* const values = slab + thread() % kN;
    const int count = static_cast<int>(smaller(p.tiles.end - at.row, kSlab));
    if (at.column + thread() % kN >= p.tiles.p.m) return;
    to += (at.column - p.tiles.first + thread() % kN) * p.columns;
    for (int64_t c = c0 + thread() / kN * kQuad; c < c1; c += kThreads / kN * kQuad) {
        const T* u = p.u.data + at.row * p.u.pitch + c;
        Quad<T> part{};
        NTK_UNROLL(4)
        for (int i = 0; i < count; ++i, u += p.u.pitch) {
            const T value = values[i * kTimesPitch<Product>];
            const Quad<T> row = *reinterpret_cast<const Quad<T>*>(u);
            NTK_UNROLL()
            for (int q = 0; q < kQuad; ++q) part.at[q] += value * row.at[q];
        }
        for (int q = 0; q < kQuad; ++q)
            to[c + q] = (begins ? 0 : to[c + q]) + static_cast<double>(part.at[q]);
    }
}

template <class Product, bool PROFILE, class T = typename Product::Number>
NTK_KERNEL_OF(kBlocks<Product>)
times_v(NTK_ARGUMENT TimesV<T> p) {
    constexpr int kM = Product::kRows, kN = Product::kColumns, kPitch = kTimesPitch<Product>;
    const GramTiles<T>& tiles = p.tiles;
    const int64_t rows = tiles.end - tiles.begin, strips = ceil_div(rows, kM);
    const int64_t strip = block() % strips, i0 = tiles.begin + strip * kM;
    const int64_t before = tiles.p.symmetric ? strip * kM / kN : 0;
    const int64_t across = ceil_div(tiles.p.m - tiles.first, kN) - before;
    const int64_t range = block() / strips % p.ranges;
    const int64_t c0 = block() / strips / p.ranges * p.width, c1 = smaller(c0 + p.width, p.columns);
    T* const memory = shared_memory<T>();
    double* const sums = shared_memory<double>() + kSumsAt<Product>;
    for (int64_t e = thread(); e < (c1 - c0) * kM; e += kThreads) sums[e] = 0;
    const auto each_tile = [&](auto map_and_add) {
        for (int64_t tile = range * across / p.ranges; tile < (range + 1) * across / p.ranges;
             ++tile) {
            const int64_t j0 = tiles.first + (before + tile) * kN;
            const bool both = p.u.data && (!tiles.p.symmetric || j0 >= i0 + kM);
            Product product;
            multiply(tiles.left, tiles.right, i0, j0, shared_memory<Quad<T>>(), product);
            map_and_add(product, j0, [&](int slab) {
                barrier();
                add_slab<Product>(p, memory, j0, c0, c1, sums + slab * kSlab);
                if (!both) return;
                double* const to = p.turned + strip * (tiles.p.m - tiles.first) * p.columns;
                add_transpose<Product>(p, memory, {i0 + slab * kSlab, j0}, c0, c1, slab == 0, to);
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

// to[rows][columns] = the sums of parts[count][rows][pitch], or more by these; `to` has rows `ld`
// apart. With a step row i has as many parts as it has steps before it.
template <class T>
struct SumParts {
    const double* parts;
    int64_t count, step, rows, pitch, columns;
    T* to;
    int64_t ld;
    bool adds;
};

template <class T>
NTK_KERNEL sum_parts(SumParts<T> p) {
    for (int64_t e = first_element(); e < p.rows * p.columns; e += element_step()) {
        const int64_t i = e / p.columns, c = e % p.columns;
        const int64_t count = p.step ? smaller(i / p.step, p.count) : p.count;
        double sum = 0;
        for (int64_t k = 0; k < count; ++k) sum += p.parts[(k * p.rows + i) * p.pitch + c];
        T& to = p.to[i * p.ld + c];
        to = static_cast<T>(p.adds ? static_cast<double>(to) + sum : sum);
    }
}

}  // namespace
