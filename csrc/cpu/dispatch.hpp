// Chooses among the instruction sets compiled in.
#pragma once

#include <string>
#include <vector>

#include "cpu/instruction_set.hpp"

namespace ntkfast {

struct Implementation {
    const char* name;
    bool usable;  // by this processor and operating system
    const InstructionSet* (*tiles)();
};

// Best first; the baseline is last and always usable.
const std::vector<Implementation>& implementations();

// The best usable one, or the one named; throws std::invalid_argument if it cannot run here.
const Implementation& choose(const std::string& name);

}  // namespace ntkfast
