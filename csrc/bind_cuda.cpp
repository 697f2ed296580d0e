// The Python module ntkfast._cuda: the functions of ntkfast._core, computed on a card.
//
// The argument that names an instruction set there is the card and the precision here.
#include <pybind11/stl.h>

#include <utility>

#include "bind.hpp"

using namespace ntkfast;

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
    m.def("set_chunk", &set_chunk_numbers, py::arg("numbers"));
}
