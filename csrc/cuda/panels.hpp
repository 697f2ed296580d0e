// Gram matrices by panels: a library multiplies rows, and a kernel maps the products where they lie.
//
// From sm_90 on tensor cores reach their speed with factors in shared memory alone, which libraries
// give them. Panels stay in the cache between both, as far as it goes.
#pragma once

#include "cuda/library.hpp"
#include "cuda/profile_tiles.hpp"

namespace {

constexpr int kPanelColumns = 128;  // of a block

// Four products of a thread, of which the first `count` are there.
template <class T>
NTK_DEVICE Four<T> products_at(const FourOut<T>& out, int count) {
    if (out.wide && count == kTogether) return *reinterpret_cast<const Four<T>*>(out.at);
    Four<T> products{};
    NTK_UNROLL()
    for (int k = 0; k < kTogether; ++k)
        if (k < count) products.at[k] = out.at[k];
    return products;
}

// Maps the products in the first output.
template <class T>
NTK_KERNEL_OF(2)
profile_panel(NTK_ARGUMENT GramTiles<T> tiles) {
    constexpr int kFoursHere = kPanelColumns / kTogether, kStep = kThreads / kFoursHere;
    const Problem<T>& p = tiles.p;
    const int64_t down = ceil_div(tiles.end - tiles.begin, kSlab);
    const int64_t i0 = tiles.begin + block() % down * kSlab;
    const int64_t j0 = tiles.first + block() / down * kPanelColumns;
    if (p.symmetric && j0 + kPanelColumns <= i0) return;
    ByProfile<T, 2> map(tiles, shared_memory<char>(), i0, kSlab);
    const int64_t j = j0 + thread() % kFoursHere * kTogether;
    map.columns(j);
    OwnPairs<T> own(tiles, i0, j, thread() / kFoursHere, kStep);
    barrier();
    NTK_UNROLL(1)
    for (int row = thread() / kFoursHere; row < kSlab; row += kStep) {
        const int wanted = own.wanted(row);
        map(row, {i0 + row, j, wanted}, products_at(own.out[0], wanted),
            [&](int which, const Four<T>& values) { own.put(which, values, wanted); });
    }
}

// The same of all other maps, in the first output that there is.
template <class T>
NTK_KERNEL_OF(2)
map_panel(NTK_ARGUMENT GramTiles<T> tiles) {
    const int64_t columns = tiles.p.m - tiles.first, rows = tiles.end - tiles.begin;
    for (int64_t at = first_element(); at < rows * columns; at += element_step()) {
        const int64_t row = at / columns, column = at % columns;
        const int64_t i = tiles.begin + row, j = tiles.first + column;
        if (tiles.p.symmetric && j < i) continue;
        T* out[2] = {tiles.out[0], tiles.out[1]};
        for (int k = 0; k < 2; ++k)
            if (out[k]) out[k] += row * tiles.ld[k] + column;
        const T product = out[0] ? *out[0] : *out[1];
        map_other(tiles, i, j, product, out);
    }
}

// The numbers of a panel: 32 MB.
inline int64_t panel_numbers() { return smaller(chunk_numbers(), int64_t{1} << 23); }

// Whether there is a library and enough for it to do: a wide result of few columns is stored faster
// than it is read again.
inline bool use_panels(const Device& device, const Problem<float>& p) {
    constexpr int64_t kColumns = 64, kMost = int64_t{1} << 29;
    return device.precision != Precision::kStrict && !p.v && p.d >= kColumns && p.d < kMost &&
           p.m < kMost && p.n > panel_numbers() / 4 / p.m && library_multiplies(device);
}

inline void launch_panels(const Device& device, const GramTiles<float>& all) {
    const int64_t numbers = panel_numbers() / larger(1, all.p.m - all.first);
    const int64_t rows = larger(1, numbers / kSlab) * kSlab;
    for (int64_t begin = all.begin; begin < all.end; begin += rows) {
        GramTiles<float> tiles = all;
        tiles.begin = begin, tiles.end = smaller(all.end, begin + rows);
        if (all.p.symmetric) tiles.first = larger(all.first, begin);
        for (int k = 0; k < 2; ++k)
            if (all.out[k])
                tiles.out[k] += (begin - all.begin) * all.ld[k] + tiles.first - all.first;
        tiles.wide = takes_quads(tiles);
        const int64_t count = tiles.end - begin, columns = tiles.p.m - tiles.first;
        const int to = tiles.out[0] ? 0 : 1;
        multiply_tf32(device,
                      {all.left.data + begin * all.left.pitch,
                       all.right.data + tiles.first * all.right.pitch, all.left.pitch,
                       all.right.pitch, count, columns, all.left.d, tiles.out[to], tiles.ld[to]});
        if (tiles.p.profile[0])
            launch(device, profile_panel<float>,
                   ceil_div(count, kSlab) * ceil_div(columns, kPanelColumns), kThreads,
                   ByProfile<float, 2>::bytes(tiles, kSlab), tiles);
        else
            launch_over(device, map_panel<float>, count * columns, tiles);
    }
}

}  // namespace
