// A flag that one thread raises while others look at it; it orders nothing else.
#pragma once

#include <atomic>

namespace ntkfast {

class Flag {
  public:
    void raise() { raised_.store(true, std::memory_order_relaxed); }
    explicit operator bool() const { return raised_.load(std::memory_order_relaxed); }

  private:
    std::atomic<bool> raised_{false};
};

}  // namespace ntkfast
