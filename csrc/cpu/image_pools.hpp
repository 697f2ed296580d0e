// Pools and read-outs: from the plane of a displacement to planes of blocks, or to the kernel.
#pragma once

#include "cpu/image_windows.hpp"

namespace {  // internal linkage: see simd.hpp

// Row i of the plane that the steps before `end` leave to a reader, with the ReLU among them that is
// left to it; calls put(column, pair), where v may be missing.
template <class T, bool Self, class Put>
NTK_FN void read_row(const PixelPairs<T, Self>& p, int64_t end, const Frame& f, int64_t i,
                     Put put) {
    if (relu_before(p.net, end)) return relu_row<T>(p, end - 1, f, i, put);
    const Planes<T> plane = p.work.plane;
    const int64_t length = f.columns.length, first = i * length;
    for (int64_t j = 0; j < length; ++j) {
        const int64_t o = (first + j) * kLanes<T>;
        put(j, {load<T>(plane.s + o), Vec<T>{}, load<T>(plane.t + o)});
    }
}

// Adds the plane to those of the level after step k, a pool: a pair of pixels to that of its blocks.
template <class T, bool Self>
void pool_plane(const PixelPairs<T, Self>& p, int64_t k, const Store& to, T* sums) {
    const Frame f = p.frame(k);
    const Level& level = p.net.level[k];
    const int64_t block = p.net.step[k].size, half = to.size() * kLanes<T>;
    const T share = T(1) / static_cast<T>(block * block * block * block);
    PoolColumn* const column = p.work.columns;
    for (int64_t j = 0; j < f.columns.length; ++j) {
        const int64_t xc = (f.columns.x + j) / block, yc = f.columns.other(j, level.w) / block;
        const int64_t b = to.find(to.columns, yc - xc, to.w);
        column[j].before = -1;
        if (b < 0) continue;
        const Segment pairs = pairs_at(to.columns.first + b, to.w, to.circular);
        column[j] = {to.before(to.columns, to.w, b), pairs.length, xc - pairs.x};
    }
    const int64_t all = to.all_columns();
    for (int64_t i = 0; i < f.rows.length; ++i) {
        const int64_t xr = (f.rows.x + i) / block, yr = f.rows.other(i, level.h) / block;
        const int64_t a = to.find(to.rows, yr - xr, to.h);
        if (a < 0) continue;
        const Segment pairs = pairs_at(to.rows.first + a, to.h, to.circular);
        T* const first = sums + to.before(to.rows, to.h, a) * all * kLanes<T>;
        const int64_t rows = pairs.length, row = xr - pairs.x;
        read_row<T>(p, k, f, i, [&](int64_t j, const PixelPair<T>& pair) {
            const PoolColumn c = column[j];
            if (c.before < 0) return;
            T* const s = first + (rows * c.before + row * c.length + c.at) * kLanes<T>;
            store<T>(s, load<T>(s) + share * pair.s);
            store<T>(s + half, load<T>(s + half) + share * pair.t);
        });
    }
}

// Adds the weighted sums of T and S over the plane to the totals.
template <class T, bool Self>
void read_plane(const PixelPairs<T, Self>& p, double factor) {
    const Level& level = last_level(p.net);
    const Frame f = p.frame(p.net.count);
    const double* const weights = p.net.weight_w;
    const Segment columns = f.columns;
    const int64_t w = level.w;
    Vec<T> s{}, t{};
    for (int64_t i = 0; i < f.rows.length; ++i) {
        Vec<T> row_s{}, row_t{};
        read_row<T>(p, p.net.count, f, i, [&](int64_t j, const PixelPair<T>& pair) {
            const T share = static_cast<T>(weights[(columns.x + j) * w + columns.other(j, w)]);
            row_s += share * pair.s, row_t += share * pair.t;
        });
        const T share =
            static_cast<T>(p.net.weight_h[(f.rows.x + i) * level.h + f.rows.other(i, level.h)]);
        s += share * row_s, t += share * row_t;
    }
    T lanes[2 * kLanes<T>];
    store<T>(lanes, t), store<T>(lanes + kLanes<T>, s);
    for (int64_t l = 0; l < 2 * kLanes<T>; ++l)
        p.work.total[l] += factor * static_cast<double>(lanes[l]);
}

}  // namespace
