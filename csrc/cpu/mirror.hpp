// The mirror images of tiles of symmetric problems: columns transposed in registers, written in whole lines.
#pragma once

#include "cpu/keep.hpp"
#include "cpu/squares.hpp"

namespace {

// Rows of a tile, of kPart columns, that are mirrored at once. Where registers hold lines two of each mirrored row:
// more would fill all buffers on the way to memory, fewer spend as much on finding their places as on moving numbers.
// Elsewhere they go by way of scratch memory, and all rows share what that takes.
template <class T>
constexpr bool kInRegisters = kLanes<T> == kLineNumbers<T>;
template <class T>
constexpr int kStepRows = kInRegisters<T> ? 2 * kLineNumbers<T> : kTileRows;
static_assert(kTileRows % kStepRows<float> == 0 && kTileRows % kStepRows<double> == 0);

// One result of a finished tile with corner (i0, j0): what of it is strictly above the diagonal goes to its mirror
// image. Mirrored rows begin in the middle of lines; what fills one only together with the next tile waits for it,
// unless this is the last tile of its columns in a task.
template <class T>
struct Mirror {
    const T* tile;
    int64_t ld, i0, rows, j0, columns;
    bool first, last;
    int which;
    T* carry;         // [columns][kLineNumbers], the last numbers of each that were mirrored
    int64_t row = 0;  // where the next step begins, and in which column
    int64_t column = larger(i0 - j0, 0) / kPart<T> * kPart<T>;

    // Rows strictly above the diagonal in column j.
    NTK_FN int64_t count(int64_t j) const { return smaller(rows, j0 + j - i0); }
};
template <class T>
constexpr int64_t kMirrorScratch = kTileColumns<T> * kLineNumbers<T>;

// Where row i of column j of a tile is mirrored.
template <class T>
NTK_FN T* mirrored(const Problem<T>& p, const Mirror<T>& m, int64_t i, int64_t j) {
    return p.out[m.which] + (m.j0 + j) * p.ldo[m.which] + m.i0 + i;
}

// Numbers between the beginning of a line and p.
template <class T>
NTK_FN int behind(const T* p) {
    return static_cast<int>(reinterpret_cast<std::uintptr_t>(p) / sizeof(T) % kLineNumbers<T>);
}

// Transposes up to kPart columns from j on, rows [first, end) of those above the diagonal; `to` has row `first` of
// them, `step` numbers apart. `ahead` asks for what is written after the next vectors.
template <class T>
NTK_FN void turn(const Mirror<T>& m, int64_t j, int64_t first, int64_t end, T* to, int64_t step,
                 bool ahead) {
    const int64_t width = smaller(kPart<T>, m.columns - j);
    const int64_t whole = width == kPart<T> ? smaller(end, m.count(j)) : 0;
    const int64_t most = smaller(end, m.count(j + width - 1));
    for (int64_t i = first; i < most; i += kLanes<T>, to += kLanes<T>) {
        const T* const from = m.tile + i * m.ld + j;
        if (i + kLanes<T> <= whole) {
            Vec<T> columns[kPart<T>];
            load_columns<T>(from, m.ld, columns);
            for (int k = 0; k < kPart<T>; ++k) {
                if (ahead) prefetch(to + k * step + 2 * kLanes<T>);
                store<T>(to + k * step, columns[k]);
            }
            continue;
        }
        for (int64_t k = 0; k < width; ++k)
            for (int64_t r = 0; r < smaller(kLanes<T>, smaller(end, m.count(j + k)) - i); ++r)
                to[k * step + r] = from[r * m.ld + k];
    }
}

template <class T>
NTK_FN void copy_line(const T* from, T* to) {
    for (int k = 0; k < kLineNumbers<T>; k += kLanes<T>) store<T>(to + k, load<T>(from + k));
}

// A step of any rows and columns, in memory.
template <class T>
NTK_RARE void mirror_any(const Problem<T>& p, const Mirror<T>& m) {
    constexpr int kLead = kLineNumbers<T>;
    const int64_t width = smaller(kPart<T>, m.columns - m.column);
    T numbers[kPart<T>][kLead + kStepRows<T>];
    for (int64_t k = 0; k < width; ++k) copy_line<T>(m.carry + (m.column + k) * kLead, numbers[k]);
    turn<T>(m, m.column, m.row, m.row + kStepRows<T>, numbers[0] + kLead, kLead + kStepRows<T>,
            false);
    const bool begins = m.first && m.row == 0;
    for (int64_t k = 0; k < width; ++k) {
        const int64_t j = m.column + k, all = m.count(j);
        if (all < 0 || (m.row > 0 && all <= m.row)) continue;  // has ended before
        const int64_t count = smaller(all - m.row, kStepRows<T>);
        const bool ends = (m.last || all < m.rows) && all == m.row + count;
        T* const to = mirrored<T>(p, m, m.row, j);
        const int64_t from = begins ? 0 : -behind<T>(to);
        const int64_t end = ends ? count : count - behind<T>(to);
        if (!ends) copy_line<T>(numbers[k] + kStepRows<T>, m.carry + j * kLead);
        if (end <= from) continue;
        Lines<T> lines = keep_ends<T>(numbers[k] + kLead + from, end - from, to + from);
        lines.send_all();
    }
}

// A step of whole rows and columns, in registers.
template <class T>
NTK_FN void mirror_whole(const Problem<T>& p, const Mirror<T>& m) {
    constexpr int kBlocks = kStepRows<T> / kLanes<T>;
    const bool begins = m.first && m.row == 0, ends = m.last && m.row + kStepRows<T> == m.rows;
    Vec<T> columns[kBlocks][kPart<T>];
    for (int b = 0; b < kBlocks; ++b)
        load_columns<T>(m.tile + (m.row + b * kLanes<T>)*m.ld + m.column, m.ld, columns[b]);
    T* to = mirrored<T>(p, m, m.row, m.column);
    T* carry = m.carry + m.column * kLanes<T>;
    const int64_t ldo = p.ldo[m.which];
    for (int k = 0; k < kPart<T>; ++k, to += ldo, carry += kLanes<T>) {
        const int shift = behind<T>(to);
        Vec<T> before = load<T>(carry);
        for (int b = 0; b < kBlocks; ++b) {
            const Vec<T> line = joined<T>(before, columns[b][k], shift);
            before = columns[b][k];
            if (b == 0 && begins && shift > 0) [[unlikely]]
                store_lanes<T>(to - shift, line, shift, kLanes<T>);
            else
                stream<T>(to - shift + b * kLanes<T>, line);
        }
        store<T>(carry, before);
        if ((begins || ends) && shift > 0) [[unlikely]] {
            if (ends)
                store_lanes<T>(to - shift + kStepRows<T>, joined<T>(before, before, shift), 0,
                               shift);
            prefetch(to + kPart<T> * ldo + (ends ? kStepRows<T> - 1 : 0));  // of the next columns
        }
    }
}

// Goes on mirroring, past the caches, by kPart columns and kStepRows rows.
template <class T>
NTK_FN void mirror_step(const Problem<T>& p, Mirror<T>& m) {
    if (m.column >= m.columns) return;
    bool whole = false;
    if constexpr (kInRegisters<T>) {
        const int64_t count = m.count(m.column);
        whole =
            m.row + kStepRows<T> + (count < m.rows) <= count && m.column + kPart<T> <= m.columns;
        if (whole) mirror_whole<T>(p, m);
    }
    if (!whole) mirror_any<T>(p, m);
    m.row += kStepRows<T>;
    if (m.row >= m.count(m.column + kPart<T> - 1)) m.row = 0, m.column += kPart<T>;
}

// Mirrors what is left: past the caches or, where results stay in them or are rounded, at once.
template <class T>
NTK_RARE void finish_mirror(const Problem<T>& p, Mirror<T>& m) {
    if (p.streams && !p.rounded) {
        while (m.column < m.columns) mirror_step<T>(p, m);
        return;
    }
    for (; m.column < m.columns; m.column += kPart<T>) {
        if (!p.rounded) {
            turn<T>(m, m.column, 0, m.rows, mirrored<T>(p, m, 0, m.column), p.ldo[m.which], true);
            continue;
        }
        T rows[kPart<T>][kTileRows];
        turn<T>(m, m.column, 0, m.rows, rows[0], kTileRows, false);
        for (int64_t k = 0; k < smaller(kPart<T>, m.columns - m.column); ++k) {
            const int64_t j = m.column + k;
            if (m.count(j) > 0) keep_row<T>(p, m.which, rows[k], m.j0 + j, m.i0, m.count(j));
        }
    }
}

}  // namespace
