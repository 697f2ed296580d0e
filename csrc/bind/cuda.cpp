// The Python module ntkfast._cuda: the functions of ntkfast._core, computed on a device.
//
// The argument that names an instruction set there is told to use_device here.
#include <pybind11/stl.h>

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "bind/bind.hpp"

using namespace ntkfast;

namespace {

// Memory of a device that belongs to Python.
struct Memory {
    Numbers<char> bytes;
    std::uintptr_t pointer() const { return reinterpret_cast<std::uintptr_t>(bytes.get()); }
};

// Arrays of one size without gaps, each in memory of the host or of a device.
void copy(py::array to, const py::array& from, const std::string& where) {
    expect(to.nbytes() == from.nbytes(), "from: expected as many bytes");
    expect((to.flags() & py::array::c_style) && (from.flags() & py::array::c_style),
           "to, from: expected arrays without gaps");
    void* const target = to.mutable_data();
    const void* const source = from.data();
    const auto bytes = static_cast<std::size_t>(from.nbytes());
    call(where, 1,
         [&](const Device& device, const Poll&) { copy_bytes(device, target, source, bytes); });
}

// The norms of the rows of some matrices on a device, times a number, one after the other, which stay
// there, and of each matrix what they lie between: the host waits for that alone, once.
template <class T>
std::pair<Memory, std::vector<std::array<double, 4>>> measure(
    const std::vector<py::array_t<T>>& matrices, double scale, const std::string& where) {
    std::vector<RowNorms<T>> tasks;
    int64_t rows = 0;
    for (const py::array_t<T>& x : matrices) {
        tasks.push_back(
            {x.data(), row_stride(x, "matrices"), x.shape(0), x.shape(1), scale, nullptr, nullptr});
        rows += x.shape(0);
    }
    std::vector<NormRange> found(tasks.size());
    Memory norms;
    call(where, 1, [&](const Device& device, const Poll& poll) {
        norms.bytes = Numbers<char>(device, rows * static_cast<int64_t>(sizeof(T)));
        const Numbers<NormRange> ranges(device, static_cast<int64_t>(tasks.size()));
        T* to = reinterpret_cast<T*>(norms.bytes.get());
        for (std::size_t k = 0; k < tasks.size(); ++k) {
            tasks[k].out = to, tasks[k].range = ranges.get() + k;
            to += tasks[k].n;
            run_on_device(tasks[k], device, poll);
        }
        copy_bytes(device, found.data(), ranges.get(), sizeof(NormRange) * found.size());
    });
    std::vector<std::array<double, 4>> between;
    for (const NormRange& one : found)
        between.push_back({one.least, one.positive, one.top, one.mean});
    return {std::move(norms), std::move(between)};
}

// Rows of a times the columns of v, on a device; a row's own entry is that of `diagonal`, if given.
template <class T>
void multiply(const py::array_t<T>& a, const py::array_t<T>& v, py::array_t<T> out,
              const std::optional<py::array_t<T, py::array::c_style>>& diagonal, int64_t shift,
              const std::string& where) {
    const DenseProduct<T> problem{a.data(),
                                  v.data(),
                                  diagonal ? diagonal->data() : nullptr,
                                  out.mutable_data(),
                                  a.shape(0),
                                  a.shape(1),
                                  v.shape(1),
                                  row_stride(a, "a"),
                                  row_stride(v, "v"),
                                  row_stride(out, "out"),
                                  shift};
    expect(v.shape(0) == problem.inner, "v: expected a row for each column of a");
    expect(out.shape(0) == problem.rows && out.shape(1) == problem.columns, "out: wrong shape");
    expect(!diagonal || (diagonal->ndim() == 1 && diagonal->shape(0) == problem.rows),
           "diagonal: expected one number per row of a");
    call(where, 1,
         [&](const Device& device, const Poll& poll) { run_on_device(problem, device, poll); });
}

template <class T>
using Dense = py::array_t<T, py::array::c_style>;

template <class T>
void scale_rows(const std::optional<py::array_t<T>>& x, const std::optional<Dense<T>>& divisors,
                const std::optional<Dense<T>>& factors, py::array_t<T> out, double scale,
                const std::string& where) {
    const ScaledRows<T> problem{x ? x->data() : nullptr,
                                divisors ? divisors->data() : nullptr,
                                factors ? factors->data() : nullptr,
                                out.mutable_data(),
                                out.shape(0),
                                out.shape(1),
                                x ? row_stride(*x, "x") : 0,
                                row_stride(out, "out"),
                                static_cast<T>(scale)};
    expect(!x || (x->shape(0) == problem.n && x->shape(1) == problem.d), "out: wrong shape");
    for (const auto& numbers : {divisors, factors})
        expect(!numbers || (numbers->ndim() == 1 && numbers->shape(0) == problem.n),
               "divisors, factors: expected one number per row");
    call(where, 1,
         [&](const Device& device, const Poll& poll) { run_on_device(problem, device, poll); });
}

template <class T>
void pair_products(const py::array_t<T>& x, const Dense<int64_t>& left, const Dense<int64_t>& right,
                   const Dense<T>& shifts, const Dense<T>& factors, py::array_t<T> out,
                   const std::string& where) {
    const PairProducts<T> problem{
        x.data(),           left.data(),  right.data(), shifts.data(),      factors.data(),
        out.mutable_data(), out.shape(0), out.shape(1), row_stride(x, "x"), row_stride(out, "out")};
    expect(x.shape(0) == problem.n, "out: wrong shape");
    expect(left.size() == problem.m && right.size() == problem.m && shifts.size() == problem.m &&
               factors.size() == problem.m,
           "left, right, shifts, factors: expected one number per column of out");
    for (int64_t j = 0; j < problem.m; ++j)
        expect(problem.left[j] >= 0 && problem.left[j] < x.shape(1) && problem.right[j] >= 0 &&
                   problem.right[j] < x.shape(1),
               "left, right: out of range");
    call(where, 1,
         [&](const Device& device, const Poll& poll) { run_on_device(problem, device, poll); });
}

template <class T>
void add_turned(const std::optional<py::array_t<T>>& part, py::array_t<T> out,
                const std::string& where) {
    const TurnedSum<T> problem{
        part ? part->data() : nullptr,        out.mutable_data(),    out.shape(0), out.shape(1),
        part ? row_stride(*part, "part") : 0, row_stride(out, "out")};
    expect(
        part ? part->shape(0) == problem.m && part->shape(1) == problem.n : problem.n == problem.m,
        "part: wrong shape");
    call(where, 1,
         [&](const Device& device, const Poll& poll) { run_on_device(problem, device, poll); });
}

template <class T>
void bind_dtype(py::module_& m, const std::string& suffix) {
    m.def(("measure_" + suffix).c_str(), &measure<T>, py::arg("matrices").noconvert(),
          py::arg("scale"), py::arg("where"));
    m.def(("multiply_" + suffix).c_str(), &multiply<T>, py::arg("a").noconvert(),
          py::arg("v").noconvert(), py::arg("out").noconvert(), py::arg("diagonal").noconvert(),
          py::arg("shift"), py::arg("where"));
    m.def(("scale_rows_" + suffix).c_str(), &scale_rows<T>, py::arg("x").noconvert(),
          py::arg("divisors").noconvert(), py::arg("factors").noconvert(),
          py::arg("out").noconvert(), py::arg("scale"), py::arg("where"));
    m.def(("add_turned_" + suffix).c_str(), &add_turned<T>, py::arg("part").noconvert(),
          py::arg("out").noconvert(), py::arg("where"));
    m.def(("pair_products_" + suffix).c_str(), &pair_products<T>, py::arg("x").noconvert(),
          py::arg("left").noconvert(), py::arg("right").noconvert(), py::arg("shifts").noconvert(),
          py::arg("factors").noconvert(), py::arg("out").noconvert(), py::arg("where"));
}

}  // namespace

PYBIND11_MODULE(NTKFAST_CUDA_MODULE, m, py::mod_gil_not_used()) {
    bind_codes(m);
    bind_gram(m);
    bind_transform(m);
    bind_image(m);
    bind_sequences(m);
    py::class_<Memory>(m, "Memory", py::module_local())
        .def(py::init([](std::int64_t bytes, const std::string& where) {
                 expect(bytes >= 0, "bytes: expected no negative number");
                 const KeepCurrent keep;
                 return Memory{Numbers<char>(use_device(where, 1), bytes)};
             }),
             py::arg("bytes"), py::arg("where"))
        .def_property_readonly("pointer", &Memory::pointer);
    bind_dtype<float>(m, "f32");
    bind_dtype<double>(m, "f64");
    m.def("devices", [] {
        std::string reason;
        const int count = count_devices(&reason);
        return std::pair(count, reason);
    });
    m.def(
        "device_of",
        [](std::uintptr_t pointer) { return device_of(reinterpret_cast<const void*>(pointer)); },
        py::arg("pointer"));
    m.def(
        "finish",
        [](const std::string& where) {
            call(where, 1, [](const Device& device, const Poll&) { finish(device); });
        },
        py::arg("where"));
    m.def("copy", &copy, py::arg("to"), py::arg("source"), py::arg("where"));
    m.def(
        "free_bytes",
        [](const std::string& where) {
            const KeepCurrent keep;
            return free_bytes(use_device(where, 1));
        },
        py::arg("where"));
    m.def("counts", [] {
        const Counts& all = counts();
        return std::map<std::string, std::int64_t>{{"allocations", all.allocations},
                                                   {"uploads", all.uploads},
                                                   {"waits", all.waits},
                                                   {"ways_back", all.ways_back},
                                                   {"bytes_back", all.bytes_back}};
    });
    m.def("set_chunk", &set_chunk_numbers, py::arg("numbers"));
}
