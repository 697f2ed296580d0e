// Results that come back piece by piece: the device computes one while the host takes the last one.
#pragma once

#include <algorithm>

#include "cuda/run.hpp"
#include "host/parallel.hpp"

namespace ntkfast {

// The numbers of a piece of the result.
inline std::int64_t piece_numbers() { return std::min(chunk_numbers(), std::int64_t{1} << 24); }

// Calls compute(k, memory of the device), which says how many numbers it has filled there, and
// write(k, these numbers on the host) for all pieces.
template <class T, class Compute, class Write>
void by_pieces(const Device& device, std::int64_t pieces, std::int64_t numbers, const Poll& poll,
               Compute compute, Write write) {
    const auto bytes = sizeof(T) * static_cast<std::size_t>(numbers);
    const Numbers<T> memory[2] = {{device, numbers}, {device, numbers}};
    Return back[2] = {{device, bytes}, {device, bytes}};
    for (std::int64_t k = 0; k <= pieces; ++k) {
        poll();
        if (k < pieces) {
            const std::int64_t filled = compute(k, memory[k % 2].get());
            back[k % 2].start(memory[k % 2].get(), sizeof(T) * static_cast<std::size_t>(filled));
        }
        if (k > 0) write(k - 1, static_cast<const T*>(back[(k - 1) % 2].wait()));
    }
}

// Calls work(first, last) for parts of `count` rows on the threads of the host.
template <class Work>
void by_rows(const Device& device, std::int64_t count, std::int64_t numbers, const Poll& poll,
             Work work) {
    constexpr std::int64_t kRows = 64;
    Flag cancelled;
    const auto tasks = [&](const auto& next) {
        for (std::int64_t task; (task = next()) >= 0;)
            work(task * kRows, std::min(count, (task + 1) * kRows));
    };
    const double cost = static_cast<double>(count) * static_cast<double>(numbers);
    share((count + kRows - 1) / kRows, device.threads, cost, cancelled, tasks, poll);
}

}  // namespace ntkfast
