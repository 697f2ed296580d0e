// The product of a symmetric matrix with vectors, each pair of inputs once: tasks take turns to add.
//
// A task is a block of rows against a block of columns. It has sums for both, and a block gets sums
// from as many tasks as there are blocks. They are added in the order of the tasks, whatever thread
// did them, so that any number of threads gives the same bits; a thread that is early waits. Tasks
// begin in their order: the first one at work waits for nobody.
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

// Rows of a block: many columns of sums take fewer, and there are at least four blocks if n allows it.
inline std::int64_t product_block(std::int64_t n, std::int64_t columns) {
    const std::int64_t fit = std::min<std::int64_t>(n / (4 * kProductUnit), 512 / columns);
    return kProductUnit * std::clamp<std::int64_t>(fit, 1, 4);
}

// sums[n][columns], zeros at first.
class Turns {
  public:
    Turns(std::int64_t n, std::int64_t columns, std::int64_t block)
        : sums(static_cast<std::size_t>(n * columns)),
          n_(n),
          columns_(columns),
          block_(block),
          done_(static_cast<std::size_t>((n + block - 1) / block)) {}

    std::vector<double> sums;

    // Adds a task's sums, rows [block][columns] and columns [columns][block].
    void add(const BlockPair& pair, const double* rows, const volatile int& cancelled) {
        const double* const columns = rows + block_ * columns_;
        if (!await(pair.first, pair.turn[0], cancelled)) return;
        add(pair.first, rows, columns_, 1);
        if (pair.first != pair.second) {
            end(pair.first);
            if (!await(pair.second, pair.turn[1], cancelled)) return;
        }
        add(pair.second, columns, 1, block_);
        end(pair.second);
    }

  private:
    std::int64_t n_, columns_, block_;
    std::vector<std::atomic<std::int64_t>> done_;  // tasks that have added to a block

    bool await(std::int64_t block, std::int64_t turn, const volatile int& cancelled) const {
        const auto& done = done_[static_cast<std::size_t>(block)];
        while (done.load(std::memory_order_acquire) != turn) {
            if (cancelled) return false;
            std::this_thread::sleep_for(std::chrono::microseconds(20));
        }
        return true;
    }

    void end(std::int64_t block) {
        done_[static_cast<std::size_t>(block)].fetch_add(1, std::memory_order_release);
    }

    void add(std::int64_t block, const double* part, std::int64_t row, std::int64_t column) {
        const std::int64_t begin = block * block_, rows = std::min(block_, n_ - begin);
        double* to = sums.data() + begin * columns_;
        for (std::int64_t i = 0; i < rows; ++i)
            for (std::int64_t c = 0; c < columns_; ++c) *to++ += part[i * row + c * column];
    }
};

}  // namespace ntkfast
