// What the parts of the Python module share: argument checks, and calls without the GIL.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <stdexcept>
#include <string>
#if defined(__GLIBCXX__)
#include <cxxabi.h>
#endif

#if defined(NTKFAST_CUDA)
#include "cuda/run.hpp"
#else
#include "cpu/run.hpp"
#endif

namespace ntkfast {

namespace py = pybind11;
using std::int64_t;

void bind_codes(py::module_& m);
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

// An array that a function is given, and takes as it is: to load a py::array_t makes two others and asks
// NumPy for a conversion, which is not wanted.
template <class T, int Flags = py::array::forcecast>
class Given : public py::array_t<T, Flags> {
  public:
    Given(py::handle h, py::object::borrowed_t t) : py::array_t<T, Flags>(h, t) {}
    Given(py::handle h, py::object::stolen_t t) : py::array_t<T, Flags>(h, t) {}
};

// Rows of layers as Python gives them.
using LayerRows = py::array_t<LayerRow, py::array::c_style>;

inline void check_layers(const LayerRows& rows) {
    expect(rows.ndim() == 1, "numbers: expected one row per layer");
    for (py::ssize_t l = 0; l < rows.shape(0); ++l) {
        const LayerRow& layer = rows.data()[l];
        expect(layer.kind >= ActivationKind::kIdentity && layer.kind <= ActivationKind::kDropout,
               "numbers: unknown activation");
        expect(layer.save < kSlots && layer.add < kSlots && layer.times < kSlots,
               "numbers: too many slots");
        expect(layer.w >= 0, "numbers: expected w >= 0");
        expect(layer.offset >= 0 && layer.count >= 0, "numbers: negative series");
    }
}

// Calls work() without the interpreter lock. A thread that asks for the lock again while the process ends
// is ended there by an exception of the C library, which destructors like that of
// py::gil_scoped_release do not let pass.
template <class Work>
void without_lock(Work work) {
    PyThreadState* const state = PyEval_SaveThread();
    try {
        work();
    }
#if defined(__GLIBCXX__)
    catch (abi::__forced_unwind&) {
        throw;
    }
#endif
    catch (...) {
        PyEval_RestoreThread(state);
        throw;
    }
    PyEval_RestoreThread(state);
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

// Calls work(device, poll) without the lock; `where` is told to use_device.
template <class Work>
void call(const std::string& where, int threads, Work work) {
    without_lock([&] {
        const KeepCurrent keep;
        work(use_device(where, threads), Poll(poll_signals));
    });
}
#else
// Calls work(set, poll) without the lock; `where` names the instruction set.
template <class Work>
void call(const std::string& where, int threads, Work work) {
    expect(threads >= 1, "threads: expected at least 1");
    const InstructionSet& set = *choose(where).tiles();
    without_lock([&] {
        work(set, [] { poll_signals(); });  // a type of its own, which no module exports
    });
}
#endif

}  // namespace ntkfast

template <class T, int Flags>
struct pybind11::detail::handle_type_name<ntkfast::Given<T, Flags>>
    : pybind11::detail::handle_type_name<pybind11::array_t<T, Flags>> {};
