// Memory of a card, through the CUDA runtime or as plain memory of the emulating host.
#include "memory.hpp"

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <new>
#include <sstream>
#include <stdexcept>
#include <string>

namespace ntkfast {

namespace {
std::atomic<std::int64_t> chunk{std::int64_t{1} << 27};

Precision precision_of(const std::string& name) {
    if (name.empty() || name == "strict") return Precision::kStrict;
    if (name == "3xtf32") return Precision::kTf32x3;
    if (name == "tf32") return Precision::kTf32;
    throw std::invalid_argument("precision: unknown: " + name);
}

// What use_device is told, without asking for the card.
Device parse(const std::string& where) {
    std::istringstream text(where);
    std::string ordinal, precision;
    std::getline(text, ordinal, ':');
    std::getline(text, precision, ':');
    return {std::stoi(ordinal), nullptr, precision_of(precision)};
}
}  // namespace

std::int64_t chunk_numbers() { return chunk; }
void set_chunk_numbers(std::int64_t numbers) { chunk = numbers < 1 ? 1 : numbers; }

#if defined(__CUDACC__)

void check(cudaError_t error) {
    if (error == cudaErrorMemoryAllocation) {
        cudaGetLastError();
        throw std::bad_alloc();
    }
    if (error != cudaSuccess)
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

Device use_device(const std::string& where) {
    const Device device = parse(where);
    check(cudaSetDevice(device.ordinal));
    return device;
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

void* allocate(const Device&, std::size_t bytes) {
    void* memory = nullptr;
    check(cudaMalloc(&memory, bytes ? bytes : 1));
    return memory;
}

void release(void* memory) noexcept { cudaFree(memory); }

// One row goes as a plain copy: copies of rows take no more than 2 GiB from one row to the next.
void upload(const Device& device, void* to, const void* from, std::size_t bytes) {
    check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice,
                          static_cast<cudaStream_t>(device.stream)));
}

void download(const Device& device, void* to, const void* from, std::size_t bytes) {
    check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost,
                          static_cast<cudaStream_t>(device.stream)));
    finish(device);
}

void upload_rows(const Device& device, void* to, const void* from, std::size_t pitch,
                 std::size_t width, std::int64_t rows) {
    if (width == 0 || rows == 0) return;
    if (rows == 1 || pitch == width)
        return upload(device, to, from, width * static_cast<std::size_t>(rows));
    check(cudaMemcpy2DAsync(to, width, from, pitch, width, static_cast<std::size_t>(rows),
                            cudaMemcpyHostToDevice, static_cast<cudaStream_t>(device.stream)));
}

void download_rows(const Device& device, void* to, std::size_t pitch, const void* from,
                   std::size_t width, std::int64_t rows) {
    if (width == 0 || rows == 0) return;
    if (rows == 1 || pitch == width)
        return download(device, to, from, width * static_cast<std::size_t>(rows));
    check(cudaMemcpy2DAsync(to, pitch, from, width, width, static_cast<std::size_t>(rows),
                            cudaMemcpyDeviceToHost, static_cast<cudaStream_t>(device.stream)));
    finish(device);
}

void clear(const Device& device, void* memory, std::size_t bytes) {
    check(cudaMemsetAsync(memory, 0, bytes, static_cast<cudaStream_t>(device.stream)));
}

void finish(const Device& device) {
    check(cudaStreamSynchronize(static_cast<cudaStream_t>(device.stream)));
}

#else

// Two cards: one with the tensor cores that products use, and one from before them.
int count_devices(std::string*) { return 2; }

Device use_device(const std::string& where) {
    const Device device = parse(where);
    if (device.ordinal < 0 || device.ordinal >= count_devices(nullptr))
        throw std::runtime_error("CUDA: invalid device ordinal");
    return device;
}

int generation(const Device& device) { return device.ordinal == 0 ? 80 : 75; }

std::size_t largest_shared(const Device& device) { return (device.ordinal == 0 ? 100 : 64) * 1024; }

// Poisoned, so that reading what was not written shows.
void* allocate(const Device&, std::size_t bytes) {
    void* const memory = std::malloc(bytes ? bytes : 1);
    if (!memory) throw std::bad_alloc();
    std::memset(memory, 0xff, bytes);
    return memory;
}

void release(void* memory) noexcept { std::free(memory); }

void upload(const Device&, void* to, const void* from, std::size_t bytes) {
    std::memcpy(to, from, bytes);
}

void download(const Device&, void* to, const void* from, std::size_t bytes) {
    std::memcpy(to, from, bytes);
}

void upload_rows(const Device&, void* to, const void* from, std::size_t pitch, std::size_t width,
                 std::int64_t rows) {
    for (std::size_t i = 0; i < static_cast<std::size_t>(rows); ++i)
        std::memcpy(static_cast<char*>(to) + i * width, static_cast<const char*>(from) + i * pitch,
                    width);
}

void download_rows(const Device&, void* to, std::size_t pitch, const void* from, std::size_t width,
                   std::int64_t rows) {
    for (std::size_t i = 0; i < static_cast<std::size_t>(rows); ++i)
        std::memcpy(static_cast<char*>(to) + i * pitch, static_cast<const char*>(from) + i * width,
                    width);
}

void clear(const Device&, void* memory, std::size_t bytes) { std::memset(memory, 0, bytes); }

void finish(const Device&) {}

#endif

}  // namespace ntkfast
