// Memory that begins where a line of the cache does.
#pragma once

#include <cstddef>
#include <memory>
#include <new>

namespace ntkfast {

struct AlignedDelete {
    void operator()(void* p) const { ::operator delete[](p, std::align_val_t{64}); }
};
template <class T>
using Aligned = std::unique_ptr<T[], AlignedDelete>;

template <class T>
Aligned<T> aligned(std::size_t size) {
    return Aligned<T>(new (std::align_val_t{64}) T[size]);
}

}  // namespace ntkfast
