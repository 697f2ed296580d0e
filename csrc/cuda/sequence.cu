// Kernels of recurrent networks on a card: one pair per thread, a tile of pairs per block.
//
// A block walks through the steps of its 16 x 16 pairs; the layers' states stay in shared memory,
// and the inner products of the inputs are products of 16 rows and 16 columns, staged there too.
#include "../sequence.hpp"

#include <memory>
#include <vector>

#include "device.hpp"
#include "run.hpp"

namespace {

using namespace ntkfast;

constexpr int kSide = 16;      // sequences on either side of a tile
constexpr int kChannels = 32;  // channels that are staged at once

template <class T>
struct SequenceTiles {
    Sequences<T> p;      // arrays on the card
    int64_t begin, end;  // rows
    T* out;              // [end - begin][p.y.count]
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

template <class T>
NTK_KERNEL sequence_tiles(SequenceTiles<T> tiles) {
    const Sequences<T>& p = tiles.p;
    const int64_t across = (p.y.count + kSide - 1) / kSide;
    const int64_t down = (tiles.end - tiles.begin + kSide - 1) / kSide;
    Staged<T>& staged = *shared_memory<Staged<T>>();
    State<T>* const state = (tiles.states ? tiles.states + block() * kSide * kSide * p.layers
                                          : reinterpret_cast<State<T>*>(&staged + 1)) +
                            thread() * p.layers;
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
        if (inside) tiles.out[(i - tiles.begin) * p.y.count + j] = sum;
    }
}

// One side of a problem in memory of the card.
template <class T>
struct SideOnDevice {
    Numbers<T> numbers[2];
    Numbers<int64_t> first, length;
    SequenceSide<T> view;

    SideOnDevice(const Device& device, const Sequences<T>& p, const SequenceSide<T>& side)
        : first(device, side.first, side.count), length(device, side.length, side.count) {
        int64_t steps = 0;
        for (int64_t i = 0; i < side.count; ++i)
            steps = larger(steps, side.first[i] + side.length[i]);
        for (int64_t d = 0; d < p.directions; ++d)
            numbers[d] = Numbers<T>(device, side.numbers[d], steps * p.fields);
        view = {
            {numbers[0].get(), numbers[1].get()}, first.get(), length.get(), nullptr, side.count};
    }
};

// Writes the rows from `begin` on to their places.
template <class T>
void scatter(const Sequences<T>& p, int64_t begin, int64_t end, const T* values) {
    for (int64_t i = begin; i < end; ++i)
        for (int64_t j = p.symmetric ? i : 0; j < p.y.count; ++j) {
            const int64_t a = p.x.place[i], b = p.y.place[j];
            T value = values[(i - begin) * p.y.count + j];
            if (p.symmetric && i == j) value = p.diagonal[i];
            p.out[a * p.stride_row + b * p.stride_column] = value;
            if (p.symmetric) p.out[b * p.stride_row + a * p.stride_column] = value;
        }
}

template <class T>
void run_sequences(const Sequences<T>& p, const Device& device, const Poll& poll) {
    const SideOnDevice<T> x(device, p, p.x);
    std::unique_ptr<SideOnDevice<T>> y;
    if (!p.symmetric) y = std::make_unique<SideOnDevice<T>>(device, p, p.y);
    const int64_t chunk = larger(1, chunk_numbers() / larger(1, p.y.count));
    const int64_t rows = smaller(p.x.count, (chunk + kSide - 1) / kSide * kSide);
    const Numbers<T> out(device, rows * p.y.count);
    const int64_t states = kSide * kSide * p.layers;
    const std::size_t held = sizeof(State<T>) * static_cast<std::size_t>(states);
    const bool fits = sizeof(Staged<T>) + held <= largest_shared(device);
    constexpr int64_t kBlocks = 2048;  // that work on states in memory of the card
    Numbers<State<T>> outside;
    if (!fits) outside = Numbers<State<T>>(device, kBlocks * states);
    SequenceTiles<T> tiles{p, 0, 0, out.get(), outside.get()};
    tiles.p.x = x.view, tiles.p.y = y ? y->view : x.view;
    std::vector<T> values(static_cast<std::size_t>(rows * p.y.count));
    for (int64_t begin = 0; begin < p.x.count; begin += rows) {
        poll();
        tiles.begin = begin, tiles.end = smaller(p.x.count, begin + rows);
        const int64_t down = (tiles.end - begin + kSide - 1) / kSide,
                      across = (p.y.count + kSide - 1) / kSide;
        const int64_t most = fits ? int64_t{1} << 30 : kBlocks;
        launch(device, sequence_tiles<T>, smaller(down * across, most), kSide * kSide,
               sizeof(Staged<T>) + (fits ? held : 0), tiles);
        copy_bytes(device, values.data(), out.get(),
                   sizeof(T) * static_cast<std::size_t>((tiles.end - begin) * p.y.count));
        scatter(p, begin, tiles.end, values.data());
    }
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
