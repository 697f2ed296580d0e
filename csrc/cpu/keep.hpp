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
// Numbers between the rows of a tile in scratch memory: a line more, or lines below each other would share few
// places of the first cache.
template <class T>
constexpr int kTilePitch = kTileColumns<T> + kLine / sizeof(T);

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

// How far p is from the beginning of its line, in numbers.
template <class T>
NTK_FN int place_in_line(const T* p) {
    return static_cast<int>(reinterpret_cast<std::uintptr_t>(p) / sizeof(T) % kLineNumbers<T>);
}

// Whole cache lines of a result that are yet to be written, past the caches, which need not read them first.
// Many at once fill all buffers on the way to memory and computing stops; a few after each group of pairs do not.
template <class T>
struct Lines {
    const T* from;
    T* to;
    int64_t count = 0;

    // All that are left, if these are fewer.
    template <int MOST>
    NTK_FN void send() {
        count < MOST ? send_all() : move(MOST);
    }
    NTK_FN void send_all() {
        while (count > 0) move(1);
    }

    NTK_FN void move(int lines) {
        for (int k = 0; k < lines * kLineNumbers<T>; k += kLanes<T>)
            stream<T>(to + k, load<T>(from + k));
        count -= lines, from += lines * kLineNumbers<T>, to += lines * kLineNumbers<T>;
    }
};

// Writes what a row of numbers has before and after its whole lines, which it gives back.
template <class T>
NTK_FN Lines<T> keep_ends(const T* from, int64_t count, T* to) {
    constexpr int kNumbers = kLineNumbers<T>;
    const int64_t head = smaller((kNumbers - place_in_line<T>(to)) % kNumbers, count);
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

// Asks for the first and the last cache line of what keep_row will write, where they are not whole: a store
// that waits for its line holds up all that follow. Always inline: GCC takes out calls that do no more than this.
template <class T>
NTK_FN void ask_for_row(const Problem<T>& p, int which, int64_t i, int64_t j, int64_t count) {
    if (p.rounded || count <= 0) return;
    const T* const to = p.out[which] + i * p.ldo[which] + j;
    if (place_in_line<T>(to)) prefetch(to);
    if (place_in_line<T>(to + count)) prefetch(to + count - 1);
}

// A tile of corner (i0, j0) on its way from scratch memory, whose pointers address that corner, to where it is kept.
template <class T>
struct Outgoing {
    const Problem<T>& problem;
    T* const (&tile)[2];
    const int64_t (&ld)[2];
    int64_t i0, j0, rows, width;
    Lines<T> lines[2] = {};  // of the row before

    // Takes the columns of row i from `first` on, but for the lines that are to be sent.
    NTK_FN void keep(int64_t i, int64_t first) {
        for (int which = 0; which < 2; ++which) {
            if (!tile[which] || first >= width) continue;
            lines[which].send_all();
            if (i + kAhead < rows)
                ask_for_row(problem, which, i0 + i + kAhead, j0 + first, width - first);
            lines[which] = keep_row(problem, which, tile[which] + i * ld[which] + first, i0 + i,
                                    j0 + first, width - first);
        }
    }
    template <int MOST>
    NTK_FN void send() {
        for (Lines<T>& row : lines) row.template send<MOST>();
    }
    NTK_FN void send_all() {
        for (Lines<T>& row : lines) row.send_all();
    }
};

}  // namespace
