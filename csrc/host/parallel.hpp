// Runs numbered tasks on threads.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <vector>

#include "formulas/flag.hpp"
#include "host/workers.hpp"

namespace ntkfast {

// Calls work(next) on `threads` threads; `next()` yields task numbers below `tasks`, then -1.
// The calling thread is one of them if it `helps`, which it does where all is over soon. While it
// waits for the others it wakes every 20 ms for `poll`, which may throw (Ctrl-C): the flag
// `cancelled` is then raised, the threads are joined, and the exception goes on.
template <class Work, class Poll>
void run_tasks(std::int64_t tasks, int threads, bool helps, Flag& cancelled, Work work, Poll poll) {
    std::atomic<std::int64_t> counter{0};
    const auto next = [&]() -> std::int64_t {
        const std::int64_t task = cancelled ? tasks : counter.fetch_add(1);
        return task < tasks ? task : -1;
    };
    std::mutex mutex;
    std::condition_variable finished;
    std::exception_ptr failure;
    int running = 0;
    const std::function<void()> body = [&] {
        std::exception_ptr thrown;
        try {
            work(next);
        } catch (...) {
            thrown = std::current_exception();
            cancelled.raise();
        }
        const std::lock_guard lock(mutex);
        if (thrown && !failure) failure = thrown;
        --running;
        finished.notify_one();
    };
    std::vector<Helper> team;
    const auto join = [&] {
        for (auto& member : team) member.join();
        team.clear();
    };
    try {
        for (int k = helps ? 1 : 0; k < threads; ++k) {
            {
                const std::lock_guard lock(mutex);
                ++running;
            }
            try {
                team.emplace_back(body);
            } catch (...) {  // the system has no more threads: those that run suffice
                const std::lock_guard lock(mutex);
                --running;
                if (team.empty() && !helps) throw;
                break;
            }
        }
        if (helps) {
            {
                const std::lock_guard lock(mutex);
                ++running;
            }
            body();
        }
        for (bool done = false; !done;) {
            {
                std::unique_lock lock(mutex);
                done = finished.wait_for(lock, std::chrono::milliseconds(20),
                                         [&] { return running == 0; });
            }
            if (!done) poll();
        }
    } catch (...) {
        cancelled.raise();
        join();
        throw;
    }
    join();
    if (failure) std::rethrow_exception(failure);
}

// About 0.1 ms of work: below it a thread costs more than it gains.
constexpr double kWorthThreads = 2e6;
// About 10 ms, of costly maps a tenth of a second: below it nobody misses Ctrl-C, and the calling
// thread need not be free for it.
constexpr double kWorthPolling = 2e8;

// Does the work here if there is little, else on threads.
template <class Work, class Poll>
void share(std::int64_t tasks, int threads, double cost, Flag& cancelled, Work work, Poll poll) {
    if (cost < kWorthThreads) {
        std::int64_t task = 0;
        work([&]() -> std::int64_t { return task < tasks ? task++ : -1; });
        return;
    }
    run_tasks(tasks, static_cast<int>(std::min<std::int64_t>(threads, tasks)), cost < kWorthPolling,
              cancelled, work, poll);
}

}  // namespace ntkfast
