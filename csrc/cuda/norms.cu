// Euclidean norms of rows that lie on a device: the host asks for them before anything else.
#include <cmath>

#include "cuda/block_sums.hpp"
#include "cuda/run.hpp"

namespace {

using namespace ntkfast;

constexpr int kNormThreads = 64;  // of a row

// A sum or a maximum over the threads of a block, in an order of its own; all threads get it.
template <class Join>
NTK_DEVICE double together(double own, Join join) {
    double* const part = shared_memory<double>();
    barrier();  // all have read the last one
    part[thread()] = own;
    join_threads<1>(part, join);
    return part[0];
}

// The sum of squares of a row over a scale.
template <class T>
NTK_DEVICE double square_sum(const T* row, int64_t d, double scale) {
    double sum = 0;
    for (int64_t k = thread(); k < d; k += threads()) {
        const double x = static_cast<double>(row[k]) / scale;
        sum += x * x;
    }
    return together(sum, Plus{});
}

// No overflow or underflow; NaN or infinity if the row holds one.
template <class T>
NTK_KERNEL norms_of_rows(RowNorms<T> p) {
    for (int64_t i = block(); i < p.n; i += blocks()) {
        const T* const row = p.x + i * p.ld;
        double norm = sqrt(square_sum(row, p.d, 1.0));
        if (!(norm > 1e-140 && norm < 1e150)) {  // alike for all threads
            double largest = 0;
            for (int64_t k = thread(); k < p.d; k += threads())
                largest = fmax(largest, fabs(static_cast<double>(row[k])));
            largest = together(largest, [](double a, double b) { return fmax(a, b); });
            // fmax passes over NaN, but then the sum is NaN.
            if (largest == 0 || norm != norm)
                norm += largest;
            else if (largest <= 1.7976931348623157e308)
                norm = largest * sqrt(square_sum(row, p.d, largest));
        }
        if (thread() == 0) p.out[i] = static_cast<T>(norm);
    }
}

template <class T>
void run_norms(RowNorms<T> p, const Device& device, const Poll&) {
    const Numbers<T> there(device, p.n);
    T* const out = p.out;
    p.out = there.get();
    launch(device, norms_of_rows<T>, p.n < (1 << 20) ? p.n : 1 << 20, kNormThreads,
           kNormThreads * sizeof(double), p);
    copy_bytes(device, out, there.get(), sizeof(T) * static_cast<std::size_t>(p.n));
}

}  // namespace

namespace ntkfast {

void run_on_device(const RowNorms<float>& p, const Device& device, const Poll& poll) {
    run_norms(p, device, poll);
}
void run_on_device(const RowNorms<double>& p, const Device& device, const Poll& poll) {
    run_norms(p, device, poll);
}

}  // namespace ntkfast
