// Kernels of derivatives: the slopes of the pairs of a tile, weighed while they are at hand.
//
// As in times_v.hpp a block walks over tiles of a strip of rows, and ranges of tiles are shared out to
// blocks. What belongs to a row alone is summed by warps, whose lanes have pairs of one row: of T within a
// warp and of double from there on, in an order of their own, so that every run gives the same bits.
#pragma once

#include "cuda/times_v.hpp"
#include "cuda/warp.hpp"
#include "formulas/slopes.hpp"

namespace {

// What slopes ask for beside tiles; arrays of the rows of x begin with the first one of the tiles.
template <class T>
struct PairSlopes {
    Gradient<T> g;      // arrays on the device
    const T* rates_x;   // [rows][count_rates] of a layer map
    const T* shares_y;  // [layers][m]
    bool unit;          // rows count by their directions
};

// The problem of a pair; maps are taken from where the kernel has them, each where it is known to be the one.
template <class T>
NTK_DEVICE Gradient<T> of_pairs(const GramTiles<T>& tiles, const PairSlopes<T>& slopes) {
    Gradient<T> g = slopes.g;
    g.pairs = tiles.p;
    if (tiles.p.radial) g.pairs.radial = &tiles.maps.radial;
    return g;
}

template <class T>
NTK_DEVICE Problem<T> of_profiles(const GramTiles<T>& tiles) {
    Problem<T> p = tiles.p;
    p.profile[0] = &tiles.maps.profile[0], p.profile[1] = nullptr;
    return p;
}

// What a pair of a layer map has beside its product.
template <class T>
NTK_DEVICE Beside<T> beside_pair(const GramTiles<T>& tiles, const PairSlopes<T>& slopes, int64_t i,
                                 int64_t j) {
    const Layers<T>& map = tiles.maps.layers;
    return {nullptr,
            {tiles.numbers_x + i * map.stats, tiles.numbers_y + j, tiles.p.m},
            {slopes.rates_x + (i - tiles.begin) * count_rates(map), slopes.shares_y + j,
             map.directions, tiles.p.m}};
}

// The slopes of one pair, by the code that the CPU applies to strips.
template <class T>
NTK_DEVICE void slopes_of_pair(const GramTiles<T>& tiles, const PairSlopes<T>& slopes, int64_t i,
                               int64_t j, const T& product, Slopes<T>& s) {
    Gradient<T> g = slopes.g;
    Problem<T>& p = g.pairs = tiles.p;
    const Pairs<T> pair{p, &product, i, j};
    if (p.layers) {
        p.layers = &tiles.maps.layers;
        const Beside<T> beside = beside_pair(tiles, slopes, i, j);
        layer_slopes<T>(g, pair, beside.stats, beside.rates, s);
    } else if (p.radial) {
        p.radial = &tiles.maps.radial;
        radial_slopes<T>(g, pair, p.factor_y + j, 0, s);
    } else {
        p.profile[0] = &tiles.maps.profile[0], p.profile[1] = &tiles.maps.profile[1];
        profile_slopes<T>(g, pair, p.factor_y + j, 0, s);
    }
}

// V of a pair.
template <class T>
NTK_DEVICE T weight_of(const Gradient<T>& g, int64_t row, int64_t j) {
    T sum = 0;
    for (int64_t r = 0; r < g.rank; ++r)
        sum += g.left[row * g.ld_left + r] * g.right[j * g.ld_right + r];
    if (g.v) sum = g.v[row * g.ldv + j];
    if (g.turned) sum += g.turned[j * g.ld_turned + row];
    return sum;
}

// Warps that have a row of a tile: what they sum of it, and which of its pairs are close, is [row][word].
template <class Product>
constexpr int kWords = Product::kColumns / kWarp;
NTK_DEVICE int lane() { return thread() % kWarp; }

// ---- by the rows of x ---------------------------------------------------------------------------

template <class T>
struct Pull {
    TimesV<T> times;  // the columns, scaled as the map asks for, in the place of V
    PairSlopes<T> slopes;
    double* own;  // [ranges][end - begin]: what rows themselves are multiplied by
};

// Bytes of shared memory behind the sums of a strip: those of the rows, and which pairs are close.
template <class Product>
constexpr std::size_t kOwnBytes =
    Product::kRows * kWords<Product> * (sizeof(double) + 2 * sizeof(std::uint32_t));

// sums[column][row] += tangents of the close pairs of a slab, whose weights then are 0.
template <class Product, class T>
NTK_DEVICE void add_close(const Gradient<T>& g, const std::uint32_t* close, T* slab, int64_t i0,
                          int64_t j0, int64_t c0, int64_t c1, double* sums) {
    constexpr int kGroups = kThreads / kSlab;
    const int row = thread() % kSlab, group = thread() / kSlab;
    T* const weights = slab + row * kTimesPitch<Product>;
    const std::uint32_t* const words = close + row * kWords<Product> * 2;
    for (int word = 0; word < kWords<Product>; ++word)
        for (std::uint32_t bits = words[2 * word]; bits; bits &= bits - 1) {
            const int bit = lowest_bit(bits), column = word * kWarp + bit;
            const bool back = words[2 * word + 1] >> bit & 1;
            each_tangent<T>(g, i0 + row, j0 + column, back, [&](int64_t k, T part) {
                if (k >= c0 && k < c1 && k % kGroups == group)
                    sums[(k - c0) * Product::kRows + row] +=
                        static_cast<double>(weights[column] * part);
            });
        }
    barrier();
    for (int word = 0; group == 0 && word < kWords<Product>; ++word)
        for (std::uint32_t bits = words[2 * word]; bits; bits &= bits - 1)
            weights[word * kWarp + lowest_bit(bits)] = 0;
    barrier();
}

// sums and own of a strip, for columns [c0, c1) of x.
template <class Product, class T = typename Product::Number>
NTK_KERNEL_OF(1)
pull(NTK_ARGUMENT Pull<T> p) {
    constexpr int kM = Product::kRows, kN = Product::kColumns;
    static_assert(kM == kSlab);
    const TimesV<T>& times = p.times;
    const GramTiles<T>& tiles = times.tiles;
    const int64_t across = ceil_div(tiles.p.m, kN), rows = tiles.end - tiles.begin;
    const int64_t strips = ceil_div(rows, kM), i0 = tiles.begin + block() % strips * kM;
    const int64_t range = block() / strips % times.ranges;
    const int64_t c0 = block() / strips / times.ranges * times.width;
    const int64_t c1 = smaller(c0 + times.width, times.columns);
    T* const memory = shared_memory<T>();
    double* const sums = shared_memory<double>() + kSumsAt<Product>;
    double* const own = sums + times.width * kM;
    auto* const close = reinterpret_cast<std::uint32_t*>(own + kM * kWords<Product>);
    const Gradient<T> g = of_pairs(tiles, p.slopes);
    for (int64_t e = thread(); e < (c1 - c0) * kM; e += kThreads) sums[e] = 0;
    for (int e = thread(); e < kM * kWords<Product>; e += kThreads) own[e] = 0;
    for (int64_t tile = range * across / times.ranges; tile < (range + 1) * across / times.ranges;
         ++tile) {
        const int64_t j0 = tile * kN;
        Product product;
        multiply(tiles.left, tiles.right, i0, j0, shared_memory<Quad<T>>(), product);
        const auto use = [&](int row, int column, T* value) {
            const int64_t i = i0 + row, j = j0 + column;
            bool near = false, back = false;
            T along = 0, weight = 0;
            if (i < tiles.end && j < tiles.p.m) {
                Slopes<T> s;
                slopes_of_pair(tiles, p.slopes, i, j, *value, s);
                const T v = weight_of(p.slopes.g, i - tiles.begin, j), turn = v * s.turn[0];
                const T c = turn * s.inverse[0];
                near = s.inverse[0] < kTiniest<T>, back = s.u[0] < 0;
                weight = near ? turn : c;
                along = v * s.radial[0] - c * s.u[0];
            }
            *value = weight;
            const T sum = sum_of_warp(along);
            const std::uint32_t nears = votes_of_warp(near), backs = votes_of_warp(back);
            if (lane() != 0) return;
            const int word = row * kWords<Product> + column / kWarp;
            own[word] += static_cast<double>(sum);
            close[2 * word] = nears, close[2 * word + 1] = backs;
        };
        each_pair<kTimesPitch<Product>>(product, memory, use, [&](int) {
            barrier();
            add_close<Product>(g, close, memory, i0, j0, c0, c1, sums);
            add_slab<Product>(times, memory, j0, c0, c1, sums);
        });
    }
    barrier();
    for (int64_t e = thread(); e < (c1 - c0) * kM; e += kThreads) {
        const int64_t i = i0 + e % kM - tiles.begin;
        if (i < rows) times.sums[(range * rows + i) * times.columns + c0 + e / kM] = sums[e];
    }
    const int64_t i = i0 + thread() - tiles.begin;
    if (c0 > 0 || thread() >= kM || i >= rows) return;
    double sum = 0;
    for (int word = 0; word < kWords<Product>; ++word)
        sum += own[thread() * kWords<Product> + word];
    p.own[range * rows + i] = sum;
}

// out[i] = the sums of all ranges, and the row itself times its own.
template <class T>
NTK_KERNEL add_pulls(Pull<T> p) {
    const TimesV<T>& times = p.times;
    const Gradient<T>& g = p.slopes.g;
    const Problem<T>& pairs = times.tiles.p;
    const int64_t rows = times.tiles.end - times.tiles.begin;
    for (int64_t e = first_element(); e < rows * pairs.d; e += element_step()) {
        const int64_t row = e / pairs.d, k = e % pairs.d, i = times.tiles.begin + row;
        double sum = 0, own = 0;
        for (int64_t r = 0; r < times.ranges; ++r) {
            sum += times.sums[(r * rows + row) * times.columns + k];
            own += p.own[r * rows + row];
        }
        const T inverse = p.slopes.unit ? pairs.inverse_x[i] : T(1);
        g.out[row * g.ldo + k] =
            static_cast<T>(sum + own * static_cast<double>(inverse) *
                                     static_cast<double>(pairs.x[i * pairs.ldx + k]));
    }
}

// ---- along a direction --------------------------------------------------------------------------

template <class T>
struct Push {
    GramTiles<T> tiles;
    PairSlopes<T> slopes;
    Rows<T> steps;  // dx
    T* own;         // [end - begin]: the part of dx along x
};

template <class T>
NTK_KERNEL steps_along_rows(Push<T> p) {
    const Problem<T>& pairs = p.tiles.p;
    for (int64_t row = first_element(); row < p.tiles.end - p.tiles.begin; row += element_step()) {
        const int64_t i = p.tiles.begin + row;
        const T inverse = p.slopes.unit ? pairs.inverse_x[i] : T(1);
        double sum = 0;
        for (int64_t k = 0; k < pairs.d; ++k)
            sum += static_cast<double>(pairs.x[i * pairs.ldx + k] * inverse) *
                   static_cast<double>(p.steps.data[row * p.steps.pitch + k]);
        p.own[row] = static_cast<T>(sum);
    }
}

// out[row][j] first gets the part along x, then that of the products of dx with the columns.
template <class Product, class T = typename Product::Number>
NTK_KERNEL_OF(1)
push(NTK_ARGUMENT Push<T> p) {
    constexpr int kM = Product::kRows, kN = Product::kColumns, kPitch = kGramPitch<Product>;
    static_assert(kM == kSlab);
    const GramTiles<T>& tiles = p.tiles;
    const int64_t rows = tiles.end - tiles.begin;
    const Place at = place_of(block(), ceil_div(rows, kM), ceil_div(tiles.p.m, kN));
    const int64_t first = at.row * kM, j0 = at.column * kN;
    T* const memory = shared_memory<T>();
    const Gradient<T> g = of_pairs(tiles, p.slopes);
    Product product, moved;
    multiply(tiles.left, tiles.right, tiles.begin + first, j0, shared_memory<Quad<T>>(), product);
    multiply(p.steps, tiles.right, first, j0, shared_memory<Quad<T>>(), moved);
    const auto use = [&](int r, int column, T* value) {
        const int64_t row = first + r, i = tiles.begin + row, j = j0 + column;
        if (row >= rows || j >= tiles.p.m) return;
        Slopes<T> s;
        slopes_of_pair(tiles, p.slopes, i, j, *value, s);
        const T own = p.own[row];
        T found = s.radial[0] * own, weight = 0;
        if (s.inverse[0] < kTiniest<T>) {
            T sum = 0;
            each_tangent<T>(g, i, j, s.u[0] < 0, [&](int64_t k, T part) {
                sum += part * p.steps.data[row * p.steps.pitch + k];
            });
            found += s.turn[0] * sum;
        } else {
            weight = s.turn[0] * s.inverse[0];
            found -= weight * (s.u[0] * own);
        }
        *value = weight;
        g.out[row * g.ldo + j] = found;
    };
    each_pair<kPitch>(product, memory, use, [&](int) {
        barrier();
        moved.each([&](int r, int column, T value) {
            if (first + r < rows && j0 + column < tiles.p.m)
                g.out[(first + r) * g.ldo + j0 + column] += memory[r * kPitch + column] * value;
        });
    });
}

// ---- by parameters ------------------------------------------------------------------------------

template <class T>
struct WeighedSums {
    GramTiles<T> tiles;
    PairSlopes<T> slopes;
    int64_t directions, ranges;
    double* sums;  // [ranges][end - begin][directions]
};

// V times the derivatives in the directions of a layer map, or times the values of another one.
template <class Product, class T = typename Product::Number>
NTK_KERNEL_OF(1)
weighed_sums(NTK_ARGUMENT WeighedSums<T> p) {
    constexpr int kM = Product::kRows, kN = Product::kColumns;
    static_assert(kM == kSlab);
    const GramTiles<T>& tiles = p.tiles;
    const int64_t across = ceil_div(tiles.p.m, kN), rows = tiles.end - tiles.begin;
    const int64_t strips = ceil_div(rows, kM), i0 = tiles.begin + block() % strips * kM;
    const int64_t range = block() / strips;
    const int64_t numbers = kWords<Product> * p.directions;
    double* const sums = shared_memory<double>() + kSumsAt<Product>;  // [kM][kWords][directions]
    for (int64_t e = thread(); e < kM * numbers; e += kThreads) sums[e] = 0;
    for (int64_t tile = range * across / p.ranges; tile < (range + 1) * across / p.ranges; ++tile) {
        const int64_t j0 = tile * kN;
        Product product;
        multiply(tiles.left, tiles.right, i0, j0, shared_memory<Quad<T>>(), product);
        const auto use = [&](int row, int column, T* value) {
            const int64_t i = i0 + row, j = j0 + column;
            const bool inside = i < tiles.end && j < tiles.p.m;
            const T v = inside ? weight_of(p.slopes.g, i - tiles.begin, j) : T(0);
            Tangents<T> d;
            if (inside && tiles.p.layers) {
                const Beside<T> beside = beside_pair(tiles, p.slopes, i, j);
                Gradient<T> g = p.slopes.g;
                g.pairs = tiles.p, g.pairs.layers = &tiles.maps.layers;
                parameter_slopes<T>(g, {g.pairs, value, i, j}, beside.stats, beside.rates, d);
            } else if (inside) {
                T* const out[2] = {d.along[0].ntk, nullptr};
                if (tiles.p.profile[0])
                    map_profile<T>({of_profiles(tiles), value, i, j}, tiles.p.factor_y + j, out,
                                   {0, 1});
                else
                    map_other(tiles, i, j, *value, out);
            }
            double* const to = sums + row * numbers + column / kWarp * p.directions;
            for (int64_t k = 0; k < p.directions; ++k) {
                const T sum = sum_of_warp(inside ? v * d.along[k].ntk[0] : T(0));
                if (lane() == 0) to[k] += static_cast<double>(sum);
            }
        };
        each_pair<kTimesPitch<Product>>(product, shared_memory<T>(), use, [](int) {});
    }
    barrier();
    for (int64_t e = thread(); e < kM * p.directions; e += kThreads) {
        const int64_t i = i0 + e / p.directions - tiles.begin, k = e % p.directions;
        if (i >= rows) continue;
        double sum = 0;
        for (int word = 0; word < kWords<Product>; ++word)
            sum += sums[e / p.directions * numbers + word * p.directions + k];
        p.sums[(range * rows + i) * p.directions + k] = sum;
    }
}

}  // namespace
