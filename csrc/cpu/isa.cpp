// The hot loops for one instruction set: compiled once per set with -DNTK_ISA=<name>.
//
// Everything but the one function below has internal linkage, so no code of a wide instruction set
// can be linked into the baseline.
#include "cpu/gradient.hpp"
#include "cpu/image.hpp"
#include "cpu/instruction_set.hpp"
#include "cpu/norms.hpp"
#include "cpu/sequence.hpp"
#include "cpu/sketch.hpp"
#include "cpu/tile.hpp"

#define NTK_JOIN(a, b) a##b
#define NTK_NAME(isa) NTK_JOIN(ntk_tiles_, isa)

extern "C" const ntkfast::InstructionSet* NTK_NAME(NTK_ISA)() {
    static constexpr ntkfast::InstructionSet tiles = {
        {square_sums<float>, count_tasks<float>, scratch_size<float>, run_task<float>,
         gradient_scratch<float>, gradient_task<float>, hadamard_rows<float>, sketch_rows<float>,
         structured_rows<float>, kLanes<float>, image_columns<float>, image_scratch<float>,
         image_task<float>, sequence_scratch<float>, sequence_task<float>},
        {square_sums<double>, count_tasks<double>, scratch_size<double>, run_task<double>,
         gradient_scratch<double>, gradient_task<double>, hadamard_rows<double>,
         sketch_rows<double>, structured_rows<double>, kLanes<double>, image_columns<double>,
         image_scratch<double>, image_task<double>, sequence_scratch<double>,
         sequence_task<double>},
    };
    return &tiles;
}
