// Tests of the convolutional kernels in C++ alone, for runs under the address and
// undefined-behaviour sanitizers: every instruction set, kind of step, read-out and number of
// images, against the recursion on the full four-dimensional covariance in plain loops.
#include <cmath>
#include <cstdio>
#include <random>
#include <vector>

#include "cpu/run.hpp"
#include "formulas/planes.hpp"
#include "host/pixel_numbers.hpp"

namespace {

using namespace ntkfast;
using std::int64_t;

int failures = 0, passes = 0;

// A network on images of one shape, with what its read-out reaches.
struct Network {
    const char* name;
    std::vector<ImageStep> steps;
    bool circular, mean;
    std::vector<Level> levels = {};
    std::vector<LayerConstants<float>> constants_f32 = {};
    std::vector<LayerConstants<double>> constants_f64 = {};
    std::vector<double> weight_h = {}, weight_w = {};

    ImageNet on(int64_t h, int64_t w, int64_t channels) {
        levels = {{h, w, 0, {}, {-1, -1}, {1, 1}, 0}};
        const Level* saved = nullptr;
        levels.reserve(steps.size() + 1);
        for (const ImageStep& step : steps) {
            const Level& now = levels.back();
            const LayerRow layer = layer_of(step);
            constants_f32.push_back(layer_constants<float>(layer));
            constants_f64.push_back(layer_constants<double>(layer));
            Level next = now;
            if (step.operation == ImageOperation::kSwap) next = *saved;
            next.offset = now.offset + now.h * now.w;
            next.numbers = now.numbers + numbers_per_pixel(step) * now.h * now.w;
            if (has_windows(step))
                next.h = windows(step, 0, now.h), next.w = windows(step, 1, now.w);
            if (step.operation == ImageOperation::kSave) saved = &now;
            levels.push_back(next);
        }
        Level& last = levels.back();
        last.reach[0] = mean ? last.h - 1 : 0, last.reach[1] = mean ? last.w - 1 : 0;
        int64_t at_swap[2] = {1, 1};
        for (std::size_t k = steps.size(); k-- > 0;) {
            Level &now = levels[k], &next = levels[k + 1];
            const ImageStep& step = steps[k];
            const bool pool = step.operation == ImageOperation::kPool;
            for (int a = 0; a < 2; ++a) {
                const int64_t most = (a ? now.w : now.h) - 1, scale = next.scale[a];
                const int64_t stride = step.stride[a];
                now.reach[a] = next.reach[a], now.own[a] = next.own[a], now.scale[a] = scale;
                if (step.operation == ImageOperation::kConv) now.scale[a] = stride * scale;
                if (step.operation == ImageOperation::kAdd) at_swap[a] = scale;
                if (step.operation == ImageOperation::kSwap) now.scale[a] = at_swap[a];
                if (!pool) continue;
                next.own[a] = std::max(next.own[a], int64_t(0));
                const auto before = [&](int64_t reach) {
                    return std::min(stride * scale * reach + step.window[a] - 1, most);
                };
                now.reach[a] = before(next.reach[a]), now.own[a] = before(next.own[a]);
                now.scale[a] = 1;
            }
        }
        for (const auto& [weight, size] :
             {std::pair{&weight_h, last.h}, std::pair{&weight_w, last.w}}) {
            weight->assign(static_cast<std::size_t>(size * size), 0);
            for (int64_t i = 0; i < size * size; ++i)
                if (mean || i / size == i % size)
                    (*weight)[static_cast<std::size_t>(i)] =
                        1.0 / static_cast<double>(mean ? size * size : size);
        }
        return {steps.data(),
                static_cast<int64_t>(steps.size()),
                levels.data(),
                channels,
                circular,
                weight_h.data(),
                weight_w.data(),
                1,
                0.25,
                {constants_f32.data(), numbers_of_pixels<float>},
                {constants_f64.data(), numbers_of_pixels<double>}};
    }

    static bool has_windows(const ImageStep& step) {
        return step.operation == ImageOperation::kConv || step.operation == ImageOperation::kPool;
    }
    // As many as fit into the image with `before` zeros on either side.
    static int64_t windows(const ImageStep& step, int axis, int64_t size) {
        return (size + 2 * step.before[axis] - step.window[axis]) / step.stride[axis] + 1;
    }
};

// Covariance and tangent kernel of all pairs of pixels.
struct Covariance {
    int64_t h, w;
    std::vector<double> s, t;
    std::size_t at(int64_t p, int64_t q) const { return static_cast<std::size_t>(p * h * w + q); }
};
struct Triple {  // of x and x, x and y, y and y
    Covariance own, pair, other;
};

Covariance first(const double* x, const double* y, const ImageNet& net) {
    Covariance c{net.level[0].h, net.level[0].w, {}, {}};
    const int64_t pixels = c.h * c.w;
    for (int64_t p = 0; p < pixels; ++p)
        for (int64_t q = 0; q < pixels; ++q) {
            double sum = 0;
            for (int64_t k = 0; k < net.channels; ++k)
                sum += x[p * net.channels + k] * y[q * net.channels + k];
            c.s.push_back(sum), c.t.push_back(0);
        }
    return c;
}

Covariance map(const Covariance& c, const ImageStep& step, bool circular) {
    const bool conv = step.operation == ImageOperation::kConv;
    const int64_t area = int64_t(step.window[0]) * step.window[1], q = step.window[1];
    Covariance to{Network::windows(step, 0, c.h), Network::windows(step, 1, c.w), {}, {}};
    const auto inside = [&](int64_t i, int64_t size) {
        return circular ? (i + size) % size : i >= 0 && i < size ? i : -1;
    };
    for (int64_t p = 0; p < to.h * to.w; ++p)
        for (int64_t o = 0; o < to.h * to.w; ++o) {
            double s = 0, t = 0;
            for (int64_t k = 0; k < area; ++k)
                for (int64_t l = conv ? k : 0; l < (conv ? k + 1 : area); ++l) {
                    const int64_t a = inside(window_at(step, 0, p / to.w) + k / q, c.h);
                    const int64_t b = inside(window_at(step, 1, p % to.w) + k % q, c.w);
                    const int64_t d = inside(window_at(step, 0, o / to.w) + l / q, c.h);
                    const int64_t e = inside(window_at(step, 1, o % to.w) + l % q, c.w);
                    if (a < 0 || b < 0 || d < 0 || e < 0) continue;
                    s += c.s[c.at(a * c.w + b, d * c.w + e)];
                    t += c.t[c.at(a * c.w + b, d * c.w + e)];
                }
            s = step.gain * s + (conv ? step.bias : 0);
            to.s.push_back(s);
            to.t.push_back(step.gain * t + (conv ? step.trained * s : 0));
        }
    return to;
}

// ReLU, erf (Williams, NeurIPS 1996), and division by the deviations of pixels.
Covariance activate(const ImageStep& step, const Covariance& c, const Covariance& own,
                    const Covariance& other) {
    const double pi = std::acos(-1.0);
    Covariance to{c.h, c.w, c.s, c.t};
    for (int64_t p = 0; p < c.h * c.w; ++p)
        for (int64_t q = 0; q < c.h * c.w; ++q) {
            const double one = own.s[own.at(p, p)], two = other.s[other.at(q, q)];
            const double scale = std::sqrt(one * two);
            const std::size_t at = c.at(p, q);
            if (step.operation == ImageOperation::kNormalize) {
                to.s[at] = scale > 0 ? c.s[at] / scale : 0;
                to.t[at] = scale > 0 ? c.t[at] / scale : 0;
                continue;
            }
            if (step.operation == ImageOperation::kActivate) {
                const double s = c.s[at],
                             rest = std::sqrt((1 + 2 * one) * (1 + 2 * two) - 4 * s * s);
                to.s[at] = 2 / pi * std::atan2(2 * s, rest), to.t[at] = 4 / pi / rest * c.t[at];
                continue;
            }
            const double u = scale > 0 ? std::max(-1.0, std::min(1.0, c.s[at] / scale)) : 0;
            const double turn = (pi - std::acos(u)) / (2 * pi);
            to.s[at] = scale * (std::sqrt(1 - u * u) / (2 * pi) + u * turn);
            to.t[at] = turn * c.t[at];
        }
    return to;
}

void add(Covariance& c, const Covariance& saved) {
    for (std::size_t k = 0; k < c.s.size(); ++k) c.s[k] += saved.s[k], c.t[k] += saved.t[k];
}

double plain_loops(const ImageNet& net, const double* x, const double* y) {
    Triple c{first(x, x, net), first(x, y, net), first(y, y, net)}, saved = c;
    for (int64_t k = 0; k < net.count; ++k) {
        const ImageStep& step = net.step[k];
        if (step.operation == ImageOperation::kSave)
            saved = c;
        else if (step.operation == ImageOperation::kSwap)
            std::swap(saved, c);
        else if (step.operation == ImageOperation::kAdd)
            add(c.own, saved.own), add(c.pair, saved.pair), add(c.other, saved.other);
        else if (!Network::has_windows(step))
            c = {activate(step, c.own, c.own, c.own), activate(step, c.pair, c.own, c.other),
                 activate(step, c.other, c.other, c.other)};
        else
            c = {map(c.own, step, net.circular), map(c.pair, step, net.circular),
                 map(c.other, step, net.circular)};
    }
    double s = net.bias, t = 0;
    const Covariance& pair = c.pair;
    for (int64_t p = 0; p < pair.h * pair.w; ++p)
        for (int64_t q = 0; q < pair.h * pair.w; ++q) {
            const double weight = net.weight_h[p / pair.w * pair.h + q / pair.w] *
                                  net.weight_w[p % pair.w * pair.w + q % pair.w];
            s += weight * pair.s[pair.at(p, q)], t += weight * pair.t[pair.at(p, q)];
        }
    return t + net.trained * s;
}

template <class T>
void compare(const Implementation& isa, Network network, int64_t n, int64_t m) {
    const int64_t h = 6, w = 4, channels = 2, size = h * w * channels;
    const ImageNet net = network.on(h, w, channels);
    std::mt19937 random(7);
    std::normal_distribution<double> normal;
    std::vector<double> exact(static_cast<std::size_t>((n + m) * size));
    for (double& value : exact) value = static_cast<double>(static_cast<float>(normal(random)));
    const std::vector<T> data(exact.begin(), exact.end());
    const std::vector<T> ones(static_cast<std::size_t>(n + m), T(1));
    std::vector<T> out(static_cast<std::size_t>(n * m)), gram(static_cast<std::size_t>(n * n));
    std::vector<T> diagonal(static_cast<std::size_t>(n));
    Images<T> p{};
    p.net = net;
    p.x = data.data(), p.y = p.x + n * size, p.ldx = p.ldy = size, p.n = n, p.m = m;
    p.scale_x = p.scale_y = p.factor_x = p.factor_y = ones.data();
    p.out[0] = out.data(), p.ldo[0] = m;
    run(p, *isa.tiles(), 2, [] {});
    p.y = p.x, p.m = n, p.symmetric = true, p.out[0] = gram.data(), p.ldo[0] = n;
    run(p, *isa.tiles(), 1, [] {});
    p.symmetric = false, p.diagonal = true, p.out[0] = diagonal.data(), p.ldo[0] = 1;
    run(p, *isa.tiles(), 2, [] {});
    const double eps = sizeof(T) == 4 ? 1.2e-7 : 2.3e-16;
    double largest = 0, error = 0;
    const auto see = [&](T found, int64_t i, int64_t j) {
        const double wanted = plain_loops(net, &exact[static_cast<std::size_t>(i * size)],
                                          &exact[static_cast<std::size_t>(j * size)]);
        largest = std::max(largest, std::fabs(wanted));
        error = std::max(error, std::fabs(static_cast<double>(found) - wanted));
    };
    for (const int64_t i : {int64_t(0), n - 1}) {  // the loops above are slow
        see(out[static_cast<std::size_t>(i * m + m - 1)], i, n + m - 1);
        see(gram[static_cast<std::size_t>(i)], 0, i),
            see(gram[static_cast<std::size_t>(i * n)], 0, i);
    }
    // Equal pixels have an error of the root of eps in the loops above, but not here.
    for (int64_t i = 0; i < n; ++i)
        error = std::max(error,
                         std::fabs(static_cast<double>(diagonal[static_cast<std::size_t>(i)] -
                                                       gram[static_cast<std::size_t>(i * n + i)])));
    const bool good = error <= 64 * eps * largest + 1e-7 * largest;
    ++(good ? passes : failures);
    if (!good)
        std::printf("FAILED %s on %s, n=%lld m=%lld: %.2e of %.2e\n", network.name, isa.name,
                    static_cast<long long>(n), static_cast<long long>(m), error, largest);
}

std::vector<Network> networks() {
    using Op = ImageOperation;
    const auto step = [](Op op) {
        return ImageStep{op,    0,         {1, 1}, {1, 1}, {0, 0}, ActivationKind::kErf,
                         false, {1, 1, 0}, 1,      0,      0};
    };
    const auto windows = [&](Op op, int h, int w, int stride, int before, double gain,
                             double bias) {
        ImageStep made = step(op);
        made.window[0] = h, made.window[1] = w, made.stride[0] = made.stride[1] = stride;
        made.before[0] = made.before[1] = before;
        made.gain = gain, made.bias = bias, made.trained = op == Op::kConv;
        return made;
    };
    const auto conv = [&](int size, bool valid, double bias) {
        return windows(Op::kConv, size, size, 1, valid ? 0 : size / 2, 2.0 / (size * size), bias);
    };
    const ImageStep relu = step(Op::kRelu), pool = windows(Op::kPool, 2, 2, 2, 0, 1 / 16.0, 0);
    const ImageStep save = step(Op::kSave), add = step(Op::kAdd), swap = step(Op::kSwap);
    const ImageStep three = conv(3, false, 0), biased = conv(3, false, 0.1);
    const ImageStep erf = step(Op::kActivate), norm = step(Op::kNormalize);
    const ImageStep apart = windows(Op::kConv, 3, 3, 2, 1, 0.2, 0.1);
    const ImageStep point = windows(Op::kConv, 1, 1, 2, 0, 0.5, 0);
    const ImageStep even = windows(Op::kConv, 2, 4, 1, 1, 0.2, 0.1);
    const ImageStep grown = windows(Op::kConv, 2, 2, 1, 3, 0.2, 0.1);
    const ImageStep overlapping = windows(Op::kPool, 3, 2, 1, 0, 0.1, 0);
    return {
        {"flatten", {three, relu, three, relu}, false, false},
        {"mean", {three, relu, biased, relu}, false, true},
        {"five", {conv(5, false, 0), relu, conv(5, false, 0), relu}, false, true},
        {"seven", {conv(7, false, 0.1), relu, conv(5, false, 0), relu}, false, true},
        {"valid", {conv(3, true, 0), relu, three, relu}, false, true},
        {"circular", {three, relu, three, relu}, true, true},
        {"circular flat", {three, relu, three, relu}, true, false},
        {"skip", {three, save, relu, biased, add, relu}, false, true},
        {"pool", {three, relu, pool, three, relu}, false, true},
        {"pool flat", {three, relu, three, pool, relu}, false, false},
        {"circular pool", {three, relu, pool, conv(1, false, 0), relu}, true, true},
        {"stride", {three, relu, apart, relu, apart, relu}, false, true},
        {"even", {even, relu, even, relu}, false, true},
        {"grown", {grown, relu, apart, relu, grown, relu}, false, true},
        {"shortcut", {three, save, relu, apart, relu, three, swap, point, add, relu}, false, true},
        {"overlap", {three, relu, overlapping, apart, relu, overlapping}, false, true},
        {"erf", {three, erf, apart, norm, erf}, false, true},
        {"erf pool", {three, norm, erf, overlapping, three, erf}, false, false},
    };
}

}  // namespace

int main() {
    for (const auto& isa : implementations()) {
        if (!isa.usable) continue;
        for (const Network& network : networks())
            for (const auto& [n, m] : {std::pair{1, 1}, std::pair{3, 18}, std::pair{19, 2}}) {
                compare<float>(isa, network, n, m);
                compare<double>(isa, network, n, m);
            }
    }
    std::printf("%d passed, %d failed\n", passes, failures);
    return failures != 0;
}
