// The mirror images of tiles of symmetric problems: columns transposed in registers, written in whole lines.
#pragma once

#include "cpu/keep.hpp"
#include "cpu/squares.hpp"

namespace {

// Columns that are transposed together, and numbers of scratch memory for each of them: before those of a tile
// are the last ones of the tile before.
template <class T>
constexpr int kSide = kLanes<T> == 1 ? 16 : kLanes<T>;
template <class T>
constexpr int kTurned = kTileRows + kLineNumbers<T>;
template <class T>
constexpr int64_t kMirrorScratch = 2 * kSide<T> * kTurned<T> + kTileColumns<T> * kLineNumbers<T>;

// One result of a finished tile with corner (i0, j0): what of it is strictly above the diagonal goes to its mirror
// image, columns before `next` have. Mirrored rows begin in the middle of lines; what fills a line only together
// with the next tile waits for it, unless this is the last tile of its columns in a task.
template <class T>
struct Mirror {
    const T* tile;
    int64_t ld, i0, rows, j0, columns;
    bool first, last;
    int which;
    T* scratch;                   // kMirrorScratch
    int64_t next = 0, ready = 0;  // columns that are transposed, and next lines like those of most
    const T* from = nullptr;      // of the first of these
    T* to = nullptr;

    T* turned(int64_t j) const { return scratch + j % (2 * kSide<T>)*kTurned<T> + kLineNumbers<T>; }
    T* carry(int64_t j) const { return scratch + 2 * kSide<T> * kTurned<T> + j * kLineNumbers<T>; }
};

// Transposes up to kSide columns from j on; `ahead` asks for what is written after the next square.
template <class T>
NTK_FN void turn(const Mirror<T>& m, int64_t j, T* to, int64_t step, bool ahead) {
    const int64_t above = m.j0 + j - m.i0, width = smaller(kSide<T>, m.columns - j);
    for (int64_t i = 0; i < smaller(m.rows, above + width); i += kSide<T>) {
        const T* const from = m.tile + i * m.ld + j;
        if (kLanes<T> > 1 && width == kSide<T> && i + kSide<T> <= smaller(above, m.rows)) {
            for (int k = 0; ahead && k < kSide<T>; ++k) prefetch(to + k * step + i + 2 * kSide<T>);
            turn_square<T>(from, m.ld, to + i, step);
            continue;
        }
        for (int64_t k = 0; k < width; ++k)
            for (int64_t r = 0; r < smaller(kSide<T>, smaller(m.rows, above + k) - i); ++r)
                to[k * step + i + r] = from[r * m.ld + k];
    }
}

// The same in scratch memory, behind what the tile before left; leaves the same for the next one.
template <class T>
NTK_FN void turn_to_scratch(const Mirror<T>& m, int64_t j) {
    T* row = m.turned(j);
    turn<T>(m, j, row, kTurned<T>, false);
    T* carry = m.carry(j);
    for (int64_t k = 0; k < smaller(kSide<T>, m.columns - j); ++k, row += kTurned<T>)
        for (int l = 0; l < kLineNumbers<T>; l += kLanes<T>, carry += kLanes<T>) {
            if (!m.first) store<T>(row - kLineNumbers<T> + l, load<T>(carry));
            if (!m.last) store<T>(carry, load<T>(row + kTileRows - kLineNumbers<T> + l));
        }
}

// The mirror image of column j, at the beginning or the end of its row.
template <class T>
void keep_column(const Problem<T>& p, const Mirror<T>& m, int64_t j) {
    constexpr int kNumbers = kLineNumbers<T>;
    const int64_t row = m.j0 + j, count = smaller(m.rows, row - m.i0);
    const auto place = reinterpret_cast<std::uintptr_t>(p.out[m.which]) / sizeof(T) +
                       static_cast<std::uintptr_t>(row * p.ldo[m.which] + m.i0);
    const auto behind = static_cast<int64_t>(place % kNumbers);  // the beginning of a line
    const bool ends = m.last || count < m.rows;
    const int64_t from = m.first ? 0 : -behind;
    const int64_t to = ends ? count : count - (behind + count) % kNumbers;
    if (j + kAhead < m.columns) {
        if (m.first) ask_for_row(p, m.which, row + kAhead, m.i0, 1);
        if (ends)
            ask_for_row(p, m.which, row + kAhead, m.i0 + smaller(m.rows, count + kAhead) - 1, 1);
    }
    if (to <= from) return;
    Lines<T> lines = keep_row(p, m.which, m.turned(j) + from, row, m.i0 + from, to - from);
    lines.send(lines.count);
}

// Goes on to the next columns.
template <class T>
NTK_RARE void next_columns(const Problem<T>& p, Mirror<T>& m) {
    const int64_t start = larger(m.i0 - m.j0, 0) / kSide<T> * kSide<T>;
    m.next = larger(m.next, start);
    // Long before they are read, and at other places of a vector: loads would wait for these stores.
    if (m.next == start) turn_to_scratch<T>(m, start);
    if (m.next + kSide<T> < m.columns) turn_to_scratch<T>(m, m.next + kSide<T>);
    const int64_t end = smaller(m.next + kSide<T>, m.columns);
    if (m.first || m.last || m.j0 + m.next - m.i0 < m.rows) {
        for (; m.next < end; ++m.next) keep_column<T>(p, m, m.next);
        return;
    }
    m.ready = end - m.next;
    m.from = m.turned(m.next);
    m.to = p.out[m.which] + (m.j0 + m.next) * p.ldo[m.which] + m.i0;
    m.next = end;
}

// Sends the mirror image of a column.
template <class T>
NTK_FN void send_column(const Problem<T>& p, Mirror<T>& m) {
    if (m.ready == 0) {
        if (m.next < m.columns) next_columns<T>(p, m);
        return;
    }
    const auto behind = reinterpret_cast<std::uintptr_t>(m.to) / sizeof(T) % kLineNumbers<T>;
    const T* const from = m.from - behind;
    T* const to = m.to - behind;
    for (int k = 0; k < kTileRows; k += kLanes<T>) stream<T>(to + k, load<T>(from + k));
    m.from += kTurned<T>, m.to += p.ldo[m.which], --m.ready;
}

// Mirrors what is left; where results stay in the caches, in place.
template <class T>
NTK_RARE void finish_mirror(const Problem<T>& p, Mirror<T>& m) {
    if (p.rounded || p.streams) {
        while (m.next < m.columns || m.ready > 0) send_column<T>(p, m);
        return;
    }
    for (m.next = larger(m.i0 - m.j0, 0) / kSide<T> * kSide<T>; m.next < m.columns;
         m.next += kSide<T>)
        turn<T>(m, m.next, p.out[m.which] + (m.j0 + m.next) * p.ldo[m.which] + m.i0, p.ldo[m.which],
                true);
}

}  // namespace
