// A device played by the host: the blocks of a grid one after another, their threads as
// fibers that change at barriers. So the very sources of kernels run in tests without a device.
//
// Shared memory starts with NaN, asynchronous copies happen when they are waited for, and the order
// of the threads turns around in every round: what was not written, or needs a barrier or a wait
// that is not there, shows. A barrier that not all threads reach is an error.
#pragma once

#include <setjmp.h>
#include <ucontext.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <stdexcept>
#include <vector>

namespace ntkfast::emulation {

// Functions that return twice: callers' variables in registers would not survive it.
#define NTK_APART __attribute__((noinline))

constexpr int kWarp = 32;

// Whether kernels are not run at all and memory holds zeros, by NTKFAST_CUDA_IDLE: what is left of a
// call is what the host does.
inline bool is_idle() {
    static const bool idle = std::getenv("NTKFAST_CUDA_IDLE") != nullptr;
    return idle;
}

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
        if (is_idle()) return;
        body_ = &body;
        const auto threads = static_cast<std::size_t>(grid.threads);
        while (fibers_.size() < threads) fibers_.emplace_back().stack.resize(kStack);
        shared.resize(grid.shared / sizeof(double) + 1);
        for (std::int64_t b = 0; b < grid.blocks; ++b) {
            block.x = static_cast<unsigned>(b);
            std::memset(shared.data(), 0xff, shared.size() * sizeof(double));
            run_block(threads);
        }
    }

    void barrier() { meet(whole_, live_); }

    // What every thread of the calling one's warp hands over: all of them call it together.
    template <class Registers>
    std::array<Registers, kWarp> exchange(const Registers& own) {
        static_assert(sizeof own <= sizeof(Fiber::handed[0]));
        const unsigned first = thread.x / kWarp * kWarp;
        // Two places in turn: a thread may hand over again while others still read the last one.
        const unsigned turn = fibers_[thread.x].turn++ % 2;
        std::memcpy(fibers_[thread.x].handed[turn].data(), &own, sizeof own);
        meet(warps_[thread.x / kWarp], kWarp);
        std::array<Registers, kWarp> all;
        for (unsigned lane = 0; lane < kWarp; ++lane)
            std::memcpy(&all[lane], fibers_[first + lane].handed[turn].data(), sizeof own);
        return all;
    }

    // Asynchronous copies of the calling thread, in groups; waiting leaves the `newest` ones open.
    void copy(void* to, const void* from, std::size_t bytes) {
        fibers_[thread.x].copies.push_back({to, from, bytes, fibers_[thread.x].groups});
    }
    void commit() { ++fibers_[thread.x].groups; }
    void wait(int newest) {
        Fiber& fiber = fibers_[thread.x];
        std::size_t k = 0;
        for (; k < fiber.copies.size() && fiber.copies[k].group + newest < fiber.groups; ++k)
            std::memcpy(fiber.copies[k].to, fiber.copies[k].from, fiber.copies[k].bytes);
        fiber.copies.erase(fiber.copies.begin(), fiber.copies.begin() + static_cast<long>(k));
    }

  private:
    static constexpr std::size_t kStack = 64 * 1024;
    struct Copy {
        void* to;
        const void* from;
        std::size_t bytes;
        int group;
    };
    struct Fiber {
        ucontext_t start;
        jmp_buf stop;  // swapcontext would ask the system for every change
        std::vector<char> stack;
        bool started = false, done = false;
        unsigned turn = 0;
        std::array<std::array<char, 32>, 2> handed;
        std::vector<Copy> copies;
        int groups = 0;
    };
    struct Meeting {
        int arrived = 0;
        unsigned past = 0;
    };
    std::vector<Fiber> fibers_;
    jmp_buf main_;
    Meeting whole_;
    std::vector<Meeting> warps_;
    int live_ = 0;
    bool moved_ = false;
    const std::function<void()>* body_ = nullptr;

    static void enter() {
        Machine& m = here();
        (*m.body_)();
        m.fibers_[m.thread.x].done = m.moved_ = true;
        if (--m.live_ > 0 && m.whole_.arrived == m.live_) m.release(m.whole_);
        _longjmp(m.main_, 1);
    }

    void release(Meeting& meeting) {
        meeting.arrived = 0;
        ++meeting.past;
        moved_ = true;
    }

    void meet(Meeting& meeting, int size) {
        if (++meeting.arrived == size) return release(meeting);
        for (const unsigned past = meeting.past; meeting.past == past;)
            if (!_setjmp(fibers_[thread.x].stop)) _longjmp(main_, 1);
    }

    NTK_APART void resume(Fiber& fiber) {
        if (_setjmp(main_)) return;
        if (fiber.started) _longjmp(fiber.stop, 1);
        fiber.started = true;
        setcontext(&fiber.start);
    }

    NTK_APART static void prepare(Fiber& fiber) {
        getcontext(&fiber.start);
        fiber.start.uc_stack.ss_sp = fiber.stack.data();
        fiber.start.uc_stack.ss_size = kStack;
        fiber.start.uc_link = nullptr;
        makecontext(&fiber.start, &Machine::enter, 0);
        fiber.started = fiber.done = false;
        fiber.turn = 0, fiber.groups = 0;
        fiber.copies.clear();
    }

    void prepare(std::size_t threads) {
        for (std::size_t t = 0; t < threads; ++t) prepare(fibers_[t]);
        whole_ = {};
        warps_.assign(threads / kWarp + 1, {});
        live_ = static_cast<int>(threads);
    }

    void run_block(std::size_t threads) {
        prepare(threads);
        for (bool forward = true; live_ > 0; forward = !forward) {
            moved_ = false;
            for (std::size_t k = 0; k < threads; ++k) {
                const std::size_t t = forward ? k : threads - 1 - k;
                if (fibers_[t].done) continue;
                thread.x = static_cast<unsigned>(t);
                resume(fibers_[t]);
            }
            if (!moved_) throw std::logic_error("kernel: a barrier that not all threads reach");
        }
    }
};

}  // namespace ntkfast::emulation
