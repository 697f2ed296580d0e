// The instructions of tensor cores that products use, and what they do, for the host.
//
// A warp multiplies small matrices that lie spread over the registers of its threads. With
// g = lane / 4 and t = lane % 4 (PTX ISA, "Matrix fragments for mma"):
//
//     m16n8k8 of TF32                           m8n8k4 of float64
//     a[r]: row g + 8 (r % 2), k = t + 4 (r / 2)    a: row g, k = t
//     b[r]: k = t + 4 r, column g                   b: k = t, column g
//     c[r]: row g + 8 (r / 2), column 2t + r % 2    c[r]: row g, column 2t + r
//
// They are there from sm_80 on; the host does not start a kernel that was compiled for less.
#pragma once

#include "device.hpp"

namespace {

using std::uint32_t;

NTK_DEVICE float float_of(uint32_t bits) {
    float x;
    std::memcpy(&x, &bits, sizeof x);
    return x;
}

#if defined(__CUDACC__)
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
#define NTK_TENSOR_CORES(...) __VA_ARGS__
#else
#define NTK_TENSOR_CORES(...) __trap()
#endif

// x rounded to the 11 significant bits of TF32, ties away from zero.
NTK_DEVICE uint32_t to_tf32(float x) {
    uint32_t bits = 0;
    NTK_TENSOR_CORES(asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x)));
    return bits;
}

NTK_DEVICE void mma(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    NTK_TENSOR_CORES(
        asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
            "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};" : "+f"(c[0]),
            "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]),
            "r"(b[0]), "r"(b[1])));
}

NTK_DEVICE void mma(double (&c)[2], double a, double b) {
    NTK_TENSOR_CORES(asm(
        "mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 {%0, %1}, {%2}, {%3}, {%0, %1};" : "+d"(
            c[0]),
        "+d"(c[1]) : "d"(a), "d"(b)));
}
#undef NTK_TENSOR_CORES
#else

NTK_DEVICE uint32_t to_tf32(float x) {
    uint32_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fffffffu;  // not a number
    return (bits + 0x1000u) & ~0x1fffu;  // the carry may go into the exponent
}

NTK_DEVICE void mma(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    struct Registers {
        uint32_t a[4], b[2];
    };
    const auto warp = ntkfast::emulation::Machine::here().exchange(
        Registers{{a[0], a[1], a[2], a[3]}, {b[0], b[1]}});
    const auto value = [](uint32_t bits) { return float_of(bits & ~0x1fffu); };  // as the card
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

NTK_DEVICE void mma(double (&c)[2], double a, double b) {
    struct Registers {
        double a, b;
    };
    const auto warp = ntkfast::emulation::Machine::here().exchange(Registers{a, b});
    const int lane = thread() % 32;
    for (int r = 0; r < 2; ++r)
        for (int k = 0; k < 4; ++k)
            c[r] += warp[static_cast<std::size_t>(lane / 4 * 4 + k)].a *
                    warp[static_cast<std::size_t>((2 * (lane % 4) + r) * 4 + k)].b;
}
#endif

}  // namespace
