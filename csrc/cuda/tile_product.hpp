// Inner products of a tile of pairs: rows of both sides pass through shared memory part by part.
//
// A block of kThreads threads multiplies kRows rows of the left with kColumns of the right side, in
// registers. A part is 64 bytes of every row, as it lies in memory: lanes load 16 bytes of
// different rows at once, and the distance of the rows is such that no two use the same bank.
// While one part is multiplied the next ones are being copied.
#pragma once

#include "../tile.hpp"
#include "copy.hpp"
#include "mma.hpp"

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
    static constexpr bool kTensorCores = false;
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
                for (int k = 0; k < Quad<T>::kSize; ++k) NTK_UNROLL()
                for (int b = 0; b < kAcross; ++b) sum[a][b] += row.at[k] * columns[b].at[k];
            }
        }
    }

    // see(row of the slab, column, product) for what this thread has of a slab.
    template <class See>
    NTK_DEVICE void each(int slab, See see) const {
        NTK_UNROLL()
        for (int a = 0; a < kDown; ++a) {
            if (a / (kSlab / 16) != slab) continue;
            NTK_UNROLL()
            for (int b = 0; b < kAcross; ++b)
                see(thread() / 16 + a * 16 % kSlab, thread() % 16 + 16 * b, sum[a][b]);
        }
    }
};

// What tensor cores multiply of a quad. The order of the terms of a sum is free: thread t of the
// four that share a row takes the numbers of quad t, instead of every fourth number.
struct Tf32 {
    uint32_t big[4], small[4];  // x = big + small, to 22 bits
    NTK_DEVICE Tf32() {}
    NTK_DEVICE explicit Tf32(const Quad<float>& x) {
        NTK_UNROLL()
        for (int k = 0; k < 4; ++k) {
            big[k] = to_tf32(x.at[k]);
            small[k] = to_tf32(x.at[k] - float_of(big[k]));
        }
    }
};

NTK_DEVICE void multiply_piece(float (&sum)[4], const uint32_t (&top)[4],
                               const uint32_t (&bottom)[4], const uint32_t (&right)[4], int k) {
    mma(sum, {top[k], bottom[k], top[k + 1], bottom[k + 1]}, {right[k], right[k + 1]});
}

// 16 x 8 products of two halves of 8 rows with 8 columns. A product of TF32 is off by 2^-10 at most,
// 2^-11 from either factor; with the small parts by 2^-21, of which the sum makes about that of
// strict precision. The small parts come first, where they still count.
template <Precision P>
NTK_DEVICE void add_piece(float (&sum)[4], const Tf32& top, const Tf32& bottom, const Tf32& right) {
    NTK_UNROLL()
    for (int k = 0; k < 4; k += 2) {
        if (P == Precision::kTf32x3) {
            multiply_piece(sum, top.small, bottom.small, right.big, k);
            multiply_piece(sum, top.big, bottom.big, right.small, k);
        }
        multiply_piece(sum, top.big, bottom.big, right.big, k);
    }
}

// In float64: products and sums are those of Fma.
template <Precision P>
NTK_DEVICE void add_piece(double (&sum)[2][2], const Quad<double>& top, const Quad<double>& bottom,
                          const Quad<double>& right) {
    NTK_UNROLL()
    for (int k = 0; k < 2; ++k) {
        mma(sum[0], top.at[k], right.at[k]);
        mma(sum[1], bottom.at[k], right.at[k]);
    }
}

NTK_DEVICE float piece_at(const float (&sum)[4], int r) { return sum[r]; }
NTK_DEVICE double piece_at(const double (&sum)[2][2], int r) { return sum[r / 2][r % 2]; }

template <class T>
struct Piece;
template <>
struct Piece<float> {
    using Factor = Tf32;
    using Sum = float[4];
};
template <>
struct Piece<double> {
    using Factor = Quad<double>;
    using Sum = double[2][2];
};

// The same on tensor cores: 4 x 2 warps, each with pieces of 16 x 8 pairs, one row of them per slab.
template <class T, int M, int N, Precision P>
struct Mma {
    using Number = T;
    using Factor = typename Piece<T>::Factor;
    static constexpr int kRows = M, kColumns = N, kPitch = kQuads, kStages = 3;
    static constexpr int kDown = M / kSlab, kAcross = N / 16;
    static constexpr bool kTensorCores = true;
    typename Piece<T>::Sum sum[kDown][kAcross] = {};

    NTK_DEVICE static int row() { return thread() / 64 * 16 + thread() % 32 / 4; }  // of a slab
    NTK_DEVICE static int column(int b) { return (2 * b + thread() / 32 % 2) * 8; }

    NTK_DEVICE void add(const Quad<T>* left, const Quad<T>* right, int) {
        const int group = thread() % 32 / 4, own = thread() % 4;
        Factor top[kDown], bottom[kDown];
        NTK_UNROLL()
        for (int a = 0; a < kDown; ++a) {
            top[a] = Factor(left[(a * kSlab + row()) * kPitch + own]);
            bottom[a] = Factor(left[(a * kSlab + row() + 8) * kPitch + own]);
        }
        NTK_UNROLL()
        for (int b = 0; b < kAcross; ++b) {
            const Factor factor(right[(column(b) + group) * kPitch + own]);
            NTK_UNROLL()
            for (int a = 0; a < kDown; ++a) add_piece<P>(sum[a][b], top[a], bottom[a], factor);
        }
    }

    template <class See>
    NTK_DEVICE void each(int slab, See see) const {
        NTK_UNROLL()
        for (int a = 0; a < kDown; ++a) {
            if (a != slab) continue;
            NTK_UNROLL()
            for (int b = 0; b < kAcross; ++b) NTK_UNROLL()
            for (int r = 0; r < 4; ++r)
                see(row() + r / 2 * 8, column(b) + thread() % 4 * 2 + r % 2,
                    piece_at(sum[a][b], r));
        }
    }
};

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
    const int64_t quads = ceil_div<int64_t>(left.d, Quad<T>::kSize);
    const int64_t parts = ceil_div<int64_t>(quads, kQuads);
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
