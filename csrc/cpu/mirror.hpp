// The mirror images of tiles of symmetric problems: columns transposed in registers, written in whole lines.
#pragma once

#include "cpu/keep.hpp"
#include "cpu/squares.hpp"
#include "formulas/lookup.hpp"

namespace {

// Whether a register holds a line.
template <class T>
constexpr bool kInRegisters = kLanes<T> == kLineNumbers<T>;

// Rows of a tile, of kPart columns, that are mirrored at once. Where registers hold lines two of each mirrored row:
// more would fill all buffers on the way to memory, fewer spend as much on finding their places as on moving numbers.
// Elsewhere they go by way of scratch memory, and all rows share what that takes.
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
        if (all < 0 || (m.row > 0 && all <= m.row))
            continue;  // has ended before, or lies left of the diagonal
        const int64_t count = smaller(all - m.row, kStepRows<T>);
        // A column may end with no number of this tile: what the one before left is written then.
        const bool ends = (m.last || all < m.rows) && all == m.row + count;
        T* const to = mirrored<T>(p, m, m.row, j);
        const int64_t from = begins ? 0 : -place_in_line<T>(to);
        const int64_t end = ends ? count : count - place_in_line<T>(to);
        if (!ends) copy_line<T>(numbers[k] + kStepRows<T>, m.carry + j * kLead);
        if (end <= from) continue;
        Lines<T> lines = keep_ends<T>(numbers[k] + kLead + from, end - from, to + from);
        lines.send_all();
    }
}

// A step of whole rows and columns, in registers, where these hold lines.
template <class T>
void mirror_whole(const Problem<T>& p, const Mirror<T>& m);

#if defined(NTK_VECTORS) && defined(__AVX512F__) && defined(__AVX512DQ__)
template <class T>
alignas(64) constexpr typename Simd<T>::Bits kSteps[32] = {
    0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15,
    16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31};

// The last `place` lanes of `before` and after them the first ones of `now`.
template <class T>
NTK_FN Vec<T> joined(Vec<T> before, Vec<T> now, int place) {
    return Row<T, 2 * kLanes<T>>(before, now)[load_bits<T>(kSteps<T> + kLanes<T> - place)];
}

// Writes lanes [from, end).
template <class T>
NTK_FN void store_lanes(T* p, Vec<T> v, int from, int end) {
    const unsigned mask = (1u << end) - (1u << from);
    if constexpr (sizeof(T) == 8)
        _mm512_mask_storeu_pd(p, static_cast<__mmask8>(mask), (Doubles)v);
    else
        _mm512_mask_storeu_ps(p, static_cast<__mmask16>(mask), (Floats)v);
}

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
    constexpr int kPlaces = kLineNumbers<T> - 1;  // all bits of a place
    int place = place_in_line<T>(to);
    for (int k = 0; k < kPart<T>; ++k, to += ldo, carry += kLanes<T>) {
        T* line = to - place;
        Vec<T> before = load<T>(carry);
        for (int b = 0; b < kBlocks; ++b, line += kLanes<T>) {
            const Vec<T> numbers = joined<T>(before, columns[b][k], place);
            before = columns[b][k];
            if (b == 0 && begins && place > 0) [[unlikely]]
                store_lanes<T>(line, numbers, place, kLanes<T>);
            else
                stream<T>(line, numbers);
        }
        store<T>(carry, before);
        if ((begins || ends) && place > 0) [[unlikely]] {
            if (ends) store_lanes<T>(line, joined<T>(before, before, place), 0, place);
            prefetch(to + kPart<T> * ldo + (ends ? kStepRows<T> - 1 : 0));  // of the next columns
        }
        place = (place + static_cast<int>(ldo & kPlaces)) & kPlaces;
    }
}
#endif

// Goes on mirroring, past the caches, by kPart columns and kStepRows rows.
template <class T>
NTK_FN void mirror_step(const Problem<T>& p, Mirror<T>& m) {
    if (m.column >= m.columns) return;
    bool whole = false;
    if constexpr (kInRegisters<T>) {
        // All columns have all rows of the step; the step that reaches the diagonal ends some and not others.
        const int64_t count = m.count(m.column), end = m.row + kStepRows<T>;
        whole = (count < m.rows ? end < count : end <= count) && m.column + kPart<T> <= m.columns;
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
