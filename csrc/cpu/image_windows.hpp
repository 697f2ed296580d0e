// Convolutions on planes of pairs of pixels: sums over windows, row by row behind the one before.
#pragma once

#include "cpu/image_scratch.hpp"

namespace {  // internal linkage: see simd.hpp

// Replaces numbers by the sums of q neighbours from each on, in three additions for any q: a window
// is the tail of one block of q numbers and the head of the next. (After van Herk, Pattern
// Recognition Letters 13, 1992. A running sum that subtracts what leaves would keep its rounding,
// and 1 - |u| feels it.) `tails` has room for q vectors.
template <class T>
void window_sums(T* numbers, int64_t count, int64_t q, T* tails) {
    for (int64_t first = 0; first + q <= count; first += q) {
        Vec<T> tail{}, head{};
        for (int64_t b = q - 1; b >= 0; --b) {
            tail += load<T>(numbers + (first + b) * kLanes<T>);
            store<T>(tails + b * kLanes<T>, tail);
        }
        const int64_t windows = smaller(q, count - q + 1 - first);
        for (int64_t b = 0; b < windows; ++b) {
            if (b > 0) head += load<T>(numbers + (first + q + b - 1) * kLanes<T>);
            store<T>(numbers + (first + b) * kLanes<T>, load<T>(tails + b * kLanes<T>) + head);
        }
    }
}

// Deviations after step k, a convolution.
template <class T>
void window_deviations(const ImageNet& net, int64_t k, const ImageScratch<T>& work,
                       const Pixels<T>& side) {
    const ImageStep& step = net.step[k];
    const Level &now = net.level[k], &next = net.level[k + 1];
    const int64_t apart = step.stride[1], width = (next.w - 1) * apart + step.window[1];
    for (int64_t i = 0; i < next.h; ++i) {
        for (int64_t j = 0; j < width; ++j) {
            const int64_t column = met(j - step.before[1], now.w, net.circular);
            Vec<T> sum{};
            for (int64_t a = 0; a < step.window[0] && column >= 0; ++a) {
                const int64_t row = met(window_at(step, 0, i) + a, now.h, net.circular);
                if (row < 0) continue;
                const Vec<T> n =
                    load<T>(side.norm + (now.offset + row * now.w + column) * kLanes<T>);
                sum += n * n;
            }
            store<T>(work.sums + j * kLanes<T>, sum);
        }
        window_sums<T>(work.sums, width, step.window[1], work.tails);
        for (int64_t j = 0; j < next.w; ++j)
            put_deviation<T>(side, next.offset + i * next.w + j,
                             deviation<T>(load<T>(work.sums + j * apart * kLanes<T>) *
                                              static_cast<T>(step.gain) +
                                          static_cast<T>(step.bias)));
    }
}

// ---- planes -------------------------------------------------------------------------------------

template <class T>
void copy_planes(const Planes<T>& from, const Planes<T>& to, int64_t pairs) {
    const auto size = static_cast<std::size_t>(pairs) * sizeof(Vec<T>);
    std::memcpy(to.s, from.s, size), std::memcpy(to.v, from.v, size);
    std::memcpy(to.t, from.t, size);
}

template <class T, bool Self>
struct PixelPairs : PairOfImages<T, Self> {
    const ImageScratch<T>& work;
};

// The pairs of one row: calls body(index in the plane, pixel of x, pixel of y) for each. The loop
// reads copies only: as far as the compiler can tell, whatever stands in memory may be changed by
// the numbers that the body stores, and pointers and sizes would be loaded anew for every pair.
template <class Body>
NTK_FN void each_in_row(const Level& level, const Frame& f, int64_t i, Body body) {
    const Segment columns = f.columns;
    const int64_t w = level.w, at = i * columns.length;
    const int64_t x = level.offset + (f.rows.x + i) * w + columns.x;
    const int64_t y = level.offset + f.rows.other(i, level.h) * w;
    for (int64_t j = 0; j < columns.length; ++j) body(at + j, x + j, y + columns.other(j, w));
}

template <class T, bool Positive, bool Self, class Put>
NTK_FN void relu_row_of(const PixelPairs<T, Self>& p, const Planes<T>& from, int64_t k,
                        const Frame& f, int64_t i, Put put) {
    const Planes<T> plane = from;
    const T *const norm_x = p.x.norm, *const norm_y = p.y.norm;
    const int64_t first = i * f.columns.length;
    each_in_row(p.net.level[k + 1], f, i, [&](int64_t at, int64_t x, int64_t y) {
        const int64_t o = at * kLanes<T>;
        const Vec<T> s = Positive ? Vec<T>{} : load<T>(plane.s + o);
        put(at - first, relu_pair<T, Positive>(s, load<T>(plane.v + o), load<T>(plane.t + o),
                                               p.left(norm_x, x) * p.right(norm_y, y)));
    });
}

// Step k, ReLU, on one row of a plane; calls put(column, pair).
template <class T, bool Self, class Put>
NTK_FN void relu_row(const PixelPairs<T, Self>& p, const Planes<T>& from, int64_t k, const Frame& f,
                     int64_t i, Put put) {
    if (is_positive(p.net, k))
        relu_row_of<T, true>(p, from, k, f, i, put);
    else
        relu_row_of<T, false>(p, from, k, f, i, put);
}

// The rows of a plane that the windows of a convolution cover, with their margins. Rows are taken
// in order, after ReLU if there is one before, and the plane is overwritten behind them, unless the
// new one would outrun them (see grows). Raw: the first step, before which there are no tangents;
// covariances and angles come from the images.
template <class T, bool Self, bool Raw>
struct Windows {
    const PixelPairs<T, Self>& p;
    const int64_t k;
    const ImageStep& step;
    const bool relu;  // step k - 1
    const Planes<T> from;
    const Vec<T> differ;  // 0 where a pixel of y is that of x
    const Frame now, next;
    const int64_t start, width;  // columns with margins
    const int64_t stride;        // of rows of the ring

    Windows(const PixelPairs<T, Self>& pair, int64_t number, bool after_relu,
            const Planes<T>& plane)
        : p(pair),
          k(number),
          step(pair.net.step[number]),
          relu(after_relu),
          from(plane),
          differ(pair.di == 0 && pair.dj == 0 ? pair.differ : broadcast<T>(T(1))),
          now(pair.frame(number)),
          next(pair.frame(number + 1)),
          start(-step.before[1]),
          width((next.columns.length - 1) * step.stride[1] + step.window[1]),
          stride(pair.work.ring_row) {}

    // Rows of the plane, and those below it that windows cover.
    NTK_FN int64_t rows() const { return now.rows.length; }
    NTK_FN int64_t below() const {
        return window_at(step, 0, next.rows.length - 1) + step.window[0] - rows();
    }

    // Array 0 to 2 (s, v, t) of a row of the ring; those behind a window keep the top of a circle.
    NTK_FN T* row(int64_t at, int64_t array) const {
        return p.work.ring + (3 * at + array) * stride;
    }

    // Row `at` of the ring from column 0 on.
    NTK_FN Planes<T> row(int64_t at) const {
        const int64_t o = -start * kLanes<T>;
        return {row(at, 0) + o, row(at, 1) + o, row(at, 2) + o};
    }
    static NTK_FN void put(const Planes<T>& to, int64_t column, const PixelPair<T>& pair) {
        if constexpr (Raw)
            store<T>(to.s + column * kLanes<T>, pair.s);
        else
            to.put(column, pair);
    }
    // Outside, where nobody asks for an angle.
    static NTK_FN void put_nothing(const Planes<T>& to, int64_t column) {
        store<T>(to.s + column * kLanes<T>, Vec<T>{});
        if constexpr (!Raw) store<T>(to.t + column * kLanes<T>, Vec<T>{});
    }
    static NTK_FN PixelPair<T> get(const Planes<T>& from, int64_t column) {
        if constexpr (Raw) return {load<T>(from.s + column * kLanes<T>), Vec<T>{}, Vec<T>{}};
        return from.get(column);
    }

    NTK_FN void copy_row(int64_t from, int64_t to) const {
        std::memcpy(row(to, 0), row(from, 0), sizeof(T) * static_cast<std::size_t>(3 * stride));
    }

    // Puts row i of the plane, margins included, into the ring.
    void take(int64_t i, int64_t at) const {
        const int64_t h = rows(), w = now.columns.length;
        const Planes<T> to = row(at), plane = from;
        if (p.net.circular && i >= h) return copy_row(step.window[0] + i - h, at);
        if (!p.net.circular && (i < 0 || i >= h)) {
            for (int64_t j = start; j < start + width; ++j) put_nothing(to, j);
            return;
        }
        const int64_t source = i < 0 ? i + h : i;
        if constexpr (Raw) {
            const PixelPairs<T, Self> pair = p;  // copies: see each_in_row
            const auto covariances = [&](int64_t channels) NTK_LAMBDA {
                each_in_row(p.net.level[0], now, source, [&](int64_t at, int64_t x, int64_t y) {
                    store<T>(to.s + (at - source * w) * kLanes<T>,
                             first_covariance<T>(pair, x, y, channels));
                });
            };
            p.net.channels == 3 ? covariances(3) : covariances(p.net.channels);
        } else if (relu) {
            relu_row<T>(p, from, k - 1, now, source,
                        [&](int64_t j, const PixelPair<T>& pair) { put(to, j, pair); });
        } else {
            for (int64_t j = 0; j < w; ++j) put(to, j, get(plane, source * w + j));
        }
        if (!p.net.circular) {
            for (int64_t j = start; j < 0; ++j) put_nothing(to, j);
            for (int64_t j = w; j < start + width; ++j) put_nothing(to, j);
            return;
        }
        for (int64_t j = start; j < 0; ++j) put(to, j, get(to, w + j));
        for (int64_t j = w; j < start + width; ++j) put(to, j, get(to, j - w));
        if (i >= 0 && i < below()) copy_row(at, step.window[0] + i);
    }

    // v after the convolution at row i and column j from small quantities, which add up to nothing
    // between equal pixels.
    NTK_FN Vec<T> better(int64_t i, int64_t j, Vec<T> v, Vec<T> s, Vec<T> inverse_x,
                         Vec<T> inverse_y) const {
        if (!mask_below<T>(max2(v, Vec<T>{}), kClose<T> * differ)) return Vec<T>{};
        return accurate(i, j, s, inverse_x, inverse_y);
    }
    NTK_RARE Vec<T> accurate(int64_t i, int64_t j, Vec<T> s, Vec<T> inverse_x,
                             Vec<T> inverse_y) const {
        const int64_t q = step.window[0], first = i * step.stride[0] % q;
        const int64_t column = window_at(step, 1, j);
        return window_defect<T, Raw>(p, k, i, j, s, inverse_x, inverse_y,
                                     [&](int64_t a, int64_t b) {
                                         const int64_t at = first + a;
                                         return row(at < q ? at : at - q).get(column + b);
                                     });
    }

    // Row i of the result: sums(column) gives those of the window of S and T, columns in order.
    template <class Sums>
    NTK_FN void finish_row(int64_t i, Sums sums) const {
        if (!Raw && is_positive(p.net, k + 1))
            finish_row_of<true>(i, sums);
        else
            finish_row_of<false>(i, sums);
    }
    template <bool Positive, class Sums>
    NTK_FN void finish_row_of(int64_t i, Sums sums) const {
        const PixelPairs<T, Self> pair = p;  // copies: see each_in_row
        const ImageStep last = step;
        const Planes<T> plane = p.work.plane;
        const int64_t first = i * next.columns.length;
        each_in_row(p.net.level[k + 1], next, i, [&](int64_t at, int64_t x, int64_t y) {
            const int64_t j = at - first, o = at * kLanes<T>;
            const WindowSums now = sums(j);
            const PixelPair<T> result = convolved<T, Raw, Positive>(
                pair, last, x, y, now.s, now.t,
                [&](Vec<T> v, Vec<T> s, Vec<T> inverse_x, Vec<T> inverse_y) {
                    return better(i, j, v, s, inverse_x, inverse_y);
                });
            if (!Positive) store<T>(plane.s + o, result.s);
            store<T>(plane.v + o, result.v);
            store<T>(plane.t + o, result.t);
        });
    }
    struct WindowSums {
        Vec<T> s, t;
    };

    // With windows of 3 x 3 two columns of sums stay in registers.
    void sum_row_of_3(int64_t i) const {
        const T* row_s[3];
        const T* row_t[3];
        for (int64_t a = 0; a < 3; ++a) row_s[a] = row(a, 0), row_t[a] = row(a, 2);
        const auto column = [](const T* const* rows, int64_t at) {
            const int64_t o = at * kLanes<T>;
            return load<T>(rows[0] + o) + load<T>(rows[1] + o) + load<T>(rows[2] + o);
        };
        Vec<T> s0 = column(row_s, 0), s1 = column(row_s, 1), t0{}, t1{}, t2{};
        if constexpr (!Raw) t0 = column(row_t, 0), t1 = column(row_t, 1);
        finish_row(i, [&](int64_t j) {
            const Vec<T> s2 = column(row_s, j + 2);
            if constexpr (!Raw) t2 = column(row_t, j + 2);
            const WindowSums found{s0 + s1 + s2, t0 + t1 + t2};
            s0 = s1, s1 = s2, t0 = t1, t1 = t2;
            return found;
        });
    }

    // With windows of any size, `apart` columns apart, after add_row of its last row.
    void sum_row(int64_t i) const {
        const int64_t apart = step.stride[1];
        T *const s = p.work.sums, *const t = s + stride;
        sum_columns(i, 0, s);
        if constexpr (!Raw) sum_columns(i, 2, t);
        finish_row(i, [&](int64_t j) {
            const int64_t o = j * apart * kLanes<T>;
            return WindowSums{load<T>(s + o), Raw ? Vec<T>{} : load<T>(t + o)};
        });
    }

    // Window sums along rows of the sums along columns, of S or T, of row i of the result.
    void sum_columns(int64_t i, int64_t array, T* to) const {
        const T *const head = heads(array), *const tail =
                                                tails(i * step.stride[0] % step.window[0], array);
        for (int64_t j = 0; j < width; ++j) {
            const int64_t o = j * kLanes<T>;
            store<T>(to + o, load<T>(tail + o) + load<T>(head + o));
        }
        window_sums<T>(to, width, step.window[1], p.work.tails);
    }

    // Sums of the rows of the ring since the last block of rows began, and those from one of a whole
    // block on to its end; rows of tails and heads come in pairs, of S and T.
    NTK_FN T* heads(int64_t array) const { return p.work.heads + array / 2 * stride; }
    NTK_FN T* tails(int64_t at, int64_t array) const {
        return p.work.heads + (2 + 2 * at + array / 2) * stride;
    }

    // Adds row `at` of the ring, the next one, to the sums along columns; see window_sums.
    void add_row(int64_t at) const {
        for (int64_t array = 0; array < (Raw ? 1 : 3); array += 2) {
            if (at < step.window[0] - 1) {
                add_rows(row(at, array), at == 0 ? nullptr : heads(array), heads(array));
                continue;
            }
            for (int64_t a = at; a >= 0; --a)
                add_rows(row(a, array), a == at ? nullptr : tails(a + 1, array), tails(a, array));
            std::memset(heads(array), 0, sizeof(Vec<T>) * static_cast<std::size_t>(width));
        }
    }

    // to = from + other, where other may be missing.
    void add_rows(const T* from, const T* other, T* to) const {
        for (int64_t o = 0; o < width * kLanes<T>; o += kLanes<T>)
            store<T>(to + o, other ? load<T>(from + o) + load<T>(other + o) : load<T>(from + o));
    }
};

template <class T, bool Self, bool Raw>
void convolve_rows(const Windows<T, Self, Raw>& windows) {
    if (windows.next.rows.length == 0 || windows.next.columns.length == 0) return;
    const ImageStep& step = windows.step;
    const int64_t q = step.window[0], apart = step.stride[0];
    const bool three = q == 3 && step.window[1] == 3 && apart == 1 && step.stride[1] == 1;
    const int64_t rows = windows.rows() + windows.below() + step.before[0];
    int64_t at = 0, next = q - 1, done = 0;  // row of the ring, the last one of window `done`
    for (int64_t t = 0; t < rows; ++t) {
        windows.take(t - step.before[0], at);
        if (!three) windows.add_row(at);
        at = at + 1 < q ? at + 1 : 0;
        if (t < next) continue;
        if (three)
            windows.sum_row_of_3(done);
        else
            windows.sum_row(done);
        ++done, next += apart;
    }
}

// Step k, a convolution, together with the ReLU before it if there is one.
template <class T, bool Self>
void convolve(const PixelPairs<T, Self>& p, int64_t k, bool relu) {
    const bool outruns = k > 0 && grows(p.net, k);
    const Planes<T> from = outruns ? p.work.spare : p.work.plane;
    if (outruns) {
        const Frame f = p.frame(k);
        copy_planes<T>(p.work.plane, from, f.rows.length * f.columns.length);
    }
    if (k == 0)
        convolve_rows(Windows<T, Self, true>(p, k, relu, from));
    else
        convolve_rows(Windows<T, Self, false>(p, k, relu, from));
}

}  // namespace
