// Which instruction sets this processor and operating system can run, in psABI level names.
#include "cpu/dispatch.hpp"

#include <initializer_list>
#include <stdexcept>

// The build defines NTK_HAVE_<ISA> for each instruction set it compiled.
#if defined(NTK_HAVE_X86_64_V3) || defined(NTK_HAVE_X86_64_V4)
#define NTK_ASKS_PROCESSOR
#if defined(_MSC_VER)
#include <immintrin.h>
#include <intrin.h>
#else
#include <cpuid.h>
#endif
#endif

extern "C" {
const ntkfast::InstructionSet* ntk_tiles_baseline();
#if defined(NTK_HAVE_X86_64_V3)
const ntkfast::InstructionSet* ntk_tiles_x86_64_v3();
#endif
#if defined(NTK_HAVE_X86_64_V4)
const ntkfast::InstructionSet* ntk_tiles_x86_64_v4();
#endif
}

namespace ntkfast {
namespace {

#if defined(NTK_ASKS_PROCESSOR)
struct Registers {
    unsigned a = 0, b = 0, c = 0, d = 0;
};

Registers cpuid(unsigned leaf) {
    Registers r;
#if defined(_MSC_VER)
    int out[4];
    __cpuidex(out, static_cast<int>(leaf), 0);
    r = {static_cast<unsigned>(out[0]), static_cast<unsigned>(out[1]),
         static_cast<unsigned>(out[2]), static_cast<unsigned>(out[3])};
#else
    __get_cpuid_count(leaf, 0, &r.a, &r.b, &r.c, &r.d);
#endif
    return r;
}

// Register files the operating system saves: bit 1 SSE, 2 AVX, 5-7 AVX-512.
unsigned long long saved_registers() {
#if defined(_MSC_VER)
    return _xgetbv(0);
#else
    unsigned low, high;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (static_cast<unsigned long long>(high) << 32) | low;
#endif
}

bool all(unsigned value, std::initializer_list<int> bits) {
    for (const int bit : bits)
        if (!(value >> bit & 1)) return false;
    return true;
}

// FMA, MOVBE, OSXSAVE, AVX, F16C; BMI1, AVX2, BMI2; LZCNT: what x86-64-v3 adds.
bool has_v3() {
    const Registers one = cpuid(1), seven = cpuid(7), extended = cpuid(0x80000001);
    return all(one.c, {12, 22, 27, 28, 29}) && all(seven.b, {3, 5, 8}) && all(extended.c, {5}) &&
           (saved_registers() & 0x6) == 0x6;
}

#if defined(NTK_HAVE_X86_64_V4)
// AVX-512 F, DQ, CD, BW, VL.
bool has_v4() {
    return has_v3() && all(cpuid(7).b, {16, 17, 28, 30, 31}) && (saved_registers() & 0xE6) == 0xE6;
}
#endif
#endif

}  // namespace

const std::vector<Implementation>& implementations() {
    static const std::vector<Implementation> list = {
#if defined(NTK_HAVE_X86_64_V4)
        {"x86_64_v4", has_v4(), ntk_tiles_x86_64_v4},
#endif
#if defined(NTK_HAVE_X86_64_V3)
        {"x86_64_v3", has_v3(), ntk_tiles_x86_64_v3},
#endif
        {"baseline", true, ntk_tiles_baseline},
    };
    return list;
}

const Implementation& choose(const std::string& name) {
    std::string known;
    for (const auto& one : implementations()) {
        if (name.empty() ? one.usable : name == one.name) {
            if (one.usable) return one;
            throw std::invalid_argument("isa: this machine cannot run '" + name + "'");
        }
        known += std::string(known.empty() ? "" : ", ") + one.name;
    }
    throw std::invalid_argument("isa: expected one of " + known + "; got '" + name + "'");
}

}  // namespace ntkfast
