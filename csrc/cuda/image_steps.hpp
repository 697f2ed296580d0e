// Steps of convolutional networks on a device: the threads of a block share the pixels of a plane.
//
// Planes lie in shared memory where they fit; window sums are taken along columns first, then along
// rows.
#pragma once

#include "cuda/device.hpp"
#include "formulas/image_walk.hpp"

namespace {

// Numbers that a block works on: the planes, in shared memory or not, and the sums of pools.
NTK_FN int64_t plane_numbers(const ImageSizes& sizes) { return (9 + 3 * sizes.slots) * sizes.area; }
NTK_FN int64_t pool_numbers(const ImageSizes& sizes) { return 4 * sizes.pooled; }

struct Totals {
    double t, s;
};

// Where the planes of a block lie behind its partial sums, if they are in shared memory.
template <class T>
NTK_DEVICE T* shared_planes() {
    return reinterpret_cast<T*>(shared_memory<double>() + 2 * threads());
}

// As Planes, by where they begin: an address that is kept would not tell which memory it is of.
template <class T, bool SHARED>
struct PlanesOfBlock {
    int first, area;
    T* memory;  // unless SHARED
    NTK_DEVICE T* s() const {
        if constexpr (SHARED)
            return shared_planes<T>() + first;
        else
            return memory + first;
    }
    NTK_DEVICE T* t() const { return s() + 2 * area; }
    NTK_DEVICE void start(int64_t at, T covariance) const { s()[at] = covariance; }
    NTK_DEVICE PixelPair<T> get(int64_t at) const {
        return {s()[at], s()[area + at], s()[2 * area + at]};
    }
    NTK_DEVICE void put(int64_t at, const PixelPair<T>& pair) const {
        s()[at] = pair.s, s()[area + at] = pair.v, s()[2 * area + at] = pair.t;
    }
};

template <class T, bool SHARED>
struct ImageWork {
    PlanesOfBlock<T, SHARED> plane, other, slot[kSlots];
    PlanesOfBlock<T, SHARED> sums;  // windows along columns, of s and of t, but not of v
    T* store[2];
    double* partial;  // [2][threads]
    Totals total;     // this thread's part

    NTK_DEVICE ImageWork(const ImageSizes& sizes, T* planes, T* pools, double* totals)
        : partial(totals), total{0, 0} {
        const int area = static_cast<int>(sizes.area);
        const auto number = [&](int k) {
            return PlanesOfBlock<T, SHARED>{3 * area * k, area, planes};
        };
        plane = number(0), other = number(1), sums = number(2);
        for (int k = 0; k < kSlots; ++k) slot[k] = number(3 + k);
        store[0] = pools, store[1] = pools + 2 * sizes.pooled;
    }
};

template <class T, bool Self, bool SHARED>
struct PairOnDevice : PairOfImages<T, Self> {
    ImageWork<T, SHARED>& work;
};

// Calls body(index in the plane, row, column, pixel of x, pixel of y) for this thread's pairs.
template <class Body>
NTK_DEVICE void own_pairs(const Level& level, const Frame& f, Body body) {
    const int columns = static_cast<int>(f.columns.length);
    const int count = static_cast<int>(f.rows.length) * columns;
    for (int at = thread(); at < count; at += threads()) {  // 32 bits: divisions are long
        const int64_t i = at / columns, j = at % columns;
        body(at, i, j, level.offset + (f.rows.x + i) * level.w + f.columns.x + j,
             level.offset + f.rows.other(i, level.h) * level.w + f.columns.other(j, level.w));
    }
}

template <class T, bool Self, bool SHARED>
NTK_DEVICE PixelPair<T> after_relu(const PairOnDevice<T, Self, SHARED>& p, int64_t at, int64_t x,
                                   int64_t y) {
    const PixelPair<T> pair = p.work.plane.get(at);
    return relu_pair<T, false>(pair.s, pair.v, pair.t, p.left(p.x.norm, x) * p.right(p.y.norm, y));
}

// The sum of the variances of the window of a pixel after a convolution.
template <class T>
NTK_DEVICE T window_variance(const ImageNet& net, int64_t k, const Pixels<T>& side, int64_t pixel) {
    const ImageStep& step = net.step[k];
    const Level &now = net.level[k], &next = net.level[k + 1];
    T sum = 0;
    for (int64_t a = 0; a < step.window[0]; ++a)
        for (int64_t b = 0; b < step.window[1]; ++b) {
            const int64_t row = met(window_at(step, 0, pixel / next.w) + a, now.h, net.circular),
                          column = met(window_at(step, 1, pixel % next.w) + b, now.w, net.circular);
            if (row < 0 || column < 0) continue;
            const T n = side.norm[now.offset + row * now.w + column];
            sum += n * n;
        }
    return sum;
}

template <class T, bool Self, bool SHARED, bool Raw>
NTK_DEVICE void convolve_pairs(const PairOnDevice<T, Self, SHARED>& p, int64_t k) {
    const ImageStep& step = p.net.step[k];
    const Frame now = p.frame(k), next = p.frame(k + 1);
    const int64_t width = now.columns.length;
    const auto plane = p.work.plane, other = p.work.other, sums = p.work.sums;
    const auto tap = [&](int axis, int64_t i, int64_t a, const Segment& along) {
        return met(window_at(step, axis, i) + a, along.length, p.net.circular);
    };
    const int columns = static_cast<int>(width),
              count = static_cast<int>(next.rows.length) * columns;
    for (int at = thread(); at < count; at += threads()) {
        const int i = at / columns, j = at % columns;
        T s = 0, t = 0;
        for (int64_t a = 0; a < step.window[0]; ++a) {
            const int64_t row = tap(0, i, a, now.rows);
            if (row < 0) continue;
            s += plane.s()[row * width + j];
            if constexpr (!Raw) t += plane.t()[row * width + j];
        }
        sums.s()[at] = s, sums.t()[at] = t;
    }
    barrier();
    own_pairs(p.net.level[k + 1], next,
              [&](int64_t at, int64_t i, int64_t j, int64_t x, int64_t y) {
                  T s = 0, t = 0;
                  for (int64_t b = 0; b < step.window[1]; ++b) {
                      const int64_t column = tap(1, j, b, now.columns);
                      if (column < 0) continue;
                      s += sums.s()[i * width + column];
                      t += sums.t()[i * width + column];
                  }
                  const auto better = [&](T, T sum, T inverse_x, T inverse_y) {
                      return window_defect<T, Raw>(
                          p, k, i, j, sum, inverse_x, inverse_y, [&](int64_t a, int64_t b) {
                              return plane.get(tap(0, i, a, now.rows) * width +
                                               tap(1, j, b, now.columns));
                          });
                  };
                  other.put(at, convolved<T, Raw>(p, step, x, y, s, t, better));
              });
    barrier();
    p.work.plane = other, p.work.other = plane;
}

// Adds the plane to those after step k, a pool. A thread takes whole windows of pixels of x, whose
// pairs no other thread adds to, and in the order of the CPU.
template <class T, bool Self, bool SHARED>
NTK_DEVICE void pool_pairs(const PairOnDevice<T, Self, SHARED>& p, int64_t k, const Store& to,
                           T* sums) {
    const Frame f = p.frame(k);
    const Level& level = p.net.level[k];
    const ImageStep& step = p.net.step[k];
    const int64_t half = to.size(), all = to.all_columns();
    const int64_t height = to.rows.size, width = to.columns.size;
    const T share = static_cast<T>(step.gain);
    const int across = static_cast<int>(width), targets = static_cast<int>(height) * across;
    for (int target = thread(); target < targets; target += threads()) {
        const int64_t xr = target / across, xc = target % across;
        for (int e = 0; e < step.window[0] * step.window[1]; ++e) {
            const int64_t i = window_at(step, 0, xr) + e / step.window[1] - f.rows.x,
                          j = window_at(step, 1, xc) + e % step.window[1] - f.columns.x;
            if (i < 0 || i >= f.rows.length || j < 0 || j >= f.columns.length) continue;
            const int64_t at = i * f.columns.length + j;
            const Range along_rows = windows_with(step, 0, f.rows.other(i, level.h), height);
            const Range along = windows_with(step, 1, f.columns.other(j, level.w), width);
            for (int64_t yr = along_rows.first; yr < along_rows.end; ++yr)
                for (int64_t yc = along.first; yc < along.end; ++yc) {
                    const int64_t a = to.rows.find(yr - xr), b = to.columns.find(yc - xc);
                    if (a < 0 || b < 0) continue;
                    const Segment rows = to.rows.pairs(a), columns = to.columns.pairs(b);
                    T* const s = sums + to.rows.before(a) * all +
                                 rows.length * to.columns.before(b) +
                                 (xr - rows.x) * columns.length + xc - columns.x;
                    s[0] += share * p.work.plane.s()[at];
                    s[half] += share * p.work.plane.t()[at];
                }
        }
    }
    barrier();
}

// Adds this thread's part of the weighted sums of T and S, after a last ReLU.
template <class T, bool Self, bool SHARED>
NTK_DEVICE void read_pairs(const PairOnDevice<T, Self, SHARED>& p, double factor) {
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
template <class T, bool Self, bool SHARED>
struct PairAtWork : PairOnDevice<T, Self, SHARED> {
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
    NTK_DEVICE void start() const {
        each_pair(0, [&](int64_t at, int64_t x, int64_t y) {
            this->work.plane.start(at, first_covariance<T>(*this, x, y, this->net.channels));
        });
    }
    NTK_DEVICE void convolve(int64_t k, bool) const {
        if (k == 0)
            convolve_pairs<T, Self, SHARED, true>(*this, k);
        else
            convolve_pairs<T, Self, SHARED, false>(*this, k);
    }
    NTK_DEVICE void relu(int64_t k) const {
        each_pair(k + 1, [&](int64_t at, int64_t x, int64_t y) {
            this->work.plane.put(at, after_relu(*this, at, x, y));
        });
    }
    NTK_DEVICE void save(int64_t k) const {
        const Frame f = this->frame(k);
        const auto& slot = this->work.slot[this->net.step[k].slot];
        each_pixel(f.rows.length * f.columns.length,
                   [&](int64_t at) { slot.put(at, this->work.plane.get(at)); });
    }
    NTK_DEVICE void swap(int64_t k) const {
        const auto plane = this->work.plane;
        auto& slot = this->work.slot[this->net.step[k].slot];
        barrier();
        this->work.plane = slot, slot = plane;
    }
    NTK_DEVICE void activate(int64_t) const {}  // refused, see image.cu
    NTK_DEVICE void activated_deviations(int64_t) const {}
    NTK_DEVICE void open_pool(int64_t, const Store& to, T* sums) const {
        each_pixel(2 * to.size(), [&](int64_t e) { sums[e] = 0; });
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
