// Where finished values go: as they are or rounded, past the caches if many, and to their mirror image.
#pragma once

#include "cpu/memory.hpp"
#include "cpu/squares.hpp"
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

// Copies a row: whole cache lines of the result past the caches, which need not read them first, by
// vectors whose source may begin anywhere.
template <class T>
NTK_FN void stream_row(const T* from, int64_t count, T* to) {
    constexpr int kNumbers = kLine / sizeof(T);
    const auto ahead = -(reinterpret_cast<std::uintptr_t>(to) / sizeof(T)) % kNumbers;
    const int64_t head = smaller(static_cast<int64_t>(ahead), count);
    copy_few<kNumbers / 2>(from, head, to);
    from += head, to += head, count -= head;
    for (; count >= kNumbers; count -= kNumbers, from += kNumbers, to += kNumbers)
        for (int k = 0; k < kNumbers; k += kLanes<T>) stream<T>(to + k, load<T>(from + k));
    copy_few<kNumbers / 2>(from, count, to);
}

// Rounds `count` values to where those of (i, j) and after are kept.
template <class To, class T>
void round_values(const Problem<T>& p, const T* values, int64_t i, int64_t j, int64_t count) {
    auto* const out = static_cast<typename To::Number*>(p.rounded) + i * p.ldo[0] + j;
    if (!round_row<To>(values, count, out)) p.infinite->raise();
}

// Takes `count` values of one result from scratch memory to (i, j) and after.
template <class T>
NTK_FN void keep_row(const Problem<T>& p, int which, const T* values, int64_t i, int64_t j,
                     int64_t count) {
    if (p.rounded) {
        if (p.kept == ntkfast::Kept::kSingle)
            round_values<Single>(p, values, i, j, count);
        else if (p.kept == ntkfast::Kept::kHalf)
            round_values<Half>(p, values, i, j, count);
        else
            round_values<Brain>(p, values, i, j, count);
        return;
    }
    stream_row<T>(values, count, p.out[which] + i * p.ldo[which] + j);
}

// Rows that are asked for before they are written.
constexpr int kAhead = 2;

// Asks for the first and the last cache line of what keep_row will stream: a store that waits for its line
// holds up all that follow. Always inline: GCC takes out calls that do no more than this.
template <class T>
NTK_FN void ask_for_row(const Problem<T>& p, int which, int64_t i, int64_t j, int64_t count) {
    if (p.rounded || count <= 0) return;
    const T* const to = p.out[which] + i * p.ldo[which] + j;
    prefetch(to);
    prefetch(to + count - 1);
}

// Takes what is strictly above the diagonal of a finished tile, whose corner is (i0, j0), to its mirror
// image: some columns at a time, whose squares are transposed in registers, in place or in scratch memory.
template <class T>
void mirror(const Problem<T>& p, int which, const T* tile, int64_t ld, int64_t i0, int64_t rows,
            int64_t j0, int64_t columns) {
    constexpr int kSide = kLanes<T> == 1 ? 16 : kLanes<T>;
    const bool staged = p.rounded || p.streams;
    alignas(64) T scratch[kSide * kTileRows];
    const int64_t step = staged ? kTileRows : p.ldo[which];
    for (int64_t j = larger(i0 - j0, 0) / kSide * kSide; j < columns; j += kSide) {
        T* const turned = staged ? scratch : p.out[which] + (j0 + j) * step + i0;
        const int64_t width = smaller(kSide, columns - j), above = j0 + j - i0;
        for (int64_t i = 0; i < smaller(rows, above + width); i += kSide) {
            const T* const from = tile + i * ld + j;
            if (kLanes<T> > 1 && width == kSide && i + kSide <= smaller(above, rows)) {
                Vec<T> square[kLanes<T>];
                for (int k = 0; k < kLanes<T>; ++k) square[k] = load<T>(from + k * ld);
                // in place: what is written after the next square
                for (int k = 0; !staged && k < kSide; ++k)
                    prefetch(turned + k * step + i + 2 * kSide);
                transpose<T>(square);
                for (int k = 0; k < kLanes<T>; ++k) store<T>(turned + k * step + i, square[k]);
                continue;
            }
            for (int64_t k = 0; k < width; ++k)
                for (int64_t r = 0; r < smaller(kSide, smaller(rows, above + k) - i); ++r)
                    turned[k * step + i + r] = from[r * ld + k];
        }
        for (int64_t k = 0; staged && k < width; ++k) {
            const int64_t count = smaller(rows, above + k);
            if (j + k + kAhead < columns) ask_for_row(p, which, j0 + j + k + kAhead, i0, rows);
            if (count > 0) keep_row(p, which, turned + k * step, j0 + j + k, i0, count);
        }
    }
}

}  // namespace
