// The instructions of tensor cores that products use, and what they do, for the host.
//
// A warp multiplies small matrices that lie spread over the registers of its threads. With
// g = lane / 4 and t = lane % 4 (PTX ISA, "Matrix fragments for mma"):
//
//     m16n8k8 of TF32 and, from sm_90 on, of float64    m8n8k4 of float64
//     a[r]: row g + 8 (r % 2), k = t + 4 (r / 2)        a: row g, k = t
//     b[r]: k = t + 4 r, column g                       b: k = t, column g
//     c[r]: row g + 8 (r / 2), column 2t + r % 2        c[r]: row g, column 2t + r
//
// They are there from sm_80 on; the host does not start a kernel that was compiled for less.
#pragma once

#include <cstdint>
#include <cstring>

#include "cuda/copy.hpp"

namespace {

using std::uint32_t;

NTK_DEVICE float float_of(uint32_t bits) {
    float x;
    std::memcpy(&x, &bits, sizeof x);
    return x;
}
NTK_DEVICE uint32_t word_of(float x) {
    uint32_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    return bits;
}

// x rounded to the 11 significant bits of TF32, ties away from zero; the carry may go into the
// exponent. As cvt.rna.tf32.f32 for numbers, for which devices have no single instruction either.
NTK_DEVICE uint32_t to_tf32(float x) { return (word_of(x) + 0x1000u) & ~0x1fffu; }

#if defined(__CUDACC__)
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
constexpr bool kHaveTensorCores = true;
#else
constexpr bool kHaveTensorCores = false;
#endif

// Four matrices of 8 rows of a quad: thread i points to row i % 8 of matrix i / 8 and gets number t
// of row g of each.
NTK_DEVICE void load_words(uint32_t (&words)[4], const Quad<float>* row) {
    if constexpr (kHaveTensorCores)
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                     : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
                     : "r"(static_cast<unsigned>(__cvta_generic_to_shared(row)))
                     : "memory");
}

NTK_DEVICE void mma(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    if constexpr (kHaveTensorCores)
        asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
            "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
            : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

NTK_DEVICE void mma_small(double& c0, double& c1, double a, double b) {
    if constexpr (kHaveTensorCores)
        asm("mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 {%0, %1}, {%2}, {%3}, {%0, %1};"
            : "+d"(c0), "+d"(c1)
            : "d"(a), "d"(b));
    else
        __trap();
}
#else

NTK_DEVICE void load_words(uint32_t (&words)[4], const Quad<float>* row) {
    const auto rows = ntkfast::emulation::Machine::here().exchange(row);
    const std::size_t group = static_cast<std::size_t>(thread() % 32 / 4);
    for (std::size_t matrix = 0; matrix < 4; ++matrix)
        words[matrix] = word_of(rows[8 * matrix + group]->at[thread() % 4]);
}

NTK_DEVICE void mma(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    struct Registers {
        uint32_t a[4], b[2];
    };
    const auto warp = ntkfast::emulation::Machine::here().exchange(
        Registers{{a[0], a[1], a[2], a[3]}, {b[0], b[1]}});
    const auto value = [](uint32_t bits) { return float_of(bits & ~0x1fffu); };  // as the device
    const int lane = thread() % 32;
    for (int r = 0; r < 4; ++r) {
        const int row = lane / 4 + 8 * (r / 2), column = 2 * (lane % 4) + r % 2;
        for (int k = 0; k < 8; ++k) {
            const std::size_t left = static_cast<std::size_t>(row % 8 * 4 + k % 4);
            const std::size_t right = static_cast<std::size_t>(column * 4 + k % 4);
            c[r] += value(warp[left].a[row / 8 + 2 * (k / 4)]) * value(warp[right].b[k / 4]);
        }
    }
}

NTK_DEVICE void mma_small(double& c0, double& c1, double a, double b) {
    struct Registers {
        double a, b;
    };
    const auto warp = ntkfast::emulation::Machine::here().exchange(Registers{a, b});
    const int lane = thread() % 32;
    for (int r = 0; r < 2; ++r)
        for (int k = 0; k < 4; ++k)
            (r == 0 ? c0 : c1) += warp[static_cast<std::size_t>(lane / 4 * 4 + k)].a *
                                  warp[static_cast<std::size_t>((2 * (lane % 4) + r) * 4 + k)].b;
}
#endif

// The large product of float64, of small ones where there is none.
NTK_DEVICE void mma(double (&c)[4], const double (&a)[4], const double (&b)[2]) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm("mma.sync.aligned.m16n8k8.row.col.f64.f64.f64.f64 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+d"(c[0]), "+d"(c[1]), "+d"(c[2]), "+d"(c[3])
        : "d"(a[0]), "d"(a[1]), "d"(a[2]), "d"(a[3]), "d"(b[0]), "d"(b[1]));
#else
    NTK_UNROLL()
    for (int k = 0; k < 2; ++k) {
        mma_small(c[0], c[1], a[2 * k], b[k]);
        mma_small(c[2], c[3], a[2 * k + 1], b[k]);
    }
#endif
}

}  // namespace
