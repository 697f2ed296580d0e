// Products of rows by cuBLAS, where a process finds it: wheels do not carry a library of that size.
#pragma once

#include <cstdint>

#include "cuda/memory.hpp"

namespace ntkfast {

// out[n][m] = x[n][d] y[m][d]^T, in memory of the device; no number beyond those of int.
struct RowProducts {
    const float *x, *y;
    std::int64_t ldx, ldy, n, m, d;
    float* out;
    std::int64_t ldo;
};

// Whether there is a library, for a device whose tensor cores a kernel of its own feeds worse: from
// sm_90 on these take their factors from shared memory.
bool library_multiplies(const Device& device);

// Queues products of factors that are TF32 numbers, with sums of float32.
//
// Throws std::runtime_error if the library does not take them.
void multiply_tf32(const Device& device, const RowProducts& product);

}  // namespace ntkfast
