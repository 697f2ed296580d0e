// Tests of the recurrent kernels in C++ alone, for runs under the address and undefined-behaviour
// sanitizers: every instruction set, read-out, direction and number of channels, lengths that
// differ, whole and broken strips, against the recursion as it is printed, in plain loops.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <random>
#include <vector>

#include "cpu/run.hpp"
#include "host/sequence_numbers.hpp"

namespace {

using namespace ntkfast;
using std::int64_t;
using Sequence = std::vector<std::vector<double>>;  // [steps][channels]

int failures = 0, passes = 0;

struct Network {
    const char* name;
    int64_t layers, fixed, channels;
    bool both, nngp;
    double every, last;
    bool mean;
    double w2 = 1.7, u2 = 0.8, b2 = 0.1, h2 = 0.3, v2 = 1.2;
};

LayerRow relu_layer() { return {ActivationKind::kRelu, -1, -1, -1, {0.5, 0, 0}, 1, 0, 0, 0, 0, 0}; }

struct Dual {
    double value, slope;
};

Dual relu(double q, double p, double c) {
    const double pi = std::acos(-1.0), scale = std::sqrt(q * p);
    const double u = scale > 0 ? std::max(-1.0, std::min(1.0, c / scale)) : 0;
    const double slope = (pi - std::acos(u)) / (2 * pi);
    return {scale * (std::sqrt(1 - u * u) / (2 * pi) + u * slope), slope};
}

double inner(const std::vector<double>& x, const std::vector<double>& y) {
    double sum = 0;
    for (std::size_t c = 0; c < x.size(); ++c) sum += x[c] * y[c];
    return sum;
}

std::vector<std::vector<double>> variances(const Network& net, const Sequence& x) {
    std::vector<std::vector<double>> found;
    for (const auto& step : x) {
        std::vector<double> q;
        for (int64_t l = 0; l < net.layers; ++l) {
            const auto k = static_cast<std::size_t>(l);
            const double past = found.empty() ? net.h2 : found.back()[k] / 2;
            const double below =
                l ? q.back() / 2 : inner(step, step) / static_cast<double>(net.channels);
            q.push_back(net.w2 * past + net.u2 * below + net.b2);
        }
        found.push_back(q);
    }
    return found;
}

// The kernel of a pair in one direction; `same` if it is one sequence with itself.
double plain_loops(const Network& net, const Sequence& x, const Sequence& y, bool same) {
    const auto qx = variances(net, x), qy = variances(net, y);
    const std::size_t common = std::min(x.size(), y.size());
    const auto layers = static_cast<std::size_t>(net.layers);
    std::vector<Dual> past(layers, {same ? net.h2 : 0, 0});  // value and tangent kernel
    double sum = 0;
    for (std::size_t k = 0; k < common; ++k) {
        const std::size_t i = x.size() - common + k, j = y.size() - common + k;
        Dual below{inner(x[i], y[j]) / static_cast<double>(net.channels), 0};
        for (std::size_t l = 0; l < layers; ++l) {
            const double c = net.w2 * past[l].value + net.u2 * below.value + net.b2;
            const double t = net.w2 * past[l].slope + net.u2 * below.slope;
            const double own = static_cast<int64_t>(l) >= net.fixed ? c : 0;
            const Dual after = relu(qx[i][l], qy[j][l], c);
            past[l] = below = {after.value, after.slope * (t + own)};
        }
        const double weight = k + 1 == common ? net.last : net.every;
        sum += weight * (below.value + (net.nngp ? 0 : below.slope));
    }
    const double steps = static_cast<double>(x.size() * y.size());
    return net.v2 * sum / (net.mean ? std::sqrt(steps) : 1);
}

double both_ways(const Network& net, Sequence x, Sequence y, bool same) {
    double sum = plain_loops(net, x, y, same);
    if (!net.both) return sum;
    std::reverse(x.begin(), x.end()), std::reverse(y.begin(), y.end());
    return sum + plain_loops(net, x, y, same);
}

std::vector<Sequence> draw(int64_t count, int64_t channels, unsigned seed) {
    std::mt19937 random(seed);
    std::normal_distribution<double> normal;
    std::vector<Sequence> found;
    for (int64_t i = 0; i < count; ++i) {  // rising lengths, some of them equal
        Sequence x(static_cast<std::size_t>(1 + 6 * i / count));
        for (auto& step : x)
            for (int64_t c = 0; c < channels; ++c)
                step.push_back(static_cast<double>(static_cast<float>(normal(random))));
        found.push_back(x);
    }
    return found;
}

// Sequences as the engine takes them; buffers have exactly the size needed.
template <class T>
struct Side {
    std::vector<T> inputs, numbers[2];
    std::vector<int64_t> start, first, length, place;
    std::vector<double> diagonal[2];

    Side(const Network& net, const std::vector<Sequence>& items) {
        int64_t total = 0;
        for (const Sequence& x : items) {
            start.push_back(total), first.push_back(total);
            length.push_back(static_cast<int64_t>(x.size()));
            place.push_back(static_cast<int64_t>(place.size()));
            total += length.back();
            for (const auto& step : x)
                for (const double value : step) inputs.push_back(static_cast<T>(value));
        }
        const auto count = static_cast<int64_t>(items.size());
        for (int d = 0; d < (net.both ? 2 : 1); ++d) {
            SequenceNumbers<T> p{inputs.data(), start.data(), first.data(), length.data(), count,
                                 net.channels,  relu_layer(), net.layers,   net.fixed,     net.w2,
                                 net.u2,        net.b2,       net.h2,       net.v2,        d == 1,
                                 net.nngp,      net.every,    net.last,     net.mean,      nullptr,
                                 nullptr};
            numbers[d].resize(static_cast<std::size_t>(total * sequence_fields(p)));
            diagonal[d].resize(items.size());
            p.out = numbers[d].data(), p.diagonal = diagonal[d].data();
            sequence_numbers(p, 0, count);
        }
    }
    SequenceSide<T> view() const {
        return {{numbers[0].data(), numbers[1].data()},
                first.data(),
                length.data(),
                place.data(),
                static_cast<int64_t>(length.size())};
    }
};

template <class T>
void compare(const Implementation& isa, const Network& net, int64_t n, int64_t m) {
    const auto x = draw(n, net.channels, 1), y = draw(m, net.channels, 2);
    const Side<T> left(net, x), right(net, y);
    std::vector<T> out(static_cast<std::size_t>(n * m)), gram(static_cast<std::size_t>(n * n));
    std::vector<T> diagonal;
    for (std::size_t i = 0; i < x.size(); ++i)
        diagonal.push_back(
            static_cast<T>(left.diagonal[0][i] + (net.both ? left.diagonal[1][i] : 0)));
    Sequences<T> p{};
    p.x = left.view(), p.y = right.view();
    p.activation = layer_constants<T>(relu_layer());
    p.layers = net.layers, p.fixed = net.fixed, p.channels = net.channels;
    p.fields = 3 * net.layers + net.channels, p.directions = net.both ? 2 : 1;
    p.every = net.every > 0, p.nngp = net.nngp;
    p.out = out.data(), p.stride_row = m, p.stride_column = 1;
    run(p, *isa.tiles(), 2, [] {});
    p.y = p.x, p.symmetric = true, p.diagonal = diagonal.data();
    p.out = gram.data(), p.stride_row = n;
    run(p, *isa.tiles(), 1, [] {});
    double largest = 0, error = 0;
    const auto see = [&](T found, double wanted) {
        largest = std::max(largest, std::fabs(wanted));
        error = std::max(error, std::fabs(static_cast<double>(found) - wanted));
    };
    for (std::size_t i = 0; i < x.size(); ++i) {
        for (std::size_t j = 0; j < y.size(); ++j)
            see(out[i * y.size() + j], both_ways(net, x[i], y[j], false));
        for (std::size_t j = 0; j < x.size(); ++j)
            see(gram[i * x.size() + j], both_ways(net, x[i], x[j], i == j));
    }
    // Close pairs have an error of the root of eps in the loops above.
    const double eps = sizeof(T) == 4 ? 1.2e-7 : 2.3e-16;
    const bool good = error <= (64 * eps + 1e-7) * largest;
    ++(good ? passes : failures);
    if (!good)
        std::printf("FAILED %s on %s, n=%lld m=%lld: %.2e of %.2e\n", net.name, isa.name,
                    static_cast<long long>(n), static_cast<long long>(m), error, largest);
}

}  // namespace

int main() {
    const Network networks[] = {
        {"last", 1, 0, 1, false, false, 0, 1, false},
        {"deep", 3, 1, 3, false, false, 0, 1, false},
        {"many channels", 2, 0, 7, false, false, 0, 1, false},
        {"average", 2, 0, 1, true, false, 1, 1, false},
        {"released", 1, 0, 5, false, false, 1, 2, true},
        {"nngp", 2, 0, 2, true, true, 0, 1, false},
    };
    for (const auto& isa : implementations()) {
        if (!isa.usable) continue;
        for (const Network& network : networks)
            for (const auto& [n, m] : {std::pair{1, 1}, std::pair{9, 70}, std::pair{67, 3}}) {
                compare<float>(isa, network, n, m);
                compare<double>(isa, network, n, m);
            }
    }
    std::printf("%d passed, %d failed\n", passes, failures);
    return failures != 0;
}
