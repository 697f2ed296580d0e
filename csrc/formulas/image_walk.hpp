// The way of a pair of images through a network: all steps on all planes, one plane at a time.
//
// What both engines do alike. An engine gives a pair of images at work (PairOfImages) that tells
//     work             where planes, saved planes and the sums behind pools lie
//     each_pixel, each_pair   call a body for all pixels, or pairs of pixels of a plane
//     start            covariances of the pixels: the first step, a convolution, needs no more
//     convolve, relu, activate   a step on the plane; kFuses: a convolution takes the ReLU before it along
//     pool, read       add the plane to those behind a pool, or to the result
//     leaves_relu      whether the reader of a plane applies a last ReLU by itself
//     open_pool        prepare a pool, whose sums begin at 0
//     window_deviations, activated_deviations, save, swap, stopped
#pragma once

#include "formulas/pixel_pairs.hpp"

namespace {  // internal linkage: see simd.hpp

template <class T>
struct Planes {
    T *s, *v, *t;
    NTK_FN PixelPair<T> get(int64_t at) const {
        const int64_t o = at * kLanes<T>;
        return {load<T>(s + o), load<T>(v + o), load<T>(t + o)};
    }
    NTK_FN void put(int64_t at, const PixelPair<T>& pair) const {
        const int64_t o = at * kLanes<T>;
        store<T>(s + o, pair.s), store<T>(v + o, pair.v), store<T>(t + o, pair.t);
    }
};

// ---- deviations ---------------------------------------------------------------------------------

template <class T, class Pair>
NTK_LOOP void first_deviations(const Pair& p) {
    p.each_pixel(p.net.level[0].h * p.net.level[0].w, [&](int64_t pixel) {
        put_deviation<T>(p.x, pixel, first_deviation<T>(p.x, pixel, p.net.channels));
    });
}

// After step k, which is no pool.
template <class T, class Pair>
NTK_LOOP void next_deviations(const Pair& p, int64_t k) {
    const ImageOperation op = p.net.step[k].operation;
    if (op == ImageOperation::kConv) return p.window_deviations(k);
    if (op == ImageOperation::kActivate) return p.activated_deviations(k);
    const Level &now = p.net.level[k], &next = p.net.level[k + 1];
    const Pixels<T> side = p.x;
    const auto norm = [&](int64_t pixel) { return load<T>(side.norm + pixel * kLanes<T>); };
    const auto each = [&](auto found) {  // from where a pixel stood before
        p.each_pixel(next.h * next.w, [&](int64_t pixel) {
            put_deviation<T>(side, next.offset + pixel, found(now.offset + pixel));
        });
    };
    if (op == ImageOperation::kRelu) {
        each([&](int64_t at) {
            return deviation_after_relu<T>(norm(at), load<T>(side.inverse + at * kLanes<T>));
        });
    } else if (op == ImageOperation::kSwap) {
        const int64_t to_saved = saved_level(p.net, k).offset - now.offset;
        each([&](int64_t at) {
            return Deviation<T>{norm(at + to_saved),
                                load<T>(side.inverse + (at + to_saved) * kLanes<T>)};
        });
    } else if (op == ImageOperation::kNormalize) {
        const Vec<T> one = broadcast<T>(T(1));
        if (!p.net.step[k].whole)
            return each([&](int64_t at) {
                const auto some = load<T>(side.inverse + at * kLanes<T>) > Vec<T>{};
                return deviation<T>(some ? one : Vec<T>{});
            });
        Vec<T> mean{};
        for (int64_t pixel = 0; pixel < now.h * now.w; ++pixel)
            mean += norm(now.offset + pixel) * norm(now.offset + pixel);
        const Deviation<T> of = deviation<T>(mean / static_cast<T>(now.h * now.w));
        each([&](int64_t at) {
            const Vec<T> scaled = norm(at) * of.inverse;
            return deviation<T>(scaled * scaled);
        });
    } else if (op == ImageOperation::kAdd) {
        const int64_t to_saved = saved_level(p.net, k).offset - now.offset;
        each([&](int64_t at) {
            const Vec<T> own = norm(at), other = norm(at + to_saved);
            return deviation<T>(other * other + own * own);
        });
    } else if (op == ImageOperation::kMultiply) {
        const int64_t to_saved = saved_level(p.net, k).offset - now.offset;
        each([&](int64_t at) {
            const Vec<T> one = load<T>(side.inverse + at * kLanes<T>);
            const Vec<T> other = load<T>(side.inverse + (at + to_saved) * kLanes<T>);
            return deviation<T>(norm(at) * norm(at + to_saved), one * other);
        });
    } else {
        each([&](int64_t at) { return deviation<T>(norm(at) * norm(at)); });
    }
}

// Behind a pool the variances are the pairs without displacement.
template <class T, class Pair>
NTK_LOOP void pooled_deviations(const Pair& p, int64_t k, const Store& from, const T* sums) {
    const int64_t at = from.plane(from.rows.find(0), from.columns.find(0));
    p.each_pixel(from.rows.size * from.columns.size, [&](int64_t pixel) {
        put_deviation<T>(p.x, p.net.level[k].offset + pixel,
                         deviation<T>(load<T>(sums + (at + pixel) * kLanes<T>)));
    });
}

// ---- steps on the plane of a displacement -------------------------------------------------------

// Step k adds a saved plane.
template <class T, class Pair>
NTK_LOOP void add_plane(const Pair& p, int64_t k) {
    const auto plane = p.work.plane, saved = p.work.slot[p.net.step[k].slot];
    const int64_t here = p.net.level[k + 1].offset, to_branch = here - p.net.level[k].offset;
    const int64_t to_saved = here - saved_level(p.net, k).offset;
    p.each_pair(k + 1, [&](int64_t at, int64_t x, int64_t y) {
        plane.put(at, added<T>(p, x, y, plane.get(at), to_branch, saved.get(at), to_saved));
    });
}

// Step k multiplies by a saved plane.
template <class T, class Pair>
NTK_LOOP void multiply_plane(const Pair& p, int64_t k) {
    const auto plane = p.work.plane, saved = p.work.slot[p.net.step[k].slot];
    p.each_pair(k + 1, [&](int64_t at, int64_t, int64_t) {
        const PixelPair<T> a = plane.get(at), b = saved.get(at);
        plane.put(at, {a.s * b.s, a.v * (T(1) - b.v) + b.v, a.t * b.s + a.s * b.t});
    });
}

// Step k divides by deviations.
template <class T, class Pair>
NTK_LOOP void normalize_plane(const Pair& p, int64_t k) {
    const auto plane = p.work.plane;
    const int64_t before = p.net.level[k].offset - p.net.level[k + 1].offset;
    p.each_pair(k + 1, [&](int64_t at, int64_t x, int64_t y) {
        PixelPair<T> pair = plane.get(at);
        const Vec<T> share = p.left(p.x.norm, x) * p.left(p.x.inverse, x + before) *
                             (p.right(p.y.norm, y) * p.right(p.y.inverse, y + before));
        pair.s *= share, pair.t *= share;
        plane.put(at, pair);
    });
}

// The plane at a level behind a pool, if there are pairs at this displacement.
template <class T, class Pair>
NTK_LOOP void fetch_plane(const Pair& p, int64_t k, const Store& from, const T* sums) {
    const int64_t a = from.rows.find(p.di * from.rows.scale);
    const int64_t b = from.columns.find(p.dj * from.columns.scale);
    if (a < 0 || b < 0) return;
    const T* const s = sums + from.plane(a, b) * kLanes<T>;
    const T* const t = s + from.size() * kLanes<T>;
    const auto plane = p.work.plane;
    const Vec<T> differ = p.di == 0 && p.dj == 0 ? p.differ : broadcast<T>(T(1));
    p.each_pair(k, [&](int64_t at, int64_t x, int64_t y) {
        const int64_t o = at * kLanes<T>;
        plane.put(at, pooled<T>(p, x, y, load<T>(s + o), load<T>(t + o), differ));
    });
}

// Steps from k to before `end`.
template <class T, class Pair>
NTK_LOOP void run_steps(const Pair& p, int64_t k, int64_t end) {
    for (; k < end; ++k) {
        const ImageStep* const step = p.net.step + k;
        switch (step->operation) {
            case ImageOperation::kConv: p.convolve(k, false); break;
            case ImageOperation::kSave: p.save(k); break;
            case ImageOperation::kSwap: p.swap(k); break;
            case ImageOperation::kAdd: add_plane<T>(p, k); break;
            case ImageOperation::kMultiply: multiply_plane<T>(p, k); break;
            case ImageOperation::kNormalize: normalize_plane<T>(p, k); break;
            case ImageOperation::kActivate: p.activate(k); break;
            case ImageOperation::kPool: break;
            case ImageOperation::kRelu:
                if (Pair::kFuses && k + 1 < end && step[1].operation == ImageOperation::kConv)
                    p.convolve(++k, true);
                else
                    p.relu(k);
        }
    }
}

// ---- the walk -----------------------------------------------------------------------------------

// Self finds the deviations of the images on the way, and stops when it has them unless it is
// `whole`: then the result is the kernel of images and themselves.
template <class T, bool Self, class Pair>
NTK_LOOP void walk_planes(Pair& p, bool whole) {
    const ImageNet& net = p.net;
    const auto reach = [&](int64_t k) { return whole ? net.level[k].reach : net.level[k].own; };
    const auto store_of = [&](int64_t k) { return Store(net.level[k], reach(k), net.circular); };
    T *from = p.work.store[0], *to = p.work.store[1];
    for (int64_t k = 0;;) {
        const int64_t end = next_pool(net, k);
        const bool last = end == net.count;
        if constexpr (Self)
            for (int64_t l = k; l < end; ++l) next_deviations<T>(p, l);
        if (last && !whole) return;
        const Store here = store_of(k), next = store_of(last ? end : end + 1);
        if (!last) p.open_pool(end, next, to);
        const Displaced all(net.level[k], reach(k), net.circular);
        for (int64_t a = 0; a < all.rows.count; ++a)
            for (int64_t b = 0; b < all.columns.count; ++b) {
                if (p.stopped()) return;
                const double factor = Self && !p.pools ? multiplicity(all, a, b) : 1;
                if (factor == 0) continue;
                p.di = all.rows.first + a, p.dj = all.columns.first + b;
                if (k == 0)
                    p.start();
                else
                    fetch_plane<T>(p, k, here, from);
                run_steps<T>(p, k, end - p.leaves_relu(end));
                if (last)
                    p.read(factor);
                else
                    p.pool(end, next, to);
            }
        if (last) return;
        T* const done = to;
        to = from, from = done, k = end + 1;
        if constexpr (Self) pooled_deviations<T>(p, k, next, from);
    }
}

}  // namespace
