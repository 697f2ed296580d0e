// Tests of the Walsh-Hadamard transform in C++ alone, for runs under the address and
// undefined-behaviour sanitizers: every instruction set and length, padded rows, in place and not,
// against the stages written as plain loops.
#include <cmath>
#include <cstdio>
#include <random>
#include <vector>

#include "cpu/run.hpp"

namespace {

using namespace ntkfast;
using std::int64_t;

int failures = 0, passes = 0;

void check(bool good, const char* what, const char* isa, int64_t n, int64_t width) {
    ++(good ? passes : failures);
    if (!good)
        std::printf("FAILED %s on %s, n=%lld width=%lld\n", what, isa, static_cast<long long>(n),
                    static_cast<long long>(width));
}

// Rows in a buffer of exactly the size needed: reading or writing past the last one is caught.
template <class T>
struct Rows {
    int64_t n, width, ld;
    std::vector<T> values;

    Rows(int64_t rows, int64_t columns, int64_t padding)
        : n(rows),
          width(columns),
          ld(columns + padding),
          values(static_cast<std::size_t>((rows - 1) * ld + columns)) {}
    T& at(int64_t i, int64_t k) { return values[static_cast<std::size_t>(i * ld + k)]; }
};

template <class T>
Rows<T> random_rows(int64_t n, int64_t width, int64_t padding) {
    Rows<T> rows(n, width, padding);
    std::mt19937 random(static_cast<unsigned>(width));
    std::normal_distribution<double> normal;
    for (T& value : rows.values) value = static_cast<T>(normal(random));
    return rows;
}

// The same sums in the same order: the results must have the same bits.
template <class T>
std::vector<T> plain_loops(Rows<T>& x, int64_t i, const T* signs, T scale) {
    std::vector<T> row;
    for (int64_t k = 0; k < x.width; ++k) row.push_back(x.at(i, k) * (signs ? signs[k] : T(1)));
    const std::size_t width = row.size();
    for (std::size_t h = 1; h < width; h *= 2)
        for (std::size_t k = 0; k < width; ++k) {
            if (k & h) continue;
            const T a = row[k], b = row[k + h];
            row[k] = a + b;
            row[k + h] = a - b;
        }
    for (T& value : row) value *= scale;
    return row;
}

template <class T>
void compare(const Implementation& isa, Rows<T>& x, Rows<T>& out, const T* signs, T scale) {
    Rows<T> original = x, before = out;
    const Hadamard<T> problem{
        x.values.data(), out.values.data(), x.ld, out.ld, x.n, x.width, signs, scale};
    run(problem, *isa.tiles(), 2, [] {});
    bool good = true;
    for (int64_t i = 0; i < x.n; ++i) {
        const std::vector<T> wanted = plain_loops(original, i, signs, scale);
        for (int64_t k = 0; k < out.ld && (i + 1 < x.n || k < x.width); ++k)
            good &= out.at(i, k) ==
                    (k < x.width ? wanted[static_cast<std::size_t>(k)] : before.at(i, k));
    }
    check(good, &x == &out ? "in place" : "out of place", isa.name, x.n, x.width);
}

template <class T>
void test_width(const Implementation& isa, int64_t n, int64_t width) {
    std::vector<T> signs;
    for (int64_t k = 0; k < width; ++k) signs.push_back(k * k % 7 < 3 ? T(-1) : T(1));
    for (const int64_t padding : {0, 3}) {
        Rows<T> x = random_rows<T>(n, width, padding), out = random_rows<T>(n, width, 0);
        compare<T>(isa, x, out, nullptr, T(1));
        compare<T>(isa, x, out, signs.data(), T(0.3));
        compare<T>(isa, x, x, signs.data(), T(0.3));
    }
}

// Neurons of structured directions against three plain transforms per block.
template <class T>
void test_structured(const Implementation& isa, int64_t dim, int64_t size, int64_t count) {
    const int64_t n = 5, blocks = (count + size - 1) / size;
    const T unit = T(1) / std::sqrt(static_cast<T>(size)), scale = T(0.5);
    Rows<T> x = random_rows<T>(n, dim, 1), out = random_rows<T>(n, count, 2);
    Rows<T> lengths = random_rows<T>(blocks, size, 0), flips = random_rows<T>(3 * blocks, size, 0);
    for (T& value : flips.values) value = value < 0 ? T(-1) : T(1);
    const auto result = [&](Answer answer) {
        const Structured<T> problem{
            x.values.data(),     out.values.data(),     x.ld, out.ld, n,    dim, count,
            flips.values.data(), lengths.values.data(), size, answer, scale};
        run(problem, *isa.tiles(), 2, [] {});
    };
    for (const Answer answer : {Answer::kProduct, Answer::kRelu, Answer::kStep}) {
        result(answer);
        bool good = true;
        for (int64_t i = 0; i < n; ++i)
            for (int64_t b = 0; b < blocks; ++b) {
                Rows<T> row(1, size, 0);
                for (int64_t k = 0; k < size; ++k) row.at(0, k) = k < dim ? x.at(i, k) : T(0);
                for (int64_t f = 0; f < 3; ++f) {
                    const std::vector<T> next = plain_loops(row, 0, &flips.at(3 * b + f, 0), unit);
                    row.values = next;
                }
                for (int64_t k = 0; k < size && b * size + k < count; ++k) {
                    const T v = row.at(0, k), gain = lengths.at(b, k) * scale;
                    const T wanted = answer == Answer::kStep   ? (v > 0 ? scale : T(0))
                                     : answer == Answer::kRelu ? (v > 0 ? v * gain : T(0))
                                                               : v * gain;
                    good &= v == 0 || out.at(i, b * size + k) == wanted;
                }
            }
        check(good, "structured", isa.name, dim, size);
    }
}

template <class T>
void test_all(const Implementation& isa) {
    for (int64_t size = 1; size <= 1 << 14; size *= 4)
        for (const int64_t count : {size, 2 * size + size / 3 + 1})
            test_structured<T>(isa, size - size / 3, size, count);
    for (int64_t width = 1; width <= 1 << 17; width *= 2)
        for (const int64_t n : {1, 2, 37})
            if (n * width <= 1 << 17) test_width<T>(isa, n, width);
    test_width<T>(isa, 5000, 64);  // several tasks
    const Hadamard<T> nothing{nullptr, nullptr, 4, 4, 0, 4, nullptr, T(1)};
    run(nothing, *isa.tiles(), 2, [] {});
}

}  // namespace

int main() {
    for (const auto& isa : implementations()) {
        if (!isa.usable) continue;
        test_all<float>(isa);
        test_all<double>(isa);
    }
    std::printf("%d passed, %d failed\n", passes, failures);
    return failures != 0;
}
