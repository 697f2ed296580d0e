// The functions of ntkfast._core for kernels of recurrent networks.
#include <pybind11/stl.h>

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "bind/bind.hpp"
#include "host/sequence_numbers.hpp"

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

LayerRow closed_layer(const LayerRows& activation) {
    check_layers(activation);
    expect(activation.size() == 1, "activation: expected one row");
    const LayerRow layer = *activation.data();
    expect(layer.kind < ActivationKind::kHermite, "activation: expected a closed form");
    return layer;
}

#if !defined(NTKFAST_CUDA)  // the recursion of single sequences stays on the host
// The numbers of sequences that pairs multiply, in one direction, and their kernels with themselves.
// The layout holds start, first and length, see SequenceNumbers; the scales are
// w, u, b, h and v, squared; the weights those of the read-out at all steps and at the last one.
template <class T>
std::pair<Array<T>, Array<double>> sequence_numbers(
    const Array<T>& inputs, const Array<int64_t>& layout, const LayerRows& activation,
    int64_t layers, int64_t fixed, const std::vector<double>& scales,
    const std::vector<double>& weights, bool mean, bool reverse, bool nngp, int threads) {
    expect(inputs.ndim() == 2 && inputs.shape(1) >= 1, "inputs: expected shape (steps, channels)");
    expect(layout.ndim() == 2 && layout.shape(0) == 3, "layout: expected shape (3, sequences)");
    expect(scales.size() == 5 && weights.size() == 2, "scales, weights: expected 5 and 2");
    expect(layers >= 1, "layers: expected at least 1");
    const int64_t count = layout.shape(1), *at = layout.data();
    int64_t steps = 0;
    for (int64_t i = 0; i < count; ++i) {
        expect(at[2 * count + i] >= 1 && at[i] >= 0 &&
                   at[i] + at[2 * count + i] <= inputs.shape(0) && at[count + i] == steps,
               "layout: out of range");
        steps += at[2 * count + i];
    }
    SequenceNumbers<T> p{inputs.data(),
                         at,
                         at + count,
                         at + 2 * count,
                         count,
                         inputs.shape(1),
                         closed_layer(activation),
                         layers,
                         fixed,
                         scales[0],
                         scales[1],
                         scales[2],
                         scales[3],
                         scales[4],
                         reverse,
                         nngp,
                         weights[0],
                         weights[1],
                         mean,
                         nullptr,
                         nullptr};
    const std::vector<py::ssize_t> shape = {steps, sequence_fields(p)};
    Array<T> numbers(shape);
    Array<double> diagonal(count);
    p.out = numbers.mutable_data(), p.diagonal = diagonal.mutable_data();
    constexpr int64_t kBlock = 16;
    const double cost = static_cast<double>(steps) * static_cast<double>(100 * layers + p.channels);
    call("", threads, [&](const InstructionSet&, auto poll) {
        Flag cancelled;
        const auto work = [&](const auto& next) {
            for (int64_t task; (task = next()) >= 0;)
                ntkfast::sequence_numbers(p, task * kBlock, std::min(count, (task + 1) * kBlock));
        };
        share((count + kBlock - 1) / kBlock, threads, cost, cancelled, work, poll);
    });
    return {numbers, diagonal};
}
#endif

// The shape of a network: layers, how many of them are fixed, channels of the input.
template <class T>
void sequences(const std::vector<Array<T>>& numbers_x, const Array<int64_t>& layout_x,
               const std::optional<std::vector<Array<T>>>& numbers_y,
               const std::optional<Array<int64_t>>& layout_y, const LayerRows& activation,
               int64_t layers, int64_t fixed, int64_t channels, bool every, bool nngp,
               const std::optional<Array<T>>& diagonal, py::array_t<T> out, int threads,
               const std::string& isa) {
    Sequences<T> p{};
    p.x = make_side<T>(numbers_x, layout_x);
    p.symmetric = !numbers_y;
    p.y = p.symmetric ? p.x : make_side<T>(*numbers_y, layout_y.value());
    const LayerRow layer = closed_layer(activation);
    p.activation = layer_constants<T>(layer);
    expect(layers >= 1 && channels >= 1, "layers, channels: expected at least 1");
    p.layers = layers, p.fixed = fixed, p.channels = channels;
    p.fields = layers * (3 + sequence_stats(layer)) + channels;
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
    call(isa, threads, [&](const auto& set, auto poll) { ntkfast::run(p, set, threads, poll); });
}

#if !defined(NTKFAST_CUDA)
template <class T>
void bind_numbers(py::module_& m, const char* name) {
    m.def(name, &sequence_numbers<T>, py::arg("inputs").noconvert(), py::arg("layout").noconvert(),
          py::arg("activation").noconvert(), py::arg("layers"), py::arg("fixed"), py::arg("scales"),
          py::arg("weights"), py::arg("mean"), py::arg("reverse"), py::arg("nngp"),
          py::arg("threads"));
}
#endif

template <class T>
void bind_sequence_dtype(py::module_& m, const char* name) {
    m.def(name, &sequences<T>, py::arg("numbers_x").noconvert(), py::arg("layout_x").noconvert(),
          py::arg("numbers_y").noconvert(), py::arg("layout_y").noconvert(),
          py::arg("activation").noconvert(), py::arg("layers"), py::arg("fixed"),
          py::arg("channels"), py::arg("every"), py::arg("nngp"), py::arg("diagonal").noconvert(),
          py::arg("out").noconvert(), py::arg("threads"), py::arg("isa"));
}

}  // namespace

void bind_sequences(py::module_& m) {
    bind_sequence_dtype<float>(m, "sequences_f32");
    bind_sequence_dtype<double>(m, "sequences_f64");
#if !defined(NTKFAST_CUDA)
    bind_numbers<float>(m, "sequence_numbers_f32");
    bind_numbers<double>(m, "sequence_numbers_f64");
#endif
}

}  // namespace ntkfast
