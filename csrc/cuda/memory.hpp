// Memory of a device and its errors: what the host does besides starting kernels.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#if defined(__CUDACC__)
#include <cuda_runtime.h>
#endif

namespace ntkfast {

// Of inner products in float32; those in float64 are strict.
enum class Precision {
    kStrict,  // every product and sum is rounded to float32
    kTf32x3,  // on tensor cores, in three products of TF32: nearly as accurate
    kTf32,    // on tensor cores, of factors rounded to 11 bits
};

struct Device {
    int ordinal;
    void* stream;  // work on it is done in order
    int threads;   // of the host, which write results that come back
    Precision precision;
};

// The number of devices; `reason` says why there is none.
int count_devices(std::string* reason);

// Makes a device the one of this thread: "ORDINAL:PRECISION:STREAM", the precision as in
// engines/cuda.py, the stream as a number; both may be left out. `threads` is what it says in Device.
//
// Throws std::runtime_error if there is none of that number.
Device use_device(const std::string& where, int threads);

// What calls have asked of devices so far: tests read it.
struct Counts {
    std::atomic<std::int64_t> allocations, uploads, waits, ways_back, bytes_back;
};
Counts& counts();

// The number of the device that memory belongs to, or -1 for memory of the host.
int device_of(const void* memory);
inline bool on_device(const void* memory) { return device_of(memory) >= 0; }

// Makes the context that was this thread's before that again, or none: other libraries count on it.
class KeepCurrent {
  public:
    KeepCurrent();
    ~KeepCurrent();
    KeepCurrent(const KeepCurrent&) = delete;
    KeepCurrent& operator=(const KeepCurrent&) = delete;

  private:
    void* context_ = nullptr;
};

// The generation of a device, as 80 for sm_80.
int generation(const Device& device);

// Bytes of shared memory that a block may ask for.
std::size_t largest_shared(const Device& device);

// How many numbers a call keeps on the device beside its input; work comes in pieces of that size.
std::int64_t chunk_numbers();
void set_chunk_numbers(std::int64_t numbers);

// Memory of a device from a pool of our own: once released, free for what comes later on that stream.
//
// Throws std::bad_alloc, which says what was asked for and what is free.
void* allocate(const Device& device, std::size_t bytes);
void release(const Device& device, void* memory) noexcept;
std::size_t free_bytes(const Device& device);

struct Span {  // rows of memory of the host or of a device, `pitch` bytes apart
    void* data;
    std::size_t pitch;
};
struct ConstSpan {
    const void* data;
    std::size_t pitch;
    ConstSpan(const void* d, std::size_t p) : data(d), pitch(p) {}
    ConstSpan(const Span& span) : data(span.data), pitch(span.pitch) {}
};

// Copies rows of `width` bytes, from and to memory of any kind. Memory of the host has been read or
// written when it returns.
void copy_rows(const Device& device, Span to, ConstSpan from, std::size_t width, std::int64_t rows);
inline void copy_bytes(const Device& device, void* to, const void* from, std::size_t bytes) {
    copy_rows(device, {to, bytes}, {from, bytes}, bytes, 1);
}
void clear(const Device& device, void* memory, std::size_t bytes);

// A way back to the host, into memory of its own, beside what the device goes on with. What it takes
// is kept for the next one.
class Return {
  public:
    Return(const Device& device, std::size_t bytes);
    ~Return();
    Return(const Return&) = delete;
    Return& operator=(const Return&) = delete;
    // Copies what all work that is queued now leaves at `from`.
    void start(const void* from, std::size_t bytes);
    const void* wait();  // until it is here

    struct Way;

  private:
    Device device_;
    std::unique_ptr<Way> way_;
};
void finish(const Device& device);  // waits for all work

#if defined(__CUDACC__)
void check(cudaError_t error);  // throws std::runtime_error
#endif

// Numbers on a device.
template <class T>
class Numbers {
  public:
    Numbers() = default;
    Numbers(const Device& device, std::int64_t size)
        : device_(device),
          data_(static_cast<T*>(allocate(device, sizeof(T) * static_cast<std::size_t>(size)))) {}
    Numbers(const Device& device, const T* from, std::int64_t size) : Numbers(device, size) {
        copy_bytes(device, data_, from, sizeof(T) * static_cast<std::size_t>(size));
    }
    Numbers(Numbers&& other) noexcept
        : device_(other.device_), data_(std::exchange(other.data_, nullptr)) {}
    Numbers& operator=(Numbers&& other) noexcept {
        std::swap(device_, other.device_);
        std::swap(data_, other.data_);
        return *this;
    }
    ~Numbers() {
        if (data_) release(device_, data_);
    }
    T* get() const { return data_; }

  private:
    Device device_{};
    T* data_ = nullptr;
};

// Small arrays of the host that go to a device in one copy.
class Upload {
  public:
    // Room on the host for what `to` points at on the device once all is sent; fill it at once.
    template <class T>
    T* add(const T*& to, std::int64_t count) {
        const std::size_t at = (bytes_.size() + 15) / 16 * 16;  // as wide as loads are
        bytes_.resize(at + sizeof(T) * static_cast<std::size_t>(count));
        targets_.push_back({const_cast<void*>(static_cast<const void*>(&to)), at});
        return reinterpret_cast<T*>(bytes_.data() + at);
    }
    // The same of a copy, unless it is null or on the device already.
    template <class T>
    void keep(const T*& to, std::int64_t count) {
        if (!to || on_device(to)) return;
        const T* const from = to;
        std::memcpy(add(to, count), from, sizeof(T) * static_cast<std::size_t>(count));
    }
    void send(const Device& device);

  private:
    struct Target {
        void* pointer;
        std::size_t at;
    };
    std::vector<char> bytes_;
    std::vector<Target> targets_;
    Numbers<char> there_;
};

template <class T>
void copy_matrix(const Device& device, T* to, std::int64_t ld_to, const T* from,
                 std::int64_t ld_from, std::int64_t rows, std::int64_t columns) {
    const auto bytes = [](std::int64_t n) { return sizeof(T) * static_cast<std::size_t>(n); };
    copy_rows(device, {to, bytes(ld_to)}, {from, bytes(ld_from)}, bytes(columns), rows);
}

template <class T>
Numbers<T> dense_copy(const Device& device, const T* from, std::int64_t ld, std::int64_t rows,
                      std::int64_t columns) {
    Numbers<T> to(device, rows * columns);
    copy_matrix(device, to.get(), columns, from, ld, rows, columns);
    return to;
}

// A matrix on a device: copied there with dense rows, unless it is there already.
template <class T>
struct Matrix {
    Numbers<T> copy;
    const T* data;
    std::int64_t ld;

    Matrix(const Device& device, const T* from, std::int64_t ld_from, std::int64_t rows,
           std::int64_t columns)
        : data(from), ld(ld_from) {
        if (rows == 0 || columns == 0 || on_device(from)) return;
        copy = dense_copy(device, from, ld_from, rows, columns);
        data = copy.get(), ld = columns;
    }
};

}  // namespace ntkfast
