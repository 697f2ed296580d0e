// The product of a symmetric matrix with vectors, each pair of inputs once: tasks take turns to add.
//
// A task is a block of rows against a block of columns. It has sums for both, and a block gets sums
// from as many tasks as there are blocks. They are added in the order of the tasks, whatever thread
// did them, so that any number of threads gives the same bits; a thread that is early waits. Tasks
// begin in their order: the first one at work waits for nobody.
//
// Blocks are in groups, and all tasks of two groups come together. What they add to a block is summed
// by itself first: processes that do two groups each, and add what they find, get the same bits.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <thread>
#include <vector>

#include "formulas/problems.hpp"

namespace ntkfast {

// Blocks `first` <= `second` with each other, and how many tasks before add to either of them.
struct BlockPair {
    std::int64_t first, second, turn[2];
};

inline std::int64_t count_pairs(std::int64_t blocks) { return blocks * (blocks + 1) / 2; }

// Blocks k apart, on a circle, for k = 1, 2, ...: tasks that are at work together have few blocks in
// common. The short ones, of blocks with themselves, come last and even out what threads do.
inline BlockPair block_pair(std::int64_t task, std::int64_t blocks) {
    const std::int64_t apart = blocks * (blocks - 1) / 2;
    if (task >= apart) return {task - apart, task - apart, {blocks - 1, blocks - 1}};
    const std::int64_t k = task / blocks + 1, i = task % blocks;
    const std::int64_t j = i + k < blocks ? i + k : i + k - blocks;
    const std::int64_t before = 2 * (k - 1), turn_i = before + (i >= k), turn_j = before + (j < i);
    if (i < j) return {i, j, {turn_i, turn_j}};
    return {j, i, {turn_j, turn_i}};
}

// A block of one group with a block of another, each with as many blocks.
inline BlockPair pair_across(std::int64_t task, std::int64_t blocks) {
    const std::int64_t k = task / blocks, i = task % blocks;
    return {i, (i + k) % blocks, {k, k}};
}

// All pairs of blocks that are in groups of so many: two groups after each other.
inline BlockPair pair_in_groups(std::int64_t task, std::int64_t groups, std::int64_t blocks) {
    const std::int64_t apart = groups * (groups - 1) / 2, square = blocks * blocks;
    const std::int64_t own = task - apart * square, each = count_pairs(blocks);
    const BlockPair group = block_pair(own < 0 ? task / square : apart + own / each, groups);
    BlockPair pair = own < 0 ? pair_across(task % square, blocks) : block_pair(own % each, blocks);
    pair.first += group.first * blocks, pair.second += group.second * blocks;
    for (int side = 0; side < 2; ++side) pair.turn[side] += group.turn[side] * blocks;
    return pair;
}

inline std::int64_t count_in_groups(std::int64_t groups, std::int64_t blocks) {
    return groups * (groups - 1) / 2 * blocks * blocks + groups * count_pairs(blocks);
}

// Rows of a block: many columns of sums take fewer, and there are at least four blocks if n allows it.
// A power of two times a unit, so that groups are whole blocks.
inline std::int64_t product_block(std::int64_t n, std::int64_t columns) {
    const std::int64_t fit = std::min<std::int64_t>(n / (4 * kProductUnit), 512 / columns);
    return kProductUnit * (fit >= 4 ? 4 : fit >= 2 ? 2 : 1);
}

// Rows of a group: whole blocks of any size. About sqrt(n) / 20 groups, eight at least if n allows it:
// then there is work for many processes, and few sums travel.
inline std::int64_t group_rows(std::int64_t n) {
    constexpr std::int64_t unit = 4 * kProductUnit;
    std::int64_t groups = 8;
    while (400 * groups * groups < n) ++groups;
    const std::int64_t units = (n + unit - 1) / unit;
    return unit * ((units + groups - 1) / groups);
}

// Sums of n rows, zeros at first: sums[n][columns]. Blocks from ceil(n / block) on have no rows.
class Turns {
  public:
    Turns(std::int64_t n, std::int64_t columns, std::int64_t block, std::int64_t group)
        : sums(static_cast<std::size_t>(n * columns)),
          n_(n),
          columns_(columns),
          block_(block),
          group_(group),
          parts_(sums.size()),
          done_(static_cast<std::size_t>((n + block - 1) / block)) {}

    std::vector<double> sums;

    bool has(std::int64_t block) const { return block * block_ < n_; }

    // Waits until it is the turn of a task to add to a block; whether it may.
    bool await(std::int64_t block, std::int64_t turn, const Flag& cancelled) const {
        const auto& done = done_[static_cast<std::size_t>(block)];
        while (done.load(std::memory_order_acquire) != turn) {
            if (cancelled) return false;
            std::this_thread::sleep_for(std::chrono::microseconds(20));
        }
        return true;
    }

    // Adds a task's sums, whose rows and columns are so far apart.
    void add(std::int64_t block, const double* from, std::int64_t row, std::int64_t column) {
        double* to = parts_.data() + block * block_ * columns_;
        for (std::int64_t i = 0; i < rows(block); ++i)
            for (std::int64_t c = 0; c < columns_; ++c) *to++ += from[i * row + c * column];
    }

    // Ends a turn; the last one of a group adds what the group has.
    void end(std::int64_t block, std::int64_t turn) {
        if (turn % group_ == group_ - 1) {
            const std::int64_t begin = block * block_ * columns_;
            for (std::int64_t i = begin; i < begin + rows(block) * columns_; ++i) {
                const auto at = static_cast<std::size_t>(i);
                sums[at] += parts_[at];
                parts_[at] = 0;
            }
        }
        done_[static_cast<std::size_t>(block)].fetch_add(1, std::memory_order_release);
    }

  private:
    std::int64_t n_, columns_, block_, group_;
    std::vector<double> parts_;                    // what the tasks of two groups have added so far
    std::vector<std::atomic<std::int64_t>> done_;  // turns of a block that have ended

    std::int64_t rows(std::int64_t block) const { return std::min(block_, n_ - block * block_); }
};

// Adds a task's sums, rows [block][columns] and columns [columns][block], to those of either side,
// which may be the same; null: there are none, since a block has no rows.
inline void add_in_turn(Turns& left, Turns& right, const BlockPair& pair, const double* rows,
                        std::int64_t block, std::int64_t columns, const Flag& cancelled) {
    const bool same = &left == &right && pair.first == pair.second;
    if (left.has(pair.first)) {
        if (!left.await(pair.first, pair.turn[0], cancelled)) return;
        if (rows) left.add(pair.first, rows, columns, 1);
        if (same && rows) left.add(pair.first, rows + block * columns, 1, block);
        left.end(pair.first, pair.turn[0]);
    }
    if (same || !right.has(pair.second)) return;
    if (!right.await(pair.second, pair.turn[1], cancelled)) return;
    if (rows) right.add(pair.second, rows + block * columns, 1, block);
    right.end(pair.second, pair.turn[1]);
}

}  // namespace ntkfast
