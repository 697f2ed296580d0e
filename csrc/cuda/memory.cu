// Memory of a device, through the CUDA runtime or as plain memory of the emulating host.
#include "cuda/memory.hpp"

#if defined(__CUDACC__)
#include <cuda.h>
#endif

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

#if !defined(__CUDACC__)
#include "cuda/emulate.hpp"
#endif

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

Counts& counts() {
    static Counts all;
    return all;
}
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

namespace {

// Work in a capture does not run, and there is no waiting for it.
void refuse_capture(const Device& device) {
    cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
    const cudaError_t error =
        cudaStreamIsCapturing(static_cast<cudaStream_t>(device.stream), &status);
    if (error != cudaErrorStreamCaptureImplicit) check(error);
    cudaGetLastError();
    if (error != cudaSuccess || status != cudaStreamCaptureStatusNone)
        throw std::runtime_error(
            "CUDA: the stream is being captured into a graph, of which no call of ntkfast can be a "
            "part: the host waits for norms of rows; capture what stands between the calls");
}

// Functions of the driver: setting device 0 again by the runtime would make a context there for those
// who had none.
struct Contexts {
    decltype(&cuCtxGetCurrent) get = nullptr;
    decltype(&cuCtxSetCurrent) set = nullptr;

    Contexts() { find("cuCtxGetCurrent", get), find("cuCtxSetCurrent", set); }

    template <class F>
    static void find(const char* name, F& to) {
        void* found = nullptr;
#if CUDART_VERSION >= 12050
        const auto error = cudaGetDriverEntryPointByVersion(name, &found, 12000, cudaEnableDefault);
#else
        const auto error = cudaGetDriverEntryPoint(name, &found, cudaEnableDefault);
#endif
        if (error == cudaSuccess)
            to = reinterpret_cast<F>(found);
        else
            cudaGetLastError();  // no driver: nothing else will run either
    }

    static const Contexts& here() {
        static const Contexts found;
        return found;
    }
};

cudaMemoryType kind_of(const void* memory, int* device = nullptr) {
    cudaPointerAttributes found{};
    check(cudaPointerGetAttributes(&found, memory));
    if (device) *device = found.device;
    return found.type;
}

bool is_there(cudaMemoryType kind) {
    return kind == cudaMemoryTypeDevice || kind == cudaMemoryTypeManaged;
}

// The pool of a device, made at its first use; null where the driver has none. It keeps what calls
// take again and again, and leaves the rest to other libraries.
cudaMemPool_t pool_of(const Device& device) {
    constexpr std::uint64_t kKept = std::uint64_t{1} << 28;  // bytes
    static std::mutex guard;
    static std::map<int, cudaMemPool_t> pools;
    const std::lock_guard lock(guard);
    const auto [found, is_new] = pools.try_emplace(device.ordinal, nullptr);
    if (!is_new) return found->second;
    int has = 0;
    check(cudaDeviceGetAttribute(&has, cudaDevAttrMemoryPoolsSupported, device.ordinal));
    if (!has) return nullptr;
    cudaMemPoolProps wanted{};
    wanted.allocType = cudaMemAllocationTypePinned;
    wanted.location.type = cudaMemLocationTypeDevice;
    wanted.location.id = device.ordinal;
    cudaMemPool_t pool = nullptr;
    check(cudaMemPoolCreate(&pool, &wanted));
    std::uint64_t kept = kKept;
    check(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &kept));
    return found->second = pool;
}

}  // namespace

Device use_device(const std::string& where, int threads) {
    const Device device = parse(where, threads);
    check(cudaSetDevice(device.ordinal));
    refuse_capture(device);
    return device;
}

KeepCurrent::KeepCurrent() {
    CUcontext current = nullptr;
    if (Contexts::here().get) Contexts::here().get(&current);
    context_ = current;
}
KeepCurrent::~KeepCurrent() {
    if (Contexts::here().set) Contexts::here().set(static_cast<CUcontext>(context_));
}

int device_of(const void* memory) {
    int device = -1;
    return is_there(kind_of(memory, &device)) ? device : -1;
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
    ++counts().allocations;
    void* memory = nullptr;
    const cudaMemPool_t pool = pool_of(device);
    const auto stream = static_cast<cudaStream_t>(device.stream);
    const cudaError_t error =
        pool ? cudaMallocFromPoolAsync(&memory, bytes ? bytes : 1, pool, stream)
             : cudaMalloc(&memory, bytes ? bytes : 1);
    if (error == cudaErrorMemoryAllocation) {
        cudaGetLastError();
        throw OutOfMemory(device, bytes);
    }
    check(error);
    return memory;
}

void release(const Device& device, void* memory) noexcept {
    const KeepCurrent keep;
    try {  // cudaFree waits for the device
        check(cudaSetDevice(device.ordinal));
        check(pool_of(device) ? cudaFreeAsync(memory, static_cast<cudaStream_t>(device.stream))
                              : cudaFree(memory));
    } catch (const std::exception&) {  // there is nobody to tell
    }
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
    // What is not pinned has been staged when a copy returns, if the device cannot read it.
    const cudaMemoryType kind = kind_of(from.data);
    if (!is_there(kind)) ++counts().uploads;
    int reads_host = 0;
    if (kind == cudaMemoryTypeUnregistered)
        check(cudaDeviceGetAttribute(&reads_host, cudaDevAttrPageableMemoryAccessUsesHostPageTables,
                                     device.ordinal));
    if (kind == cudaMemoryTypeHost || reads_host || !on_device(to.data)) finish(device);
}

void clear(const Device& device, void* memory, std::size_t bytes) {
    check(cudaMemsetAsync(memory, 0, bytes, static_cast<cudaStream_t>(device.stream)));
}

void finish(const Device& device) {
    ++counts().waits;
    check(cudaStreamSynchronize(static_cast<cudaStream_t>(device.stream)));
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

KeepCurrent::KeepCurrent() = default;
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
    ++counts().allocations;
    const std::size_t size = bytes ? bytes : 1;
    if (size > free_bytes(device)) throw OutOfMemory(device, size);
    void* const memory = emulation::is_idle() ? std::calloc(size, 1) : std::malloc(size);
    if (!memory) throw OutOfMemory(device, size);
    if (!emulation::is_idle()) std::memset(memory, 0xff, size);
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
    if (width == 0 || rows == 0) return;
    if (!on_device(from.data)) ++counts().uploads;
    if (!on_device(to.data)) ++counts().waits;
}

void clear(const Device&, void* memory, std::size_t bytes) {
    if (!emulation::is_idle()) std::memset(memory, 0, bytes);
}

void finish(const Device&) { ++counts().waits; }

#endif

void Upload::send(const Device& device) {
    if (targets_.empty()) return;
    there_ = Numbers<char>(device, bytes_.data(), static_cast<std::int64_t>(bytes_.size()));
    for (const Target& target : targets_) {
        const void* const place = there_.get() + target.at;
        std::memcpy(target.pointer, &place, sizeof place);
    }
}

}  // namespace ntkfast
