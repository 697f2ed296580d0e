// Threads that wait between calls: many callers, nested calls, failures, forks.
#include <atomic>
#include <cstdio>
#include <stdexcept>
#include <thread>
#include <vector>

#include "host/parallel.hpp"

#if !defined(_WIN32)
#include <sys/wait.h>
#include <unistd.h>
#endif

using namespace ntkfast;

namespace {

int failures = 0;

void check(bool right, const char* what) {
    if (right) return;
    std::printf("failed: %s\n", what);
    ++failures;
}

// 0 + 1 + ... by so many threads.
std::int64_t sum_below(std::int64_t tasks, int threads, bool helps) {
    std::atomic<std::int64_t> sum{0};
    Flag cancelled;
    run_tasks(
        tasks, threads, helps, cancelled,
        [&](const auto& next) {
            for (std::int64_t task; (task = next()) >= 0;) sum += task;
        },
        [] {});
    return sum;
}

bool sums_are_right(int rounds) {
    bool right = true;
    for (int k = 0; k < rounds; ++k) right = right && sum_below(100, 1 + k % 4, k % 2) == 4950;
    return right;
}

void test_many_callers() {
    std::atomic<int> wrong{0};
    std::vector<std::thread> callers;
    for (int k = 0; k < 6; ++k) callers.emplace_back([&] { wrong += !sums_are_right(200); });
    for (auto& caller : callers) caller.join();
    check(wrong == 0, "calls of several threads at once");
}

void test_nested_calls() {
    std::atomic<std::int64_t> sum{0};
    Flag cancelled;
    run_tasks(
        10, 3, true, cancelled,
        [&](const auto& next) {
            while (next() >= 0) sum += sum_below(50, 3, true);
        },
        [] {});
    check(sum == 10 * 1225, "calls within calls");
}

void test_failures() {
    for (int round = 0; round < 20; ++round) {
        for (const bool helps : {false, true}) {
            bool thrown = false;
            Flag cancelled;
            try {
                run_tasks(
                    8, 3, helps, cancelled,
                    [](const auto& next) {
                        while (next() >= 0) throw std::runtime_error("a task failed");
                    },
                    [] {});
            } catch (const std::runtime_error&) {
                thrown = true;
            }
            check(thrown && sums_are_right(2), "calls after an exception");
        }
    }
}

void test_interrupted() {
    Flag cancelled;
    bool thrown = false;
    try {
        run_tasks(
            2, 2, false, cancelled,
            [&](const auto& next) {
                while (next() >= 0)
                    while (!cancelled) std::this_thread::yield();
            },
            [] { throw std::runtime_error("Ctrl-C"); });
    } catch (const std::runtime_error&) {
        thrown = true;
    }
    check(thrown && sums_are_right(2), "calls after one that was interrupted");
}

#if !defined(_WIN32)
void test_forks() {
    std::atomic<bool> done{false};
    std::vector<std::thread> callers;
    for (int k = 0; k < 3; ++k)
        callers.emplace_back([&] {
            while (!done) sums_are_right(4);
        });
    for (int k = 0; k < 30; ++k) {
        check(sums_are_right(4), "calls between forks");
        const pid_t child = fork();
        if (child == 0) {
            alarm(60);
            _exit(sums_are_right(8) && failures == 0 ? 0 : 1);
        }
        int status = -1;
        waitpid(child, &status, 0);
        check(status == 0, "calls in a child");
    }
    done = true;
    for (auto& caller : callers) caller.join();
}
#endif

}  // namespace

int main() {
    test_many_callers();
    test_nested_calls();
    test_failures();
    test_interrupted();
#if !defined(_WIN32)
    test_forks();
#endif
    std::printf("%d failed\n", failures);
    return failures != 0;
}
