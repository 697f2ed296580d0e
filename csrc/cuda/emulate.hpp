// A graphics card played by the host: the blocks of a grid one after another, their threads as
// fibers that change at barriers. So the very sources of kernels run in tests without a card.
//
// Shared memory starts with NaN, and the order of the threads turns around at every barrier: what
// was not written, or needs a barrier that is not there, shows.
#pragma once

#include <ucontext.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <vector>

namespace ntkfast::emulation {

struct Index {
    unsigned x = 0;
};

struct Grid {
    std::int64_t blocks;
    int threads;
    std::size_t shared;
};

class Machine {
  public:
    Index thread, block;
    std::vector<double> shared;

    static Machine& here() {
        static thread_local Machine machine;
        return machine;
    }

    void run(const Grid& grid, const std::function<void()>& body) {
        body_ = &body;
        const auto threads = static_cast<std::size_t>(grid.threads);
        while (fibers_.size() < threads)
            fibers_.push_back({ucontext_t{}, std::vector<char>(kStack)});
        shared.resize(grid.shared / sizeof(double) + 1);
        for (std::int64_t b = 0; b < grid.blocks; ++b) {
            block.x = static_cast<unsigned>(b);
            std::memset(shared.data(), 0xff, shared.size() * sizeof(double));
            run_block(threads);
        }
    }

    void barrier() { swapcontext(&fibers_[thread.x].context, &main_); }

  private:
    static constexpr std::size_t kStack = 64 * 1024;
    struct Fiber {
        ucontext_t context;
        std::vector<char> stack;
    };
    std::vector<Fiber> fibers_;
    std::vector<bool> done_;
    ucontext_t main_;
    const std::function<void()>* body_ = nullptr;

    static void enter() {
        Machine& m = here();
        (*m.body_)();
        m.done_[m.thread.x] = true;
    }

    void run_block(std::size_t threads) {
        for (std::size_t t = 0; t < threads; ++t) {
            ucontext_t& context = fibers_[t].context;
            getcontext(&context);
            context.uc_stack.ss_sp = fibers_[t].stack.data();
            context.uc_stack.ss_size = kStack;
            context.uc_link = &main_;
            makecontext(&context, &Machine::enter, 0);
        }
        done_.assign(threads, false);
        bool forward = true, any = true;
        for (; any; forward = !forward) {
            any = false;
            for (std::size_t k = 0; k < threads; ++k) {
                const std::size_t t = forward ? k : threads - 1 - k;
                if (done_[t]) continue;
                any = true;
                thread.x = static_cast<unsigned>(t);
                swapcontext(&main_, &fibers_[t].context);
            }
        }
    }
};

}  // namespace ntkfast::emulation
