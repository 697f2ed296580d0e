// Numbers of a table by an index of each lane.
#pragma once

#include "formulas/simd.hpp"

namespace {

// table[index] in every lane.
template <class T>
NTK_FN Vec<T> lookup(const T* table, IVec<T> index) {
#if !defined(NTK_VECTORS)
    return table[index];
#elif defined(__AVX512F__) && defined(__AVX512DQ__)
    if constexpr (sizeof(T) == 8)
        return (Vec<T>)_mm512_i64gather_pd((__m512i)index, table, 8);
    else
        return (Vec<T>)_mm512_i32gather_ps((__m512i)index, table, 4);
#elif defined(__AVX2__)
    if constexpr (sizeof(T) == 8)
        return (Vec<T>)_mm256_i64gather_pd(table, (__m256i)index, 8);
    else
        return (Vec<T>)_mm256_i32gather_ps(table, (__m256i)index, 4);
#else
    Vec<T> v;
    for (int k = 0; k < kLanes<T>; ++k) v[k] = table[index[k]];
    return v;
#endif
}

// One table row of COLUMNS entries, a power of two, fetched by the lowest bits of each lane of `index`.
template <class T, int COLUMNS = 16>
struct Row {
#if defined(__AVX512F__) && defined(__AVX512DQ__)
    static constexpr bool kTwo = COLUMNS > kLanes<T>;
    Vec<T> low, high;  // `high` of two vectors only
    NTK_FN explicit Row(const T* p) : low(load<T>(p)) {
        if constexpr (kTwo) high = load<T>(p + kLanes<T>);
    }
    NTK_FN Row(Vec<T> first, Vec<T> second) : low(first), high(second) {}
    NTK_FN Vec<T> operator[](IVec<T> index) const {
        if constexpr (sizeof(T) == 8)
            return (Vec<T>)_mm512_permutex2var_pd((__m512d)low, (__m512i)index, (__m512d)high);
        else if constexpr (kTwo)
            return (Vec<T>)_mm512_permutex2var_ps((__m512)low, (__m512i)index, (__m512)high);
        else
            return (Vec<T>)_mm512_permutexvar_ps((__m512i)index, (__m512)low);
    }
#else
    const T* row;
    NTK_FN explicit Row(const T* p) : row(p) {}
    NTK_FN Vec<T> operator[](IVec<T> index) const { return lookup<T>(row, index & (COLUMNS - 1)); }
#endif
};
#if defined(NTK_NEON)
template <>
struct Row<float, 16> {  // four registers, of which one instruction takes any bytes
    uint8x16x4_t row;
    NTK_FN explicit Row(const float* p)
        : row(vld1q_u8_x4(reinterpret_cast<const std::uint8_t*>(p))) {}
    NTK_FN Vec<float> operator[](IVec<float> index) const {
        const IVec<float> bytes = (index & 15) * 0x04040404 + 0x03020100;
        return (Vec<float>)vqtbl4q_u8(row, (uint8x16_t)bytes);
    }
};
#endif

}  // namespace
