// The memory of a thread that works on pairs of images, and how images come into it.
#pragma once

#include "formulas/image_walk.hpp"
#include "formulas/lookup.hpp"

namespace {  // internal linkage: see simd.hpp

// Where a pair goes along an axis of a pool: pairs of the displacements before, length of the plane,
// and place of the pair of windows in it.
struct PoolTarget {
    int64_t before, length, at;
};

// From one of `count` numbers of an image to that of the next image, where images lie apart: a line
// more, for otherwise the same pixel of all images may compete for one set of the cache.
template <class T>
constexpr int64_t apart(int64_t count) {
    return (count + 63) / 64 * 64 + 64 / static_cast<int64_t>(sizeof(T));
}

// Vectors between the planes of a pair, which are often a power of two long: a load waits for a store
// before it whose address has the same last twelve bits.
constexpr int64_t kLinesApart = 20;

// Vectors of images of y per task: the deviations of its images of x serve all of them. Large images,
// on which that would take much memory, come in one.
constexpr int64_t kStrips = 4, kStripBytes = 1 << 22;
template <class T>
int64_t image_strips(const ImageSizes& sizes) {
    const int64_t numbers = sizes.data + 2 * sizes.pixels + sizes.numbers;
    return numbers * static_cast<int64_t>(sizeof(Vec<T>)) <= kStripBytes ? kStrips : 1;
}
template <class T>
int64_t image_columns(const Images<T>& p) {
    return image_strips<T>(ImageSizes(p.net)) * kLanes<T>;
}

template <class T>
struct ImageScratch {
    Pixels<T> left, ones, right[kStrips];  // images of x, the same one after the other, of y
    Pixels<T> drawn[2];                    // images of y in other lanes
    Planes<T> plane, spare, slot[kSlots];
    T *ring, *sums, *heads, *tails, *shares, *store[2];
    Range* windows[2];  // of a pool, that hold each row and each column of pixels
    PoolTarget *columns, *rows;
    int64_t* counts;  // of the targets of each column
    int64_t ring_row;
    double* total;
    int64_t used;

    // With base = null only counts.
    ImageScratch(const ImageNet& net, T* base) : used(0) {
        constexpr int64_t kV = kLanes<T>;
        const auto take = [&](int64_t size) {
            T* at = base ? base + used : nullptr;
            used += (size + 63) / 64 * 64;
            return at;
        };
        const ImageSizes sizes(net);
        const int64_t widest = sizes.widest;
        const auto images = [&] {
            return Pixels<T>{take(sizes.data * kV), take(sizes.pixels * kV),
                             take(sizes.pixels * kV), take(sizes.numbers * kV)};
        };
        left = images();
        for (int64_t k = 0; k < kStrips; ++k)
            right[k] = k < image_strips<T>(sizes) ? images() : Pixels<T>{};
        for (Pixels<T>& side : drawn) side = images();
        ones = {take(apart<T>(sizes.data) * kV), take(apart<T>(sizes.pixels) * kV),
                take(apart<T>(sizes.pixels) * kV), take(apart<T>(sizes.numbers) * kV)};
        const auto planes = [&] {
            const int64_t size = (sizes.area + kLinesApart) * kV;
            return Planes<T>{take(size), take(size), take(size)};
        };
        plane = planes(), spare = sizes.grows ? planes() : Planes<T>{};
        for (int64_t k = 0; k < kSlots; ++k) slot[k] = k < sizes.slots ? planes() : Planes<T>{};
        ring_row = sizes.row * kV;
        ring = take(2 * widest * 3 * ring_row);
        sums = take(2 * ring_row);
        heads = take(2 * (widest + 1) * ring_row);
        tails = take(widest * kV), shares = take(sizes.side);
        for (T*& part : store) part = take(2 * sizes.pooled * kV);
        const auto others = [&]<class Other>(Other*& part, int64_t count) {
            part = reinterpret_cast<Other*>(
                take(count * static_cast<int64_t>(sizeof(Other) / sizeof(T))));
        };
        for (Range*& part : windows) others(part, sizes.side);
        others(columns, sizes.targets), others(rows, sizes.target_rows);
        others(counts, sizes.side), others(total, 2 * kV);
    }
};

template <class T>
int64_t image_scratch(const Images<T>& p) {
    return ImageScratch<T>(p.net, nullptr).used;
}

// Reads up to kLanes images into the lanes of vectors; the rest repeats the last one.
template <class T>
void pack_images(const ImageNet& net, const T* data, int64_t stride, const T* scale, int64_t count,
                 T* to) {
    const int64_t size = net.level[0].h * net.level[0].w * net.channels;
    const T* from[kLanes<T>];
    T factor[kLanes<T>];
    for (int64_t l = 0; l < kLanes<T>; ++l) {
        const int64_t i = smaller(l, count - 1);
        from[l] = data + i * stride, factor[l] = scale[i];
    }
    for (int64_t k = 0; k < size; ++k)
        for (int64_t l = 0; l < kLanes<T>; ++l) to[k * kLanes<T> + l] = from[l][k] * factor[l];
}

// Calls move(from, to, begin, count, all) for the parts of two arrays of images that steps look at:
// ReLU takes no angle to the deviations before it, and nothing divides by those behind it.
template <class T, class Move>
NTK_FN void each_part(const ImageNet& net, const Pixels<T>& from, const Pixels<T>& to, Move move) {
    const ImageSizes sizes(net);
    move(from.data, to.data, 0, sizes.data, sizes.data);
    move(from.numbers, to.numbers, 0, sizes.numbers, sizes.numbers);
    const auto is = [&](int64_t k, ImageOperation op) {
        return k >= 0 && k < net.count && net.step[k].operation == op;
    };
    for (int64_t k = 0; k <= net.count; ++k) {
        const Level& level = net.level[k];
        const int64_t count = level.h * level.w;
        if (!is(k, ImageOperation::kRelu) || is(k - 1, ImageOperation::kNormalize))
            move(from.norm, to.norm, level.offset, count, sizes.pixels);
        if (!is(k - 1, ImageOperation::kRelu))
            move(from.inverse, to.inverse, level.offset, count, sizes.pixels);
    }
}

// Takes images out of the lanes.
template <class T>
void unpack_images(const ImageNet& net, const Pixels<T>& many, const Pixels<T>& ones) {
    each_part(net, many, ones, [](const T* from, T* to, int64_t begin, int64_t count, int64_t all) {
        for (int64_t k = begin; k < begin + count; ++k)
            for (int64_t l = 0; l < kLanes<T>; ++l)
                to[l * apart<T>(all) + k] = from[k * kLanes<T> + l];
    });
}

// Puts images into other lanes: that of lane[l] into lane l.
template <class T>
void draw_images(const ImageNet& net, const Pixels<T>& many, IVec<T> lane, const Pixels<T>& drawn) {
    each_part(
        net, many, drawn, [lane](const T* from, T* to, int64_t begin, int64_t count, int64_t) {
            for (int64_t k = begin * kLanes<T>; k < (begin + count) * kLanes<T>; k += kLanes<T>)
                store<T>(to + k, lookup<T>(from + k, lane));
        });
}

// The image of one lane.
template <class T>
Pixels<T> one_image(const ImageNet& net, const Pixels<T>& ones, int64_t lane) {
    const int64_t pixels = lane * apart<T>(total_pixels(net));
    const int64_t size = net.level[0].h * net.level[0].w * net.channels;
    return {ones.data + lane * apart<T>(size), ones.norm + pixels, ones.inverse + pixels,
            ones.numbers + lane * apart<T>(last_level(net).numbers)};
}

}  // namespace
