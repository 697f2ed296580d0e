// Steps of convolutional networks on a device: the threads of a block share the pixels of a plane.
//
// Planes lie in shared memory where they fit; window sums are taken along columns first, then along
// rows.
#pragma once

#include "cuda/device.hpp"
#include "formulas/image_walk.hpp"

namespace {

// Numbers that a block works on: the planes, in shared memory or not, and the sums of pools.
NTK_FN int64_t plane_numbers(const ImageSizes& sizes) { return (8 + 3 * sizes.slots) * sizes.area; }
NTK_FN int64_t pool_numbers(const ImageSizes& sizes) { return 4 * sizes.pooled; }

struct Totals {
    double t, s;
};

template <class T>
struct ImageWork {
    Planes<T> plane, other, slot[kSlots];
    T *sums_s, *sums_t;  // windows along columns
    T* store[2];
    double* partial;  // [2][threads]
    Totals total;     // this thread's part

    NTK_DEVICE ImageWork(const ImageSizes& sizes, T* planes, T* pools, double* totals)
        : partial(totals), total{0, 0} {
        const auto take = [&] {
            T* const at = planes;
            planes += sizes.area;
            return at;
        };
        const auto take_plane = [&](Planes<T>& to) { to.s = take(), to.v = take(), to.t = take(); };
        take_plane(plane), take_plane(other);
        for (int64_t k = 0; k < kSlots; ++k)
            if (k < sizes.slots) take_plane(slot[k]);
        sums_s = take(), sums_t = take();
        store[0] = pools, store[1] = pools + 2 * sizes.pooled;
    }
};

template <class T, bool Self>
struct PairOnDevice : PairOfImages<T, Self> {
    ImageWork<T>& work;
};

// Calls body(index in the plane, row, column, pixel of x, pixel of y) for this thread's pairs.
template <class Body>
NTK_DEVICE void own_pairs(const Level& level, const Frame& f, Body body) {
    for (int64_t at = thread(); at < f.rows.length * f.columns.length; at += threads()) {
        const int64_t i = at / f.columns.length, j = at % f.columns.length;
        body(at, i, j, level.offset + (f.rows.x + i) * level.w + f.columns.x + j,
             level.offset + f.rows.other(i, level.h) * level.w + f.columns.other(j, level.w));
    }
}

template <class T, bool Self>
NTK_DEVICE PixelPair<T> after_relu(const PairOnDevice<T, Self>& p, int64_t at, int64_t x,
                                   int64_t y) {
    const PixelPair<T> pair = p.work.plane.get(at);
    return relu_pair<T, false>(pair.s, pair.v, pair.t, p.left(p.x.norm, x) * p.right(p.y.norm, y));
}

// The sum of the variances of the window of a pixel after a convolution.
template <class T>
NTK_DEVICE T window_variance(const ImageNet& net, int64_t k, const Pixels<T>& side, int64_t pixel) {
    const ImageStep& step = net.step[k];
    const Level &now = net.level[k], &next = net.level[k + 1];
    const int64_t start = step.inside ? 0 : -(step.size / 2);
    T sum = 0;
    for (int64_t a = 0; a < step.size; ++a)
        for (int64_t b = 0; b < step.size; ++b) {
            const int64_t row = met(pixel / next.w + a + start, now.h, net.circular),
                          column = met(pixel % next.w + b + start, now.w, net.circular);
            if (row < 0 || column < 0) continue;
            const T n = side.norm[now.offset + row * now.w + column];
            sum += n * n;
        }
    return sum;
}

template <class T, bool Self, bool Raw>
NTK_DEVICE void convolve_pairs(const PairOnDevice<T, Self>& p, int64_t k) {
    const ImageStep& step = p.net.step[k];
    const Frame now = p.frame(k), next = p.frame(k + 1);
    const int64_t start = step.inside ? 0 : -(step.size / 2), width = now.columns.length;
    const Planes<T> plane = p.work.plane, other = p.work.other;
    const auto tap = [&](int64_t i, const Segment& along) {
        return met(i + start, along.length, p.net.circular);
    };
    for (int64_t at = thread(); at < next.rows.length * width; at += threads()) {
        T s = 0, t = 0;
        for (int64_t a = 0; a < step.size; ++a) {
            const int64_t row = tap(at / width + a, now.rows);
            if (row < 0) continue;
            s += plane.s[row * width + at % width];
            if constexpr (!Raw) t += plane.t[row * width + at % width];
        }
        p.work.sums_s[at] = s, p.work.sums_t[at] = t;
    }
    barrier();
    own_pairs(
        p.net.level[k + 1], next, [&](int64_t at, int64_t i, int64_t j, int64_t x, int64_t y) {
            T s = 0, t = 0;
            for (int64_t b = 0; b < step.size; ++b) {
                const int64_t column = tap(j + b, now.columns);
                if (column < 0) continue;
                s += p.work.sums_s[i * width + column];
                t += p.work.sums_t[i * width + column];
            }
            const auto better = [&](T sum, T inverse_x, T inverse_y) {
                return window_defect<T, Raw>(
                    p, k, i, j, sum, inverse_x, inverse_y, [&](int64_t a, int64_t b) {
                        return plane.get(tap(i + a, now.rows) * width + tap(j + b, now.columns));
                    });
            };
            other.put(at, convolved<T, Raw>(p, step, x, y, s, t, better));
        });
    barrier();
    p.work.plane = other, p.work.other = plane;
}

// Adds the plane to those after step k, a pool. A thread takes whole blocks of pixels of x, whose
// pairs no other thread adds to, and in the order of the CPU.
template <class T, bool Self>
NTK_DEVICE void pool_pairs(const PairOnDevice<T, Self>& p, int64_t k, const Store& to, T* sums) {
    const Frame f = p.frame(k);
    const Level& level = p.net.level[k];
    const int64_t block = p.net.step[k].size, half = to.size(), all = to.all_columns();
    const T share = T(1) / static_cast<T>(block * block * block * block);
    for (int64_t target = thread(); target < to.h * to.w; target += threads()) {
        const int64_t xr = target / to.w, xc = target % to.w;
        for (int64_t e = 0; e < block * block; ++e) {
            const int64_t i = xr * block + e / block - f.rows.x,
                          j = xc * block + e % block - f.columns.x;
            if (i < 0 || i >= f.rows.length || j < 0 || j >= f.columns.length) continue;
            const int64_t a = to.find(to.rows, f.rows.other(i, level.h) / block - xr, to.h);
            const int64_t b = to.find(to.columns, f.columns.other(j, level.w) / block - xc, to.w);
            if (a < 0 || b < 0) continue;
            const Segment rows = pairs_at(to.rows.first + a, to.h, to.circular),
                          columns = pairs_at(to.columns.first + b, to.w, to.circular);
            T* const s = sums + to.before(to.rows, to.h, a) * all +
                         rows.length * to.before(to.columns, to.w, b) +
                         (xr - rows.x) * columns.length + xc - columns.x;
            const int64_t at = i * f.columns.length + j;
            s[0] += share * p.work.plane.s[at];
            s[half] += share * p.work.plane.t[at];
        }
    }
    barrier();
}

// Adds this thread's part of the weighted sums of T and S, after a last ReLU.
template <class T, bool Self>
NTK_DEVICE void read_pairs(const PairOnDevice<T, Self>& p, double factor) {
    const Level& level = last_level(p.net);
    const Frame f = p.frame(p.net.count);
    const bool relu = relu_before(p.net, p.net.count);
    T s = 0, t = 0;
    own_pairs(level, f, [&](int64_t at, int64_t i, int64_t j, int64_t x, int64_t y) {
        const PixelPair<T> pair = relu ? after_relu(p, at, x, y) : p.work.plane.get(at);
        const T share = static_cast<T>(
            p.net.weight_h[(f.rows.x + i) * level.h + f.rows.other(i, level.h)] *
            p.net.weight_w[(f.columns.x + j) * level.w + f.columns.other(j, level.w)]);
        s += share * pair.s, t += share * pair.t;
    });
    p.work.total.s += factor * static_cast<double>(s);
    p.work.total.t += factor * static_cast<double>(t);
    barrier();
}

// What walk_planes asks of a pair of images. All threads of the block take part.
template <class T, bool Self>
struct PairAtWork : PairOnDevice<T, Self> {
    static constexpr bool kFuses = false;

    template <class Body>
    NTK_DEVICE void each_pixel(int64_t count, Body body) const {
        for (int64_t pixel = thread(); pixel < count; pixel += threads()) body(pixel);
        barrier();
    }
    template <class Body>
    NTK_DEVICE void each_pair(int64_t level, Body body) const {
        own_pairs(this->net.level[level], this->frame(level),
                  [&](int64_t at, int64_t, int64_t, int64_t x, int64_t y) { body(at, x, y); });
        barrier();
    }
    NTK_DEVICE void window_deviations(int64_t k) const {
        const ImageStep& step = this->net.step[k];
        const Level& next = this->net.level[k + 1];
        each_pixel(next.h * next.w, [&](int64_t pixel) {
            const T variance = window_variance(this->net, k, this->x, pixel);
            put_deviation<T>(
                this->x, next.offset + pixel,
                deviation<T>(variance * static_cast<T>(step.gain) + static_cast<T>(step.bias)));
        });
    }
    NTK_DEVICE void convolve(int64_t k, bool) const {
        if (k == 0)
            convolve_pairs<T, Self, true>(*this, k);
        else
            convolve_pairs<T, Self, false>(*this, k);
    }
    NTK_DEVICE void relu(int64_t k) const {
        each_pair(k + 1, [&](int64_t at, int64_t x, int64_t y) {
            this->work.plane.put(at, after_relu(*this, at, x, y));
        });
    }
    NTK_DEVICE void save(int64_t k) const {
        const Frame f = this->frame(k);
        const Planes<T>& slot = this->work.slot[this->net.step[k].slot];
        each_pixel(f.rows.length * f.columns.length,
                   [&](int64_t at) { slot.put(at, this->work.plane.get(at)); });
    }
    NTK_DEVICE void clear(T* sums, int64_t count) const {
        each_pixel(count, [&](int64_t e) { sums[e] = 0; });
    }
    NTK_DEVICE void pool(int64_t k, const Store& to, T* sums) const {
        pool_pairs(*this, k, to, sums);
    }
    NTK_DEVICE void read(double factor) const { read_pairs(*this, factor); }
    NTK_DEVICE bool leaves_relu(int64_t k) const {
        return k == this->net.count && relu_before(this->net, k);
    }
    NTK_DEVICE bool stopped() const { return false; }
};

}  // namespace
