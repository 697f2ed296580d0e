// Short vectors of float or double, as wide as the instruction set this file is compiled for.
//
// Arithmetic is written with the operators of the GNU vector extension, which GCC and Clang turn
// into the same code as intrinsics; only four operations need a spelling of their own: square
// root, table lookup, mask bits and lane exchange. Other compilers, and any with NTK_NO_VECTORS,
// get vectors of one lane, and so do the threads of a device, which evaluate one pair each: code
// for them is compiled by nvcc, or by any compiler with NTK_ONE_LANE, where a host stands in for
// the device.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#include "formulas/both.hpp"

#if defined(__CUDACC__) && !defined(NTK_ONE_LANE)
#define NTK_ONE_LANE
#endif

#if defined(__GNUC__) && !defined(NTK_ONE_LANE) && !defined(NTK_NO_VECTORS)
#define NTK_VECTORS
#endif
#if (defined(NTK_VECTORS) && defined(__x86_64__)) || defined(_MSC_VER)
#include <immintrin.h>
#endif
#if defined(NTK_VECTORS) && defined(__AARCH64EL__)
#define NTK_NEON
#include <arm_neon.h>
#endif

#if defined(__CUDACC__)
#define NTK_FN __host__ __device__ __forceinline__
#elif defined(_MSC_VER) && !defined(__clang__)
#define NTK_FN __forceinline
#else
#define NTK_FN __attribute__((always_inline)) inline
#endif

// What loops call rarely: inlined, it would take registers from them.
#if defined(_MSC_VER) && !defined(__clang__)
#define NTK_RARE __declspec(noinline)
#else
#define NTK_RARE __attribute__((noinline))
#endif

// Behind the parameters of a lambda that must not stay a call.
#if defined(__GNUC__) && !defined(__CUDACC__)
#define NTK_LAMBDA __attribute__((always_inline))
#else
#define NTK_LAMBDA
#endif

// Loops that call the code of an engine.
#if defined(__CUDACC__)
#define NTK_LOOP __device__ __forceinline__
#else
#define NTK_LOOP
#endif

namespace {  // internal linkage: code of one instruction set must never serve another

#if defined(NTK_VECTORS)
#if defined(__AVX512F__) && defined(__AVX512DQ__)
constexpr int kBytes = 64;
#define NTK_X86(operation) _mm512_##operation
typedef __m512 Floats;
typedef __m512d Doubles;
#elif defined(__AVX2__)
constexpr int kBytes = 32;
#define NTK_X86(operation) _mm256_##operation
typedef __m256 Floats;
typedef __m256d Doubles;
#else
constexpr int kBytes = 16;
#if defined(__x86_64__)
#define NTK_X86(operation) _mm_##operation
typedef __m128 Floats;
typedef __m128d Doubles;
#endif
#endif

template <class T>
struct Simd;
template <>
struct Simd<double> {
    typedef double V __attribute__((vector_size(kBytes)));
    typedef std::int64_t I __attribute__((vector_size(kBytes)));
    typedef std::int64_t Bits;
};
template <>
struct Simd<float> {
    typedef float V __attribute__((vector_size(kBytes)));
    typedef std::int32_t I __attribute__((vector_size(kBytes)));
    typedef std::int32_t Bits;
};
#else
template <class T>
struct Simd;
template <>
struct Simd<double> {
    typedef double V;
    typedef std::int64_t I, Bits;
};
template <>
struct Simd<float> {
    typedef float V;
    typedef std::int32_t I, Bits;
};
#endif

template <class T>
using Vec = typename Simd<T>::V;
template <class T>
using IVec = typename Simd<T>::I;

// Lanes of a vector of T.
template <class T>
constexpr int kLanes = static_cast<int>(sizeof(Vec<T>) / sizeof(T));

// A vector of one lane is a number: nvcc would copy it byte by byte.
template <class T>
NTK_FN Vec<T> load(const T* p) {
    if constexpr (std::is_same_v<Vec<T>, T>) {
        return *p;
    } else {
        Vec<T> v;
        std::memcpy(&v, p, sizeof v);
        return v;
    }
}
template <class T>
NTK_FN void store(T* p, Vec<T> v) {
    if constexpr (std::is_same_v<Vec<T>, T>)
        *p = v;
    else
        std::memcpy(p, &v, sizeof v);
}
template <class T>
NTK_FN Vec<T> broadcast(T a) {
    return a - Vec<T>{};
}

// a b, rounded by itself: compilers fuse products into sums, after which a b - a b need not be 0.
template <class T>
NTK_FN Vec<T> product(Vec<T> a, Vec<T> b) {
    Vec<T> result = a * b;
#if defined(NTK_VECTORS) && defined(__x86_64__)
    asm("" : "+v"(result));
#elif defined(NTK_VECTORS) && defined(__aarch64__)
    asm("" : "+w"(result));
#else
    const T lowest = sizeof(T) == 4 ? T(-3.4e38) : T(-1.79e308);
    result = result > lowest ? result : broadcast<T>(lowest);
#endif
    return result;
}

// a - b c rounded once: what is left of nearly equal numbers is exact then.
#if defined(__GNUC__) || defined(__CUDA_ARCH__)
NTK_FN double minus_product(double a, double b, double c) { return __builtin_fma(-b, c, a); }
NTK_FN float minus_product(float a, float b, float c) { return __builtin_fmaf(-b, c, a); }
#else
NTK_FN double minus_product(double a, double b, double c) { return std::fma(-b, c, a); }
NTK_FN float minus_product(float a, float b, float c) { return std::fma(-b, c, a); }
#endif
#if defined(NTK_VECTORS)
template <class T>
NTK_FN Vec<T> minus_product(Vec<T> a, T b, Vec<T> c) {
#if defined(__FMA__) || defined(__aarch64__)
    return a - b * c;  // compilers fuse both
#else
    for (int k = 0; k < kLanes<T>; ++k) a[k] = minus_product(a[k], b, c[k]);
    return a;
#endif
}
#endif

template <class T>
NTK_FN IVec<T> bits_of(Vec<T> v) {
    IVec<T> i;
    std::memcpy(&i, &v, sizeof i);
    return i;
}
template <class T>
NTK_FN IVec<T> load_bits(const typename Simd<T>::Bits* p) {
    IVec<T> i;
    std::memcpy(&i, p, sizeof i);
    return i;
}
template <class T>
NTK_FN Vec<T> from_bits(IVec<T> i) {
    Vec<T> v;
    std::memcpy(&v, &i, sizeof v);
    return v;
}
// a < b ? a : b and a > b ? a : b, of which compilers make two or three instructions where one does
// the same, for what is no number too.
template <class V>
NTK_FN V min2(V a, V b) {
#if defined(NTK_X86)
    if constexpr (std::is_same_v<V, Vec<float>>) return (V)NTK_X86(min_ps)((Floats)a, (Floats)b);
    if constexpr (std::is_same_v<V, Vec<double>>) return (V)NTK_X86(min_pd)((Doubles)a, (Doubles)b);
#endif
    return a < b ? a : b;
}
template <class V>
NTK_FN V max2(V a, V b) {
#if defined(NTK_X86)
    if constexpr (std::is_same_v<V, Vec<float>>) return (V)NTK_X86(max_ps)((Floats)a, (Floats)b);
    if constexpr (std::is_same_v<V, Vec<double>>) return (V)NTK_X86(max_pd)((Doubles)a, (Doubles)b);
#endif
    return a > b ? a : b;
}
template <class V>
NTK_FN V abs2(V a) {
#if defined(NTK_VECTORS)
    if constexpr (std::is_same_v<V, Vec<float>>)
        return from_bits<float>(bits_of<float>(a) & 0x7fffffff);
    else if constexpr (std::is_same_v<V, Vec<double>>)
        return from_bits<double>(bits_of<double>(a) & 0x7fffffffffffffff);
#endif
    return a < V{} ? -a : a;
}

// The larger one of |a| and |b|.
template <class T>
NTK_FN Vec<T> larger_size(Vec<T> a, Vec<T> b) {
#if defined(__AVX512F__) && defined(__AVX512DQ__)
    if constexpr (sizeof(T) == 8)
        return (Vec<T>)_mm512_range_pd((__m512d)a, (__m512d)b, 0b1011);
    else
        return (Vec<T>)_mm512_range_ps((__m512)a, (__m512)b, 0b1011);
#else
    return max2(abs2(a), abs2(b));
#endif
}

NTK_FN std::int64_t smaller(std::int64_t a, std::int64_t b) { return a < b ? a : b; }
NTK_FN std::int64_t larger(std::int64_t a, std::int64_t b) { return a > b ? a : b; }
NTK_FN std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

#if defined(NTK_ONE_LANE)
constexpr bool kOnePair = true;  // a thread evaluates one pair, not a strip of them
#else
constexpr bool kOnePair = false;
#endif

// ---- the operations without an operator -------------------------------------------------------

#if defined(__CUDA_ARCH__)
NTK_FN double root(double a) { return sqrt(a); }
NTK_FN float root(float a) { return sqrtf(a); }
#elif defined(__GNUC__)
NTK_FN double root(double a) { return __builtin_sqrt(a); }
NTK_FN float root(float a) { return __builtin_sqrtf(a); }
#else
NTK_FN double root(double a) { return _mm_cvtsd_f64(_mm_sqrt_pd(_mm_set_sd(a))); }
NTK_FN float root(float a) { return _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(a))); }
#endif

#if defined(NTK_VECTORS)
template <class T>
NTK_FN Vec<T> sqrt_lanes(Vec<T> a) {
#if defined(NTK_X86)
    if constexpr (sizeof(T) == 8)
        return (Vec<T>)NTK_X86(sqrt_pd)((Doubles)a);
    else
        return (Vec<T>)NTK_X86(sqrt_ps)((Floats)a);
#else
    for (int k = 0; k < kLanes<T>; ++k) a[k] = root(a[k]);
    return a;
#endif
}

// Bit k is set where lane k of a is below lane k of b.
template <class T>
NTK_FN std::uint64_t mask_below(Vec<T> a, Vec<T> b) {
#if defined(__AVX512F__) && defined(__AVX512DQ__)
    if constexpr (sizeof(T) == 8)
        return _mm512_cmp_pd_mask((__m512d)a, (__m512d)b, _CMP_LT_OQ);
    else
        return _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_LT_OQ);
#elif defined(__AVX2__)
    if constexpr (sizeof(T) == 8)
        return (unsigned)_mm256_movemask_pd((__m256d)(a < b));
    else
        return (unsigned)_mm256_movemask_ps((__m256)(a < b));
#elif defined(NTK_NEON)
    if constexpr (sizeof(T) == 8)
        return (unsigned)vaddvq_s64((int64x2_t)((IVec<T>)(a < b) & IVec<T>{1, 2}));
    else
        return (unsigned)vaddvq_s32((int32x4_t)((IVec<T>)(a < b) & IVec<T>{1, 2, 4, 8}));
#else
    std::uint64_t bits = 0;
    for (int k = 0; k < kLanes<T>; ++k) bits |= (std::uint64_t)(a[k] < b[k]) << k;
    return bits;
#endif
}
NTK_FN int lowest_bit(std::uint64_t bits) { return __builtin_ctzll(bits); }

template <class T, int H, int... K>
NTK_FN Vec<T> add_and_subtract(Vec<T> v, std::integer_sequence<int, K...>) {
#if defined(__clang__)
    const Vec<T> other = __builtin_shufflevector(v, v, (K ^ H)...);
#else
    const Vec<T> other = __builtin_shuffle(v, IVec<T>{(K ^ H)...});
#endif
    return v * Vec<T>{(K & H ? T(-1) : T(1))...} + other;
}
// Replaces lanes (a, b) at distance H by (a + b, a - b); H < kLanes<T>.
template <class T, int H>
NTK_FN Vec<T> add_and_subtract(Vec<T> v) {
    return add_and_subtract<T, H>(v, std::make_integer_sequence<int, kLanes<T>>{});
}

#else  // one lane
template <class T>
NTK_FN Vec<T> sqrt_lanes(Vec<T> a) {
    return root(a);
}
template <class T>
NTK_FN std::uint64_t mask_below(T a, T b) {
    return a < b;
}
template <class T, int H>
NTK_FN T add_and_subtract(T v) {
    return v;
}
NTK_FN int lowest_bit(std::uint64_t bits) {
    int k = 0;
    for (; !(bits & 1); bits >>= 1) ++k;
    return k;
}
#endif

template <class T>
NTK_FN T sum_lanes(Vec<T> v) {
    T parts[kLanes<T>], total = 0;
    store<T>(parts, v);
    for (T part : parts) total += part;
    return total;
}

}  // namespace
