// Which pairs of pixels two images have: displacements, and the plane of pairs of each.
//
// All pairs of a pixel p of x and the pixel p + d of y form one plane, and a convolution of stride s
// makes that of d by sums over windows inside that of s d: d by d, everything stays in cache (after
// Arora et al., "On exact computation with an infinitely wide neural net", NeurIPS 2019; the recursion
// only). The lanes of a vector are images of y, so that borders and small images cost nothing.
#pragma once

#include "formulas/problems.hpp"
#include "formulas/simd.hpp"

namespace {  // internal linkage: see simd.hpp

using namespace ntkfast;
using std::int64_t;

struct Displacements {  // of one axis, consecutive multiples of the scale of a level
    int64_t first, count;
    NTK_FN int64_t opposite(int64_t k) const {
        return first < 0 ? count - 1 - k : k > 0 ? count - k : 0;
    }
};

// Up to a reach; of a circle with `residues` of them these.
NTK_FN Displacements within(int64_t reach, int64_t residues, bool circular) {
    if (circular && 2 * reach + 1 >= residues) return {0, residues};
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

// The displacements of an axis whose pairs lie one after the other: those that leave any.
struct Kept : Displacements {
    int64_t scale, size;
    bool circular;
    NTK_FN Kept(int64_t reach, int64_t unit, int64_t pixels, bool circle)
        : Displacements(
              within(circle ? reach : smaller(reach, (pixels - 1) / unit), pixels / unit, circle)),
          scale(unit),
          size(pixels),
          circular(circle) {}
    NTK_FN Segment pairs(int64_t k) const { return pairs_at((first + k) * scale, size, circular); }
    // Pixel pairs of the displacements before the k-th.
    NTK_FN int64_t before(int64_t k) const {
        if (circular) return k * size;
        const int64_t reach = -first;  // lengths rise to `size` at no displacement, then fall
        const int64_t left = smaller(k, reach), right = larger(0, k - 1 - reach);
        return k * size - scale * (left * (2 * reach - left + 1) / 2 + right * (right + 1) / 2);
    }
    // The number of a displacement in pixels, or -1.
    NTK_FN int64_t find(int64_t d) const {
        if (circular && d < 0) d += size;
        int64_t k = d;
        if (scale > 1) {
            k = d / scale;
            if (k * scale != d) return -1;
        }
        k -= first;
        if (circular && k * scale >= size) k -= size / scale;
        return k >= 0 && k < count ? k : -1;
    }
};

// Where the planes of a level lie one after the other.
struct Store {
    Kept rows, columns;
    NTK_FN Store(const Level& level, const int64_t* reach, bool circular)
        : rows(reach[0], level.scale[0], level.h, circular),
          columns(reach[1], level.scale[1], level.w, circular) {}
    NTK_FN int64_t all_columns() const { return columns.before(columns.count); }
    NTK_FN int64_t size() const { return rows.before(rows.count) * all_columns(); }
    // Where the plane of the displacements number a and b begins.
    NTK_FN int64_t plane(int64_t a, int64_t b) const {
        return rows.before(a) * all_columns() + rows.pairs(a).length * columns.before(b);
    }
};

template <class T>
NTK_FN const ImageActivations<T>& activations_of(const ImageNet& net) {
    if constexpr (sizeof(T) == 4)
        return net.f32;
    else
        return net.f64;
}
NTK_FN const Level& last_level(const ImageNet& net) { return net.level[net.count]; }
NTK_FN int64_t total_pixels(const ImageNet& net) {
    const Level& last = last_level(net);
    return last.offset + last.h * last.w;
}

// The level of what step k, an addition or a swap, finds in its slot.
NTK_FN const Level& saved_level(const ImageNet& net, int64_t k) {
    const std::int32_t slot = net.step[k].slot;
    for (--k;; --k) {
        const ImageOperation op = net.step[k].operation;
        if (net.step[k].slot == slot &&
            (op == ImageOperation::kSave || op == ImageOperation::kSwap))
            return net.level[k];
    }
}

// Where window i of a step begins, along rows (axis 0) or columns.
NTK_FN int64_t window_at(const ImageStep& step, int axis, int64_t i) {
    return i * step.stride[axis] - step.before[axis];
}

// The windows of a pool that hold a pixel, of `count` along an axis: from `first` to before `end`.
struct Range {
    int64_t first, end;
};
NTK_FN Range windows_with(const ImageStep& step, int axis, int64_t pixel, int64_t count) {
    const int64_t at = pixel + step.before[axis], window = step.window[axis];
    const int64_t stride = step.stride[axis];
    return {at < window ? 0 : (at - window) / stride + 1, smaller(at / stride + 1, count)};
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
        : rows(pairs_at(di * level.scale[0], level.h, circular)),
          columns(pairs_at(dj * level.scale[1], level.w, circular)) {}
};

// The displacements that planes begin with at a level.
struct Displaced {
    Displacements rows, columns;
    NTK_FN Displaced(const Level& level, const int64_t* reach, bool circular)
        : rows(within(reach[0], level.h / level.scale[0], circular)),
          columns(within(reach[1], level.w / level.scale[1], circular)) {}
};

// How often a displacement of an image and itself counts: it has the same sum as the opposite one.
NTK_FN double multiplicity(const Displaced& all, int64_t a, int64_t b) {
    const int64_t own = a * all.columns.count + b;
    const int64_t other = all.rows.opposite(a) * all.columns.count + all.columns.opposite(b);
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

// How many numbers a pixel has for step k: those that its activation asks for, and the root of E[s'^2].
NTK_FN int64_t numbers_per_pixel(const ImageStep& step) {
    if (step.operation != ImageOperation::kActivate) return 0;
    return activation_stats(step.kind, 0) + 1;
}

// Whether convolution k makes planes that do not fit where those before it were read.
NTK_FN bool grows(const ImageNet& net, int64_t k) {
    const ImageStep& step = net.step[k];
    const Level &now = net.level[k], &next = net.level[k + 1];
    return (next.h - 1) * step.stride[0] >= now.h || (next.w - 1) * step.stride[1] >= now.w ||
           step.before[0] >= step.window[0] || step.before[1] >= step.window[1];
}

// Windows of a pool that share a pixel of an axis, at most.
NTK_FN int64_t overlap(const ImageStep& step, int axis) {
    return (step.window[axis] - 1) / step.stride[axis] + 1;
}

// Numbers of an image and of the memory that an engine works in.
struct ImageSizes {
    int64_t area = 0, pixels = 0, data = 0;  // of the largest level, of all levels; of an image
    int64_t numbers = 0;                     // of the activations
    int64_t slots = 0, widest = 1;           // saved at once; the largest window
    int64_t row = 0;                         // the longest row with the margins of windows
    int64_t side = 0;                        // the longest row or column of pixels
    int64_t pooled = 0;                      // pairs behind a pool, at most
    int64_t targets =
        1;  // columns of a pool times the pairs of windows that a pair of pixels is in
    int64_t target_rows = 1;
    bool grows = false;  // some convolution does

    explicit ImageSizes(const ImageNet& net)
        : pixels(total_pixels(net)),
          data(net.level[0].h * net.level[0].w * net.channels),
          numbers(last_level(net).numbers) {
        for (int64_t k = 0; k <= net.count; ++k) {
            const Level& level = net.level[k];
            area = larger(area, level.h * level.w);
            side = larger(side, larger(level.h, level.w));
        }
        for (int64_t k = 0; k < net.count; ++k) {
            const ImageStep& step = net.step[k];
            const Level &now = net.level[k], &next = net.level[k + 1];
            const ImageOperation op = step.operation;
            if (op == ImageOperation::kConv) {
                widest = larger(widest, larger(step.window[0], step.window[1]));
                row = larger(row, larger(now.w + step.before[1],
                                         (next.w - 1) * step.stride[1] + step.window[1]));
                area = larger(area, next.h * now.w);
                grows = grows || ::grows(net, k);
            }
            if (op == ImageOperation::kSave || op == ImageOperation::kSwap)
                slots = larger(slots, step.slot + 1);
            if (op != ImageOperation::kPool) continue;
            const int64_t h = overlap(step, 0), w = overlap(step, 1);
            targets = larger(targets, now.w * w * w), target_rows = larger(target_rows, h * h);
            pooled = larger(pooled, Store(next, next.reach, net.circular).size());
            if (next.own[0] >= 0)
                pooled = larger(pooled, Store(next, next.own, net.circular).size());
        }
    }
};

}  // namespace
