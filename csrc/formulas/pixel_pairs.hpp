// The steps of a convolutional network on one pair of pixels of two images.
//
// With N, M the standard deviations of the two pixels, a pair is carried as its covariance S, its
// tangent kernel T and v = 1 - |S| / (N M). A window sum of S gives v only to rounding, and the
// angle to its root; where v is small it is therefore summed from what is small, with
// n = N_a / N', m = M_a / M' over the pixels a of the window:
//     1 - S' / (N' M') = sum n m (1 - u_a) + 1/2 sum (n - m)^2,
// non-negative terms only, so that pairs of equal patches come out exact at any depth: n and m are
// rounded alike before they meet. In the first window pixels are vectors of channels p and q, and
// 1 - S' / (N' M') = 1/2 sum |p_a / N' - q_a / M'|^2.
#pragma once

#include "formulas/activation.hpp"
#include "formulas/deviations.hpp"
#include "formulas/planes.hpp"

namespace {  // internal linkage: see simd.hpp

// Below it the angle that a subtraction gives has lost more than four bits.
template <class T>
constexpr T kClose = T(0.01);

// A pair of images at work. Self: the lanes of x are images too, the same as those of y.
template <class T, bool Self>
struct PairOfImages {
    const ImageNet& net;
    Pixels<T> x, y;
    bool pools;     // angles after a pool are differences
    Vec<T> differ;  // 0 where the images are equal: their pixels have no angle, which costs nothing
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

template <class T>
struct PixelPair {
    Vec<T> s, v, t;
};

// E[relu relu] = N M kappa1 / 2 and E[relu' relu'] = kappa0 / 2; `scale` is N M / 2. Positive: no
// covariance is negative, and t comes as a half.
template <class T, bool Positive>
NTK_FN PixelPair<T> relu_pair(Vec<T> s, Vec<T> v, Vec<T> t, Vec<T> scale) {
    const auto back = s < Vec<T>{};
    const auto turned = [&](Vec<T> there, Vec<T> here) {
        if constexpr (Positive) return here;
        return back ? there : here;
    };
    const AcuteAngle<T> angle = acute_angle<T>(v);
    const Vec<T> kappa0 = turned(angle.turn, T(1) - angle.turn), part = kappa0 - kappa0 * v;
    Vec<T> kappa1 = angle.sine * kInversePi<T> + turned(-part, part), defect = T(1) - kappa1;
    const Vec<T> close = broadcast<T>(kClose<T>);
    if (mask_below<T>(v, close)) {
        const Vec<T> small = chord<T>(T(0.5) * v), near = v - small;
        defect = v < close ? turned(T(1) - small, near) : defect;
        kappa1 = v < close ? turned(small, T(1) - near) : kappa1;
    }
    return {scale * kappa1, defect, t * (Positive ? kappa0 : kappa0 * T(0.5))};
}

// A pair before step k, an activation other than ReLU, after it.
template <class T, bool Self>
NTK_BOTH PixelPair<T> activated(const PairOfImages<T, Self>& p, int64_t k, int64_t x, int64_t y,
                                const PixelPair<T>& pair) {
    const ImageNet& net = p.net;
    const Level &now = net.level[k], &next = net.level[k + 1];
    const int64_t count = numbers_per_pixel(net.step[k]), ones = Self ? kLanes<T> : 1;
    const T* const of_x = p.x.numbers + (now.numbers + (x - next.offset) * count) * ones;
    const T* const of_y = p.y.numbers + (now.numbers + (y - next.offset) * count) * kLanes<T>;
    const Stats<T, std::conditional_t<Self, Vec<T>, T>> stats{of_x, of_y, kLanes<T>};
    const LayerConstants<T>& layer = activations_of<T>(net).constants[k];
    const auto back = pair.s < Vec<T>{};
    const Vec<T> far = T(2) - pair.v;
    const int last = static_cast<int>(count) - 1;
    Carried<T> now_at{back ? far : pair.v, back ? pair.v : far, pair.t * stats.pair(last, 0)};
    with_activation<T>(layer, stats, [&](const auto& form) { now_at = form(0, now_at); });
    const Vec<T> size = p.left(p.x.norm, x) * p.right(p.y.norm, y);
    return {size * cosine<T>(now_at.w, now_at.co), min2(now_at.w, now_at.co), now_at.t};
}

// The covariance of a pixel of x and one of y.
template <class T, bool Self>
NTK_FN Vec<T> first_covariance(const PairOfImages<T, Self>& p, int64_t x, int64_t y,
                               int64_t channels) {
    Vec<T> dot{};
    for (int64_t c = 0; c < channels; ++c)
        dot += p.left(p.x.data, x * channels + c) * p.right(p.y.data, y * channels + c);
    return dot;
}

// v after step k, a convolution, at row i and column j of its plane, from small quantities: see the
// head of the file. at(a, b) is the pair of pixels at that place of the window. Raw: the first step,
// whose pixels are those of the images.
template <class T, bool Raw, bool Self, class At>
NTK_BOTH Vec<T> window_defect(const PairOfImages<T, Self>& p, int64_t k, int64_t i, int64_t j,
                              Vec<T> s, Vec<T> inverse_x, Vec<T> inverse_y, At at) {
    const ImageStep& step = p.net.step[k];
    const Level &level = p.net.level[k], &after = p.net.level[k + 1];
    const Frame next = p.frame(k + 1);
    const int64_t channels = p.net.channels;
    const int64_t xi = window_at(step, 0, next.rows.x + i);
    const int64_t yi = window_at(step, 0, next.rows.other(i, after.h));
    const int64_t xj = window_at(step, 1, next.columns.x + j);
    const int64_t yj = window_at(step, 1, next.columns.other(j, after.w));
    const auto back = s < Vec<T>{};
    const Vec<T> turned_y = back ? -inverse_y : inverse_y;
    Vec<T> inner{}, gap{};
    for (int64_t a = 0; a < step.window[0]; ++a)
        for (int64_t b = 0; b < step.window[1]; ++b) {
            const auto tap = [&](int64_t pixel, int64_t size) {
                return met(pixel, size, p.net.circular);
            };
            const int64_t xr = tap(xi + a, level.h), xc = tap(xj + b, level.w);
            const int64_t yr = tap(yi + a, level.h), yc = tap(yj + b, level.w);
            const bool of_x = xr >= 0 && xc >= 0, of_y = yr >= 0 && yc >= 0;
            const int64_t x = xr * level.w + xc, y = yr * level.w + yc;
            if constexpr (Raw) {
                for (int64_t c = 0; c < channels; ++c) {
                    Vec<T> one{}, other{};
                    if (of_x) one = product<T>(p.left(p.x.data, x * channels + c), inverse_x);
                    if (of_y) other = product<T>(p.right(p.y.data, y * channels + c), turned_y);
                    gap += (one - other) * (one - other);
                }
            } else {
                Vec<T> n{}, m{};
                if (of_x) n = product<T>(p.left(p.x.norm, level.offset + x), inverse_x);
                if (of_y) m = product<T>(p.right(p.y.norm, level.offset + y), inverse_y);
                gap += (n - m) * (n - m);
                if (!of_x || !of_y) continue;
                const PixelPair<T> pair = at(a, b);
                const auto same = (pair.s < Vec<T>{}) == back;
                inner += n * m * (same ? pair.v : T(2) - pair.v);
            }
        }
    const T bias = static_cast<T>(step.bias), gain = static_cast<T>(step.gain);
    const Vec<T> apart = inverse_x - inverse_y, product = T(2) * bias * inverse_x * inverse_y;
    return gain * (inner + T(0.5) * gap) + T(0.5) * bias * apart * apart +
           (back ? product : Vec<T>{});
}

// A pair of pixels x and y after a convolution, given the sums of its window; better(v, s, inverse_x,
// inverse_y) is v from small quantities where it is close. Positive: relu_pair follows with it.
template <class T, bool Raw, bool Positive = false, bool Self, class Better>
NTK_FN PixelPair<T> convolved(const PairOfImages<T, Self>& p, const ImageStep& step, int64_t x,
                              int64_t y, Vec<T> sum, Vec<T> t, Better better) {
    const T gain = static_cast<T>(step.gain), part = Positive ? T(0.5) : T(1);
    const T trained = part * static_cast<T>(step.trained);
    const Vec<T> s = gain * sum + static_cast<T>(step.bias);
    const Vec<T> inverse_x = p.left(p.x.inverse, x), inverse_y = p.right(p.y.inverse, y);
    Vec<T> v = T(1) - (Positive ? s : abs2(s)) * (inverse_x * inverse_y);
    const Vec<T> close = broadcast<T>(kClose<T>);
    if (mask_below<T>(v, close)) {
        const Vec<T> accurate = better(v, s, inverse_x, inverse_y);
        v = v < close ? accurate : v;
    }
    return {s, v, Raw ? trained * s : part * gain * t + trained * s};
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
        const Vec<T> n = product<T>(p.left(p.x.norm, x - before), inverse_x);
        const Vec<T> m = product<T>(p.right(p.y.norm, y - before), inverse_y);
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

// Writes those of images i and j where they are wanted; in a symmetric matrix twice.
template <class T>
NTK_FN void put_image_values(const ImageValues& values, T* const (&out)[2], const int64_t (&ldo)[2],
                             int64_t i, int64_t j, bool symmetric) {
    for (int k = 0; k < 2; ++k) {
        if (!out[k]) continue;
        out[k][i * ldo[k] + j] = static_cast<T>(values.value[k]);
        if (symmetric) out[k][j * ldo[k] + i] = static_cast<T>(values.value[k]);
    }
}

}  // namespace
