// Products of a matrix on a device with a few vectors: what is left of `matmul` where no kernel does
// it tile by tile.
#include "cuda/block_sums.hpp"
#include "cuda/run.hpp"

namespace {

using namespace ntkfast;

constexpr int kVectors = 8;  // that a block sums at once

// A block per row and group of vectors; sums in double, in an order of their own.
template <class T>
NTK_KERNEL multiply_rows(DenseProduct<T> p) {
    double* const part = shared_memory<double>();  // [vector][thread]
    const int64_t groups = (p.columns + kVectors - 1) / kVectors;
    for (int64_t task = block(); task < p.rows * groups; task += blocks()) {
        const int64_t i = task / groups, first = task % groups * kVectors;
        const int64_t width = p.columns - first < kVectors ? p.columns - first : kVectors;
        double own[kVectors] = {};
        for (int64_t j = thread(); j < p.inner; j += threads()) {
            const T a = p.diagonal && j == i + p.shift ? p.diagonal[i] : p.a[i * p.lda + j];
            for (int c = 0; c < kVectors; ++c)
                if (c < width)
                    own[c] +=
                        static_cast<double>(a) * static_cast<double>(p.v[j * p.ldv + first + c]);
        }
        barrier();  // all have read the last sums
        for (int c = 0; c < kVectors; ++c) part[c * threads() + thread()] = own[c];
        join_threads<kVectors>(part, Plus{});
        if (thread() < width)
            p.out[i * p.ldo + first + thread()] = static_cast<T>(part[thread() * threads()]);
    }
}

template <class T>
void run_product(DenseProduct<T> p, const Device& device, const Poll&) {
    const Numbers<T> diagonal(device, p.diagonal, p.diagonal ? p.rows : 0);
    if (p.diagonal) p.diagonal = diagonal.get();
    const int64_t tasks = p.rows * ((p.columns + kVectors - 1) / kVectors), most = 1 << 20;
    launch(device, multiply_rows<T>, tasks < most ? tasks : most, kThreads,
           sizeof(double) * kVectors * kThreads, p);
}

}  // namespace

namespace ntkfast {

void run_on_device(const DenseProduct<float>& p, const Device& device, const Poll& poll) {
    run_product(p, device, poll);
}
void run_on_device(const DenseProduct<double>& p, const Device& device, const Poll& poll) {
    run_product(p, device, poll);
}

}  // namespace ntkfast
