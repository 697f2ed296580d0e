// Tangent kernels of convolutional networks: covariances of pixel pairs, displacement by displacement.
//
// All pairs of a pixel p of x and the pixel p + d of y form one plane, and a convolution of stride 1
// sums windows inside it: d by d, everything stays in cache (after Arora et al., "On exact
// computation with an infinitely wide neural net", NeurIPS 2019; the recursion only). The lanes of
// a vector are images of y, so that borders and small images cost nothing.
//
// With N, M the standard deviations of the two pixels, a pair is carried as its covariance S, its
// tangent kernel T and v = 1 - |S| / (N M). A window sum of S gives v only to rounding, and the
// angle to its root; where v is small it is therefore summed from what is small, with
// n = N_a / N', m = M_a / M' over the pixels a of the window:
//     1 - S' / (N' M') = sum n m (1 - u_a) + 1/2 sum (n - m)^2,
// non-negative terms only, so that pairs of equal patches come out exact at any depth.
#pragma once

#include "formulas/image_pairs.hpp"

namespace {  // internal linkage: see simd.hpp

using namespace ntkfast;

template <class T>
struct Planes {
    T *s, *v, *t;
};

// Where the pairs of a column go in a pool: displacements before, length and column of the pair of
// blocks; `before` is -1 where no later step needs it.
struct PoolColumn {
    int64_t before, length, at;
};

// ---- scratch memory of a thread -----------------------------------------------------------------

// From one of `count` numbers of an image to that of the next image, where images lie apart: a line
// more, for otherwise the same pixel of all images may compete for one set of the cache.
template <class T>
constexpr int64_t apart(int64_t count) {
    return (count + 63) / 64 * 64 + 64 / static_cast<int64_t>(sizeof(T));
}

// Vectors of images of y per task: the deviations of its images of x serve all of them. Large images,
// on which that would take much memory, come in one.
constexpr int64_t kStrips = 4, kStripBytes = 1 << 22;
template <class T>
int64_t image_strips(const ImageNet& net) {
    const ImageLevel& first = net.level[0];
    const int64_t numbers = first.h * first.w * net.channels + 2 * total_pixels(net);
    return numbers * static_cast<int64_t>(sizeof(Vec<T>)) <= kStripBytes ? kStrips : 1;
}
template <class T>
int64_t image_columns(const Images<T>& p) {
    return image_strips<T>(p.net) * kLanes<T>;
}

template <class T>
struct ImageScratch {
    Pixels<T> left, ones, right[kStrips];  // images of x, the same one after the other, of y
    Planes<T> plane, slot[kSlots];
    T *ring, *sums, *heads, *tails, *store[2];
    PoolColumn* columns;
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
        const ImageLevel& first = net.level[0];
        const int64_t area = first.h * first.w, pixels = total_pixels(net);
        const int64_t size = area * net.channels;
        const auto images = [&] {
            return Pixels<T>{take(size * kV), take(pixels * kV), take(pixels * kV)};
        };
        left = images();
        for (int64_t k = 0; k < kStrips; ++k)
            right[k] = k < image_strips<T>(net) ? images() : Pixels<T>{};
        ones = {take(apart<T>(size) * kV), take(apart<T>(pixels) * kV),
                take(apart<T>(pixels) * kV)};
        int64_t slots = 0, widest = 1, pooled = 0;
        for (int64_t k = 0; k < net.count; ++k) {
            const ImageStep& step = net.step[k];
            if (step.op == ImageOp::kConv) widest = larger(widest, step.size);
            if (step.op == ImageOp::kSave) slots = larger(slots, step.slot + 1);
            if (step.op == ImageOp::kPool) {
                const ImageLevel& next = net.level[k + 1];
                pooled = larger(pooled, Store(next, next.reach, net.circular).size());
                if (next.self[0] >= 0)
                    pooled = larger(pooled, Store(next, next.self, net.circular).size());
            }
        }
        const auto planes = [&] {
            return Planes<T>{take(area * kV), take(area * kV), take(area * kV)};
        };
        plane = planes();
        for (int64_t k = 0; k < kSlots; ++k) slot[k] = k < slots ? planes() : Planes<T>{};
        ring_row = (first.w + widest) * kV;
        ring = take((widest + widest / 2) * 3 * ring_row);
        sums = take(2 * ring_row);
        heads = take(2 * (widest + 1) * ring_row);
        tails = take(widest * kV);
        for (T*& part : store) part = take(2 * pooled * kV);
        columns = reinterpret_cast<PoolColumn*>(
            take(first.w * static_cast<int64_t>(sizeof(PoolColumn) / sizeof(T))));
        total = reinterpret_cast<double*>(take(2 * kV * static_cast<int64_t>(8 / sizeof(T))));
    }
};

template <class T>
int64_t image_scratch(const Images<T>& p) {
    return ImageScratch<T>(p.net, nullptr).used;
}

// ---- images and their standard deviations -------------------------------------------------------

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

// Takes images out of the lanes, with the deviations that steps look at: ReLU takes no angle to
// those before it, and nothing divides by those behind it.
template <class T>
void unpack_images(const ImageNet& net, const Pixels<T>& many, const Pixels<T>& ones) {
    const int64_t pixels = total_pixels(net), size = net.level[0].h * net.level[0].w * net.channels;
    const auto unpack = [&](const T* from, T* to, int64_t begin, int64_t count, int64_t all) {
        for (int64_t k = begin; k < begin + count; ++k)
            for (int64_t l = 0; l < kLanes<T>; ++l)
                to[l * apart<T>(all) + k] = from[k * kLanes<T> + l];
    };
    unpack(many.data, ones.data, 0, size, size);
    for (int64_t k = 0; k <= net.count; ++k) {
        const ImageLevel& level = net.level[k];
        if (k == net.count || net.step[k].op != ImageOp::kRelu)
            unpack(many.norm, ones.norm, level.offset, level.h * level.w, pixels);
        if (k == 0 || net.step[k - 1].op != ImageOp::kRelu)
            unpack(many.inverse, ones.inverse, level.offset, level.h * level.w, pixels);
    }
}

// The image of one lane.
template <class T>
Pixels<T> one_image(const ImageNet& net, const Pixels<T>& ones, int64_t lane) {
    const int64_t pixels = lane * apart<T>(total_pixels(net));
    const int64_t size = net.level[0].h * net.level[0].w * net.channels;
    return {ones.data + lane * apart<T>(size), ones.norm + pixels, ones.inverse + pixels};
}

template <class T>
NTK_FN void put_norm(const Pixels<T>& side, int64_t pixel, const Deviation<T>& now) {
    store<T>(side.norm + pixel * kLanes<T>, now.norm);
    store<T>(side.inverse + pixel * kLanes<T>, now.inverse);
}

// The same, given the variance.
template <class T>
NTK_FN void put_variance(const Pixels<T>& side, int64_t pixel, Vec<T> square) {
    put_norm<T>(side, pixel, deviation<T>(square));
}

template <class T>
void first_norms(const ImageNet& net, const Pixels<T>& side) {
    for (int64_t k = 0; k < net.level[0].h * net.level[0].w; ++k) {
        Vec<T> sum{};
        for (int64_t c = 0; c < net.channels; ++c) {
            const Vec<T> a = load<T>(side.data + (k * net.channels + c) * kLanes<T>);
            sum += a * a;
        }
        put_variance<T>(side, k, sum);
    }
}

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
void window_norms(const ImageNet& net, int64_t k, const ImageScratch<T>& work,
                  const Pixels<T>& side) {
    const ImageStep& step = net.step[k];
    const ImageLevel &now = net.level[k], &next = net.level[k + 1];
    const int64_t q = step.size, start = step.valid ? 0 : -(q / 2), width = next.w + q - 1;
    for (int64_t i = 0; i < next.h; ++i) {
        for (int64_t j = 0; j < width; ++j) {
            const int64_t column = met(j + start, now.w, net.circular);
            Vec<T> sum{};
            for (int64_t a = 0; a < q && column >= 0; ++a) {
                const int64_t row = met(i + a + start, now.h, net.circular);
                if (row < 0) continue;
                const Vec<T> n =
                    load<T>(side.norm + (now.offset + row * now.w + column) * kLanes<T>);
                sum += n * n;
            }
            store<T>(work.sums + j * kLanes<T>, sum);
        }
        window_sums<T>(work.sums, width, q, work.tails);
        for (int64_t j = 0; j < next.w; ++j)
            put_variance<T>(side, next.offset + i * next.w + j,
                            load<T>(work.sums + j * kLanes<T>) * static_cast<T>(step.gain) +
                                static_cast<T>(step.bias));
    }
}

template <class T>
void relu_norms(const ImageLevel& now, const ImageLevel& next, const Pixels<T>& side) {
    for (int64_t pixel = 0; pixel < now.h * now.w; ++pixel) {
        const int64_t o = (now.offset + pixel) * kLanes<T>;
        put_norm<T>(side, next.offset + pixel,
                    deviation_after_relu<T>(load<T>(side.norm + o), load<T>(side.inverse + o)));
    }
}

// Deviations after a step that is no pool.
template <class T>
void next_norms(const ImageNet& net, int64_t k, const ImageScratch<T>& work,
                const Pixels<T>& side) {
    const ImageStep& step = net.step[k];
    if (step.op == ImageOp::kConv) return window_norms<T>(net, k, work, side);
    const ImageLevel &now = net.level[k], &next = net.level[k + 1];
    if (step.op == ImageOp::kRelu) return relu_norms<T>(now, next, side);
    const auto square = [&](int64_t pixel) {
        const Vec<T> n = load<T>(side.norm + pixel * kLanes<T>);
        return n * n;
    };
    const int64_t added = step.op == ImageOp::kAdd ? saved_level(net, k).offset : 0;
    for (int64_t pixel = 0; pixel < next.h * next.w; ++pixel) {
        Vec<T> sum = square(now.offset + pixel);
        if (step.op == ImageOp::kAdd) sum += square(added + pixel);
        put_variance<T>(side, next.offset + pixel, sum);
    }
}

// ---- steps on the plane of a displacement -------------------------------------------------------

template <class T, bool Self>
struct PixelPairs : PairOfImages<T, Self> {
    const ImageScratch<T>& work;
};

// The pairs of one row: calls body(index in the plane, pixel of x, pixel of y) for each. The loop
// reads copies only: as far as the compiler can tell, whatever stands in memory may be changed by
// the numbers that the body stores, and pointers and sizes would be loaded anew for every pair.
template <class Body>
NTK_FN void each_pair(const ImageLevel& level, const Frame& f, int64_t i, Body body) {
    const Segment columns = f.columns;
    const int64_t w = level.w, at = i * columns.length;
    const int64_t x = level.offset + (f.rows.x + i) * w + columns.x;
    const int64_t y = level.offset + f.rows.other(i, level.h) * w;
    for (int64_t j = 0; j < columns.length; ++j) body(at + j, x + j, y + columns.other(j, w));
}

// Covariances of the pixels; the first step, a convolution, needs no more.
template <class T, bool Self>
void start_plane(const PixelPairs<T, Self>& p) {
    const Frame f = p.frame(0);
    for (int64_t i = 0; i < f.rows.length; ++i)
        each_pair(p.net.level[0], f, i, [&](int64_t at, int64_t x, int64_t y) {
            store<T>(p.work.plane.s + at * kLanes<T>, first_covariance<T>(p, x, y));
        });
}

template <class T, bool Positive, bool Self, class Put>
NTK_FN void relu_row_of(const PixelPairs<T, Self>& p, int64_t k, const Frame& f, int64_t i,
                        Put put) {
    const Planes<T> plane = p.work.plane;
    const T *const norm_x = p.x.norm, *const norm_y = p.y.norm;
    const int64_t first = i * f.columns.length;
    each_pair(p.net.level[k + 1], f, i, [&](int64_t at, int64_t x, int64_t y) {
        const int64_t o = at * kLanes<T>;
        const Vec<T> s = Positive ? Vec<T>{} : load<T>(plane.s + o);
        put(at - first, relu_pair<T, Positive>(s, load<T>(plane.v + o), load<T>(plane.t + o),
                                               p.left(norm_x, x) * p.right(norm_y, y)));
    });
}

// Step k, ReLU, on one row; calls put(column, pair).
template <class T, bool Self, class Put>
NTK_FN void relu_row(const PixelPairs<T, Self>& p, int64_t k, const Frame& f, int64_t i, Put put) {
    if (is_positive(p.net, k))
        relu_row_of<T, true>(p, k, f, i, put);
    else
        relu_row_of<T, false>(p, k, f, i, put);
}

template <class T, bool Self>
void relu_plane(const PixelPairs<T, Self>& p, int64_t k) {
    const Frame f = p.frame(k);
    const Planes<T>& plane = p.work.plane;
    for (int64_t i = 0; i < f.rows.length; ++i)
        relu_row<T>(p, k, f, i, [&](int64_t j, const PixelPair<T>& pair) {
            const int64_t o = (i * f.columns.length + j) * kLanes<T>;
            store<T>(plane.s + o, pair.s), store<T>(plane.v + o, pair.v);
            store<T>(plane.t + o, pair.t);
        });
}

// The rows of a plane that the windows of a convolution cover, with their margins. Rows are taken
// in order, after ReLU if there is one before, and the plane is overwritten behind them. Raw: the
// first step, before which there are no tangents and angles come from the images.
template <class T, bool Self, bool Raw>
struct Windows {
    const PixelPairs<T, Self>& p;
    const int64_t k;
    const ImageStep& step;
    const bool relu;  // step k - 1
    const Frame now, next;
    const int64_t r, start, width;  // columns with margins
    const int64_t stride;

    Windows(const PixelPairs<T, Self>& pair, int64_t number, bool after_relu)
        : p(pair),
          k(number),
          step(pair.net.step[number]),
          relu(after_relu),
          now(pair.frame(number)),
          next(pair.frame(number + 1)),
          r(step.size / 2),
          start(step.valid ? 0 : -r),
          width(next.columns.length + 2 * r),
          stride(pair.work.ring_row) {}

    // Array 0 to 2 (s, v, t) of a row of the ring; rows from step.size on keep the top of a circle.
    NTK_FN T* row(int64_t at, int64_t array) const {
        return p.work.ring + (3 * at + array) * stride;
    }

    // Row `at` of the ring from column 0 on.
    NTK_FN Planes<T> row(int64_t at) const {
        const int64_t o = -start * kLanes<T>;
        return {row(at, 0) + o, row(at, 1) + o, row(at, 2) + o};
    }
    static NTK_FN void put(const Planes<T>& to, int64_t column, const PixelPair<T>& pair) {
        const int64_t o = column * kLanes<T>;
        store<T>(to.s + o, pair.s);
        if constexpr (Raw) return;
        store<T>(to.v + o, pair.v), store<T>(to.t + o, pair.t);
    }
    static NTK_FN PixelPair<T> get(const Planes<T>& from, int64_t column) {
        const int64_t o = column * kLanes<T>;
        if constexpr (Raw) return {load<T>(from.s + o), Vec<T>{}, Vec<T>{}};
        return {load<T>(from.s + o), load<T>(from.v + o), load<T>(from.t + o)};
    }

    NTK_FN void copy_row(int64_t from, int64_t to) const {
        std::memcpy(row(to, 0), row(from, 0), sizeof(T) * static_cast<std::size_t>(3 * stride));
    }

    // Puts row i of the plane, margins included, into the ring.
    void take(int64_t i, int64_t at) const {
        const int64_t h = now.rows.length, w = now.columns.length;
        const Planes<T> to = row(at), plane = p.work.plane;
        if (p.net.circular && i >= h) return copy_row(step.size + i - h, at);
        if (!p.net.circular && (i < 0 || i >= h)) {
            for (int64_t j = start; j < start + width; ++j) put(to, j, PixelPair<T>{});
            return;
        }
        const int64_t source = i < 0 ? i + h : i;
        if (relu) {
            relu_row<T>(p, k - 1, now, source,
                        [&](int64_t j, const PixelPair<T>& pair) { put(to, j, pair); });
        } else {
            for (int64_t j = 0; j < w; ++j) put(to, j, get(plane, source * w + j));
        }
        for (int64_t j = start; j < 0; ++j) {
            put(to, j, p.net.circular ? get(to, w + j) : PixelPair<T>{});
            put(to, w - 1 - j, p.net.circular ? get(to, -1 - j) : PixelPair<T>{});
        }
        if (p.net.circular && i >= 0 && i < r) copy_row(at, step.size + i);
    }

    // v after the convolution at row i and column j from small quantities.
    Vec<T> accurate(int64_t i, int64_t j, Vec<T> s, Vec<T> inverse_x, Vec<T> inverse_y) const {
        return window_defect<T, Raw>(
            p, k, i, j, s, inverse_x, inverse_y,
            [&](int64_t a, int64_t b) { return get(row((i + a) % step.size), j + start + b); });
    }

    // Row i of the result: sums(column) gives those of the window of S and T, columns in order.
    template <class Sums>
    NTK_FN void finish_row(int64_t i, Sums sums) const {
        const PixelPairs<T, Self> pair = p;  // copies: see each_pair
        const ImageStep last = step;
        const Planes<T> plane = p.work.plane;
        const int64_t first = i * next.columns.length;
        const bool hidden = is_positive(p.net, k + 1);
        each_pair(p.net.level[k + 1], next, i, [&](int64_t at, int64_t x, int64_t y) {
            const int64_t j = at - first, o = at * kLanes<T>;
            const WindowSums now = sums(j);
            const PixelPair<T> result = convolved<T, Raw>(
                pair, last, x, y, now.s, now.t, [&](Vec<T> s, Vec<T> inverse_x, Vec<T> inverse_y) {
                    return accurate(i, j, s, inverse_x, inverse_y);
                });
            if (!hidden) store<T>(plane.s + o, result.s);
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

    // With windows of any size, after add_row of its last row.
    void sum_row(int64_t i) const {
        T *const s = p.work.sums, *const t = s + stride;
        sum_columns(i, 0, s);
        if constexpr (!Raw) sum_columns(i, 2, t);
        finish_row(i, [&](int64_t j) {
            const int64_t o = j * kLanes<T>;
            return WindowSums{load<T>(s + o), Raw ? Vec<T>{} : load<T>(t + o)};
        });
    }

    // Window sums along rows of the sums along columns, of S or T, of row i of the result.
    void sum_columns(int64_t i, int64_t array, T* to) const {
        const T *const head = heads(array), *const tail = tails(i % step.size, array);
        for (int64_t j = 0; j < width; ++j) {
            const int64_t o = j * kLanes<T>;
            store<T>(to + o, load<T>(tail + o) + load<T>(head + o));
        }
        window_sums<T>(to, width, step.size, p.work.tails);
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
            if (at < step.size - 1) {
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
    const int64_t q = windows.step.size, rows = windows.next.rows.length;
    for (int64_t t = 0; t < rows + q - 1; ++t) {
        windows.take(windows.start + t, t % q);
        if (q != 3) windows.add_row(t % q);
        if (t < q - 1) continue;
        if (q == 3)
            windows.sum_row_of_3(t - 2);
        else
            windows.sum_row(t - q + 1);
    }
}

// Step k, a convolution, together with the ReLU before it if there is one.
template <class T, bool Self>
void convolve(const PixelPairs<T, Self>& p, int64_t k, bool relu) {
    if (k == 0)
        convolve_rows(Windows<T, Self, true>(p, k, relu));
    else
        convolve_rows(Windows<T, Self, false>(p, k, relu));
}

template <class T, bool Self>
void save_plane(const PixelPairs<T, Self>& p, int64_t k) {
    const Frame f = p.frame(k);
    const auto size = static_cast<std::size_t>(f.rows.length * f.columns.length) * sizeof(Vec<T>);
    const Planes<T>&from = p.work.plane, &to = p.work.slot[p.net.step[k].slot];
    std::memcpy(to.s, from.s, size), std::memcpy(to.v, from.v, size);
    std::memcpy(to.t, from.t, size);
}

// Step k adds a saved plane.
template <class T, bool Self>
void add_plane(const PixelPairs<T, Self>& p, int64_t k) {
    const Frame f = p.frame(k);
    const Planes<T>&plane = p.work.plane, &saved = p.work.slot[p.net.step[k].slot];
    const int64_t here = p.net.level[k + 1].offset, to_branch = here - p.net.level[k].offset;
    const int64_t to_saved = here - saved_level(p.net, k).offset;
    for (int64_t i = 0; i < f.rows.length; ++i)
        each_pair(p.net.level[k + 1], f, i, [&](int64_t at, int64_t x, int64_t y) {
            const int64_t o = at * kLanes<T>;
            const auto load_pair = [&](const Planes<T>& from) {
                return PixelPair<T>{load<T>(from.s + o), load<T>(from.v + o), load<T>(from.t + o)};
            };
            const PixelPair<T> sum =
                added<T>(p, x, y, load_pair(plane), to_branch, load_pair(saved), to_saved);
            store<T>(plane.s + o, sum.s), store<T>(plane.v + o, sum.v);
            store<T>(plane.t + o, sum.t);
        });
}

// ---- from plane to plane ------------------------------------------------------------------------

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
    const ImageLevel& level = p.net.level[k];
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

// The plane at a level after a pool.
template <class T, bool Self>
void fetch_plane(const PixelPairs<T, Self>& p, int64_t k, const Store& from, int64_t a, int64_t b,
                 const T* sums) {
    const Frame f = p.frame(k);
    const T* const s_from = sums + plane_at(from, a, b) * kLanes<T>;
    const T* const t_from = s_from + from.size() * kLanes<T>;
    const Vec<T> differ = p.di == 0 && p.dj == 0 ? p.differ : broadcast<T>(T(1));
    for (int64_t i = 0; i < f.rows.length; ++i)
        each_pair(p.net.level[k], f, i, [&](int64_t at, int64_t x, int64_t y) {
            const int64_t o = at * kLanes<T>;
            const PixelPair<T> pair =
                pooled<T>(p, x, y, load<T>(s_from + o), load<T>(t_from + o), differ);
            store<T>(p.work.plane.s + o, pair.s), store<T>(p.work.plane.v + o, pair.v);
            store<T>(p.work.plane.t + o, pair.t);
        });
}

// Adds the weighted sums of T and S over the plane to the totals.
template <class T, bool Self>
void read_plane(const PixelPairs<T, Self>& p, double factor) {
    const ImageLevel& level = last_level(p.net);
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

// Steps from k to before `end` on a plane.
template <class T, bool Self>
void run_steps(const PixelPairs<T, Self>& p, int64_t k, int64_t end) {
    for (; k < end; ++k) {
        const ImageStep* const step = p.net.step + k;
        switch (step->op) {
            case ImageOp::kConv: convolve<T>(p, k, false); break;
            case ImageOp::kSave: save_plane<T>(p, k); break;
            case ImageOp::kAdd: add_plane<T>(p, k); break;
            case ImageOp::kPool: break;
            case ImageOp::kRelu:
                if (k + 1 < end && step[1].op == ImageOp::kConv)
                    convolve<T>(p, ++k, true);
                else
                    relu_plane<T>(p, k);
        }
    }
}

// All steps on all planes. Self finds the deviations of the images on the way, and stops when it
// has them unless it is `whole`: then the totals are the kernel of images and themselves.
template <class T, bool Self>
void run_pair(PixelPairs<T, Self>& p, bool whole, const volatile int* cancelled) {
    const ImageNet& net = p.net;
    for (int64_t l = 0; l < 2 * kLanes<T>; ++l) p.work.total[l] = 0;
    const auto store_of = [&](int64_t k) {
        return Store(net.level[k], whole ? net.level[k].reach : net.level[k].self, net.circular);
    };
    T *from = p.work.store[0], *to = p.work.store[1];
    for (int64_t k = 0;;) {
        const int64_t end = next_pool(net, k);
        if constexpr (Self)
            for (int64_t l = k; l < end; ++l) next_norms<T>(net, l, p.work, p.x);
        if (end == net.count && !whole) return;
        const Store here = store_of(k), next = store_of(end < net.count ? end + 1 : end);
        if (end < net.count)
            std::memset(to, 0, sizeof(Vec<T>) * static_cast<std::size_t>(2 * next.size()));
        for (int64_t a = 0; a < here.rows.count; ++a)
            for (int64_t b = 0; b < here.columns.count; ++b) {
                if (*cancelled) return;
                const double factor = Self && !p.pools ? multiplicity(here, a, b) : 1;
                if (factor == 0) continue;
                p.di = here.rows.first + a, p.dj = here.columns.first + b;
                if (k == 0)
                    start_plane<T>(p);
                else
                    fetch_plane<T>(p, k, here, a, b, from);
                run_steps<T>(p, k, end - relu_before(net, end));
                if (end < net.count)
                    pool_plane<T>(p, end, next, to);
                else
                    read_plane<T>(p, factor);
            }
        if (end == net.count) return;
        T* const done = to;
        to = from, from = done, k = end + 1;
        if constexpr (Self) {  // the variances after the pool are the pairs without displacement
            const int64_t at =
                plane_at(next, next.find(next.rows, 0, next.h), next.find(next.columns, 0, next.w));
            for (int64_t pixel = 0; pixel < next.h * next.w; ++pixel)
                put_variance<T>(p.x, net.level[k].offset + pixel,
                                load<T>(from + (at + pixel) * kLanes<T>));
        }
    }
}

// ---- tasks --------------------------------------------------------------------------------------

// Reads images and finds their deviations; `whole`: their kernels with themselves too.
template <class T>
void prepare(const Images<T>& p, const ImageScratch<T>& work, const Pixels<T>& side, const T* data,
             int64_t stride, const T* scale, int64_t count, bool whole) {
    pack_images<T>(p.net, data, stride, scale, count, side.data);
    first_norms<T>(p.net, side);
    const bool pools = next_pool(p.net, 0) < p.net.count;
    PixelPairs<T, true> self{{p.net, side, side, pools, Vec<T>{}, 0, 0}, work};
    run_pair<T, true>(self, whole, p.cancelled);
}

// 0 in the lanes whose image of y equals that of x, else 1.
template <class T>
Vec<T> different(const ImageNet& net, const T* x, const T* y) {
    Vec<T> found{};
    for (int64_t k = 0; k < net.level[0].h * net.level[0].w * net.channels; ++k)
        found = max2(found, abs2(load<T>(y + k * kLanes<T>) - x[k]));
    return found > Vec<T>{} ? broadcast<T>(T(1)) : Vec<T>{};
}

// Writes the results of image i of x and the lanes of images of y from j on.
template <class T>
void write_images(const Images<T>& p, const double* total, int64_t i, int64_t j) {
    for (int64_t l = 0; l < kLanes<T> && j + l < p.m; ++l) {
        if (p.symmetric && j + l < i) continue;
        const ImageValues values =
            image_values(p.net, total[l], total[kLanes<T> + l], p.factor_x[i], p.factor_y[j + l]);
        for (int k = 0; k < 2; ++k) {
            if (!p.out[k]) continue;
            p.out[k][i * p.ldo[k] + j + l] = static_cast<T>(values.value[k]);
            if (p.symmetric) p.out[k][(j + l) * p.ldo[k] + i] = static_cast<T>(values.value[k]);
        }
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
        for (int k = 0; k < 2; ++k)
            if (p.out[k]) p.out[k][(i + l) * p.ldo[k]] = static_cast<T>(values.value[k]);
    }
}

// Leaves the kernels of an image of x and a vector of images of y in the totals.
template <class T>
void image_pairs(const Images<T>& p, const ImageScratch<T>& work, const Pixels<T>& x,
                 const Pixels<T>& y) {
    const bool pools = next_pool(p.net, 0) < p.net.count;
    const Vec<T> differ = pools ? different<T>(p.net, x.data, y.data) : broadcast<T>(T(1));
    PixelPairs<T, false> pair{{p.net, x, y, pools, differ, 0, 0}, work};
    run_pair<T, false>(pair, true, p.cancelled);
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
    for (int64_t j = first; j < last; j += kLanes<T>) {
        const int64_t end = end_of(smaller(j + kLanes<T>, last));
        for (int64_t i = begin; i < end; ++i) {
            if (*p.cancelled) return;
            image_pairs<T>(p, work, one_image<T>(p.net, work.ones, i - begin),
                           work.right[(j - first) / kLanes<T>]);
            write_images<T>(p, work.total, i, j);
        }
    }
}

}  // namespace
