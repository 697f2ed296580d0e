// Kernels of gram.cu: a product of a tile, then the map of each pair.
//
// A block has the inner products of 64 x 64 pairs in registers, 4 x 4 per thread, and applies the
// maps of the CPU to them one by one. Of a symmetric matrix only the upper part is computed.
#pragma once

#include "../tile.hpp"

#include "device.hpp"

namespace {

using namespace ntkfast;

constexpr int kTile = 64, kPart = 16, kOwn = 4;  // pairs of a block, depth, pairs of a thread
static_assert(kTile == kOwn * 16 && kThreads == 16 * 16);

template <class T>
struct GramTiles {
    Problem<T> p;                    // all on the card, but for the outputs
    const T *numbers_x, *numbers_y;  // [n][stats], [m][stats] of a layer map
    int64_t begin, end, first;       // rows, and the first column
    T* out[2];                       // the place of the pair (begin, first)
    int64_t ldo[2];
};

template <class T>
struct Factors {
    T left[kPart][kTile + 1], right[kPart][kTile + 1];
};

template <class T>
NTK_DEVICE void multiply(const GramTiles<T>& tiles, int64_t i0, int64_t j0, Factors<T>& part,
                         T (&sum)[kOwn][kOwn]) {
    const Problem<T>& p = tiles.p;
    const bool as_is = p.neuron || (p.radial && p.radial->radius == Radius::kEuclidean);
    for (int64_t k0 = 0; k0 < p.d; k0 += kPart) {
        for (int e = thread(); e < kPart * kTile; e += threads()) {
            const int64_t k = k0 + e % kPart, i = i0 + e / kPart, j = j0 + e / kPart;
            const bool inside = k < p.d;
            T right = inside && j < p.m ? p.y[j * p.ldy + k] : T(0);
            if (!as_is && j < p.m) right *= p.inverse_y[j];
            part.left[e % kPart][e / kPart] = inside && i < tiles.end ? p.x[i * p.ldx + k] : T(0);
            part.right[e % kPart][e / kPart] = right;
        }
        barrier();
        for (int k = 0; k < kPart; ++k)
            for (int a = 0; a < kOwn; ++a)
                for (int b = 0; b < kOwn; ++b)
                    sum[a][b] += part.left[k][thread() / 16 + 16 * a] *
                                 part.right[k][thread() % 16 + 16 * b];
        barrier();
    }
}

// The map of one pair, by the code that the CPU applies to strips.
template <class T>
NTK_DEVICE void map_pair(const GramTiles<T>& tiles, int64_t i, int64_t j, const T& product) {
    const Problem<T>& p = tiles.p;
    T* out[2];
    for (int k = 0; k < 2; ++k)
        out[k] = tiles.out[k] ? tiles.out[k] + (i - tiles.begin) * tiles.ldo[k] + j - tiles.first
                              : nullptr;
    const Pairs<T> pair{p, &product, i, j};
    const Window window{0, 1};
    if (p.layers)
        map_layers<T>(pair, tiles.numbers_x + i * p.layers->stats,
                      tiles.numbers_y + j * p.layers->stats, out, window);
    else if (p.radial)
        map_radial<T>(pair, p.factor_y + j, out, window);
    else if (p.neuron)
        map_neuron<T>(pair, p.factor_y + j, out, window);
    else
        map_profile<T>(pair, p.factor_y + j, out, window);
}

template <class T>
NTK_KERNEL gram_tiles(GramTiles<T> tiles) {
    const Problem<T>& p = tiles.p;
    Factors<T>& part = *shared_memory<Factors<T>>();
    const int64_t across = ceil_div<int64_t>(p.m - tiles.first, kTile);
    const int64_t down = ceil_div<int64_t>(tiles.end - tiles.begin, kTile);
    for (int64_t tile = block(); tile < down * across; tile += blocks()) {
        const int64_t i0 = tiles.begin + tile / across * kTile,
                      j0 = tiles.first + tile % across * kTile;
        if (p.symmetric && j0 + kTile <= i0) continue;
        T sum[kOwn][kOwn] = {};
        multiply(tiles, i0, j0, part, sum);
        for (int a = 0; a < kOwn; ++a)
            for (int b = 0; b < kOwn; ++b) {
                const int64_t i = i0 + thread() / 16 + 16 * a, j = j0 + thread() % 16 + 16 * b;
                if (i >= tiles.end || j >= p.m || (p.symmetric && j < i)) continue;
                map_pair(tiles, i, j, sum[a][b]);
            }
    }
}

template <class T>
struct TimesV {  // to[rows][columns] = values[rows][m] v[m][columns]
    const T *values, *v;
    T* to;
    int64_t rows, m, columns;
};

// A block per entry of the result: its threads share the sum over j, in an order that depends on m
// alone, so that neighbours read neighbours and the result is the same in every run.
template <class T>
NTK_KERNEL times_v(TimesV<T> p) {
    double* const part = shared_memory<double>();  // [threads]
    for (int64_t at = block(); at < p.rows * p.columns; at += blocks()) {
        const int64_t i = at / p.columns, c = at % p.columns;
        double sum = 0;
        for (int64_t j = thread(); j < p.m; j += threads())
            sum += static_cast<double>(p.values[i * p.m + j]) *
                   static_cast<double>(p.v[j * p.columns + c]);
        part[thread()] = sum;
        for (int half = threads() / 2; half > 0; half /= 2) {
            barrier();
            if (thread() < half) part[thread()] += part[thread() + half];
        }
        if (thread() == 0) p.to[at] = static_cast<T>(part[0]);
        barrier();  // before the next entry is summed in the same memory
    }
}

}  // namespace
