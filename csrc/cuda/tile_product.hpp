// Inner products of a tile of pairs: rows of both sides pass through shared memory part by part.
//
// A block of kThreads threads multiplies kRows rows of the left with kColumns of the right side, in
// registers. A part is 64 bytes of every row, as it lies in memory: lanes load 16 bytes of
// different rows at once, and the distance of the rows is such that no two use the same bank.
// While one part is multiplied the next ones are being copied.
#pragma once

#include "cuda/copy.hpp"
#include "cuda/mma.hpp"
#include "formulas/pair_maps.hpp"

namespace {

using ntkfast::Precision;

constexpr int kQuads = 4;  // of a row in a part
constexpr int kSlab = 64;  // rows of a tile that are handed on at a time

// Rows whose distance is a multiple of a part, with zeros at the end.
template <class T>
struct Rows {
    const T* data;
    int64_t pitch, count;
    int64_t d;  // numbers in use
};

// Plain products and sums. Strict precision: an error of d eps / 2 at most, relative to
// sum |x_k y_k|. Thread (p, q) of 16 x 16 owns the rows p + 16 a and the columns q + 16 b.
template <class T, int M, int N>
struct Fma {
    using Number = T;
    static constexpr int kRows = M, kColumns = N, kPitch = kQuads + 1, kStages = 2;
    static constexpr int kDown = M / 16, kAcross = N / 16;
    T sum[kDown][kAcross] = {};

    NTK_DEVICE void add(const Quad<T>* left, const Quad<T>* right, int quads) {
        left += thread() / 16 * kPitch, right += thread() % 16 * kPitch;
        NTK_UNROLL(1)
        for (int q = 0; q < quads; ++q) {
            Quad<T> columns[kAcross];
            NTK_UNROLL()
            for (int b = 0; b < kAcross; ++b) columns[b] = right[16 * b * kPitch + q];
            NTK_UNROLL()
            for (int a = 0; a < kDown; ++a) {
                const Quad<T> row = left[16 * a * kPitch + q];
                NTK_UNROLL()
                for (int k = 0; k < Quad<T>::kSize; ++k) {
                    NTK_UNROLL()
                    for (int b = 0; b < kAcross; ++b) sum[a][b] += row.at[k] * columns[b].at[k];
                }
            }
        }
    }

    // see(row of the slab, column, product) for what this thread has of the first slab.
    template <class See>
    NTK_DEVICE void each(See see) const {
        NTK_UNROLL()
        for (int a = 0; a < kSlab / 16; ++a) {
            NTK_UNROLL()
            for (int b = 0; b < kAcross; ++b)
                see(thread() / 16 + 16 * a, thread() % 16 + 16 * b, sum[a][b]);
        }
    }
    // Makes the next slab the first: what was handed on needs no registers any more.
    NTK_DEVICE void next_slab() {
        NTK_UNROLL()
        for (int a = kSlab / 16; a < kDown; ++a) {
            NTK_UNROLL()
            for (int b = 0; b < kAcross; ++b) sum[a - kSlab / 16][b] = sum[a][b];
        }
    }
};

// Factors of tensor cores from a part of rows: 16 rows of the left, 8 of the right side, and the
// product of both. In float64 products and sums are those of Fma.
template <class T, Precision P>
struct Factors {
    T left[4], right[2];

    NTK_DEVICE void load_left(const Quad<T>* rows, int pitch) {
        NTK_UNROLL()
        for (int r = 0; r < 4; ++r) left[r] = at(rows, thread() % 32 / 4 + r % 2 * 8, pitch, r / 2);
    }
    NTK_DEVICE void load_right(const Quad<T>* rows, int pitch) {
        NTK_UNROLL()
        for (int r = 0; r < 2; ++r) right[r] = at(rows, thread() % 32 / 4, pitch, r);
    }
    NTK_DEVICE static void multiply(T (&sum)[4], const Factors& a, const Factors& b) {
        mma(sum, a.left, b.right);
    }

  private:
    NTK_DEVICE static T at(const Quad<T>* rows, int row, int pitch, int half) {
        return reinterpret_cast<const T*>(rows + row * pitch)[4 * half + thread() % 4];
    }
};

// A product of TF32 is off by 2^-10 at most, 2^-11 from either factor. Rows have been rounded when
// they were packed.
template <>
struct Factors<float, Precision::kTf32> {
    uint32_t left[2][4], right[2][2];

    NTK_DEVICE void load_left(const Quad<float>* rows, int pitch) {
        const Quad<float>* row = rows + thread() % 16 * pitch + thread() % 32 / 16;
        NTK_UNROLL()
        for (int half = 0; half < 2; ++half) load_words(left[half], row + 2 * half);
    }
    NTK_DEVICE void load_right(const Quad<float>* rows, int pitch) {
        uint32_t words[4];
        load_words(words, rows + thread() % 8 * pitch + thread() % 32 / 8);
        NTK_UNROLL()
        for (int r = 0; r < 4; ++r) right[r / 2][r % 2] = words[r];
    }
    NTK_DEVICE static void multiply(float (&sum)[4], const Factors& a, const Factors& b) {
        NTK_UNROLL()
        for (int half = 0; half < 2; ++half) mma(sum, a.left[half], b.right[half]);
    }
};

// x = big + small, off by 2^-22. So is a product for either factor, and for small small, which is left
// out: by 3 2^-22 together. The small parts come first, where they still count.
template <>
struct Factors<float, Precision::kTf32x3> {
    using Words = Factors<float, Precision::kTf32>;
    Words big, small;

    NTK_DEVICE void load_left(const Quad<float>* rows, int pitch) {
        big.load_left(rows, pitch);
        NTK_UNROLL()
        for (int half = 0; half < 2; ++half) split(big.left[half], small.left[half]);
    }
    NTK_DEVICE void load_right(const Quad<float>* rows, int pitch) {
        big.load_right(rows, pitch);
        NTK_UNROLL()
        for (int half = 0; half < 2; ++half) split(big.right[half], small.right[half]);
    }
    NTK_DEVICE static void multiply(float (&sum)[4], const Factors& a, const Factors& b) {
        Words::multiply(sum, a.small, b.big);
        Words::multiply(sum, a.big, b.small);
        Words::multiply(sum, a.big, b.big);
    }

  private:
    template <int N>
    NTK_DEVICE static void split(uint32_t (&x)[N], uint32_t (&rest)[N]) {
        NTK_UNROLL()
        for (int r = 0; r < N; ++r) {
            const float whole = float_of(x[r]);
            x[r] = to_tf32(whole);
            rest[r] = to_tf32(whole - float_of(x[r]));
        }
    }
};

// The same on tensor cores: 4 x 2 warps, each with pieces of 16 x 8 pairs, one row of them per slab.
template <class T, int M, int N, Precision P>
struct Mma {
    using Number = T;
    static constexpr int kRows = M, kColumns = N, kStages = 3;
    static constexpr int kPitch = kQuads + (sizeof(T) == 4 ? 1 : 2);
    static constexpr int kDown = M / kSlab, kAcross = N / 16;
    T sum[kDown][kAcross][4] = {};

    // The first row in a slab, and the first column, of the pieces of this warp.
    NTK_DEVICE static int row() { return thread() / 64 * 16; }
    NTK_DEVICE static int column(int b) { return (2 * b + thread() / 32 % 2) * 8; }

    NTK_DEVICE void add(const Quad<T>* left, const Quad<T>* right, int) {
        Factors<T, P> down[kDown], across;
        NTK_UNROLL()
        for (int a = 0; a < kDown; ++a)
            down[a].load_left(left + (a * kSlab + row()) * kPitch, kPitch);
        NTK_UNROLL()
        for (int b = 0; b < kAcross; ++b) {
            across.load_right(right + column(b) * kPitch, kPitch);
            NTK_UNROLL()
            for (int a = 0; a < kDown; ++a) Factors<T, P>::multiply(sum[a][b], down[a], across);
        }
    }

    template <class See>
    NTK_DEVICE void each(See see) const {
        NTK_UNROLL()
        for (int b = 0; b < kAcross; ++b) {
            NTK_UNROLL()
            for (int r = 0; r < 4; ++r)
                see(row() + thread() % 32 / 4 + r / 2 * 8, column(b) + thread() % 4 * 2 + r % 2,
                    sum[0][b][r]);
        }
    }
    NTK_DEVICE void next_slab() {
        NTK_UNROLL()
        for (int a = 1; a < kDown; ++a) {
            NTK_UNROLL()
            for (int b = 0; b < kAcross; ++b) {
                NTK_UNROLL()
                for (int r = 0; r < 4; ++r) sum[a - 1][b][r] = sum[a][b][r];
            }
        }
    }
};

// Blocks on a multiprocessor that leave room for the sums, and as many registers besides.
template <class Product>
constexpr int kBlocks =
    sizeof(typename Product::Number) * Product::kRows * Product::kColumns > 4 * 64 * kThreads ? 1
                                                                                              : 2;

// ---- the walk along the rows --------------------------------------------------------------------

template <class Product>
constexpr int kStageQuads = (Product::kRows + Product::kColumns) * Product::kPitch;
template <class Product>
constexpr std::size_t kStageBytes = 16u * Product::kStages * kStageQuads<Product>;

// Part `part` of COUNT rows from `first` on; rows beyond the last one repeat it.
template <int COUNT, int PITCH, class T>
NTK_DEVICE void copy_part(const Rows<T>& rows, int64_t first, int64_t part, Quad<T>* to) {
    static_assert(COUNT * kQuads % kThreads == 0);
    NTK_UNROLL()
    for (int pass = 0; pass < COUNT * kQuads / kThreads; ++pass) {
        const int e = thread() + pass * kThreads;
        const int64_t i = smaller(first + e / kQuads, rows.count - 1);
        const T* from = rows.data + i * rows.pitch + (part * kQuads + e % kQuads) * Quad<T>::kSize;
        copy_async(to + e / kQuads * PITCH + e % kQuads, reinterpret_cast<const Quad<T>*>(from));
    }
}

// Adds the products of the rows from i0 and j0 on; `memory` holds kStageBytes and is free after.
template <class Product, class T>
NTK_DEVICE void multiply(const Rows<T>& left, const Rows<T>& right, int64_t i0, int64_t j0,
                         Quad<T>* memory, Product& product) {
    constexpr int kStages = Product::kStages, kPitch = Product::kPitch, kM = Product::kRows;
    const int64_t quads = ceil_div(left.d, Quad<T>::kSize);
    const int64_t parts = ceil_div(quads, kQuads);
    const auto stage = [&](int64_t part) {
        return memory + static_cast<int>(part % kStages) * kStageQuads<Product>;
    };
    const auto fetch = [&](int64_t part) {
        if (part < parts) {
            copy_part<kM, kPitch>(left, i0, part, stage(part));
            copy_part<Product::kColumns, kPitch>(right, j0, part, stage(part) + kM * kPitch);
        }
        commit_copies();
    };
    for (int part = 0; part < kStages - 1; ++part) fetch(part);
    NTK_UNROLL(1)
    for (int64_t part = 0; part < parts; ++part) {
        wait_copies<kStages - 2>();
        barrier();  // the part is there for all, and the stage that is fetched next was used by all
        fetch(part + kStages - 1);
        product.add(stage(part), stage(part) + kM * kPitch,
                    static_cast<int>(smaller(kQuads, quads - part * kQuads)));
    }
    barrier();
}

}  // namespace
