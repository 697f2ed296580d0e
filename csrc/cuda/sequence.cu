// Kernels of recurrent networks on a device: one pair per thread, a tile of pairs per block.
//
// A block walks through the steps of its 16 x 16 pairs; the layers' states stay in shared memory,
// and the inner products of the inputs are products of 16 rows and 16 columns, staged there too.
#include "formulas/sequence.hpp"

#include <memory>

#include "cuda/device.hpp"
#include "cuda/pieces.hpp"

namespace {

using namespace ntkfast;

constexpr int kSide = 16;      // sequences on either side of a tile
constexpr int kChannels = 32;  // channels that are staged at once

template <class T>
struct SequenceTiles {
    Sequences<T> p;      // arrays on the device
    int64_t begin, end;  // rows
    T* out;              // [end - begin][p.y.count], or null: each at its place in p.out
    State<T>* states;    // [blocks][layers][threads], or null: in shared memory
};

template <class T>
struct Staged {
    T left[kSide][kChannels + 1], right[kSide][kChannels + 1];
};

// Numbers of a sequence at a step; any numbers where it has not begun.
template <class T>
NTK_DEVICE const T* numbers_at(const Sequences<T>& p, const SequenceSide<T>& side, int64_t d,
                               int64_t i, int64_t k) {
    const int64_t at = smaller(i, side.count - 1), step = k < side.length[at] ? k : 0;
    return side.numbers[d] + (side.first[at] + step) * p.fields;
}

// The inner product of the inputs of this thread's pair. All threads of the block take part.
template <class T>
NTK_DEVICE T tile_product(const Sequences<T>& p, int64_t d, int64_t i0, int64_t j0, int64_t k,
                          Staged<T>& staged) {
    T sum = 0;
    for (int64_t c0 = 0; c0 < p.channels; c0 += kChannels) {
        barrier();
        for (int e = thread(); e < kSide * kChannels; e += threads()) {
            const int row = e / kChannels, c = e % kChannels;
            const bool inside = c0 + c < p.channels;
            staged.left[row][c] = inside ? numbers_at(p, p.x, d, i0 + row, k)[2 + c0 + c] : T(0);
            staged.right[row][c] = inside ? numbers_at(p, p.y, d, j0 + row, k)[2 + c0 + c] : T(0);
        }
        barrier();
        for (int c = 0; c < kChannels; ++c)
            sum += staged.left[thread() / kSide][c] * staged.right[thread() % kSide][c];
    }
    return sum;
}

// Writes the kernel of a pair to its places; what lies below the diagonal comes from above it.
template <class T>
NTK_FN void write_to_place(const Sequences<T>& p, int64_t i, int64_t j, T value) {
    if (p.symmetric && j < i) return;
    const int64_t a = p.x.place[i], b = p.y.place[j];
    if (p.symmetric && i == j) value = p.diagonal[i];
    p.out[a * p.stride_row + b * p.stride_column] = value;
    if (p.symmetric) p.out[b * p.stride_row + a * p.stride_column] = value;
}

// SHARED: the states have room in shared memory.
template <class T, bool SHARED>
NTK_KERNEL_WITH(kSide* kSide, 2)
sequence_tiles(SequenceTiles<T> tiles) {
    const Sequences<T>& p = tiles.p;
    const int64_t across = (p.y.count + kSide - 1) / kSide;
    const int64_t down = (tiles.end - tiles.begin + kSide - 1) / kSide;
    Staged<T>& staged = *shared_memory<Staged<T>>();
    State<T>* state = nullptr;
    if constexpr (SHARED)
        state = reinterpret_cast<State<T>*>(&staged + 1) + thread() * p.layers;
    else
        state = tiles.states + (block() * kSide * kSide + thread()) * p.layers;
    const bool products = p.channels > kFewChannels;
    for (int64_t tile = block(); tile < down * across; tile += blocks()) {
        const int64_t i0 = tiles.begin + tile / across * kSide, j0 = tile % across * kSide;
        if (p.symmetric && j0 + kSide <= i0) continue;
        const int64_t i = i0 + thread() / kSide, j = j0 + thread() % kSide;
        const bool inside = i < tiles.end && j < p.y.count;
        const int64_t steps = smaller(p.x.length[smaller(i0 + kSide, tiles.end) - 1],
                                      p.y.length[smaller(j0 + kSide, p.y.count) - 1]);
        const int64_t own = inside ? smaller(p.x.length[i], p.y.length[j]) : 0;
        T sum = 0;
        for (int64_t d = 0; d < p.directions; ++d) {
            for (int64_t l = 0; l < p.layers; ++l) put<T>(state[l], 0, T(1), T(1), T(0));
            for (int64_t k = steps - 1; k >= 0; --k) {
                const T dot = products ? tile_product(p, d, i0, j0, k, staged) : T(0);
                if (k >= own) continue;
                const T *const row = numbers_at(p, p.x, d, i, k), *const column =
                                                                      numbers_at(p, p.y, d, j, k);
                sequence_step<T>(p, row, column, products ? &dot : nullptr, nullptr, k, false,
                                 state);
                if (p.every || k == 0)
                    read_out<T>(row[p.fields - 1], column + p.fields - 1, p.nngp,
                                state[p.layers - 1], &sum);
            }
        }
        if (!inside) continue;
        if (tiles.out)
            tiles.out[(i - tiles.begin) * p.y.count + j] = sum;
        else
            write_to_place(p, i, j, sum);
    }
}

// One side of a problem in memory of the device.
template <class T>
struct SideOnDevice {
    Numbers<T> numbers[2];
    Numbers<int64_t> first, length, place;
    SequenceSide<T> view;

    SideOnDevice(const Device& device, const Sequences<T>& p, const SequenceSide<T>& side)
        : first(device, side.first, side.count),
          length(device, side.length, side.count),
          place(device, side.place, side.count) {
        int64_t steps = 0;
        for (int64_t i = 0; i < side.count; ++i)
            steps = larger(steps, side.first[i] + side.length[i]);
        for (int64_t d = 0; d < p.directions; ++d)
            numbers[d] = Numbers<T>(device, side.numbers[d], steps * p.fields);
        view = {{numbers[0].get(), numbers[1].get()},
                first.get(),
                length.get(),
                place.get(),
                side.count};
    }
};

template <class T>
struct SequenceLauncher {
    const Device& device;
    SequenceTiles<T> tiles;
    bool fits;                        // the states of a block into shared memory
    int64_t most = int64_t{1} << 30;  // blocks
    Numbers<State<T>> outside;

    SequenceLauncher(const Device& on, const Sequences<T>& p)
        : device(on), tiles{p, 0, 0, nullptr, nullptr} {
        fits = sizeof(Staged<T>) + held() <= largest_shared(device);
        if (fits) return;  // else of so many blocks as run at the same time
        most =
            concurrent_blocks(device, sequence_tiles<T, false>, kSide * kSide, sizeof(Staged<T>));
        outside = Numbers<State<T>>(device, most * kSide * kSide * p.layers);
        tiles.states = outside.get();
    }
    std::size_t held() const {
        return sizeof(State<T>) * static_cast<std::size_t>(kSide * kSide * tiles.p.layers);
    }
    void start(int64_t begin, int64_t end, T* out) {
        tiles.begin = begin, tiles.end = end, tiles.out = out;
        const int64_t down = (end - begin + kSide - 1) / kSide,
                      across = (tiles.p.y.count + kSide - 1) / kSide;
        launch(device, fits ? sequence_tiles<T, true> : sequence_tiles<T, false>,
               smaller(down * across, most), kSide * kSide, sizeof(Staged<T>) + (fits ? held() : 0),
               tiles);
    }
};

// Pairs of sequences between two looks for Ctrl-C: half a second by their steps, of which a device
// does some 2^36 a second; enough for all multiprocessors.
template <class T>
int64_t pairs_of_launch(const Sequences<T>& p) {
    constexpr int64_t kSteps = int64_t{1} << 35, kLeast = 1 << 16, kMost = 1 << 22;
    const auto longest = [](const SequenceSide<T>& side) {  // they are ordered by length
        return side.count ? side.length[side.count - 1] : 0;
    };
    const int64_t length = larger(1, smaller(longest(p.x), longest(p.y)));
    const int64_t steps = length * p.directions * (p.layers + p.channels / 16);
    return larger(kLeast, smaller(kMost, kSteps / larger(1, steps)));
}

template <class T>
void run_sequences(const Sequences<T>& p, const Device& device, const Poll& poll) {
    const SideOnDevice<T> x(device, p, p.x);
    std::unique_ptr<SideOnDevice<T>> y;
    if (!p.symmetric) y = std::make_unique<SideOnDevice<T>>(device, p, p.y);
    const Numbers<T> diagonal(device, p.diagonal, p.symmetric ? p.x.count : 0);
    Sequences<T> there = p;
    there.x = x.view, there.y = y ? y->view : x.view, there.diagonal = diagonal.get();
    SequenceLauncher<T> launcher(device, there);

    const int64_t n = p.x.count, m = p.y.count;
    const int64_t wanted = larger(1, smaller(piece_numbers(), pairs_of_launch(p)) / m);
    const int64_t rows = smaller(n, (wanted + kSide - 1) / kSide * kSide);
    const int64_t pieces = (n + rows - 1) / rows;
    const auto end_of = [&](int64_t k) { return smaller(n, (k + 1) * rows); };
    if (on_device(p.out)) {
        for (int64_t k = 0; k < pieces; ++k) {
            poll();
            launcher.start(k * rows, end_of(k), nullptr);
        }
        return;
    }
    const auto compute = [&](int64_t k, T* out) {
        launcher.start(k * rows, end_of(k), out);
        return (end_of(k) - k * rows) * m;
    };
    const auto write = [&](int64_t k, const T* values) {
        const int64_t begin = k * rows;
        by_rows(device, end_of(k) - begin, m, poll, [&](int64_t first, int64_t last) {
            for (int64_t i = first; i < last; ++i)
                for (int64_t j = p.symmetric ? begin + i : 0; j < m; ++j)
                    write_to_place(p, begin + i, j, values[i * m + j]);
        });
    };
    by_pieces<T>(device, pieces, rows * m, poll, compute, write);
}

}  // namespace

namespace ntkfast {

void run_on_device(const Sequences<float>& p, const Device& device, const Poll& poll) {
    run_sequences(p, device, poll);
}
void run_on_device(const Sequences<double>& p, const Device& device, const Poll& poll) {
    run_sequences(p, device, poll);
}

}  // namespace ntkfast
