// Inner products of a block of rows with a packed panel of columns: the matrix product's core.
//
// The left rows are read in place (each element is broadcast, so rows need no packing); the right
// ones are packed once per column block into panels of kPanel columns, k-major, zero padded.
#pragma once

#include "cpu/memory.hpp"
#include "cpu/squares.hpp"
#include "formulas/simd.hpp"

namespace {

// Rows of the register tile: kRows * kVecs accumulators, of 32 registers or, in the last line, of 16.
#if defined(__AVX512F__) && defined(__AVX512DQ__)
constexpr int kRows = 8;
#elif defined(NTK_NEON)
// whose instructions take the left number from a register: one for each row
constexpr int kRows = 6;
#else
constexpr int kRows = 4;
#endif
constexpr int kVecs = 3;  // vectors across the register tile
// The longest inner dimension of one pass, whose sums stay in registers, and how many steps ahead a panel is
// asked for. The panels of a tile fit into the second cache where there is AVX-512, which is larger: all of
// them are multiplied by a few rows while the next rows come from memory, a row for each panel. Elsewhere a
// panel lies in the first cache while all rows pass.
#if defined(__AVX512F__) && defined(__AVX512DQ__)
constexpr int kDepth = 1024, kAheadInPanel = 12;
constexpr bool kRowsOutside = true;
#else
constexpr int kDepth = 256, kAheadInPanel = 0;
constexpr bool kRowsOutside = false;
#endif

template <class T>
constexpr int kPanel = kVecs * kLanes<T>;

// c[kRows][VECS vectors] (+)= a[kRows][depth] * b[depth][kPanel].  Rows beyond `rows` repeat the
// last one: their results are computed and ignored. next[depth] is asked for, if there is one.
template <class T, int VECS, bool ACCUMULATE, bool NEXT = false>
NTK_FN void multiply_register_tile(const T* a, std::ptrdiff_t lda, int rows, const T* b,
                                   std::ptrdiff_t ldb, int depth, T* c, std::ptrdiff_t ldc,
                                   [[maybe_unused]] const T* next = nullptr) {
    const T* row[kRows];
    for (int r = 0; r < kRows; ++r) row[r] = a + (r < rows ? r : rows - 1) * lda;
    Vec<T> sum[kRows][VECS];
    for (int r = 0; r < kRows; ++r)
        for (int v = 0; v < VECS; ++v)
            sum[r][v] = ACCUMULATE ? load<T>(c + r * ldc + v * kLanes<T>) : Vec<T>{};
    for (int k = 0; k < depth; ++k, b += ldb) {
        Vec<T> right[VECS];
        for (int v = 0; v < VECS; ++v) {
            right[v] = load<T>(b + v * kLanes<T>);
            if constexpr (kAheadInPanel > 0)
                prefetch<false>(b + kAheadInPanel * ldb + v * kLanes<T>);
        }
        if constexpr (NEXT) prefetch<false>(next + k);
        for (int r = 0; r < kRows; ++r) {
            const Vec<T> left = broadcast<T>(row[r][k]);
            for (int v = 0; v < VECS; ++v) sum[r][v] += left * right[v];
        }
    }
    for (int r = 0; r < kRows; ++r)
        for (int v = 0; v < VECS; ++v) store<T>(c + r * ldc + v * kLanes<T>, sum[r][v]);
}

// Panels of `count` rows y[count][d], scaled by scale[count]: packed[panel][k][kPanel].
template <class T>
void pack_panels(const T* y, std::ptrdiff_t ldy, const T* scale, int count, std::ptrdiff_t d,
                 T* packed) {
    constexpr int kSide = kLanes<T>;
    for (int first = 0; first < count; first += kPanel<T>, packed += kPanel<T> * d) {
        const int width = count - first < kPanel<T> ? count - first : kPanel<T>;
        if (width < kPanel<T>) std::memset(packed, 0, sizeof(T) * kPanel<T> * d);
        for (int j = 0; j < width; j += kSide) {
            const T* from = y + (first + j) * ldy;
            const int rows = width - j < kSide ? width - j : kSide;
            T factor[kSide];
            for (int r = 0; r < rows; ++r) factor[r] = scale ? scale[first + j + r] : T(1);
            std::ptrdiff_t k = 0;
            for (; rows == kSide && k + kSide <= d; k += kSide) {  // squares, in registers
                Vec<T> square[kSide];
                for (int r = 0; r < kSide; ++r) square[r] = load<T>(from + r * ldy + k) * factor[r];
                transpose<T>(square);
                for (int r = 0; r < kSide; ++r)
                    store<T>(packed + (k + r) * kPanel<T> + j, square[r]);
            }
            for (int r = 0; r < rows; ++r)
                for (std::ptrdiff_t rest = k; rest < d; ++rest)
                    packed[rest * kPanel<T> + j + r] = from[r * ldy + rest] * factor[r];
        }
    }
}

// tile[rows][columns from first_panel on] = a[rows][d] * packed panels; ldt >= panels * kPanel,
// and `tile` has room for `rows` rounded up to kRows. Behind its rows, `known` altogether, are
// likely those of the next tile.
template <class T>
void multiply_tile(const T* a, std::ptrdiff_t lda, int rows, std::ptrdiff_t known, const T* packed,
                   int first_panel, int panels, std::ptrdiff_t d, T* tile, std::ptrdiff_t ldt) {
    const std::ptrdiff_t passes = (d + kDepth - 1) / kDepth;
    const std::ptrdiff_t longest = (d + passes - 1) / passes;
    for (std::ptrdiff_t k = 0; k < d; k += longest) {
        const int depth = static_cast<int>(d - k < longest ? d - k : longest);
        const auto at = [&](int i, int p) NTK_LAMBDA {
            const T* const b = packed + p * kPanel<T> * d + k * kPanel<T>;
            const T* const left = a + i * lda + k;
            const std::ptrdiff_t later = i + kRows + (p - first_panel) % kRows;
            const T* const next = a + (later < known ? later : 0) * lda + k;
            T* const to = tile + i * ldt + p * kPanel<T>;
            if (k == 0)
                multiply_register_tile<T, kVecs, false, kRowsOutside>(
                    left, lda, rows - i, b, kPanel<T>, depth, to, ldt, next);
            else
                multiply_register_tile<T, kVecs, true, kRowsOutside>(
                    left, lda, rows - i, b, kPanel<T>, depth, to, ldt, next);
        };
        if constexpr (kRowsOutside) {
            for (int i = 0; i < rows; i += kRows)
                for (int p = first_panel; p < panels; ++p) at(i, p);
        } else {
            for (int p = first_panel; p < panels; ++p)
                for (int i = 0; i < rows; i += kRows) at(i, p);
        }
    }
}

}  // namespace
