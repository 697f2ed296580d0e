// Maps, and what a call asks of pairs of rows, in the Python module.
#pragma once

#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <optional>
#include <utility>
#include <vector>

#include "bind/bind.hpp"
#include "bind/sectors.hpp"
#include "host/aligned.hpp"
#include "host/row_rates.hpp"

namespace ntkfast {
namespace {

// ---- maps ---------------------------------------------------------------------------------------

template <class T>
struct ProfileHolder {
    Aligned<T> table, middle;
    Profile<T> view;
    double degree;  // homogeneity: the result is |x|^degree |y|^degree k(u)
    std::array<T, 2> refine_below;
};

template <class T>
using ProfileTable = py::array_t<T, py::array::c_style>;

template <class T>
Aligned<T> aligned_table(const ProfileTable<T>& table, int columns, const char* message) {
    expect(table.ndim() == 2 && table.shape(0) >= 1 && table.shape(1) == columns, message);
    const auto size = static_cast<std::size_t>(table.size());
    Aligned<T> copy = aligned<T>(size);
    std::copy_n(table.data(), size, copy.get());
    return copy;
}

template <class T>
ProfileHolder<T> make_profile(const ProfileTable<T>& table, int sub_bits, std::array<T, 2> stretch,
                              std::array<T, 2> base, double degree, double scale,
                              std::array<T, 2> refine_below,
                              const std::optional<ProfileTable<T>>& middle, T middle_rate,
                              std::array<T, 2> middle_ends, int inner_degree) {
    expect(sub_bits >= 0 && sub_bits <= 3, "sub_bits: expected 0 to 3");
    ProfileHolder<T> holder;
    holder.table = aligned_table<T>(table, 2 * kPieces, "table: expected shape (degree + 1, 16)");
    if (middle)
        holder.middle =
            aligned_table<T>(*middle, kMiddleColumns<T>, "middle: expected rows of 128 bytes");
    const int middle_degree = middle ? static_cast<int>(middle->shape(0)) - 1 : 0;
    expect(inner_degree >= 0 && inner_degree <= middle_degree,
           "inner_degree: expected 0 to the degree of the middle table");
    holder.view = {static_cast<int>(table.shape(0)) - 1,
                   sub_bits,
                   {stretch[0], stretch[1]},
                   {base[0], base[1]},
                   static_cast<T>(scale),
                   holder.table.get(),
                   holder.middle.get(),
                   middle_degree,
                   inner_degree,
                   middle_rate,
                   {middle_ends[0], middle_ends[1]}};
    holder.degree = degree;
    holder.refine_below = refine_below;
    return holder;
}

template <class T>
struct NeuronHolder {
    NeuronKind kind;
    py::array_t<T, py::array::c_style> table;
    double scale, degree;  // the features are scale |x|^degree f(w.x)
};

template <class T>
NeuronHolder<T> make_neuron(int kind, py::array_t<T, py::array::c_style> table, double scale,
                            double degree) {
    expect(kind >= 0 && kind <= static_cast<int>(NeuronKind::kTable), "kind: unknown");
    expect(table.ndim() == 2 && table.shape(0) >= 1 && table.shape(1) >= 2 &&
               table.shape(1) <= 1 << 22,  // float32 counts knots by its mantissa
           "table: expected shape (rows, knots)");
    return {static_cast<NeuronKind>(kind), std::move(table), scale, degree};
}

struct RadialHolder {
    double c, gamma;
    bool euclidean;
    double degree;
};

struct LayersHolder {
    std::vector<LayerRow> layers;
    std::array<double, 2> scales;
    int exponent;
    std::optional<AnySectors> sectors;
};

inline LayersHolder make_layers(const LayerRows& numbers, std::array<double, 2> scales,
                                int exponent, std::optional<AnySectors> sectors) {
    check_layers(numbers);
    return {{numbers.data(), numbers.data() + numbers.size()}, scales, exponent, sectors};
}

// ---- a call -------------------------------------------------------------------------------------

template <class T>
struct Side {  // the rows of x or y with what depends on them alone
    py::array_t<T> rows, norms;
    std::optional<py::array_t<T, py::array::c_style>> series, diagonal;
};

template <class T>
struct Sides {
    Side<T> x, y;
    bool symmetric;  // y is x
};

// Binds function(sides, map, ...): all that take rows are given them and a map in the same way.
template <class T, class Result, class... More, class... Names>
void bind_of_rows(py::module_& m, const std::string& name,
                  Result (*function)(const Sides<T>&, const py::object&, More...),
                  const Names&... names) {
    using Numbers = std::optional<Given<T, py::array::c_style>>;
    m.def(
        name.c_str(),
        [function](const Given<T>& x, const Given<T>& norm_x, const std::optional<Given<T>>& y,
                   const std::optional<Given<T>>& norm_y, const py::object& map,
                   const Numbers& series_x, const Numbers& series_y, const Numbers& diagonal_x,
                   More... more) {
            const Side<T> left{x, norm_x, series_x, diagonal_x};
            const Side<T> right = y ? Side<T>{*y, norm_y.value(), series_y, {}} : left;
            return function({left, right, !y}, map, std::forward<More>(more)...);
        },
        py::arg("x").noconvert(), py::arg("norm_x").noconvert(), py::arg("y").noconvert(),
        py::arg("norm_y").noconvert(), py::arg("map"), py::arg("series_x").noconvert(),
        py::arg("series_y").noconvert(), py::arg("diagonal_x").noconvert(), names...);
}

template <class T>
struct Call {
    Problem<T> problem{};
    Layers<T> layers{};
    Radial<T> radial{};
    Neuron<T> neuron{};
    std::vector<LayerConstants<T>> rows;
    std::vector<T> inverse_x, inverse_y, factor_x, factor_y;
    SectorCall<T> sectors;

    Call(const Sides<T>& sides, const py::object& map, const py::object& second = py::none()) {
        const Side<T>&x = sides.x, &y = sides.y;
        problem.x = x.rows.data();
        problem.y = y.rows.data();
        problem.ldx = row_stride(x.rows, "x");
        problem.ldy = row_stride(y.rows, "y");
        problem.n = x.rows.shape(0);
        problem.m = y.rows.shape(0);
        problem.d = x.rows.shape(1);
        expect(y.rows.shape(1) == problem.d, "y: expected as many columns as x");
        expect(x.norms.ndim() == 1 && x.norms.shape(0) == problem.n, "norms: one per row of x");
        expect(y.norms.ndim() == 1 && y.norms.shape(0) == problem.m, "norms: one per row of y");
        expect(x.norms.strides(0) == sizeof(T) || problem.n == 1, "norms: expected unit stride");
        expect(y.norms.strides(0) == sizeof(T) || problem.m == 1, "norms: expected unit stride");
        problem.norm_x = x.norms.data();
        problem.norm_y = y.norms.data();
#if !defined(NTKFAST_CUDA)  // a device takes powers of norms, which may lie there
        fill(inverse_x, problem.norm_x, problem.n, -1);
        fill(inverse_y, problem.norm_y, problem.m, -1);
        problem.inverse_x = inverse_x.data();
        problem.inverse_y = inverse_y.data();
#endif
        if (py::isinstance<RadialHolder>(map))
            use(map.cast<const RadialHolder&>());
        else if (py::isinstance<LayersHolder>(map))
            use(map.cast<const LayersHolder&>(), x, y);
        else if (py::isinstance<NeuronHolder<T>>(map))
            use(map.cast<const NeuronHolder<T>&>(), x);
        else
            use(map.cast<const ProfileHolder<T>&>(),
                second.is_none() ? nullptr : &second.cast<const ProfileHolder<T>&>());
    }

    static void fill(std::vector<T>& to, const T* norms, int64_t count, double power) {
        to.resize(static_cast<std::size_t>(count));
        for (int64_t i = 0; i < count; ++i) {
            const double norm = norms[i];
            double value = power == 0    ? 1
                           : power == 1  ? norm
                           : power == -1 ? 1 / norm
                                         : std::pow(norm, power);
            // A norm whose inverse overflows counts as zero, like zero itself.
            if (power < 0 && !(value <= std::numeric_limits<T>::max())) value = 0;
            to[static_cast<std::size_t>(i)] = static_cast<T>(value);
        }
    }

    void scale_by(double degree) {
        problem.power = degree;
#if !defined(NTKFAST_CUDA)
        fill(factor_x, problem.norm_x, problem.n, degree);
        fill(factor_y, problem.norm_y, problem.m, degree);
        problem.factor_x = factor_x.data();
        problem.factor_y = factor_y.data();
#endif
    }

    void use(const ProfileHolder<T>& first, const ProfileHolder<T>* second) {
        scale_by(first.degree);
        problem.profile[0] = &first.view;
        problem.profile[1] = second ? &second->view : nullptr;
        for (int end = 0; end < 2; ++end)
            problem.refine_below[end] =
                std::max(first.refine_below[end], second ? second->refine_below[end] : T(0));
    }

    void use(const RadialHolder& map) {
        scale_by(map.degree);
        radial = {static_cast<T>(map.c), static_cast<T>(map.gamma),
                  map.euclidean ? Radius::kEuclidean : Radius::kSphere};
        problem.radial = &radial;
        problem.refine_below[0] = static_cast<T>(map.euclidean ? kRefineDistance : kRefineSphere);
    }

    void use(const NeuronHolder<T>& map, const Side<T>& x) {
        scale_by(map.degree);
        neuron = {map.kind,           map.table.data(), map.table.shape(0),
                  map.table.shape(1), nullptr,          static_cast<T>(map.scale)};
        if (map.table.shape(0) > 1) {
            expect(x.series && x.series->ndim() == 2 && x.series->shape(0) == problem.n &&
                       x.series->shape(1) == 1,
                   "series: expected the place of each data row in the table");
            neuron.place = x.series->data();
            const T last = static_cast<T>(map.table.shape(0) - 1);
            for (int64_t i = 0; i < problem.n; ++i)
                expect(neuron.place[i] >= 0 && neuron.place[i] < last, "series: beyond the table");
        }
        problem.neuron = &neuron;
    }

    void use(const LayersHolder& map, const Side<T>& x, const Side<T>& y) {
        for (const LayerRow& layer : map.layers) rows.push_back(layer_constants<T>(layer));
        layers = {map.layers.data(),
                  rows.data(),
                  static_cast<int64_t>(map.layers.size()),
                  count_stats(map.layers.data(), static_cast<int64_t>(map.layers.size())),
                  row_stats<T>,
                  row_rates<T>,
                  {static_cast<T>(map.scales[0]), static_cast<T>(map.scales[1])},
                  map.exponent,
                  nullptr,
                  nullptr,
                  nullptr,
                  0};
        std::copy(map.scales.begin(), map.scales.end(), layers.exact_scale);
        if (x.diagonal) {
            expect(x.diagonal->ndim() == 2 && x.diagonal->shape(0) == problem.n &&
                       x.diagonal->shape(1) == 2,
                   "diagonal: expected shape (n, 2)");
            layers.diagonal = x.diagonal->data();
        }
        int64_t needed = 0;
        for (const LayerRow& layer : map.layers)
            if (layer.kind == ActivationKind::kHermite)
                needed = std::max(needed, layer.offset + layer.count + 2);
        if (needed) {
            expect(x.series && y.series && x.series->ndim() == 2 && y.series->ndim() == 2 &&
                       x.series->shape(0) == problem.n && y.series->shape(0) == problem.m &&
                       x.series->shape(1) >= needed && x.series->shape(1) == y.series->shape(1),
                   "series: expected one row of coefficients per data row");
            layers.series_x = x.series->data();
            layers.series_y = y.series->data();
            layers.series_stride = x.series->shape(1);
        }
        if (map.sectors) layers.sectors = sectors.use(*map.sectors, problem);
        problem.factor_x = problem.inverse_x;  // unused by the layer map, but packed
        problem.factor_y = problem.inverse_y;
        problem.power = -1;
        problem.layers = &layers;
        problem.refine_below[0] = problem.refine_below[1] = static_cast<T>(kRefineLayers);
    }

    void run(const std::string& isa, int threads) {
        call(isa, threads,
             [&](const auto& set, auto poll) { ntkfast::run(problem, set, threads, poll); });
    }
};

}  // namespace
}  // namespace ntkfast
