// The hot loops of one instruction set, as the table of functions that its object hands out.
#pragma once

#include "formulas/problems.hpp"

namespace ntkfast {

// One instruction set's code.
template <class T>
struct Tiles {
    // sums[n] of the squares of x[n][d], whose rows are ldx apart
    void (*square_sums)(const T* x, std::int64_t ldx, std::int64_t n, std::int64_t d, double* sums);
    std::int64_t (*tasks)(const Problem<T>&);
    std::int64_t (*scratch)(const Problem<T>&);  // elements of T needed by one thread
    void (*run)(const Problem<T>&, std::int64_t task, T* scratch, std::int64_t* packed);
    std::int64_t (*gradient_scratch)(const Gradient<T>&);
    void (*gradient)(const Gradient<T>&, std::int64_t task, T* scratch);
    void (*hadamard)(const Hadamard<T>&, std::int64_t begin, std::int64_t end);  // of the rows
    // scratch: as many elements as both sizes together
    void (*sketch)(const Sketch<T>&, std::int64_t begin, std::int64_t end, T* scratch);
    // scratch: `size` elements
    void (*structured)(const Structured<T>&, std::int64_t begin, std::int64_t end, T* scratch);
    std::int64_t image_rows;                          // images of x per task, at most
    std::int64_t (*image_columns)(const Images<T>&);  // images of y per task
    std::int64_t (*image_scratch)(const Images<T>&);
    void (*image)(const Images<T>&, std::int64_t task, T* scratch, std::int64_t* packed);
    std::int64_t (*sequence_scratch)(const Sequences<T>&);
    void (*sequences)(const Sequences<T>&, std::int64_t task, T* scratch, std::int64_t* packed);
};

struct InstructionSet {
    Tiles<float> f32;
    Tiles<double> f64;
};

}  // namespace ntkfast
