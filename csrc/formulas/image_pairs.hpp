// Pairs of pixels of two images: which there are, and the formulas of one of them.
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

#include "formulas/arccos.hpp"
#include "formulas/problems.hpp"

namespace {  // internal linkage: see simd.hpp

using namespace ntkfast;
using std::int64_t;

// Below it the angle that a subtraction gives has lost more than four bits.
template <class T>
constexpr T kClose = T(0.01);

// Standard deviations of the pixels of images and their inverses (0 for 0), by levels.
template <class T>
struct Pixels {
    T *data, *norm, *inverse;  // [pixel][channels], [level][pixel] twice; of vectors or of numbers
};

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
    NTK_FN Store(const ImageLevel& level, const int64_t* reach, bool circle)
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

NTK_FN const ImageLevel& last_level(const ImageNet& net) { return net.level[net.count]; }
NTK_FN int64_t total_pixels(const ImageNet& net) {
    const ImageLevel& last = last_level(net);
    return last.offset + last.h * last.w;
}

// The level that step k, an addition, adds.
NTK_FN const ImageLevel& saved_level(const ImageNet& net, int64_t k) {
    const std::int32_t slot = net.step[k].slot;
    while (net.step[k].op != ImageOp::kSave || net.step[k].slot != slot) --k;
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
    NTK_FN Frame(const ImageLevel& level, int64_t di, int64_t dj, bool circular)
        : rows(pairs_at(di, level.h, circular)), columns(pairs_at(dj, level.w, circular)) {}
};

// A pair of images at work. Self: the lanes of x are images too, the same as those of y.
template <class T, bool Self>
struct PairOfImages {
    const ImageNet& net;
    Pixels<T> x, y;
    bool pools;     // angles after a pool are differences,
    Vec<T> differ;  // so that equal images are told by their data: 0 where they are
    int64_t di, dj;

    NTK_FN Vec<T> left(const T* of, int64_t k) const {
        if constexpr (Self)
            return load<T>(of + k * kLanes<T>);
        else
            return broadcast<T>(of[k]);
    }
    NTK_FN Vec<T> right(const T* of, int64_t k) const { return load<T>(of + k * kLanes<T>); }
    NTK_FN Frame frame(int64_t level) const {
        return Frame(net.level[level], di, dj, net.circular);
    }
};

// 1 - |u| of a pixel of x and one of y with covariance s.
template <class T, bool Self>
NTK_BOTH Vec<T> start_defect(const PairOfImages<T, Self>& p, int64_t x, int64_t y, Vec<T> s) {
    const int64_t channels = p.net.channels;
    const Vec<T> a = p.left(p.x.inverse, x), b = p.right(p.y.inverse, y);
    const Vec<T> sign = s < Vec<T>{} ? -b : b;
    Vec<T> gap{};
    for (int64_t c = 0; c < channels; ++c) {
        const Vec<T> difference =
            p.left(p.x.data, x * channels + c) * a - p.right(p.y.data, y * channels + c) * sign;
        gap += difference * difference;
    }
    return gap * T(0.5);
}

template <class T>
struct PixelPair {
    Vec<T> s, v, t;
};

// E[relu relu] = N M kappa1 / 2 and E[relu' relu'] = kappa0 / 2; `scale` is N M / 2. Positive: no
// covariance is negative.
template <class T, bool Positive>
NTK_FN PixelPair<T> relu_pair(Vec<T> s, Vec<T> v, Vec<T> t, Vec<T> scale) {
    const auto back = s < Vec<T>{};
    const auto turned = [&](Vec<T> there, Vec<T> here) {
        if constexpr (Positive) return here;
        return back ? there : here;
    };
    const AcuteAngle<T> angle = acute_angle<T>(v);
    const Vec<T> u = T(1) - v, kappa0 = turned(angle.turn, T(1) - angle.turn);
    Vec<T> kappa1 = angle.sine * kInversePi<T> + kappa0 * turned(-u, u), defect = T(1) - kappa1;
    const Vec<T> close = broadcast<T>(kClose<T>);
    if (mask_below<T>(v, close)) {
        const Vec<T> small = chord<T>(T(0.5) * v), near = v - small;
        defect = v < close ? turned(T(1) - small, near) : defect;
        kappa1 = v < close ? turned(small, T(1) - near) : kappa1;
    }
    return {scale * kappa1, defect, t * (kappa0 * T(0.5))};
}

// Whether step k is ReLU behind a convolution of ReLU: no covariance is then negative, and the plane
// leaves them out.
NTK_FN bool is_positive(const ImageNet& net, int64_t k) {
    return k >= 2 && k < net.count && net.step[k].op == ImageOp::kRelu &&
           net.step[k - 1].op == ImageOp::kConv && net.step[k - 2].op == ImageOp::kRelu;
}

// The covariance of a pixel of x and one of y.
template <class T, bool Self>
NTK_FN Vec<T> first_covariance(const PairOfImages<T, Self>& p, int64_t x, int64_t y) {
    const int64_t channels = p.net.channels;
    Vec<T> dot{};
    for (int64_t c = 0; c < channels; ++c)
        dot += p.left(p.x.data, x * channels + c) * p.right(p.y.data, y * channels + c);
    return dot;
}

// A standard deviation and its inverse.
template <class T>
struct Deviation {
    Vec<T> norm, inverse;
};
// One whose inverse overflows counts as zero, like zero itself.
template <class T>
NTK_FN Deviation<T> deviation(Vec<T> norm, Vec<T> inverse) {
    const T huge = sizeof(T) == 4 ? T(3e38) : T(1.7e308);
    return {norm, inverse < broadcast<T>(huge) ? inverse : Vec<T>{}};
}
// That of a variance.
template <class T>
NTK_FN Deviation<T> deviation(Vec<T> square) {
    const Vec<T> norm = sqrt_lanes<T>(square);
    return deviation<T>(norm, T(1) / norm);
}
// ReLU halves variances: no roots, no divisions.
template <class T>
NTK_FN Deviation<T> deviation_after_relu(Vec<T> norm, Vec<T> inverse) {
    constexpr T kRoot = T(1.41421356237309504880);
    return deviation<T>(norm * (kRoot / 2), inverse * kRoot);
}

// v after step k, a convolution, at row i and column j of its plane, from small quantities: see the
// head of the file. at(a, b) is the pair of pixels at that place of the window. Raw: the first step,
// before which there are no tangents and angles come from the images.
template <class T, bool Raw, bool Self, class At>
NTK_BOTH Vec<T> window_defect(const PairOfImages<T, Self>& p, int64_t k, int64_t i, int64_t j,
                              Vec<T> s, Vec<T> inverse_x, Vec<T> inverse_y, At at) {
    const ImageStep& step = p.net.step[k];
    const ImageLevel &level = p.net.level[k], &after = p.net.level[k + 1];
    const Frame next = p.frame(k + 1);
    const int64_t start = step.valid ? 0 : -(step.size / 2);
    const int64_t xi = next.rows.x + i, yi = next.rows.other(i, after.h);
    const int64_t xj = next.columns.x + j, yj = next.columns.other(j, after.w);
    const auto back = s < Vec<T>{};
    Vec<T> inner{}, gap{};
    for (int64_t a = 0; a < step.size; ++a)
        for (int64_t b = 0; b < step.size; ++b) {
            const auto tap = [&](int64_t pixel, int64_t size) {
                return met(pixel + start, size, p.net.circular);
            };
            const int64_t xr = tap(xi + a, level.h), xc = tap(xj + b, level.w);
            const int64_t yr = tap(yi + a, level.h), yc = tap(yj + b, level.w);
            const bool of_x = xr >= 0 && xc >= 0, of_y = yr >= 0 && yc >= 0;
            const int64_t x = xr * level.w + xc, y = yr * level.w + yc;
            Vec<T> n{}, m{};
            if (of_x) n = p.left(p.x.norm, level.offset + x) * inverse_x;
            if (of_y) m = p.right(p.y.norm, level.offset + y) * inverse_y;
            gap += (n - m) * (n - m);
            if (!of_x || !of_y) continue;
            PixelPair<T> pair = at(a, b);
            if constexpr (Raw) pair.v = start_defect<T>(p, x, y, pair.s);
            const auto same = (pair.s < Vec<T>{}) == back;
            inner += n * m * (same ? pair.v : T(2) - pair.v);
        }
    const T bias = static_cast<T>(step.bias), gain = static_cast<T>(step.gain);
    const Vec<T> apart = inverse_x - inverse_y, product = T(2) * bias * inverse_x * inverse_y;
    return gain * (inner + T(0.5) * gap) + T(0.5) * bias * apart * apart +
           (back ? product : Vec<T>{});
}

// A pair of pixels x and y after a convolution, given the sums of its window; better(s, inverse_x,
// inverse_y) is v from small quantities.
template <class T, bool Raw, bool Self, class Better>
NTK_FN PixelPair<T> convolved(const PairOfImages<T, Self>& p, const ImageStep& step, int64_t x,
                              int64_t y, Vec<T> sum, Vec<T> t, Better better) {
    const T gain = static_cast<T>(step.gain), trained = static_cast<T>(step.trained);
    const Vec<T> s = gain * sum + static_cast<T>(step.bias);
    const Vec<T> inverse_x = p.left(p.x.inverse, x), inverse_y = p.right(p.y.inverse, y);
    Vec<T> v = max2(T(1) - abs2(s) * (inverse_x * inverse_y), Vec<T>{});
    const Vec<T> close = broadcast<T>(kClose<T>);
    if (mask_below<T>(v, close)) {
        const Vec<T> accurate = better(s, inverse_x, inverse_y);
        v = v < close ? accurate : v;
    }
    return {s, v, Raw ? trained * s : gain * t + trained * s};
}

// The sum of two pairs, whose pixels stand `to_a` and `to_b` before x and y; its angle is found as
// in a window of two pixels.
template <class T, bool Self>
NTK_FN PixelPair<T> added(const PairOfImages<T, Self>& p, int64_t x, int64_t y,
                          const PixelPair<T>& a, int64_t to_a, const PixelPair<T>& b,
                          int64_t to_b) {
    const Vec<T> inverse_x = p.left(p.x.inverse, x), inverse_y = p.right(p.y.inverse, y);
    const Vec<T> s = a.s + b.s;
    const auto back = s < Vec<T>{};
    Vec<T> v{};
    const auto part = [&](int64_t before, Vec<T> sum, Vec<T> defect) {
        const Vec<T> n = p.left(p.x.norm, x - before) * inverse_x;
        const Vec<T> m = p.right(p.y.norm, y - before) * inverse_y;
        const auto same = (sum < Vec<T>{}) == back;
        v += n * m * (same ? defect : T(2) - defect) + T(0.5) * (n - m) * (n - m);
    };
    part(to_a, a.s, a.v);
    part(to_b, b.s, b.v);
    return {s, v, a.t + b.t};
}

// A pair after a pool; `differ` is 0 for a pixel and itself.
template <class T, bool Self>
NTK_FN PixelPair<T> pooled(const PairOfImages<T, Self>& p, int64_t x, int64_t y, Vec<T> s, Vec<T> t,
                           Vec<T> differ) {
    const Vec<T> scale = p.left(p.x.inverse, x) * p.right(p.y.inverse, y);
    return {s, max2(T(1) - abs2(s) * scale, Vec<T>{}) * differ, t};
}

// NTK and NNGP, from the weighted sums of T and S and the factors of both images.
struct ImageValues {
    double value[2];
};
NTK_FN ImageValues image_values(const ImageNet& net, double t, double s, double factor_x,
                                double factor_y) {
    const double sum = s + net.bias, factor = factor_x * factor_y;
    return {{factor * (t + net.trained * sum), factor * sum}};
}

// Where the plane of the displacements number a and b begins.
NTK_FN int64_t plane_at(const Store& store, int64_t a, int64_t b) {
    const int64_t height = pairs_at(store.rows.first + a, store.h, store.circular).length;
    return store.before(store.rows, store.h, a) * store.all_columns() +
           height * store.before(store.columns, store.w, b);
}

// Whether step k, or the read-out behind the last, follows on ReLU: it may then take the results of
// ReLU at once and not from a plane.
NTK_FN bool relu_before(const ImageNet& net, int64_t k) {
    return k > 0 && net.step[k - 1].op == ImageOp::kRelu;
}

NTK_FN int64_t next_pool(const ImageNet& net, int64_t k) {
    while (k < net.count && net.step[k].op != ImageOp::kPool) ++k;
    return k;
}

// How often a displacement of an image and itself counts: it has the same sum as the opposite one.
NTK_FN double multiplicity(const Store& store, int64_t a, int64_t b) {
    const int64_t other =
        store.find(store.rows, -(store.rows.first + a), store.h) * store.columns.count +
        store.find(store.columns, -(store.columns.first + b), store.w);
    const int64_t own = a * store.columns.count + b;
    return own < other ? 2 : own == other ? 1 : 0;
}

}  // namespace
