// Walsh-Hadamard transforms, sketches and structured neurons in the Python module.
#include <pybind11/stl.h>

#include <optional>

#include "bind/bind.hpp"

namespace ntkfast {
namespace {

template <class T>
void hadamard(py::array_t<T> x, py::array_t<T> out,
              std::optional<py::array_t<T, py::array::c_style>> signs, double scale, int threads,
              const std::string& isa) {
    const int64_t width = x.ndim() == 2 ? x.shape(1) : 0;
    expect(width > 0 && (width & (width - 1)) == 0, "x: expected 2^p columns");
    const Hadamard<T> problem{x.data(),
                              out.mutable_data(),
                              row_stride(x, "x"),
                              row_stride(out, "out"),
                              x.shape(0),
                              width,
                              signs ? signs->data() : nullptr,
                              static_cast<T>(scale)};
    expect(out.shape(0) == problem.n && out.shape(1) == width, "out: wrong shape");
    expect(!signs || (signs->ndim() == 1 && signs->shape(0) == width), "signs: one per column");
    call(isa, threads,
         [&](const auto& set, auto poll) { ntkfast::run(problem, set, threads, poll); });
}

template <class T>
using Indices = py::array_t<Index<T>, py::array::c_style>;

template <class T>
Rotation<T> rotation(const py::array_t<T>& x, int64_t n,
                     const py::array_t<T, py::array::c_style>& signs, const Indices<T>& index) {
    expect(x.ndim() == 2 && x.shape(1) > 0, "x: expected two dimensions");
    const int64_t dim = x.shape(1);
    expect(x.shape(0) == n || x.shape(0) == 1, "y: expected as many rows as x, or one");
    expect(signs.ndim() == 1 && signs.shape(0) >= dim, "signs: expected one per column");
    const int64_t size = signs.shape(0);
    expect((size & (size - 1)) == 0, "signs: expected 2^p of them");
    for (py::ssize_t j = 0; j < index.size(); ++j)
        expect(index.data()[j] >= 0 && index.data()[j] < size, "index: beyond the transform");
    return {
        x.data(), x.shape(0) == 1 ? 0 : row_stride(x, "x"), dim, signs.data(), size, index.data(),
        false};
}

template <class T>
void sketch(py::array_t<T> x, std::optional<py::array_t<T>> y, py::array_t<T> out,
            py::array_t<T, py::array::c_style> signs_x, Indices<T> index_x,
            std::optional<py::array_t<T, py::array::c_style>> signs_y,
            std::optional<Indices<T>> index_y, bool step, double scale, int threads,
            const std::string& isa) {
    Sketch<T> problem{};
    problem.ldo = row_stride(out, "out");
    problem.n = out.shape(0);
    problem.m = out.shape(1);
    problem.out = out.mutable_data();
    problem.scale = static_cast<T>(scale);
    expect(index_x.ndim() == 1 && index_x.shape(0) == problem.m, "index: one per column of out");
    problem.factor[0] = rotation<T>(x, problem.n, signs_x, index_x);
    problem.product = y.has_value();
    if (y) {
        expect(signs_y && index_y && index_y->ndim() == 1 && index_y->shape(0) == problem.m,
               "index: one per column of out");
        problem.factor[1] = rotation<T>(*y, problem.n, *signs_y, *index_y);
        problem.factor[1].step = step;
    }
    call(isa, threads,
         [&](const auto& set, auto poll) { ntkfast::run(problem, set, threads, poll); });
}

template <class T>
void structured(py::array_t<T> x, py::array_t<T> out, py::array_t<T, py::array::c_style> flips,
                py::array_t<T, py::array::c_style> lengths, int answer, double scale, int threads,
                const std::string& isa) {
    expect(x.ndim() == 2 && out.ndim() == 2 && x.shape(0) == out.shape(0) && x.shape(1) > 0,
           "out: expected as many rows as x");
    expect(flips.ndim() == 3 && flips.shape(1) == 3 && lengths.ndim() == 2,
           "flips: expected (blocks, 3, size)");
    const int64_t size = flips.shape(2), count = out.shape(1), blocks = flips.shape(0);
    expect((size & (size - 1)) == 0 && size >= x.shape(1), "flips: expected 2^p per column of x");
    expect(lengths.shape(0) == blocks && lengths.shape(1) == size && blocks * size >= count,
           "lengths: expected one per column of out");
    expect(0 <= answer && answer <= static_cast<int>(Answer::kStep), "answer: unknown");
    const Structured<T> problem{x.data(),
                                out.mutable_data(),
                                row_stride(x, "x"),
                                row_stride(out, "out"),
                                out.shape(0),
                                x.shape(1),
                                count,
                                flips.data(),
                                lengths.data(),
                                size,
                                static_cast<Answer>(answer),
                                static_cast<T>(scale)};
    call(isa, threads,
         [&](const auto& set, auto poll) { ntkfast::run(problem, set, threads, poll); });
}

template <class T>
void bind_transform_dtype(py::module_& m, const char* suffix) {
    m.def((std::string("hadamard_") + suffix).c_str(), &hadamard<T>, py::arg("x").noconvert(),
          py::arg("out").noconvert(), py::arg("signs").noconvert(), py::arg("scale"),
          py::arg("threads"), py::arg("isa"));
    m.def((std::string("sketch_") + suffix).c_str(), &sketch<T>, py::arg("x").noconvert(),
          py::arg("y").noconvert(), py::arg("out").noconvert(), py::arg("signs_x").noconvert(),
          py::arg("index_x").noconvert(), py::arg("signs_y").noconvert(),
          py::arg("index_y").noconvert(), py::arg("step"), py::arg("scale"), py::arg("threads"),
          py::arg("isa"));
    m.def((std::string("structured_") + suffix).c_str(), &structured<T>, py::arg("x").noconvert(),
          py::arg("out").noconvert(), py::arg("flips").noconvert(), py::arg("lengths").noconvert(),
          py::arg("answer"), py::arg("scale"), py::arg("threads"), py::arg("isa"));
}

}  // namespace

void bind_transform(py::module_& m) {
    bind_transform_dtype<float>(m, "f32");
    bind_transform_dtype<double>(m, "f64");
}

}  // namespace ntkfast
