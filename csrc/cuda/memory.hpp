// Memory of a card and its errors: what the host does besides starting kernels.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

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
    Precision precision;
};

// The number of cards; `reason` says why there is none.
int count_devices(std::string* reason);

// Makes a card the one of this thread: "ORDINAL" or "ORDINAL:PRECISION", the precision as in
// engines/cuda.py. Throws std::runtime_error if there is none of that number.
Device use_device(const std::string& where);

// The generation of a card, as 80 for sm_80.
int generation(const Device& device);

// Bytes of shared memory that a block may ask for.
std::size_t largest_shared(const Device& device);

// How many numbers a call keeps on the card beside its input; work comes in pieces of that size.
std::int64_t chunk_numbers();
void set_chunk_numbers(std::int64_t numbers);

void* allocate(const Device& device, std::size_t bytes);  // throws std::bad_alloc
void release(void* memory) noexcept;
void upload(const Device& device, void* to, const void* from, std::size_t bytes);
void download(const Device& device, void* to, const void* from, std::size_t bytes);
// Rows of `width` bytes, `pitch` bytes apart on the host and dense on the card.
void upload_rows(const Device& device, void* to, const void* from, std::size_t pitch,
                 std::size_t width, std::int64_t rows);
void download_rows(const Device& device, void* to, std::size_t pitch, const void* from,
                   std::size_t width, std::int64_t rows);
void clear(const Device& device, void* memory, std::size_t bytes);
void finish(const Device& device);  // waits for all work

#if defined(__CUDACC__)
void check(cudaError_t error);  // throws std::runtime_error
#endif

// Numbers on a card.
template <class T>
class Numbers {
  public:
    Numbers() = default;
    Numbers(const Device& device, std::int64_t size)
        : data_(static_cast<T*>(allocate(device, sizeof(T) * static_cast<std::size_t>(size)))) {}
    Numbers(const Device& device, const T* from, std::int64_t size) : Numbers(device, size) {
        upload(device, data_, from, sizeof(T) * static_cast<std::size_t>(size));
    }
    Numbers(Numbers&& other) noexcept : data_(std::exchange(other.data_, nullptr)) {}
    Numbers& operator=(Numbers&& other) noexcept {
        std::swap(data_, other.data_);
        return *this;
    }
    ~Numbers() { release(data_); }
    T* get() const { return data_; }

  private:
    T* data_ = nullptr;
};

template <class T>
Numbers<T> upload_matrix(const Device& device, const T* from, std::int64_t ld, std::int64_t rows,
                         std::int64_t columns) {
    Numbers<T> to(device, rows * columns);
    upload_rows(device, to.get(), from, sizeof(T) * static_cast<std::size_t>(ld),
                sizeof(T) * static_cast<std::size_t>(columns), rows);
    return to;
}

template <class T>
void download_matrix(const Device& device, T* to, std::int64_t ld, const T* from, std::int64_t rows,
                     std::int64_t columns) {
    download_rows(device, to, sizeof(T) * static_cast<std::size_t>(ld), from,
                  sizeof(T) * static_cast<std::size_t>(columns), rows);
}

}  // namespace ntkfast
