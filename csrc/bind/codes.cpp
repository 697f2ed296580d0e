// The codes, records and limits of formulas/codes.hpp, as Python sees and compares them.
#include <initializer_list>
#include <utility>

#include "bind/bind.hpp"

namespace ntkfast {
namespace {

// Makes a record known to NumPy, unless the other module of the package has done so before.
#define NTK_RECORD(Record, ...)                                            \
    if (!py::detail::get_numpy_internals().get_type_info<Record>(false)) { \
        PYBIND11_NUMPY_DTYPE(Record, __VA_ARGS__);                         \
    }

template <class Value>
py::dict named(std::initializer_list<std::pair<const char*, Value>> values) {
    py::dict found;
    for (const auto& [name, value] : values)
        if constexpr (std::is_enum_v<Value>)
            found[name] = static_cast<std::int32_t>(value);
        else
            found[name] = value;
    return found;
}

py::dict codes() {
    using A = ActivationKind;
    using I = ImageOperation;
    py::dict found;
    found["ActivationKind"] = named<A>({{"IDENTITY", A::kIdentity},
                                        {"RELU", A::kRelu},
                                        {"STEP", A::kStep},
                                        {"ERF", A::kErf},
                                        {"GELU", A::kGelu},
                                        {"SINE", A::kSine},
                                        {"EXP", A::kExp},
                                        {"GAUSSIAN", A::kGaussian},
                                        {"HERMITE", A::kHermite},
                                        {"DROPOUT", A::kDropout}});
    found["ImageOperation"] = named<I>({{"CONV", I::kConv},
                                        {"RELU", I::kRelu},
                                        {"POOL", I::kPool},
                                        {"SAVE", I::kSave},
                                        {"ADD", I::kAdd},
                                        {"SWAP", I::kSwap},
                                        {"ACTIVATE", I::kActivate},
                                        {"NORMALIZE", I::kNormalize},
                                        {"MULTIPLY", I::kMultiply}});
    found["NeuronKind"] = named<NeuronKind>(
        {{"RELU", NeuronKind::kRelu}, {"STEP", NeuronKind::kStep}, {"TABLE", NeuronKind::kTable}});
    found["Kept"] = named<Kept>({{"ALL", Kept::kAll},
                                 {"SINGLE", Kept::kSingle},
                                 {"HALF", Kept::kHalf},
                                 {"BRAIN", Kept::kBrain}});
    found["Answer"] = named<Answer>(
        {{"PRODUCT", Answer::kProduct}, {"RELU", Answer::kRelu}, {"STEP", Answer::kStep}});
    found["sizes"] = named<int>({{"SLOTS", kSlots},
                                 {"PIECES", kPieces},
                                 {"MIDDLE_BYTES", kMiddleBytes},
                                 {"RATES", kRates},
                                 {"MOVES", kMoves},
                                 {"DIRECTIONS", kDirections}});
    found["limits"] = named<double>({{"REFINE_LAYERS", kRefineLayers},
                                     {"REFINE_SPHERE", kRefineSphere},
                                     {"REFINE_DISTANCE", kRefineDistance},
                                     {"NEAR_TANGENT", kNearTangent}});
    return found;
}

py::dict records() {
    py::dict found;
    found["LAYER_ROW"] = py::dtype::of<LayerRow>();
    found["IMAGE_STEP"] = py::dtype::of<ImageStep>();
    found["IMAGE_LEVEL"] = py::dtype::of<ImageLevel>();
    return found;
}

}  // namespace

void bind_codes(py::module_& m) {
    NTK_RECORD(LayerRow, kind, save, add, times, parameter, w, e, x, y, offset, count)
    NTK_RECORD(ImageStep, operation, slot, window, stride, before, kind, whole, parameter, gain,
               bias, trained)
    NTK_RECORD(ImageLevel, height, width, reach_h, reach_w, own_h, own_w, scale_h, scale_w)
    m.def("codes", &codes);
    m.def("records", &records);
}

}  // namespace ntkfast
