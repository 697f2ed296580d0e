// What stands between products, number by number: of random features, and of derivatives.
#include "cuda/device.hpp"
#include "cuda/run.hpp"

namespace {

using namespace ntkfast;

template <class T>
NTK_KERNEL scale_rows(ScaledRows<T> p) {
    for (int64_t at = first_element(); at < p.n * p.d; at += element_step()) {
        const int64_t i = at / p.d, j = at % p.d;
        T value = p.x ? p.x[i * p.ldx + j] : T(1);
        if (p.divisors) value /= p.divisors[i];
        if (p.factors) value *= p.factors[i];
        p.out[i * p.ldo + j] = value * p.scale;
    }
}

template <class T>
NTK_KERNEL multiply_pairs(PairProducts<T> p) {
    for (int64_t at = first_element(); at < p.n * p.m; at += element_step()) {
        const int64_t i = at / p.m, j = at % p.m;
        const T* const row = p.x + i * p.ldx;
        p.out[i * p.ldo + j] = (row[p.left[j]] * row[p.right[j]] - p.shifts[j]) * p.factors[j];
    }
}

template <class T>
NTK_KERNEL add_turned(TurnedSum<T> p) {
    for (int64_t at = first_element(); at < p.n * p.m; at += element_step()) {
        const int64_t i = at / p.m, j = at % p.m;
        if (p.part)
            p.out[i * p.ldo + j] += p.part[j * p.ldp + i];
        else if (i <= j)  // for both
            p.out[i * p.ldo + j] = p.out[j * p.ldo + i] += p.out[i * p.ldo + j];
    }
}

template <class T>
void run_scaled(ScaledRows<T> p, const Device& device) {
    const Numbers<T> divisors(device, p.divisors, p.divisors ? p.n : 0),
        factors(device, p.factors, p.factors ? p.n : 0);
    if (p.divisors) p.divisors = divisors.get();
    if (p.factors) p.factors = factors.get();
    launch_over(device, scale_rows<T>, p.n * p.d, p);
}

template <class T>
void run_pairs(PairProducts<T> p, const Device& device) {
    const Numbers<int64_t> left(device, p.left, p.m), right(device, p.right, p.m);
    const Numbers<T> shifts(device, p.shifts, p.m), factors(device, p.factors, p.m);
    p.left = left.get(), p.right = right.get();
    p.shifts = shifts.get(), p.factors = factors.get();
    launch_over(device, multiply_pairs<T>, p.n * p.m, p);
}

}  // namespace

namespace ntkfast {

void run_on_device(const ScaledRows<float>& p, const Device& device, const Poll&) {
    run_scaled(p, device);
}
void run_on_device(const ScaledRows<double>& p, const Device& device, const Poll&) {
    run_scaled(p, device);
}
void run_on_device(const PairProducts<float>& p, const Device& device, const Poll&) {
    run_pairs(p, device);
}
void run_on_device(const PairProducts<double>& p, const Device& device, const Poll&) {
    run_pairs(p, device);
}
void run_on_device(const TurnedSum<float>& p, const Device& device, const Poll&) {
    launch_over(device, add_turned<float>, p.n * p.m, p);
}
void run_on_device(const TurnedSum<double>& p, const Device& device, const Poll&) {
    launch_over(device, add_turned<double>, p.n * p.m, p);
}

}  // namespace ntkfast
