// Runs one problem on threads with an instruction set's code.
#pragma once

#include <algorithm>
#include <utility>

#include "cpu/dispatch.hpp"
#include "cpu/turns.hpp"
#include "host/aligned.hpp"
#include "host/parallel.hpp"

namespace ntkfast {

template <class T>
const Tiles<T>& tiles_of(const InstructionSet& set) {
    if constexpr (sizeof(T) == 4)
        return set.f32;
    else
        return set.f64;
}

// What a thread does: its tasks, one after the other, with scratch memory of its own and a number
// that they hand on, -1 at first (see Tiles).
template <class T, class Task>
auto with_scratch(std::int64_t size, Task run_task) {
    return [size, run_task](const auto& next) {
        const Aligned<T> scratch = aligned<T>(static_cast<std::size_t>(size));
        std::int64_t packed = -1;
        for (std::int64_t task; (task = next()) >= 0;) run_task(task, scratch.get(), &packed);
    };
}

// What a problem costs, about, in operations.
template <class T>
double tile_cost(const Problem<T>& p) {
    const double depth = p.layers ? 8.0 * static_cast<double>(p.layers->count) : 0.0;
    return static_cast<double>(p.n) * static_cast<double>(p.m) *
           (static_cast<double>(p.d + p.columns) + depth + 16.0);
}

// Adds K(x, y) v to the turns of x and K(y, x) u to those of y, each pair once (see turns.hpp); or, if
// y is x, one sum of both. `problem` has few columns.
template <class T, class Poll>
void run_both_products(Problem<T> problem, Turns& left, Turns& right, std::int64_t group,
                       const Tiles<T>& tiles, int threads, Poll poll) {
    const bool symmetric = problem.symmetric;
    const std::int64_t groups = (problem.n + group - 1) / group, blocks = group / problem.block;
    const std::int64_t width = (problem.m + problem.block - 1) / problem.block;
    Flag cancelled;
    problem.cancelled = &cancelled;
    const auto work =
        with_scratch<T>(tiles.scratch(problem), [&](auto task, T* scratch, auto* packed) {
            const BlockPair pair =
                symmetric ? pair_in_groups(task, groups, blocks) : pair_across(task, blocks);
            const bool any = left.has(pair.first) && right.has(pair.second);
            if (any) tiles.run(problem, pair.first * width + pair.second, scratch, packed);
            const double* sums = any ? reinterpret_cast<const double*>(scratch) : nullptr;
            add_in_turn(left, right, pair, sums, problem.block, problem.columns, cancelled);
        });
    const std::int64_t tasks = symmetric ? count_in_groups(groups, blocks) : blocks * blocks;
    share(tasks, threads, tile_cost(problem) / (symmetric ? 2 : 1), cancelled, work, poll);
}

// K(x, x) v.
template <class T, class Poll>
void run_symmetric_product(Problem<T> problem, const Tiles<T>& tiles, int threads, Poll poll) {
    problem.u = problem.v, problem.ldu = problem.ldv;
    problem.block = product_block(problem.n, problem.columns);
    const std::int64_t group = group_rows(problem.n);
    Turns turns(problem.n, problem.columns, problem.block, group / problem.block);
    run_both_products(problem, turns, turns, group, tiles, threads, poll);
    const double* sum = turns.sums.data();
    for (std::int64_t i = 0; i < problem.n; ++i)
        for (std::int64_t c = 0; c < problem.columns; ++c)
            problem.product[i * problem.ldp + c] = static_cast<T>(*sum++);
}

// Columns of a symmetric product that are done at once: they bound its sums.
constexpr std::int64_t kProductColumns = 1024;

// What the pairs of two of its groups of `total` rows add to it, or those of one group if y is x: to
// the rows of x, and to those of y unless it is x.
template <class T, class Poll>
void run_groups(Problem<T>& problem, std::int64_t total, double* left, double* right,
                const InstructionSet& set, int threads, Poll poll) {
    const std::int64_t group = group_rows(total);
    for (std::int64_t c = 0; c < problem.columns; c += kProductColumns) {
        Problem<T> part = problem;
        part.v += c, part.u += c;
        part.columns = std::min(kProductColumns, problem.columns - c);
        part.block = product_block(total, part.columns);
        Turns one(part.n, part.columns, part.block, group / part.block);
        Turns other(part.symmetric ? 0 : part.m, part.columns, part.block, group / part.block);
        Turns& second = part.symmetric ? one : other;
        run_both_products(part, one, second, group, tiles_of<T>(set), threads, poll);
        const auto put = [&](const Turns& from, std::int64_t rows, double* to) {
            for (std::int64_t i = 0; i < rows; ++i)
                std::copy_n(from.sums.data() + i * part.columns, part.columns,
                            to + i * problem.columns + c);
        };
        put(one, part.n, left);
        if (!part.symmetric) put(other, part.m, right);
    }
}

// Results of at least so many bytes are written past the caches, which would not hold them.
constexpr double kStreamedBytes = 1 << 25;

template <class T, class Poll>
void run(Problem<T>& problem, const InstructionSet& set, int threads, Poll poll) {
    const Tiles<T>& tiles = tiles_of<T>(set);
    if (problem.v && problem.symmetric) {
        for (std::int64_t c = 0; c < problem.columns; c += kProductColumns) {
            Problem<T> part = problem;
            part.v += c, part.product += c;
            part.columns = std::min(kProductColumns, problem.columns - c);
            run_symmetric_product(part, tiles, threads, poll);
        }
        return;
    }
    const double numbers = static_cast<double>(problem.n) * static_cast<double>(problem.m);
    problem.streams |= !problem.v && numbers * sizeof(T) >= kStreamedBytes;
    // Small tasks where there are few, so that threads end together; results do not depend on it. Fewer
    // of symmetric problems: a tile is mirrored while the next one of the same task is computed.
    const std::int64_t enough = problem.symmetric ? 16 : 64;
    problem.rows = kTaskRows;
    while (threads > 1 && problem.rows % 192 == 0 && tiles.tasks(problem) < enough * threads)
        problem.rows /= 2;
    const std::int64_t tasks = tiles.tasks(problem), size = tiles.scratch(problem);
    Flag cancelled;
    problem.cancelled = &cancelled;
    const auto work = with_scratch<T>(size, [&](auto task, T* scratch, auto* packed) {
        tiles.run(problem, task, scratch, packed);
    });
    share(tasks, threads, tile_cost(problem), cancelled, work, poll);
}

// Bytes of a gradient's sums that a thread keeps: its columns are packed once for as many rows.
constexpr std::int64_t kGradientSums = 1 << 22;

template <class T, class Poll>
void run(Gradient<T>& problem, const InstructionSet& set, int threads, Poll poll) {
    constexpr std::int64_t unit = 96;  // rows of a tile
    const Problem<T>& p = problem.pairs;
    const std::int64_t fit = kGradientSums / (8 * (p.d + 1)) / unit * unit;
    const std::int64_t even = (p.n / (4 * threads) + unit - 1) / unit * unit;
    problem.rows = std::max(unit, std::min(fit, even));
    const Tiles<T>& tiles = tiles_of<T>(set);
    Flag cancelled;
    problem.pairs.cancelled = &cancelled;
    const auto work = with_scratch<T>(
        tiles.gradient_scratch(problem),
        [&](auto task, T* scratch, auto*) { tiles.gradient(problem, task, scratch); });
    const double cost = tile_cost(p) + static_cast<double>(p.n) * static_cast<double>(p.m) *
                                           static_cast<double>(p.d + problem.rank);
    share((p.n + problem.rows - 1) / problem.rows, threads, cost, cancelled, work, poll);
}

// Entries of a task: enough to make handing it out cheap, few enough to share evenly.
constexpr std::int64_t kHadamardTask = 1 << 16;

template <class T, class Poll>
void run(const Hadamard<T>& problem, const InstructionSet& set, int threads, Poll poll) {
    const std::int64_t rows = std::max<std::int64_t>(1, kHadamardTask / problem.width);
    const std::int64_t tasks = (problem.n + rows - 1) / rows;
    Flag cancelled;
    const auto work = [&](const auto& next) {
        for (std::int64_t task; (task = next()) >= 0;)
            tiles_of<T>(set).hadamard(problem, task * rows,
                                      std::min(task * rows + rows, problem.n));
    };
    const double cost = 8.0 * static_cast<double>(problem.n) * static_cast<double>(problem.width);
    share(tasks, threads, cost, cancelled, work, poll);
}

template <class T, class Poll>
void run(const Sketch<T>& problem, const InstructionSet& set, int threads, Poll poll) {
    const std::int64_t size =
        problem.factor[0].size + (problem.product ? problem.factor[1].size : 0);
    const std::int64_t rows = std::max<std::int64_t>(1, kHadamardTask / (size + problem.m));
    const std::int64_t tasks = (problem.n + rows - 1) / rows;
    Flag cancelled;
    const auto work = with_scratch<T>(size, [&](auto task, T* scratch, auto*) {
        tiles_of<T>(set).sketch(problem, task * rows, std::min(task * rows + rows, problem.n),
                                scratch);
    });
    const double cost =
        8.0 * static_cast<double>(problem.n) * static_cast<double>(size + problem.m);
    share(tasks, threads, cost, cancelled, work, poll);
}

template <class T, class Poll>
void run(const Structured<T>& problem, const InstructionSet& set, int threads, Poll poll) {
    const std::int64_t rows = std::max<std::int64_t>(1, kHadamardTask / problem.count);
    const std::int64_t tasks = (problem.n + rows - 1) / rows;
    Flag cancelled;
    const auto work = with_scratch<T>(problem.size, [&](auto task, T* scratch, auto*) {
        tiles_of<T>(set).structured(problem, task * rows, std::min(task * rows + rows, problem.n),
                                    scratch);
    });
    const double cost = 24.0 * static_cast<double>(problem.n) * static_cast<double>(problem.count);
    share(tasks, threads, cost, cancelled, work, poll);
}

// Pixel pairs of one pair of images on which the steps work, about.
template <class T>
double image_cost(const Images<T>& p) {
    const Level& first = p.net.level[0];
    double pairs = 1;
    for (const auto& [size, reach] :
         {std::pair{first.h, first.reach[0]}, std::pair{first.w, first.reach[1]}})
        pairs *= static_cast<double>(size * std::min(2 * reach + 1, size));
    return 16.0 * pairs * static_cast<double>(p.net.count);
}

template <class T, class Poll>
void run(Images<T>& problem, const InstructionSet& set, int threads, Poll poll) {
    const Tiles<T>& tiles = tiles_of<T>(set);
    const auto parts = [](std::int64_t all, std::int64_t one) { return (all + one - 1) / one; };
    problem.rows = tiles.image_rows;
    std::int64_t tasks = parts(problem.n, problem.rows);
    if (!problem.diagonal) {  // small tasks where there are few; results do not depend on it
        const std::int64_t columns = parts(problem.m, tiles.image_columns(problem));
        while (problem.rows > 1 && parts(problem.n, problem.rows) * columns < 8 * threads)
            problem.rows /= 2;
        tasks = parts(problem.n, problem.rows) * columns;
    }
    const std::int64_t size = tiles.image_scratch(problem);
    Flag cancelled;
    problem.cancelled = &cancelled;
    const auto work = with_scratch<T>(size, [&](auto task, T* scratch, auto* packed) {
        tiles.image(problem, task, scratch, packed);
    });
    const double pairs =
        static_cast<double>(problem.n) * static_cast<double>(problem.diagonal ? 1 : problem.m);
    share(tasks, threads, pairs * image_cost(problem), cancelled, work, poll);
}

// Strips of columns times blocks of rows (see sequence.hpp).
template <class T, class Poll>
void run(Sequences<T>& problem, const InstructionSet& set, int threads, Poll poll) {
    const Tiles<T>& tiles = tiles_of<T>(set);
    const auto blocks = [](std::int64_t count) {
        return (count + kSequenceBlock - 1) / kSequenceBlock;
    };
    Flag cancelled;
    problem.cancelled = &cancelled;
    const std::int64_t size = tiles.sequence_scratch(problem);
    const auto work = with_scratch<T>(size, [&](auto task, T* scratch, auto* packed) {
        tiles.sequences(problem, task, scratch, packed);
    });
    double steps = 0;
    for (std::int64_t i = 0; i < problem.x.count; ++i)
        steps += static_cast<double>(problem.x.length[i]);
    const double depth = 8.0 * static_cast<double>(problem.layers * problem.directions);
    const double cost = steps * static_cast<double>(problem.y.count) *
                        (depth + static_cast<double>(problem.channels));
    share(blocks(problem.x.count) * blocks(problem.y.count), threads, cost, cancelled, work, poll);
}

}  // namespace ntkfast
