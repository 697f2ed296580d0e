// What a card is asked to do: the problems of maps.hpp, with their arrays in memory of the host.
//
// `poll` is called between pieces of the work and may throw, as Ctrl-C does.
#pragma once

#include <functional>

#include "../maps.hpp"
#include "memory.hpp"

namespace ntkfast {

using Poll = std::function<void()>;

#define NTK_ON_DEVICE(Kind)                                                          \
    void run_on_device(const Kind<float>& problem, const Device&, const Poll& poll); \
    void run_on_device(const Kind<double>& problem, const Device&, const Poll& poll);

NTK_ON_DEVICE(Hadamard)
NTK_ON_DEVICE(Sketch)
NTK_ON_DEVICE(Structured)
NTK_ON_DEVICE(Sequences)
NTK_ON_DEVICE(Images)
NTK_ON_DEVICE(Problem)
#undef NTK_ON_DEVICE

}  // namespace ntkfast
