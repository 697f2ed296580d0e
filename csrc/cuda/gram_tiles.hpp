// Kernels of Gram matrices: the products of a tile, then the map of each pair, then one store.
//
// Products go through shared memory slab by slab, so that whatever thread has them in its registers
// the threads of a warp map neighbours of one row: they read the numbers of columns and write the
// results side by side. Of a symmetric matrix only the upper part is computed.
#pragma once

#include "cuda/tile_product.hpp"

namespace {

using namespace ntkfast;

// The map of a problem, among the arguments of a kernel: its numbers are operands of instructions.
template <class T>
struct Maps {
    Profile<T> profile[2];
    Layers<T> layers;
    Radial<T> radial;
    Neuron<T> neuron;
};

template <class T>
struct GramTiles {
    Problem<T> p;  // arrays on the device; of the maps it tells which there are
    Maps<T> maps;
    Rows<T> left, right;        // of p, the right ones scaled as the map asks for
    const T* numbers_x;         // [n][stats] of a layer map
    const T* numbers_y;         // [stats][m], so that threads side by side read side by side
    int64_t begin, end, first;  // rows, and the first column
    T* out[2];                  // [end - begin][m - first], rows `ld` apart
    int64_t ld[2];
    bool wide;  // quads of columns may be stored to either
};

// The map of one pair, by the code that the CPU applies to strips, from where the kernel has it:
// all but profiles, which have kernels of their own.
template <class T>
NTK_DEVICE void map_other(const GramTiles<T>& tiles, int64_t i, int64_t j, const T& product,
                          T* const (&out)[2]) {
    Problem<T> p = tiles.p;
    const Pairs<T> pair{p, &product, i, j};
    const Window window{0, 1};
    if (p.layers) {
        p.layers = &tiles.maps.layers;
        map_layers<T>(pair, {tiles.numbers_x + i * p.layers->stats, tiles.numbers_y + j, p.m}, out,
                      window);
    } else if (p.radial) {
        p.radial = &tiles.maps.radial;
        map_radial<T>(pair, p.factor_y + j, out, window);
    } else {
        p.neuron = &tiles.maps.neuron;
        map_neuron<T>(pair, p.factor_y + j, out, window);
    }
}

// Calls use(row, column, place of the product) for the pairs of each slab of a tile in turn; done()
// after each slab, with the memory still there. Rows of a slab are PITCH apart.
template <int PITCH, class Product, class T, class Use, class Done>
NTK_DEVICE void each_pair(Product& product, T* memory, Use use, Done done) {
    NTK_UNROLL(1)
    for (int slab = 0; slab < Product::kRows / kSlab; ++slab) {
        product.each([&](int row, int column, T value) { memory[row * PITCH + column] = value; });
        product.next_slab();
        barrier();
        NTK_UNROLL(1)
        for (int e = thread(); e < kSlab * Product::kColumns; e += kThreads) {
            const int row = e / Product::kColumns, column = e % Product::kColumns;
            use(slab * kSlab + row, column, memory + row * PITCH + column);
        }
        done(slab);
        barrier();
    }
}

struct Place {
    int64_t row, column;
};

// Tiles in bands of a few rows of them, column by column: those computed at the same time have few
// rows of either side, which stay in the cache.
NTK_DEVICE Place place_of(int64_t tile, int64_t down, int64_t across) {
    constexpr int64_t kBand = 16;
    const int64_t first = tile / (kBand * across) * kBand, rest = tile - first * across;
    const int64_t rows = smaller(kBand, down - first);
    return {first + rest % rows, rest / rows};
}

// What products and their slabs need in turn.
template <class Product, int PITCH>
constexpr std::size_t kTileBytes = kStageBytes<Product> >
                                           sizeof(typename Product::Number) * kSlab* PITCH
                                       ? kStageBytes<Product>
                                       : sizeof(typename Product::Number) * kSlab* PITCH;

template <class Product>
constexpr int kGramPitch = Product::kColumns + 8;  // pieces of tensor cores meet no bank twice

// The columns of tiles from j on, of `wanted`, that there are.
template <class T>
NTK_DEVICE int columns_from(const Problem<T>& p, int64_t j, int wanted) {
    return static_cast<int>(larger(smaller(p.m - j, wanted), 0));
}

template <class Product, class T = typename Product::Number>
NTK_KERNEL_OF(kBlocks<Product>)
gram_tiles(NTK_ARGUMENT GramTiles<T> tiles) {
    constexpr int kM = Product::kRows, kN = Product::kColumns;
    const Problem<T>& p = tiles.p;
    const Place at =
        place_of(block(), ceil_div(tiles.end - tiles.begin, kM), ceil_div(p.m - tiles.first, kN));
    const int64_t i0 = tiles.begin + at.row * kM, j0 = tiles.first + at.column * kN;
    if (p.symmetric && j0 + kN <= i0) return;
    Product product;
    multiply(tiles.left, tiles.right, i0, j0, shared_memory<Quad<T>>(), product);
    const auto use = [&](int row, int column, const T* value) {
        const int64_t i = i0 + row, j = j0 + column;
        if (i >= tiles.end || j >= p.m || (p.symmetric && j < i)) return;
        T* out[2] = {tiles.out[0], tiles.out[1]};
        for (int k = 0; k < 2; ++k)
            if (out[k]) out[k] += (i - tiles.begin) * tiles.ld[k] + j - tiles.first;
        map_other(tiles, i, j, *value, out);
    };
    each_pair<kGramPitch<Product>>(product, shared_memory<T>(), use, [](int) {});
}

}  // namespace
