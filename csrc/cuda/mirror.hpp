// The lower part of a symmetric matrix from the upper one, on a device.
#pragma once

#include "cuda/device.hpp"

namespace {

constexpr int kMirrored = 32;  // rows and columns of a block

template <class T>
struct Mirrored {
    T* matrix;
    int64_t ld, n;
};

// A block per pair of blocks across the diagonal; shared memory turns columns into rows.
template <class T>
NTK_KERNEL mirror_tiles(Mirrored<T> p) {
    T(&part)[kMirrored][kMirrored + 1] = *shared_memory<T[kMirrored][kMirrored + 1]>();
    const int64_t across = (p.n + kMirrored - 1) / kMirrored;
    const int own = thread() % kMirrored, step = threads() / kMirrored;
    for (int64_t tile = block(); tile < across * across; tile += blocks()) {
        const int64_t i0 = tile / across * kMirrored, j0 = tile % across * kMirrored;
        if (j0 < i0) continue;
        for (int r = thread() / kMirrored; r < kMirrored; r += step)
            if (i0 + r < p.n && j0 + own < p.n) part[r][own] = p.matrix[(i0 + r) * p.ld + j0 + own];
        barrier();
        for (int r = thread() / kMirrored; r < kMirrored; r += step) {
            const int64_t i = i0 + own, j = j0 + r;
            if (i < j && j < p.n) p.matrix[j * p.ld + i] = part[own][r];
        }
        barrier();
    }
}

template <class T>
void mirror(const ntkfast::Device& device, T* matrix, int64_t ld, int64_t n) {
    const int64_t across = (n + kMirrored - 1) / kMirrored, most = int64_t{1} << 30;
    launch(device, mirror_tiles<T>, across * across < most ? across * across : most, kThreads,
           sizeof(T[kMirrored][kMirrored + 1]), Mirrored<T>{matrix, ld, n});
}

}  // namespace
