// What caches are told: to fetch a line that will be written, or that numbers go past them.
#pragma once

#include "formulas/simd.hpp"

namespace {

constexpr int kLine = 64;  // bytes

// Asks for the cache line at p, which need not be there, to write to it or to read it.
template <bool WRITE = true>
NTK_FN void prefetch([[maybe_unused]] const void* p) {
#if defined(NTK_VECTORS)
    __builtin_prefetch(p, WRITE);
#endif
}

// Writes a vector past the caches, where the processor can; p is a multiple of its size. Other threads may
// see it after `drain`.
template <class T>
NTK_FN void stream(T* p, Vec<T> v) {
#if defined(NTK_X86)
    if constexpr (sizeof(T) == 8)
        NTK_X86(stream_pd)(p, (Doubles)v);
    else
        NTK_X86(stream_ps)(p, (Floats)v);
#else
    store<T>(p, v);
#endif
}
NTK_FN void drain() {
#if defined(NTK_X86)
    _mm_sfence();
#endif
}

}  // namespace
