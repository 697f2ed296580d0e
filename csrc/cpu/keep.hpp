// Where finished values go: as they are or rounded, past the caches if many.
#pragma once

#include "cpu/memory.hpp"
#include "formulas/problems.hpp"
#include "formulas/rounded.hpp"

namespace {

using ntkfast::Problem;
using std::int64_t;

constexpr int kTileRows = 96;
template <class T>
constexpr int kTileColumns = 1536 / sizeof(T);  // 192 doubles, 384 floats: whole panels and strips

// Copies fewer than 2 SIZE numbers without a call.
template <int SIZE, class T>
NTK_FN void copy_few(const T* from, int64_t count, T* to) {
    if (count & SIZE) std::memcpy(to, from, sizeof(T) * SIZE);
    const int64_t done = count & SIZE;
    if constexpr (SIZE > 1) copy_few<SIZE / 2, T>(from + done, count, to + done);
}

// Numbers of a cache line.
template <class T>
constexpr int kLineNumbers = kLine / sizeof(T);

// Whole cache lines of a result that are yet to be written, past the caches, which need not read them first.
// Many at once fill all buffers on the way to memory and computing stops; a few after each group of pairs do not.
template <class T>
struct Lines {
    const T* from;
    T* to;
    int64_t count = 0;

    NTK_FN void send(int64_t most) {
        most = smaller(most, count);
        count -= most;
        for (; most > 0; --most, from += kLineNumbers<T>, to += kLineNumbers<T>)
            for (int k = 0; k < kLineNumbers<T>; k += kLanes<T>)
                stream<T>(to + k, load<T>(from + k));
    }
};

// Writes what a row of numbers has before and after its whole lines, which it gives back.
template <class T>
NTK_FN Lines<T> keep_ends(const T* from, int64_t count, T* to) {
    constexpr int kNumbers = kLineNumbers<T>;
    const auto ahead = -(reinterpret_cast<std::uintptr_t>(to) / sizeof(T)) % kNumbers;
    const int64_t head = smaller(static_cast<int64_t>(ahead), count);
    copy_few<kNumbers / 2>(from, head, to);
    const Lines<T> lines{from + head, to + head, (count - head) / kNumbers};
    const int64_t done = head + lines.count * kNumbers;
    copy_few<kNumbers / 2>(from + done, count - done, to + done);
    return lines;
}

// Rounds `count` values to where those of (i, j) and after are kept.
template <class To, class T>
void round_values(const Problem<T>& p, const T* values, int64_t i, int64_t j, int64_t count) {
    auto* const out = static_cast<typename To::Number*>(p.rounded) + i * p.ldo[0] + j;
    if (!round_row<To>(values, count, out)) p.infinite->raise();
}

// Takes `count` values of one result from scratch memory to (i, j) and after: rounded, or but for the whole lines
// that are given back.
template <class T>
NTK_FN Lines<T> keep_row(const Problem<T>& p, int which, const T* values, int64_t i, int64_t j,
                         int64_t count) {
    if (!p.rounded) return keep_ends<T>(values, count, p.out[which] + i * p.ldo[which] + j);
    if (p.kept == ntkfast::Kept::kSingle)
        round_values<Single>(p, values, i, j, count);
    else if (p.kept == ntkfast::Kept::kHalf)
        round_values<Half>(p, values, i, j, count);
    else
        round_values<Brain>(p, values, i, j, count);
    return {};
}

// Rows that are asked for before they are written.
constexpr int kAhead = 2;

// Asks for the first and the last cache line of what keep_row will write: a store that waits for its line
// holds up all that follow. Always inline: GCC takes out calls that do no more than this.
template <class T>
NTK_FN void ask_for_row(const Problem<T>& p, int which, int64_t i, int64_t j, int64_t count) {
    if (p.rounded || count <= 0) return;
    const T* const to = p.out[which] + i * p.ldo[which] + j;
    prefetch(to);
    prefetch(to + count - 1);
}

}  // namespace
