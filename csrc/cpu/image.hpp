// Tangent kernels of convolutional networks: blocks of images of x with vectors of images of y.
#pragma once

#include "cpu/image_pools.hpp"

namespace {  // internal linkage: see simd.hpp

// What walk_planes asks of a pair of images.
template <class T, bool Self>
struct PairAtWork : PixelPairs<T, Self> {
    const ntkfast::Flag* cancelled;
    static constexpr bool kFuses = true;

    template <class Body>
    NTK_FN void each_pixel(int64_t count, Body body) const {
        for (int64_t pixel = 0; pixel < count; ++pixel) body(pixel);
    }
    template <class Body>
    NTK_FN void each_pair(int64_t level, Body body) const {
        const Frame f = this->frame(level);
        for (int64_t i = 0; i < f.rows.length; ++i) each_in_row(this->net.level[level], f, i, body);
    }
    void activated_deviations(int64_t k) const {
        const Level &now = this->net.level[k], &next = this->net.level[k + 1];
        const int64_t count = numbers_per_pixel(this->net.step[k]);
        const Pixels<T>& side = this->x;
        for (int64_t pixel = 0; pixel < next.h * next.w; ++pixel) {
            T after[kLanes<T>];
            activations_of<T>(this->net).numbers(
                this->net.step[k], side.norm + (now.offset + pixel) * kLanes<T>, after,
                side.numbers + (now.numbers + pixel * count) * kLanes<T>, kLanes<T>);
            const Vec<T> norm = load<T>(after);
            put_deviation<T>(side, next.offset + pixel, deviation<T>(norm, T(1) / norm));
        }
    }
    void window_deviations(int64_t k) const {
        ::window_deviations<T>(this->net, k, this->work, this->x);
    }
    void start() const {}  // the first convolution finds them row by row
    void convolve(int64_t k, bool relu) const { ::convolve<T>(*this, k, relu); }
    void relu(int64_t k) const {
        const Frame f = this->frame(k);
        const Planes<T> plane = this->work.plane;
        for (int64_t i = 0; i < f.rows.length; ++i)
            relu_row<T>(*this, plane, k, f, i, [&](int64_t j, const PixelPair<T>& pair) {
                plane.put(i * f.columns.length + j, pair);
            });
    }
    void activate(int64_t k) const {
        const Planes<T> plane = this->work.plane;
        each_pair(k + 1, [&](int64_t at, int64_t x, int64_t y) {
            plane.put(at, activated<T>(*this, k, x, y, plane.get(at)));
        });
    }
    void save(int64_t k) const {
        const Frame f = this->frame(k);
        copy_planes<T>(this->work.plane, this->work.slot[this->net.step[k].slot],
                       f.rows.length * f.columns.length);
    }
    void swap(int64_t k) const {
        const Frame now = this->frame(k), next = this->frame(k + 1);
        const Planes<T>&one = this->work.plane, &other = this->work.slot[this->net.step[k].slot];
        const auto size = [](const Frame& f) { return f.rows.length * f.columns.length; };
        for (int64_t at = 0; at < larger(size(now), size(next)); ++at) {
            const PixelPair<T> pair = one.get(at);
            one.put(at, other.get(at)), other.put(at, pair);
        }
    }
    void open_pool(int64_t k, const Store& to, T* sums) const {
        ::open_pool<T>(this->net, k, to, this->work, sums);
    }
    void pool(int64_t k, const Store& to, T* sums) const { pool_plane<T>(*this, k, to, sums); }
    void read(double factor) const { read_plane<T>(*this, factor); }
    bool leaves_relu(int64_t k) const { return relu_before(this->net, k); }
    bool stopped() const { return static_cast<bool>(*cancelled); }
};

// ---- tasks --------------------------------------------------------------------------------------

template <class T>
void clear_totals(const ImageScratch<T>& work) {
    for (int64_t l = 0; l < 2 * kLanes<T>; ++l) work.total[l] = 0;
}

// Reads images and finds their deviations; `whole`: their kernels with themselves too.
template <class T>
void prepare(const Images<T>& p, const ImageScratch<T>& work, const Pixels<T>& side, const T* data,
             int64_t stride, const T* scale, int64_t count, bool whole) {
    pack_images<T>(p.net, data, stride, scale, count, side.data);
    const bool pools = next_pool(p.net, 0) < p.net.count;
    PairAtWork<T, true> self{{{p.net, side, side, pools, Vec<T>{}, 0, 0}, work}, p.cancelled};
    first_deviations<T>(self);
    clear_totals(work);
    walk_planes<T, true>(self, whole);
}

// 0 in the lanes whose image of y equals that of x, else 1. Many: x has lanes too.
template <class T, bool Many>
Vec<T> different(const ImageNet& net, const T* x, const T* y) {
    constexpr std::uint64_t kAll = ~(~std::uint64_t(0) << kLanes<T>);
    const int64_t size = net.level[0].h * net.level[0].w * net.channels;
    Vec<T> found{};
    const auto at = [x](int64_t k) {
        if constexpr (Many)
            return load<T>(x + k * kLanes<T>);
        else
            return broadcast<T>(x[k]);
    };
    for (int64_t k = 0; k < size && mask_below<T>(Vec<T>{}, found) != kAll; ++k)
        found = max2(found, abs2(load<T>(y + k * kLanes<T>) - at(k)));
    return found > Vec<T>{} ? broadcast<T>(T(1)) : Vec<T>{};
}

// Writes the results of image i of x and the lanes of images of y from j on.
template <class T>
void write_images(const Images<T>& p, const double* total, int64_t i, int64_t j) {
    for (int64_t l = 0; l < kLanes<T> && j + l < p.m; ++l) {
        if (p.symmetric && j + l < i) continue;
        const ImageValues values =
            image_values(p.net, total[l], total[kLanes<T> + l], p.factor_x[i], p.factor_y[j + l]);
        put_image_values<T>(values, p.out, p.ldo, i, j + l, p.symmetric);
    }
}

// Images of x and themselves: one column.
template <class T>
void diagonal_task(const Images<T>& p, const ImageScratch<T>& work, int64_t task) {
    const int64_t i = task * kLanes<T>, count = smaller(kLanes<T>, p.n - i);
    prepare<T>(p, work, work.left, p.x + i * p.ldx, p.ldx, p.scale_x + i, count, true);
    for (int64_t l = 0; l < count; ++l) {
        const ImageValues values = image_values(p.net, work.total[l], work.total[kLanes<T> + l],
                                                p.factor_x[i + l], p.factor_x[i + l]);
        put_image_values<T>(values, p.out, p.ldo, i + l, 0, false);
    }
}

// Leaves the kernels of an image of x, or a vector of them, and a vector of images of y in the totals.
template <class T, bool Many>
void image_pairs(const Images<T>& p, const ImageScratch<T>& work, const Pixels<T>& x,
                 const Pixels<T>& y) {
    const bool pools = next_pool(p.net, 0) < p.net.count;
    const Vec<T> differ = different<T, Many>(p.net, x.data, y.data);
    PairAtWork<T, Many> pair{{{p.net, x, y, pools, differ, 0, 0}, work}, p.cancelled};
    clear_totals(work);
    walk_planes<T, false>(pair, true);
}

// The pairs of a vector of `count` images from j on with itself, each once: lane l holds that of image
// l and its neighbour s images further round. Part `part` of `parts` of the neighbours.
template <class T>
void diagonal_pairs(const Images<T>& p, const ImageScratch<T>& work, const Pixels<T>& images,
                    int64_t j, int64_t count, int64_t part, int64_t parts) {
    constexpr int64_t kV = kLanes<T>, kNeighbours = kV / 2 + 1;
    for (int64_t s = kNeighbours * part / parts; s < kNeighbours * (part + 1) / parts; ++s) {
        if (*p.cancelled) return;
        typename Simd<T>::Bits first[kV], second[kV];
        for (int64_t l = 0; l < kV; ++l) {
            const int64_t other = (l + s) % kV;
            first[l] = static_cast<typename Simd<T>::Bits>(smaller(l, other));
            second[l] = static_cast<typename Simd<T>::Bits>(larger(l, other));
        }
        draw_images<T>(p.net, images, load_bits<T>(first), work.drawn[0]);
        draw_images<T>(p.net, images, load_bits<T>(second), work.drawn[1]);
        image_pairs<T, true>(p, work, work.drawn[0], work.drawn[1]);
        for (int64_t l = 0; l < kV; ++l) {
            const int64_t a = j + first[l], b = j + second[l];
            if (second[l] >= count) continue;
            const ImageValues values = image_values(p.net, work.total[l], work.total[kV + l],
                                                    p.factor_x[a], p.factor_y[b]);
            put_image_values<T>(values, p.out, p.ldo, a, b, true);
        }
    }
}

template <class T>
void image_task(const Images<T>& p, int64_t task, T* scratch, int64_t* packed) {
    const ImageScratch<T> work(p.net, scratch);
    if (p.diagonal) return diagonal_task<T>(p, work, task);
    const int64_t blocks = (p.n + p.rows - 1) / p.rows, tile = task / blocks;
    const int64_t columns = image_columns<T>(p), first = tile * columns;
    const int64_t begin = (task % blocks) * p.rows, last = smaller(first + columns, p.m);
    // Behind the last image of x that has a pair with one of y before `stop`.
    const auto end_of = [&](int64_t stop) {
        return smaller(begin + p.rows, p.symmetric ? smaller(p.n, stop) : p.n);
    };
    if (begin >= end_of(last)) return;
    if (*packed != tile)
        for (int64_t j = first; j < last; j += kLanes<T>)
            prepare<T>(p, work, work.right[(j - first) / kLanes<T>], p.y + j * p.ldy, p.ldy,
                       p.scale_y + j, smaller(kLanes<T>, last - j), false);
    *packed = tile;
    prepare<T>(p, work, work.left, p.x + begin * p.ldx, p.ldx, p.scale_x + begin,
               end_of(last) - begin, false);
    unpack_images<T>(p.net, work.left, work.ones);
    // Other lanes cost little beside many planes, and are worth it where half of the pairs are needed.
    const bool draws = p.symmetric && p.net.level[0].reach[0] + p.net.level[0].reach[1] > 0;
    for (int64_t j = first; j < last; j += kLanes<T>) {
        const int64_t count = smaller(kLanes<T>, p.m - j);
        if (draws && j <= begin && begin < j + count && count > kLanes<T> / 2 + 1) {
            diagonal_pairs<T>(p, work, work.right[(j - first) / kLanes<T>], j, count,
                              (begin - j) / p.rows, ceil_div(count, p.rows));
            continue;
        }
        const int64_t end = end_of(smaller(j + kLanes<T>, last));
        for (int64_t i = begin; i < end; ++i) {
            if (*p.cancelled) return;
            image_pairs<T, false>(p, work, one_image<T>(p.net, work.ones, i - begin),
                                  work.right[(j - first) / kLanes<T>]);
            write_images<T>(p, work.total, i, j);
        }
    }
}

}  // namespace
