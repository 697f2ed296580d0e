// What the threads of a warp tell one another; all of them call these together.
#pragma once

#include <cstdint>

#include "cuda/device.hpp"

namespace {

constexpr int kWarp = 32;

#if defined(__CUDACC__)
template <class T>
NTK_DEVICE T sum_of_warp(T own) {
    NTK_UNROLL()
    for (int half = kWarp / 2; half > 0; half /= 2) own += __shfl_xor_sync(~0u, own, half);
    return own;
}
NTK_DEVICE std::uint32_t votes_of_warp(bool own) { return __ballot_sync(~0u, own); }
template <class T>
NTK_DEVICE T of_lane(T own, int lane) {
    return __shfl_sync(~0u, own, lane);
}
#else
template <class T>
NTK_DEVICE T sum_of_warp(T own) {
    auto all = ntkfast::emulation::Machine::here().exchange(own);
    for (std::size_t half = kWarp / 2; half > 0; half /= 2)
        for (std::size_t lane = 0; lane < half; ++lane) all[lane] += all[lane + half];
    return all[0];
}
NTK_DEVICE std::uint32_t votes_of_warp(bool own) {
    const auto all = ntkfast::emulation::Machine::here().exchange(own);
    std::uint32_t bits = 0;
    for (std::size_t lane = 0; lane < kWarp; ++lane) bits |= std::uint32_t{all[lane]} << lane;
    return bits;
}
template <class T>
NTK_DEVICE T of_lane(T own, int lane) {
    return ntkfast::emulation::Machine::here().exchange(own)[static_cast<std::size_t>(lane)];
}
#endif

}  // namespace
