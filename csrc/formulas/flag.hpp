// A flag that one thread raises while others look at it; it orders nothing else.
#pragma once

#if defined(_MSC_VER) && !defined(__clang__)
#include <atomic>
#endif

namespace ntkfast {

// Loops of one instruction set look at it: what they call is inline, whatever the optimisation, so
// that the linker finds no copy of theirs for the others. That excludes std::atomic where it can.
#if defined(_MSC_VER) && !defined(__clang__)
class Flag {
  public:
    void raise() { raised_.store(1, std::memory_order_relaxed); }
    explicit operator bool() const { return raised_.load(std::memory_order_relaxed) != 0; }

  private:
    std::atomic<int> raised_{0};
};
#else
class Flag {
  public:
    __attribute__((always_inline)) void raise() { __atomic_store_n(&raised_, 1, __ATOMIC_RELAXED); }
    __attribute__((always_inline)) explicit operator bool() const {
        return __atomic_load_n(&raised_, __ATOMIC_RELAXED) != 0;
    }

  private:
    int raised_ = 0;
};
#endif

}  // namespace ntkfast
