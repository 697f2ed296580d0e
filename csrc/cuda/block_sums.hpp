// What the threads of a block have together: sums and the like by halves, in an order of their own.
#pragma once

#include "cuda/device.hpp"

namespace {

// Joins the numbers part[ROWS][threads] of all threads; part[row][0] holds the result for all of
// them afterwards. Each thread has written its own before.
template <int ROWS, class Join>
NTK_DEVICE void join_threads(double* part, Join join) {
    for (int half = threads() / 2; half > 0; half /= 2) {
        barrier();
        if (thread() < half)
            for (int row = 0; row < ROWS; ++row) {
                double& own = part[row * threads() + thread()];
                own = join(own, (&own)[half]);
            }
    }
    barrier();
}

struct Plus {
    NTK_DEVICE double operator()(double a, double b) const { return a + b; }
};

}  // namespace
