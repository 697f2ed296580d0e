// Tests of the tile loop in C++ alone, for runs under the address and undefined-behaviour sanitizers:
// odd shapes, every instruction set, every map, against a plain double loop.
#include <bit>
#include <cmath>
#include <cstdio>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "cpu/run.hpp"
#include "host/row_rates.hpp"

namespace {

using namespace ntkfast;
using std::int64_t;

int failures = 0, passes = 0;

void check(bool good, const char* what, const char* isa, int64_t n, int64_t m, int64_t d) {
    ++(good ? passes : failures);
    if (!good)
        std::printf("FAILED %s on %s, n=%lld m=%lld d=%lld\n", what, isa, static_cast<long long>(n),
                    static_cast<long long>(m), static_cast<long long>(d));
}

template <class T>
struct Data {
    int64_t n, d, ld;
    std::vector<T> values, norms, inverse, ones;

    // Rows in a buffer of exactly the size needed: reading past the last one is caught.
    Data(int64_t rows, int64_t columns, int64_t padding, unsigned seed)
        : n(rows),
          d(columns),
          ld(columns + padding),
          values(static_cast<std::size_t>((rows - 1) * ld + columns)) {
        std::mt19937 random(seed);
        std::normal_distribution<double> normal;
        for (T& value : values) value = static_cast<T>(normal(random));
        if (n > 2)  // a row of zeros
            for (int64_t k = 0; k < d; ++k) values[static_cast<std::size_t>(ld + k)] = 0;
        for (int64_t i = 0; i < n; ++i) {
            double sum = 0;
            for (int64_t k = 0; k < d; ++k) sum += at(i, k) * at(i, k);
            norms.push_back(static_cast<T>(std::sqrt(sum)));
            inverse.push_back(sum > 0 ? static_cast<T>(1 / std::sqrt(sum)) : T(0));
            ones.push_back(T(1));
        }
    }
    double at(int64_t i, int64_t k) const {
        return static_cast<double>(values[static_cast<std::size_t>(i * ld + k)]);
    }
};

template <class T>
double cosine(const Data<T>& x, int64_t i, const Data<T>& y, int64_t j) {
    double dot = 0, p = 0, q = 0;
    for (int64_t k = 0; k < x.d; ++k) {
        dot += x.at(i, k) * y.at(j, k);
        p += x.at(i, k) * x.at(i, k);
        q += y.at(j, k) * y.at(j, k);
    }
    if (p == 0 || q == 0) return p == q ? 1 : 0;
    return std::fmin(1, std::fmax(-1, dot / std::sqrt(p * q)));
}

template <class T>
Problem<T> problem_of(const Data<T>& x, const Data<T>& y) {
    Problem<T> p{};
    p.x = x.values.data(), p.y = y.values.data();
    p.ldx = x.ld, p.ldy = y.ld, p.n = x.n, p.m = y.n, p.d = x.d;
    p.norm_x = x.norms.data(), p.norm_y = y.norms.data();
    p.inverse_x = x.inverse.data(), p.inverse_y = y.inverse.data();
    p.factor_x = x.ones.data(), p.factor_y = y.ones.data();
    p.refine_below[0] = p.refine_below[1] = T(0.02);
    return p;
}

double kappa0(double u) { return 1 - std::acos(u) / kPi; }
double kappa1(double u) { return (std::sqrt(1 - u * u) + (kPi - std::acos(u)) * u) / kPi; }

// k(u) = 1 - s on u >= 0 and c on u < 0, s and c the roots of (1 - |u|)/2: one linear polynomial. With
// another table for |u| <= 3/5, which not all sets use, u itself there: each pair has its own. The second
// result is 3/4 of this with other values at both ends; rows have factors.
template <class T>
void test_profile(const Implementation& isa, Data<T> x, Data<T> y, bool symmetric, bool streams) {
    for (Data<T>* side : {&x, &y})
        for (std::size_t i = 0; i < side->ones.size(); ++i)
            side->ones[i] = static_cast<T>(std::ldexp(1.0, static_cast<int>(i % 7) - 3));
    std::vector<T> table(2 * 16 + 16);
    T* aligned =
        table.data() + (64 - reinterpret_cast<std::uintptr_t>(table.data()) % 64) / sizeof(T) % 16;
    for (int k = 0; k < 16; ++k) aligned[k] = 0, aligned[16 + k] = k < 8 ? T(-1) : T(1);
    Profile<T> profile{1, 3, {T(1.4), T(1.4)}, {T(1), T(0)}, T(1), aligned, nullptr, 0, 0, 0, {}};
    constexpr int columns = ntkfast::kMiddleColumns<T>;
    std::vector<T> middle(3 * columns);  // a power that no pair takes, and two
    for (int j = -7; j <= 7; ++j) {
        const auto at = static_cast<std::size_t>(j & (columns - 1));
        middle[columns + at] = T(0.125), middle[2 * columns + at] = static_cast<T>(j) / 8;
    }
    const double end = 0.6;
    const bool has_middle = streams && std::string(isa.name) == "x86_64_v4";
    if (streams)
        profile.middle = middle.data(), profile.middle_degree = 2, profile.inner_degree = 1,
        profile.middle_rate = T(8), profile.ends[0] = T(0.3), profile.ends[1] = static_cast<T>(end);
    Profile<T> other = profile;
    other.base[0] = T(3), other.base[1] = T(2), other.scale = T(0.75);
    Problem<T> p = problem_of(x, y);
    p.profile[0] = &profile, p.profile[1] = &other;
    p.symmetric = symmetric;
    p.streams = streams;
    const int64_t ld = y.n + 3;
    std::vector<T> out(static_cast<std::size_t>((x.n - 1) * ld + y.n), T(-7));
    std::vector<T> second(static_cast<std::size_t>(x.n * y.n));
    p.out[0] = out.data(), p.out[1] = second.data();
    p.ldo[0] = ld, p.ldo[1] = y.n;
    run(p, *isa.tiles(), 2, [] {});
    bool good = true;
    const double tolerance = 64 * static_cast<double>(std::numeric_limits<T>::epsilon());
    for (int64_t i = 0; i < x.n; ++i)
        for (int64_t j = 0; j < ld && i * ld + j < static_cast<int64_t>(out.size()); ++j) {
            const double found = out[static_cast<std::size_t>(i * ld + j)];
            if (j >= y.n) {
                good &= found == -7;
                continue;
            }
            const double u = cosine(x, i, y, j), v = std::sqrt((1 - std::fabs(u)) / 2);
            const bool inside = has_middle && std::fabs(u) < end;
            const double factor = x.ones[static_cast<std::size_t>(i)] *
                                  static_cast<double>(y.ones[static_cast<std::size_t>(j)]);
            if (has_middle && std::fabs(std::fabs(u) - end) < 1e-5) continue;
            // the double loop itself loses the angle, by 1e-16 / v, where refinement keeps it
            const double bound = factor * (3 * tolerance + 4e-15 / std::fmax(v, 1e-8));
            const double first = inside ? u : u >= 0 ? 1 - v : v;
            const double second_value = inside ? u : u >= 0 ? 3 - v : 2 + v;
            good &= std::fabs(found - factor * first) <= bound;
            good &= std::fabs(static_cast<double>(second[static_cast<std::size_t>(i * y.n + j)]) -
                              0.75 * factor * second_value) <= bound;
        }
    check(good, symmetric ? "symmetric profile" : "profile", isa.name, x.n, y.n, x.d);
}

// The nearest number with so many digits, ties to even, the least one 2^least: scaled to integers.
double nearest(double value, int digits, int least) {
    int exponent;
    std::frexp(value, &exponent);
    const int unit = std::max(exponent - digits, least);
    return std::ldexp(std::nearbyint(std::ldexp(value, -unit)), unit);
}

double number_of(std::uint16_t bits, int mantissa, int bias) {
    const int exponent = bits >> mantissa & (2 * bias + 1), one = 1 << mantissa;
    const int whole = bits % one + (exponent ? one : 0);
    const double size = std::ldexp(whole, std::max(exponent, 1) - bias - mantissa);
    return bits & 0x8000 ? -size : size;
}

// Values of many sizes, rounded; what is too large is told.
template <class T>
void test_rounded(const Implementation& isa, Data<T> x, Data<T> y, bool symmetric, Kept kept) {
    const Radial<T> radial{T(0.5), T(2), Radius::kSphere};
    for (Data<T>* side : {&x, &y})
        for (std::size_t i = 0; i < side->ones.size(); ++i)
            side->ones[i] = static_cast<T>(std::ldexp(1.0, 6 - static_cast<int>(i) % 40));
    Problem<T> p = problem_of(x, y);
    p.radial = &radial;
    p.symmetric = symmetric;
    std::vector<T> plain(static_cast<std::size_t>(x.n * y.n));
    p.out[0] = plain.data();
    p.ldo[0] = y.n;
    run(p, *isa.tiles(), 2, [] {});
    Flag infinite;
    std::vector<std::uint16_t> bits(plain.size());
    std::vector<std::uint32_t> single(plain.size());
    p.kept = kept;
    p.rounded = kept == Kept::kSingle ? static_cast<void*>(single.data()) : bits.data();
    p.infinite = &infinite;
    run(p, *isa.tiles(), 2, [] {});
    bool good = !infinite;
    for (std::size_t k = 0; k < plain.size(); ++k) {
        const double value = static_cast<double>(plain[k]);
        good &= kept == Kept::kSingle ? std::bit_cast<float>(single[k]) == nearest(value, 24, -149)
                : kept == Kept::kHalf ? number_of(bits[k], 10, 15) == nearest(value, 11, -24)
                                      : number_of(bits[k], 7, 127) == nearest(value, 8, -133);
    }
    if (kept == Kept::kHalf) {
        x.ones[0] = T(65536);
        run(p, *isa.tiles(), 2, [] {});
        good = good && infinite;
    }
    check(good, "rounded", isa.name, x.n, y.n, x.d);
}

template <class T>
void test_layers(const Implementation& isa, const Data<T>& x, const Data<T>& y, bool symmetric,
                 bool streams) {
    // one ReLU layer with biases: q = w |x|^2 + e, then K = w' sqrt(qp) kappa1 + e'
    const double w = 1.5, e = 0.25;
    const LayerRow layers[2] = {
        {ActivationKind::kIdentity, -1, -1, -1, {}, w, e, w, e, 0, 0},
        {ActivationKind::kRelu, -1, -1, -1, {0.5, 0, 0}, w, e, w, e, 0, 0},
    };
    const LayerConstants<T> rows[2] = {layer_constants<T>(layers[0]),
                                       layer_constants<T>(layers[1])};
    const Layers<T> map{layers,
                        rows,
                        2,
                        count_stats(layers, 2),
                        row_stats<T>,
                        row_rates<T>,
                        {T(1), T(1)},
                        0,
                        nullptr,
                        nullptr,
                        nullptr,
                        0};
    Problem<T> p = problem_of(x, y);
    p.layers = &map;
    p.symmetric = symmetric, p.streams = streams;
    std::vector<T> ntk(static_cast<std::size_t>(x.n * y.n)), nngp(ntk.size());
    p.out[0] = ntk.data(), p.out[1] = nngp.data();
    p.ldo[0] = p.ldo[1] = y.n;
    run(p, *isa.tiles(), 2, [] {});
    bool good = true;
    for (int64_t i = 0; i < x.n; ++i)
        for (int64_t j = 0; j < y.n; ++j) {
            double dot = 0, a = 0, b = 0;
            for (int64_t k = 0; k < x.d; ++k) {
                dot += x.at(i, k) * y.at(j, k);
                a += x.at(i, k) * x.at(i, k);
                b += y.at(j, k) * y.at(j, k);
            }
            const double q = w * a + e, r = w * b + e, c = w * dot + e, n = std::sqrt(q * r);
            const double u = std::fmin(1, c / n), k = w * 0.5 * n * kappa1(u) + e;
            const double t = w * 0.5 * kappa0(u) * c + k;
            const double tolerance = 64 * static_cast<double>(std::numeric_limits<T>::epsilon()) *
                                     n * (1 + 1 / std::fmax(std::sqrt(1 - u), 1e-7));
            const auto at = static_cast<std::size_t>(i * y.n + j);
            good &= std::fabs(static_cast<double>(nngp[at]) - k) <= tolerance;
            good &= std::fabs(static_cast<double>(ntk[at]) - t) <= tolerance;
        }
    check(good, symmetric ? "symmetric layers" : "layers", isa.name, x.n, y.n, x.d);
}

// Results past the caches that begin anywhere in a line, with rows of any length: the numbers of one that stays in
// the caches, and nothing written beside them.
template <class T>
void test_mirror(const Implementation& isa, const Data<T>& x) {
    const Radial<T> radial{T(0.5), T(2), Radius::kSphere};
    Problem<T> p = problem_of(x, x);
    p.radial = &radial;
    p.symmetric = true;
    std::vector<T> plain(static_cast<std::size_t>(x.n * x.n));
    p.out[0] = plain.data(), p.ldo[0] = x.n;
    run(p, *isa.tiles(), 2, [] {});
    p.streams = true;
    int threads = 1;
    constexpr int64_t line = 64 / sizeof(T);
    for (int64_t offset = 0; offset < line; offset += 3)
        for (const int64_t ld : {x.n, x.n + 1, (x.n / line + 1) * line}) {
            const auto size = static_cast<std::size_t>((x.n - 1) * ld + x.n);
            std::vector<T> room(size + 4 * line, T(-7));
            T* const out = room.data() + 2 * line + offset -
                           reinterpret_cast<std::uintptr_t>(room.data()) / sizeof(T) % line;
            const auto before = static_cast<int64_t>(out - room.data());
            p.out[0] = out, p.ldo[0] = ld;
            run(p, *isa.tiles(), threads, [] {});
            threads = 3 - threads;  // tasks of one thread are longer
            bool good = true;
            for (int64_t k = 0; k < static_cast<int64_t>(room.size()); ++k) {
                const int64_t at = k - before, i = at / ld, j = at % ld;
                const bool inside = at >= 0 && i < x.n && j < x.n;
                good &= room[static_cast<std::size_t>(k)] ==
                        (inside ? plain[static_cast<std::size_t>(i * x.n + j)] : T(-7));
            }
            check(good, "mirror images", isa.name, x.n, ld, offset);
        }
}

// A symmetric product as the sum of what pairs of groups of its rows add to it.
template <class T>
std::vector<T> by_groups(const Problem<T>& whole, const Implementation& isa) {
    const int64_t rows = group_rows(whole.n), groups = (whole.n + rows - 1) / rows;
    std::vector<double> sums(static_cast<std::size_t>(whole.n * whole.columns));
    for (int64_t task = 0; task < count_pairs(groups); ++task) {
        const BlockPair pair = block_pair(task, groups);
        const int64_t i = pair.first * rows, j = pair.second * rows;
        Problem<T> p = whole;
        p.symmetric = i == j;
        p.n = std::min(rows, whole.n - i), p.m = std::min(rows, whole.n - j);
        p.x += i * p.ldx, p.norm_x += i, p.inverse_x += i, p.factor_x += i;
        p.y += j * p.ldy, p.norm_y += j, p.inverse_y += j, p.factor_y += j;
        p.u = p.v + i * p.ldv, p.ldu = p.ldv, p.v += j * p.ldv;
        std::vector<double> left(static_cast<std::size_t>(p.n * p.columns)),
            right(static_cast<std::size_t>(p.m * p.columns));
        run_groups(p, whole.n, left.data(), right.data(), *isa.tiles(), 2, [] {});
        for (std::size_t k = 0; k < left.size(); ++k)
            sums[static_cast<std::size_t>(i * p.columns) + k] += left[k];
        for (std::size_t k = 0; i != j && k < right.size(); ++k)
            sums[static_cast<std::size_t>(j * p.columns) + k] += right[k];
    }
    return {sums.begin(), sums.end()};
}

template <class T>
void test_matmul(const Implementation& isa, const Data<T>& x, const Data<T>& y, int64_t columns,
                 bool symmetric) {
    const Radial<T> radial{T(0.7), T(1.5), Radius::kEuclidean};
    Problem<T> p = problem_of(x, y);
    p.radial = &radial;
    p.symmetric = symmetric;
    std::vector<T> v(static_cast<std::size_t>(y.n * columns)),
        product(static_cast<std::size_t>(x.n * columns));
    std::mt19937 random(5);
    std::normal_distribution<double> normal;
    for (T& value : v) value = static_cast<T>(normal(random));
    p.v = v.data(), p.ldv = columns, p.columns = columns;
    p.product = product.data(), p.ldp = columns;
    run(p, *isa.tiles(), 2, [] {});
    bool good = true;
    std::vector<double> kernel(static_cast<std::size_t>(y.n));
    for (int64_t i = 0; i < x.n; ++i) {
        for (int64_t j = 0; j < y.n; ++j) {
            double r2 = 0;
            for (int64_t k = 0; k < x.d; ++k) {
                const double difference = x.at(i, k) - y.at(j, k);
                r2 += difference * difference;
            }
            kernel[static_cast<std::size_t>(j)] = std::exp(-0.7 * std::pow(r2, 0.75));
        }
        for (int64_t c = 0; c < columns; ++c) {
            double sum = 0, size = 0;
            for (int64_t j = 0; j < y.n; ++j) {
                const double term =
                    kernel[static_cast<std::size_t>(j)] *
                    static_cast<double>(v[static_cast<std::size_t>(j * columns + c)]);
                sum += term;
                size += std::fabs(term);
            }
            good &=
                std::fabs(static_cast<double>(product[static_cast<std::size_t>(i * columns + c)]) -
                          sum) <=
                512 * static_cast<double>(std::numeric_limits<T>::epsilon()) * (size + 1e-3);
        }
    }
    check(good, symmetric ? "symmetric matmul" : "matmul", isa.name, x.n, y.n, x.d);
    std::vector<T> again(product.size());
    p.product = again.data();
    run(p, *isa.tiles(), 5, [] {});
    check(again == product, "bits of matmul on more threads", isa.name, x.n, y.n, x.d);
    if (symmetric) check(by_groups(p, isa) == product, "groups", isa.name, x.n, y.n, x.d);
}

// Sums of squares are those of the plain loop, whose squares are rounded before they are added, bit by bit.
template <class T>
void test_square_sums(const Implementation& isa, const Data<T>& x) {
    std::vector<double> sums(static_cast<std::size_t>(x.n)), plain(sums);
    tiles_of<T>(*isa.tiles()).square_sums(x.values.data(), x.ld, x.n, x.d, sums.data());
    for (int64_t i = 0; i < x.n; ++i)
        for (int64_t k = 0; k < x.d; ++k) {
            const volatile double square = x.at(i, k) * x.at(i, k);
            plain[static_cast<std::size_t>(i)] += square;
        }
    check(sums == plain, "square sums", isa.name, x.n, 0, x.d);
}

// Tasks are all pairs of blocks, each once, and know how many before them add to their blocks.
void test_turns(int64_t groups, int64_t of) {
    const int64_t blocks = groups * of;
    std::vector<int64_t> before(static_cast<std::size_t>(blocks));
    std::set<std::pair<int64_t, int64_t>> seen;
    bool good = count_in_groups(groups, of) == count_pairs(blocks);
    for (int64_t task = 0; task < count_pairs(blocks); ++task) {
        const BlockPair pair = pair_in_groups(task, groups, of);
        int64_t& first = before[static_cast<std::size_t>(pair.first)];
        int64_t& second = before[static_cast<std::size_t>(pair.second)];
        good &= pair.first <= pair.second && seen.emplace(pair.first, pair.second).second;
        good &= first == pair.turn[0] && second == pair.turn[1];
        ++first;
        if (pair.first != pair.second) ++second;
    }
    check(good, "turns", "any", blocks, 0, 0);
}

// A thread that waits for its turn stops when another one has failed.
void test_cancelled_turn() {
    Flag cancelled;
    cancelled.raise();
    Turns turns(2 * kProductUnit, 1, kProductUnit, 2);
    const std::vector<double> part(2 * kProductUnit, 1.0);
    add_in_turn(turns, turns, block_pair(2, 2), part.data(), kProductUnit, 1, cancelled);
    check(turns.sums.back() == 0, "a turn that never comes", "any", 0, 0, 0);
}

template <class T>
void test_all(const Implementation& isa) {
    const int64_t shapes[][3] = {{1, 1, 1},     {2, 3, 1},     {5, 1, 2},
                                 {7, 9, 3},     {8, 24, 8},    {33, 65, 7},
                                 {97, 193, 10}, {100, 385, 5}, {13, 50, 300}};
    for (const auto& [n, m, d] : shapes) {
        const Data<T> x(n, d, 0, 1), y(m, d, 2, 2);
        test_square_sums<T>(isa, x);
        test_square_sums<T>(isa, y);
        for (const bool streams : {false, true}) {
            test_profile<T>(isa, x, y, false, streams);
            test_profile<T>(isa, y, y, true, streams);
            test_layers<T>(isa, x, y, false, streams);
            test_layers<T>(isa, y, y, true, streams);
        }
        test_mirror<T>(isa, y);
        for (const Kept kept : {Kept::kHalf, Kept::kBrain, Kept::kSingle}) {
            if (kept == Kept::kSingle && sizeof(T) == 4) continue;
            test_rounded<T>(isa, x, y, false, kept);
            test_rounded<T>(isa, y, y, true, kept);
        }
        for (const int64_t columns : {1, 10, 50}) {
            test_matmul<T>(isa, x, y, columns, false);
            test_matmul<T>(isa, y, y, columns, true);
        }
    }
    const Data<T> odd(13, 4, 1, 4), several(1601, 3, 1, 5);
    test_matmul<T>(isa, odd, odd, 1030, true);       // columns in two passes
    test_matmul<T>(isa, several, several, 1, true);  // several blocks, the last one short
    const Data<T> large(1700, 3, 1, 3);              // several chunks of rows
    test_profile<T>(isa, large, large, true, true);
    test_layers<T>(isa, large, large, true, true);
    test_mirror<T>(isa, large);
}

void test_failures() {
    try {
        choose("no such set");
        check(false, "unknown instruction set", "any", 0, 0, 0);
    } catch (const std::invalid_argument&) {
        check(true, "", "", 0, 0, 0);
    }
}

}  // namespace

int main() {
    for (const auto& isa : implementations()) {
        if (!isa.usable) continue;
        test_all<float>(isa);
        test_all<double>(isa);
    }
    for (int64_t groups = 1; groups < 7; ++groups)
        for (int64_t blocks = 1; blocks < 5; ++blocks) test_turns(groups, blocks);
    test_cancelled_turn();
    test_failures();
    std::printf("%d passed, %d failed\n", passes, failures);
    return failures != 0;
}
