// Threads that wait between calls: waking one takes a fifth of the time that starting one takes.
#pragma once

#include <cfenv>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#if !defined(_WIN32)
#include <pthread.h>
#endif

namespace ntkfast {

// A thread that runs one function after the other.
class Worker {
  public:
    // By a plain function: of others the library would export a type that names them.
    Worker()
        : thread_(
              +[](void* self) { static_cast<Worker*>(self)->serve(); }, static_cast<void*>(this)) {}
    ~Worker() {
        {
            const std::lock_guard lock(mutex_);
            stopped_ = true;
        }
        changed_.notify_one();
        thread_.join();
    }
    Worker(const Worker&) = delete;
    Worker& operator=(const Worker&) = delete;

    // Runs a function, which outlives it, with the rounding and the exceptions of the calling thread, on the
    // processors that it may use.
    void start(const std::function<void()>& job) {
        follow();
        {
            const std::lock_guard lock(mutex_);
            std::fegetenv(&arithmetic_);
            job_ = &job;
        }
        changed_.notify_one();
    }

    // Returns when the function has.
    void wait() {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [this] { return !job_; });
    }

  private:
    // A new thread has them from the one that starts it; both may be told others since.
    void follow() {
#if defined(__linux__)
        cpu_set_t here;
        if (pthread_getaffinity_np(pthread_self(), sizeof here, &here)) return;  // more than 1,024
        if (CPU_EQUAL(&here, &processors_)) return;
        if (!pthread_setaffinity_np(thread_.native_handle(), sizeof here, &here))
            processors_ = here;
#endif
    }

    void serve() {
        std::unique_lock lock(mutex_);
        for (;;) {
            changed_.wait(lock, [this] { return job_ || stopped_; });
            if (stopped_) return;
            lock.unlock();
            std::fesetenv(&arithmetic_);
            (*job_)();
            lock.lock();
            job_ = nullptr;
            changed_.notify_one();  // one of both threads waits at a time
        }
    }

    std::mutex mutex_;
    std::condition_variable changed_;
    const std::function<void()>* job_ = nullptr;
    std::fenv_t arithmetic_{};
    bool stopped_ = false;
#if defined(__linux__)
    cpu_set_t processors_{};
#endif
    std::thread thread_;  // the last member: it uses the others
};

// The workers that nobody uses. They end before a fork, which no thread but the one that calls it
// survives; at the end of the process they are left as they are, waiting.
class IdleWorkers {
  public:
    static IdleWorkers& get() {
        static IdleWorkers& all = made();
        return all;
    }

    // Returns a worker, a new one if need be; throws where the system has no more threads.
    std::unique_ptr<Worker> take() {
        {
            const std::lock_guard lock(mutex_);
            if (!idle_.empty()) {
                std::unique_ptr<Worker> last = std::move(idle_.back());
                idle_.pop_back();
                return last;
            }
        }
        return std::make_unique<Worker>();
    }

    // Keeps a worker for later, or ends it.
    void put(std::unique_ptr<Worker> worker) {
        const std::lock_guard lock(mutex_);
        if (idle_.size() < kMost) idle_.push_back(std::move(worker));
    }

  private:
    static constexpr std::size_t kMost = 256;

    static IdleWorkers& made() {
        auto* all = new IdleWorkers;  // never deleted: threads may call while the process ends
        all->idle_.reserve(kMost);
#if !defined(_WIN32)
        pthread_atfork([] { get().before_fork(); }, [] { get().mutex_.unlock(); },
                       [] { get().mutex_.unlock(); });
#endif
        return *all;
    }

    void before_fork() {
        mutex_.lock();
        idle_.clear();
    }

    std::mutex mutex_;
    std::vector<std::unique_ptr<Worker>> idle_;
};

// A worker that runs one function; like std::thread, but the function must outlive it.
class Helper {
  public:
    explicit Helper(const std::function<void()>& job) : worker_(IdleWorkers::get().take()) {
        worker_->start(job);
    }
    void join() {
        worker_->wait();
        IdleWorkers::get().put(std::move(worker_));
    }

  private:
    std::unique_ptr<Worker> worker_;
};

}  // namespace ntkfast
