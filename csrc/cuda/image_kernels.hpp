// Kernels of convolutional networks for a device: one pair of images per block at a time.
//
// As on the CPU the planes of displacements are worked on one after the other. Standard deviations
// are found beforehand, one image per block.
#pragma once

#include "cuda/image_steps.hpp"

namespace {

constexpr int kImageThreads = 128, kImageBlocks = 3;  // that have room on a multiprocessor

// Sums the parts of the threads, in a fixed order, into totals[2]: of T and of S.
template <class Work>
NTK_DEVICE void add_up(const Work& work, double* totals) {
    work.partial[thread()] = work.total.t, work.partial[threads() + thread()] = work.total.s;
    barrier();
    if (thread() < 2) {
        double sum = 0;
        for (int k = 0; k < threads(); ++k) sum += work.partial[thread() * threads() + k];
        totals[thread()] = sum;
    }
    barrier();
}

template <class T>
struct ImageSide {
    const T *x, *scale;  // images as they are given; null once they are prepared
    T *data, *norm, *inverse;
    NTK_DEVICE Pixels<T> image(const ImageSizes& sizes, int64_t i) const {
        return {data + i * sizes.data, norm + i * sizes.pixels, inverse + i * sizes.pixels,
                nullptr};
    }
};

template <class T>
struct ImageJob {
    ImageNet net;  // arrays on the device
    ImageSizes sizes;
    ImageSide<T> x, y;
    int64_t begin, end, m;  // images of x: begin to end; images of y
    bool symmetric, pools, whole;
    T *planes, *store;  // of all blocks; planes: null in shared memory
    double* totals;     // [end - begin][m][2]
};

template <bool SHARED, class T>
NTK_DEVICE ImageWork<T, SHARED> work_of(const ImageJob<T>& job) {
    T* const planes = SHARED ? nullptr : job.planes + block() * plane_numbers(job.sizes);
    return {job.sizes, planes, job.store + block() * pool_numbers(job.sizes),
            shared_memory<double>()};
}

// Reads images and finds their deviations; if `whole`, their kernels with themselves too.
template <class T, bool SHARED>
NTK_KERNEL_WITH(kImageThreads, kImageBlocks)
prepare_images(NTK_ARGUMENT ImageJob<T> job) {
    ImageWork<T, SHARED> work = work_of<SHARED>(job);
    for (int64_t i = job.begin + block(); i < job.end; i += blocks()) {
        const Pixels<T> side = job.x.image(job.sizes, i);
        for (int64_t k = thread(); k < job.sizes.data; k += threads())
            side.data[k] = job.x.x[i * job.sizes.data + k] * job.x.scale[i];
        barrier();
        work.total = {0, 0};
        PairAtWork<T, true, SHARED> self{{{job.net, side, side, job.pools, T(0), 0, 0}, work}};
        first_deviations<T>(self);
        walk_planes<T, true>(self, job.whole);
        if (job.whole) add_up(work, job.totals + 2 * (i - job.begin));
        barrier();
    }
}

// 0 where two images are equal, else 1; all threads of the block take part.
template <class T>
NTK_DEVICE T different_images(const ImageSizes& sizes, const Pixels<T>& x, const Pixels<T>& y,
                              double* partial) {
    double found = 0;
    for (int64_t k = thread(); k < sizes.data; k += threads())
        if (!(x.data[k] == y.data[k])) found = 1;
    partial[thread()] = found;
    barrier();
    for (int k = 0; k < threads(); ++k) found = max2(found, partial[k]);
    barrier();
    return static_cast<T>(found);
}

template <class T, bool SHARED>
NTK_KERNEL_WITH(kImageThreads, kImageBlocks)
image_pairs(NTK_ARGUMENT ImageJob<T> job) {
    ImageWork<T, SHARED> work = work_of<SHARED>(job);
    for (int64_t at = block(); at < (job.end - job.begin) * job.m; at += blocks()) {
        const int64_t i = job.begin + at / job.m, j = at % job.m;
        if (job.symmetric && j < i) continue;
        const Pixels<T> x = job.x.image(job.sizes, i), y = job.y.image(job.sizes, j);
        const T differ = job.pools ? different_images(job.sizes, x, y, work.partial) : T(1);
        PairAtWork<T, false, SHARED> pair{{{job.net, x, y, job.pools, differ, 0, 0}, work}};
        work.total = {0, 0};
        walk_planes<T, false>(pair, true);
        add_up(work, job.totals + 2 * at);
    }
}

}  // namespace
