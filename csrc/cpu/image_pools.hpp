// Pools and read-outs: from the plane of a displacement to planes of blocks, or to the kernel.
#pragma once

#include "cpu/image_windows.hpp"

namespace {  // internal linkage: see simd.hpp

// Row i of the plane that the steps before `end` leave to a reader, with the ReLU among them that is
// left to it; calls put(column, pair), where v may be missing.
template <class T, bool Self, class Put>
NTK_FN void read_row(const PixelPairs<T, Self>& p, int64_t end, const Frame& f, int64_t i,
                     Put put) {
    if (relu_before(p.net, end)) return relu_row<T>(p, p.work.plane, end - 1, f, i, put);
    const Planes<T> plane = p.work.plane;
    const int64_t length = f.columns.length, first = i * length;
    for (int64_t j = 0; j < length; ++j) {
        const int64_t o = (first + j) * kLanes<T>;
        put(j, {load<T>(plane.s + o), Vec<T>{}, load<T>(plane.t + o)});
    }
}

// Where the pairs of a pixel of x and one of y go along an axis, given the windows that hold them: to
// the pairs of these, but not to displacements that no later step needs. Returns how many; there is
// room for them.
NTK_FN int64_t pool_targets(const Range& of_x, const Range& of_y, const Kept& to,
                            PoolTarget* target) {
    int64_t count = 0;
    for (int64_t a = of_x.first; a < of_x.end; ++a)
        for (int64_t b = of_y.first; b < of_y.end; ++b) {
            const int64_t found = to.find(b - a);
            if (found < 0) continue;
            const Segment pairs = to.pairs(found);
            target[count++] = {to.before(found), pairs.length, a - pairs.x};
        }
    return count;
}

// Before the planes of step k, a pool, are added up.
template <class T>
void open_pool(const ImageNet& net, int64_t k, const Store& to, const ImageScratch<T>& work,
               T* sums) {
    const Level &now = net.level[k], &next = net.level[k + 1];
    const int64_t size[2] = {now.h, now.w}, count[2] = {next.h, next.w};
    for (int axis = 0; axis < 2; ++axis)
        for (int64_t pixel = 0; pixel < size[axis]; ++pixel)
            work.windows[axis][pixel] = windows_with(net.step[k], axis, pixel, count[axis]);
    std::memset(sums, 0, sizeof(Vec<T>) * static_cast<std::size_t>(2 * to.size()));
}

// Adds the plane to those of the level after step k, a pool.
template <class T, bool Self>
void pool_plane(const PixelPairs<T, Self>& p, int64_t k, const Store& to, T* sums) {
    const Frame f = p.frame(k);
    const Level& level = p.net.level[k];
    const ImageStep& step = p.net.step[k];
    const T share = static_cast<T>(step.gain);
    const int64_t all = to.all_columns(), half = to.size() * kLanes<T>;
    const bool blocks = step.window[0] <= step.stride[0] && step.window[1] <= step.stride[1];
    const int64_t most = blocks ? 1 : overlap(step, 1) * overlap(step, 1);
    const Range *const of_row = p.work.windows[0], *const of_column = p.work.windows[1];
    PoolTarget *const columns = p.work.columns, *const rows = p.work.rows;
    int64_t* const counts = p.work.counts;
    for (int64_t j = 0; j < f.columns.length; ++j)
        counts[j] = pool_targets(of_column[f.columns.x + j], of_column[f.columns.other(j, level.w)],
                                 to.columns, columns + j * most);
    const auto place = [all](const PoolTarget& r, const PoolTarget& c) NTK_LAMBDA {
        return r.before * all + r.length * c.before + r.at * c.length + c.at;
    };
    const auto add = [sums, half, share](int64_t at, const PixelPair<T>& pair) NTK_LAMBDA {
        T* const s = sums + at * kLanes<T>;
        store<T>(s, load<T>(s) + share * pair.s);
        store<T>(s + half, load<T>(s + half) + share * pair.t);
    };
    for (int64_t i = 0; i < f.rows.length; ++i) {
        const int64_t found =
            pool_targets(of_row[f.rows.x + i], of_row[f.rows.other(i, level.h)], to.rows, rows);
        if (found == 0) continue;
        if (blocks) {  // by copies: see each_in_row
            const PoolTarget row = rows[0];
            read_row<T>(p, k, f, i, [=](int64_t j, const PixelPair<T>& pair) {
                if (counts[j]) add(place(row, columns[j]), pair);
            });
            continue;
        }
        read_row<T>(p, k, f, i, [&](int64_t j, const PixelPair<T>& pair) {
            for (int64_t a = 0; a < found; ++a)
                for (int64_t b = 0; b < counts[j]; ++b)
                    add(place(rows[a], columns[j * most + b]), pair);
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
    T* const shares = p.work.shares;  // of the columns
    for (int64_t j = 0; j < columns.length; ++j)
        shares[j] = static_cast<T>(weights[(columns.x + j) * w + columns.other(j, w)]);
    Vec<T> s{}, t{};
    for (int64_t i = 0; i < f.rows.length; ++i) {
        Vec<T> row_s{}, row_t{};
        read_row<T>(p, p.net.count, f, i, [&](int64_t j, const PixelPair<T>& pair) {
            row_s += shares[j] * pair.s, row_t += shares[j] * pair.t;
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
