// The way back from a device to the host, beside what the device goes on with.
#include <cstring>
#include <memory>
#include <mutex>
#include <vector>

#include "cuda/memory.hpp"

namespace ntkfast {

#if defined(__CUDACC__)

struct Return::Way {
    int ordinal;
    std::size_t capacity;
    cudaStream_t own = nullptr;
    cudaEvent_t ready = nullptr, done = nullptr;
    void* pinned = nullptr;

    explicit Way(int on, std::size_t bytes) : ordinal(on), capacity(bytes) {}
    Way(const Device& device, std::size_t bytes) : Way(device.ordinal, bytes) {
        check(cudaStreamCreateWithFlags(&own, cudaStreamNonBlocking));
        check(cudaEventCreateWithFlags(&ready, cudaEventDisableTiming));
        check(cudaEventCreateWithFlags(&done, cudaEventDisableTiming));
        check(cudaMallocHost(&pinned, bytes));
    }
    ~Way() {
        finish();
        if (own) cudaStreamDestroy(own);
        if (ready) cudaEventDestroy(ready);
        if (done) cudaEventDestroy(done);
        if (pinned) cudaFreeHost(pinned);
    }
    void finish() noexcept {
        if (own && cudaStreamSynchronize(own) != cudaSuccess) cudaGetLastError();
    }
    void start(const Device& device, const void* from, std::size_t bytes) {
        check(cudaEventRecord(ready, static_cast<cudaStream_t>(device.stream)));
        check(cudaStreamWaitEvent(own, ready));
        check(cudaMemcpyAsync(pinned, from, bytes, cudaMemcpyDeviceToHost, own));
        check(cudaEventRecord(done, own));
    }
    const void* wait() {
        check(cudaEventSynchronize(done));
        return pinned;
    }
};

#else

// Copies no sooner than it must, so that results that are overwritten too early show.
struct Return::Way {
    int ordinal;
    std::size_t capacity;
    std::vector<char> here;
    const void* from = nullptr;
    std::size_t wanted = 0;

    Way(const Device& device, std::size_t bytes)
        : ordinal(device.ordinal), capacity(bytes), here(bytes) {}
    void finish() noexcept {}
    void start(const Device&, const void* memory, std::size_t bytes) {
        from = memory, wanted = bytes;
    }
    const void* wait() {
        std::memcpy(here.data(), from, wanted);
        return here.data();
    }
};

#endif

namespace {

// Ways that are not in use, two of a device at most. Never destroyed: the driver may be gone by then.
struct Ways {
    std::mutex guard;
    std::vector<std::unique_ptr<Return::Way>> free;

    static Ways& here() {
        static Ways& all = *new Ways;
        return all;
    }

    std::unique_ptr<Return::Way> take(const Device& device, std::size_t bytes) {
        {
            const std::lock_guard lock(guard);
            for (auto& way : free)
                if (way->ordinal == device.ordinal && way->capacity >= bytes) {
                    std::swap(way, free.back());
                    auto found = std::move(free.back());
                    free.pop_back();
                    return found;
                }
        }
        ++counts().ways_back;
        return std::make_unique<Return::Way>(device, bytes);
    }

    // The largest ones stay.
    void keep(std::unique_ptr<Return::Way> way) {
        const std::lock_guard lock(guard);
        int others = 0;
        for (auto& one : free) {
            if (one->ordinal != way->ordinal) continue;
            ++others;
            if (one->capacity < way->capacity) std::swap(one, way);
        }
        if (others < 2) free.push_back(std::move(way));
    }
};

}  // namespace

Return::Return(const Device& device, std::size_t bytes)
    : device_(device), way_(Ways::here().take(device, bytes)) {}

Return::~Return() {
    way_->finish();  // what was queued must not outlive the memory that it reads
    Ways::here().keep(std::move(way_));
}

void Return::start(const void* from, std::size_t bytes) {
    counts().bytes_back += static_cast<std::int64_t>(bytes);
    way_->start(device_, from, bytes);
}

const void* Return::wait() {
    ++counts().waits;
    return way_->wait();
}

}  // namespace ntkfast
