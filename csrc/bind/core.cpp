// The Python module ntkfast._core: typed views in, work without the GIL, nothing copied.
#include <pybind11/stl.h>

#include <utility>

#include "bind/bind.hpp"

using namespace ntkfast;

// By this symbol threadpoolctl tells the module from others called _core.
#if defined(_MSC_VER)
extern "C" __declspec(dllexport) const int ntkfast_marker = 1;
#else
extern "C" __attribute__((visibility("default"))) const int ntkfast_marker;
const int ntkfast_marker = 1;
#endif

PYBIND11_MODULE(_core, m, py::mod_gil_not_used()) {
    bind_codes(m);
    bind_gram(m);
    bind_transform(m);
    bind_image(m);
    bind_sequences(m);
    m.def("isas", [] {
        std::vector<std::pair<std::string, bool>> list;
        for (const auto& one : implementations()) list.emplace_back(one.name, one.usable);
        return list;
    });
    m.def(
        "choose_isa", [](const std::string& name) { return std::string(choose(name).name); },
        py::arg("name"));
}
