// Copies from memory of the device to shared memory, which go on while the threads compute.
//
// Copies are put into groups by commit_copies(); wait_copies<N>() waits for those of this thread but
// the N newest groups. Others see them after a barrier. Before sm_80 a copy is a load and a store.
#pragma once

#include "cuda/device.hpp"

namespace {

// The 16 bytes that a thread copies, or loads, at once.
template <class T>
struct alignas(16) Quad {
    static constexpr int kSize = 16 / sizeof(T);
    T at[kSize];
};

#if defined(__CUDACC__)
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
template <class T>
NTK_DEVICE void copy_async(Quad<T>* to, const Quad<T>* from) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(
                     static_cast<unsigned>(__cvta_generic_to_shared(to))),
                 "l"(from)
                 : "memory");
}
NTK_DEVICE void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int N>
NTK_DEVICE void wait_copies() {
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}
#else
template <class T>
NTK_DEVICE void copy_async(Quad<T>* to, const Quad<T>* from) {
    *reinterpret_cast<int4*>(to) = *reinterpret_cast<const int4*>(from);
}
NTK_DEVICE void commit_copies() {}
template <int N>
NTK_DEVICE void wait_copies() {}
#endif
#else
template <class T>
NTK_DEVICE void copy_async(Quad<T>* to, const Quad<T>* from) {
    ntkfast::emulation::Machine::here().copy(to, from, sizeof *to);
}
NTK_DEVICE void commit_copies() { ntkfast::emulation::Machine::here().commit(); }
template <int N>
NTK_DEVICE void wait_copies() {
    ntkfast::emulation::Machine::here().wait(N);
}
#endif

}  // namespace
