// Memory of a device, through the CUDA runtime or as plain memory of the emulating host.
#include "cuda/memory.hpp"

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <new>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace ntkfast {

namespace {
std::atomic<std::int64_t> chunk{std::int64_t{1} << 27};

Precision precision_of(const std::string& name) {
    if (name.empty() || name == "strict") return Precision::kStrict;
    if (name == "3xtf32") return Precision::kTf32x3;
    if (name == "tf32") return Precision::kTf32;
    throw std::invalid_argument("precision: unknown: " + name);
}

// What use_device is told, without asking for the device.
Device parse(const std::string& where, int threads) {
    std::istringstream text(where);
    std::string ordinal, precision, stream = "0";
    std::getline(text, ordinal, ':');
    std::getline(text, precision, ':');
    std::getline(text, stream, ':');
    const auto address = static_cast<std::uintptr_t>(std::stoull(stream));
    return {std::stoi(ordinal), reinterpret_cast<void*>(address), threads, precision_of(precision)};
}

class OutOfMemory : public std::bad_alloc {
  public:
    OutOfMemory(const Device& device, std::size_t bytes)
        : what_("CUDA device " + std::to_string(device.ordinal) + ": no room for " +
                std::to_string(bytes) + " bytes, " + std::to_string(free_bytes(device)) +
                " are free") {}
    const char* what() const noexcept override { return what_.c_str(); }

  private:
    std::string what_;
};

}  // namespace

std::int64_t chunk_numbers() { return chunk; }
void set_chunk_numbers(std::int64_t numbers) { chunk = numbers < 1 ? 1 : numbers; }

#if defined(__CUDACC__)

void check(cudaError_t error) {
    if (error == cudaSuccess) return;
    cudaGetLastError();  // the runtime remembers it: it is no failure of the next launch
    if (error == cudaErrorMemoryAllocation) throw std::bad_alloc();
    throw std::runtime_error(std::string("CUDA: ") + cudaGetErrorString(error));
}

int count_devices(std::string* reason) {
    int count = 0;
    const cudaError_t error = cudaGetDeviceCount(&count);
    if (error != cudaSuccess) {
        *reason = cudaGetErrorString(error);
        cudaGetLastError();
        return 0;
    }
    if (count == 0) *reason = "no CUDA device";
    return count;
}

Device use_device(const std::string& where, int threads) {
    const Device device = parse(where, threads);
    check(cudaSetDevice(device.ordinal));
    return device;
}

KeepCurrent::KeepCurrent() {
    if (cudaGetDevice(&ordinal_) == cudaSuccess) return;
    cudaGetLastError();
    ordinal_ = -1;
}
KeepCurrent::~KeepCurrent() {
    if (ordinal_ >= 0) cudaSetDevice(ordinal_);
}

int device_of(const void* memory) {
    cudaPointerAttributes found{};
    check(cudaPointerGetAttributes(&found, memory));
    const bool there = found.type == cudaMemoryTypeDevice || found.type == cudaMemoryTypeManaged;
    return there ? found.device : -1;
}

int generation(const Device& device) {
    int major = 0, minor = 0;
    check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device.ordinal));
    check(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device.ordinal));
    return 10 * major + minor;
}

std::size_t largest_shared(const Device& device) {
    int bytes = 0;
    check(cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device.ordinal));
    return static_cast<std::size_t>(bytes);
}

void* allocate(const Device& device, std::size_t bytes) {
    void* memory = nullptr;
    const cudaError_t error =
        cudaMallocAsync(&memory, bytes ? bytes : 1, static_cast<cudaStream_t>(device.stream));
    if (error == cudaErrorMemoryAllocation) {
        cudaGetLastError();
        throw OutOfMemory(device, bytes);
    }
    check(error);
    return memory;
}

void release(const Device& device, void* memory) noexcept {
    const KeepCurrent keep;
    if (cudaSetDevice(device.ordinal) != cudaSuccess ||
        cudaFreeAsync(memory, static_cast<cudaStream_t>(device.stream)) != cudaSuccess)
        cudaGetLastError();  // there is nobody to tell
}

std::size_t free_bytes(const Device&) {
    std::size_t free = 0, total = 0;
    check(cudaMemGetInfo(&free, &total));
    return free;
}

void copy_rows(const Device& device, Span to, ConstSpan from, std::size_t width,
               std::int64_t rows) {
    if (width == 0 || rows == 0) return;
    const auto stream = static_cast<cudaStream_t>(device.stream);
    const auto count = static_cast<std::size_t>(rows);
    const auto odd = [&](std::size_t pitch) {  // what a copy of rows does not take
        return pitch < width || pitch > std::size_t{1} << 30;
    };
    if (rows == 1 || (to.pitch == width && from.pitch == width))
        check(cudaMemcpyAsync(to.data, from.data, width * count, cudaMemcpyDefault, stream));
    else if (!odd(to.pitch) && !odd(from.pitch))
        check(cudaMemcpy2DAsync(to.data, to.pitch, from.data, from.pitch, width, count,
                                cudaMemcpyDefault, stream));
    else
        for (std::size_t i = 0; i < count; ++i)
            check(cudaMemcpyAsync(static_cast<char*>(to.data) + i * to.pitch,
                                  static_cast<const char*>(from.data) + i * from.pitch, width,
                                  cudaMemcpyDefault, stream));
    if (!on_device(to.data) || !on_device(from.data)) finish(device);
}

void clear(const Device& device, void* memory, std::size_t bytes) {
    check(cudaMemsetAsync(memory, 0, bytes, static_cast<cudaStream_t>(device.stream)));
}

void finish(const Device& device) {
    check(cudaStreamSynchronize(static_cast<cudaStream_t>(device.stream)));
}

struct Return::Way {
    cudaStream_t before, own = nullptr;
    cudaEvent_t ready = nullptr, done = nullptr;
    void* pinned = nullptr;

    ~Way() {  // what was queued must not outlive the memory it goes to
        if (own) cudaStreamSynchronize(own), cudaStreamDestroy(own);
        if (ready) cudaEventDestroy(ready);
        if (done) cudaEventDestroy(done);
        if (pinned) cudaFreeHost(pinned);
    }
};

Return::Return(const Device& device, std::size_t bytes) : way_(std::make_unique<Way>()) {
    way_->before = static_cast<cudaStream_t>(device.stream);
    check(cudaStreamCreateWithFlags(&way_->own, cudaStreamNonBlocking));
    check(cudaEventCreateWithFlags(&way_->ready, cudaEventDisableTiming));
    check(cudaEventCreateWithFlags(&way_->done, cudaEventDisableTiming));
    check(cudaMallocHost(&way_->pinned, bytes));
}

void Return::start(const void* from, std::size_t bytes) {
    check(cudaEventRecord(way_->ready, way_->before));
    check(cudaStreamWaitEvent(way_->own, way_->ready));
    check(cudaMemcpyAsync(way_->pinned, from, bytes, cudaMemcpyDeviceToHost, way_->own));
    check(cudaEventRecord(way_->done, way_->own));
}

const void* Return::wait() {
    check(cudaEventSynchronize(way_->done));
    return way_->pinned;
}

#else

namespace {

struct Block {  // of memory that plays memory of a device
    std::size_t size;
    int ordinal;
};
std::mutex guard;
std::map<const char*, Block> blocks;

}  // namespace

KeepCurrent::KeepCurrent() : ordinal_(-1) {}
KeepCurrent::~KeepCurrent() = default;

// Two devices: one with the tensor cores that products use, and one from before them.
int count_devices(std::string*) { return 2; }

Device use_device(const std::string& where, int threads) {
    const Device device = parse(where, threads);
    if (device.ordinal < 0 || device.ordinal >= count_devices(nullptr))
        throw std::runtime_error("CUDA: invalid device ordinal");
    return device;
}

int device_of(const void* memory) {
    const std::lock_guard lock(guard);
    auto after = blocks.upper_bound(static_cast<const char*>(memory));
    if (after == blocks.begin()) return -1;
    const auto& [start, block] = *--after;
    return static_cast<const char*>(memory) < start + block.size ? block.ordinal : -1;
}

int generation(const Device& device) { return device.ordinal == 0 ? 80 : 75; }

std::size_t largest_shared(const Device& device) { return (device.ordinal == 0 ? 100 : 64) * 1024; }

// Poisoned, so that reading what was not written shows.
void* allocate(const Device& device, std::size_t bytes) {
    const std::size_t size = bytes ? bytes : 1;
    if (size > free_bytes(device)) throw OutOfMemory(device, size);
    void* const memory = std::malloc(size);
    if (!memory) throw OutOfMemory(device, size);
    std::memset(memory, 0xff, size);
    const std::lock_guard lock(guard);
    blocks[static_cast<const char*>(memory)] = {size, device.ordinal};
    return memory;
}

void release(const Device&, void* memory) noexcept {
    {
        const std::lock_guard lock(guard);
        blocks.erase(static_cast<const char*>(memory));
    }
    std::free(memory);
}

std::size_t free_bytes(const Device&) { return std::size_t{1} << 30; }

void copy_rows(const Device&, Span to, ConstSpan from, std::size_t width, std::int64_t rows) {
    for (std::size_t i = 0; i < static_cast<std::size_t>(rows); ++i)
        std::memmove(static_cast<char*>(to.data) + i * to.pitch,
                     static_cast<const char*>(from.data) + i * from.pitch, width);
}

void clear(const Device&, void* memory, std::size_t bytes) { std::memset(memory, 0, bytes); }

void finish(const Device&) {}

// Copies no sooner than it must, so that results that are overwritten too early show.
struct Return::Way {
    std::vector<char> here;
    const void* from;
    std::size_t bytes;
};

Return::Return(const Device&, std::size_t bytes)
    : way_(new Way{std::vector<char>(bytes), nullptr, 0}) {}

void Return::start(const void* from, std::size_t bytes) { way_->from = from, way_->bytes = bytes; }

const void* Return::wait() {
    std::memcpy(way_->here.data(), way_->from, way_->bytes);
    return way_->here.data();
}

#endif

Return::~Return() = default;

}  // namespace ntkfast
