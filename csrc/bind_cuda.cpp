// The Python module ntkfast._cuda: the functions of ntkfast._core, computed on a card.
//
// The argument that names an instruction set there is told to use_device here.
#include <pybind11/stl.h>

#include <utility>

#include "bind.hpp"

using namespace ntkfast;

namespace {

// Memory of a card that belongs to Python.
struct Memory {
    Numbers<char> bytes;
    std::uintptr_t pointer() const { return reinterpret_cast<std::uintptr_t>(bytes.get()); }
};

// Arrays of one size without gaps, each in memory of the host or of a card.
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

}  // namespace

PYBIND11_MODULE(NTKFAST_CUDA_MODULE, m, py::mod_gil_not_used()) {
    bind_gram(m);
    bind_transform(m);
    bind_image(m);
    bind_sequences(m);
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
    py::class_<Memory>(m, "Memory", py::module_local())
        .def(py::init([](std::int64_t bytes, const std::string& where) {
                 expect(bytes >= 0, "bytes: expected no negative number");
                 const KeepCurrent keep;
                 return Memory{Numbers<char>(use_device(where, 1), bytes)};
             }),
             py::arg("bytes"), py::arg("where"))
        .def_property_readonly("pointer", &Memory::pointer);
    m.def("set_chunk", &set_chunk_numbers, py::arg("numbers"));
}
