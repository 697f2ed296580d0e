// The functions of ntkfast._core for kernels of recurrent networks.
#include <pybind11/stl.h>

#include <optional>
#include <vector>

#include "bind.hpp"

namespace ntkfast {
namespace {

template <class T>
using Array = py::array_t<T, py::array::c_style>;

// One side: numbers[steps][fields] per direction; first step, length and place of each sequence.
template <class T>
SequenceSide<T> make_side(const std::vector<Array<T>>& numbers, const Array<int64_t>& layout) {
    expect(numbers.size() == 1 || numbers.size() == 2, "numbers: expected one or two directions");
    expect(layout.ndim() == 2 && layout.shape(0) == 3 && layout.shape(1) >= 1,
           "layout: expected shape (3, sequences)");
    const int64_t count = layout.shape(1), *at = layout.data();
    SequenceSide<T> side{{nullptr, nullptr}, at, at + count, at + 2 * count, count};
    const int64_t steps = numbers[0].ndim() == 2 ? numbers[0].shape(0) : 0;
    for (std::size_t d = 0; d < numbers.size(); ++d) {
        expect(numbers[d].ndim() == 2 && numbers[d].shape(0) == steps &&
                   numbers[d].shape(1) == numbers[0].shape(1),
               "numbers: expected shape (steps, fields)");
        side.numbers[d] = numbers[d].data();
    }
    for (int64_t i = 0; i < count; ++i) {
        expect(side.first[i] >= 0 && side.length[i] >= 1 &&
                   side.first[i] + side.length[i] <= steps && side.place[i] >= 0 &&
                   side.place[i] < count,
               "layout: out of range");
        expect(i == 0 || side.length[i] >= side.length[i - 1], "layout: expected rising lengths");
    }
    return side;
}

// The shape of a network: layers, how many of them are fixed, channels of the input.
template <class T>
void sequences(const std::vector<Array<T>>& numbers_x, const Array<int64_t>& layout_x,
               const std::optional<std::vector<Array<T>>>& numbers_y,
               const std::optional<Array<int64_t>>& layout_y, const Array<double>& activation,
               int64_t layers, int64_t fixed, int64_t channels, bool every, bool nngp,
               const std::optional<Array<T>>& diagonal, py::array_t<T> out, int threads,
               const std::string& isa) {
    expect(activation.ndim() == 1 && activation.shape(0) == 12, "activation: expected 12 numbers");
    Sequences<T> p{};
    p.x = make_side<T>(numbers_x, layout_x);
    p.symmetric = !numbers_y;
    p.y = p.symmetric ? p.x : make_side<T>(*numbers_y, layout_y.value());
    p.activation = make_layer(activation.data());
    expect(p.activation.activation != Activation::kSeries, "activation: expected a closed form");
    expect(layers >= 1 && channels >= 1, "layers, channels: expected at least 1");
    p.layers = layers, p.fixed = fixed, p.channels = channels;
    p.fields = layers * (3 + activation_stats(p.activation)) + channels;
    p.directions = static_cast<int64_t>(numbers_x.size());
    p.every = every, p.nngp = nngp;
    expect(numbers_x[0].shape(1) == p.fields, "numbers: wrong number of fields");
    if (p.symmetric)
        expect(diagonal && diagonal->ndim() == 1 && diagonal->shape(0) == p.x.count,
               "diagonal: one per sequence");
    else
        expect(numbers_y->size() == numbers_x.size() && (*numbers_y)[0].shape(1) == p.fields,
               "numbers: expected the same directions and fields on both sides");
    p.diagonal = p.symmetric ? diagonal->data() : nullptr;
    const auto item = static_cast<py::ssize_t>(sizeof(T));
    expect(out.ndim() == 2 && out.shape(0) == p.x.count && out.shape(1) == p.y.count,
           "out: wrong shape");
    expect(out.strides(0) % item == 0 && out.strides(1) % item == 0, "out: odd strides");
    p.out = out.mutable_data();
    p.stride_row = out.strides(0) / item, p.stride_column = out.strides(1) / item;
    call(isa, threads,
         [&](const InstructionSet& set, auto poll) { ntkfast::run(p, set, threads, poll); });
}

template <class T>
void bind_dtype(py::module_& m, const char* name) {
    m.def(name, &sequences<T>, py::arg("numbers_x").noconvert(), py::arg("layout_x").noconvert(),
          py::arg("numbers_y").noconvert(), py::arg("layout_y").noconvert(),
          py::arg("activation").noconvert(), py::arg("layers"), py::arg("fixed"),
          py::arg("channels"), py::arg("every"), py::arg("nngp"), py::arg("diagonal").noconvert(),
          py::arg("out").noconvert(), py::arg("threads"), py::arg("isa"));
}

}  // namespace

void bind_sequences(py::module_& m) {
    bind_dtype<float>(m, "sequences_f32");
    bind_dtype<double>(m, "sequences_f64");
}

}  // namespace ntkfast
