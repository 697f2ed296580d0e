// What the parts of the Python module share: argument checks, and calls without the GIL.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <stdexcept>
#include <string>

#if defined(NTKFAST_CUDA)
#include "cuda/run.hpp"
#else
#include "cpu/run.hpp"
#endif

namespace ntkfast {

namespace py = pybind11;
using std::int64_t;

void bind_gram(py::module_& m);
void bind_transform(py::module_& m);
void bind_image(py::module_& m);
void bind_sequences(py::module_& m);

[[noreturn]] inline void reject(const std::string& what) { throw std::invalid_argument(what); }

// Unit stride along rows; any stride between them.
template <class T>
int64_t row_stride(const py::array_t<T>& a, const char* name) {
    if (a.ndim() != 2) reject(std::string(name) + ": expected two dimensions");
    const auto item = static_cast<py::ssize_t>(sizeof(T));
    if ((a.shape(1) > 1 && a.strides(1) != item) || a.strides(0) % item != 0)
        reject(std::string(name) + ": expected rows with unit stride");
    return a.strides(0) / item;
}

inline void expect(bool condition, const char* what) {
    if (!condition) reject(what);
}

// One row of the numbers of layers: activation, save, add, 3 parameters, w, e, x, y, series, terms.
inline Layer make_layer(const double* r) {
    const Layer layer{static_cast<Activation>(static_cast<int>(r[0])),
                      static_cast<std::int32_t>(r[1]),
                      static_cast<std::int32_t>(r[2]),
                      {r[3], r[4], r[5]},
                      r[6],
                      r[7],
                      r[8],
                      r[9],
                      static_cast<int64_t>(r[10]),
                      static_cast<int64_t>(r[11])};
    expect(r[0] >= 0 && layer.activation <= Activation::kSeries, "numbers: unknown activation");
    expect(layer.save < kSlots && layer.add < kSlots, "numbers: too many slots");
    expect(layer.w > 0, "numbers: expected w > 0");
    expect(layer.series >= 0 && layer.terms >= 0, "numbers: negative series");
    return layer;
}

// Looks for Ctrl-C.
inline void poll_signals() {
    const py::gil_scoped_acquire acquired;
    if (PyErr_CheckSignals()) throw py::error_already_set();
}

#if defined(NTKFAST_CUDA)
template <class Problem>
void run(const Problem& problem, const Device& device, int, const Poll& poll) {
    run_on_device(problem, device, poll);
}

// Calls work(device, poll) without the GIL; `where` is told to use_device.
template <class Work>
void call(const std::string& where, int threads, Work work) {
    const py::gil_scoped_release released;
    const KeepCurrent keep;
    work(use_device(where, threads), Poll(poll_signals));
}
#else
// Calls work(set, poll) without the GIL; `where` names the instruction set.
template <class Work>
void call(const std::string& where, int threads, Work work) {
    expect(threads >= 1, "threads: expected at least 1");
    const InstructionSet& set = *choose(where).tiles();
    const py::gil_scoped_release released;
    work(set, [] { poll_signals(); });  // a type of its own, which no module exports
}
#endif

}  // namespace ntkfast
