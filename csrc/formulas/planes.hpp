// Which pairs of pixels two images have: displacements, and the plane of pairs of each.
//
// All pairs of a pixel p of x and the pixel p + d of y form one plane, and a convolution of stride 1
// sums windows inside it: d by d, everything stays in cache (after Arora et al., "On exact
// computation with an infinitely wide neural net", NeurIPS 2019; the recursion only). The lanes of
// a vector are images of y, so that borders and small images cost nothing.
#pragma once

#include "formulas/problems.hpp"
#include "formulas/simd.hpp"

namespace {  // internal linkage: see simd.hpp

using namespace ntkfast;
using std::int64_t;

struct Displacements {  // of one axis, consecutive
    int64_t first, count;
};

// Of an axis with `size` pixels; those of a circle are residues.
NTK_FN Displacements within(int64_t reach, int64_t size, bool circular) {
    if (circular && 2 * reach + 1 >= size) return {0, size};
    return {-reach, 2 * reach + 1};
}

struct Segment {  // the pixel pairs of one displacement along one axis
    int64_t x, y, length;
    NTK_FN int64_t other(int64_t i, int64_t size) const {  // the pixel of y; size: of a circle
        return y + i < size ? y + i : y + i - size;
    }
};
NTK_FN Segment pairs_at(int64_t d, int64_t size, bool circular) {
    if (circular) return {0, d < 0 ? d + size : d, size};
    const int64_t x = d < 0 ? -d : 0, length = size - (d < 0 ? -d : d);
    return {x, x + d, length < 0 ? 0 : length};
}

// Where the planes of a level lie one after the other.
struct Store {
    Displacements rows, columns;
    int64_t h, w;
    bool circular;
    NTK_FN Store(const Level& level, const int64_t* reach, bool circle)
        : rows(within(reach[0], level.h, circle)),
          columns(within(reach[1], level.w, circle)),
          h(level.h),
          w(level.w),
          circular(circle) {}
    // Pixel pairs of the displacements of an axis before the k-th.
    NTK_FN int64_t before(const Displacements& all, int64_t size, int64_t k) const {
        if (circular) return k * size;
        const int64_t reach = -all.first;  // lengths rise to `size` at no displacement, then fall
        const int64_t left = smaller(k, reach), right = larger(0, k - 1 - reach);
        return k * size - left * (2 * reach - left + 1) / 2 - right * (right + 1) / 2;
    }
    NTK_FN int64_t all_columns() const { return before(columns, w, columns.count); }
    NTK_FN int64_t size() const { return before(rows, h, rows.count) * all_columns(); }
    // The number of a displacement, or -1.
    NTK_FN int64_t find(const Displacements& all, int64_t d, int64_t size) const {
        int64_t k = d - all.first;
        if (circular) k = k < 0 ? k + size : k >= size ? k - size : k;
        return k >= 0 && k < all.count ? k : -1;
    }
};

NTK_FN const Level& last_level(const ImageNet& net) { return net.level[net.count]; }
NTK_FN int64_t total_pixels(const ImageNet& net) {
    const Level& last = last_level(net);
    return last.offset + last.h * last.w;
}

// The level that step k, an addition, adds.
NTK_FN const Level& saved_level(const ImageNet& net, int64_t k) {
    const std::int32_t slot = net.step[k].slot;
    while (net.step[k].operation != ImageOperation::kSave || net.step[k].slot != slot) --k;
    return net.level[k];
}

// The pixel of an axis with `size` of them that a window meets at i, or -1 outside.
NTK_FN int64_t met(int64_t i, int64_t size, bool circular) {
    if (circular) return i < 0 ? i + size : i >= size ? i - size : i;
    return i >= 0 && i < size ? i : -1;
}

// The pixel pairs that a plane holds: one of x and one of y per row and column.
struct Frame {
    Segment rows, columns;
    NTK_FN Frame(const Level& level, int64_t di, int64_t dj, bool circular)
        : rows(pairs_at(di, level.h, circular)), columns(pairs_at(dj, level.w, circular)) {}
};

// Where the plane of the displacements number a and b begins.
NTK_FN int64_t plane_at(const Store& store, int64_t a, int64_t b) {
    const int64_t height = pairs_at(store.rows.first + a, store.h, store.circular).length;
    return store.before(store.rows, store.h, a) * store.all_columns() +
           height * store.before(store.columns, store.w, b);
}

// How often a displacement of an image and itself counts: it has the same sum as the opposite one.
NTK_FN double multiplicity(const Store& store, int64_t a, int64_t b) {
    const int64_t other =
        store.find(store.rows, -(store.rows.first + a), store.h) * store.columns.count +
        store.find(store.columns, -(store.columns.first + b), store.w);
    const int64_t own = a * store.columns.count + b;
    return own < other ? 2 : own == other ? 1 : 0;
}

// ---- what the steps of a network say about its planes -------------------------------------------

// Whether step k is ReLU behind a convolution of ReLU: no covariance is then negative, and the plane
// leaves them out.
NTK_FN bool is_positive(const ImageNet& net, int64_t k) {
    return k >= 2 && k < net.count && net.step[k].operation == ImageOperation::kRelu &&
           net.step[k - 1].operation == ImageOperation::kConv &&
           net.step[k - 2].operation == ImageOperation::kRelu;
}

// Whether step k, or the read-out behind the last, follows on ReLU: it may then take the results of
// ReLU at once and not from a plane.
NTK_FN bool relu_before(const ImageNet& net, int64_t k) {
    return k > 0 && net.step[k - 1].operation == ImageOperation::kRelu;
}

NTK_FN int64_t next_pool(const ImageNet& net, int64_t k) {
    while (k < net.count && net.step[k].operation != ImageOperation::kPool) ++k;
    return k;
}

// Numbers of an image and of the memory that an engine works in.
struct ImageSizes {
    int64_t area = 0, pixels = 0, data = 0;  // of the first level, of all levels; of an image
    int64_t slots = 0, widest = 1;           // saved at once; the largest window
    int64_t pooled = 0;                      // pairs behind a pool, at most

    explicit ImageSizes(const ImageNet& net)
        : area(net.level[0].h * net.level[0].w),
          pixels(total_pixels(net)),
          data(area * net.channels) {
        for (int64_t k = 0; k < net.count; ++k) {
            const ImageStep& step = net.step[k];
            if (step.operation == ImageOperation::kConv) widest = larger(widest, step.size);
            if (step.operation == ImageOperation::kSave) slots = larger(slots, step.slot + 1);
            if (step.operation != ImageOperation::kPool) continue;
            const Level& next = net.level[k + 1];
            pooled = larger(pooled, Store(next, next.reach, net.circular).size());
            if (next.own[0] >= 0)
                pooled = larger(pooled, Store(next, next.own, net.circular).size());
        }
    }
};

}  // namespace
