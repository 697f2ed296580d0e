// Euclidean norms of rows that lie on a device, and their powers; the host is told between which
// numbers they lie.
#include <cmath>
#include <limits>

#include "cuda/block_sums.hpp"
#include "cuda/run.hpp"

namespace {

using namespace ntkfast;

constexpr int kNormThreads = 64;  // of a row
constexpr int kRangeThreads = 512;

struct LargestOrNan {  // fmax passes over NaN
    NTK_DEVICE double operator()(double a, double b) const { return a != a || a > b ? a : b; }
};

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
        double norm = p.scale * sqrt(square_sum(row, p.d, 1.0));
        if (!(norm > 1e-140 && norm < 1e150)) {  // alike for all threads
            double largest = 0;
            for (int64_t k = thread(); k < p.d; k += threads())
                largest = fmax(largest, fabs(static_cast<double>(row[k])));
            largest = together(largest, [](double a, double b) { return fmax(a, b); });
            // fmax passes over NaN, but then the sum is NaN.
            if (largest == 0 || norm != norm)
                norm += largest;
            else if (largest <= 1.7976931348623157e308)
                norm = largest * (p.scale * sqrt(square_sum(row, p.d, largest)));
        }
        if (thread() == 0) p.out[i] = static_cast<T>(norm);
    }
}

// One block: the same sums in any order of blocks.
template <class T>
NTK_KERNEL range_of_norms(RowNorms<T> p) {
    constexpr double kNone = std::numeric_limits<double>::infinity();
    NormRange own{kNone, kNone, 0, 0};
    for (int64_t i = thread(); i < p.n; i += threads()) {
        const double norm = static_cast<double>(p.out[i]);
        own.least = fmin(own.least, norm);
        if (norm > 0) own.positive = fmin(own.positive, norm);
        own.top = LargestOrNan{}(own.top, norm);
        own.mean += norm;
    }
    const auto least = [](double a, double b) { return fmin(a, b); };
    own = {together(own.least, least), together(own.positive, least),
           together(own.top, LargestOrNan{}), together(own.mean, Plus{})};
    own.mean /= static_cast<double>(p.n);
    if (thread() == 0) *p.range = own;
}

// As Call::fill of the host.
template <class T>
NTK_DEVICE T norm_power(const NormPower<T>& p, double norm) {
    const double most = static_cast<double>(std::numeric_limits<T>::max());
    if (p.keeps_zeros && !(1 / norm <= most)) return p.at_zero;
    if (p.power == 0) return 1;
    const double value = p.power == 1 ? norm : p.power == -1 ? 1 / norm : pow(norm, p.power);
    return p.power < 0 && !(value <= most) ? T(0) : static_cast<T>(value);
}

template <class T>
NTK_KERNEL powers_of_norms(NTK_ARGUMENT NormPowers<T> p) {
    for (int64_t k = 0; k < p.count; ++k)
        for (int64_t i = first_element(); i < p.of[k].n; i += element_step())
            p.of[k].to[i] = norm_power(p.of[k], static_cast<double>(p.of[k].norms[i]));
}

template <class T>
void run_norms(const RowNorms<T>& p, const Device& device) {
    launch(device, norms_of_rows<T>, p.n < (1 << 20) ? p.n : 1 << 20, kNormThreads,
           kNormThreads * sizeof(double), p);
    launch(device, range_of_norms<T>, 1, kRangeThreads, kRangeThreads * sizeof(double), p);
}

template <class T>
void run_powers(const NormPowers<T>& p, const Device& device) {
    int64_t most = 0;
    for (int64_t k = 0; k < p.count; ++k) most = p.of[k].n > most ? p.of[k].n : most;
    launch_over(device, powers_of_norms<T>, most, p);
}

}  // namespace

namespace ntkfast {

void run_on_device(const RowNorms<float>& p, const Device& device, const Poll&) {
    run_norms(p, device);
}
void run_on_device(const RowNorms<double>& p, const Device& device, const Poll&) {
    run_norms(p, device);
}
void run_on_device(const NormPowers<float>& p, const Device& device, const Poll&) {
    run_powers(p, device);
}
void run_on_device(const NormPowers<double>& p, const Device& device, const Poll&) {
    run_powers(p, device);
}

}  // namespace ntkfast
