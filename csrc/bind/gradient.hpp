// Derivatives by rows in the Python module: a part of gram.cpp, whose types they take.
#pragma once

#include "bind/call.hpp"

namespace ntkfast {
namespace {

// Whether a network has derivatives at a row of zeros: a random bias comes before any kink.
bool is_smooth_at_zero(const LayersHolder& map) {
    for (const LayerRow& layer : map.layers) {
        if (layer.kind == ActivationKind::kRelu || layer.kind == ActivationKind::kStep ||
            layer.kind == ActivationKind::kHermite)
            return false;
        if (layer.e > 0) return true;
    }
    return true;
}

template <class T>
using Rows = Given<T>;
using Steps = Given<double, py::array::c_style>;

// A call with what derivatives need of its rows.
template <class T>
struct GradientCall {
    Call<T> call;
    Gradient<T> problem{};
    std::vector<T> outer;

    GradientCall(const Sides<T>& sides, const py::object& map, const py::object& slope, bool second)
        : call(sides, map, slope) {
        Problem<T>& p = call.problem;
        call.layers.diagonal = nullptr;  // which devices would fetch
        problem.pairs = p;
        bool smooth = false;
        if (p.radial) {
            problem.degree = map.cast<const RadialHolder&>().degree;
        } else if (p.layers) {
            smooth = is_smooth_at_zero(map.cast<const LayersHolder&>());
            p.use_second = second;
        } else {
            expect(p.profile[0] && p.profile[1], "map: expected a profile with its slope");
            problem.degree = map.cast<const ProfileHolder<T>&>().degree;
        }
        if (!(p.radial && p.radial->radius == Radius::kEuclidean))
            for (T& limit : p.refine_below) limit = std::max(limit, static_cast<T>(kRefineLayers));
        problem.tiny = sizeof(T) == 8 ? T(1e-140) : T(1e-15);
        // Elsewhere the gradient of a row of zeros counts as 0.
        problem.outer_power = problem.degree - 1;
        problem.outer_at_zero = smooth ? 1 / problem.tiny : 0;
#if !defined(NTKFAST_CUDA)
        Call<T>::fill(outer, p.norm_x, p.n, problem.outer_power);
        for (int64_t i = 0; i < p.n; ++i)
            if (p.inverse_x[i] == 0) outer[static_cast<std::size_t>(i)] = problem.outer_at_zero;
        problem.outer_x = outer.data();
#endif
    }

    // By what parameters move of the layers, and of rows of zeros too.
    void use_steps(const Steps& steps) {
        expect(call.problem.layers, "map: expected layers");
        expect(steps.ndim() == 3 && steps.shape(0) > 0 && steps.shape(0) <= kDirections &&
                   steps.shape(1) == call.layers.count + 1 && steps.shape(2) == 4,
               "steps: wrong shape");
        call.layers.directions = steps.shape(0);
        call.layers.steps = reinterpret_cast<const LayerSteps*>(steps.data());
        problem.tiny = 0;
        problem.outer_power = 0, problem.outer_at_zero = 1;
        outer.assign(outer.size(), 1);
    }

    void write_to(Rows<T>& out, int64_t width) {
        problem.out = out.mutable_data(), problem.ldo = row_stride(out, "out");
        expect(out.shape(0) == call.problem.n && out.shape(1) == width, "out: wrong shape");
    }

    void run(const std::string& isa, int threads) {
        problem.pairs = call.problem;
        ntkfast::call(isa, threads, [&](const auto& set, auto poll) {
            ntkfast::run(problem, set, threads, poll);
        });
    }
};

// V = v, or left right^T, or nothing.
template <class T>
void use_weights(Gradient<T>& g, const std::optional<Rows<T>>& v,
                 const std::optional<Rows<T>>& left, const std::optional<Rows<T>>& right) {
    const int64_t n = g.pairs.n, m = g.pairs.m;
    if (v) {
        g.v = v->data(), g.ldv = row_stride(*v, "v");
        expect(v->shape(0) == n && v->shape(1) == m, "v: wrong shape");
    } else if (left) {
        const Rows<T>& other = right.value();
        g.left = left->data(), g.ld_left = row_stride(*left, "left");
        g.right = other.data(), g.ld_right = row_stride(other, "right");
        g.rank = left->shape(1);
        expect(left->shape(0) == n && other.shape(0) == m && other.shape(1) == g.rank && g.rank > 0,
               "left, right: wrong shape");
    }
}

// out[i] = sum_j V_ij dK(x_i, y_j)/dx_i, V = v or left right^T; without y of v + v^T, the rows being one
// set.
template <class T>
void vjp(const Sides<T>& sides, const py::object& map, const py::object& slope, bool second,
         std::optional<Rows<T>> v, std::optional<Rows<T>> left, std::optional<Rows<T>> right,
         Rows<T> out, int threads, const std::string& isa) {
    GradientCall<T> made(sides, map, slope, second);
    Gradient<T>& g = made.problem;
    expect(v || left, "v: missing");
    use_weights<T>(g, v, left, right);
    if (v && sides.symmetric) g.turned = g.v, g.ld_turned = g.ldv;
    made.write_to(out, g.pairs.d);
    made.run(isa, threads);
}

// out[i][j] = dK(x_i, y_j)/dx_i . dx_i.
template <class T>
void jvp(const Sides<T>& sides, const py::object& map, const py::object& slope, bool second,
         Rows<T> dx, Rows<T> out, int threads, const std::string& isa) {
    GradientCall<T> made(sides, map, slope, second);
    const Problem<T>& p = made.call.problem;
    made.problem.dx = dx.data(), made.problem.ld_dx = row_stride(dx, "dx");
    expect(dx.shape(0) == p.n && dx.shape(1) == p.d, "dx: wrong shape");
    made.write_to(out, p.m);
    made.run(isa, threads);
}

// What steps of the layers move of the rows x: sums[i] = sum_j V_ij dK(x_i, y_j), V = v + turned^T or
// left right^T, in each direction; or without sums out[i][j] = dK(x_i, y_j) in the one direction.
template <class T>
void by_parameters(const Sides<T>& sides, const py::object& map, Steps steps, bool second,
                   std::optional<Rows<T>> v, std::optional<Rows<T>> turned,
                   std::optional<Rows<T>> left, std::optional<Rows<T>> right,
                   std::optional<Rows<double>> sums, std::optional<Rows<T>> out, int threads,
                   const std::string& isa) {
    GradientCall<T> made(sides, map, py::none(), second);
    made.use_steps(steps);
    Gradient<T>& g = made.problem;
    const int64_t n = g.pairs.n, m = g.pairs.m;
    use_weights<T>(g, v, left, right);
    if (turned) {
        g.turned = turned->data(), g.ld_turned = row_stride(*turned, "turned");
        expect(turned->shape(0) == m && turned->shape(1) == n, "turned: wrong shape");
    }
    if (sums) {
        expect(row_stride(*sums, "sums") == steps.shape(0) && sums->shape(0) == n &&
                   sums->shape(1) == steps.shape(0),
               "sums: wrong shape");
        g.sums = sums->mutable_data();
    } else {
        expect(steps.shape(0) == 1, "steps: expected one direction");
        made.write_to(out.value(), m);
    }
    made.run(isa, threads);
}

#if defined(NTKFAST_CUDA)
// sums[i] = sum_j V_ij K(x_i, y_j) of a profile.
template <class T>
void weigh(const Sides<T>& sides, const py::object& map, std::optional<Rows<T>> v,
           std::optional<Rows<T>> left, std::optional<Rows<T>> right, Steps sums, int threads,
           const std::string& where) {
    Call<T> made(sides, map);
    Gradient<T> g{};
    g.pairs = made.problem;
    use_weights<T>(g, v, left, right);
    expect(sums.ndim() == 1 && sums.shape(0) == g.pairs.n, "sums: wrong shape");
    g.sums = sums.mutable_data();
    call(where, threads,
         [&](const Device& device, const Poll& poll) { run_on_device(g, device, poll); });
}
#endif

template <class T>
void bind_gradient_dtype(py::module_& m, const std::string& suffix) {
#if defined(NTKFAST_CUDA)
    bind_of_rows(m, "weigh_" + suffix, &weigh<T>, py::arg("v").noconvert(),
                 py::arg("left").noconvert(), py::arg("right").noconvert(),
                 py::arg("sums").noconvert(), py::arg("threads"), py::arg("where"));
#endif
    bind_of_rows(m, "vjp_" + suffix, &vjp<T>, py::arg("slope"), py::arg("second"),
                 py::arg("v").noconvert(), py::arg("left").noconvert(),
                 py::arg("right").noconvert(), py::arg("out").noconvert(), py::arg("threads"),
                 py::arg("isa"));
    bind_of_rows(m, "jvp_" + suffix, &jvp<T>, py::arg("slope"), py::arg("second"),
                 py::arg("dx").noconvert(), py::arg("out").noconvert(), py::arg("threads"),
                 py::arg("isa"));
    bind_of_rows(m, "by_parameters_" + suffix, &by_parameters<T>, py::arg("steps").noconvert(),
                 py::arg("second"), py::arg("v").noconvert(), py::arg("turned").noconvert(),
                 py::arg("left").noconvert(), py::arg("right").noconvert(),
                 py::arg("sums").noconvert(), py::arg("out").noconvert(), py::arg("threads"),
                 py::arg("isa"));
}

}  // namespace

}  // namespace ntkfast
