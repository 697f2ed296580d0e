// The language of kernels and how the host starts them, on a device or emulated on the host.
//
// A kernel is a template `NTK_KERNEL name(Arguments)`; inside it thread(), block() and barrier()
// mean what they say, and shared_memory<T>() is as long as its launch asked for. NTK_KERNEL_OF(n) is
// a kernel of which n blocks of kThreads threads have room on a multiprocessor, as to registers;
// NTK_KERNEL_WITH names the threads too.
// What an NTK_ARGUMENT points to in itself is read from constant memory.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cuda/memory.hpp"

#if defined(__CUDACC__)
#define NTK_KERNEL __global__ void
#define NTK_KERNEL_OF(BLOCKS) NTK_KERNEL_WITH(kThreads, BLOCKS)
#define NTK_KERNEL_WITH(THREADS, BLOCKS) __global__ void __launch_bounds__(THREADS, BLOCKS)
#define NTK_ARGUMENT const __grid_constant__
#define NTK_PRAGMA(TEXT) _Pragma(#TEXT)
#define NTK_UNROLL(...) NTK_PRAGMA(unroll __VA_ARGS__)
#define NTK_DEVICE __device__ __forceinline__
#else
#include "cuda/emulate.hpp"
#define NTK_KERNEL void
#define NTK_KERNEL_OF(BLOCKS) void
#define NTK_KERNEL_WITH(THREADS, BLOCKS) void
#define NTK_ARGUMENT const
#define NTK_UNROLL(...)
#define NTK_DEVICE inline
#endif

namespace {  // internal linkage, as in simd.hpp

using std::int64_t;

constexpr int kThreads = 256;  // of a block, unless a kernel says otherwise

#if defined(__CUDACC__)
NTK_DEVICE int thread() { return static_cast<int>(threadIdx.x); }
NTK_DEVICE int threads() { return static_cast<int>(blockDim.x); }
NTK_DEVICE int64_t block() { return blockIdx.x; }
NTK_DEVICE int64_t blocks() { return gridDim.x; }
NTK_DEVICE void barrier() { __syncthreads(); }
template <class T>
NTK_DEVICE T* shared_memory() {
    extern __shared__ __align__(16) double memory[];
    return reinterpret_cast<T*>(memory);
}
#else
struct Shape {
    int threads;
    int64_t blocks;
};
inline thread_local Shape running;
NTK_DEVICE int thread() { return static_cast<int>(ntkfast::emulation::Machine::here().thread.x); }
NTK_DEVICE int threads() { return running.threads; }
NTK_DEVICE int64_t block() { return ntkfast::emulation::Machine::here().block.x; }
NTK_DEVICE int64_t blocks() { return running.blocks; }
NTK_DEVICE void barrier() { ntkfast::emulation::Machine::here().barrier(); }
template <class T>
NTK_DEVICE T* shared_memory() {
    return reinterpret_cast<T*>(ntkfast::emulation::Machine::here().shared.data());
}
#endif

// The generation of devices that a kernel was compiled for, as 80 for sm_80.
template <class A>
int compiled_for(const ntkfast::Device& device, void (*kernel)(A)) {
#if defined(__CUDACC__)
    (void)device;
    cudaFuncAttributes attributes;
    ntkfast::check(cudaFuncGetAttributes(&attributes, kernel));
    return attributes.ptxVersion;
#else
    (void)kernel;
    return ntkfast::generation(device);
#endif
}

#if defined(__CUDACC__)
// The limit belongs to the kernel and not to the launch: all threads set the same one.
template <class A>
void allow_shared(const ntkfast::Device& device, void (*kernel)(A), std::size_t shared) {
    if (shared > 48 * 1024)
        ntkfast::check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                            static_cast<int>(ntkfast::largest_shared(device))));
}
#endif

// Starts `blocks` blocks of `size` threads with `shared` bytes of shared memory.
template <class A>
void launch(const ntkfast::Device& device, void (*kernel)(A), int64_t blocks, int size,
            std::size_t shared, A arguments) {
    if (blocks == 0) return;
#if defined(__CUDACC__)
    allow_shared(device, kernel, shared);
    kernel<<<static_cast<unsigned>(blocks), size, shared,
             static_cast<cudaStream_t>(device.stream)>>>(arguments);
    ntkfast::check(cudaGetLastError());
#else
    if (shared > ntkfast::largest_shared(device)) throw std::runtime_error("launch: shared memory");
    running = {size, blocks};
    ntkfast::emulation::Machine::here().run({blocks, size, shared}, [&] { kernel(arguments); });
#endif
}

// How many such blocks run at the same time.
template <class A>
int64_t concurrent_blocks(const ntkfast::Device& device, void (*kernel)(A), int size,
                          std::size_t shared) {
#if defined(__CUDACC__)
    allow_shared(device, kernel, shared);
    int each = 0, processors = 0;
    ntkfast::check(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&each, kernel, size, shared));
    ntkfast::check(
        cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device.ordinal));
    return int64_t{each > 0 ? each : 1} * processors;
#else
    (void)device, (void)kernel, (void)size, (void)shared;
    return 8;
#endif
}

// A block for about `size` threads' worth of elements, in which each thread takes every n-th.
template <class A>
void launch_over(const ntkfast::Device& device, void (*kernel)(A), int64_t elements, A arguments) {
    const int64_t wanted = (elements + kThreads - 1) / kThreads, most = 1 << 20;
    launch(device, kernel, wanted < most ? wanted : most, kThreads, 0, arguments);
}
NTK_DEVICE int64_t first_element() { return block() * threads() + thread(); }
NTK_DEVICE int64_t element_step() { return blocks() * threads(); }

}  // namespace
