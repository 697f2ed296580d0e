// The few functions of cuBLAS that are asked for, found when they are first needed.
#include "cuda/library.hpp"

#include <map>
#include <mutex>
#include <stdexcept>
#include <string>

#if defined(__CUDACC__) && __has_include(<dlfcn.h>)
#include <dlfcn.h>
#endif

namespace ntkfast {

#if defined(__CUDACC__)
namespace {

// As in cublas_api.h of CUDA 12 and 13.
constexpr int kTransposed = 1, kAsItIs = 0, kFloat = 0, kFastTf32 = 77, kAnyAlgorithm = -1;
using Handle = void*;
using Create = int (*)(Handle*);
using SetStream = int (*)(Handle, void*);
using Gemm = int (*)(Handle, int, int, int, int, int, const void*, const void*, int, int,
                     const void*, int, int, const void*, void*, int, int, int, int);

class Cublas {
  public:
    static Cublas& here() {
        static Cublas* const cublas = new Cublas;  // the driver may have gone when the process ends
        return *cublas;
    }

    bool serves(const Device& device) {
        const std::lock_guard lock(mutex_);
        return handle_of(device) != nullptr;
    }

    void multiply(const Device& device, const RowProducts& p) {
        const std::lock_guard lock(mutex_);  // a handle has one stream at a time
        const float one = 1, zero = 0;
        const auto number = [](std::int64_t n) { return static_cast<int>(n); };
        const Handle handle = handle_of(device);
        int status = handle ? set_stream_(handle, device.stream) : -1;
        if (status == 0)  // matrices there are of columns: this is out^T = y x^T
            status = gemm_(handle, kTransposed, kAsItIs, number(p.m), number(p.n), number(p.d),
                           &one, p.y, kFloat, number(p.ldy), p.x, kFloat, number(p.ldx), &zero,
                           p.out, kFloat, number(p.ldo), kFastTf32, kAnyAlgorithm);
        if (status != 0) throw std::runtime_error("cuBLAS: status " + std::to_string(status));
    }

  private:
    std::mutex mutex_;
    Create create_ = nullptr;
    SetStream set_stream_ = nullptr;
    Gemm gemm_ = nullptr;
    std::map<int, Handle> handles_;  // of each device; null where there is none

    Cublas() {
#if __has_include(<dlfcn.h>)
        const std::string name = "libcublas.so." + std::to_string(CUDART_VERSION / 1000);
        void* const library = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
        if (!library) return;
        create_ = reinterpret_cast<Create>(dlsym(library, "cublasCreate_v2"));
        set_stream_ = reinterpret_cast<SetStream>(dlsym(library, "cublasSetStream_v2"));
        gemm_ = reinterpret_cast<Gemm>(dlsym(library, "cublasGemmEx"));
#endif
    }

    Handle handle_of(const Device& device) {
        if (!create_ || !set_stream_ || !gemm_) return nullptr;
        const auto [found, is_new] = handles_.try_emplace(device.ordinal, nullptr);
        if (is_new && create_(&found->second) != 0) found->second = nullptr;
        return found->second;
    }
};

}  // namespace

bool library_multiplies(const Device& device) {
    return generation(device) >= 90 && Cublas::here().serves(device);
}
void multiply_tf32(const Device& device, const RowProducts& p) {
    Cublas::here().multiply(device, p);
}

#else  // the host plays the first device as one that has it

bool library_multiplies(const Device& device) { return device.ordinal == 0; }
void multiply_tf32(const Device&, const RowProducts& p) {
    for (std::int64_t i = 0; i < p.n; ++i)
        for (std::int64_t j = 0; j < p.m; ++j) {
            float sum = 0;
            for (std::int64_t k = p.d; k-- > 0;)  // not in the order of tiles
                sum += p.x[i * p.ldx + k] * p.y[j * p.ldy + k];
            p.out[i * p.ldo + j] = sum;
        }
}

#endif

}  // namespace ntkfast
